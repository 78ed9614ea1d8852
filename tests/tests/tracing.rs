//! Traces as a receiver sees them: names, parents, attributes, sampling, propagation, and a receiver
//! that is not there.

#[path = "tracing/receiver.rs"]
mod receiver;

use std::{collections::BTreeMap, time::Duration};

use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind, status::StatusCode};
use receiver::{Receiver, attributes, hex};
use sluice_certs::testing::{Authority, Server};
use sluice_gateway::telemetry::{metrics::Counter, trace::Environment};
use sluice_tests::{
    Front, Gateway, Origin,
    eventually::within,
    gateway,
    origin::{closed_port, ok},
};
use tokio::net::UdpSocket;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

fn tracing(receiver: &Receiver, protocol: &str, rest: &str) -> String {
    let url = &receiver.url;
    format!(
        "[tracing]\notlp = {{ endpoint = {url:?}, protocol = {protocol:?}, \
         headers = {{ x-tenant = \"shop\" }} }}\nservice_name = \"edge\"\n{rest}"
    )
}

fn of_kind(spans: &[Span], kind: SpanKind) -> Vec<&Span> {
    let kind = i32::from(kind);
    spans.iter().filter(|span| span.kind == kind).collect()
}

/// The server span and the client span of one request.
fn pair(spans: &[Span]) -> (&Span, &Span) {
    let (server, client) = (
        of_kind(spans, SpanKind::Server),
        of_kind(spans, SpanKind::Client),
    );
    assert_eq!((server.len(), client.len()), (1, 1), "{spans:#?}");
    (server[0], client[0])
}

fn told(said: &BTreeMap<String, String>, expected: &[(&str, &str)]) {
    for (key, value) in expected {
        assert_eq!(said.get(*key).map(String::as_str), Some(*value), "{key}");
    }
}

async fn ask(gateway: &Gateway, host: &str, headers: &str) -> u16 {
    let request = format!("GET /a/b?token=1 HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n");
    gateway.ask(request).await.status
}

#[tokio::test]
async fn a_request_has_a_span_and_its_attempt_one_below_it_over_both_protocols() {
    for (protocol, receiver) in [
        ("grpc", receiver::grpc().await),
        ("http/protobuf", receiver::http().await),
    ] {
        let origin = Origin::text("hello").await;
        let route = format!("[routes.app]\nto = \"{}\"\n", origin.address());
        let gateway = gateway(&tracing(&receiver, protocol, &route)).await;

        assert_eq!(ask(&gateway, "app.test:81", "User-Agent: t\r\n").await, 200);

        let spans = receiver.received.wait(2).await;
        let (server, client) = pair(&spans);
        assert_eq!(server.name, "GET app/*", "{spans:#?}");
        assert_eq!(client.name, "GET");
        assert!(server.parent_span_id.is_empty());
        assert_eq!(client.parent_span_id, server.span_id);
        assert_eq!(client.trace_id, server.trace_id);
        assert!(server.start_time_unix_nano <= client.start_time_unix_nano);
        assert!(client.end_time_unix_nano <= server.end_time_unix_nano);
        let port = origin.address().port().to_string();
        told(
            &attributes(&server.attributes),
            &[
                ("http.request.method", "GET"),
                ("url.path", "/a/b"),
                ("url.scheme", "http"),
                ("server.address", "app.test"),
                ("client.address", "127.0.0.1"),
                ("network.peer.address", "127.0.0.1"),
                ("network.protocol.version", "1.1"),
                ("http.response.status_code", "200"),
                ("http.response.body.size", "5"),
                ("http.route", "app/*"),
                ("user_agent.original", "t"),
                ("sluice.listener", "web"),
                ("sluice.route", "app"),
            ],
        );
        told(
            &attributes(&client.attributes),
            &[
                ("http.request.method", "GET"),
                ("http.response.status_code", "200"),
                ("server.address", "127.0.0.1"),
                ("server.port", &port),
                ("network.peer.port", &port),
                ("sluice.connection_reused", "false"),
            ],
        );
        assert!(!attributes(&server.attributes).contains_key("error.type"));
        let said = receiver.received.resource("service.name");
        assert_eq!(said.as_deref(), Some("edge"));
        let tenant = receiver.received.header("x-tenant");
        assert_eq!(tenant.as_deref(), Some("shop"));
        let path = if protocol == "grpc" {
            "grpc"
        } else {
            "/v1/traces"
        };
        assert_eq!(receiver.received.path(), path);

        // The endpoint and the access log know the same trace.
        let seen = &origin.wait_for_requests(1).await[0];
        let (trace, span) = (hex(&client.trace_id), hex(&client.span_id));
        let expected = format!("00-{trace}-{span}-01");
        assert_eq!(seen.header("traceparent"), Some(expected.as_str()));
        let line = &gateway.log().wait(1).await[0];
        assert_eq!(line["trace_id"], trace);
        gateway.counts(Counter::SpansExported, 2).await;
    }
}

#[tokio::test]
async fn a_trace_is_joined_and_its_callers_decision_honoured() {
    let receiver = receiver::grpc().await;
    let origin = Origin::text("hello").await;
    // Whoever calls decides: the share is for traces that begin here.
    let route = format!(
        "sample = 0.0\n[routes.app]\nto = \"{}\"\n",
        origin.address()
    );
    let gateway = gateway(&tracing(&receiver, "grpc", &route)).await;
    let from = |flags: &str| {
        format!(
            "traceparent: 00-{TRACE}-{CALLER}-{flags}\r\ntracestate: a=1\r\ntracestate: b=2\r\n"
        )
    };

    let broken = "traceparent: 00-xyz-01\r\ntracestate: a=1\r\n".to_owned();
    for (host, headers) in [
        ("quiet", from("00")),
        ("loud", from("01")),
        ("new", String::new()),
        ("broken", broken),
    ] {
        assert_eq!(ask(&gateway, host, &headers).await, 200);
    }

    let spans = receiver.received.wait(2).await;
    let (server, client) = pair(&spans);
    assert_eq!(hex(&server.trace_id), TRACE);
    assert_eq!(hex(&server.parent_span_id), CALLER);
    assert_eq!(client.parent_span_id, server.span_id);
    assert_eq!(server.trace_state, "a=1,b=2");

    let seen = origin.wait_for_requests(4).await;
    let saw = |host: &str| {
        let mut requests = seen.iter();
        let found = requests.find(|request| request.header("host") == Some(host));
        found.expect("it was asked")
    };
    let parent = |host: &str| saw(host).header("traceparent");
    // Not recorded here: the caller is passed on as it came.
    let unrecorded = format!("00-{TRACE}-{CALLER}-00");
    assert_eq!(parent("quiet"), Some(unrecorded.as_str()));
    let recorded = format!("00-{TRACE}-{}-01", hex(&client.span_id));
    assert_eq!(parent("loud"), Some(recorded.as_str()));
    let states: Vec<_> = saw("loud").all("tracestate").collect();
    assert_eq!(states, ["a=1", "b=2"]);
    // Begun here, not recorded: who is called learns that.
    for host in ["new", "broken"] {
        let parent = parent(host).expect("a trace begins here");
        assert!(
            parent.ends_with("-00") && !parent.contains(TRACE),
            "{parent}"
        );
        assert_eq!(saw(host).header("tracestate"), None);
    }
    let line = gateway.log().wait_for("host", "quiet").await;
    assert_eq!(line["trace_id"], TRACE);
    let line = gateway.log().wait_for("host", "new").await;
    assert!(line["trace_id"].is_string());
}

#[tokio::test]
async fn the_nearest_share_decides_which_requests_are_recorded() {
    let receiver = receiver::grpc().await;
    let config = tracing(
        &receiver,
        "grpc",
        "sample = 0.0\n[listeners.web]\naddress = \"127.0.0.1:0\"\n\
         [routes.all]\nhosts = \"all\"\ntrace = { sample = 1.0 }\n\
         [[routes.all.rules]]\nname = \"quiet\"\nmatch = { path = \"/a/b\", headers = { x-quiet = \"1\" } }\n\
         trace = { sample = 0.0 }\nrespond = {}\n\
         [[routes.all.rules]]\nname = \"loud\"\nrespond = {}\n\
         [routes.none]\nhosts = \"none\"\nrespond = {}\n",
    );
    let gateway = gateway(&config).await;
    for _ in 0..3 {
        ask(&gateway, "none", "").await;
        ask(&gateway, "all", "X-Quiet: 1\r\n").await;
    }
    ask(&gateway, "all", "").await;
    assert_eq!(ask(&gateway, "nowhere", "").await, 404);

    let spans = receiver.received.wait(1).await;
    let names: Vec<_> = spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["GET all/loud"]);
    gateway.counts(Counter::SpansExported, 1).await;

    // The listener's share holds where no route says another, also for what finds no route.
    let config = config.replace("127.0.0.1:0\"\n", "127.0.0.1:0\"\ntrace = { sample = 1 }\n");
    let other = sluice_tests::gateway(&config).await;
    assert_eq!(ask(&other, "nowhere", "").await, 404);
    let spans = receiver.received.wait(2).await;
    told(
        &attributes(&spans[1].attributes),
        &[
            ("error.type", "no_route"),
            ("http.response.status_code", "404"),
        ],
    );
}

#[tokio::test]
async fn failures_and_repeated_attempts_are_told() {
    let receiver = receiver::grpc().await;
    let (dead, _held) = closed_port();
    let once = Origin::start(|mut peer| async move {
        if peer.request().await.is_some() {
            peer.send(ok("x")).await;
            peer.request().await;
        }
    })
    .await;
    let routes = format!(
        "[routes.dead]\nhosts = \"dead\"\nto = \"{dead}\"\n\
         [routes.once]\nhosts = \"once\"\nto = \"{}\"\n",
        once.address()
    );
    let gateway = Gateway::start(&tracing(&receiver, "grpc", &routes), 1).await;
    let mut client = gateway.connect().await;
    assert_eq!(client.get("dead", "/").await.status, 502);
    let spans = receiver.received.wait(2).await;
    let (server, attempt) = pair(&spans);
    for span in [server, attempt] {
        told(&attributes(&span.attributes), &[("error.type", "connect")]);
        let status = span.status.clone().expect("a status");
        assert_eq!(status.code, i32::from(StatusCode::Error));
    }

    assert_eq!(client.get("once", "/").await.status, 200);
    assert_eq!(client.get("once", "/").await.status, 200);
    let spans = receiver.received.wait(7).await;
    let parent = spans.last().expect("seven");
    assert_eq!(parent.kind, i32::from(SpanKind::Server));
    let attempts: Vec<_> = spans
        .iter()
        .filter(|span| span.parent_span_id == parent.span_id)
        .map(|span| attributes(&span.attributes))
        .collect();
    assert_eq!(attempts.len(), 2, "{spans:#?}");
    told(
        &attempts[0],
        &[
            ("error.type", "upstream_reset"),
            ("sluice.connection_reused", "true"),
        ],
    );
    told(
        &attempts[1],
        &[
            ("http.request.resend_count", "1"),
            ("http.response.status_code", "200"),
            ("sluice.connection_reused", "false"),
        ],
    );
}

#[tokio::test]
async fn a_receiver_that_is_not_there_costs_spans_and_no_request() {
    let (dead, _held) = closed_port();
    let config = format!(
        "[tracing]\notlp = {{ endpoint = \"http://{dead}\" }}\n[routes.app]\nrespond = {{}}\n"
    );
    let mut gateway = gateway(&config).await;
    let mut client = gateway.connect().await;
    for _ in 0..50 {
        let reply = tokio::time::timeout(Duration::from_secs(5), client.get("a", "/"));
        assert_eq!(reply.await.expect("in time").status, 200);
    }
    gateway.counts(Counter::SpansDropped, 50).await;
    assert_eq!(gateway.count(Counter::SpansExported), 0);
    client.finish().await;
    assert!(gateway.drain(Duration::from_secs(5)).await);
}

#[tokio::test]
async fn the_last_spans_are_sent_before_the_end() {
    let receiver = receiver::grpc().await;
    let mut gateway = gateway(&tracing(&receiver, "grpc", "[routes.app]\nrespond = {}\n")).await;
    for _ in 0..5 {
        ask(&gateway, "a", "").await;
    }
    gateway.drain(Duration::from_secs(5)).await;
    assert_eq!(receiver.received.spans().len(), 5);
}

#[tokio::test]
async fn without_a_receiver_a_trace_passes_through_untouched() {
    let origin = Origin::text("hello").await;
    let gateway = gateway(&format!("[routes.app]\nto = \"{}\"\n", origin.address())).await;
    let caller = "traceparent: not-ours\r\ntracestate: a=1\r\n";
    assert_eq!(ask(&gateway, "a", caller).await, 200);
    assert_eq!(ask(&gateway, "a", "").await, 200);
    let seen = origin.wait_for_requests(2).await;
    assert_eq!(seen[0].header("traceparent"), Some("not-ours"));
    assert_eq!(seen[0].header("tracestate"), Some("a=1"));
    assert_eq!(seen[1].header("traceparent"), None);
    let line = &gateway.log().wait(1).await[0];
    assert_eq!(line["trace_id"], serde_json::Value::Null);
}

#[tokio::test]
async fn the_environment_says_what_the_configuration_does_not() {
    let receiver = receiver::http().await;
    let environment = variables(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url.as_str()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=a%20b"),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test"),
        ("OTEL_SERVICE_NAME", "from-env"),
        ("OTEL_TRACES_SAMPLER", "parentbased_always_off"),
    ]);
    let gateway = Gateway::start_in("[routes.app]\nrespond = {}\n", 1, environment).await;
    ask(&gateway, "a", "").await;
    let caller = format!("traceparent: 00-{TRACE}-{CALLER}-01\r\n");
    ask(&gateway, "a", &caller).await;
    let spans = receiver.received.wait(1).await;
    assert_eq!(hex(&spans[0].trace_id), TRACE);
    let resource = |key: &str| receiver.received.resource(key);
    assert_eq!(resource("service.name").as_deref(), Some("from-env"));
    assert_eq!(resource("deployment.environment").as_deref(), Some("test"));
    let tenant = receiver.received.header("x-tenant");
    assert_eq!(tenant.as_deref(), Some("a b"));
    gateway.counts(Counter::SpansExported, 1).await;
}

fn variables(pairs: &[(&str, &str)]) -> Environment {
    let pairs = pairs.iter();
    pairs
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

#[tokio::test]
async fn b3_is_heard_and_told_where_the_environment_asks_for_it() {
    let receiver = receiver::grpc().await;
    let origin = Origin::text("hello").await;
    let to = format!("[routes.app]\nto = \"{}\"\n", origin.address());
    let single = format!("b3: {TRACE}-{CALLER}-1\r\n");
    let multi = format!(
        "X-B3-TraceId: {TRACE}\r\nX-B3-SpanId: {CALLER}\r\nX-B3-ParentSpanId: {CALLER}\r\nX-B3-Sampled: 1\r\n"
    );
    let mut asked = 0;
    for (list, caller) in [
        ("b3", &multi),
        ("b3multi", &single),
        ("b3multi,tracecontext", &multi),
    ] {
        let environment = variables(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url.as_str()),
            ("OTEL_PROPAGATORS", list),
            // Only who is told to records.
            ("OTEL_TRACES_SAMPLER", "parentbased_always_off"),
        ]);
        let gateway = Gateway::start_in(&to, 1, environment).await;
        ask(&gateway, "a", caller).await;
        ask(&gateway, "a", "b3: 0\r\n").await;
        asked += 2;
        gateway.counts(Counter::SpansExported, 2).await;
        let spans = receiver.received.wait(asked).await;
        let (client, server) = (&spans[asked - 2], &spans[asked - 1]);
        assert_eq!(hex(&server.trace_id), TRACE, "{list}");
        assert_eq!(hex(&server.parent_span_id), CALLER, "{list}");
        let requests = origin.wait_for_requests(asked).await;
        let told = |name: &str| requests[asked - 2].header(name).map(ToOwned::to_owned);
        let span = hex(&client.span_id);
        let (one, several) = (list == "b3", list.contains("b3multi"));
        assert_eq!(
            told("b3"),
            one.then(|| format!("{TRACE}-{span}-1")),
            "{list}"
        );
        assert_eq!(
            told("x-b3-traceid"),
            several.then(|| TRACE.to_owned()),
            "{list}"
        );
        assert_eq!(told("x-b3-spanid"), several.then(|| span.clone()), "{list}");
        assert_eq!(
            told("x-b3-sampled"),
            several.then(|| "1".to_owned()),
            "{list}"
        );
        assert_eq!(told("x-b3-parentspanid"), None, "{list}");
        let w3c = list.contains("tracecontext");
        let expected = w3c.then(|| format!("00-{TRACE}-{span}-01"));
        assert_eq!(told("traceparent"), expected, "{list}");
    }
}

#[tokio::test]
async fn without_propagators_nobody_is_heard_and_nobody_told() {
    let receiver = receiver::grpc().await;
    let origin = Origin::text("hello").await;
    let to = format!("[routes.app]\nto = \"{}\"\n", origin.address());
    let environment = variables(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url.as_str()),
        ("OTEL_PROPAGATORS", "none"),
    ]);
    let gateway = Gateway::start_in(&to, 1, environment).await;
    let caller = format!("traceparent: 00-{TRACE}-{CALLER}-01\r\n");
    ask(&gateway, "a", &caller).await;
    ask(&gateway, "a", "").await;
    let spans = receiver.received.wait(4).await;
    assert!(spans.iter().all(|span| hex(&span.trace_id) != TRACE));
    let seen = origin.wait_for_requests(2).await;
    // As it came, like any other header.
    let came = format!("00-{TRACE}-{CALLER}-01");
    assert_eq!(seen[0].header("traceparent"), Some(came.as_str()));
    assert_eq!(seen[1].header("traceparent"), None);
}

#[tokio::test]
async fn spans_go_over_tls_to_a_receiver_that_is_believed_and_to_no_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| folder.path().join(name).display().to_string();
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    std::fs::write(file("ca.pem"), ours.pem()).expect("a file");
    std::fs::write(file("other.pem"), other.pem()).expect("a file");
    ours.client(&["edge.example"]).write(folder.path());
    let leaf = ours.server(&["127.0.0.1"]);
    let (ca, wrong) = (file("ca.pem"), file("other.pem"));
    let (chain, key) = (file("chain.pem"), file("key.pem"));

    for (protocol, alpn) in [("grpc", "h2"), ("http/protobuf", "http/1.1")] {
        let receiver = match protocol {
            "grpc" => receiver::grpc().await,
            _ => receiver::http().await,
        };
        let plain = receiver.url.trim_start_matches("http://");
        let server = Server::new(&leaf, &["h2", "http/1.1"], Some(&ours), false);
        let front = Front::before(plain.parse().expect("an address"), server).await;
        let url = format!("https://{}", front.address());
        let environment = |ca: &str| {
            variables(&[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str()),
                ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
                ("OTEL_EXPORTER_OTLP_CERTIFICATE", ca),
                ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", &chain),
                ("OTEL_EXPORTER_OTLP_CLIENT_KEY", &key),
            ])
        };
        let routes = "[routes.app]\nrespond = {}\n";
        let gateway = Gateway::start_in(routes, 1, environment(&ca)).await;
        assert_eq!(ask(&gateway, "a", "").await, 200);
        assert_eq!(receiver.received.wait(1).await.len(), 1, "{protocol}");
        let seen = &front.seen()[0];
        assert_eq!(seen.alpn.as_deref(), Some(alpn));
        assert_eq!(seen.client.as_deref(), Some("edge.example"));

        let gateway = Gateway::start_in(routes, 1, environment(&wrong)).await;
        assert_eq!(ask(&gateway, "a", "").await, 200);
        gateway.counts(Counter::SpansDropped, 1).await;
        assert_eq!(receiver.received.spans().len(), 1, "{protocol}");
    }
}

#[tokio::test]
async fn what_can_never_be_sent_is_refused_and_says_why() {
    let environment = variables(&[("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere/ca.pem")]);
    let routes = "[routes.app]\nrespond = {}\n";
    let gateway = Gateway::start_in(routes, 1, environment).await;
    let config = format!("[tracing]\notlp = {{ endpoint = \"https://127.0.0.1:1\" }}\n{routes}");
    let refused = gateway.try_reload(&config).await.expect_err("no such file");
    assert!(refused.contains("/nowhere/ca.pem"), "{refused}");

    let environment = variables(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://127.0.0.1")]);
    let off = format!("[tracing]\notlp = {{ endpoint = \"http://127.0.0.1:1\" }}\n{routes}");
    let gateway = Gateway::start_in(&off, 1, environment).await;
    let refused = gateway
        .try_reload(routes)
        .await
        .expect_err("no such scheme");
    assert!(refused.contains("OTEL_EXPORTER_OTLP_ENDPOINT"), "{refused}");
}

#[tokio::test]
async fn a_reload_changes_the_receiver() {
    let (first, second) = (receiver::grpc().await, receiver::http().await);
    let routes = "[routes.app]\nrespond = {}\n";
    let gateway = gateway(&tracing(&first, "grpc", routes)).await;
    ask(&gateway, "a", "").await;
    gateway
        .reload(&tracing(&second, "http/protobuf", routes))
        .await;
    ask(&gateway, "a", "").await;
    gateway.reload(routes).await;
    ask(&gateway, "a", "").await;
    first.received.wait(1).await;
    second.received.wait(1).await;
    gateway.counts(Counter::SpansExported, 2).await;
    assert_eq!(first.received.spans().len(), 1);
    assert_eq!(second.received.spans().len(), 1);
}

#[tokio::test]
async fn a_session_of_datagrams_has_a_span_with_its_verdict() {
    let receiver = receiver::grpc().await;
    let (echo, gone) = (
        UdpSocket::bind("127.0.0.1:0").await,
        UdpSocket::bind("127.0.0.1:0").await,
    );
    let echo = echo.expect("a port");
    let gone = gone.expect("a port").local_addr().expect("an address");
    let there = echo.local_addr().expect("an address");
    let config = format!(
        "[listeners.dns]\naddress = \"127.0.0.1:0\"\nprotocol = \"udp\"\n\
         udp = {{ one_shot = true, idle_timeout = \"1s\" }}\n\
         [routes.app]\nlisteners = \"dns\"\n\
         [[routes.app.rules]]\nmatch = {{ client = \"127.0.0.1\" }}\nto = \"{there}\"\n\
         [[routes.app.rules]]\nname = \"off\"\nmatch = {{ client = \"127.0.0.2\" }}\n\
         trace = {{ sample = 0.0 }}\nto = \"{there}\"\n\
         [[routes.app.rules]]\nname = \"gone\"\nto = \"{gone}\"\n"
    );
    let gateway = gateway(&tracing(&receiver, "grpc", &config)).await;
    let address = gateway.address_of("dns").expect("it listens");
    let mut buffer = [0; 8];
    for own in ["127.0.0.2:0", "127.0.0.1:0", "127.0.0.3:0"] {
        let client = UdpSocket::bind(own).await.expect("a port");
        client
            .send_to(b"hello", address)
            .await
            .expect("it goes out");
        if own == "127.0.0.3:0" {
            break;
        }
        let (_, from) = within("a datagram", echo.recv_from(&mut buffer))
            .await
            .expect("one");
        echo.send_to(b"hi", from).await.expect("it goes out");
        within("an answer", client.recv(&mut buffer))
            .await
            .expect("one");
    }
    let spans = receiver.received.wait(2).await;
    let named = |name: &str| spans.iter().find(|span| span.name == name).expect("a span");
    let (good, bad) = (named("udp app/#1"), named("udp app/gone"));
    let said = attributes(&good.attributes);
    told(
        &said,
        &[
            ("sluice.listener", "dns"),
            ("sluice.route", "app"),
            ("sluice.endpoint", &there.to_string()),
            ("client.address", "127.0.0.1"),
            ("network.transport", "udp"),
            ("sluice.stream.received", "5"),
            ("sluice.stream.sent", "2"),
        ],
    );
    assert!(!said.contains_key("error.type"), "{said:?}");
    assert!(good.start_time_unix_nano < good.end_time_unix_nano);
    told(&attributes(&bad.attributes), &[("error.type", "connect")]);
    let status = bad.status.as_ref().expect("a status");
    assert_eq!(status.code, i32::from(StatusCode::Error));
    let line = gateway.log().wait_for("verdict", "connect").await;
    assert_eq!(line["trace_id"], hex(&bad.trace_id));
    assert!(line["failed_ms"].as_f64().is_some(), "{line}");
    // All three were told of; the one that is not recorded has no span.
    gateway.log().wait(3).await;
    assert_eq!(receiver.received.spans().len(), 2);
}

#[tokio::test]
async fn a_raw_stream_has_a_span_and_its_attempt_to_connect_one_below_it() {
    let receiver = receiver::grpc().await;
    let origin = Origin::start(|mut peer| async move { peer.echo().await }).await;
    let config = format!(
        "[listeners.web]\naddress = \"127.0.0.1:0\"\nprotocol = \"tcp\"\n\
         [routes.app]\nlisteners = \"web\"\nto = \"{}\"\n",
        origin.address()
    );
    let gateway = gateway(&tracing(&receiver, "grpc", &config)).await;
    let mut client = gateway.connect().await;
    client.send("hello").await;
    assert_eq!(client.read_at_least(5).await, b"hello");
    // Its attempt is over, the stream is not.
    let spans = receiver.received.wait(1).await;
    assert_eq!(spans[0].name, "connect");
    drop(client);

    let spans = receiver.received.wait(2).await;
    let (server, client) = pair(&spans);
    assert_eq!(server.name, "tcp app/*");
    assert_eq!(client.parent_span_id, server.span_id);
    assert!(client.end_time_unix_nano < server.end_time_unix_nano);
    let said = attributes(&server.attributes);
    told(
        &said,
        &[
            ("sluice.listener", "web"),
            ("sluice.route", "app"),
            ("client.address", "127.0.0.1"),
            ("network.transport", "tcp"),
            ("sluice.stream.received", "5"),
            ("sluice.stream.sent", "5"),
        ],
    );
    assert!(!said.contains_key("http.response.status_code"), "{said:?}");
    let said = attributes(&client.attributes);
    let port = origin.address().port().to_string();
    told(&said, &[("server.port", &port)]);
    assert!(!said.contains_key("http.request.method"), "{said:?}");
    let line = gateway.log().wait(1).await.remove(0);
    assert_eq!(line["trace_id"], hex(&server.trace_id));
}
