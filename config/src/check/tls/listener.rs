//! TLS on a listener.

use crate::check::{
    Drafts,
    references::{Known, unknown},
};
use crate::{
    findings::{Finding, Findings},
    model::{Alpn, CertificateNames, ListenerCertificates, ListenerTls, Mode, Protocol, TlsTerms},
    names::{CertificateName, ListenerName},
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
    let silent =
        raw.certificates.is_none() && raw.tls.is_none() && raw.client_certificates.is_none();
    match protocol {
        Protocol::Http | Protocol::Tcp | Protocol::Udp | Protocol::Transparent => {
            if findings.is_clean(&at.key("protocol")) {
                without(raw, protocol, at, findings);
            }
            return None;
        }
        // A proxy is mostly spoken to without TLS, whatever certificates there are for other listeners.
        Protocol::ForwardProxy if raw.certificates.is_none() => {
            if findings.is_clean(&at.key("certificates")) {
                without(raw, protocol, at, findings);
            }
            return None;
        }
        // Whether it needs any is known with its routes (`check_unarmed`).
        Protocol::Tls | Protocol::Auto if silent && known.certificates.is_empty() => return None,
        Protocol::Https | Protocol::Tls | Protocol::Auto | Protocol::ForwardProxy => {}
    }
    let certificates = certificates(raw.certificates.as_ref(), at, known, findings);
    let default = raw::ListenerTls::default();
    let tls = raw.tls.as_ref().unwrap_or(&default);
    if protocol == Protocol::ForwardProxy && certificates.auto.is_some() {
        let what = format!("{at} has no routes for whose hosts certificates could be ordered");
        let hint =
            "write [certificates.NAME] with hosts and auto, and certificates = [\"NAME\"] here";
        let at = at.key("certificates");
        findings.value(&at.key("auto"), Finding::new("conflict", what).hint(hint));
    }
    let client = raw.client_certificates.as_ref();
    Some(ListenerTls {
        certificates,
        terms: terms(tls, protocol, &at.key("tls"), findings),
        client_certificates: client
            .map(|raw| client::check(raw, &at.key("client_certificates"), findings)),
    })
}

/// Reports tls listeners that have nothing to end TLS with, though not all that comes in is passed
/// through.
pub(in crate::check) fn check_unarmed(drafts: &mut Drafts, findings: &mut Findings<'_>) {
    let mut bare: Vec<ListenerName> = Vec::new();
    for (name, draft) in &drafts.listeners {
        let Some(listener) = draft.object.as_ref().filter(|_| draft.clean) else {
            continue;
        };
        if listener.protocol != Protocol::Tls || listener.tls.is_some() {
            continue;
        }
        let routes = drafts.routes.values();
        let modes = routes.filter_map(|draft| match &draft.object {
            Some(route) if !draft.clean || route.listeners.contains(name) => {
                Some((route.mode == Mode::Passthrough, draft.clean))
            }
            Some(_) => None,
            None => Some((false, false)),
        });
        // Of a refused route nobody knows what it was meant to be.
        let (mut through, mut unknown, mut ended) = (false, false, false);
        for (passes, clean) in modes {
            unknown |= !clean;
            through |= clean && passes;
            ended |= clean && !passes;
        }
        if ended || !(through || unknown) {
            bare.push(name.clone());
        }
    }
    for name in bare {
        let at = At::Root.key("listeners");
        let at = at.key(name.as_str());
        findings.key(&at, no_certificate(&at));
        if let Some(draft) = drafts.listeners.get_mut(&name) {
            draft.clean = false;
        }
    }
}

fn no_certificate(listener: &At<'_>) -> Finding {
    let what = format!("{listener} has no certificate to serve");
    let hint = "write [certificates.NAME] with files = { chain = \"chain.pem\", \
                key = \"key.pem\" }, or certificates = { auto = \"local\" } for development";
    Finding::new("no_certificate", what).hint(hint)
}

/// Reports what means nothing without TLS.
fn without(raw: &raw::Listener, protocol: Protocol, at: &At<'_>, findings: &mut Findings<'_>) {
    let keys = [
        ("certificates", raw.certificates.is_some()),
        ("tls", raw.tls.is_some()),
        ("client_certificates", raw.client_certificates.is_some()),
    ];
    for (key, _) in keys.iter().filter(|(_, written)| *written) {
        let what = format!("{key} means nothing without TLS, which {at} does not speak");
        let finding = Finding::new("needs_tls", what);
        let hint = match protocol {
            Protocol::ForwardProxy => format!("write certificates, or take {key} away"),
            Protocol::Transparent => format!("take {key} away: what comes in passes as it is"),
            _ => format!("write protocol = \"https\", or take {key} away"),
        };
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
        findings.key(listener, no_certificate(listener));
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
        Protocol::Https | Protocol::Auto | Protocol::ForwardProxy => TlsTerms::http(),
        Protocol::Http | Protocol::Tls | Protocol::Tcp | Protocol::Udp | Protocol::Transparent => {
            TlsTerms::default()
        }
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
            Some(Alpn::Other(_)) | None if protocol != Protocol::Tls => {
                let article = if protocol == Protocol::ForwardProxy {
                    "a"
                } else {
                    "an"
                };
                let word = protocol.as_str();
                let what = format!("{article} {word} listener does not speak {name:?}");
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
