use sluice_config::{Sources, check};

use super::*;
use crate::route::Outcome;

const CONFIG: &str = r#"
[listeners.web]
address = "127.0.0.1:80"
trusted_proxies = ["10.0.0.0/8"]
response_headers = { set = { x-from = "listener" } }

[listeners.plain]
address = "127.0.0.1:8080"
https_redirect = true

[routes.shop]
listeners = ["web"]
hosts = ["shop.example.com"]
timeout = "10s"

[[routes.shop.rules]]
name = "canary"
match = { path = { prefix = "/cart" }, headers = { x-canary = "true" } }
rewrite = { prefix = "/v2" }
request_headers = { set = { x-upstream = "{upstream}" }, remove = ["x-secret"] }
to = [{ upstream = "cart", weight = 9 }, { address = "10.0.0.9:80", weight = 1 }]

[[routes.shop.rules]]
match = { path = { prefix = "/cart" } }
respond = { status = 418, headers = { x-path = "{request.path}" }, body = "tea" }

[upstreams.cart]
endpoints = ["10.0.0.1:80", { address = "10.0.0.2:80", weight = 3 }]
"#;

fn ask(method: &str, url: &str, headers: &[(&'static str, &'static str)]) -> Report {
    let report = check(&Sources::from_text("sluice.toml", CONFIG), None);
    assert_eq!(report.problems, []);
    let asked = Asked {
        method: method.parse().expect("a method"),
        url: url.parse().expect("a URL"),
        headers: headers
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect(),
        client: None,
        listener: None,
        destination: None,
    };
    explain(&report.snapshot.expect("a snapshot"), &asked).expect("explained")
}

#[test]
fn shows_the_way_of_a_forwarded_request() {
    let url = "https://shop.example.com/cart/./7?q";
    let report = ask("GET", url, &[("x-canary", "true"), ("x-secret", "1")]);
    assert_eq!(report.listener.as_str(), "web");
    assert!(report.trusted && report.matches());
    assert_eq!(report.client.to_string(), "127.0.0.1");
    let route = report.route.as_ref().expect("a route");
    let outcomes: Vec<&Outcome> = route.candidates.iter().map(|it| &it.outcome).collect();
    assert_eq!(outcomes, [&Outcome::Chosen, &Outcome::Later]);
    let sent = report.sent.as_ref().expect("sent");
    assert_eq!(sent.target, "/v2/7?q");
    let seen = |name: &str| {
        sent.headers
            .iter()
            .find(|(it, _)| it == name)
            .map(|it| &*it.1)
    };
    assert_eq!(seen("x-upstream"), Some("cart"));
    assert_eq!(seen("x-secret"), None);
    assert_eq!(seen("x-forwarded-proto"), Some("https"));
    assert_eq!(seen("x-forwarded-for"), Some("127.0.0.1, 10.0.0.0"));
    let Answer::Forward { targets } = &report.answer else {
        panic!("{:?}", report.answer);
    };
    assert_eq!(targets[0].percent, 90);
    assert_eq!(targets[0].endpoints[1].weight, 3);
    assert_eq!(targets[1].endpoints[0].address, "10.0.0.9:80");
    let text = report.to_string();
    for part in [
        "request   GET shop.example.com /cart/7?q",
        "+ shop canary, match 1: chosen",
        "rewrite           from the rule",
        "response_headers  from the listener",
        "timeout           10s",
        "  GET /v2/7?q",
        "cart (weight 9, 90 %, round-robin)",
    ] {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
}

#[test]
fn shows_answers_of_the_configuration_and_of_the_listener() {
    let report = ask("GET", "http://shop.example.com/cart", &[]);
    let text = report.to_string();
    assert!(
        text.contains("wants: header x-canary is \"true\"; is: absent"),
        "{text}"
    );
    assert!(text.contains("answered with 418"), "{text}");
    assert!(text.contains("x-path: /cart"), "{text}");

    let report = ask("GET", "http://any.example:8080/x?y", &[]);
    let location = "https://any.example/x?y".to_owned();
    assert_eq!(
        report.answer,
        Answer::Redirect {
            status: 301,
            location
        }
    );
    assert!(report.matches());
}

#[test]
fn names_the_nearest_route_and_what_stands_between() {
    let report = ask(
        "GET",
        "http://shop.example.com/carts",
        &[("x-canary", "true")],
    );
    assert!(!report.matches());
    let text = report.to_string();
    assert!(text.contains("nearest   shop canary"), "{text}");
    assert!(
        text.contains("wants: path is under /cart; is: /carts"),
        "{text}"
    );
    assert!(text.contains("refused with 404 no_route"), "{text}");

    let report = ask("GET", "http://shop.example.com/..", &[]);
    assert!(!report.matches());
    assert!(report.to_string().contains("refused with 400 bad_request"));
}

#[test]
fn says_which_listeners_there_are() {
    let report = check(&Sources::from_text("sluice.toml", CONFIG), None);
    let asked = Asked {
        method: Method::GET,
        url: Uri::from_static("http://a/"),
        headers: Vec::new(),
        client: None,
        listener: ListenerName::new("none").ok(),
        destination: None,
    };
    let refused = explain(&report.snapshot.expect("a snapshot"), &asked).expect_err("no listener");
    let text = refused.to_string();
    assert_eq!(
        text,
        "there is no listener named none; there are: plain, web"
    );
}

#[test]
fn a_url_comes_in_where_its_scheme_is_spoken() {
    const BOTH: &str = "[listeners.a-web]\naddress = \":8080\"\n\
        [listeners.b-secure]\naddress = \":8443\"\nprotocol = \"https\"\n\
        certificates = { auto = \"local\" }\n\
        [routes.shop]\nhosts = [\"shop.example.com\"]\nrespond = { body = \"hello\" }\n\
        [routes.plain]\nlisteners = [\"a-web\"]\nhosts = [\"plain.example.com\"]\n\
        respond = { body = \"hello\" }\n";
    let report = check(&Sources::from_text("sluice.toml", BOTH), None);
    assert_eq!(report.problems, []);
    let snapshot = report.snapshot.expect("a snapshot");
    for (url, listener) in [
        ("https://shop.example.com/", "b-secure"),
        ("http://shop.example.com/", "a-web"),
        // The port counts for more.
        ("https://shop.example.com:8080/", "a-web"),
        // And so does whether anybody answers.
        ("https://plain.example.com/", "a-web"),
        ("https://unknown.example.com/", "b-secure"),
        ("/", "a-web"),
    ] {
        let asked = Asked {
            method: Method::GET,
            url: url.parse().expect("a URL"),
            headers: Vec::new(),
            client: None,
            listener: None,
            destination: None,
        };
        let report = explain(&snapshot, &asked).expect("explained");
        assert_eq!(report.listener.as_str(), listener, "{url}");
    }
}

/// One listener on which anything may be spoken, with certificates that are asked of some, and one that ends
/// no TLS.
const MIXED: &str = r#"
[listeners.any]
address = "127.0.0.1:8443"
protocol = "auto"
startup = "postgres"
certificates = { auto = "local" }

[listeners.plain]
address = "127.0.0.1:8080"

[routes.shop]
hosts = ["shop.example.com"]
client_certificates = { ca = "ca.pem" }
respond = { body = "hello" }

[routes.db]
mode = "tcp"
listeners = ["any"]
client_certificates = { ca = "ca.pem" }
to = "10.0.0.1:5432"
"#;

fn mixed() -> Arc<Snapshot> {
    let report = check(&Sources::from_text("sluice.toml", MIXED), None);
    report
        .snapshot
        .unwrap_or_else(|| panic!("{:#?}", report.problems))
}

fn ask_stream(to: &str, hello: Option<(&str, &[&str])>) -> StreamReport {
    let asked = AskedStream {
        datagram: false,
        to: Some(to.to_owned()),
        hello: hello.map(|(name, alpn)| Hello {
            sni: Some(name.to_owned()),
            alpn: alpn.iter().map(|it| (*it).to_owned()).collect(),
        }),
        client: None,
        destination: None,
    };
    explain_stream(&mixed(), &asked).expect("explained")
}

#[test]
fn on_an_auto_listener_databases_come_out_of_tls_as_raw_streams() {
    let report = ask_stream("any", Some(("shop.example.com", &["postgresql"])));
    assert!(report.ended);
    assert_eq!(report.mode, Mode::Tcp);
    assert!(
        matches!(report.answer, StreamAnswer::Forward { .. }),
        "{report}"
    );
    assert!(
        report.to_string().contains("has to show a certificate"),
        "{report}"
    );

    let report = ask_stream("any", Some(("shop.example.com", &["h2"])));
    assert_eq!(report.answer, StreamAnswer::Requests);
    assert!(report.to_string().contains("--alpn postgresql"), "{report}");

    let report = ask_stream("any", Some(("shop.example.com", &["x"])));
    assert!(
        report.to_string().contains("no_application_protocol"),
        "{report}"
    );
}

#[test]
fn without_tls_nobody_can_show_the_certificate_that_a_route_demands() {
    let report = ask_stream("any", None);
    assert!(
        report.to_string().contains("closed, misdirected"),
        "{report}"
    );
    let snapshot = mixed();
    for (url, listener, status) in [
        ("http://shop.example.com/", "plain", Some(421)),
        ("http://shop.example.com/", "any", Some(421)),
        ("https://shop.example.com/", "any", None),
    ] {
        let asked = Asked {
            method: Method::GET,
            url: url.parse().expect("a URL"),
            headers: Vec::new(),
            client: None,
            listener: ListenerName::new(listener).ok(),
            destination: None,
        };
        let report = explain(&snapshot, &asked).expect("explained");
        let refused = match report.answer {
            Answer::Refuse { status, reason, .. } => Some((status, reason)),
            _ => None,
        };
        assert_eq!(
            refused,
            status.map(|it| (it, "misdirected")),
            "{listener} {url}"
        );
    }
}
