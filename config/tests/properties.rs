//! What holds for every configuration: nothing panics, the canonical form reads back, formatting
//! twice is formatting once.

use proptest::prelude::*;
use sluice_config::{Snapshot, Sources, Style, check, format, render};

fn snapshot(text: &str) -> Option<std::sync::Arc<Snapshot>> {
    check(&Sources::from_text("sluice.toml", text), None).snapshot
}

/// Checks, renders and formats, and looks at nothing.
fn survive(text: &str) {
    let sources = Sources::from_text("sluice.toml", text).and_text("more.toml", text);
    let report = check(&sources, None);
    for style in [Style::Plain, Style::Color, Style::Json] {
        render(&report.problems, &sources, style);
    }
    let json = Sources::from_json("wire", text);
    render(&check(&json, None).problems, &json, Style::Plain);
    if let Ok(once) = format(text) {
        assert_eq!(
            format(&once).as_deref(),
            Ok(once.as_str()),
            "formatting {text:?}"
        );
    }
}

/// A word that means something somewhere.
fn word() -> impl Strategy<Value = String> {
    const WORDS: [&str; 66] = [
        "[listeners.web]\n",
        "[routes.app]\n",
        "[[routes.app.rules]]\n",
        "[upstreams.u]\n",
        "[filters.f]\n",
        "[process]\n",
        "[egress]\n",
        "[egress.allow.a]\n",
        "protocol = \"forward-proxy\"\n",
        "basic",
        "from",
        "ports",
        "[dns]\n",
        "[access_log]\n",
        "on_error = \"contain\"\n",
        "address = \":80\"\n",
        "address",
        "protocol = \"http\"\n",
        "hosts",
        "listeners",
        "to",
        "match",
        "path",
        "prefix",
        "starts_with",
        "regex",
        "headers",
        "query",
        "cookies",
        "client",
        "method",
        "redirect",
        "respond",
        "rewrite",
        "use",
        "timeout",
        "limits",
        "timeouts",
        "endpoints",
        "weight",
        "name",
        " = ",
        "\"",
        "\"web\"",
        "\"u\"",
        "\"10s\"",
        "\"64KiB\"",
        "\"off\"",
        "\"/a\"",
        "\"*.example.com\"",
        "\"{1}\"",
        "\"${NAME}\"",
        "\"${NAME:-x}\"",
        "\"$${\"",
        "\"(a)b\"",
        "{ ",
        " }",
        "[",
        "]",
        ", ",
        "\n",
        "# c\n",
        "10",
        "-1",
        "true",
        "\u{feff}",
    ];
    prop_oneof![
        9 => prop::sample::select(&WORDS[..]).prop_map(str::to_owned),
        1 => "\\PC{0,6}",
    ]
}

const EXAMPLE: &str = include_str!("../testdata/everything.in.toml");

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_panics(text in "(?s).{0,80}") {
        survive(&text);
    }

    #[test]
    fn no_sequence_of_words_panics(words in prop::collection::vec(word(), 0..40)) {
        survive(&words.concat());
    }

    #[test]
    fn no_damage_to_a_file_panics(from in 0..EXAMPLE.len(), length in 0usize..60, with in word()) {
        let start = EXAMPLE.floor_char_boundary(from);
        let end = EXAMPLE.ceil_char_boundary((from + length).min(EXAMPLE.len()));
        survive(&format!("{}{with}{}", &EXAMPLE[..start], &EXAMPLE[end..]));
    }

    #[test]
    fn what_is_formatted_says_the_same(lines in prop::collection::vec(line(), 0..12)) {
        let text = configuration(&lines);
        let formatted = format(&text).unwrap();
        prop_assert_eq!(snapshot(&formatted), snapshot(&text));
        prop_assert_eq!(format(&formatted).unwrap(), formatted);
    }

    #[test]
    fn the_canonical_form_checks_to_an_equal_snapshot(lines in prop::collection::vec(line(), 0..12)) {
        let text = configuration(&lines);
        let report = check(&Sources::from_text("a.toml", &text), None);
        prop_assert_eq!(&report.problems, &[]);
        let before = report.snapshot.unwrap();
        for (form, sources) in [
            ("json", Sources::from_json("wire", &before.to_json())),
            ("toml", Sources::from_text("b.toml", &before.to_toml())),
        ] {
            let again = check(&sources, None);
            prop_assert_eq!(&again.problems, &[], "{}: {}", form, &sources.files[0].text);
            prop_assert_eq!(again.snapshot.unwrap(), std::sync::Arc::clone(&before), "{}: {}", form, &sources.files[0].text);
        }
    }
}

/// A rule that is valid by itself.
fn line() -> impl Strategy<Value = String> {
    let conditions = prop::sample::select(vec![
        "",
        "match = {}",
        "match = { path = \"/a\" }",
        "match = [{ path = { prefix = \"/a/\" } }, {}]",
        "match = { path = { starts_with = \"/a\" }, method = \"GET\" }",
        "match = { headers = { X-A = \"1\", x-b = { present = false } }, method = [\"GET\", \"POST\"] }",
        "match = { query = { \"a b\" = { regex = \"x{2}\" } }, cookies = { c = { starts_with = \"s\" } } }",
        "match = { client = [\"10.0.0.0/8\", \"::1\"], listener = \"web\" }",
    ]);
    let actions = prop::sample::select(vec![
        "to = \"u\"",
        "to = \"10.0.0.1:80\"",
        "to = [{ upstream = \"u\", weight = 0 }, \"http://Example.com\"]",
        "to = { service = \"reviews\", port = 9080, weight = 3 }",
        "to = { address = \"unix:/run/a\" }",
        "redirect = { scheme = \"https\" }",
        "redirect = { path = \"/{request.host}\", keep_query = false, status = 308 }",
        "redirect = { host = \"B.example\", port = 8443, regex = { match = \"/(.*)\", to = \"/x/{1}\" } }",
        "respond = {}",
        "respond = { status = 404, body = \"{ $${a} }\", headers = { a = [\"{{x\", \"{client.ip}\"] } }",
        "respond = { file = \"a.txt\" }",
        "refused = true",
    ]);
    let filters = prop::sample::select(vec![
        "",
        "use = [\"f\"]",
        "max_body = \"off\"",
        "max_body = \"1000B\"",
        "upgrade = { protocols = [\"WebSocket\"], idle_timeout = \"off\", max_duration = \"90m\" }",
        "upgrade = { protocols = [] }",
        "timeout = \"1m30s\"",
        "timeout = \"off\"",
        "request_headers = { set = { a = \"{request.header.X-Y}\" }, add = { b = [\"1\", \"2\"], c = \"3\" }, remove = \"d\" }",
        "response_headers = {}",
        "rewrite = { path = \"/new\", host = \"{request.host}:80\" }",
        "rewrite = { regex = { match = \"/a(b)\", to = \"/{1}\" } }",
        "rewrite = { host = \"Example.com:8080\" }",
    ]);
    (conditions, actions, filters).prop_map(|(a, b, c)| format!("{a}\n{b}\n{c}\n"))
}

fn configuration(rules: &[String]) -> String {
    let head = "[listeners.web]\naddress = \":80\"\nhttps_redirect = true\ntrusted_hops = 2\nlimits = { connections = \"off\" }\n\
        [upstreams.u]\nendpoints = [\"a:80\", { address = \"[::1]:1\", weight = 5 }]\npool = { max_age = \"1d\" }\n\
        [filters.f]\nmax_body = \"2MiB\"\n[routes.app]\nhosts = [\"*.Example.com\", \"*\", \"Bücher.example\"]\nto = \"u\"\ntimeout = \"3s\"\n";
    let rules = rules
        .iter()
        .map(|rule| format!("[[routes.app.rules]]\n{rule}"));
    format!("{head}{}", rules.collect::<String>())
}
