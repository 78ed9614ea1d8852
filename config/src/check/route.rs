//! `[routes.NAME]` and its rules

mod mode;
pub(super) mod stream;

use std::{collections::HashMap, sync::Arc};

use super::{
    Draft,
    action::{self, WORDS},
    decode,
    filter::{self, Level},
    matching::{self, Scope},
    references::Known,
    tls,
};
use crate::{
    findings::{Finding, Findings},
    model::{
        Action, ClientCertificateMode, ClientCertificates, Filters, HostPattern, Mode, Protocol,
        Route, Rule,
    },
    names::{ListenerName, RouteName, RuleName},
    raw::{self, OneOrMany},
    scalar::Scalars,
    text,
    tree::{At, Node},
};

/// Builds as much of the route as can be read. A refused rule still matches and is
/// [`Action::Refused`]; one whose matches cannot be read matches everything.
pub(super) fn check(
    name: RouteName,
    node: &Node,
    at: &At<'_>,
    known: &Known,
    findings: &mut Findings<'_>,
) -> Draft<Route> {
    let raw: raw::Route = decode(node, at, findings);
    let hosts = hosts(raw.hosts.as_ref(), &at.key("hosts"), findings);
    let (listeners, mode) = mode::bound(&raw, at, known, findings);
    if let (Some(hosts), Some(listeners)) = (&hosts, &listeners) {
        let is_list = raw.hosts.as_ref().is_some_and(OneOrMany::is_list);
        let at = at.key("hosts");
        mode::nameless(hosts, mode, listeners, known, (&at, is_list), findings);
    }
    let filters = filter::check(&raw.filters(), at, Level::Wide, known, findings);
    let asked = raw.client_certificates.as_ref();
    let client_certificates = asked
        .map(|raw| client_certificates(raw, listeners.as_deref(), mode, (at, known), findings));
    let mut scalars = Scalars { at: *at, findings };
    let priority = scalars.number("priority", raw.priority, -1_000_000..=1_000_000, 0);
    let timeout = raw
        .timeout
        .as_ref()
        .map(|raw| scalars.time_or_off("timeout", Some(raw), Route::TIMEOUT));
    let scope = Scope {
        known,
        listeners: listeners.as_deref(),
    };
    let (mut rules, mut clean) = rules(&raw.rules, &at.key("rules"), scope, findings);
    if raw.actions().is_any() {
        rules.push(catch_all(&raw, at, known, findings));
    } else if raw.rules.is_empty()
        && ["rules", "to", "redirect", "respond"]
            .iter()
            .all(|word| findings.is_clean(&at.key(word)))
    {
        let finding = Finding::new("missing_key", format!("{at} says nothing about what to do"));
        findings.key(
            at,
            finding.hint("write to = \"ADDRESS:PORT\", redirect, respond, or rules"),
        );
    }
    clean = clean && filters.is_some() && findings.is_clean(at);
    let own_settings = [
        "use",
        "request_headers",
        "response_headers",
        "rewrite",
        "max_body",
        "upgrade",
        "hsts",
        "grpc_web",
        "trace",
        "stream",
        "mode",
        "timeout",
        "priority",
        "client_certificates",
    ];
    let settled = filters.is_some()
        && own_settings
            .iter()
            .all(|word| findings.is_clean(&at.key(word)));
    if !settled {
        // What holds for every rule is refused, so every rule is.
        rules = vec![Arc::new(refused(RuleName::catch_all()))];
    }
    let object = match (hosts, listeners) {
        (Some(hosts), Some(listeners)) => Some(Route {
            client_certificates: client_certificates.filter(|_| settled),
            name,
            listeners,
            mode,
            hosts,
            priority,
            rules,
            timeout,
            filters: filters.unwrap_or_default(),
        }),
        _ => None,
    };
    if let Some(route) = object.as_ref().filter(|_| clean) {
        stream::check(route, at, known, findings);
        clean = findings.is_clean(at);
    }
    Draft { object, clean }
}

fn client_certificates(
    raw: &raw::ClientCertificates,
    listeners: Option<&[ListenerName]>,
    mode: Mode,
    (route, known): (&At<'_>, &Known),
    findings: &mut Findings<'_>,
) -> ClientCertificates {
    let at = route.key("client_certificates");
    let checked = tls::client::check(raw, &at, findings);
    let plain = |name: &ListenerName| {
        let protocol = known.protocol(name);
        // What comes out of TLS on auto, its other keys decide.
        let may = |it: Protocol| mode.is_inside_tls_of(it) || it == Protocol::Auto;
        protocol.is_some_and(|protocol| !may(protocol))
    };
    let without = listeners.is_some_and(|listeners| listeners.iter().all(plain));
    // Of what is never inside TLS more is said elsewhere.
    let without = without && matches!(mode, Mode::Http | Mode::Tcp);
    if without && checked.mode != ClientCertificateMode::Off {
        let what =
            format!("{route} asks for client certificates, but none of its listeners ends TLS");
        let hint = "bind it to a listener with protocol = \"https\"";
        findings.key(&at, Finding::new("needs_tls", what).hint(hint));
    }
    checked
}

/// A rule that answers 503.
pub(super) fn refused(name: RuleName) -> Rule {
    Rule {
        name,
        matches: Vec::new(),
        action: Action::Refused,
        timeout: None,
        filters: Filters::default(),
    }
}

/// None: one of them cannot be read.
fn hosts(
    raw: Option<&OneOrMany<String>>,
    at: &At<'_>,
    findings: &mut Findings<'_>,
) -> Option<Vec<HostPattern>> {
    let Some(list) = raw else {
        return findings.is_clean(at).then(|| vec![HostPattern::Any]);
    };
    if list.as_slice().is_empty() {
        let finding = Finding::new("empty_list", "a route without hosts answers nothing");
        findings.value(at, finding.hint("leave `hosts` out for every host"));
    }
    let mut hosts = Vec::new();
    for (index, host) in list.as_slice().iter().enumerate() {
        let at = at.element(index, list.is_list());
        match text::host_pattern(host) {
            Ok(host) if hosts.contains(&host) => {
                let what = format!("the host {host} is written twice");
                findings.value(&at, Finding::new("duplicate_host", what));
            }
            Ok(host) => hosts.push(host),
            Err(finding) => findings.value(&at, finding),
        }
    }
    findings.is_clean(at).then_some(hosts)
}

fn rules(
    raw: &[raw::Rule],
    at: &At<'_>,
    scope: Scope<'_>,
    findings: &mut Findings<'_>,
) -> (Vec<Arc<Rule>>, bool) {
    let mut names: HashMap<RuleName, usize> = HashMap::new();
    let mut rules = Vec::new();
    let mut clean = true;
    for (index, raw) in raw.iter().enumerate() {
        let at = at.index(index);
        let name = rule_name(raw.name.as_deref(), index, &at.key("name"), findings);
        if let Some(first) = names.insert(name.clone(), index) {
            let what = format!("rules[{first}] of this route is also named {name}");
            findings.value(&at.key("name"), Finding::new("duplicate_rule", what));
        }
        let (rule, intact) = rule(raw, name, &at, scope, findings);
        clean &= intact;
        rules.push(Arc::new(rule));
    }
    (rules, clean)
}

fn rule_name(
    raw: Option<&str>,
    index: usize,
    at: &At<'_>,
    findings: &mut Findings<'_>,
) -> RuleName {
    let Some(text) = raw else {
        return RuleName::nth(index);
    };
    RuleName::new(text).unwrap_or_else(|error| {
        findings.value(at, Finding::new("bad_name", error.to_string()));
        RuleName::nth(index)
    })
}

/// The rule, and whether it is intact.
fn rule(
    raw: &raw::Rule,
    name: RuleName,
    at: &At<'_>,
    scope: Scope<'_>,
    findings: &mut Findings<'_>,
) -> (Rule, bool) {
    let match_at = at.key("match");
    let matches = matching::check(raw.matches.as_ref(), &match_at, scope, findings);
    let readable = findings.is_clean(&match_at);
    let offer = matching::offer(&matches);
    // What matches offer is not known when one of them cannot be read.
    let level = if readable {
        Level::Rule(offer)
    } else {
        Level::Set
    };
    let written = raw.actions();
    let action = action::check(written, at, level, scope.known, findings);
    if !written.is_any() && WORDS.iter().all(|word| findings.is_clean(&at.key(word))) {
        let finding = Finding::new(
            "missing_key",
            format!("{at} needs one of to, redirect, respond"),
        );
        findings.key(
            at,
            finding.hint("write to = \"ADDRESS:PORT\" or to = \"UPSTREAM\""),
        );
    }
    let filters = filter::check(&raw.filters(), at, level, scope.known, findings);
    let mut scalars = Scalars { at: *at, findings };
    let timeout = raw
        .timeout
        .as_ref()
        .map(|raw| scalars.time_or_off("timeout", Some(raw), Route::TIMEOUT));
    let rule = match (action, filters, findings.is_clean(at)) {
        (Some(action), Some(filters), true) => {
            return (
                Rule {
                    name,
                    matches,
                    action,
                    timeout,
                    filters,
                },
                true,
            );
        }
        _ if readable => Rule {
            matches,
            ..refused(name)
        },
        _ => refused(name),
    };
    (rule, false)
}

fn catch_all(
    raw: &raw::Route,
    at: &At<'_>,
    known: &Known,
    findings: &mut Findings<'_>,
) -> Arc<Rule> {
    let level = Level::Rule(filter::Offer::default());
    let action = action::check(raw.actions(), at, level, known, findings);
    let clean = WORDS.iter().all(|word| findings.is_clean(&at.key(word)));
    let refused = refused(RuleName::catch_all());
    Arc::new(match action {
        Some(action) if clean => Rule { action, ..refused },
        _ => refused,
    })
}
