//! Where snapshots come from. Every source fills the same channel, which the engine reads.

pub mod file;
mod last_good;
mod settle;
mod stamp;
mod watch;

pub use last_good::LastGood;
