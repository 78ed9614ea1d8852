//! TLS on a listener.

use crate::check::references::{Known, unknown};
use crate::{
    findings::{Finding, Findings},
    model::{Alpn, CertificateNames, ListenerCertificates, ListenerTls, Protocol, TlsTerms},
    names::CertificateName,
    raw::{self, NamesOr, OneOrMany},
    tree::At,
};

use super::client;

/// What belongs to TLS; none where the listener does not end it.
pub(in crate::check) fn check(
    raw: &raw::Listener,
    protocol: Protocol,
    at: &At<'_>,
    known: &Known,
    findings: &mut Findings<'_>,
) -> Option<ListenerTls> {
    if protocol == Protocol::Http {
        if findings.is_clean(&at.key("protocol")) {
            without(raw, at, findings);
        }
        return None;
    }
    let certificates = certificates(raw.certificates.as_ref(), at, known, findings);
    let default = raw::ListenerTls::default();
    let tls = raw.tls.as_ref().unwrap_or(&default);
    let client = raw.client_certificates.as_ref();
    Some(ListenerTls {
        certificates,
        terms: terms(tls, protocol, &at.key("tls"), findings),
        client_certificates: client
            .map(|raw| client::check(raw, &at.key("client_certificates"), findings)),
    })
}

/// Reports what means nothing without TLS.
fn without(raw: &raw::Listener, at: &At<'_>, findings: &mut Findings<'_>) {
    let keys = [
        ("certificates", raw.certificates.is_some()),
        ("tls", raw.tls.is_some()),
        ("client_certificates", raw.client_certificates.is_some()),
    ];
    for (key, _) in keys.iter().filter(|(_, written)| *written) {
        let what = format!("{key} means nothing without TLS, which {at} does not speak");
        let finding = Finding::new("needs_tls", what);
        let hint = format!("write protocol = \"https\", or take {key} away");
        findings.key(&at.key(key), finding.hint(hint));
    }
}

fn certificates(
    raw: Option<&NamesOr<raw::ListenerCertificates>>,
    listener: &At<'_>,
    known: &Known,
    findings: &mut Findings<'_>,
) -> ListenerCertificates {
    let at = listener.key("certificates");
    let mut checked = ListenerCertificates::default();
    match raw {
        None => {}
        Some(NamesOr::Names(list)) => checked.names = names(list, &at, known, findings),
        Some(NamesOr::Table(raw)) => {
            if let Some(issuer) = &raw.auto {
                checked.auto = known.issuer(issuer, &at.key("auto"), findings);
            }
            if let Some(list) = &raw.names {
                checked.names = names(list, &at.key("names"), known, findings);
            }
            if let Some(name) = &raw.default {
                let at = at.key("default");
                checked.default = certificate(name, &at, known, findings);
                if checked
                    .default
                    .as_ref()
                    .is_some_and(|name| !checked.names.has(name))
                {
                    let what = format!("the default {name:?} is not among the names");
                    let hint = "add it to `names`, or leave `names` out for every certificate";
                    findings.value(&at, Finding::new("default_not_named", what).hint(hint));
                }
            }
        }
    }
    let any = match &checked.names {
        CertificateNames::All => !known.certificates.is_empty(),
        CertificateNames::Listed(names) => !names.is_empty(),
    };
    if !any && checked.auto.is_none() && findings.is_clean(&at) {
        let what = format!("{listener} has no certificate to serve");
        let hint = "write [certificates.NAME] with files = { chain = \"chain.pem\", \
                    key = \"key.pem\" }, or certificates = { auto = \"local\" } for development";
        findings.key(listener, Finding::new("no_certificate", what).hint(hint));
    }
    checked
}

fn names(
    list: &OneOrMany<String>,
    at: &At<'_>,
    known: &Known,
    findings: &mut Findings<'_>,
) -> CertificateNames {
    let mut names = Vec::new();
    for (index, name) in list.as_slice().iter().enumerate() {
        let at = at.element(index, list.is_list());
        if let Some(name) = certificate(name, &at, known, findings)
            && !names.contains(&name)
        {
            names.push(name);
        }
    }
    CertificateNames::Listed(names)
}

fn certificate(
    name: &str,
    at: &At<'_>,
    known: &Known,
    findings: &mut Findings<'_>,
) -> Option<CertificateName> {
    if known.certificates.contains(name) {
        return CertificateName::new(name).ok();
    }
    let names = known.certificates.iter().map(String::as_str);
    let finding = unknown("unknown_certificate", "certificate", name, names, findings);
    findings.value(at, finding);
    None
}

/// The version of TLS.
pub(in crate::check) fn version(raw: Option<raw::TlsVersion>) -> crate::model::TlsVersion {
    use crate::model::TlsVersion;

    match raw {
        None => TlsVersion::default(),
        Some(raw::TlsVersion::V1_2) => TlsVersion::V1_2,
        Some(raw::TlsVersion::V1_3) => TlsVersion::V1_3,
    }
}

fn terms(
    raw: &raw::ListenerTls,
    protocol: Protocol,
    at: &At<'_>,
    findings: &mut Findings<'_>,
) -> TlsTerms {
    let mut terms = match protocol {
        Protocol::Https => TlsTerms::http(),
        Protocol::Http | Protocol::Tls => TlsTerms::default(),
    };
    terms.min_version = version(raw.min_version);
    terms.session_tickets = raw.session_tickets.unwrap_or(terms.session_tickets);
    let Some(list) = &raw.alpn else {
        return terms;
    };
    terms.alpn.clear();
    let at = at.key("alpn");
    for (index, name) in list.as_slice().iter().enumerate() {
        let at = at.element(index, list.is_list());
        match Alpn::new(name) {
            Some(alpn) if terms.alpn.contains(&alpn) => {
                let what = format!("{name:?} is offered twice");
                findings.value(&at, Finding::new("duplicate_value", what));
            }
            Some(Alpn::Other(_)) | None if protocol == Protocol::Https => {
                let what = format!("an https listener does not speak {name:?}");
                let hint = "it speaks \"h2\" and \"http/1.1\"; other protocols pass through a \
                            listener with protocol = \"tls\"";
                findings.value(&at, Finding::new("unknown_value", what).hint(hint));
            }
            Some(alpn) => terms.alpn.push(alpn),
            None => {
                let what = format!("{name:?} is no name of a protocol: 1 to 255 ASCII characters");
                findings.value(&at, Finding::new("unknown_value", what));
            }
        }
    }
    terms
}
