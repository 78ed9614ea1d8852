//! What `sluice explain` says is what the gateway does: random configurations and requests, each
//! asked of both.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue, Method, Uri};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use sluice_gateway::explain::{Answer, Asked, Report, explain};
use sluice_tests::{Gateway, Origin, Reply, gateway::snapshot};

const CONFIGURATIONS: usize = 40;
const REQUESTS: usize = 25;

const PATHS: &[&str] = &["/", "/a", "/a/b", "/ab", "/b"];
const TARGETS: &[&str] = &[
    "/",
    "/a",
    "/a/",
    "/a/b?q=1",
    "/a/./b",
    "/%61/c?q=%31&r",
    "//a",
    "/ab/x?r=1",
    "/b/../a",
    "/..",
    "/a%2fb",
    "/b?q=2",
    "/c",
];
const HOSTS: &[&str] = &["a.example", "b.a.example", "*.example", "*"];
const ASKED: &[&str] = &[
    "a.example",
    "B.A.Example.",
    "c.example",
    "d.test",
    "a.example:8080",
];
const HEADERS: &[(&str, &str)] = &[
    ("x-a", "1"),
    ("x-a", "2"),
    ("x-b", "yes"),
    ("cookie", "c=1; d=2"),
    ("x_c", "1"),
    ("x-forwarded-for", "1.1.1.1"),
    ("connection", "x-b"),
    ("te", "trailers"),
];

#[tokio::test]
async fn explain_and_the_gateway_decide_alike() {
    let origin = Origin::echo().await;
    let mut chance = StdRng::seed_from_u64(2);
    let start = "[routes.app]\nrespond = { status = 204 }\n";
    let gateway = Gateway::start(start, 1).await;
    let folder = tempfile::tempdir().expect("a folder");
    let mut kinds = BTreeMap::new();
    for _ in 0..CONFIGURATIONS {
        let config = configuration(&mut chance, &origin.address().to_string());
        gateway.reload(&config).await;
        let snapshot = snapshot(&config, folder.path());
        for _ in 0..REQUESTS {
            let asked = asked(&mut chance);
            let said = explain(&snapshot, &asked).expect("it is explained");
            let done = gateway.ask(written(&asked)).await;
            let context = format!("{config}\n{}", written(&asked));
            *kinds.entry(compare(&said, &done, &context)).or_insert(0) += 1;
        }
    }
    let every = ["forward", "redirect", "refuse", "respond"];
    assert!(kinds.keys().eq(&every), "{kinds:?}");
    assert!(kinds.values().all(|count| *count > 20), "{kinds:?}");
}

/// Holds what was said against what was done; gives which kind of answer it was.
fn compare(said: &Report, done: &Reply, context: &str) -> &'static str {
    let context = format!("{context}\n{said}\n{}", done.text());
    match &said.answer {
        Answer::Refuse { status, .. } => {
            assert_eq!(done.status, *status, "{context}");
            "refuse"
        }
        Answer::Redirect { status, location } => {
            assert_eq!(done.status, *status, "{context}");
            assert_eq!(done.header("location"), Some(&**location), "{context}");
            "redirect"
        }
        Answer::Respond {
            status, headers, ..
        } => {
            assert_eq!(done.status, *status, "{context}");
            for (name, value) in headers {
                assert_eq!(done.header(name), Some(&**value), "{context}");
            }
            "respond"
        }
        Answer::Forward { .. } => {
            assert_eq!(done.status, 200, "{context}");
            let sent = said.sent.as_ref().expect("something is sent");
            let text = done.text();
            let mut lines = text.trim_end_matches("\r\n").split("\r\n");
            let start = format!("{} {} HTTP/1.1", sent.method, sent.target);
            assert_eq!(lines.next(), Some(&*start), "{context}");
            let mut saw: Vec<String> = lines.map(anonymous).collect();
            let told = sent.headers.iter();
            let mut told: Vec<String> = told
                .map(|(name, value)| anonymous(&format!("{name}: {value}")))
                .collect();
            saw.sort();
            told.sort();
            assert_eq!(saw, told, "{context}");
            "forward"
        }
    }
}

/// The id is another for each request.
fn anonymous(line: &str) -> String {
    match line.split_once(": ") {
        Some(("x-request-id", _)) => "x-request-id".to_owned(),
        _ => line.to_owned(),
    }
}

/// What is written to the socket.
fn written(asked: &Asked) -> String {
    let target = asked.url.path_and_query().expect("a target");
    let mut lines = vec![format!("{} {target} HTTP/1.1", asked.method)];
    for (name, value) in &asked.headers {
        let value = value.to_str().expect("text");
        lines.push(format!("{name}: {value}"));
    }
    lines.join("\r\n") + "\r\n\r\n"
}

fn asked(chance: &mut StdRng) -> Asked {
    let host = one(chance, ASKED);
    let mut headers = vec![(http::header::HOST, HeaderValue::from_static(host))];
    for _ in 0..chance.random_range(0..4) {
        let (name, value) = HEADERS.choose(chance).expect("some");
        headers.push((
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        ));
    }
    Asked {
        method: Method::from_bytes(one(chance, &["GET", "OPTIONS", "DELETE"]).as_bytes())
            .expect("a method"),
        url: Uri::from_static(one(chance, TARGETS)),
        headers,
        client: None,
        listener: None,
    }
}

fn configuration(chance: &mut StdRng, origin: &str) -> String {
    let mut lines = Vec::new();
    for route in 0..chance.random_range(1..4) {
        let hosts: Vec<String> = HOSTS
            .choose_multiple(chance, 2)
            .map(|host| format!("{host:?}"))
            .collect();
        let hosts = hosts.join(", ");
        let priority = chance.random_range(0..2);
        lines.push(format!(
            "[routes.r{route}]\nhosts = [{hosts}]\npriority = {priority}"
        ));
        if chance.random() {
            let set = "request_headers = { set = { x-b = \"{route} {rule}\" } }";
            lines.push(set.to_owned());
        }
        for rule in 0..chance.random_range(1..5) {
            lines.push(format!("[[routes.r{route}.rules]]"));
            let prefix = chance.random_bool(0.5);
            let matched = condition(chance, prefix);
            lines.push(format!("match = {matched}"));
            lines.push(action(chance, origin, prefix, &format!("r{route}#{rule}")));
        }
    }
    lines.join("\n")
}

fn condition(chance: &mut StdRng, prefix: bool) -> String {
    let path = one(chance, PATHS);
    let mut conditions = vec![if prefix {
        format!("path = {{ prefix = {path:?} }}")
    } else {
        let kind = one(chance, &["exact", "starts_with", "regex"]);
        let more = if kind == "regex" { ".*" } else { "" };
        format!("path = {{ {kind} = \"{path}{more}\" }}")
    }];
    if chance.random_bool(0.3) {
        conditions.push("method = [\"GET\", \"DELETE\"]".to_owned());
    }
    for (kind, alternatives) in [
        (
            "headers",
            &["x-a = \"1\"", "x-a = \"1, 2\"", "x-b = { present = false }"][..],
        ),
        ("query", &["q = \"1\"", "r = { present = true }"]),
        (
            "cookies",
            &["c = { starts_with = \"1\" }", "e = { present = false }"],
        ),
    ] {
        if chance.random_bool(0.2) {
            conditions.push(format!("{kind} = {{ {} }}", one(chance, alternatives)));
        }
    }
    if chance.random_bool(0.1) {
        conditions.push("client = \"10.0.0.0/8\"".to_owned());
    }
    format!("{{ {} }}", conditions.join(", "))
}

fn action(chance: &mut StdRng, origin: &str, prefix: bool, name: &str) -> String {
    match chance.random_range(0..6) {
        0 => format!(
            "respond = {{ status = 201, headers = {{ x-rule = \"{name} {{request.path}}\" }} }}\n"
        ),
        1 => "redirect = { status = 308, host = \"z.example\", scheme = \"https\" }\n".to_owned(),
        2 if prefix => "redirect = { prefix = \"/new\", keep_query = false }\n".to_owned(),
        3 if prefix => format!("rewrite = {{ prefix = \"/new\" }}\nto = {origin:?}\n"),
        4 => format!(
            "rewrite = {{ path = \"/{{request.host}}{{request.path}}\", host = \"o.example\" }}\nto = {origin:?}\n"
        ),
        _ => format!(
            "request_headers = {{ remove = [\"x-a\"], add = {{ x-d = \"{{client.ip}} {{request.header.x-a}}\" }} }}\nto = {origin:?}\n"
        ),
    }
}

fn one(chance: &mut StdRng, of: &[&'static str]) -> &'static str {
    of.choose(chance).expect("at least one")
}
