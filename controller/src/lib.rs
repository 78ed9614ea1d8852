//! The control plane of Sluice, embeddable in the gateway.
//!
//! Empty for now: it will know services, workloads, identities and policies, translate every source
//! into the one configuration schema, and tell gateways and sidecars what to do. It never touches a
//! packet.
