//! The access log as an operator reads it: formats, filters, fields, and what it says of failures.

use std::{path::Path, time::Duration};

use serde_json::Value;
use sluice_tests::{
    Origin,
    eventually::eventually,
    gateway,
    origin::{closed_port, ok},
};
use tempfile::TempDir;

/// A log in a folder of its own.
struct Log(TempDir);

impl Log {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn config(&self, file: &str, settings: &str, rest: &str) -> String {
        let path = self.0.path().join(file).display().to_string();
        format!("[access_log]\noutput = {{ file = {path:?} }}\n{settings}\n{rest}")
    }

    async fn lines(&self, file: &str, count: usize) -> Vec<String> {
        let path = self.0.path().join(file);
        eventually(&format!("{count} lines in {file}"), || {
            Some(read(&path)).filter(|lines| lines.len() >= count)
        })
        .await
    }
}

fn read(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let complete = text.rfind('\n').map_or("", |end| &text[..end]);
    complete.lines().map(str::to_owned).collect()
}

const ROUTES: &str = r#"
[[routes.app.rules]]
match = { path = "/missing" }
respond = { status = 404 }

[[routes.app.rules]]
match = { path = "/broken" }
respond = { status = 503 }

[[routes.app.rules]]
respond = { body = "hello" }
"#;

#[tokio::test]
async fn lines_have_the_classic_formats_and_no_client_breaks_out_of_them() {
    for (format, end) in [
        ("common", "\"GET /a HTTP/1.1\" 200 5"),
        (
            "combined",
            "\"GET /a HTTP/1.1\" 200 5 \"http://a/b\" \"\\\" 200 \\\\ \\x09-\"",
        ),
        (
            "{status} {route}/{rule} {upstream} {{{bytes_out}}",
            "200 app/#3 - {5}",
        ),
    ] {
        let log = Log::new();
        let settings = format!("format = {format:?}");
        let gateway = gateway(&log.config("a.log", &settings, ROUTES)).await;
        let mut request = b"GET /a HTTP/1.1\r\nHost: a\r\nReferer: http://a/b?token=1\r\n".to_vec();
        request.extend_from_slice(b"User-Agent: \" 200 \\ \t-\r\n\r\n");

        assert_eq!(gateway.ask(&request).await.status, 200);

        let lines = log.lines("a.log", 1).await;
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].ends_with(end), "{:?} {end:?}", lines[0]);
        if format != "{status} {route}/{rule} {upstream} {{{bytes_out}}" {
            assert!(lines[0].starts_with("127.0.0.1 - - ["), "{}", lines[0]);
        }
    }
}

#[tokio::test]
async fn only_what_the_filter_admits_is_written() {
    let log = Log::new();
    let settings = "filter = { status = [\"5xx\", 404] }";
    // One worker, so that lines are in the order of requests.
    let gateway = gateway::Gateway::start(&log.config("a.log", settings, ROUTES), 1).await;
    for path in ["/", "/missing", "/other", "/broken"] {
        gateway.get("a", path).await;
    }
    let paths = |lines: Vec<String>| -> Vec<String> {
        let lines = lines.iter().map(|line| serde_json::from_str(line));
        lines
            .map(|line: Result<Value, _>| line.expect("JSON")["path"].to_string())
            .collect()
    };
    assert_eq!(
        paths(log.lines("a.log", 2).await),
        ["\"/missing\"", "\"/broken\""]
    );

    let slow = Origin::start(|mut peer| async move {
        while let Some(request) = peer.request().await {
            if request.start.contains("/slow") {
                tokio::time::sleep(Duration::from_millis(60)).await;
            }
            peer.send(ok("x")).await;
        }
    })
    .await;
    let rest = format!("[routes.app]\nto = \"{}\"\n", slow.address());
    let settings = "filter = { status = \"2xx\", min_duration = \"50ms\" }";
    gateway.reload(&log.config("b.log", settings, &rest)).await;
    for path in ["/slow", "/fast", "/slow"] {
        assert_eq!(gateway.get("a", path).await.status, 200);
    }
    assert_eq!(
        paths(log.lines("b.log", 2).await),
        ["\"/slow\"", "\"/slow\""]
    );
}

#[tokio::test]
async fn fields_are_dropped_and_redacted() {
    let log = Log::new();
    let settings = "fields = { drop = [\"peer\", \"time\"], redact = \"client\" }";
    let gateway = gateway(&log.config("a.log", settings, ROUTES)).await;
    gateway.get("a", "/").await;
    let lines = log.lines("a.log", 1).await;
    let line: Value = serde_json::from_str(&lines[0]).expect("JSON");
    assert_eq!(line.get("peer"), None);
    assert_eq!(line.get("time"), None);
    assert_eq!(line["client"], "redacted");
    assert_eq!(line["status"], 200);
    assert!(line["request_id"].is_string());
}

#[tokio::test]
async fn a_reload_switches_the_log_and_loses_no_line() {
    let log = Log::new();
    let gateway = gateway(&log.config("a.log", "format = \"{path}\"", ROUTES)).await;
    let mut client = gateway.connect().await;
    for number in 0..50 {
        client.get("a", &format!("/{number}")).await;
    }
    gateway
        .reload(&log.config("b.log", "format = \"{method} {path}\"", ROUTES))
        .await;
    let mut client = gateway.connect().await;
    for number in 50..100 {
        client.get("a", &format!("/{number}")).await;
    }
    let off = format!("[access_log]\noutput = \"off\"\n{ROUTES}");
    gateway.reload(&off).await;
    gateway.get("a", "/off").await;

    let first: Vec<_> = (0..50).map(|number| format!("/{number}")).collect();
    let second: Vec<_> = (50..100).map(|number| format!("GET /{number}")).collect();
    assert_eq!(log.lines("a.log", 50).await, first);
    assert_eq!(log.lines("b.log", 50).await, second);
}

#[tokio::test]
async fn an_answer_says_how_long_connecting_and_the_first_byte_took() {
    let origin = Origin::text("x").await;
    let gateway =
        gateway::Gateway::start(&format!("[routes.app]\nto = \"{}\"\n", origin.address()), 1).await;
    let mut client = gateway.connect().await;
    client.get("a", "/first").await;
    client.get("a", "/second").await;
    let lines = gateway.log().wait(2).await;
    let ms = |line: &Value, field: &str| line[field].as_f64();
    assert!(ms(&lines[0], "connect_ms").is_some());
    assert_eq!(lines[1]["reused"], true);
    assert_eq!(ms(&lines[1], "connect_ms"), None);
    for line in &lines {
        let first = ms(line, "first_byte_ms").expect("there was an answer");
        let total = ms(line, "duration_ms").expect("always there");
        assert!(first > 0.0 && first <= total, "{line}");
        assert_eq!(line["failed_ms"], Value::Null);
        assert_eq!(line["retry"], Value::Null);
    }
}

#[tokio::test]
async fn a_failure_says_which_endpoint_after_how_long_and_why_it_was_not_repeated() {
    let (dead, _held) = closed_port();
    let silent = Origin::start(|mut peer| async move {
        peer.request().await;
        peer.hold().await;
    })
    .await;
    let hangs_up = Origin::start(|mut peer| async move {
        peer.request().await;
    })
    .await;
    let once = Origin::start(|mut peer| async move {
        if peer.request().await.is_some() {
            peer.send(ok("x")).await;
            peer.request().await;
        }
    })
    .await;
    let config = format!(
        "[routes.dead]\nhosts = \"dead\"\nto = \"{dead}\"\n\
         [upstreams.silent]\nendpoints = \"{}\"\ntimeouts = {{ response_head = \"80ms\" }}\n\
         [routes.silent]\nhosts = \"silent\"\nto = \"silent\"\n\
         [routes.late]\nhosts = \"late\"\nto = \"{}\"\ntimeout = \"60ms\"\n\
         [routes.once]\nhosts = \"once\"\nto = \"{}\"\n\
         [routes.hangs_up]\nhosts = \"hangs-up\"\nto = \"{}\"\n",
        silent.address(),
        silent.address(),
        once.address(),
        hangs_up.address(),
    );
    let gateway = gateway::Gateway::start(&config, 1).await;
    let mut client = gateway.connect().await;
    for host in ["dead", "silent", "late", "hangs-up", "once"] {
        client.get(host, "/").await;
    }
    client
        .send("POST / HTTP/1.1\r\nHost: once\r\nContent-Length: 1\r\n\r\nx")
        .await;
    client.reply().await;

    let lines = gateway.log().wait(6).await;
    let words = |index: usize| {
        let line: &Value = &lines[index];
        let text = |field: &str| line[field].as_str().unwrap_or("-").to_owned();
        (text("verdict"), text("endpoint"), text("retry"))
    };
    let expected = |verdict: &str, endpoint: String, retry: &str| {
        (verdict.to_owned(), endpoint, retry.to_owned())
    };
    let at = |origin: &Origin| origin.address().to_string();
    assert_eq!(
        words(0),
        expected("connect", dead.to_string(), "not_connected")
    );
    assert_eq!(
        words(1),
        expected("response_timeout", at(&silent), "would_not_help")
    );
    assert_eq!(
        words(2),
        expected("request_timeout", at(&silent), "out_of_time")
    );
    assert_eq!(
        words(3),
        expected("upstream_reset", at(&hangs_up), "new_connection")
    );
    assert_eq!(words(4), expected("-", at(&once), "-"));
    assert_eq!(
        words(5),
        expected("upstream_reset", at(&once), "not_idempotent")
    );
    assert_eq!(lines[5]["reused"], true);
    assert_eq!(lines[0]["flags"], "UF");
    assert_eq!(lines[4]["flags"], Value::Null);
    for (index, least) in [(0, 0.0), (1, 80.0), (2, 50.0), (3, 0.0), (5, 0.0)] {
        let failed = lines[index]["failed_ms"].as_f64();
        assert!(failed.is_some_and(|ms| ms >= least), "{}", lines[index]);
    }
}
