//! What runs: the compiled configuration.
