//! Keys, identities and TLS configurations of Sluice.
//!
//! Empty for now: TLS termination, ACME and the mesh identity will live here, and nowhere else. It
//! knows nothing of routing.
