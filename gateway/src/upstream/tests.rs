//! Exchanges with hand-written origins in memory, under a paused clock.
