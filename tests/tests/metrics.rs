//! Metrics, as the real program tells them and as Prometheus reads them.

use std::{collections::BTreeSet, process::Stdio, sync::Arc};

use sluice_tests::{
    Client, H2, Origin,
    eventually::within,
    h2::wire::{block, request},
    process::{Sluice, free_ports},
};
use tokio::{
    process::Command,
    time::{Duration, Instant, sleep},
};

/// A gateway in front of `pets`, and the port of its metrics.
async fn measured(pets: &str) -> (Sluice, u16) {
    let folder = Arc::new(tempfile::tempdir().expect("a folder"));
    let port = free_ports(2);
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port + 1));
    let running = Sluice::start_with(
        folder,
        address,
        &config(pets, ""),
        &["--metrics", &format!("127.0.0.1:{port}")],
    );
    running.accepts().await;
    (running, port)
}

fn config(pets: &str, more: &str) -> String {
    format!(
        "[listeners.web]\naddress = \"{{address}}\"\n\
         [access_log]\noutput = \"off\"\n\
         [routes.pets]\nhosts = [\"pets.test\"]\nto = \"pets\"\n\
         [upstreams.pets]\nendpoints = [\"{pets}\"]\n{more}"
    )
}

async fn scrape(port: u16) -> String {
    let reply = Client::connect(([127, 0, 0, 1], port).into())
        .await
        .get("anything.test", "/metrics")
        .await;
    assert_eq!(reply.status, 200);
    reply.text()
}

/// Waits until a scrape has this line.
async fn tells(port: u16, line: &str) -> String {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let text = scrape(port).await;
        if text.lines().any(|it| it == line) {
            return text;
        }
        assert!(Instant::now() < deadline, "no {line:?} in:\n{text}");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn raw_streams_are_counted_by_listener_route_and_upstream() {
    let pets = Origin::start(|mut peer| async move { peer.echo().await }).await;
    let port = free_ports(2);
    let config = format!(
        "[listeners.web]\naddress = \"{{address}}\"\nprotocol = \"tcp\"\n\
         [access_log]\noutput = \"off\"\n\
         [routes.pets]\nlisteners = \"web\"\nto = \"pets\"\n\
         [upstreams.pets]\nendpoints = [\"{}\"]\n",
        pets.address()
    );
    let running = Sluice::start_with(
        Arc::new(tempfile::tempdir().expect("a folder")),
        ([127, 0, 0, 1], port + 1).into(),
        &config,
        &["--metrics", &format!("127.0.0.1:{port}")],
    );
    // Whoever looks whether it accepts is a stream, too.
    running.accepts().await;
    let mut client = running.connect().await;
    client.send("hello").await;
    assert_eq!(client.read_at_least(5).await, b"hello");
    let text = tells(
        port,
        "sluice_listener_streams_closed_total{listener=\"web\"} 1",
    )
    .await;
    for line in [
        "sluice_listener_streams_opened_total{listener=\"web\"} 2",
        "sluice_route_streams_active{route=\"pets\"} 1",
        "sluice_upstream_streams_active{upstream=\"pets\"} 1",
        "sluice_streams_opened_total 2",
        "sluice_streams_closed_total 1",
    ] {
        assert!(text.lines().any(|it| it == line), "{line}: {text}");
    }
    drop(client);
    let text = tells(
        port,
        "sluice_listener_streams_closed_total{listener=\"web\"} 2",
    )
    .await;
    for (kind, name) in [("listener", "web"), ("route", "pets"), ("upstream", "pets")] {
        for (what, value) in [
            ("streams_active", 0),
            ("stream_received_bytes_total", 5),
            ("stream_sent_bytes_total", 5),
            ("stream_duration_seconds_count", 2),
        ] {
            let line = format!("sluice_{kind}_{what}{{{kind}=\"{name}\"}} {value}");
            assert!(text.lines().any(|it| it == line), "{line}: {text}");
        }
    }
    // No request is counted for what is none.
    assert!(
        text.contains("sluice_listener_requests_active{listener=\"web\"} 0"),
        "{text}"
    );
}

#[tokio::test]
async fn requests_are_counted_by_listener_route_and_upstream() {
    let pets = Origin::text("hello").await;
    let (running, port) = measured(&pets.address().to_string()).await;
    for _ in 0..2 {
        running.connect().await.get("pets.test", "/").await;
    }
    let mut client = running.connect().await;
    client
        .send("POST / HTTP/1.1\r\nHost: pets.test\r\nContent-Length: 3\r\n\r\nabc")
        .await;
    assert_eq!(client.reply().await.status, 200);
    running.connect().await.get("nobody.test", "/").await;

    tells(
        port,
        "sluice_listener_requests_total{listener=\"web\",class=\"4xx\"} 1",
    )
    .await;
    let text = tells(
        port,
        "sluice_upstream_requests_total{upstream=\"pets\",class=\"2xx\"} 3",
    )
    .await;

    for line in [
        "sluice_listener_requests_total{listener=\"web\",class=\"2xx\"} 3",
        "sluice_listener_failures_total{listener=\"web\",reason=\"no_route\"} 1",
        "sluice_listener_requests_active{listener=\"web\"} 0",
        "sluice_route_requests_total{route=\"pets\",class=\"2xx\"} 3",
        "sluice_route_request_duration_seconds_count{route=\"pets\"} 3",
        "sluice_route_request_duration_seconds_bucket{route=\"pets\",le=\"+Inf\"} 3",
        "sluice_route_response_body_bytes_total{route=\"pets\"} 15",
        "sluice_listener_request_body_bytes_total{listener=\"web\"} 3",
        "sluice_route_request_body_bytes_total{route=\"pets\"} 3",
        "sluice_upstream_request_body_bytes_total{upstream=\"pets\"} 3",
        "sluice_upstream_attempts_total{upstream=\"pets\"} 3",
        "sluice_upstream_endpoints{upstream=\"pets\"} 1",
        "sluice_requests_total 4",
        "sluice_reloads_applied_total 1",
        "sluice_config_refused 0",
        "sluice_draining 0",
    ] {
        assert!(text.lines().any(|it| it == line), "no {line:?} in:\n{text}");
    }
    for family in [
        "sluice_build_info{version=",
        "sluice_config_info{version=",
        "process_start_time_seconds ",
        "process_resident_memory_bytes ",
        "process_open_fds ",
        "sluice_upstream_pool_connections{upstream=\"pets\",state=\"idle\"} ",
    ] {
        assert!(text.contains(family), "no {family:?} in:\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
    assert!(
        !text.contains("nobody.test"),
        "labels are names of the configuration"
    );
}

#[tokio::test]
async fn what_is_under_way_and_what_limits_refuse_is_told_of_every_object() {
    let silent = Origin::start(|mut peer| async move { peer.hold().await }).await;
    let folder = Arc::new(tempfile::tempdir().expect("a folder"));
    let port = free_ports(2);
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port + 1));
    let limits = "limits = { connections = 1, pending_requests = 0 }";
    let config = config(&silent.address().to_string(), limits).replace(
        "{address}\"\n",
        "{address}\"\nlimits = { connections = 2 }\n",
    );
    let more = ["--metrics", &format!("127.0.0.1:{port}"), "--workers", "1"];
    let running = Sluice::start_with(folder, address, &config, &more);
    let get = "POST / HTTP/1.1\r\nHost: pets.test\r\nContent-Length: 3\r\n\r\nabc";
    // Who asks whether it accepts would be counted.
    running.says("listening").await;
    let mut first = running.connect().await;
    first.send(get).await;
    silent.wait_for_requests(1).await;
    let mut second = running.connect().await;
    second.send(get).await;
    let refused = second.reply().await;
    assert_eq!(refused.status, 503);
    let bytes = refused.text().len();
    let mut third = running.connect().await;
    assert!(third.rest().await.is_empty());

    tells(
        port,
        "sluice_listener_connections_refused_total{listener=\"web\"} 1",
    )
    .await;
    let text = tells(
        port,
        "sluice_upstream_failures_total{upstream=\"pets\",reason=\"overflow\"} 1",
    )
    .await;
    let mut lines = vec![
        "sluice_listener_connections_active{listener=\"web\"} 2".to_owned(),
        "sluice_listener_connections_max{listener=\"web\"} 2".to_owned(),
        "sluice_listener_connections_total{listener=\"web\"} 2".to_owned(),
        "sluice_upstream_pool_connections{upstream=\"pets\",state=\"busy\"} 1".to_owned(),
        "sluice_upstream_pool_connections_max{upstream=\"pets\"} 1".to_owned(),
        "sluice_upstream_requests_waiting{upstream=\"pets\"} 0".to_owned(),
        "sluice_upstream_requests_waiting_max{upstream=\"pets\"} 0".to_owned(),
        "sluice_upstream_retries_total{upstream=\"pets\"} 0".to_owned(),
    ];
    for (kind, name) in [("listener", "web"), ("route", "pets"), ("upstream", "pets")] {
        let of = format!("{kind}=\"{name}\"");
        lines.extend([
            format!("sluice_{kind}_requests_active{{{of}}} 1"),
            format!("sluice_{kind}_requests_total{{{of},class=\"5xx\"}} 1"),
            format!("sluice_{kind}_failures_total{{{of},reason=\"overflow\"}} 1"),
            format!("sluice_{kind}_request_duration_seconds_count{{{of}}} 1"),
            format!("sluice_{kind}_response_body_bytes_total{{{of}}} {bytes}"),
        ]);
    }
    for line in lines {
        assert!(text.lines().any(|it| it == line), "no {line:?} in:\n{text}");
    }
}

#[tokio::test]
async fn the_documentation_lists_every_metric_and_no_other() {
    let (_running, port) = measured("127.0.0.1:1").await;
    let text = tells(port, "sluice_reloads_applied_total 1").await;
    let families = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let told: BTreeSet<_> = families
        .map(|family| match family.split_once(' ').expect("a kind") {
            (name, "counter") => format!("{name}_total"),
            (name, "info") => format!("{name}_info"),
            (name, _) => name.to_owned(),
        })
        .collect();

    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operating.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let (_, metrics) = page.split_once("## Metrics").expect("the section");
    let metrics = metrics.split("\n## ").next().expect("its text");
    let rows = metrics.lines().filter_map(|line| line.strip_prefix("| `"));
    let names = rows.filter_map(|row| row.split('`').next());
    let listed: BTreeSet<_> = names
        .flat_map(|name| {
            let kinds = ["listener", "route", "upstream"].map(|kind| name.replace("KIND", kind));
            kinds.into_iter().collect::<BTreeSet<_>>()
        })
        .collect();

    assert!(told.len() > 50, "{told:?}");
    let unlisted: Vec<_> = told.difference(&listed).collect();
    let untold: Vec<_> = listed.difference(&told).collect();
    assert!(
        unlisted.is_empty() && untold.is_empty(),
        "docs/operating.md lacks {unlisted:?} and has {untold:?}, which nobody tells"
    );
}

#[tokio::test]
async fn series_of_unchanged_and_changed_objects_go_on_over_reloads_and_of_removed_ones_end() {
    let pets = Origin::text("hello").await;
    let address = pets.address().to_string();
    let (running, port) = measured(&address).await;
    running.connect().await.get("pets.test", "/").await;
    tells(
        port,
        "sluice_route_requests_total{route=\"pets\",class=\"2xx\"} 1",
    )
    .await;

    let more = format!(
        "timeouts = {{ connect = \"3s\" }}\n[routes.extra]\nhosts = [\"x.test\"]\nto = \"{address}\"\n"
    );
    running.write_config(&config(&address, &more));
    let extra = "sluice_route_requests_total{route=\"extra\",class=\"2xx\"} 0";
    let text = tells(port, extra).await;
    assert!(text.contains("sluice_route_requests_total{route=\"pets\",class=\"2xx\"} 1\n"));
    assert!(text.contains("sluice_upstream_requests_total{upstream=\"pets\",class=\"2xx\"} 1\n"));

    running.write_config(&config(&address, ""));
    let text = tells(port, "sluice_reloads_applied_total 3").await;
    assert!(!text.contains("extra"), "{text}");
    assert!(text.contains("sluice_route_requests_total{route=\"pets\",class=\"2xx\"} 1\n"));
}

#[tokio::test]
async fn only_the_path_of_metrics_is_there_and_only_to_read() {
    let (_running, port) = measured("127.0.0.1:1").await;
    for (request, status) in [
        ("GET /ready", 404),
        ("GET /metrics/", 404),
        ("POST /metrics", 405),
    ] {
        let mut client = Client::connect(([127, 0, 0, 1], port).into()).await;
        let text = format!("{request} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n");
        client.send(text).await;
        assert_eq!(client.reply().await.status, status, "{request}");
    }
}

#[tokio::test]
async fn prometheus_scrapes_it() {
    if Command::new("prometheus")
        .arg("--version")
        .output()
        .await
        .is_err()
    {
        eprintln!("SKIPPED: prometheus is not installed");
        return;
    }
    let pets = Origin::text("hello").await;
    let (running, port) = measured(&pets.address().to_string()).await;
    running.connect().await.get("pets.test", "/").await;
    let folder = running.folder();
    let settings = folder.path().join("prometheus.yml");
    let text = format!(
        "global: {{ scrape_interval: 200ms }}\n\
         scrape_configs:\n- job_name: sluice\n  static_configs: [{{ targets: ['127.0.0.1:{port}'] }}]\n"
    );
    std::fs::write(&settings, text).expect("a configuration");
    let own = free_ports(1);
    let _prometheus = Command::new("prometheus")
        .arg(format!("--config.file={}", settings.display()))
        .arg(format!(
            "--storage.tsdb.path={}",
            folder.path().join("tsdb").display()
        ))
        .arg(format!("--web.listen-address=127.0.0.1:{own}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("prometheus starts");

    let query = "/api/v1/query?query=sluice_route_requests_total";
    let seen = async {
        loop {
            let there = tokio::net::TcpStream::connect(("127.0.0.1", own)).await;
            if there.is_ok() {
                let mut client = Client::connect(([127, 0, 0, 1], own).into()).await;
                let reply = client.get("127.0.0.1", query).await;
                let text = reply.text();
                if text.contains("\"route\":\"pets\"") && text.contains("\"class\":\"2xx\"") {
                    return;
                }
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    within("prometheus shows the series", seen).await;
}

#[tokio::test]
async fn streams_that_break_the_protocol_are_counted_by_listener() {
    let pets = Origin::text("hello").await;
    let (running, port) = measured(&pets.address().to_string()).await;
    let mut client = H2::connect(running.address()).await;
    for (stream, name) in [(1, "connection"), (3, "x"), (5, "keep-alive")] {
        let fields = [
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", "pets.test"),
            (":path", "/"),
            (name, "close"),
        ];
        client.send(request(stream, &block(&fields))).await;
        client.outcome(stream).await;
    }
    tells(
        port,
        "sluice_listener_streams_broken_total{listener=\"web\"} 2",
    )
    .await;
}
