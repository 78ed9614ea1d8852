//! What the check accepts, and what it makes of it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;

use sluice_config::{Report, Snapshot, Sources, Style, check, model::Action, names::RouteName};

fn checked(text: &str) -> Report {
    check(&Sources::from_text("sluice.toml", text), None)
}

#[test]
fn the_smallest_useful_file_listens_on_8080_and_forwards() {
    let report = checked("[routes.app]\nhosts = [\"App.Example.com.\"]\nto = \"10.0.0.5:8080\"\n");
    assert_eq!(report.problems, []);
    let snapshot = report.snapshot.unwrap();
    let (_, listener) = snapshot.listeners.first_key_value().unwrap();
    assert!(listener.implied);
    assert_eq!(listener.address.to_string(), "[::]:8080");
    let (_, route) = snapshot.routes.first_key_value().unwrap();
    assert_eq!(route.hosts[0].to_string(), "app.example.com");
    assert_eq!(route.listeners[0].as_str(), "default");
    assert!(matches!(&route.rules[0].action, Action::Forward(targets) if targets.len() == 1));
}

#[test]
fn an_empty_file_is_fine() {
    let report = checked("");
    assert_eq!(report.problems, []);
    assert!(report.snapshot.is_some());
}

fn snapshot(text: &str) -> Arc<Snapshot> {
    let report = checked(text);
    assert_eq!(report.problems, []);
    report.snapshot.unwrap()
}

const BEFORE: &str = "\
on_error = \"contain\"
[listeners.web]
address = \":80\"
[listeners.other]
address = \":81\"
[routes.app]
to = \"u\"
[routes.gone]
to = \"u\"
[upstreams.u]
endpoints = [\"10.0.0.1:80\"]
[access_log]
queue = 7
";

#[test]
fn a_refused_object_keeps_its_previous_version() {
    let before = snapshot(BEFORE);
    let now = BEFORE
        .replace(
            "[routes.gone]\nto = \"u\"\n",
            "[routes.new]\nto = \"10.0.0.9:80\"\n",
        )
        .replace("\":81\"", "\"eighty\"")
        .replace("10.0.0.1:80", "10.0.0.1")
        .replace("queue = 7", "queue = 0")
        .replace("[routes.app]\nto", "[routes.app]\npriority = \"high\"\nto");
    let report = check(&Sources::from_text("a.toml", &now), Some(&before));
    assert_eq!(report.problems.len(), 4, "{:?}", report.problems);
    let after = report.snapshot.unwrap();
    assert_eq!(after.listeners, before.listeners);
    assert_eq!(after.upstreams, before.upstreams);
    assert_eq!(after.access_log, before.access_log);
    let names: Vec<&str> = after.routes.keys().map(RouteName::as_str).collect();
    assert_eq!(names, ["app", "new"]);
    let app = &after.routes[&RouteName::new("app").unwrap()];
    assert_eq!(Some(app), before.routes.values().next());
}

#[test]
fn what_refers_to_a_refused_object_without_a_previous_version_is_refused_with_it() {
    let now = BEFORE
        .replace("\":81\"", "\"eighty\"")
        .replace("10.0.0.1:80", "10.0.0.1");
    let after = check(&Sources::from_text("a.toml", &now), None)
        .snapshot
        .unwrap();
    assert_eq!(after.listeners.len(), 1);
    for route in after.routes.values() {
        assert_eq!(route.listeners.len(), 1);
        assert!(
            route
                .rules
                .iter()
                .all(|rule| rule.action == Action::Refused)
        );
    }
}

#[test]
fn a_mistake_that_belongs_to_no_object_is_never_contained() {
    for broken in [
        "nonsense = 1\n",
        "[routes.\"b@d\"]\nto = \"10.0.0.1:80\"\n",
        "[routes.x]\nto = 1.2.3\n",
        "[nonsense]\n",
    ] {
        let text = format!(
            "{}{broken}",
            if broken.starts_with('n') { "" } else { BEFORE }
        );
        let text = if broken.starts_with('n') {
            format!("{broken}{BEFORE}")
        } else {
            text
        };
        let report = check(
            &Sources::from_text("a.toml", &text),
            Some(&snapshot(BEFORE)),
        );
        assert!(report.snapshot.is_none(), "{broken}");
        assert_eq!(report.problems.len(), 1, "{broken}: {:?}", report.problems);
    }
}

#[test]
fn equal_content_has_equal_versions_and_other_content_has_others() {
    let text = BEFORE.replace("[routes.app]", "# a comment\n[routes.app]");
    assert_eq!(snapshot(BEFORE).version, snapshot(&text).version);
    assert_ne!(
        snapshot(BEFORE).version,
        snapshot(&BEFORE.replace("\":81\"", "\":82\"")).version
    );
}

#[test]
fn what_comes_as_json_is_not_substituted_and_has_no_place() {
    let json =
        r#"{"routes": {"app": {"hosts": ["a"], "respond": {"body": "${HOME}"}, "nonsense": 1}}}"#;
    let report = check(&Sources::from_json("wire", json), None);
    assert_eq!(report.problems.len(), 1);
    assert_eq!(report.problems[0].at, "routes.app.nonsense");
    assert_eq!(report.problems[0].place, None);
    let json = json.replace(r#", "nonsense": 1"#, "");
    let report = check(&Sources::from_json("wire", &json), None);
    assert_eq!(report.problems, []);
    assert!(report.snapshot.unwrap().to_json().contains("${HOME}"));
}

#[test]
fn sets_of_filters_are_overlaid_in_order_and_own_keys_win() {
    let snapshot = snapshot(
        "[filters.a]\nmax_body = \"1KiB\"\nrewrite = { host = \"a\" }\n\
         [filters.b]\nmax_body = \"2KiB\"\n\
         [routes.app]\nuse = [\"a\", \"b\"]\nrewrite = { host = \"own\" }\nto = \"10.0.0.1:80\"\n",
    );
    let filters = &snapshot.routes.values().next().unwrap().filters;
    assert_eq!(filters.max_body.unwrap().get(), Some(2048));
    assert_eq!(
        filters
            .rewrite
            .as_ref()
            .unwrap()
            .host
            .as_ref()
            .unwrap()
            .as_literal(),
        Some("own")
    );
}

#[test]
fn all_names_that_serde_would_hide_are_reported() {
    // Each of these is inside a value that may have two shapes, where a plain untagged enum would
    // only say that nothing fits.
    let report = checked(
        "[routes.app]\nto = [{ upstream = 1, wight = 2 }]\n\
         [[routes.app.rules]]\nmatch = [{ path = { prefx = \"/\" } }, { headers = { a = { present = \"yes\" } } }]\nto = true\n",
    );
    let found: Vec<(&str, &str)> = report
        .problems
        .iter()
        .map(|p| (p.code, p.at.as_str()))
        .collect();
    assert_eq!(
        found,
        [
            ("wrong_type", "routes.app.to[0].upstream"),
            ("unknown_key", "routes.app.to[0].wight"),
            ("unknown_key", "routes.app.rules[0].match[0].path.prefx"),
            (
                "wrong_type",
                "routes.app.rules[0].match[1].headers.a.present"
            ),
            ("wrong_type", "routes.app.rules[0].to"),
        ]
    );
}

#[test]
fn programs_get_one_array_with_every_problem() {
    let sources = Sources::from_text("a.toml", "[routes.app]\nto = \"u\"\nhosst = [\"a\"]\n");
    let report = check(&sources, None);
    let json: serde_json::Value =
        serde_json::from_str(&report.render(&sources, Style::Json)).unwrap();
    assert_eq!(
        json,
        serde_json::json!([
            {
                "severity": "error", "file": "a.toml", "line": 2, "column": 6, "code": "unknown_upstream",
                "at": "routes.app.to", "what": "there is no upstream named \"u\"", "hint": "there is no upstream at all",
            },
            {
                "severity": "error", "file": "a.toml", "line": 3, "column": 1, "code": "unknown_key",
                "at": "routes.app.hosst", "what": "there is no key \"hosst\" in routes.app", "hint": "did you mean \"hosts\"?",
            },
        ])
    );
}

#[test]
fn a_mistake_in_every_route_of_a_large_configuration_is_reported_in_each() {
    let routes = (0..2000)
        .map(|n| format!("[routes.r{n}]\nhosts = [\"h{n}.example\"]\nto = \"missing{n}\"\n"));
    let report = checked(&routes.collect::<String>());
    assert_eq!(report.problems.len(), 2000);
    assert_eq!(report.problems[1999].place.as_ref().unwrap().line, 6000);
}

#[test]
fn what_is_shown_of_a_configuration_has_no_secret() {
    let snapshot = snapshot(
        "[acme.a]\ndirectory = \"https://a/\"\nchallenge = \"dns-01\"\n\
         external_account = { key_id = \"id\", key = \"c2VjcmV0\" }\n\
         dns = { webhook = { url = \"https://b/\", headers = { authorization = \"c2VjcmV0\" } } }\n\
         [acme.b]\ndirectory = \"https://a/\"\nchallenge = \"dns-01\"\n\
         dns = { rfc2136 = { server = \"10.0.0.1\", zone = \"a\", key_name = \"k\", key = \"c2VjcmV0\" } }\n\
         [acme.c]\ndirectory = \"https://a/\"\n\
         external_account = { key_id = \"id\", key = \"file:/run/eab\" }\n\
         [storage.etcd]\nendpoints = \"http://a\"\nuser = \"u\"\npassword = \"c2VjcmV0\"\n",
    );
    assert_eq!(snapshot.to_json().matches("c2VjcmV0").count(), 4);
    assert!(!format!("{snapshot:?}").contains("c2VjcmV0"));
    let shown = snapshot.redacted().to_json();
    assert_eq!(shown.matches("c2VjcmV0").count(), 0);
    assert_eq!(shown.matches("\"redacted\"").count(), 4);
    assert!(shown.contains("file:/run/eab"), "a path is no secret");
}
