//! `Strict-Transport-Security`: browsers are told to come by https only (RFC 6797).
//!
//! What must stay true: it is said over TLS alone, and there in one voice (§7.2, §8.1): what the
//! origin says is replaced, since a browser heeds only the first such header. Over plain http it is
//! taken away.

use http::{HeaderMap, HeaderValue, header::STRICT_TRANSPORT_SECURITY};
use sluice_config::model::{Hsts, HstsTerms};

/// What is told; none where the key is off or nowhere written.
pub(super) fn compile(model: Option<&Hsts>) -> Option<HeaderValue> {
    match model {
        None | Some(Hsts::Off) => None,
        Some(Hsts::On(terms)) => HeaderValue::from_str(&text(terms)).ok(),
    }
}

fn text(terms: &HstsTerms) -> String {
    let mut text = format!("max-age={}", terms.max_age.as_secs());
    if terms.include_subdomains {
        text.push_str("; includeSubDomains");
    }
    if terms.preload {
        text.push_str("; preload");
    }
    text
}

/// `scheme`: as the client sees it, which is that of a trusted proxy where one ended the TLS.
pub(super) fn apply(value: &HeaderValue, scheme: &str, headers: &mut HeaderMap) {
    if scheme == "https" {
        headers.insert(STRICT_TRANSPORT_SECURITY, value.clone());
    } else {
        headers.remove(STRICT_TRANSPORT_SECURITY);
    }
}
