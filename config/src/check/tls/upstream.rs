//! TLS towards the endpoints of an upstream.

use crate::check::tls;
use crate::{
    findings::{Finding, Findings},
    model::{Endpoint, Host, HostPort, Scheme, UpstreamTls},
    raw::{self, Switch},
    text,
    tree::At,
};

/// One upstream, with TLS or without: what the schemes of its endpoints say has to be the same as what
/// is written.
pub(in crate::check) fn check(
    raw: Option<&Switch<raw::UpstreamTls>>,
    endpoints: &[Endpoint],
    upstream: &At<'_>,
    findings: &mut Findings<'_>,
) -> Option<UpstreamTls> {
    let with = |it: &&Endpoint| matches!(it.address.scheme, Scheme::Https | Scheme::H2);
    let count = endpoints.iter().filter(with).count();
    let plain = endpoints.iter().any(|it| it.address.scheme == Scheme::H2c);
    let at = upstream.key("tls");
    let key = upstream.key("endpoints");
    let checked = match raw {
        None if count == 0 => return None,
        None => {
            if count < endpoints.len() && findings.is_clean(&key) {
                let what = format!("only some endpoints of {upstream} are reached over TLS");
                let hint = "write tls = true, or https:// for each";
                findings.value(&key, Finding::new("conflict", what).hint(hint));
            }
            UpstreamTls::default()
        }
        Some(Switch::Bool(false)) => {
            if count > 0 {
                let what = format!("{upstream} has endpoints with https:// or h2://");
                let hint = "take tls = false away, or write http:// or h2c://";
                findings.value(&at, Finding::new("conflict", what).hint(hint));
            }
            return None;
        }
        Some(_) if plain => {
            let what = format!("{upstream} has endpoints with h2c://, which is without TLS");
            let hint = "write h2:// for HTTP/2 over TLS";
            findings.value(&at, Finding::new("conflict", what).hint(hint));
            return None;
        }
        Some(Switch::Bool(true)) => UpstreamTls::default(),
        Some(Switch::Table(raw)) => terms(raw, &at, findings),
    };
    let nameless = endpoints
        .iter()
        .any(|it| matches!(it.address.host, HostPort::Unix(_)));
    let named = checked.insecure || checked.sni.is_some() || !checked.san.is_empty();
    if nameless && !named && findings.is_clean(&at) {
        let what = "a unix socket has no name that a certificate could be for";
        let hint = "write tls = { sni = \"NAME\" }";
        findings.key(&at, Finding::new("missing_key", what).hint(hint));
    }
    Some(checked)
}

pub(in crate::check) fn terms(
    raw: &raw::UpstreamTls,
    at: &At<'_>,
    findings: &mut Findings<'_>,
) -> UpstreamTls {
    let insecure = raw.insecure.unwrap_or(false);
    let unused = [("ca", raw.ca.is_some()), ("san", raw.san.is_some())];
    for (key, _) in unused.iter().filter(|(_, written)| insecure && *written) {
        let what = format!("insecure takes every certificate, so {key} means nothing");
        let finding = Finding::new("conflict", what).hint("take insecure away");
        findings.value(&at.key("insecure"), finding);
    }
    let certificate = raw.certificate.as_ref();
    UpstreamTls {
        sni: raw
            .sni
            .as_deref()
            .and_then(|name| sni(name, &at.key("sni"), findings)),
        ca: tls::files(raw.ca.as_ref(), &at.key("ca"), findings),
        certificate: certificate
            .and_then(|raw| tls::certificate::pair(raw, &at.key("certificate"), findings)),
        san: tls::client::sans(raw.san.as_ref(), &at.key("san"), findings),
        min_version: tls::listener::version(raw.min_version),
        insecure,
    }
}

fn sni(name: &str, at: &At<'_>, findings: &mut Findings<'_>) -> Option<String> {
    match text::url_host(name) {
        Ok(Host::Name(name)) => return Some(name),
        Ok(Host::Ip(_)) => {
            let what = format!("{name:?} is an address, and only names can be asked for");
            let finding = Finding::new("bad_host", what);
            let hint = "leave `sni` out: the certificate must be for the endpoint's address then";
            findings.value(at, finding.hint(hint));
        }
        Err(finding) => findings.value(at, finding),
    }
    None
}
