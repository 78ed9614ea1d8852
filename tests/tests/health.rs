//! Which endpoints get requests, as clients, origins, the log and the command line see it.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::Value;
use sluice_certs::testing::{Authority, Server};
use sluice_tests::{
    Client, Front, Gateway, Origin,
    asked::Asked,
    eventually::within,
    gateway, origin,
    process::{free_port, stderr, stdout},
};

/// An origin that answers with its name, and to `/healthz` with 503 while it is not well.
async fn moody(name: &'static str) -> (Origin, Arc<AtomicBool>) {
    let well = Arc::new(AtomicBool::new(true));
    let own = Arc::clone(&well);
    let origin = Origin::start(move |mut peer| {
        let well = Arc::clone(&own);
        async move {
            while let Some(request) = peer.request().await {
                let asked = String::from_utf8_lossy(&request.raw).contains(" /healthz ");
                let answer = if asked && !well.load(Ordering::Relaxed) {
                    b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n".to_vec()
                } else {
                    origin::ok(name)
                };
                peer.send(answer).await;
            }
        }
    })
    .await;
    (origin, well)
}

/// Waits until the endpoint at `address` is in this state, and gives what is told of it.
async fn becomes(asked: &Asked, address: SocketAddr, state: &str) -> Value {
    within(&format!("{address} is {state}"), async {
        loop {
            let upstreams = asked.get("/upstreams").await;
            let all = upstreams[0]["endpoints"].as_array().expect("endpoints");
            let found = all
                .iter()
                .find(|it| it["address"] == address.to_string() && it["state"] == state);
            if let Some(found) = found {
                return found.clone();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
}

/// Who answers so many requests.
async fn answers(asked: &Asked, times: usize) -> Vec<String> {
    let mut client = asked.running.connect().await;
    let mut names = Vec::new();
    for _ in 0..times {
        names.push(client.get("a", "/").await.text());
    }
    names.sort_unstable();
    names.dedup();
    names
}

#[tokio::test]
async fn who_is_not_well_gets_no_requests_until_it_is_and_that_is_seen_everywhere() {
    let ((first, well), (second, _)) = (moody("a").await, moody("b").await);
    let config = |more: &str| {
        format!(
            "[listeners.web]\naddress = \"{{address}}\"\n\
             [access_log]\noutput = \"off\"\n\
             [routes.r]\nto = \"u\"\n{more}\
             [upstreams.u]\nendpoints = [\"{}\", \"{}\"]\n\
             health_check = {{ http = {{ path = \"/healthz\" }}, interval = \"100ms\", unhealthy = 2 }}\n",
            first.address(),
            second.address()
        )
    };
    let metrics = free_port();
    let folder = Arc::new(tempfile::tempdir().expect("a folder"));
    let at = format!("127.0.0.1:{metrics}");
    let asked = Asked::start_in(folder, &config(""), &["--metrics", &at]);
    asked.answers().await;
    assert_eq!(answers(&asked, 8).await, ["a", "b"]);

    well.store(false, Ordering::Relaxed);
    let told = becomes(&asked, first.address(), "unhealthy").await;
    assert_eq!(told["why"], "it answers with status 503");
    assert_eq!(answers(&asked, 20).await, ["b"]);
    let table = stdout(&asked.says(&["upstreams"]).await);
    let row = table.lines().find(|line| line.contains("unhealthy"));
    let row = row.expect("a line about it");
    assert!(row.contains(&first.address().to_string()), "{row}");
    assert!(row.contains("it answers with status 503"), "{row}");
    let text = Client::connect(([127, 0, 0, 1], metrics).into())
        .await
        .get("x", "/metrics")
        .await
        .text();
    for line in [
        "sluice_upstream_endpoint_states{upstream=\"u\",state=\"healthy\"} 1",
        "sluice_upstream_endpoint_states{upstream=\"u\",state=\"unhealthy\"} 1",
        "sluice_upstream_panicking{upstream=\"u\"} 0",
    ] {
        assert!(text.lines().any(|it| it == line), "no {line} in {text}");
    }
    let failed = "sluice_upstream_health_checks_total{upstream=\"u\",outcome=\"failed\"} ";
    let failed = text.lines().find_map(|line| line.strip_prefix(failed));
    assert!(failed.is_some_and(|count| count.parse::<u64>().unwrap() >= 2));

    // A reload of something else forgets nothing.
    asked.running.write_config(&config(
        "[routes.other]\nhosts = [\"b.test\"]\nto = \"u\"\n",
    ));
    let reload = asked.says(&["reload"]).await;
    assert!(reload.status.success(), "{}", stderr(&reload));
    assert_eq!(answers(&asked, 20).await, ["b"]);

    well.store(true, Ordering::Relaxed);
    becomes(&asked, first.address(), "healthy").await;
    assert_eq!(answers(&asked, 8).await, ["a", "b"]);
    let output = asked.running.says("an endpoint is healthy again").await;
    let lines = |text: &str| output.matches(text).count();
    assert_eq!(lines("an endpoint is unhealthy"), 1, "{output}");
    assert_eq!(lines("an endpoint is healthy again"), 1, "{output}");
}

#[tokio::test]
async fn checks_speak_the_tls_of_the_upstream_and_refuse_what_requests_would() {
    let folder = tempfile::tempdir().expect("a folder");
    let (ours, other) = (Authority::default(), Authority::default());
    let (origin, _) = moody("inside").await;
    let server = |authority: &Authority| {
        Server::new(
            &authority.server(&["127.0.0.1"]),
            &["http/1.1"],
            None,
            false,
        )
    };
    let path = folder.path().join("ca.pem");
    std::fs::write(&path, ours.pem()).expect("a file");
    let config = |front: &Front| {
        format!(
            "[routes.r]\nto = \"u\"\n\
             [upstreams.u]\nendpoints = \"{}\"\npanic_threshold = 0\n\
             tls = {{ ca = {:?} }}\n\
             health_check = {{ http = {{ path = \"/healthz\" }}, interval = \"100ms\", unhealthy = 1 }}\n",
            front.address(),
            path.display().to_string()
        )
    };
    let answers_with = async |gateway: &Gateway, status: u16| {
        within(&format!("it answers {status}"), async {
            while gateway.get("a", "/").await.status != status {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    };

    let trusted = Front::before(origin.address(), server(&ours)).await;
    let gateway_of_ours = gateway(&config(&trusted)).await;
    origin.wait_for_requests(3).await;
    answers_with(&gateway_of_ours, 200).await;

    let strange = Front::before(origin.address(), server(&other)).await;
    let gateway_of_others = gateway(&config(&strange)).await;
    answers_with(&gateway_of_others, 503).await;
    let lines = gateway_of_others.log().wait(1).await;
    let last = lines.last().expect("a line");
    assert_eq!(last["verdict"], "no_endpoint");
}
