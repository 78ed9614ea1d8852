use std::{net::IpAddr, sync::Arc};

use http::Request;
use sluice_config::{
    model::{
        HeaderEdits, Host, Hsts, HstsTerms, HttpsRedirect, Limit, Listener, Part, PathChange,
        Pattern, Redirect, Rewrite, Variable,
    },
    names::ListenerName,
};

use super::*;
use crate::downstream::Connection;

fn downstream(scheme: &'static str) -> Downstream {
    Downstream {
        connection: Arc::new(Connection::new(
            1,
            ListenerName::new("web").expect("a name"),
            "192.0.2.7:55".parse().expect("a peer"),
            "[::ffff:127.0.0.1]:8080".parse().expect("an address"),
        )),
        client: IpAddr::from([192, 0, 2, 7]),
        trusted: false,
        scheme,
        request_id: HeaderValue::from_static("id-1"),
    }
}

fn parts(target: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().uri(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).expect("a request").into_parts().0
}

fn name(text: &str) -> model::HeaderName {
    model::HeaderName::new(text).expect("a header name")
}

fn header(text: &str) -> Part {
    Part::Variable(Variable::RequestHeader(name(text)))
}

fn text(text: &str) -> Part {
    Part::Text(text.to_owned())
}

fn template(parts: impl Into<Vec<Part>>) -> Template {
    Template {
        parts: parts.into(),
    }
}

fn listener(filters: Filters) -> Listener {
    let name = ListenerName::new("web").expect("a name");
    let mut listener = Listener::new(name, "127.0.0.1:80".parse().expect("an address"));
    listener.filters = filters;
    listener
}

/// Runs `filters` over a request and gives what goes upstream.
fn run(filters: Filters, path_match: Option<&PathMatch>, mut parts: Parts) -> Parts {
    let chain = Chain::of_listener(&listener(filters));
    let uri = parts.uri.clone();
    let none = HeaderMap::new();
    let downstream = downstream("http");
    let facts = facts(&downstream, &uri, &none, path_match);
    chain.on_request(&facts, &mut parts);
    parts
}

fn facts<'a>(
    downstream: &'a Downstream,
    uri: &'a http::Uri,
    headers: &'a HeaderMap,
    path_match: Option<&'a PathMatch>,
) -> Facts<'a> {
    Facts {
        downstream,
        method: "GET",
        host: Some("shop.example"),
        port: Some(8080),
        path: uri.path(),
        query: uri.query(),
        headers,
        listener: "web",
        route: "app",
        rule: "#1",
        upstream: None,
        path_match,
    }
}

fn rewritten(path_match: Option<&PathMatch>, change: PathChange, target: &str) -> String {
    let filters = Filters {
        rewrite: Some(Rewrite {
            path: Some(change),
            host: None,
        }),
        ..Filters::default()
    };
    let headers = [("x-evil", "../../admin?x#y/z"), ("host", "a")];
    run(filters, path_match, parts(target, &headers))
        .uri
        .to_string()
}

#[test]
fn edits_headers_in_the_order_remove_set_add() {
    let edits = HeaderEdits {
        remove: vec![name("x-a"), name("host"), name("content-length")],
        set: vec![
            (name("x-a"), template([text("was "), header("x-a")])),
            (name("x-b"), Template::literal("new")),
            (name("transfer-encoding"), Template::literal("chunked")),
        ],
        add: vec![(name("x-b"), template([Part::Variable(Variable::ClientIp)]))],
    };
    let filters = Filters {
        request_headers: Some(edits),
        ..Filters::default()
    };
    let headers = [
        ("host", "h"),
        ("content-length", "0"),
        ("x-a", "1"),
        ("x-a", "2"),
        ("x-b", "old"),
    ];
    let parts = run(filters, None, parts("/", &headers));
    let values = |name| parts.headers.get_all(name).iter().collect::<Vec<_>>();
    assert_eq!(values("x-a"), ["was 1, 2"]);
    assert_eq!(values("x-b"), ["new", "192.0.2.7"]);
    assert_eq!(values("host"), ["h"]);
    assert_eq!(values("content-length"), ["0"]);
    assert!(values("transfer-encoding").is_empty());
}

#[test]
fn no_template_can_end_a_header_line() {
    let uri = "/".parse().expect("a target");
    let (headers, downstream) = (HeaderMap::new(), downstream("http"));
    let facts = Facts {
        host: Some("a\r\nx: y\u{0}\u{7f}"),
        ..facts(&downstream, &uri, &headers, None)
    };
    let rendered = value(&template([Part::Variable(Variable::RequestHost)]), &facts);
    assert_eq!(rendered, "ax: y");
}

#[test]
fn response_templates_read_the_request_headers_that_were_kept() {
    let edits = HeaderEdits {
        set: vec![(
            name("x-echo"),
            template([header("x-in"), text("/"), header("x-in")]),
        )],
        ..HeaderEdits::default()
    };
    let filters = Filters {
        response_headers: Some(edits),
        ..Filters::default()
    };
    let chain = Chain::of_listener(&listener(filters));
    let request = parts("/", &[("x-in", "1"), ("x-out", "2")]);
    let (kept, downstream) = (chain.kept(&request.headers), downstream("http"));
    assert_eq!(kept.len(), 1);
    let mut headers = HeaderMap::new();
    chain.on_response(&facts(&downstream, &request.uri, &kept, None), &mut headers);
    assert_eq!(headers.get("x-echo").expect("set"), "1/1");
}

#[test]
fn replaces_prefixes_by_whole_segments() {
    let prefix = |text: &str| Some(PathMatch::Prefix(text.to_owned()));
    for (matched, new, target, expected) in [
        (prefix("/api"), "/v2", "/api/x?q=/api", "/v2/x?q=/api"),
        (prefix("/api"), "/v2", "/api", "/v2"),
        (prefix("/api"), "/v2", "/api/", "/v2/"),
        (prefix("/api"), "/", "/api/x", "/x"),
        (prefix("/api"), "/", "/api", "/"),
        (prefix("/"), "/v2", "/x", "/v2/x"),
        (None, "/v2", "/x", "/v2/x"),
        (
            Some(PathMatch::StartsWith("/ap".into())),
            "/v",
            "/api/x",
            "/vi/x",
        ),
        (Some(PathMatch::Exact("/a".into())), "/b", "/a", "/b"),
        (
            Some(PathMatch::Regex(Pattern::new("/.*").expect("valid"))),
            "/b",
            "/a",
            "/a",
        ),
    ] {
        let got = rewritten(matched.as_ref(), PathChange::Prefix(new.to_owned()), target);
        assert_eq!(got, expected, "{matched:?} {new} {target}");
    }
    assert_eq!(rewritten(None, PathChange::Prefix("/v2".into()), "*"), "*");
}

#[test]
fn strangers_cannot_leave_the_path_they_are_put_into() {
    let change = |parts: Vec<Part>| PathChange::Replace(template(parts));
    for (parts, expected) in [
        (
            vec![text("/u/"), header("x-evil")],
            "/u/..%2F..%2Fadmin%3Fx%23y%2Fz?q",
        ),
        (vec![text("/u/.."), text("/../x y?#")], "/x%20y%3F%23?q"),
        (vec![text("no-slash")], "/no-slash?q"),
        (vec![], "/?q"),
        (
            vec![text("/u"), Part::Variable(Variable::RequestPath)],
            "/u/a%2Fb?q",
        ),
    ] {
        assert_eq!(rewritten(None, change(parts), "/a%2Fb?q"), expected);
    }
}

#[test]
fn fills_captures_from_the_rule_or_from_the_rewrite() {
    let pattern = |text: &str| Pattern::new(text).expect("valid");
    let matched = PathMatch::Regex(pattern("/users/([0-9]+)(/.*)?"));
    let to = template([
        text("/u/"),
        Part::Capture(1),
        Part::Capture(2),
        Part::Capture(9),
    ]);
    let change = PathChange::Replace(to.clone());
    assert_eq!(
        rewritten(Some(&matched), change, "/users/7/x?q"),
        "/u/7/x?q"
    );
    let change = || PathChange::Regex {
        pattern: pattern("/a/(.*)"),
        to: to.clone(),
    };
    assert_eq!(rewritten(Some(&matched), change(), "/a/b"), "/u/b");
    assert_eq!(rewritten(Some(&matched), change(), "/b/a/b"), "/b/a/b");
}

#[test]
fn rewrites_the_host_only_to_something_that_is_one() {
    for (template, expected) in [
        (
            Template::literal("origin.internal:81"),
            "origin.internal:81",
        ),
        (template([header("x-host")]), "before"),
        (template([header("x-none")]), "before"),
    ] {
        let filters = Filters {
            rewrite: Some(Rewrite {
                path: None,
                host: Some(template),
            }),
            ..Filters::default()
        };
        let parts = run(
            filters,
            None,
            parts("/", &[("host", "before"), ("x-host", "u@x/y")]),
        );
        assert_eq!(parts.headers.get("host").expect("kept"), expected);
    }
}

#[test]
fn redirects_keep_what_they_do_not_change() {
    let keep = Redirect {
        status: 302,
        scheme: None,
        host: None,
        port: None,
        path: None,
        keep_query: true,
    };
    let https = Some("https".to_owned());
    let other = Some(Host::Name("other.example".to_owned()));
    let path = Some(PathChange::Prefix("/new".to_owned()));
    for (redirect_to, expected) in [
        (keep.clone(), "http://shop.example:8080/old/x?q=1"),
        (
            Redirect {
                scheme: https.clone(),
                ..keep.clone()
            },
            "https://shop.example/old/x?q=1",
        ),
        (
            Redirect {
                host: other,
                port: Some(80),
                ..keep.clone()
            },
            "http://other.example/old/x?q=1",
        ),
        (
            Redirect {
                port: Some(8443),
                scheme: https,
                ..keep.clone()
            },
            "https://shop.example:8443/old/x?q=1",
        ),
        (
            Redirect {
                path,
                keep_query: false,
                ..keep
            },
            "http://shop.example:8080/new/x",
        ),
    ] {
        let uri = "/old/x?q=1".parse().expect("a target");
        let (headers, downstream) = (HeaderMap::new(), downstream("http"));
        let matched = PathMatch::Prefix("/old".to_owned());
        let facts = facts(&downstream, &uri, &headers, Some(&matched));
        assert_eq!(redirect(&redirect_to, &facts), expected);
    }
}

#[test]
fn sends_everybody_to_https_who_is_not_there() {
    let uri = "/a?b".parse().expect("a target");
    let here = downstream("http");
    let at = |host, port| https_redirect(HttpsRedirect { status: 301, port }, &here, host, &uri);
    assert_eq!(at(Some("a"), 443).expect("redirected"), "https://a/a?b");
    assert_eq!(
        at(Some("a"), 8443).expect("redirected"),
        "https://a:8443/a?b"
    );
    assert_eq!(at(None, 443).expect("redirected"), "https://127.0.0.1/a?b");
    let there = downstream("https");
    assert_eq!(
        https_redirect(HttpsRedirect::default(), &there, Some("a"), &uri),
        None
    );
}

#[test]
fn the_nearest_level_that_speaks_wins_whole() {
    let levels = [
        Filters {
            max_body: Some(Limit::Off),
            ..Filters::default()
        },
        Filters {
            max_body: Some(Limit::At(5)),
            ..Filters::default()
        },
    ];
    assert_eq!(Chain::settle(&[&levels[0], &levels[1]]).max_body(), None);
    assert_eq!(Chain::settle(&[&levels[1], &levels[0]]).max_body(), Some(5));
    assert_eq!(
        Chain::settle(&[&Filters::default()]).max_body(),
        Some(1 << 30)
    );
}

/// What a browser gets of an answer in which the origin says `said`.
fn told(hsts: Hsts, scheme: &'static str, said: &[&'static str]) -> Vec<String> {
    let filters = Filters {
        hsts: Some(hsts),
        ..Filters::default()
    };
    let chain = Chain::of_listener(&listener(filters));
    let (request, downstream) = (parts("/", &[]), downstream(scheme));
    let mut headers = HeaderMap::new();
    for value in said {
        let value = HeaderValue::from_static(value);
        headers.append("strict-transport-security", value);
    }
    let none = HeaderMap::new();
    chain.on_response(&facts(&downstream, &request.uri, &none, None), &mut headers);
    let values = headers.get_all("strict-transport-security").iter();
    values
        .map(|value| value.to_str().expect("ASCII").to_owned())
        .collect()
}

#[test]
fn tells_browsers_of_https_over_tls_alone_and_in_one_voice() {
    let year = Hsts::On(HstsTerms::default());
    let all = Hsts::On(HstsTerms {
        include_subdomains: true,
        preload: true,
        ..HstsTerms::default()
    });
    let forget = Hsts::On(HstsTerms {
        max_age: std::time::Duration::ZERO,
        ..HstsTerms::default()
    });
    let origin = ["max-age=1", "max-age=2; includeSubDomains"];
    for (hsts, scheme, said, expected) in [
        (year, "https", &[][..], &["max-age=31536000"][..]),
        (year, "https", &origin, &["max-age=31536000"]),
        (year, "http", &[], &[]),
        (year, "http", &origin, &[]),
        (
            all,
            "https",
            &[],
            &["max-age=31536000; includeSubDomains; preload"],
        ),
        (forget, "https", &origin, &["max-age=0"]),
        (Hsts::Off, "https", &[], &[]),
        (Hsts::Off, "https", &origin, &origin),
    ] {
        assert_eq!(
            told(hsts, scheme, said),
            expected,
            "{hsts:?} {scheme} {said:?}"
        );
    }
}

#[test]
fn edits_of_response_headers_have_the_last_word_on_hsts() {
    let filters = Filters {
        hsts: Some(Hsts::On(HstsTerms::default())),
        response_headers: Some(HeaderEdits {
            remove: vec![name("strict-transport-security")],
            ..HeaderEdits::default()
        }),
        ..Filters::default()
    };
    let chain = Chain::of_listener(&listener(filters));
    let (request, downstream, none) = (parts("/", &[]), downstream("https"), HeaderMap::new());
    let mut headers = HeaderMap::new();
    chain.on_response(&facts(&downstream, &request.uri, &none, None), &mut headers);
    assert!(headers.is_empty());
}
