//! What somebody may try whose streams are led here: the rows of the table in `docs/egress.md`.

use sluice_certs::testing::Client as TlsClient;
use sluice_tests::{
    Client,
    eventually::{eventually, within},
    tls::Pki,
};

use super::{REDIRECT, Stage};

/// A request with this line and this `Host`.
fn request(line: &str, host: &str) -> Vec<u8> {
    format!("{line}\r\nhost: {host}\r\n\r\n").into_bytes()
}

const GET: &str = "GET / HTTP/1.1";

async fn stage() -> Option<Stage> {
    let stage = Stage::new("").await?;
    stage.networks.gateway.filter(REDIRECT);
    Some(stage)
}

impl Stage {
    /// How many connections the origin at this address has had.
    fn connections(&self, address: &str) -> usize {
        let mut all = self.origins.iter();
        let origin = all.find(|it| it.address().to_string() == address);
        origin.expect("an origin").connections()
    }

    /// The status of the answer to these bytes.
    async fn status(&self, address: &str, bytes: &[u8]) -> String {
        let said = self.says(address, bytes).await;
        said.split(' ').nth(1).unwrap_or_default().to_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_could_be_read_in_two_ways_is_refused() {
    let Some(stage) = stage().await else {
        return;
    };
    for host in [
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "127.1",
        "[::ffff:11.7.0.2]",
        "[fe80::1%eth0]",
        "shop..example",
        "shop.example%2e",
        "user@shop.example",
        "shop.example,else.example",
        "sh\u{43e}p.example",
        "shop.example:8080",
    ] {
        let status = stage.status("11.7.0.2:80", &request(GET, host)).await;
        assert_eq!(status, "400", "{host}");
    }
    for bytes in [
        // Another one than that of the URL; a proxy that nobody has asked; nobody at all.
        request("GET http://else.example/ HTTP/1.1", "shop.example"),
        request("CONNECT shop.example:80 HTTP/1.1", "shop.example:80"),
        b"GET / HTTP/1.0\r\n\r\n".to_vec(),
    ] {
        let status = stage.status("11.7.0.2:80", &bytes).await;
        assert_eq!(status, "400", "{}", String::from_utf8_lossy(&bytes));
    }
    assert_eq!(stage.connections("11.7.0.2:80"), 0);
    // A dot at the end of `Host` goes, as on every listener: the origin hears what was decided about.
    let dotted = request(GET, "shop.example.");
    assert_eq!(stage.status("11.7.0.2:80", &dotted).await, "200");
    let mut all = stage.origins.iter();
    let origin = all.find(|it| it.address().to_string() == "11.7.0.2:80");
    let seen = origin.expect("an origin").requests();
    assert_eq!(seen[0].header("host"), Some("shop.example"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_leads_inside_and_other_ports_are_refused() {
    let Some(stage) = stage().await else {
        return;
    };
    for (host, address, reason) in [
        ("10.8.0.9", "10.8.0.9:80", "host"),
        ("169.254.169.254", "169.254.169.254:80", "host"),
        ("localhost", "11.7.0.2:80", "host"),
        ("shop.example", "11.7.0.2:8080", "port"),
    ] {
        let status = stage.status(address, &request(GET, host)).await;
        assert_eq!(status, "403", "{host} at {address}");
        let line = stage.told(&format!("\"host\":\"{host}\"")).await;
        assert_eq!(line["egress_reason"], reason, "{line}");
    }
    assert_eq!(stage.connections("11.7.0.2:80"), 0);
    // An address is held against the rules in its usual form, however it is spelled.
    let spelled = request(GET, "[2a07:0:0:0::2]");
    assert_eq!(stage.status("[2a07::2]:80", &spelled).await, "403");
    let line = stage.told("\"host\":\"[2a07::2]\"").await;
    assert_eq!(line["egress"], "database", "{line}");
    assert_eq!(line["egress_reason"], "port", "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_of_a_stream_is_decided_about() {
    let Some(stage) = stage().await else {
        return;
    };
    let stream = stage.open("11.7.0.2:80").await.expect("it is accepted");
    let mut client = Client::over(stream);
    assert_eq!(client.get("shop.example", "/").await.status, 200);
    assert_eq!(client.get("else.example", "/").await.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_bound_again_does_not_lead_inside() {
    let Some(stage) = stage().await else {
        return;
    };
    let host = "turns.pets.example";
    let asks = request(GET, host);
    assert_eq!(stage.status("11.7.0.2:80", &asks).await, "200");
    // From now on the name leads inside, and what was its address is not any more.
    within("the next answer counts", async {
        while stage.status("11.7.0.2:80", &asks).await != "403" {}
    })
    .await;
    assert_eq!(stage.status("10.8.0.9:80", &asks).await, "403");
    let line = stage.told("\"egress_address\"").await;
    assert_eq!(line["host"], host, "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_has_to_name_somebody_plainly() {
    let Some(stage) = stage().await else {
        return;
    };
    let pki = Pki::new();
    let named = |name: &str, other: &str| {
        let mut hello = pki.client().first_message(name);
        let mut places = hello.windows(name.len());
        let at = places.position(|it| it == name.as_bytes());
        let at = at.expect("it names somebody");
        hello[at..at + name.len()].copy_from_slice(other.as_bytes());
        hello
    };
    let hiding = TlsClient::hiding(&pki.authority, &["h2"], "shop.example");
    for (hello, verdict, reason) in [
        // By its address, for which there is no rule.
        (
            pki.client().nameless().first_message("shop.example"),
            "egress_refused",
            "host",
        ),
        (
            hiding.first_message("evil.example"),
            "egress_refused",
            "sni_encrypted",
        ),
        (named("0x7f.x", "0x7f.1"), "egress_target", "target"),
    ] {
        let said = stage.says("11.7.0.2:443", &hello).await;
        // A refusal is told in the words of TLS: `access_denied`.
        let told = if verdict == "egress_refused" {
            "\u{15}"
        } else {
            ""
        };
        assert_eq!(said.get(..1).unwrap_or_default(), told, "{reason}");
        let line = stage.told(&format!("\"egress_reason\":\"{reason}\"")).await;
        assert_eq!(line["verdict"], verdict, "{line}");
    }
    assert_eq!(stage.connections("11.7.0.2:443"), 0);
    // Who says its name is let through, with a dot at its end or without: the others were not for want of a way.
    for (count, hello) in [
        (1, pki.client().first_message("shop.example")),
        (2, named("shop.examplex", "shop.example.")),
    ] {
        let stream = stage.open("11.7.0.2:443").await.expect("it is accepted");
        let mut client = Client::over(stream);
        client.send(hello).await;
        eventually("it arrives", || {
            (stage.connections("11.7.0.2:443") == count).then_some(())
        })
        .await;
    }
}
