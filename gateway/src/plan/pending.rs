//! Stands for `route::Table` until it lands.

use std::sync::Arc;

use sluice_config::{Snapshot, model, names::ListenerName};

/// Stands for `route::Table`.
#[derive(Debug, Default)]
pub struct Table;

/// Stands for `route::Found`.
#[derive(Debug)]
pub struct Found<'t> {
    pub route: &'t Arc<model::Route>,
    pub rule: usize,
    pub matched: Option<usize>,
}

/// Stands for `route::Question`.
#[derive(Debug)]
pub struct Question<'a> {
    pub host: Option<&'a str>,
    pub path: &'a str,
    pub query: Option<&'a str>,
    pub method: &'a str,
    pub headers: &'a http::HeaderMap,
    pub client: std::net::IpAddr,
}

impl Table {
    /// Stands for the compiler.
    pub fn compile(_snapshot: &Snapshot, _previous: Option<&Self>) -> Self {
        Self
    }

    pub fn find(&self, _: &ListenerName, _: &Question<'_>) -> Option<Found<'_>> {
        None
    }
}
