//! `to`, `redirect`, `respond`

use super::{
    filter::{
        self, Level,
        rewrite::{Change, path_change},
    },
    references::{Known, unknown},
    upstream::MAX_WEIGHT,
};
use crate::{
    findings::{Finding, Findings},
    model::{Action, Destination, Redirect, Respond, RespondBody, Target},
    names::{ServiceName, UpstreamName},
    raw::{self, OneOrMany, TextOr},
    scalar::Scalars,
    text,
    tree::At,
};

/// The actions of a rule or route, as written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Written<'r> {
    to: Option<&'r OneOrMany<TextOr<raw::Target>>>,
    redirect: Option<&'r raw::Redirect>,
    respond: Option<&'r raw::Respond>,
    refused: bool,
}

macro_rules! written {
    ($($object:ty),*) => {$(
        impl $object {
            /// The actions of this object.
            pub(super) fn actions(&self) -> Written<'_> {
                Written {
                    to: self.to.as_ref(),
                    redirect: self.redirect.as_ref(),
                    respond: self.respond.as_ref(),
                    refused: self.refused.unwrap_or(false),
                }
            }
        }
    )*};
}

written!(raw::Route, raw::Rule);

/// The keys of which one may be written.
pub(super) const WORDS: [&str; 3] = ["to", "redirect", "respond"];

impl Written<'_> {
    /// Whether there is one at all.
    pub(super) fn is_any(&self) -> bool {
        self.count() > 0
    }

    fn count(&self) -> usize {
        [
            self.to.is_some(),
            self.redirect.is_some(),
            self.respond.is_some(),
            self.refused,
        ]
        .into_iter()
        .filter(|there| *there)
        .count()
    }
}

/// The one action of `at`; none when it cannot be read.
pub(super) fn check(
    written: Written<'_>,
    at: &At<'_>,
    level: Level,
    known: &Known,
    findings: &mut Findings<'_>,
) -> Option<Action> {
    if written.count() > 1 {
        let words = [
            written.to.is_some(),
            written.redirect.is_some(),
            written.respond.is_some(),
        ];
        let words = WORDS
            .iter()
            .zip(words)
            .filter(|(_, there)| *there)
            .map(|(word, _)| *word);
        let words: Vec<&str> = words.collect();
        let finding = Finding::new(
            "conflict",
            format!("{} cannot stand together", words.join(" and ")),
        );
        findings.key(at, finding.hint("keep one"));
    }
    let mut action = written.refused.then_some(Action::Refused);
    if let Some(respond) = written.respond {
        action = Some(Action::Respond(self::respond(
            respond,
            &at.key("respond"),
            level,
            findings,
        )));
    }
    if let Some(redirect) = written.redirect {
        action = Some(Action::Redirect(self::redirect(
            redirect,
            &at.key("redirect"),
            level,
            findings,
        )));
    }
    if let Some(to) = written.to {
        action = forward(to, &at.key("to"), known, findings).map(Action::Forward);
    }
    action
}

fn forward(
    list: &OneOrMany<TextOr<raw::Target>>,
    at: &At<'_>,
    known: &Known,
    findings: &mut Findings<'_>,
) -> Option<Vec<Target>> {
    if list.as_slice().is_empty() {
        let finding = Finding::new("empty_list", "there is nowhere to send requests to");
        findings.value(at, finding.hint("write at least one target"));
        return None;
    }
    let mut targets = Vec::new();
    for (index, raw) in list.as_slice().iter().enumerate() {
        targets.extend(target(
            raw,
            &at.element(index, list.is_list()),
            known,
            findings,
        ));
    }
    Some(targets)
}

fn target(
    raw: &TextOr<raw::Target>,
    at: &At<'_>,
    known: &Known,
    findings: &mut Findings<'_>,
) -> Option<Target> {
    let raw = match raw {
        TextOr::Text(text) if text.contains(':') => {
            let address = text::endpoint(text)
                .map_err(|finding| findings.value(at, finding))
                .ok()?;
            return Some(Target {
                destination: Destination::Address(address),
                weight: 1,
            });
        }
        TextOr::Text(name) => {
            let destination = upstream(name, at, known, findings)?;
            return Some(Target {
                destination,
                weight: 1,
            });
        }
        TextOr::Table(raw) => raw,
    };
    let mut scalars = Scalars { at: *at, findings };
    let weight = scalars.number("weight", raw.weight, 0..=MAX_WEIGHT, 1);
    let port = raw
        .port
        .map(|port| scalars.number("port", Some(port), 1..=65535, 1));
    if port.is_some() && raw.service.is_none() {
        let finding = Finding::new("conflict", "port goes with service only");
        findings.key(&at.key("port"), finding.hint("write it into the address"));
    }
    let destination = match (&raw.upstream, &raw.service, &raw.address) {
        (Some(name), None, None) => upstream(name, &at.key("upstream"), known, findings)?,
        (None, Some(name), None) => service(name, port, at, findings)?,
        (None, None, Some(text)) => {
            let address = text::endpoint(text);
            let address = address.map_err(|finding| findings.value(&at.key("address"), finding));
            Destination::Address(address.ok()?)
        }
        (None, None, None) => {
            let words = ["upstream", "service", "address"];
            if words.iter().all(|word| findings.is_clean(&at.key(word))) {
                let what = "the target needs one of upstream, service, address";
                findings.value(at, Finding::new("missing_key", what));
            }
            return None;
        }
        _ => {
            let what = "the target has more than one of upstream, service, address";
            findings.value(at, Finding::new("conflict", what).hint("keep one"));
            return None;
        }
    };
    Some(Target {
        destination,
        weight,
    })
}

fn upstream(
    name: &str,
    at: &At<'_>,
    known: &Known,
    findings: &mut Findings<'_>,
) -> Option<Destination> {
    if known.upstreams.contains(name) {
        return UpstreamName::new(name).ok().map(Destination::Upstream);
    }
    let names = known.upstreams.iter().map(String::as_str);
    let mut finding = unknown("unknown_upstream", "upstream", name, names, findings);
    if name.contains('.') && text::endpoint(&format!("{name}:80")).is_ok() {
        finding = finding.hint(format!("for an address add the port: \"{name}:80\""));
    }
    findings.value(at, finding);
    None
}

fn service(
    name: &str,
    port: Option<u16>,
    at: &At<'_>,
    findings: &mut Findings<'_>,
) -> Option<Destination> {
    let checked = ServiceName::new(name);
    if let Err(error) = &checked {
        findings.value(
            &at.key("service"),
            Finding::new("bad_name", error.to_string()),
        );
    }
    if port.is_none() {
        let finding = Finding::new(
            "missing_key",
            format!("the service {name:?} lacks its port"),
        );
        findings.missing(
            at,
            "port",
            finding.hint("write { service = \"…\", port = 8080 }"),
        );
    }
    Some(Destination::Service {
        name: checked.ok()?,
        port: port?,
    })
}

fn redirect(
    raw: &raw::Redirect,
    at: &At<'_>,
    level: Level,
    findings: &mut Findings<'_>,
) -> Redirect {
    let status = match raw.status {
        None => Redirect::STATUS,
        Some(number @ (301 | 302 | 303 | 307 | 308)) => {
            u16::try_from(number).unwrap_or(Redirect::STATUS)
        }
        Some(number) => {
            let what = format!("the status is {number}, not 301, 302, 303, 307 or 308");
            findings.value(&at.key("status"), Finding::new("out_of_range", what));
            Redirect::STATUS
        }
    };
    let scheme = raw.scheme.as_ref().filter(|scheme| {
        let good = matches!(scheme.as_str(), "http" | "https");
        if !good {
            let what = format!("there is no scheme {scheme:?}, only \"http\" and \"https\"");
            findings.value(&at.key("scheme"), Finding::new("unknown_value", what));
        }
        good
    });
    let host = raw.host.as_ref().and_then(|host| {
        let host = text::url_host(host);
        host.map_err(|finding| findings.value(&at.key("host"), finding))
            .ok()
    });
    let change = Change {
        path: raw.path.as_deref(),
        prefix: raw.prefix.as_deref(),
        regex: raw.regex.as_ref(),
    };
    let path = path_change(&change, at, level, findings);
    let says = ["scheme", "host", "port", "path", "prefix", "regex"];
    let silent = scheme.is_none() && host.is_none() && raw.port.is_none() && path.is_none();
    if silent && says.iter().all(|word| findings.is_clean(&at.key(word))) {
        let finding = Finding::new(
            "missing_key",
            "the redirect leads to where the request came from",
        );
        findings.value(
            at,
            finding.hint(format!("write at least one of {}", says.join(", "))),
        );
    }
    Redirect {
        status,
        scheme: scheme.cloned(),
        host,
        port: raw
            .port
            .map(|port| Scalars { at: *at, findings }.number("port", Some(port), 1..=65535, 1)),
        path,
        keep_query: raw.keep_query.unwrap_or(true),
    }
}

fn respond(raw: &raw::Respond, at: &At<'_>, level: Level, findings: &mut Findings<'_>) -> Respond {
    let status = Scalars { at: *at, findings }.number("status", raw.status, 200..=599, 200);
    let headers = raw
        .headers
        .as_ref()
        .map(|raw| filter::header_lines(raw, &at.key("headers"), level, findings));
    if raw.body.is_some() && raw.file.is_some() {
        let finding = Finding::new("conflict", "body and file cannot stand together");
        findings.value(at, finding.hint("keep one"));
    }
    if matches!(status, 204 | 205 | 304) && raw.body.as_ref().is_some_and(|body| !body.is_empty()) {
        let finding = Finding::new(
            "conflict",
            format!("an answer of status {status} has no body"),
        );
        findings.value(&at.key("body"), finding);
    }
    let file = raw.file.as_ref().filter(|file| {
        if file.is_empty() {
            findings.value(
                &at.key("file"),
                Finding::new("bad_path", "the path is empty"),
            );
        }
        !file.is_empty()
    });
    let body = raw.body.as_ref().filter(|body| !body.is_empty());
    Respond {
        status,
        headers: headers.unwrap_or_default(),
        body: match (file, body) {
            (Some(file), _) => Some(RespondBody::File(findings.path(&at.key("file"), file))),
            (None, Some(body)) => Some(RespondBody::Text(body.clone())),
            (None, None) => None,
        },
    }
}
