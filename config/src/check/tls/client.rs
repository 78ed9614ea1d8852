//! `client_certificates` of a listener or route.

use std::collections::BTreeMap;

use crate::check::{Drafts, tls};
use crate::{
    base64,
    findings::{Finding, Findings},
    model::{
        Action, ClientCertificateMode, ClientCertificates, HostPattern, Mode, Route, SanPattern,
        SpkiPin, is_address,
    },
    names::RouteName,
    raw::{self, OneOrMany},
    text,
    tree::At,
};

pub(in crate::check) fn check(
    raw: &raw::ClientCertificates,
    at: &At<'_>,
    findings: &mut Findings<'_>,
) -> ClientCertificates {
    let mode = match raw.mode {
        None => ClientCertificateMode::default(),
        Some(raw::ClientCertificateMode::Off) => ClientCertificateMode::Off,
        Some(raw::ClientCertificateMode::Optional) => ClientCertificateMode::Optional,
        Some(raw::ClientCertificateMode::Required) => ClientCertificateMode::Required,
    };
    let ca = tls::files(raw.ca.as_ref(), &at.key("ca"), findings);
    if mode != ClientCertificateMode::Off && ca.is_empty() && findings.is_clean(&at.key("mode")) {
        let what = "nobody says which CAs of client certificates are believed";
        let finding = Finding::new("missing_key", what);
        let hint = "write ca = \"clients.pem\", or mode = \"off\"";
        findings.missing(at, "ca", finding.hint(hint));
    }
    ClientCertificates {
        mode,
        ca,
        crl: tls::files(raw.crl.as_ref(), &at.key("crl"), findings),
        san: sans(raw.san.as_ref(), &at.key("san"), findings),
        spki: pins(raw.spki.as_ref(), &at.key("spki"), findings),
    }
}

/// Names one of which a certificate must have.
pub(in crate::check) fn sans(
    raw: Option<&OneOrMany<String>>,
    at: &At<'_>,
    findings: &mut Findings<'_>,
) -> Vec<SanPattern> {
    let mut patterns = Vec::new();
    let Some(list) = raw else {
        return patterns;
    };
    for (index, text) in list.as_slice().iter().enumerate() {
        match san(text) {
            Ok(pattern) => patterns.push(pattern),
            Err(finding) => findings.value(&at.element(index, list.is_list()), finding),
        }
    }
    patterns
}

fn san(text: &str) -> Result<SanPattern, Finding> {
    let bad = |what: String| Finding::new("bad_san", what);
    let Some((scheme, rest)) = text.split_once("://") else {
        return match text::host_pattern(text)? {
            HostPattern::Any => Err(bad("* admits every certificate".to_owned())
                .hint("leave `san` out for every certificate that the CA has signed")),
            HostPattern::Exact(host) if is_address(&host) => Err(bad(format!(
                "{text:?} is an address, and names are held against this list"
            ))),
            host => Ok(SanPattern::Dns(host)),
        };
    };
    let odd = |c: char| !c.is_ascii_graphic();
    if scheme.is_empty() || rest.is_empty() || text.contains(odd) {
        return Err(bad(format!("{text:?} is no URI")).hint("write \"spiffe://DOMAIN/PATH\""));
    }
    match rest.strip_suffix("/*") {
        Some(above) if !above.is_empty() && !above.contains('*') => {
            Ok(SanPattern::UriBelow(format!("{scheme}://{above}/")))
        }
        None if !rest.contains('*') => Ok(SanPattern::Uri(text.to_owned())),
        _ => Err(bad(format!(
            "{text:?} has a * that is not its whole last segment"
        ))
        .hint("write \"spiffe://DOMAIN/*\" for everything below")),
    }
}

fn pins(raw: Option<&OneOrMany<String>>, at: &At<'_>, findings: &mut Findings<'_>) -> Vec<SpkiPin> {
    let mut pins = Vec::new();
    let Some(list) = raw else {
        return pins;
    };
    for (index, text) in list.as_slice().iter().enumerate() {
        let digest = text.strip_prefix("sha256/").and_then(base64::decode);
        if let Some(digest) = digest.and_then(|bytes| bytes.try_into().ok()) {
            pins.push(SpkiPin(digest));
            continue;
        }
        let finding = Finding::new("bad_pin", format!("{text:?} is no pin of a key"));
        let hint = "write \"sha256/\" and the 32 bytes of the digest in base64: openssl x509 \
                    -pubkey -noout | openssl pkey -pubin -outform der | openssl dgst -sha256 \
                    -binary | base64";
        findings.value(&at.element(index, list.is_list()), finding.hint(hint));
    }
    pins
}

/// On one listener a host asks every client for the same: the handshake comes before the path, and
/// so before anybody knows which of several routes it will be.
pub(in crate::check) fn check_shared(drafts: &mut Drafts, findings: &mut Findings<'_>) {
    let mut refused: Vec<(RouteName, Finding)> = Vec::new();
    for (listener, draft) in &drafts.listeners {
        let Some(listener_of) = draft.object.as_ref().filter(|it| it.tls.is_some()) else {
            continue;
        };
        // Requests and raw streams have handshakes of their own.
        let mut hosts: BTreeMap<(bool, &HostPattern), (&Route, Option<&ClientCertificates>)> =
            BTreeMap::new();
        let routes = drafts.routes.values().filter(|draft| draft.clean);
        let routes = routes.filter_map(|draft| draft.object.as_ref());
        let inside = |route: &&Route| {
            route.listeners.contains(listener)
                && listener_of.hands_from_tls(route.mode)
                && !is_refused(route)
        };
        for route in routes.filter(inside) {
            let asks = route.client_certificates_on(listener_of);
            for host in &route.hosts {
                let place = (route.mode == Mode::Http, host);
                let (first, asked) = hosts.entry(place).or_insert((route, asks));
                if *asked == asks || refused.iter().any(|(name, _)| *name == route.name) {
                    continue;
                }
                let what = format!(
                    "routes {} and {} share {host} on listener {listener}, and ask for different \
                     client certificates",
                    first.name, route.name
                );
                let finding = Finding::new("client_certificates_differ", what);
                let hint = "the handshake comes before the path: write the same \
                            client_certificates on both, or give one of them a host of its own";
                refused.push((route.name.clone(), finding.hint(hint)));
            }
        }
    }
    for (name, finding) in refused {
        let at = At::Root.key("routes");
        let at = at.key(name.as_str());
        findings.key(&at.key("client_certificates"), finding);
        drafts.refuse_route(&name);
    }
}

/// Whether nothing but refusals comes from a route.
pub(super) fn is_refused(route: &Route) -> bool {
    route
        .rules
        .iter()
        .all(|rule| rule.action == Action::Refused)
}
