//! `[egress.allow.NAME]`

use crate::check::{listener::networks, matching, references::Known, references::unknown, tls};
use crate::{
    findings::{Finding, Findings},
    model::{
        Basic, EgressFrom, EgressHost, EgressProtocols, EgressRule, IdentityPattern, Method, Rate,
        UpstreamTls,
    },
    names::{EgressName, UpstreamName},
    raw::{self, OneOrMany, Switch},
    text,
    tree::At,
    unit,
};

pub(super) fn check(
    name: EgressName,
    raw: &raw::EgressRule,
    at: &At<'_>,
    known: &Known,
    findings: &mut Findings<'_>,
) -> EgressRule {
    let hosts = hosts(raw.hosts.as_ref(), at, findings);
    let ports = raw.ports.as_ref();
    let ports = ports.map(|_| matching::stream::ports(ports, &at.key("ports"), findings));
    let protocols = protocols(raw, at, findings);
    misplaced(raw, protocols, at, findings);
    let from = raw.from.as_ref();
    let from = from.map(|raw| self::from(raw, &at.key("from"), findings));
    EgressRule {
        name,
        hosts,
        ports,
        protocols,
        methods: methods(raw.methods.as_ref(), &at.key("methods"), findings),
        paths: matching::paths(raw.paths.as_ref(), &at.key("paths"), findings),
        from: from.unwrap_or_default(),
        addresses: networks(raw.addresses.as_ref(), &at.key("addresses"), findings),
        without_sni: raw.without_sni.unwrap_or(false),
        encrypted_client_hello: raw.encrypted_client_hello.unwrap_or(false),
        rate: raw
            .rate
            .as_deref()
            .and_then(|text| rate(text, &at.key("rate"), findings)),
        via: raw
            .via
            .as_deref()
            .and_then(|name| via(name, &at.key("via"), known, findings)),
        tls: raw
            .tls
            .as_ref()
            .and_then(|raw| origination(raw, &at.key("tls"), findings)),
    }
}

fn hosts(
    raw: Option<&OneOrMany<String>>,
    rule: &At<'_>,
    findings: &mut Findings<'_>,
) -> Vec<EgressHost> {
    let at = rule.key("hosts");
    let mut hosts = Vec::new();
    let Some(list) = raw else {
        let finding = Finding::new("missing_key", format!("{rule} lacks its hosts"));
        let hint = "write hosts = [\"api.example.com\"], or hosts = \"*\" for every name";
        findings.missing(rule, "hosts", finding.hint(hint));
        return hosts;
    };
    if list.as_slice().is_empty() {
        let finding = Finding::new("empty_list", "a rule without hosts allows nothing");
        findings.value(&at, finding.hint("write \"*\" for every name"));
    }
    for (index, text) in list.as_slice().iter().enumerate() {
        let at = at.element(index, list.is_list());
        match text::destination(text) {
            Ok(host) if hosts.contains(&host) => {
                let what = format!("the host {host} is written twice");
                findings.value(&at, Finding::new("duplicate_host", what));
            }
            Ok(host) => hosts.push(host),
            Err(finding) => findings.value(&at, finding),
        }
    }
    hosts
}

/// Methods and paths are seen in requests only, so a rule that has some is about nothing else.
fn protocols(raw: &raw::EgressRule, rule: &At<'_>, findings: &mut Findings<'_>) -> EgressProtocols {
    let at = rule.key("protocols");
    let sees = [
        ("methods", raw.methods.is_some()),
        ("paths", raw.paths.is_some()),
    ];
    let sees = sees.into_iter().find(|(_, written)| *written);
    let Some(list) = &raw.protocols else {
        return match sees {
            Some(_) => EgressProtocols::HTTP,
            None => EgressProtocols::default(),
        };
    };
    matching::empty(list, &at, findings);
    let has = |word| list.as_slice().contains(&word);
    let protocols = EgressProtocols {
        http: has(raw::EgressProtocol::Http),
        tls: has(raw::EgressProtocol::Tls),
        tcp: has(raw::EgressProtocol::Tcp),
    };
    if let Some((key, _)) = sees
        && protocols.http
        && protocols != EgressProtocols::HTTP
    {
        let what = format!("nobody sees {key} inside of a tunnel, so this rule would allow none");
        let hint = "write protocols = [\"http\"], and another rule for tunnels";
        findings.value(&at, Finding::new("conflict", what).hint(hint));
    }
    protocols
}

/// Reports what means nothing with these protocols, or beside something else.
fn misplaced(
    raw: &raw::EgressRule,
    protocols: EgressProtocols,
    rule: &At<'_>,
    findings: &mut Findings<'_>,
) {
    let tls = matches!(raw.tls, Some(Switch::Bool(true) | Switch::Table(_)));
    let keys = [
        ("methods", raw.methods.is_some(), protocols.http, "http"),
        ("paths", raw.paths.is_some(), protocols.http, "http"),
        ("tls", tls, protocols.http, "http"),
        (
            "without_sni",
            raw.without_sni == Some(true),
            protocols.tls,
            "tls",
        ),
        (
            "encrypted_client_hello",
            raw.encrypted_client_hello == Some(true),
            protocols.tls,
            "tls",
        ),
    ];
    let readable = findings.is_clean(&rule.key("protocols"));
    for (key, written, fits, word) in keys {
        if readable && written && !fits {
            let what =
                format!("{key} means nothing without {word}, which this rule does not allow");
            let hint = format!("add \"{word}\" to protocols, or take {key} away");
            findings.key(&rule.key(key), Finding::new("conflict", what).hint(hint));
        }
    }
    if raw.via.is_none() {
        return;
    }
    if raw.addresses.is_some() {
        let what = "the proxy resolves the names, so nobody here sees their addresses";
        let finding = Finding::new("conflict", what).hint("take addresses or via away");
        findings.key(&rule.key("addresses"), finding);
    }
    if tls {
        let what = "what goes through another proxy is passed on as it came";
        let hint = "take tls away and let the client speak TLS, or take via away";
        findings.key(&rule.key("tls"), Finding::new("conflict", what).hint(hint));
    }
}

fn methods(
    raw: Option<&OneOrMany<String>>,
    at: &At<'_>,
    findings: &mut Findings<'_>,
) -> Vec<Method> {
    let methods = matching::methods(raw, at, findings);
    let connect = |list: &OneOrMany<String>| {
        let mut words = list.as_slice().iter();
        words.position(|word| word == "CONNECT")
    };
    if let Some((list, index)) = raw.and_then(|list| Some((list, connect(list)?))) {
        let finding = Finding::new("conflict", "CONNECT asks for a tunnel, which has no method");
        let hint = "take it away; tunnels are allowed with protocols = [\"tls\"] or [\"tcp\"]";
        findings.value(&at.element(index, list.is_list()), finding.hint(hint));
    }
    methods
}

fn from(raw: &raw::EgressFrom, at: &At<'_>, findings: &mut Findings<'_>) -> EgressFrom {
    EgressFrom {
        identities: each(
            raw.identities.as_ref(),
            &at.key("identities"),
            identity,
            findings,
        ),
        users: each(raw.users.as_ref(), &at.key("users"), user, findings),
        sources: each(
            raw.sources.as_ref(),
            &at.key("sources"),
            text::network,
            findings,
        ),
    }
}

fn each<T>(
    raw: Option<&OneOrMany<String>>,
    at: &At<'_>,
    read: fn(&str) -> Result<T, Finding>,
    findings: &mut Findings<'_>,
) -> Vec<T> {
    let mut all = Vec::new();
    let Some(list) = raw else {
        return all;
    };
    matching::empty(list, at, findings);
    for (index, text) in list.as_slice().iter().enumerate() {
        match read(text) {
            Ok(one) => all.push(one),
            Err(finding) => findings.value(&at.element(index, list.is_list()), finding),
        }
    }
    all
}

fn identity(text: &str) -> Result<IdentityPattern, Finding> {
    let bad = |what: &str| Finding::new("bad_identity", format!("{text:?} {what}"));
    let rest = text.strip_prefix("spiffe://");
    let path = rest.and_then(|rest| rest.split_once('/'));
    let Some((domain, path)) = path.filter(|(domain, path)| !domain.is_empty() && !path.is_empty())
    else {
        return Err(bad("is no SPIFFE id").hint("write \"spiffe://DOMAIN/PATH\""));
    };
    // The standard's characters: SPIFFE-ID §2.1 and §2.2.
    let in_domain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-._".contains(c);
    let in_path = |c: char| c.is_ascii_alphanumeric() || "-._/".contains(c);
    let (above, below) = match path.strip_suffix('*') {
        Some(above) if above.is_empty() || above.ends_with('/') => (above, true),
        _ => (path, false),
    };
    let segments = above.strip_suffix('/').filter(|_| below).unwrap_or(above);
    let odd = domain.chars().find(|c| !in_domain(*c));
    let odd = odd.or_else(|| above.chars().find(|c| !in_path(*c)));
    if odd == Some('*') {
        return Err(bad("has a * that is not its whole last segment")
            .hint("write \"spiffe://DOMAIN/*\" for everything below"));
    }
    if let Some(odd) = odd {
        return Err(bad(&format!("is no SPIFFE id: it contains {odd:?}")));
    }
    let empty = |segment: &str| matches!(segment, "" | "." | "..");
    if !(below && above.is_empty()) && segments.split('/').any(empty) {
        return Err(bad("is no SPIFFE id: a segment is empty or only dots"));
    }
    Ok(if below {
        IdentityPattern::Below(format!("spiffe://{domain}/{above}"))
    } else {
        IdentityPattern::Exact(text.to_owned())
    })
}

fn user(text: &str) -> Result<String, Finding> {
    if text == "*" {
        let what = "\"*\" is no name of a user";
        return Err(Finding::new("bad_name", what).hint("leave `users` out for everybody"));
    }
    Basic::check_user(text).map_err(|error| {
        Finding::new(
            "bad_name",
            format!("{text:?} is no name of a user: {error}"),
        )
    })?;
    Ok(text.to_owned())
}

fn rate(text: &str, at: &At<'_>, findings: &mut Findings<'_>) -> Option<Rate> {
    const LONGEST: std::time::Duration = std::time::Duration::from_hours(1);

    let rate = unit::rate(text);
    let rate = rate.filter(|(count, per)| (1..=1_000_000).contains(count) && *per <= LONGEST);
    if rate.is_none() {
        let what = format!("{text:?} is no rate from 1 to 1000000 in a second, minute or hour");
        let finding = Finding::new("bad_rate", what);
        findings.value(at, finding.hint("write \"100/s\", \"100/m\" or \"100/h\""));
    }
    rate.map(|(count, per)| Rate { count, per })
}

fn via(
    name: &str,
    at: &At<'_>,
    known: &Known,
    findings: &mut Findings<'_>,
) -> Option<UpstreamName> {
    if known.upstreams.contains(name) {
        return UpstreamName::new(name).ok();
    }
    let names = known.upstreams.iter().map(String::as_str);
    let mut finding = unknown("unknown_upstream", "upstream", name, names, findings);
    if name.contains(':') {
        finding.hint = Some(format!(
            "write [upstreams.NAME] with endpoints = [{name:?}], and its name here"
        ));
    }
    findings.value(at, finding);
    None
}

/// Whoever speaks HTTP here cannot see whom we have reached, so we have to.
fn origination(
    raw: &Switch<raw::UpstreamTls>,
    at: &At<'_>,
    findings: &mut Findings<'_>,
) -> Option<UpstreamTls> {
    match raw {
        Switch::Bool(false) => None,
        Switch::Bool(true) => Some(UpstreamTls::default()),
        Switch::Table(raw) => {
            if raw.insecure == Some(true) {
                let what =
                    "the client cannot see whom we have reached, so every certificate is verified";
                let finding = Finding::new("conflict", what);
                let hint = "take insecure away; write ca = \"FILE\" for a CA of your own";
                findings.value(&at.key("insecure"), finding.hint(hint));
                return None;
            }
            Some(tls::upstream::terms(raw, at, findings))
        }
    }
}
