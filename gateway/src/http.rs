//! The HTTP verbs of the data path.

pub mod forwarded;
pub mod normalize;
