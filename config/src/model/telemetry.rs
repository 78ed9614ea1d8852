//! What the gateway is to tell about its requests.

mod access_log;
mod tracing;

pub use access_log::{
    AccessLog, AccessLogOutput, LogField, LogFields, LogFilter, LogFormat, LogPart, StatusClass,
};
pub use tracing::{Otlp, OtlpProtocol, ReceiverUrlError, Share, Trace, Tracing};
