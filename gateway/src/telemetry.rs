//! What the gateway tells about itself: counters and the access log.

pub mod access_log;
pub mod attempt;
pub mod metrics;
