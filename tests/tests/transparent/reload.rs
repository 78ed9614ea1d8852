//! What a reload and the shadow change for streams that are led here.

use sluice_tests::eventually::within;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{LISTENER, RAW, REDIRECT, Stage};

/// What runs with these further keys of the listener, and these rules.
fn config(listener: &str, rules: &[&str]) -> String {
    format!("{LISTENER}{listener}\n{}", rules.join("\n"))
}

const KEPT: &str = "[egress.allow.kept]
hosts = \"11.7.0.4\"
ports = 7000
protocols = \"tcp\"
";

const GONE: &str = "[egress.allow.gone]
hosts = \"11.7.0.3\"
ports = 7000
protocols = \"tcp\"
";

async fn ping(stream: &mut TcpStream) {
    stream.write_all(RAW).await.expect("sent");
    let mut answer = vec![0; RAW.len()];
    let read = within("an echo", stream.read_exact(&mut answer)).await;
    read.expect("an echo");
    assert_eq!(answer, RAW);
}

/// A stream through which something went.
async fn pinged(stage: &Stage, address: &str) -> TcpStream {
    let mut stream = stage.open(address).await.expect("it is accepted");
    ping(&mut stream).await;
    stream
}

async fn closes(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    // A reset is an end, too.
    drop(within("it closes", stream.read_to_end(&mut rest)).await);
    assert_eq!(rest, b"");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_is_taken_out_lets_nobody_out_and_ends_its_streams_alone() {
    let listener = "stream = { drain = \"500ms\" }";
    let Some(stage) = Stage::with(&config(listener, &[KEPT, GONE])).await else {
        return;
    };
    stage.networks.gateway.filter(REDIRECT);
    let mut kept = pinged(&stage, "11.7.0.4:7000").await;
    let mut gone = pinged(&stage, "11.7.0.3:7000").await;

    stage.reload(&config(listener, &[KEPT])).await;

    ping(&mut gone).await;
    assert_eq!(stage.says("11.7.0.3:7000", RAW).await, "");
    let line = stage.told("\"egress_refused\"").await;
    assert_eq!(line["egress_reason"], "host", "{line}");
    assert_eq!(line["port"], 7000, "{line}");
    drop(pinged(&stage, "11.7.0.4:7000").await);
    closes(&mut gone).await;
    let line = stage.told("\"draining\"").await;
    assert_eq!(line["egress"], "gone", "{line}");
    ping(&mut kept).await;
    let count = stage
        .metric("sluice_egress_total{rule=\"kept\",outcome=\"allowed\"}")
        .await;
    assert_eq!(count, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_have_the_limits_of_their_listener() {
    let listener = "stream = { idle_timeout = \"500ms\" }";
    let Some(stage) = Stage::with(&config(listener, &[KEPT])).await else {
        return;
    };
    stage.networks.gateway.filter(REDIRECT);
    closes(&mut pinged(&stage, "11.7.0.4:7000").await).await;
    let line = stage.told("\"stream_idle\"").await;
    assert_eq!(line["egress"], "kept", "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_shadow_everything_passes_but_what_leads_inside() {
    let rules = "[egress]\nmode = \"shadow\"\n[egress.allow.shop]\nhosts = \"shop.example\"\n";
    let Some(stage) = Stage::with(&config("", &[rules])).await else {
        return;
    };
    stage.networks.gateway.filter(REDIRECT);
    let passes = |address: &str| (200, address.to_owned());

    // What a rule allows has no shadow.
    let outcome = stage.curl("http", "shop.example", "11.7.0.2").await;
    assert_eq!(outcome, passes("11.7.0.2:80"));
    let line = stage.told("shop.example").await;
    assert!(line.get("shadow").is_none(), "{line}");

    // A request, TLS, and anything else that no rule is for.
    let outcome = stage.curl("http", "else.example", "11.7.0.3").await;
    assert_eq!(outcome, passes("11.7.0.3:80"));
    let line = stage.told("else.example").await;
    assert_eq!(line["shadow"], true, "{line}");
    assert_eq!(line["egress_reason"], "host", "{line}");
    let secure = stage
        .origins
        .iter()
        .find(|it| it.address().to_string() == "11.7.0.3:443")
        .expect("an origin");
    stage.curl("https", "else.example", "11.7.0.3").await;
    assert_eq!(secure.connections(), 1);
    let line = stage.told("\"sni\":\"else.example\"").await;
    assert_eq!(line["shadow"], true, "{line}");
    drop(pinged(&stage, "11.7.0.4:7000").await);
    let line = stage.told("\"port\":7000").await;
    assert_eq!(line["shadow"], true, "{line}");
    assert_eq!(line["egress_reason"], "host", "{line}");

    // An allowed name at an address that is not its own.
    let outcome = stage.curl("http", "shop.example", "11.7.0.3").await;
    assert_eq!(outcome, passes("11.7.0.3:80"));
    let line = stage.told("\"egress_reason\":\"address\"").await;
    assert_eq!(line["shadow"], true, "{line}");
    assert_eq!(line["egress"], "shop", "{line}");

    // What is not public is refused here, too.
    let (status, _) = stage.curl("http", "inside.example", "10.8.0.9").await;
    assert_eq!(status, 403);
    let line = stage.told("inside.example").await;
    assert_eq!(line["verdict"], "egress_address", "{line}");
    assert!(line.get("shadow").is_none(), "{line}");

    for (rule, outcome, count) in [
        ("", "allowed", 0),
        ("", "shadow", 3),
        ("", "refused", 1),
        ("shop", "allowed", 1),
        ("shop", "shadow", 1),
        ("shop", "refused", 0),
    ] {
        let name = format!("sluice_egress_total{{rule=\"{rule}\",outcome=\"{outcome}\"}}");
        assert_eq!(stage.metric(&name).await, count, "{name}");
    }
}
