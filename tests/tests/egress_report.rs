//! What the real program tells about what goes out, and its own command line of that.

use serde_json::{Value, json};
use sluice_tests::{
    asked::Asked,
    process::{stderr, stdout},
};

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
