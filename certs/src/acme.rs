//! Certificates over ACME (RFC 8555), kept issued and renewed by replicas that share a storage.
//!
//! The [`Keeper`] is the one part with state: told what is wanted, it orders what is missing or due and
//! hands over what was issued, here or by another replica. Everything else is a step of an order
//! (`order`), an answer to a validating server ([`Pending`]), or a function of times ([`schedule`]).

mod account;
mod bundle;
mod challenge;
mod demand;
mod issuer;
mod keeper;
mod order;
mod pending;
pub mod schedule;
mod stored;
mod transport;
mod words;

pub use challenge::{
    ChallengeKind, Dns, DnsError, Exec, PublishError, TsigAlgorithm, Update, Webhook,
};
pub use demand::Denied;
pub use issuer::{ExternalAccount, Issuer, KeyChoice, OnDemand, Terms, Wanted};
pub use keeper::{Keeper, Keeping, Phase, State};
pub use order::OrderError;
pub use pending::Pending;
pub use stored::stored;
pub use transport::Refusal;
