//! The engine: takes snapshots, runs workers.
