//! Authorities of our own: who signs certificates here.

mod durable;
pub mod local;
