//! `[certificates.NAME]`

use std::collections::BTreeMap;

use crate::check::{Draft, Drafts, decode, references::Known, tls};
use crate::{
    findings::{Finding, Findings},
    model::{Certificate, CertificateSource, HostPattern, KeyPairFiles},
    names::CertificateName,
    raw::{self, OneOrMany},
    text,
    tree::{At, Node},
};

/// What cannot be read of it is refused: it still stands for its hosts, with nothing to serve.
pub(in crate::check) fn check(
    name: CertificateName,
    node: &Node,
    at: &At<'_>,
    known: &Known,
    findings: &mut Findings<'_>,
) -> Draft<Certificate> {
    let raw: raw::Certificate = decode(node, at, findings);
    let hosts = hosts(raw.hosts.as_ref(), &at.key("hosts"), findings);
    let source = source(&raw, at, known, findings);
    if matches!(source, Some(CertificateSource::Auto(_))) && raw.hosts.is_none() {
        let finding = Finding::new("missing_key", format!("{at} lacks its hosts"));
        let hint = "write hosts = [\"shop.example.com\"]: they are what is ordered";
        findings.missing(at, "hosts", finding.hint(hint));
    }
    let clean = findings.is_clean(at);
    let object = Certificate {
        name,
        hosts,
        source: source
            .filter(|_| clean)
            .unwrap_or(CertificateSource::Refused),
    };
    Draft {
        object: Some(object),
        clean,
    }
}

/// An issuer must be able to prove each host of a certificate that is ordered from it.
pub(in crate::check) fn check_orders(drafts: &mut Drafts, findings: &mut Findings<'_>) {
    for (name, draft) in &mut drafts.certificates {
        let Some(certificate) = draft.object.as_mut().filter(|_| draft.clean) else {
            continue;
        };
        let CertificateSource::Auto(issuer) = &certificate.source else {
            continue;
        };
        let Some(acme) = drafts.acme.get(issuer).and_then(|it| it.object.as_ref()) else {
            continue;
        };
        let at = At::Root.key("certificates");
        let at = at.key(name.as_str());
        let at = at.key("hosts");
        for (position, host) in certificate.hosts.iter().enumerate() {
            if acme.can_order(host) {
                continue;
            }
            let what = format!("issuer {issuer} cannot prove that {host} is ours");
            let hint = match host {
                HostPattern::Exact(_) => {
                    "an address needs challenge = \"tls-alpn-01\" or \"http-01\""
                }
                HostPattern::Wildcard(_) | HostPattern::Any => {
                    "a wildcard needs challenge = \"dns-01\""
                }
            };
            let finding = Finding::new("unprovable_host", what).hint(hint);
            findings.value(&at.index(position), finding);
        }
        if !findings.is_clean(&at) {
            draft.clean = false;
            certificate.source = CertificateSource::Refused;
        }
    }
}

/// On one listener a host has one certificate: nobody could say which of two would be served.
pub(in crate::check) fn check_shared(drafts: &mut Drafts, findings: &mut Findings<'_>) {
    let mut refused: BTreeMap<CertificateName, Finding> = BTreeMap::new();
    for draft in drafts.listeners.values() {
        let Some(listener) = &draft.object else {
            continue;
        };
        let Some(tls) = &listener.tls else {
            continue;
        };
        let mut hosts: BTreeMap<&HostPattern, &CertificateName> = BTreeMap::new();
        let certificates = drafts.certificates.values().filter(|draft| draft.clean);
        for certificate in certificates.filter_map(|draft| draft.object.as_ref()) {
            let name = &certificate.name;
            let refused_before = certificate.source == CertificateSource::Refused;
            if refused_before || refused.contains_key(name) || !tls.certificates.names.has(name) {
                continue;
            }
            for host in &certificate.hosts {
                let first = *hosts.entry(host).or_insert(name);
                if first == name {
                    continue;
                }
                let listener = &listener.name;
                let what = format!(
                    "certificates {first} and {name} both stand for {host} on listener {listener}"
                );
                let hint =
                    "keep one; keys of several kinds are a list in `files` of one certificate";
                let finding = Finding::new("duplicate_host", what).hint(hint);
                refused.insert(name.clone(), finding);
            }
        }
    }
    for (name, finding) in refused {
        let at = At::Root.key("certificates");
        let at = at.key(name.as_str());
        findings.value(&at.key("hosts"), finding);
        if let Some(draft) = drafts.certificates.get_mut(&name) {
            draft.clean = false;
            if let Some(certificate) = &mut draft.object {
                certificate.source = CertificateSource::Refused;
            }
        }
    }
}

/// Empty where one of them cannot be read.
fn hosts(
    raw: Option<&OneOrMany<String>>,
    at: &At<'_>,
    findings: &mut Findings<'_>,
) -> Vec<HostPattern> {
    let Some(list) = raw else {
        return Vec::new();
    };
    if list.as_slice().is_empty() {
        let finding = Finding::new("empty_list", "a certificate without hosts serves nobody");
        findings.value(
            at,
            finding.hint("leave `hosts` out for the names in the files"),
        );
    }
    let mut hosts = Vec::new();
    for (index, host) in list.as_slice().iter().enumerate() {
        let at = at.element(index, list.is_list());
        match text::host_pattern(host) {
            Ok(HostPattern::Any) => {
                let finding = Finding::new("bad_host", "no certificate covers every host");
                let hint = "name the hosts; for clients that ask for another one write \
                            certificates = { default = \"NAME\" } on the listener";
                findings.value(&at, finding.hint(hint));
            }
            Ok(host) if hosts.contains(&host) => {
                let what = format!("the host {host} is written twice");
                findings.value(&at, Finding::new("duplicate_host", what));
            }
            Ok(host) => hosts.push(host),
            Err(finding) => findings.value(&at, finding),
        }
    }
    if findings.is_clean(at) {
        hosts
    } else {
        Vec::new()
    }
}

fn source(
    raw: &raw::Certificate,
    at: &At<'_>,
    known: &Known,
    findings: &mut Findings<'_>,
) -> Option<CertificateSource> {
    if raw.refused == Some(true) {
        return Some(CertificateSource::Refused);
    }
    match (&raw.files, &raw.auto) {
        (Some(_), Some(_)) => {
            let finding = Finding::new("conflict", "files and auto cannot stand together");
            let hint = "keep files for a certificate you bring, auto for one that is ordered";
            findings.key(at, finding.hint(hint));
            None
        }
        (Some(files), None) => {
            let at = at.key("files");
            if files.as_slice().is_empty() {
                let finding = Finding::new("empty_list", "there is no pair of files");
                let hint = "write files = { chain = \"chain.pem\", key = \"key.pem\" }";
                findings.value(&at, finding.hint(hint));
            }
            let pairs = files.as_slice().iter().enumerate();
            let pairs = pairs.filter_map(|(index, raw)| {
                pair(raw, &at.element(index, files.is_list()), findings)
            });
            Some(CertificateSource::Files(pairs.collect()))
        }
        (None, Some(issuer)) => {
            let issuer = known.issuer(issuer, &at.key("auto"), findings)?;
            Some(CertificateSource::Auto(issuer))
        }
        (None, None) => {
            if findings.is_clean(&at.key("files")) && findings.is_clean(&at.key("auto")) {
                let finding = Finding::new("missing_key", format!("{at} needs files or auto"));
                let hint = "write files = { chain = \"chain.pem\", key = \"key.pem\" }, or \
                            auto = \"ISSUER\" for one that looks after itself";
                findings.key(at, finding.hint(hint));
            }
            None
        }
    }
}

/// A certificate and its key.
pub(in crate::check) fn pair(
    raw: &raw::KeyPair,
    at: &At<'_>,
    findings: &mut Findings<'_>,
) -> Option<KeyPairFiles> {
    let mut file = |key: &'static str, text: Option<&String>| {
        let Some(text) = text else {
            let finding = Finding::new("missing_key", format!("the certificate lacks its {key}"));
            let hint = format!("write {key} = \"{key}.pem\"");
            findings.missing(at, key, finding.hint(hint));
            return None;
        };
        tls::file(text, &at.key(key), findings)
    };
    let chain = file("chain", raw.chain.as_ref());
    let key = file("key", raw.key.as_ref());
    Some(KeyPairFiles {
        chain: chain?,
        key: key?,
    })
}
