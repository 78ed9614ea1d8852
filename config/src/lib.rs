//! The words of Sluice: the configuration language, read, checked and explained.
//!
//! Three forms, three types: what people write ([`raw`]), what is true ([`Snapshot`] of [`model`]
//! types), and what runs (the gateway's plan). This crate owns the first two and the way between.
//!
//! ```text
//!  files ─ read ─► Sources ─ parse ─► Tree + SourceMap ─ substitute ─► raw, one object at a time
//!                                                                        │ check (+ lint)
//!                                            Problems, warnings ◄────────┴───► Snapshot ─ diff
//! ```
//!
//! No I/O but in `read` and `watch`; no tokio, hyper or rustls.

mod base64;
mod check;
mod decode;
mod diff;
mod findings;
mod format;
mod lint;
pub mod model;
pub mod names;
mod parse;
mod places;
mod problem;
pub mod raw;
mod read;
mod render;
mod scalar;
pub mod schema;
mod snapshot;
mod sources;
mod substitute;
mod text;
mod tree;
mod unit;
mod watch;

pub use check::{Report, check, locate, uncovered};
pub use diff::{Changes, Diff, EgressChange, diff};
pub use format::format;
pub use lint::lint;
pub use problem::{Place, Problem};
pub use read::read;
pub use render::{Style, render, render_warnings};
pub use snapshot::{Objects, Snapshot, Version};
pub use sources::{Form, SourceFile, Sources};
pub use watch::Watch;
