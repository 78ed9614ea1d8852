//! The routing engine of Sluice: one path for gateway, sidecar and tests.
//!
//! A file imports only from rows below its own (`cargo xtask layers`):
//!
//! ```text
//! engine · worker · source · explain · admin
//! load · listener
//! connection
//! http/* · l4/*              the verbs
//! plan                       composes the nouns
//! filter · authn
//! route · egress · limit     pure
//! upstream
//! message · stream · frames
//! telemetry
//! downstream
//! drain · error · pressure · turns
//! ```

pub mod admin;
pub mod authn;
pub mod connection;
pub mod downstream;
pub mod drain;
pub mod egress;
pub mod engine;
pub mod error;
pub mod explain;
pub mod filter;
mod frames;
pub mod http;
pub mod l4;
pub mod limit;
pub mod listener;
pub mod load;
pub mod message;
pub mod plan;
pub mod pressure;
pub mod route;
pub mod source;
pub mod stream;
pub mod telemetry;
mod turns;
pub mod upstream;
pub mod worker;
