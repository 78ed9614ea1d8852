//! Authorities of our own: who signs certificates here.

pub mod local;
