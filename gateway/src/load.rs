//! Reads what the snapshot names and binds sockets.
