//! Raw streams and datagrams: bytes that nobody takes apart.

pub(crate) mod copy;
pub(crate) mod record;
pub(crate) mod stream;
pub mod udp;
