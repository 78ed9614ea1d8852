//! `[upstreams.NAME] health_check`

use std::{ops::RangeInclusive, time::Duration};

use crate::{
    findings::{Finding, Findings},
    model::{Endpoint, GrpcCheck, HealthCheck, HostPort, HttpCheck, Method, Question, TcpCheck},
    raw::{self, OneOrMany, Statuses},
    scalar::{Scalars, TIMEOUT},
    text,
    tree::At,
    unit,
};

/// More often is an attack.
const INTERVAL: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_hours(24);

pub(super) fn check(
    raw: Option<&raw::HealthCheck>,
    endpoints: &[Endpoint],
    at: &At<'_>,
    findings: &mut Findings<'_>,
) -> Option<HealthCheck> {
    let raw = raw?;
    let at = &at.key("health_check");
    let question = question(raw, at, findings);
    let mut scalars = Scalars { at: *at, findings };
    let interval = raw.interval.as_ref();
    let interval = scalars.time("interval", interval, INTERVAL, HealthCheck::INTERVAL);
    // A shorter interval than the default timeout is no contradiction when only it is set.
    let default = HealthCheck::TIMEOUT.min(interval);
    let timeout = scalars.time("timeout", raw.timeout.as_ref(), TIMEOUT, default);
    let jitter = scalars.number("jitter", raw.jitter, 0..=100, HealthCheck::JITTER);
    let healthy = scalars.number("healthy", raw.healthy, 1..=1000, HealthCheck::HEALTHY);
    let unhealthy = scalars.number("unhealthy", raw.unhealthy, 1..=1000, HealthCheck::UNHEALTHY);
    let port = raw.port.map(|port| {
        let mut scalars = Scalars { at: *at, findings };
        scalars.number("port", Some(port), 1..=u16::MAX, 1)
    });
    if timeout > interval {
        let interval = unit::duration_text(interval);
        let what = format!("timeout is longer than interval, which is {interval}");
        findings.value(&at.key("timeout"), Finding::new("out_of_range", what));
    }
    let is_path = |it: &Endpoint| matches!(it.address.host, HostPort::Unix(_));
    if port.is_some() && endpoints.iter().any(is_path) {
        let what = "an endpoint is a unix socket, which has no port";
        findings.value(&at.key("port"), Finding::new("conflict", what));
    }
    Some(HealthCheck {
        question: question?,
        interval,
        timeout,
        jitter,
        healthy,
        unhealthy,
        port,
    })
}

fn question(raw: &raw::HealthCheck, at: &At<'_>, findings: &mut Findings<'_>) -> Option<Question> {
    match (&raw.http, &raw.tcp, &raw.grpc) {
        (Some(raw), None, None) => http(raw, &at.key("http"), findings).map(Question::Http),
        (None, Some(raw), None) => Some(Question::Tcp(tcp(raw, &at.key("tcp"), findings))),
        (None, None, Some(raw)) => Some(Question::Grpc(GrpcCheck {
            service: raw.service.clone().unwrap_or_default(),
            host: host(raw.host.as_deref(), &at.key("grpc"), findings),
        })),
        (None, None, None) => {
            let finding = Finding::new("missing_key", "the check lacks what is asked");
            let hint = "write one of http = { path = \"/healthz\" }, tcp = {}, grpc = {}";
            findings.key(at, finding.hint(hint));
            None
        }
        _ => {
            let what = "more than one of http, tcp and grpc is asked";
            findings.key(at, Finding::new("conflict", what).hint("keep one"));
            None
        }
    }
}

fn http(raw: &raw::HttpCheck, at: &At<'_>, findings: &mut Findings<'_>) -> Option<HttpCheck> {
    let path = raw.path.as_deref().unwrap_or("/");
    let strange = |c: char| !c.is_ascii_graphic() || matches!(c, '#' | '"' | '<' | '>' | '\\');
    if !path.starts_with('/') || path.contains(strange) {
        let what = format!("{path:?} is no path of a request");
        let hint = "it begins with / and has ASCII characters without spaces: \"/healthz\"";
        let finding = Finding::new("bad_path", what).hint(hint);
        findings.value(&at.key("path"), finding);
    }
    let method = raw.method.as_deref().unwrap_or("GET");
    let known = Method::new(method).filter(|it| it.as_str() != "CONNECT");
    if known.is_none() {
        let finding = Finding::new("bad_method", format!("{method:?} is no method for a check"));
        findings.value(&at.key("method"), finding);
    }
    if raw.body.as_deref() == Some("") {
        let finding = Finding::new("empty", "the text is empty, which every body contains");
        findings.value(&at.key("body"), finding);
    }
    if method == "HEAD" && raw.body.is_some() {
        let finding = Finding::new("conflict", "the answer to HEAD has no body");
        findings.value(&at.key("body"), finding);
    }
    let host = host(raw.host.as_deref(), at, findings);
    let expected = statuses(raw.expected.as_ref(), &at.key("expected"), findings);
    Some(HttpCheck {
        path: path.to_owned(),
        method: known?,
        host,
        expected,
        body: raw.body.clone(),
    })
}

fn tcp(raw: &raw::TcpCheck, at: &At<'_>, findings: &mut Findings<'_>) -> TcpCheck {
    for (key, text) in [("send", &raw.send), ("expect", &raw.expect)] {
        if text.as_deref() == Some("") {
            let finding = Finding::new("empty", "the text is empty").hint("leave it out");
            findings.value(&at.key(key), finding);
        }
    }
    TcpCheck {
        send: raw.send.clone(),
        expect: raw.expect.clone(),
    }
}

/// A host as it stands in a request, in its usual form.
fn host(raw: Option<&str>, at: &At<'_>, findings: &mut Findings<'_>) -> Option<String> {
    let raw = raw?;
    let (name, port) = match raw.rsplit_once(':') {
        Some((name, port)) if !name.ends_with(':') && port.parse::<u16>().is_ok() => {
            (name, format!(":{port}"))
        }
        _ => (raw, String::new()),
    };
    match text::url_host(name) {
        Ok(host) => Some(format!("{host}{port}")),
        Err(finding) => {
            findings.value(&at.key("host"), finding);
            None
        }
    }
}

fn statuses(
    raw: Option<&OneOrMany<Statuses>>,
    at: &At<'_>,
    findings: &mut Findings<'_>,
) -> Vec<RangeInclusive<u16>> {
    let Some(list) = raw else {
        return vec![HttpCheck::EXPECTED];
    };
    if list.as_slice().is_empty() {
        let finding = Finding::new("empty_list", "the list is empty, so no answer would do");
        findings.value(at, finding);
    }
    let mut all = Vec::new();
    for (index, raw) in list.as_slice().iter().enumerate() {
        let text = match raw {
            Statuses::Status(status) => status.to_string(),
            Statuses::Text(text) => text.clone(),
        };
        let (least, most) = text.split_once('-').unwrap_or((&text, &text));
        let number = |text: &str| {
            let number = text.parse().ok();
            number.filter(|status| (100..=599).contains(status))
        };
        match (number(least), number(most)) {
            (Some(least), Some(most)) if least <= most => all.push(least..=most),
            _ => {
                let what = format!("{text:?} is neither a status nor a range of them");
                let finding = Finding::new("out_of_range", what);
                let finding = finding.hint("statuses are 100 to 599: 204, or \"200-299\"");
                findings.value(&at.element(index, list.is_list()), finding);
            }
        }
    }
    all
}
