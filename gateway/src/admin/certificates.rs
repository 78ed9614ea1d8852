//! What the admin address tells about certificates, as JSON.
//!
//! What must stay true: no key is told, whoever asks. Nothing here can reach one: facts have none.

use serde_json::{Value, json};
use sluice_certs::{
    Facts,
    acme::{Phase, State},
    authority::local::Local,
};
use sluice_config::{
    model::{self, CertificateSource},
    names::{CertificateName, IssuerName},
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::Admin;
use crate::engine::{Certificate, Live};

/// Every certificate, by name.
pub(super) fn list(admin: &Admin) -> Value {
    let live = admin.view.live();
    let certificates = admin.view.certificates().into_iter();
    let certificates = certificates.map(|it| certificate(live.as_deref(), &it));
    certificates.collect()
}

/// The certificate called `name`.
pub(super) fn one(admin: &Admin, name: &str) -> Option<Value> {
    let live = admin.view.live();
    let found = find(admin, name)?;
    Some(certificate(live.as_deref(), &found))
}

/// What came of an order to renew one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Renewal {
    /// It will be tried.
    Ordered,
    /// There is none of this name.
    Unknown,
    /// Nobody issues it: it comes from files.
    Files,
}

/// Has the certificate called `name` renewed.
pub(super) fn renew(admin: &Admin, name: &str) -> Renewal {
    if admin.view.renew(name) {
        Renewal::Ordered
    } else if find(admin, name).is_some() {
        Renewal::Files
    } else {
        Renewal::Unknown
    }
}

fn find(admin: &Admin, name: &str) -> Option<Certificate> {
    let mut all = admin.view.certificates().into_iter();
    all.find(|it| it.name == name)
}

fn certificate(live: Option<&Live>, it: &Certificate) -> Value {
    let written = CertificateName::new(&it.name).ok();
    let written = written.and_then(|name| live?.snapshot.certificates.get(&name));
    let written = written.map(AsRef::as_ref);
    let orders = it.orders.as_ref();
    let pairs = it.pairs.iter().flat_map(|pairs| pairs.iter());
    let facts: Vec<&Facts> = pairs.map(|pair| &**pair.facts()).collect();
    let first = facts.iter().min_by_key(|facts| facts.not_after);
    json!({
        "name": it.name,
        "hosts": hosts(written, orders, &facts),
        "source": source(written, it),
        "state": state(&facts, OffsetDateTime::now_utc()),
        "not_after": first.map(|facts| moment(facts.not_after)),
        "renewal": renewal(it, first.copied()),
        "order": orders.map(|orders| phase(&orders.phase)),
        "pairs": facts.iter().map(|facts| pair(facts)).collect::<Vec<_>>(),
        "problem": problem(it),
    })
}

/// Those it is written for, else those it is ordered for, else those it says it is for.
fn hosts(written: Option<&model::Certificate>, orders: Option<&State>, facts: &[&Facts]) -> Value {
    let written = written.map(|it| &it.hosts).filter(|it| !it.is_empty());
    match (written, orders) {
        (Some(hosts), _) => json!(hosts),
        (None, Some(orders)) => json!(orders.hosts),
        (None, None) => json!(facts.first().map(|facts| &facts.names)),
    }
}

/// Where it comes from, in the words of the configuration.
fn source(written: Option<&model::Certificate>, it: &Certificate) -> Value {
    match (written.map(|it| &it.source), &it.orders) {
        (Some(CertificateSource::Files(pairs)), _) => json!({ "files": pairs }),
        (Some(CertificateSource::Auto(issuer)), _) => json!({ "auto": issuer }),
        (Some(CertificateSource::Refused), _) => json!({ "refused": true }),
        (None, Some(orders)) => json!({
            "auto": orders.issuer,
            "on_demand": orders.on_demand,
        }),
        (None, None) if it.is_local => json!({ "auto": IssuerName::LOCAL }),
        (None, None) => Value::Null,
    }
}

/// When it is made anew, as far as somebody does that.
fn renewal(it: &Certificate, first: Option<&Facts>) -> Option<String> {
    match (&it.orders, first) {
        (Some(orders), _) => seconds(orders.renewal?),
        (None, Some(facts)) if it.is_local => moment(Local::due(facts)),
        (None, _) => None,
    }
}

/// How it fares, in one word.
fn state(facts: &[&Facts], now: OffsetDateTime) -> &'static str {
    if facts.is_empty() {
        "missing"
    } else if facts.iter().any(|facts| now > facts.not_after) {
        "expired"
    } else if facts.iter().any(|facts| now < facts.not_before) {
        "not_yet_valid"
    } else {
        "valid"
    }
}

/// How its order fares.
fn phase(phase: &Phase) -> Value {
    match phase {
        Phase::Issued => json!({ "phase": "issued" }),
        Phase::Due => json!({ "phase": "due" }),
        Phase::Ordering { since } => json!({ "phase": "ordering", "since": seconds(*since) }),
        Phase::Waiting { until } => json!({ "phase": "waiting", "until": seconds(*until) }),
        Phase::NoIssuer => json!({ "phase": "no_issuer" }),
    }
}

/// What went wrong last: with an issuer, in its own words, or with files.
fn problem(it: &Certificate) -> Value {
    let ordered = it
        .orders
        .as_ref()
        .and_then(|orders| orders.problem.as_ref());
    match (ordered, &it.problem) {
        (Some((issuer, tries)), _) => json!({
            "what": tries.problem,
            "issuer": issuer,
            "failures": tries.failures,
            "since": seconds(tries.at),
        }),
        (None, Some(problem)) => json!({
            "what": &*problem.what,
            "since": moment(OffsetDateTime::from(problem.since)),
        }),
        (None, None) => Value::Null,
    }
}

fn pair(facts: &Facts) -> Value {
    json!({
        "key": facts.key.to_string(),
        "names": facts.names,
        "subject": facts.subject,
        "issuer": facts.issuer,
        "serial": facts.serial,
        "fingerprint": facts.fingerprint_hex(),
        "not_before": moment(facts.not_before),
        "not_after": moment(facts.not_after),
    })
}

fn seconds(moment: i64) -> Option<String> {
    self::moment(OffsetDateTime::from_unix_timestamp(moment).ok()?)
}

/// A moment to the second (RFC 3339).
fn moment(moment: OffsetDateTime) -> Option<String> {
    let whole = moment.replace_nanosecond(0).unwrap_or(moment);
    whole.format(&Rfc3339).ok()
}
