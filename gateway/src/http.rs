//! The HTTP verbs of the data path.

pub mod normalize;
