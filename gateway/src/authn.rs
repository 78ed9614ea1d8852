//! Step 5b: Verifies the credentials that are asked for. Refuses nothing itself: it says who somebody is, or
//! why that is not known.

pub mod basic;
pub mod password;
pub mod users;
mod verifier;

pub use verifier::Verifier;
