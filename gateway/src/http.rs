//! The HTTP verbs of the data path.

pub(crate) mod download;
pub(crate) mod exchange;
pub(crate) mod forward;
pub mod forwarded;
pub(crate) mod guard;
pub(crate) mod handle;
pub mod normalize;
pub(crate) mod outward;
pub(crate) mod respond;
pub(crate) mod serve;
pub(crate) mod upgrade;
pub(crate) mod upload;
