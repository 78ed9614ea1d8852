//! Step 5b: Verifies the credentials that are asked for; refuses nothing itself.

pub mod basic;
pub mod password;
pub mod users;
pub mod verifier;
