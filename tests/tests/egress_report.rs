//! What the real program tells about what goes out, and its own command line of that.

use std::path::Path;

use serde_json::{Value, json};
use sluice_tests::{
    Origin,
    asked::{Asked, ask},
    eventually::within,
    process::{sluice, stderr, stdout},
};
use tokio::time::{Duration, sleep};

const CONFIG: &str = "[listeners.web]\naddress = \"{address}\"\n\
    [access_log]\noutput = \"off\"\n\
    [routes.pets]\nto = \"127.0.0.1:1\"\n";

#[tokio::test]
async fn a_report_is_there_from_the_start_and_empty() {
    let asked = Asked::start(CONFIG).await;
    let nothing = json!({ "limit": 10_000, "forgotten": 0, "destinations": [] });
    assert_eq!(asked.get("/egress").await, nothing);
    let table = stdout(&asked.says(&["egress", "report"]).await);
    assert_eq!(table.lines().count(), 1, "{table}");
    assert!(table.starts_with("SOURCE  HOST  PORT"), "{table}");
    let report = stdout(&asked.says(&["egress", "report", "--json"]).await);
    let report: Value = serde_json::from_str(&report).expect("JSON");
    assert_eq!(report, nothing);
    let rules = asked.says(&["egress", "report", "--allow-list"]).await;
    assert_eq!(
        (rules.status.code(), stdout(&rules).as_str()),
        (Some(0), "")
    );
    let wrong = asked.says(&["egress", "report", "--source", "here"]).await;
    assert_eq!(wrong.status.code(), Some(2), "{}", stderr(&wrong));
}

#[tokio::test]
async fn a_report_that_is_off_is_said_to_be() {
    let asked = Asked::start(&format!("{CONFIG}[egress]\nreport = 0\n")).await;
    assert_eq!(asked.get("/egress").await["limit"], 0);
    let told = asked.says(&["egress", "report"]).await;
    assert!(told.status.success());
    assert!(
        stderr(&told).contains("there is no report"),
        "{}",
        stderr(&told)
    );
}

/// A forward proxy that lets nobody go anywhere but to this port of this machine.
fn proxy(port: u16) -> String {
    format!(
        "[listeners.proxy]\naddress = \"{{address}}\"\nprotocol = \"forward-proxy\"\n\
         [access_log]\noutput = \"off\"\n\
         [egress.allow.local]\nhosts = \"127.0.0.1\"\nports = {port}\nprotocols = \"http\"\n\
         addresses = \"127.0.0.1\"\n"
    )
}

#[tokio::test]
async fn what_clients_ask_for_is_told_by_client_and_becomes_rules() {
    let origin = Origin::text("hello").await;
    let port = origin.address().port();
    let asked = Asked::start(&proxy(port)).await;
    let own = asked.running.address().port();
    let get = async |at: &str| {
        let request = format!("GET http://{at}/ HTTP/1.1\r\nhost: {at}\r\n\r\n");
        ask(own, &request).await.status
    };
    let allowed = format!("127.0.0.1:{port}");
    assert_eq!(get(&allowed).await, 200);
    assert_eq!(get(&allowed).await, 200);
    assert_eq!(get("other.test:8080").await, 403);
    let unreadable = "CONNECT 0x7f.1:443 HTTP/1.1\r\nhost: 0x7f.1:443\r\n\r\n";
    assert_eq!(ask(own, unreadable).await.status, 400);

    let told = async || {
        let report = asked.get("/egress").await;
        let all = report["destinations"].as_array().expect("a list").clone();
        let count = |it: &Value| it["allowed"].as_u64().unwrap() + it["refused"].as_u64().unwrap();
        let attempts: u64 = all.iter().map(count).sum();
        (attempts == 4).then_some(all)
    };
    let wait = async {
        loop {
            if let Some(all) = told().await {
                break all;
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    let all = within("four attempts are told", wait).await;
    names_each(&all);

    let table = stdout(&asked.says(&["egress", "report"]).await);
    assert_eq!(table.lines().count(), 4, "{table}");
    assert!(table.contains("other.test"), "{table}");
    let here = ["egress", "report", "--source", "127.0.0.0/8"];
    assert_eq!(stdout(&asked.says(&here).await), table);
    let elsewhere = ["egress", "report", "--source", "10.1.2.3"];
    assert_eq!(stdout(&asked.says(&elsewhere).await).lines().count(), 1);

    becomes_rules(&asked).await;

    // It outlives a reload, under other rules as well.
    let more = "[egress.allow.more]\nhosts = \"more.test\"\n";
    asked
        .running
        .write_config(&format!("{}{more}", proxy(port)));
    assert!(asked.says(&["reload"]).await.status.success());
    let after = asked.get("/egress").await;
    assert_eq!(after["destinations"].as_array().map(Vec::len), Some(3));
}

/// What is printed is configuration, and allows what was asked for as far as it is public.
async fn becomes_rules(asked: &Asked) {
    let rules = stdout(&asked.says(&["egress", "report", "--allow-list"]).await);
    assert!(rules.contains("[egress.allow.\"other.test\"]"), "{rules}");
    assert!(rules.contains("# 127.0.0.1 is not public"), "{rules}");
    let file = asked.running.folder().path().join("rules.toml");
    let listener =
        "[listeners.proxy]\naddress = \"127.0.0.1:3128\"\nprotocol = \"forward-proxy\"\n";
    std::fs::write(&file, format!("{listener}{rules}")).expect("a file");
    let file = file.display().to_string();
    let checked = sluice(Path::new("/"), &["check", &file]).await;
    assert!(checked.status.success(), "{}", stderr(&checked));
    let asks = [
        "explain",
        "--egress",
        "GET",
        "http://other.test:8080/",
        "--config",
        &file,
    ];
    let explained = sluice(Path::new("/"), &asks).await;
    assert_eq!(
        explained.status.code(),
        Some(0),
        "{}{}",
        stdout(&explained),
        stderr(&explained)
    );
}

/// What could not be read, what was refused, and what was allowed.
fn names_each(all: &[Value]) {
    let [unreadable, other, local] = all else {
        panic!("{all:?}");
    };
    assert_eq!(unreadable["host"], Value::Null);
    assert_eq!(unreadable["reason"], "target");
    assert_eq!(
        (&other["host"], &other["port"]),
        (&json!("other.test"), &json!(8080))
    );
    assert_eq!(
        (&other["verdict"], &other["reason"]),
        (&json!("refused"), &json!("host"))
    );
    assert_eq!(
        (&other["rule"], &other["protocols"]),
        (&Value::Null, &json!(["http"]))
    );
    assert_eq!(local["source"], "127.0.0.1");
    assert_eq!(
        (&local["rule"], &local["verdict"]),
        (&json!("local"), &json!("allowed"))
    );
    assert_eq!(
        (&local["allowed"], &local["public"]),
        (&json!(2), &json!(false))
    );
}
