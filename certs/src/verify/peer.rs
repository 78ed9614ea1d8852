//! A client that showed a certificate.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;

use crate::pair::{Facts, Unreadable};

/// A client whose certificate was verified.
#[derive(Debug, PartialEq, Eq)]
pub struct Peer {
    facts: Facts,
    forwarded: Arc<str>,
}

impl Peer {
    /// Reads the chain that a client has shown.
    pub(crate) fn read(chain: &[CertificateDer<'_>]) -> Result<Option<Self>, Unreadable> {
        let Some(leaf) = chain.first() else {
            return Ok(None);
        };
        let facts = Facts::read(leaf)?;
        let forwarded = element(&facts).into();
        Ok(Some(Self { facts, forwarded }))
    }

    /// What its certificate says.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Its first URI, else its first name.
    pub fn name(&self) -> Option<&str> {
        let mut names = self.facts.uris.iter().chain(&self.facts.names);
        names.next().map(String::as_str)
    }

    /// Its element in `X-Forwarded-Client-Cert`.
    pub fn forwarded(&self) -> &str {
        &self.forwarded
    }
}

/// As Envoy writes it: `Hash`, `Subject` in quotes, one `URI` or `DNS` for each name.
fn element(facts: &Facts) -> String {
    let mut text = format!("Hash={}", facts.fingerprint_hex());
    text.push_str(";Subject=\"");
    for character in facts.subject.chars() {
        if matches!(character, '"' | '\\') {
            text.push('\\');
        }
        text.push(character);
    }
    text.push('"');
    for uri in &facts.uris {
        text.push_str(";URI=");
        push_value(&mut text, uri);
    }
    // Addresses have no place in it.
    let is_name = |name: &&String| crate::name::address(name).is_none();
    for name in facts.names.iter().filter(is_name) {
        text.push_str(";DNS=");
        push_value(&mut text, name);
    }
    text
}

/// A value with a character that divides elements stands in quotes.
fn push_value(text: &mut String, value: &str) {
    if !value.contains([',', ';', '=', '"', '\\']) {
        text.push_str(value);
        return;
    }
    text.push('"');
    for character in value.chars() {
        if matches!(character, '"' | '\\') {
            text.push('\\');
        }
        text.push(character);
    }
    text.push('"');
}
