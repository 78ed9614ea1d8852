//! What the gateway is to tell about its requests.

pub(super) mod access_log;
pub(super) mod tracing;
