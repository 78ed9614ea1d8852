//! `[acme.NAME]`

use super::acme_dns as dns;
use crate::check::{Draft, decode, references::Known, tls};
use crate::{
    base64,
    findings::{Finding, Findings},
    model::{
        Acme, AcmeChallenge, AcmeKey, ExternalAccount, HostPattern, OnDemand, Rate, SecretText,
    },
    names::IssuerName,
    raw::{self, OneOrMany},
    text,
    tree::{At, Node},
    unit,
};

pub(in crate::check) fn check(
    name: IssuerName,
    node: &Node,
    at: &At<'_>,
    known: &Known,
    findings: &mut Findings<'_>,
) -> Draft<Acme> {
    let raw: raw::Acme = decode(node, at, findings);
    if name.is_local() {
        let finding = Finding::new("bad_name", "local is the development CA of this machine");
        findings.key(at, finding.hint("give the issuer another name"));
    }
    let directory = directory(raw.directory.as_deref(), at, findings);
    let contact = contact(raw.contact.as_ref(), &at.key("contact"), findings);
    let ca = tls::files(raw.ca.as_ref(), &at.key("ca"), findings);
    let account = raw.external_account.as_ref();
    let account = account.map(|raw| account_of(raw, &at.key("external_account"), findings));
    let profile = raw.profile.filter(|profile| {
        let empty = profile.trim().is_empty();
        if empty {
            let finding = Finding::new("bad_name", "the profile has no name");
            findings.value(&at.key("profile"), finding);
        }
        !empty
    });
    let fallback = fallback(
        &name,
        raw.fallback.as_ref(),
        &at.key("fallback"),
        known,
        findings,
    );
    let challenge = match raw.challenge {
        None => AcmeChallenge::default(),
        Some(raw::AcmeChallenge::TlsAlpn01) => AcmeChallenge::TlsAlpn01,
        Some(raw::AcmeChallenge::Http01) => AcmeChallenge::Http01,
        Some(raw::AcmeChallenge::Dns01) => AcmeChallenge::Dns01,
    };
    let dns = match (&raw.dns, challenge) {
        (Some(raw), AcmeChallenge::Dns01) => dns::check(raw, &at.key("dns"), findings),
        (Some(_), _) if findings.is_clean(&at.key("challenge")) => {
            let what = "nobody looks at records with this challenge";
            let finding = Finding::new("conflict", what);
            findings.key(&at.key("dns"), finding.hint("write challenge = \"dns-01\""));
            None
        }
        (None, AcmeChallenge::Dns01) => {
            let what = "dns-01 needs to know how records are set";
            let hint = "write dns = { rfc2136 = { … } }, dns = { exec = { … } } or dns = { webhook = { … } }";
            findings.missing(at, "dns", Finding::new("missing_key", what).hint(hint));
            None
        }
        _ => None,
    };
    let on_demand = raw.on_demand.as_ref();
    let on_demand = on_demand.and_then(|raw| on_demand_of(raw, &at.key("on_demand"), findings));
    let clean = findings.is_clean(at);
    Draft {
        object: directory.map(|directory| Acme {
            name,
            directory,
            contact,
            challenge,
            ca,
            external_account: account.flatten(),
            profile,
            key: match raw.key {
                None => AcmeKey::default(),
                Some(raw::AcmeKey::EcdsaP256) => AcmeKey::EcdsaP256,
                Some(raw::AcmeKey::EcdsaP384) => AcmeKey::EcdsaP384,
                Some(raw::AcmeKey::Rsa2048) => AcmeKey::Rsa2048,
            },
            fallback,
            dns,
            on_demand,
        }),
        clean,
    }
}

/// None where it cannot be read.
fn directory(raw: Option<&str>, at: &At<'_>, findings: &mut Findings<'_>) -> Option<String> {
    let hint = "write directory = \"https://acme-v02.api.letsencrypt.org/directory\"";
    let Some(url) = raw else {
        let finding = Finding::new("missing_key", format!("{at} lacks its directory"));
        findings.missing(at, "directory", finding.hint(hint));
        return None;
    };
    let finding = match text::url(url, &["https"]) {
        Ok(()) => return Some(url.to_owned()),
        // RFC 8555 §6.1: there is no ACME without TLS.
        Err(finding) => finding.hint(hint),
    };
    findings.value(&at.key("directory"), finding);
    None
}

fn contact(
    raw: Option<&OneOrMany<String>>,
    at: &At<'_>,
    findings: &mut Findings<'_>,
) -> Vec<String> {
    let mut contact = Vec::new();
    for (index, uri) in raw.iter().flat_map(|list| list.as_slice()).enumerate() {
        let at = at.element(index, raw.is_some_and(OneOrMany::is_list));
        let address = uri.strip_prefix("mailto:");
        // RFC 8555 §7.3: no header fields, and one address only.
        let odd = |c: char| !c.is_ascii_graphic() || matches!(c, '?' | ',');
        match address {
            Some(address) if address.contains('@') && !address.contains(odd) => {
                contact.push(uri.clone());
            }
            _ => {
                let finding = Finding::new("bad_url", format!("{uri:?} is no address to write to"));
                let hint = if uri.contains('@') && !uri.contains(':') {
                    format!("write \"mailto:{uri}\"")
                } else {
                    "write \"mailto:ops@example.com\"".to_owned()
                };
                findings.value(&at, finding.hint(hint));
            }
        }
    }
    contact
}

fn account_of(
    raw: &raw::ExternalAccount,
    at: &At<'_>,
    findings: &mut Findings<'_>,
) -> Option<ExternalAccount> {
    let key_id = text_at("key_id", raw.key_id.as_deref(), at, findings);
    let key = base64_at("key", raw.key.as_deref(), at, findings);
    Some(ExternalAccount {
        key_id: key_id?,
        key: key?,
    })
}

/// A text that must be there.
pub(super) fn text_at(
    key: &str,
    raw: Option<&str>,
    at: &At<'_>,
    findings: &mut Findings<'_>,
) -> Option<String> {
    match raw {
        None => {
            let finding = Finding::new("missing_key", format!("{at} lacks its {key}"));
            findings.missing(at, key, finding);
            None
        }
        Some(text) if text.trim().is_empty() => {
            let finding = Finding::new("missing_key", format!("{key} is empty"));
            findings.value(&at.key(key), finding);
            None
        }
        Some(text) => Some(text.to_owned()),
    }
}

/// A key in base64 that must be there.
pub(super) fn base64_at(
    key: &str,
    raw: Option<&str>,
    at: &At<'_>,
    findings: &mut Findings<'_>,
) -> Option<SecretText> {
    let text = text_at(key, raw, at, findings)?;
    let secret = tls::secret(&text, &at.key(key), findings)?;
    if let SecretText::Text(_) = secret
        && base64::decode(&text).is_none_or(|bytes| bytes.is_empty())
    {
        // The text itself is a secret: no message repeats it.
        let finding = Finding::new("bad_key", "this is no key in base64");
        let hint = "copy it as it was given, or write \"file:/PATH\" for a file that holds it";
        findings.value(&at.key(key), finding.hint(hint));
        return None;
    }
    Some(secret)
}

fn fallback(
    name: &IssuerName,
    raw: Option<&OneOrMany<String>>,
    at: &At<'_>,
    known: &Known,
    findings: &mut Findings<'_>,
) -> Vec<IssuerName> {
    let mut names = Vec::new();
    let Some(list) = raw else {
        return names;
    };
    for (index, text) in list.as_slice().iter().enumerate() {
        let at = at.element(index, list.is_list());
        let Some(other) = known.issuer(text, &at, findings) else {
            continue;
        };
        let what = if other == *name {
            "an issuer cannot stand in for itself"
        } else if other.is_local() {
            "nobody outside believes the development CA"
        } else if names.contains(&other) {
            "this issuer is named twice"
        } else {
            names.push(other);
            continue;
        };
        let hint = "name other [acme.*]";
        findings.value(&at, Finding::new("bad_fallback", what).hint(hint));
    }
    names
}

fn on_demand_of(raw: &raw::OnDemand, at: &At<'_>, findings: &mut Findings<'_>) -> Option<OnDemand> {
    let mut allow = Vec::new();
    if let Some(list) = &raw.allow {
        let key = at.key("allow");
        for (index, host) in list.as_slice().iter().enumerate() {
            let at = key.element(index, list.is_list());
            match text::host_pattern(host) {
                Ok(HostPattern::Any) => {
                    let what = "* lets anybody order who points a name here";
                    let hint = "name the hosts, or write ask = \"URL\" alone";
                    findings.value(&at, Finding::new("bad_host", what).hint(hint));
                }
                Ok(host) => allow.push(host),
                Err(finding) => findings.value(&at, finding),
            }
        }
    }
    let mut ask = None;
    if let Some(url) = &raw.ask {
        match text::url(url, &["http", "https"]) {
            Ok(()) => ask = Some(url.clone()),
            Err(finding) => findings.value(&at.key("ask"), finding),
        }
    }
    if allow.is_empty() && ask.is_none() && findings.is_clean(at) {
        let what = "nobody says which names may be ordered";
        let hint = "write allow = [\"*.customers.example.com\"], or ask = \"URL\"";
        findings.key(at, Finding::new("missing_key", what).hint(hint));
    }
    let rate = match &raw.rate {
        None => Some(OnDemand::RATE),
        Some(text) => rate(text).or_else(|| {
            let what =
                format!("{text:?} is no rate from 1 to 1000 in a second, minute, hour or day");
            let finding = Finding::new("bad_rate", what);
            let hint = "a whole number, /, and s, m, h or d: \"10/h\"";
            findings.value(&at.key("rate"), finding.hint(hint));
            None
        }),
    };
    Some(OnDemand {
        allow,
        ask,
        rate: rate?,
    })
}

fn rate(text: &str) -> Option<Rate> {
    let (count, per) = unit::rate(text)?;
    (1..=1000).contains(&count).then_some(Rate { count, per })
}
