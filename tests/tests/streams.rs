//! Raw TCP through the gateway: every byte, both halves, who broke off, for how long, and to whom.

use std::{net::SocketAddr, time::Duration};

use rand::{Rng as _, RngCore as _, SeedableRng as _, rngs::SmallRng};
use serde_json::Value;
use sluice_gateway::telemetry::metrics::Counter;
use sluice_tests::{
    Gateway,
    eventually::{becomes, within},
    gateway,
    origin::closed_port,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinSet,
};

#[path = "streams/counted.rs"]
mod counted;
#[path = "streams/kept.rs"]
mod kept;
#[path = "streams/memory.rs"]
mod memory;

/// A tcp listener with these keys, and a route to `u`, whose endpoints and other keys are given.
fn tcp(listener: &str, endpoints: &[SocketAddr], upstream: &str) -> String {
    let endpoints: Vec<String> = endpoints.iter().map(|it| format!("\"{it}\"")).collect();
    format!(
        "[listeners.web]\naddress = \"127.0.0.1:0\"\nprotocol = \"tcp\"\n{listener}\n\
         [routes.r]\nlisteners = \"web\"\nto = \"u\"\n\
         [upstreams.u]\nendpoints = [{}]\n{upstream}\n",
        endpoints.join(", ")
    )
}

/// A gateway in front of a socket that the test accepts on.
struct Pair {
    gateway: Gateway,
    origin: TcpListener,
}

impl Pair {
    async fn new(listener: &str, upstream: &str) -> Self {
        let origin = listening().await;
        let config = tcp(listener, &[origin.local_addr().unwrap()], upstream);
        let gateway = gateway(&config).await;
        Self { gateway, origin }
    }

    /// Both ends of a stream through the gateway.
    async fn open(&self) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(self.gateway.address()).await.unwrap();
        (client, self.accept().await)
    }

    async fn accept(&self) -> TcpStream {
        let accepted = within("a connection", self.origin.accept()).await;
        accepted.unwrap().0
    }

    /// The first line of the log.
    async fn line(&self) -> Value {
        self.gateway.log().wait(1).await.remove(0)
    }
}

async fn listening() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

/// Everything until the end.
async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut all = Vec::new();
    let read = within("the end", stream.read_to_end(&mut all)).await;
    read.expect("a clean end");
    all
}

/// Exactly so many bytes.
async fn exactly(stream: &mut (impl AsyncRead + Unpin), length: usize) -> Vec<u8> {
    let mut all = vec![0; length];
    let read = within("the bytes", stream.read_exact(&mut all)).await;
    read.expect("so many bytes");
    all
}

/// A stream to the gateway; none if it was reset before we knew that it was there.
async fn reached(gateway: &Gateway) -> Option<TcpStream> {
    match TcpStream::connect(gateway.address()).await {
        Ok(stream) => Some(stream),
        Err(error) => {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
            None
        }
    }
}

/// Opens a stream, which is reset.
async fn is_refused(gateway: &Gateway) {
    if let Some(mut client) = reached(gateway).await {
        is_reset(&mut client).await;
    }
}

/// Waits for the reset of a stream.
async fn is_reset(stream: &mut TcpStream) {
    let mut piece = [0; 1024];
    let error = loop {
        match within("a reset", stream.read(&mut piece)).await {
            Ok(0) => panic!("it ended in order"),
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn each_side_closes_its_half_and_the_other_goes_on() {
    let pair = Pair::new("", "").await;
    for client_first in [true, false] {
        let (client, server) = pair.open().await;
        let (mut first, mut second) = if client_first {
            (client, server)
        } else {
            (server, client)
        };
        first.write_all(b"all I have").await.unwrap();
        first.shutdown().await.unwrap();
        assert_eq!(rest(&mut second).await, b"all I have");
        // The other half is open for as long as it likes.
        for number in 0..3_u8 {
            second.write_all(&[number]).await.unwrap();
            assert_eq!(exactly(&mut first, 1).await, [number]);
        }
        second.shutdown().await.unwrap();
        assert_eq!(rest(&mut first).await, b"");
    }
    let mut lines = pair.gateway.log().wait(2).await;
    // Two workers may have served them, whose lines come as they like.
    lines.sort_by_key(|line| std::cmp::Reverse(line["bytes_in"].as_u64()));
    for (line, bytes) in lines.iter().zip([(10, 3), (3, 10)]) {
        assert_eq!(line["verdict"], Value::Null, "{line}");
        assert_eq!(line["scheme"], "tcp");
        assert_eq!(line["listener"], "web");
        assert_eq!(line["route"], "r");
        assert_eq!(line["upstream"], "u");
        let endpoint = pair.origin.local_addr().unwrap().to_string();
        assert_eq!(line["endpoint"], endpoint);
        assert_eq!(line["attempts"], 1);
        assert_eq!(
            (&line["bytes_in"], &line["bytes_out"]),
            (&bytes.0.into(), &bytes.1.into())
        );
        assert!(line["connect_ms"].is_number() && line["first_byte_ms"].is_number());
    }
}

#[tokio::test]
async fn a_reset_on_either_side_is_a_reset_on_the_other() {
    for (by_client, verdict) in [(true, "client_closed"), (false, "upstream_reset")] {
        let pair = Pair::new("", "").await;
        let (mut client, mut server) = pair.open().await;
        client.write_all(b"ask").await.unwrap();
        assert_eq!(exactly(&mut server, 3).await, b"ask");
        server.write_all(b"tell").await.unwrap();
        assert_eq!(exactly(&mut client, 4).await, b"tell");
        let (gone, mut left) = if by_client {
            (client, server)
        } else {
            (server, client)
        };
        gone.set_zero_linger().unwrap();
        drop(gone);
        is_reset(&mut left).await;
        let line = pair.line().await;
        assert_eq!(line["verdict"], verdict);
        assert_eq!(
            (&line["bytes_in"], &line["bytes_out"]),
            (&3.into(), &4.into())
        );
    }
}

#[tokio::test]
async fn an_answer_arrives_whole_though_its_endpoint_did_not_hear_everything() {
    let pair = Pair::new("", "").await;
    let (mut client, mut server) = pair.open().await;
    // More than the client takes by itself, less than is on its way to it.
    let answer = noise(100_000, 1);
    server.write_all(&answer).await.unwrap();
    server.shutdown().await.unwrap();
    client.write_all(b"more").await.unwrap();
    let looked = within("it is there", server.peek(&mut [0; 8])).await;
    assert_eq!(looked.unwrap(), 4);
    // Closed with unread bytes, it resets.
    drop(server);
    client.write_all(b"and more").await.unwrap();
    assert_eq!(pair.line().await["verdict"], "upstream_reset");
    assert!(rest(&mut client).await == answer);
}

/// Says `bytes` in pieces by chance, large ones and small ones in turns, and is done.
async fn say(mut to: impl AsyncWrite + Unpin, bytes: &[u8], seed: u64) {
    let mut random = SmallRng::seed_from_u64(seed);
    let (mut rest, mut most) = (bytes, 1 << 20);
    while !rest.is_empty() {
        if random.random_ratio(1, 8) {
            most = if most > 1000 { 1000 } else { 1 << 20 };
        }
        let (piece, after) = rest.split_at(random.random_range(1..=most.min(rest.len())));
        to.write_all(piece).await.expect("the gateway reads");
        if random.random_ratio(1, 8) {
            tokio::task::yield_now().await;
        }
        rest = after;
    }
    to.shutdown().await.expect("half-closed");
}

fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; length];
    SmallRng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_flows_pass_exactly_in_both_directions_at_once_and_are_counted() {
    const EACH: usize = 24 << 20;
    let pair = Pair::new("", "").await;
    let mut flows = JoinSet::new();
    for seed in 0..4 {
        let (client, server) = pair.open().await;
        flows.spawn(async move {
            let (asked, answered) = (noise(EACH, seed), noise(EACH / 2, !seed));
            let (mut client_hears, client_says) = client.into_split();
            let (mut server_hears, server_says) = server.into_split();
            let ((), (), at_client, at_server) = tokio::join!(
                say(client_says, &asked, seed),
                say(server_says, &answered, !seed),
                rest(&mut client_hears),
                rest(&mut server_hears),
            );
            assert!(at_client == answered, "what the client got differs");
            assert!(at_server == asked, "what the endpoint got differs");
        });
    }
    while let Some(flow) = flows.join_next().await {
        flow.unwrap();
    }
    for line in pair.gateway.log().wait(4).await {
        assert_eq!(line["verdict"], Value::Null);
        assert_eq!(line["bytes_in"], EACH);
        assert_eq!(line["bytes_out"], EACH / 2);
    }
    for (kind, name) in [("listener", "web"), ("route", "r"), ("upstream", "u")] {
        let reading = pair.gateway.streams(kind, name);
        assert_eq!((reading.requests(), reading.active), (4, 0), "{kind}");
        assert_eq!(reading.bytes_in, 4 * EACH as u64, "{kind}");
        assert_eq!(reading.bytes_out, 2 * EACH as u64, "{kind}");
    }
    assert_eq!(pair.gateway.count(Counter::StreamsOpened), 4);
    assert_eq!(pair.gateway.count(Counter::StreamsClosed), 4);
}

#[tokio::test]
async fn large_flows_pass_exactly_to_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("origin.sock");
    let origin = tokio::net::UnixListener::bind(&path).unwrap();
    let config = tcp("", &[], "").replace(
        "endpoints = []",
        &format!("endpoints = [\"unix:{}\"]", path.display()),
    );
    let gateway = gateway(&config).await;
    let client = TcpStream::connect(gateway.address()).await.unwrap();
    let (server, _) = within("a connection", origin.accept()).await.unwrap();
    let (asked, answered) = (noise(4 << 20, 1), noise(8 << 20, 2));
    let (mut client_hears, client_says) = client.into_split();
    let (mut server_hears, server_says) = server.into_split();
    let ((), (), at_client, at_server) = tokio::join!(
        say(client_says, &asked, 3),
        say(server_says, &answered, 4),
        rest(&mut client_hears),
        rest(&mut server_hears),
    );
    assert!(at_client == answered && at_server == asked);
}

#[tokio::test]
async fn a_client_that_stops_reading_is_cut_off() {
    let pair = Pair::new("timeouts = { write_stall = \"300ms\" }", "").await;
    let (client, mut server) = pair.open().await;
    let flood = async {
        let piece = vec![0; 1 << 20];
        while server.write_all(&piece).await.is_ok() {}
    };
    within("the gateway gives up", flood).await;
    let line = pair.line().await;
    assert_eq!(line["verdict"], "client_stalled");
    drop(client);
}

#[tokio::test]
async fn quiet_and_long_streams_end_with_their_verdict() {
    for (limits, verdict) in [
        ("idle_timeout = \"300ms\"", "stream_idle"),
        ("max_duration = \"300ms\"", "stream_expired"),
    ] {
        let pair = Pair::new(&format!("stream = {{ {limits} }}"), "").await;
        let (mut client, mut server) = pair.open().await;
        client.write_all(b"x").await.unwrap();
        exactly(&mut server, 1).await;
        // The client in order, the endpoint not.
        assert_eq!(rest(&mut client).await, b"");
        is_reset(&mut server).await;
        let line = pair.line().await;
        assert_eq!(line["verdict"], verdict);
        assert_eq!(line["status"], 0);
        assert!(line["duration_ms"].as_f64().unwrap() >= 300.0);
        let failures = pair.gateway.streams("route", "r").reasons;
        assert_eq!(failures.get(verdict), Some(&1));
    }
}

#[tokio::test]
async fn weights_split_streams() {
    let (stable, canary) = (listening().await, listening().await);
    let config = tcp("", &[stable.local_addr().unwrap()], "").replace(
        "to = \"u\"",
        &format!(
            "to = [{{ upstream = \"u\", weight = 3 }}, {{ address = \"{}\", weight = 1 }}]",
            canary.local_addr().unwrap()
        ),
    );
    let gateway = gateway(&config).await;
    let mut counts = [0, 0];
    for _ in 0..200 {
        let _client = TcpStream::connect(gateway.address()).await.unwrap();
        let accepted = async {
            tokio::select! {
                accepted = stable.accept() => (0, accepted),
                accepted = canary.accept() => (1, accepted),
            }
        };
        let (which, accepted) = within("a connection", accepted).await;
        accepted.unwrap();
        counts[which] += 1;
    }
    // 50 by the weights; six standard deviations are 37.
    assert!((13..=87).contains(&counts[1]), "{counts:?}");
}

#[tokio::test]
async fn another_endpoint_is_tried_where_one_cannot_be_reached() {
    let (dead, _guard) = closed_port();
    let origin = listening().await;
    let live = origin.local_addr().unwrap();
    let gateway = gateway(&tcp("", &[dead, live], "")).await;
    for _ in 0..8 {
        let mut client = TcpStream::connect(gateway.address()).await.unwrap();
        // Sent before anybody is connected: it must not be lost with the first attempt.
        client.write_all(b"early").await.unwrap();
        let (mut server, _) = within("a connection", origin.accept()).await.unwrap();
        assert_eq!(exactly(&mut server, 5).await, b"early");
    }
    let lines = gateway.log().wait(8).await;
    let twice = lines.iter().filter(|line| line["attempts"] == 2).count();
    assert!(
        (1..8).contains(&twice),
        "each began with one of both: {twice}"
    );
    assert!(
        lines
            .iter()
            .all(|line| line["endpoint"] == live.to_string())
    );
    assert_eq!(gateway.count(Counter::UpstreamRetries), twice as u64);
}

#[tokio::test]
async fn attempts_are_bounded_and_the_client_is_told_by_a_reset() {
    let closed: Vec<_> = std::iter::repeat_with(closed_port).take(5).collect();
    let dead: Vec<_> = closed.iter().map(|(address, _)| *address).collect();
    for (endpoints, attempts) in [(&dead[..], 3), (&dead[..2], 2), (&dead[..1], 1)] {
        let gateway = gateway(&tcp("", endpoints, "")).await;
        is_refused(&gateway).await;
        let line = gateway.log().wait(1).await.remove(0);
        assert_eq!(line["verdict"], "connect");
        assert_eq!(line["attempts"], attempts, "{line}");
        assert_eq!(line["retry"], "not_connected");
        assert!(line["failed_ms"].is_number(), "{line}");
        let endpoint = line["endpoint"].as_str().unwrap();
        assert!(endpoints.iter().any(|it| it.to_string() == endpoint));
    }
}

#[tokio::test]
async fn an_upstream_takes_as_many_streams_as_it_may() {
    let pair = Pair::new("", "limits = { connections = 1, pending_requests = 0 }").await;
    // Each worker may always hold one.
    let mut held = Vec::new();
    let refused = loop {
        let Some(mut client) = reached(&pair.gateway).await else {
            break held.len();
        };
        let accepted = tokio::select! {
            accepted = pair.origin.accept() => accepted.unwrap(),
            () = is_reset(&mut client) => break held.len(),
        };
        held.push((client, accepted));
    };
    assert!((1..=2).contains(&refused), "{refused}");
    assert_eq!(pair.line().await["verdict"], "overflow");
}

#[tokio::test]
async fn a_client_has_as_many_streams_as_it_may() {
    let pair = Pair::new("limits = { connections_per_client = 2 }", "").await;
    let held = [pair.open().await, pair.open().await];
    if let Some(mut third) = reached(&pair.gateway).await {
        let mut piece = [0; 1];
        let read = within("it is closed", third.read(&mut piece)).await;
        assert!(matches!(read, Ok(0) | Err(_)));
    }
    assert_eq!(pair.gateway.count(Counter::ConnectionsRefused), 1);

    // Another address has its own.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 2], 0).into()).unwrap();
    let _other = socket.connect(pair.gateway.address()).await.unwrap();
    let _theirs = pair.accept().await;
    drop(held);
    // Who left makes room.
    becomes("its streams have ended", 1, || {
        pair.gateway.streams("listener", "web").active
    })
    .await;
    let _again = pair.open().await;
}

#[tokio::test]
async fn rules_tell_clients_and_destinations_apart() {
    let (near, far, other) = (listening().await, listening().await, listening().await);
    let address = |it: &TcpListener| it.local_addr().unwrap();
    let config = format!(
        "[listeners.web]\naddress = \"0.0.0.0:0\"\nprotocol = \"tcp\"\n\
         [routes.r]\nlisteners = \"web\"\nto = \"{}\"\n\
         [[routes.r.rules]]\nmatch = {{ client = \"127.0.0.2/32\" }}\nto = \"{}\"\n\
         [[routes.r.rules]]\nmatch = {{ destination = \"127.0.0.3/32\" }}\nto = \"{}\"\n",
        address(&other),
        address(&near),
        address(&far)
    );
    let gateway = gateway(&config).await;
    let port = gateway.address().port();
    for (from, to, origin) in [(1, 1, &other), (2, 1, &near), (1, 3, &far), (2, 3, &near)] {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, from], 0).into()).unwrap();
        let connected = socket.connect(([127, 0, 0, to], port).into()).await;
        let _client = connected.unwrap();
        within("it goes where its rule says", origin.accept())
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_stream_that_no_rule_is_for_is_reset() {
    let config = tcp("", &[], "").replace("to = \"u\"", "")
        + "[[routes.r.rules]]\nmatch = { client = \"127.0.0.9/32\" }\nto = \"127.0.0.1:9\"\n";
    let gateway = gateway(&config.replace("[upstreams.u]\nendpoints = []", "")).await;
    is_refused(&gateway).await;
    let line = gateway.log().wait(1).await.remove(0);
    assert_eq!(line["verdict"], "no_route");
    assert_eq!(line["attempts"], 0);
}
