//! Keys, identities and TLS configurations of Sluice.
//!
//! Everything that knows `rustls` and X.509 lives here, and nothing here knows of routing: callers say
//! which certificate is for which hosts and which client must show what. What must stay true: a private
//! key is never printed, and never leaves a [`Pair`] but to sign.

pub mod acme;
pub mod authority;
pub mod choose;
pub mod client;
pub mod durable;
pub mod error;
pub mod fetch;
mod name;
pub mod pair;
mod roots;
pub mod server;
pub mod slot;
pub mod storage;
pub mod store;
#[cfg(any(test, feature = "testing"))]
#[expect(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a test that cannot have its certificate cannot go on"
)]
pub mod testing;
pub mod verify;

use std::sync::{Arc, OnceLock};

use rustls::crypto::CryptoProvider;

pub use acme::Pending;
pub use choose::Choice;
pub use error::AcceptError;
pub use pair::{Facts, KeyKind, Pair, PairError};
pub use roots::{Roots, RootsError};
pub use server::{Accepted, Policies, Server, ServerStream, Session, SetupError, Terms, Version};
pub use slot::{Pairs, Slot};
pub use store::Store;
pub use verify::{Clients, ClientsError, ClientsId, ClientsSpec, Mode, NamePattern, Peer};

/// The one implementation of cryptography, passed explicitly wherever one is asked for. Key exchange
/// begins with X25519MLKEM768.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    let provider = PROVIDER.get_or_init(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    Arc::clone(provider)
}
