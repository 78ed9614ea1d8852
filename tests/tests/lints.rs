//! What a lint claims is what would happen: each witness, asked of `explain`, shows its finding, in
//! random configurations whose rules often stand in each other's way.

use http::{HeaderName, HeaderValue};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use sluice_config::{Problem, Snapshot, Sources, check, names::ListenerName};
use sluice_gateway::{
    explain::{Asked, AskedStream, Hello, explain, explain_stream},
    route::{Explanation, Outcome},
};

const CONFIGURATIONS: usize = 400;

const CONDITIONS: &[&str] = &[
    r#"path = "/a/b""#,
    r#"path = { prefix = "/a" }"#,
    r#"path = { prefix = "/" }"#,
    r#"path = { starts_with = "/a/b" }"#,
    r#"path = { regex = "/a/[b-d]+" }"#,
    r#"path = { regex = "/.*" }"#,
    r#"path = "/a/b", method = ["PUT", "GET"]"#,
    r#"method = "GET""#,
    r#"headers = { x-a = "1" }"#,
    r#"headers = { x-a = { present = true } }, path = { prefix = "/a/b" }"#,
    r#"query = { q = { starts_with = "a b" } }"#,
    r#"cookies = { c = "1" }, client = "10.1.0.0/16""#,
    r#"client = ["10.0.0.0/8", "fd00::/8"]"#,
    r#"listener = "web", path = { prefix = "/a" }"#,
    r#"destination = "10.1.0.0/16", destination_port = 80"#,
    r#"destination_port = ["1-9000"]"#,
];

/// Of raw streams and datagrams.
const CONNECTED: &[&str] = &[
    r#"client = "10.1.0.0/16""#,
    r#"client = ["10.0.0.0/8", "fd00::/8"]"#,
    r#"destination = "10.1.0.0/16""#,
    r#"destination = ["10.0.0.0/8"], destination_port = [1, "5000-5999"]"#,
    "destination_port = 5432",
    r#"destination_port = "1-65535""#,
];

/// Of those whose clients say in a handshake what they want.
const GREETED: &[&str] = &[
    r#"alpn = "h2""#,
    r#"alpn = ["x", "h2"]"#,
    r#"alpn = "y""#,
    r#"sni = "a.example""#,
    r#"sni = { starts_with = "a." }"#,
    r#"sni = { present = true }, destination_port = "1-6000""#,
    r#"sni = { regex = "[a-z]+.example" }, alpn = "h2""#,
];

const HOSTS: &[&str] = &["a.example", "*.example", "*"];

fn configuration(chance: &mut StdRng) -> String {
    let mut text = String::from(
        "[listeners.web]\naddress = \"0.0.0.0:80\"\n[listeners.inner]\naddress = \"127.0.0.1:8080\"\n",
    );
    for route in 0..chance.random_range(1..=3) {
        let host = HOSTS.choose(chance).unwrap_or(&"*");
        let priority = chance.random_range(0..=1);
        text.extend([format!(
            "[routes.r{route}]\nhosts = [\"{host}\"]\npriority = {priority}\n"
        )]);
        if chance.random_ratio(1, 2) {
            text += "listeners = [\"web\"]\n";
        }
        if chance.random_ratio(1, 2) {
            text += "respond = { body = \"all\" }\n";
        }
        for _ in 0..chance.random_range(1..=4) {
            let some: Vec<String> = (0..chance.random_range(1..=2))
                .filter_map(|_| CONDITIONS.choose(chance).map(|one| format!("{{ {one} }}")))
                .collect();
            text.extend([format!(
                "[[routes.r{route}.rules]]\nmatch = [{}]\nrespond = {{ body = \"one\" }}\n",
                some.join(", ")
            )]);
        }
    }
    text
}

/// Raw streams, names passed through and ended, datagrams.
fn streams(chance: &mut StdRng) -> String {
    let mut text = String::from(
        "[listeners.db]\naddress = \":5432\"\nprotocol = \"tcp\"\n\
         [listeners.dns]\naddress = \":53\"\nprotocol = \"udp\"\n\
         [listeners.tls]\naddress = \":443\"\nprotocol = \"tls\"\n\
         certificates = { auto = \"local\" }\ntls = { alpn = [\"x\", \"h2\"] }\n",
    );
    for route in 0..chance.random_range(1..=4) {
        let host = HOSTS.choose(chance).unwrap_or(&"*");
        let (listener, mode) = [
            ("db", "tcp"),
            ("dns", "udp"),
            ("tls", "passthrough"),
            ("tls", "tcp"),
        ][chance.random_range(0..4)];
        let host = if listener == "tls" { host } else { "*" };
        let priority = chance.random_range(0..=1);
        text.extend([format!(
            "[routes.r{route}]\nlisteners = \"{listener}\"\nmode = \"{mode}\"\n\
             hosts = [\"{host}\"]\npriority = {priority}\n"
        )]);
        if chance.random_ratio(1, 2) {
            text += "to = \"10.0.0.1:80\"\n";
        }
        for _ in 0..chance.random_range(1..=4) {
            let mut one = || {
                let greeted = listener == "tls" && chance.random_ratio(1, 2);
                let conditions = if greeted { GREETED } else { CONNECTED };
                conditions.choose(chance).map(|one| format!("{{ {one} }}"))
            };
            let some: Vec<String> = one().into_iter().chain(one()).collect();
            text.extend([format!(
                "[[routes.r{route}.rules]]\nmatch = [{}]\nto = \"10.0.0.2:80\"\n",
                some.join(", ")
            )]);
        }
    }
    text
}

/// The words of a command line, as a shell parts them; only single quotes are used.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().expect("a word").push(c),
        }
    }
    words
}

fn asked(witness: &str) -> Asked {
    let mut words = words(witness).into_iter();
    let mut next = || words.next().expect("a word");
    let mut asked = Asked {
        method: next().parse().expect("a method"),
        url: next().parse().expect("a URL"),
        headers: Vec::new(),
        client: None,
        listener: None,
        destination: None,
    };
    while let Some(option) = words.next() {
        let value = words.next().expect("a value");
        match option.as_str() {
            "-H" => {
                let (name, value) = value.split_once(": ").expect("a header");
                let name: HeaderName = name.parse().expect("a name");
                asked
                    .headers
                    .push((name, HeaderValue::from_str(value).expect("a value")));
            }
            "--client-ip" => asked.client = Some(value.parse().expect("an address")),
            "--listener" => asked.listener = Some(ListenerName::new(&value).expect("a name")),
            "--destination" => asked.destination = Some(value.parse().expect("an address")),
            other => panic!("{other} is no option of explain"),
        }
    }
    asked
}

fn asked_stream(witness: &str) -> AskedStream {
    let mut asked = AskedStream {
        datagram: false,
        to: None,
        hello: None,
        client: None,
        destination: None,
    };
    let words = words(witness);
    for pair in words.chunks(2) {
        let [option, value] = pair else {
            panic!("an option without a value: {witness}");
        };
        match option.as_str() {
            "--tcp" => asked.to = Some(value.clone()),
            "--udp" => (asked.datagram, asked.to) = (true, Some(value.clone())),
            "--sni" => asked.hello.get_or_insert_with(Hello::default).sni = Some(value.clone()),
            "--alpn" => {
                let hello = asked.hello.get_or_insert_with(Hello::default);
                hello.alpn.push(value.clone());
            }
            "--client-ip" => asked.client = Some(value.parse().expect("an address")),
            "--destination" => asked.destination = Some(value.parse().expect("an address")),
            other => panic!("{other} is no option of explain"),
        }
    }
    asked
}

/// What explain says of a witness.
fn explained(snapshot: &Snapshot, witness: &str) -> Option<Explanation> {
    if witness.starts_with("--") {
        let report = explain_stream(snapshot, &asked_stream(witness));
        report.expect("an explanation").route
    } else {
        let report = explain(snapshot, &asked(witness));
        report.expect("an explanation").route
    }
}

/// The route, the rule and the match that a finding is about, as far as it says.
fn about(warning: &Problem) -> (&str, Option<String>, Option<usize>) {
    let below = warning.at.strip_prefix("routes.").expect("a route");
    let (route, rest) = below.split_once('.').unwrap_or((below, ""));
    let number = |after: &str| {
        let (_, tail) = rest.split_once(after)?;
        tail.split(']').next()?.parse::<usize>().ok()
    };
    let rule = match (number("rules["), warning.code) {
        (Some(position), _) => Some(format!("#{}", position + 1)),
        (None, "shadowed_rule") => Some("*".to_owned()),
        (None, _) => None,
    };
    (route, rule, number("match["))
}

/// Holds every witness of random configurations against explain; the codes of findings with how often
/// each was found.
fn hold(
    start: u64,
    configuration: fn(&mut StdRng) -> String,
) -> std::collections::BTreeMap<&'static str, usize> {
    let mut chance = StdRng::seed_from_u64(start);
    let mut seen = std::collections::BTreeMap::new();
    for _ in 0..CONFIGURATIONS {
        let text = configuration(&mut chance);
        let report = check(&Sources::from_text("sluice.toml", &text), None);
        let snapshot = report
            .snapshot
            .unwrap_or_else(|| panic!("{:?}\n{text}", report.problems));
        for warning in &report.warnings {
            let Some(witness) = &warning.witness else {
                continue;
            };
            let told = format!("{warning:?}\n{text}");
            let explanation = explained(&snapshot, witness);
            let explanation = explanation.unwrap_or_else(|| panic!("no way: {told}"));
            let chosen = explanation
                .chosen
                .unwrap_or_else(|| panic!("nothing chosen: {told}"));
            let (route, rule, matched) = about(warning);
            let mut those = explanation.candidates.iter().filter(|candidate| {
                candidate.place.route.as_str() == route
                    && rule
                        .as_deref()
                        .is_none_or(|rule| candidate.place.rule.as_str() == rule)
                    && matched.is_none_or(|matched| candidate.place.matched == Some(matched))
            });
            assert!(
                those.any(|candidate| candidate.outcome == Outcome::Later),
                "it does not match what it is about: {told}"
            );
            let is_it = chosen.route.as_str() == route
                && rule
                    .as_deref()
                    .is_none_or(|rule| chosen.rule.as_str() == rule)
                && matched.is_none_or(|matched| chosen.matched == Some(matched));
            assert!(!is_it, "it is reached: {told}");
            *seen.entry(warning.code).or_default() += 1;
        }
    }
    seen
}

#[test]
fn explain_shows_what_every_witness_is_said_to_show() {
    for seen in [hold(4, configuration), hold(5, streams)] {
        for code in [
            "shadowed_rule",
            "shadowed_match",
            "unreachable_host",
            "merged_by_specificity",
        ] {
            assert!(
                seen.get(code).is_some_and(|count| *count >= 10),
                "too few to tell: {seen:?}"
            );
        }
    }
}
