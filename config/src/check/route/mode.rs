//! `listeners`, `mode` and `hosts` of a route: what each listener can hand it.

use crate::check::references::Known;
use crate::{
    findings::{Finding, Findings},
    model::{HostPattern, Mode, Protocol},
    names::ListenerName,
    raw::{self, OneOrMany},
    tree::At,
};

/// The listeners of a route, and what it takes from them. No listeners: one of them cannot be read.
pub(super) fn bound(
    raw: &raw::Route,
    at: &At<'_>,
    known: &Known,
    findings: &mut Findings<'_>,
) -> (Option<Vec<ListenerName>>, Mode) {
    let written = raw.mode.map(|mode| match mode {
        raw::Mode::Http => Mode::Http,
        raw::Mode::Tcp => Mode::Tcp,
        raw::Mode::Passthrough => Mode::Passthrough,
        raw::Mode::Udp => Mode::Udp,
    });
    let key = at.key("listeners");
    let listeners = match &raw.listeners {
        Some(list) => named(list, &key, known, findings),
        None => all(written.unwrap_or_default(), &key, known, findings),
    };
    let Some(listeners) = listeners else {
        return (None, written.unwrap_or_default());
    };
    let mut protocols = listeners.iter().filter_map(|name| known.protocol(name));
    let mode = written.or_else(|| protocols.next().map(Mode::of));
    let mode = mode.unwrap_or_default();
    let wrong = listeners.iter().find_map(|name| {
        let protocol = known.protocol(name)?;
        (!mode.is_allowed_on(protocol)).then_some((name, protocol))
    });
    if let Some((name, protocol)) = wrong {
        if written.is_some() {
            let what = format!(
                "listener {name} speaks {}, which has no {} for a route",
                protocol.as_str(),
                noun(mode)
            );
            let finding = Finding::new("wrong_mode", what).hint(possible(protocol));
            findings.value(&at.key("mode"), finding);
        } else {
            let mut fitting = listeners.iter();
            let fits = |name: &&ListenerName| {
                let protocol = known.protocol(name);
                protocol.is_some_and(|protocol| mode.is_allowed_on(protocol))
            };
            let what = format!(
                "listener {} has {} for a route, listener {name} {}",
                fitting.find(fits).unwrap_or(name),
                noun(mode),
                noun(Mode::of(protocol))
            );
            let hint = "write two routes, one for each";
            findings.value(&key, Finding::new("wrong_mode", what).hint(hint));
        }
    }
    (findings.is_clean(&key).then_some(listeners), mode)
}

/// What a route of that mode is handed.
pub(super) const fn noun(mode: Mode) -> &'static str {
    match mode {
        Mode::Http => "requests",
        Mode::Tcp => "raw streams",
        Mode::Passthrough => "TLS to pass through",
        Mode::Udp => "datagrams",
    }
}

fn possible(protocol: Protocol) -> String {
    let modes = Mode::ALL.into_iter();
    let modes = modes.filter(|mode| mode.is_allowed_on(protocol));
    let modes: Vec<String> = modes.map(|mode| format!("\"{mode}\"")).collect();
    format!("there it is mode = {}", modes.join(" or "))
}

/// None: one of them cannot be read.
fn named(
    list: &OneOrMany<String>,
    at: &At<'_>,
    known: &Known,
    findings: &mut Findings<'_>,
) -> Option<Vec<ListenerName>> {
    if list.as_slice().is_empty() {
        let finding = Finding::new("empty_list", "a route without listeners answers nothing");
        findings.value(at, finding.hint("leave `listeners` out for all of them"));
    }
    let mut listeners = Vec::new();
    for (index, name) in list.as_slice().iter().enumerate() {
        let at = at.element(index, list.is_list());
        let Some(name) = known.listener(name, &at, findings) else {
            continue;
        };
        if let Some(protocol) = known.protocol(&name).filter(|it| it.is_egress()) {
            let what = format!(
                "listener {name} speaks {}: [egress] decides what passes there, and no route is asked",
                protocol.as_str()
            );
            let finding = Finding::new("egress_listener", what);
            findings.value(&at, finding.hint("take it out of `listeners`"));
        } else if !listeners.contains(&name) {
            listeners.push(name);
        }
    }
    findings.is_clean(at).then_some(listeners)
}

/// Those of a route that names none. Nothing tells raw streams without TLS apart but where they come
/// in, so there somebody has to say it.
fn all(
    mode: Mode,
    at: &At<'_>,
    known: &Known,
    findings: &mut Findings<'_>,
) -> Option<Vec<ListenerName>> {
    if matches!(mode, Mode::Tcp | Mode::Udp) {
        let what = format!("a route for {} must name its listeners", noun(mode));
        let finding = Finding::new("missing_key", what);
        if let At::Key(route, _) = *at {
            findings.missing(
                route,
                "listeners",
                finding.hint("write listeners = [\"NAME\"]"),
            );
        }
        return None;
    }
    let fits = |name: &ListenerName| {
        let protocol = known.protocol(name);
        protocol.is_none_or(|protocol| mode.is_allowed_on(protocol))
    };
    let all = known.listeners.iter();
    let all = all.filter_map(|name| ListenerName::new(name).ok());
    let all: Vec<_> = all.filter(fits).collect();
    if all.is_empty() {
        let (what, hint) = if mode == Mode::Passthrough {
            (
                "there is no https, tls or auto listener",
                "write one: protocol = \"tls\"",
            )
        } else {
            (
                "there is no http, https or auto listener",
                "a listener for raw streams or datagrams must be named: listeners = [\"NAME\"]",
            )
        };
        findings.key(at, Finding::new("missing_key", what).hint(hint));
    }
    findings.is_clean(at).then_some(all)
}

/// Reports hosts where no client says which one it is meant for.
pub(super) fn nameless(
    hosts: &[HostPattern],
    mode: Mode,
    listeners: &[ListenerName],
    known: &Known,
    (at, is_list): (&At<'_>, bool),
    findings: &mut Findings<'_>,
) {
    if mode == Mode::Http {
        return;
    }
    let nameless = listeners.iter().find(|name| {
        let protocol = known.protocol(name);
        protocol.is_some_and(|protocol| mode.is_allowed_on(protocol) && !mode.knows_sni(protocol))
    });
    let Some(listener) = nameless else {
        return;
    };
    for (position, host) in hosts.iter().enumerate() {
        if *host != HostPattern::Any {
            let what = format!(
                "nobody names a host on listener {listener}: it has {}",
                noun(mode)
            );
            let hint =
                "take `hosts` away; tell clients apart by listener, `client` or `destination`";
            let finding = Finding::new("no_host", what).hint(hint);
            findings.value(&at.element(position, is_list), finding);
        }
    }
}
