//! The command line as a person or a script meets it: what it prints, and how it ends.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Output,
};

use serde_json::Value;
use sluice_tests::process::{Sluice, sluice, stderr, stdout};
use tempfile::TempDir;
use tokio::net::TcpListener;

/// Four files with 20 mistakes. Each line that is wrong ends with the code of its problem.
fn mistakes() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/mistakes")
}

/// File, line and code of each marked mistake.
fn marked() -> BTreeSet<(String, u64, String)> {
    let files = fs::read_dir(mistakes()).expect("a directory");
    let files = files.map(|entry| entry.expect("an entry").path());
    files
        .flat_map(|path| {
            let name = path
                .file_name()
                .expect("a name")
                .to_string_lossy()
                .into_owned();
            let text = fs::read_to_string(&path).expect("text");
            let lines: Vec<_> = text.lines().map(str::to_owned).collect();
            lines
                .into_iter()
                .zip(1..)
                .filter_map(move |(line, number)| {
                    let (_, code) = line.rsplit_once("# ")?;
                    Some((name.clone(), number, code.to_owned()))
                })
        })
        .collect()
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("it ended by itself")
}

/// A folder with one file of this content.
fn folder(name: &str, text: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join(name), text).expect("a file");
    folder
}

#[tokio::test]
async fn check_reports_each_of_20_mistakes_at_its_place_and_ends_with_3() {
    let output = sluice(&mistakes(), &["check", "."]).await;
    let text = stderr(&output);
    assert_eq!(code(&output), 3, "{text}");
    let marked = marked();
    assert_eq!(marked.len(), 20);
    let kinds: BTreeSet<_> = marked.iter().map(|(_, _, code)| code).collect();
    assert!(kinds.len() >= 12, "{kinds:?}");
    assert_eq!(text.matches("\nerror[").count() + 1, 20, "{text}");
    for (file, line, code) in &marked {
        assert!(
            text.contains(&format!("error[{code}]: ")),
            "no {code}:\n{text}"
        );
        assert!(
            text.contains(&format!("/{file}:{line}:")),
            "nothing at {file}:{line}:\n{text}"
        );
    }
    // The text itself, underlined, and what to write instead.
    for part in [
        "protocal = \"http\"",
        "^^^^^^^^\n",
        "did you mean \"protocol\"?",
    ] {
        assert!(text.contains(part), "no {part:?}:\n{text}");
    }
    assert!(text.contains("20 problems"), "{text}");
    assert!(!text.contains('\u{1b}'), "no colours but on a terminal");
}

#[tokio::test]
async fn check_prints_the_same_as_json_for_programs() {
    let output = sluice(&mistakes(), &["check", "--format", "json", "."]).await;
    assert_eq!(code(&output), 3);
    let problems: Vec<Value> = serde_json::from_slice(&output.stdout).expect("one JSON array");
    let found: BTreeSet<_> = problems
        .iter()
        .filter(|problem| problem["severity"] == "error")
        .map(|problem| {
            let file = problem["file"].as_str().expect("a file");
            let file = file.rsplit('/').next().unwrap_or(file).to_owned();
            let line = problem["line"].as_u64().expect("a line");
            assert!(
                problem["column"].as_u64().is_some_and(|column| column >= 1),
                "{problem}"
            );
            assert!(
                problem["what"]
                    .as_str()
                    .is_some_and(|what| !what.is_empty()),
                "{problem}"
            );
            (
                file,
                line,
                problem["code"].as_str().expect("a code").to_owned(),
            )
        })
        .collect();
    assert_eq!(found, marked());
}

#[tokio::test]
async fn check_ends_with_0_when_nothing_is_wrong_and_warns_with_a_request_that_shows_why() {
    let text = "[routes.app]\nhosts = \"a.example\"\n\
                [[routes.app.rules]]\nmatch = { path = { prefix = \"/a\" } }\nrespond = {}\n\
                [[routes.app.rules]]\nmatch = { path = { prefix = \"/a/b\" } }\nrespond = {}\n";
    let folder = folder("sluice.toml", text);
    let output = sluice(folder.path(), &["check", "sluice.toml"]).await;
    let text = stderr(&output);
    assert_eq!(code(&output), 0, "{text}");
    assert!(
        text.contains("warning[") && text.contains("sluice.toml:6:1"),
        "{text}"
    );
    assert!(text.contains("a.example/a/b"), "no witness: {text}");
}

#[tokio::test]
async fn check_prints_a_canonical_form_that_checks_and_prints_the_same() {
    let text = "[routes.app]\nto = \"127.0.0.1:9\"\n[[routes.app.rules]]\nmatch = { path = \"/x\" }\nrespond = { body = \"x\" }\n";
    let folder = folder("sluice.toml", text);
    let once = sluice(folder.path(), &["check", "--print", "sluice.toml"]).await;
    assert_eq!(code(&once), 0, "{}", stderr(&once));
    fs::write(folder.path().join("again.toml"), &once.stdout).expect("a file");
    let twice = sluice(folder.path(), &["check", "--print", "again.toml"]).await;
    assert_eq!(code(&twice), 0, "{}", stderr(&twice));
    assert_eq!(stdout(&once), stdout(&twice));
}

const SHOP: &str = r#"
[listeners.web]
address = "127.0.0.1:8080"
[upstreams.stable]
endpoints = ["10.0.0.1:80", { address = "10.0.0.2:80", weight = 3 }]
[upstreams.canary]
endpoints = ["10.0.0.3:80"]
[routes.shop]
hosts = ["shop.example.com"]
request_headers = { set = { x-from = "{client.ip}" } }
to = "stable"
[[routes.shop.rules]]
name = "canary"
match = { path = { prefix = "/cart" }, headers = { x-canary = "true" } }
rewrite = { prefix = "/basket" }
to = "canary"
[routes.api]
hosts = ["api.example.com"]
[[routes.api.rules]]
match = { path = { prefix = "/v1" }, method = "GET" }
to = "stable"
"#;

async fn explain(args: &[&str]) -> Output {
    let folder = folder("sluice.toml", SHOP);
    sluice(folder.path(), &[&["explain"], args].concat()).await
}

#[tokio::test]
async fn explain_says_which_rule_why_not_the_others_and_what_the_origin_sees() {
    let url = "http://shop.example.com/x/../cart/1?q=2";
    let output = explain(&[
        "GET",
        url,
        "-H",
        "x-canary: true",
        "--client-ip",
        "192.0.2.7",
    ])
    .await;
    let text = stdout(&output);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    for part in [
        "listener  web",
        "shop canary",
        "an earlier rule",
        "GET /basket/1?q=2",
        "x-from: 192.0.2.7",
        "10.0.0.3:80",
    ] {
        assert!(text.contains(part), "no {part:?}:\n{text}");
    }
    let output = explain(&["GET", url, "--listener", "web"]).await;
    let text = stdout(&output);
    for part in [
        "header x-canary is \"true\"",
        "absent",
        "shop *: chosen",
        "10.0.0.2:80 (weight 3)",
    ] {
        assert!(text.contains(part), "no {part:?}:\n{text}");
    }
}

#[tokio::test]
async fn explain_prints_json() {
    let output = explain(&[
        "--json",
        "GET",
        "http://shop.example.com/cart",
        "-H",
        "x-canary: true",
    ])
    .await;
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["listener"], "web");
    assert_eq!(report["route"]["chosen"]["route"], "shop");
    assert_eq!(report["route"]["chosen"]["rule"], "canary");
    assert_eq!(
        report["route"]["candidates"].as_array().map(Vec::len),
        Some(2)
    );
    assert_eq!(report["sent"]["target"], "/basket");
    assert_eq!(
        report["answer"]["targets"][0]["endpoints"][0]["address"],
        "10.0.0.3:80"
    );
}

#[tokio::test]
async fn explain_ends_with_4_and_the_nearest_route_when_nothing_matches() {
    for (method, url, nearest, reason) in [
        (
            "POST",
            "http://api.example.com/v1/pets",
            "api #1",
            "method is GET",
        ),
        (
            "GET",
            "http://api.example.com/v2",
            "api #1",
            "path is under /v1",
        ),
        (
            "GET",
            "http://shp.example.com/",
            "shop",
            "host is shop.example.com",
        ),
    ] {
        let output = explain(&[method, url]).await;
        let text = stdout(&output);
        assert_eq!(code(&output), 4, "{method} {url}: {text}");
        let (_, after) = text.split_once("nearest").expect("the nearest route");
        assert!(
            after.contains(nearest) && after.contains(reason),
            "{method} {url}:\n{text}"
        );
    }
    let output = explain(&["--json", "POST", "http://api.example.com/v1"]).await;
    assert_eq!(code(&output), 4);
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(report["route"]["chosen"].is_null());
    assert_eq!(report["route"]["nearest"]["route"], "api");
}

#[tokio::test]
async fn explain_refuses_what_the_check_refuses() {
    let folder = folder("sluice.toml", "[routes.app]\ntoo = \"x\"\n");
    let output = sluice(folder.path(), &["explain", "GET", "http://a/"]).await;
    assert_eq!(code(&output), 3);
    assert!(
        stderr(&output).contains("sluice.toml:2:1"),
        "{}",
        stderr(&output)
    );
}

#[tokio::test]
async fn fmt_checks_then_rewrites_and_is_content_with_its_own_work() {
    let folder = folder(
        "a.toml",
        "# why\n[routes.x]   \nto   =  \"127.0.0.1:5\" # here\n\n\n\n[routes.y]\nto=\"127.0.0.1:6\"\n",
    );
    let read = || fs::read_to_string(folder.path().join("a.toml")).expect("a file");
    let before = read();
    let output = sluice(folder.path(), &["fmt", "--check", "a.toml"]).await;
    assert_eq!(code(&output), 1);
    assert!(stdout(&output).contains("a.toml") || stderr(&output).contains("a.toml"));
    assert_eq!(read(), before, "--check changes nothing");

    assert_eq!(code(&sluice(folder.path(), &["fmt", "a.toml"]).await), 0);
    let after = read();
    assert!(
        after.contains("# why") && after.contains("# here"),
        "comments stay: {after}"
    );
    assert!(
        after.contains("to = \"127.0.0.1:5\"") && after.contains("to = \"127.0.0.1:6\""),
        "{after}"
    );
    assert_eq!(
        code(&sluice(folder.path(), &["fmt", "--check", "a.toml"]).await),
        0
    );
    assert_eq!(read(), after);
}

#[tokio::test]
async fn schema_is_the_committed_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = sluice(folder.path(), &["schema"]).await;
    assert_eq!(code(&output), 0);
    let committed = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/sluice.schema.json");
    assert_eq!(
        stdout(&output),
        fs::read_to_string(committed).expect("the schema")
    );
}

#[tokio::test]
async fn version_and_completions_print_something_of_use() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = sluice(folder.path(), &["version"]).await;
    assert_eq!(code(&output), 0);
    assert!(stdout(&output).starts_with(concat!("sluice ", env!("CARGO_PKG_VERSION"))));
    for (shell, part) in [
        ("bash", "complete "),
        ("zsh", "#compdef sluice"),
        ("fish", "complete -c sluice"),
    ] {
        let output = sluice(folder.path(), &["completions", shell]).await;
        assert_eq!(code(&output), 0);
        assert!(stdout(&output).contains(part), "{shell}");
    }
}

#[tokio::test]
async fn what_is_no_command_or_argument_ends_with_2() {
    let folder = tempfile::tempdir().expect("a folder");
    for args in [
        &["--bogus"][..],
        &["frobnicate"],
        &["run", "--bogus"],
        &["check"],
        &["check", "--format", "xml", "a.toml"],
        &["explain", "GET"],
        &["explain", "GET", "http://a/", "--client-ip", "nobody"],
        &["explain", "GET", "http://a/", "-H", "no colon"],
        &["completions", "tcsh"],
    ] {
        let output = sluice(folder.path(), args).await;
        assert_eq!(code(&output), 2, "{args:?}: {}", stderr(&output));
        assert!(
            stderr(&output).contains("Usage") || stderr(&output).contains("--help"),
            "{args:?}"
        );
    }
}

#[tokio::test]
async fn a_port_in_use_ends_with_1_and_says_what_to_do() {
    let taken = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let address = taken.local_addr().expect("an address");
    let text = format!("[listeners.web]\naddress = \"{address}\"\n[routes.app]\nrespond = {{}}\n");
    let folder = folder("sluice.toml", &text);
    let output = sluice(folder.path(), &["run", "--state-directory", "state"]).await;
    let text = stderr(&output);
    assert_eq!(code(&output), 1, "{text}");
    for part in [
        &address.to_string(),
        "cannot be bound",
        "in use",
        "choose another port",
        "sluice.toml:2:11",
    ] {
        assert!(text.contains(part), "no {part:?}: {text}");
    }
}

#[tokio::test]
async fn a_file_that_is_not_there_is_said_so() {
    let folder = tempfile::tempdir().expect("a folder");
    for args in [
        &["run", "--state-directory", "state"][..],
        &["check", "nowhere.toml"],
    ] {
        let output = sluice(folder.path(), args).await;
        let text = stderr(&output);
        assert_eq!(code(&output), 3, "{args:?}: {text}");
        assert!(text.contains(".toml"), "{args:?}: {text}");
    }
}

#[tokio::test]
async fn a_log_line_says_who_asked_for_what_and_what_came_of_it() {
    let text = "[process]\nworkers = 1\nstate_directory = \"state\"\n[listeners.web]\naddress = \"{address}\"\n\
                [routes.app]\nhosts = \"a.example\"\n[[routes.app.rules]]\nname = \"hello\"\nmatch = { path = \"/hello\" }\nrespond = { body = \"hello\" }\n";
    let gateway = Sluice::run(text).await;
    let mut client = gateway.connect().await;
    client
        .send("GET /x/../hello?token=secret HTTP/1.1\r\nHost: A.example\r\nUser-Agent: curl/8\r\n\r\n")
        .await;
    assert_eq!(client.reply().await.status, 200);
    assert_eq!(client.get("b.example", "/").await.status, 404);
    // To standard output, unless the configuration says where.
    let output = gateway.says("\"b.example\"").await;
    let lines: Vec<Value> = output
        .lines()
        .filter(|line| line.contains("\"duration_ms\""))
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(lines.len(), 2, "{output}");
    let (hello, lost) = (&lines[0], &lines[1]);
    for (field, wanted) in [
        ("listener", "web"),
        ("client", "127.0.0.1"),
        ("scheme", "http"),
        ("method", "GET"),
        ("host", "a.example"),
        ("path", "/hello"),
        ("protocol", "HTTP/1.1"),
        ("route", "app"),
        ("rule", "hello"),
        ("user_agent", "curl/8"),
    ] {
        assert_eq!(hello[field], wanted, "{field}");
    }
    assert_eq!(
        (hello["status"].as_u64(), hello["bytes_out"].as_u64()),
        (Some(200), Some(5))
    );
    assert!(hello["verdict"].is_null() && hello["duration_ms"].is_number());
    assert_eq!(
        hello["peer"].as_str(),
        Some(client.local().to_string().as_str())
    );
    assert!(
        hello["request_id"]
            .as_str()
            .is_some_and(|id| id.len() == 32)
    );
    assert!(
        hello["version"].is_string() && hello["time"].as_str().is_some_and(|it| it.ends_with('Z'))
    );
    assert_eq!(
        (lost["status"].as_u64(), lost["verdict"].as_str()),
        (Some(404), Some("no_route"))
    );
    assert!(lost["route"].is_null());
    assert!(!output.contains("secret"), "queries carry secrets");
}

#[tokio::test]
async fn nothing_a_client_sends_breaks_out_of_its_log_line() {
    let text = "[process]\nworkers = 1\nstate_directory = \"state\"\n[access_log]\noutput = { file = \"access.jsonl\" }\n\
                [listeners.web]\naddress = \"{address}\"\n[routes.app]\nrespond = {}\n";
    let gateway = Sluice::run(text).await;
    let attacks: [&[u8]; 9] = [
        b"GET /%0A%7B%22status%22%3A200%7D HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /\",\"status\":999,\"x\":\" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /%1b[2J%1b]0;owned%07 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: \"}\\n{\"status\":1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: tab\there \\u0000 \\\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: \xe2\x80\xae reversed \xc2\x9b2J \xff\xfe\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: \x1b[31mred\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: 1\",\"status\":7\r\n\r\n",
        b"G\"ET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ];
    for attack in attacks {
        let mut client = gateway.connect().await;
        client.send(attack).await;
        // Refused or answered: both are logged.
        client.finish().await;
        client.rest().await;
    }
    let mut last = gateway.connect().await;
    assert_eq!(last.get("a", "/last").await.status, 200);
    let log = gateway.log();
    log.wait_for("path", "/last").await;
    let lines = log.wait(attacks.len() + 1).await;
    assert_eq!(lines.len(), attacks.len() + 1, "one line each: {lines:#?}");
    let keys = |line: &Value| {
        line.as_object()
            .map(|it| it.keys().cloned().collect::<Vec<_>>())
    };
    for line in &lines {
        assert_eq!(keys(line), keys(&lines[0]), "{line}");
        let status = line["status"].as_u64();
        assert!(
            status.is_some_and(|status| (200..500).contains(&status)),
            "{line}"
        );
    }
    let raw = fs::read(gateway.folder().path().join("access.jsonl")).expect("the log");
    let text = String::from_utf8(raw).expect("UTF-8");
    let bad = text
        .chars()
        .find(|c| (c.is_control() && *c != '\n') || *c == '\u{202e}');
    assert_eq!(bad, None, "nothing that moves a cursor");
}
