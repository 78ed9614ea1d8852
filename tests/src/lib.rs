//! What the whole-path tests share: a gateway in this process or its own, origins by hand, a client
//! by hand, and patience with a deadline.
//!
//! Clients and origins speak raw bytes over TCP, never through an HTTP library: a library would
//! refuse to send, or would mend on arrival, what these tests are about.

pub mod asked;
pub mod client;
pub mod etcd;
pub mod eventually;
pub mod front;
pub mod fuzz;
pub mod gateway;
pub mod h2;
pub mod http1;
pub mod load;
pub mod log;
pub mod name_server;
pub mod named;
pub mod origin;
pub mod outside;
pub mod pebble;
pub mod process;
pub mod reach;
pub mod replica;
pub mod siege;
pub mod targets;
pub mod tls;
pub mod tools;

pub use client::{Client, Reply};
pub use front::Front;
pub use gateway::{Gateway, gateway};
pub use h2::H2;
pub use log::AccessLog;
pub use origin::Origin;
pub use pebble::Pebble;

/// How long a test waits for what must happen. Generous: a loaded machine is not a failure.
pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);
