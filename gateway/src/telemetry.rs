//! What the gateway tells about itself: counters, the access log and traces.

pub mod access_log;
pub mod attempt;
pub mod metrics;
pub mod trace;
