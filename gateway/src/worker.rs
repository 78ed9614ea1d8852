//! One worker: one thread, one runtime, its own sockets and pools.
