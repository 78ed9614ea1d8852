//! HTTP/2 towards origins, through the real engine: shared connections, goodbyes, refusals, trailers,
//! flow control, cancellation, and which protocol is spoken to whom.

use std::{
    future::{Future, poll_fn},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, server::SendResponse};
use http::{HeaderMap, Request, Response};
use sluice_gateway::{drain::Tasks, telemetry::metrics::Counter};
use sluice_tests::{
    Client, Gateway,
    eventually::{becomes, eventually, within},
    h2::{H2, Outcome, wire},
};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::Instant,
};

/// An origin that speaks HTTP/2 to whoever begins with it, and else says `one` in HTTP/1.1.
struct Origin {
    address: SocketAddr,
    counts: Arc<Counts>,
    tasks: Tasks,
}

/// What an origin saw.
#[derive(Default)]
struct Counts {
    connections: AtomicU64,
    requests: AtomicU64,
    /// Requests at a time, and their greatest number.
    now: AtomicU64,
    most: AtomicU64,
    cancelled: AtomicU64,
    written: AtomicU64,
}

/// How an origin behaves.
#[derive(Clone)]
struct Manners {
    /// Streams at a time on a connection.
    streams: u32,
    /// Says goodbye on a connection after this many requests.
    goodbye_after: u64,
    /// Requests that are refused at first.
    refusals: u64,
    /// What requests to `/gate` wait for.
    gate: Arc<Semaphore>,
}

impl Default for Manners {
    fn default() -> Self {
        Self {
            streams: 1000,
            goodbye_after: u64::MAX,
            refusals: 0,
            gate: Arc::new(Semaphore::new(0)),
        }
    }
}

impl Origin {
    async fn start(manners: Manners) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (counts, tasks) = (Arc::new(Counts::default()), Tasks::new());
        let (seen, own) = (Arc::clone(&counts), tasks.clone());
        tasks.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                seen.connections.fetch_add(1, Ordering::Relaxed);
                let (manners, seen, tasks) = (manners.clone(), Arc::clone(&seen), own.clone());
                own.spawn(greet(stream, manners, seen, tasks));
            }
        });
        Self {
            address,
            counts,
            tasks,
        }
    }

    fn connections(&self) -> u64 {
        self.counts.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.tasks.abort();
    }
}

async fn greet(mut stream: TcpStream, manners: Manners, counts: Arc<Counts>, tasks: Tasks) {
    let mut first = [0; 3];
    while stream
        .peek(&mut first)
        .await
        .is_ok_and(|read| read < 3 && read > 0)
    {
        tokio::task::yield_now().await;
    }
    if first == *b"PRI" {
        serve(stream, manners, counts, tasks).await;
    } else {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\none";
        stream.write_all(answer).await.unwrap_or_default();
    }
}

async fn serve(stream: TcpStream, manners: Manners, counts: Arc<Counts>, tasks: Tasks) {
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(manners.streams);
    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else {
        return;
    };
    let mut served = 0;
    while let Some(Ok((request, mut reply))) = connection.accept().await {
        let number = counts.requests.fetch_add(1, Ordering::Relaxed);
        if number < manners.refusals {
            reply.send_reset(Reason::REFUSED_STREAM);
            continue;
        }
        served += 1;
        if served == manners.goodbye_after {
            connection.graceful_shutdown();
        }
        let (manners, counts) = (manners.clone(), Arc::clone(&counts));
        tasks.spawn(async move {
            let now = counts.now.fetch_add(1, Ordering::Relaxed) + 1;
            counts.most.fetch_max(now, Ordering::Relaxed);
            // A client that left is no failure of the test.
            answer(request, reply, &manners, &counts)
                .await
                .unwrap_or_default();
            counts.now.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

async fn answer(
    request: Request<RecvStream>,
    mut reply: SendResponse<Bytes>,
    manners: &Manners,
    counts: &Counts,
) -> Result<(), h2::Error> {
    let path = request.uri().path().to_owned();
    let mut body = request.into_body();
    match path.as_str() {
        "/gate" => {
            let _passed = manners.gate.acquire().await;
        }
        "/never" => {
            if let Ok(Reason::CANCEL) = poll_fn(|cx| reply.poll_reset(cx)).await {
                counts.cancelled.fetch_add(1, Ordering::Relaxed);
            }
            return Ok(());
        }
        "/endless" => {
            let stream = reply.send_response(Response::new(()), false)?;
            return pour(stream, counts).await;
        }
        _ => {}
    }
    let mut said = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        said.extend_from_slice(&data);
        body.flow_control().release_capacity(data.len())?;
    }
    let sum = body.trailers().await?;
    let mut stream = reply.send_response(Response::new(()), false)?;
    let text = if said.is_empty() {
        Bytes::from_static(b"two")
    } else {
        said.into()
    };
    stream.send_data(text, false)?;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
    trailers.extend(sum.unwrap_or_default());
    stream.send_trailers(trailers)
}

async fn pour(mut stream: SendStream<Bytes>, counts: &Counts) -> Result<(), h2::Error> {
    loop {
        stream.reserve_capacity(16 * 1024);
        let room = poll_fn(|cx| stream.poll_capacity(cx)).await;
        let Some(room) = room.transpose()? else {
            return Ok(());
        };
        let written = u64::try_from(room).unwrap_or_default();
        counts.written.fetch_add(written, Ordering::Relaxed);
        stream.send_data(Bytes::from(vec![0; room]), false)?;
    }
}

/// One worker, so that every request finds the same connections.
async fn to(origin: &Origin, keys: &str) -> Gateway {
    let address = origin.address;
    let config =
        format!("[routes.r]\nto = \"u\"\n[upstreams.u]\nendpoints = [\"{address}\"]\n{keys}\n");
    Gateway::start(&config, 1).await
}

/// Runs some futures at a time.
async fn all<T: Send + 'static>(futures: Vec<impl Future<Output = T> + Send + 'static>) -> Vec<T> {
    let mut results = Vec::new();
    let (sender, mut receiver) = tokio::sync::mpsc::channel(futures.len().max(1));
    let tasks = Tasks::new();
    for future in futures {
        let sender = sender.clone();
        tasks.spawn(async move {
            sender.send(future.await).await.unwrap_or_default();
        });
    }
    drop(sender);
    while let Some(result) = within("the next result", receiver.recv()).await {
        results.push(result);
    }
    results
}

/// The status and body of a request over a connection of its own.
async fn get(address: SocketAddr, path: &'static str) -> (u16, String) {
    let reply = Client::connect(address).await.get("a", path).await;
    (reply.status, reply.text())
}

const HTTP2: &str = "protocol = \"http2\"";

#[tokio::test]
async fn many_requests_share_one_connection() {
    let manners = Manners::default();
    let gate = Arc::clone(&manners.gate);
    let origin = Origin::start(manners).await;
    let gateway = to(&origin, HTTP2).await;
    let address = gateway.address();
    let asking = all((0..60).map(|_| get(address, "/gate")).collect());
    let (replies, ()) = tokio::join!(asking, async {
        becomes("requests under way", 60, || {
            origin.counts.now.load(Ordering::Relaxed)
        })
        .await;
        gate.add_permits(60);
    });
    assert!(
        replies
            .iter()
            .all(|reply| *reply == (200, "two".to_owned()))
    );
    assert_eq!(origin.connections(), 1);
    assert_eq!(gateway.count(Counter::UpstreamConnections), 1);
}

#[tokio::test]
async fn the_budget_and_the_streams_bound_what_an_origin_gets() {
    let origin = Origin::start(Manners::default()).await;
    let keys = "protocol = \"http2\"\nlimits = { connections = 2, streams = 3 }";
    let gateway = to(&origin, keys).await;
    let address = gateway.address();
    let replies = all((0..100).map(|_| get(address, "/")).collect()).await;
    assert!(replies.iter().all(|reply| reply.0 == 200), "{replies:?}");
    assert!(origin.connections() <= 2);
    assert!(origin.counts.most.load(Ordering::Relaxed) <= 6);
}

#[tokio::test]
async fn the_peers_own_limit_is_kept() {
    let manners = Manners {
        streams: 2,
        ..Manners::default()
    };
    let origin = Origin::start(manners).await;
    let gateway = to(
        &origin,
        "protocol = \"http2\"\nlimits = { connections = 2 }",
    )
    .await;
    let address = gateway.address();
    let replies = all((0..50).map(|_| get(address, "/")).collect()).await;
    assert!(replies.iter().all(|reply| reply.0 == 200), "{replies:?}");
    assert!(origin.counts.most.load(Ordering::Relaxed) <= 4);
    assert_eq!(
        gateway.count(Counter::UpstreamRetries),
        0,
        "nothing was refused"
    );
}

#[tokio::test]
async fn goodbyes_fail_no_request() {
    let manners = Manners {
        goodbye_after: 7,
        ..Manners::default()
    };
    let origin = Origin::start(manners).await;
    let gateway = to(&origin, HTTP2).await;
    let address = gateway.address();
    let clients = (0..8).map(|_| async move {
        let mut client = Client::connect(address).await;
        for _ in 0..50 {
            let reply = client.get("a", "/").await;
            assert_eq!((reply.status, reply.text()), (200, "two".to_owned()));
        }
    });
    all(clients.collect()).await;
    assert!(origin.connections() > 10, "they did say goodbye");
}

#[tokio::test]
async fn refused_requests_are_sent_again_whatever_their_method() {
    let manners = Manners {
        refusals: 2,
        ..Manners::default()
    };
    let origin = Origin::start(manners).await;
    let gateway = to(&origin, HTTP2).await;
    let begun = Instant::now();
    let reply = gateway
        .ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        .await;
    assert_eq!((reply.status, reply.text()), (200, "two".to_owned()));
    // At least 5 ms before the second attempt, and 10 before the third.
    assert!(
        begun.elapsed() >= Duration::from_millis(15),
        "who refuses is hammered"
    );
    assert_eq!(gateway.count(Counter::UpstreamRetries), 2);
    assert_eq!(gateway.log().wait(1).await[0]["attempts"], 3);
}

#[tokio::test]
async fn who_is_refused_everywhere_is_told() {
    let manners = Manners {
        refusals: 3,
        ..Manners::default()
    };
    let origin = Origin::start(manners).await;
    let gateway = to(&origin, HTTP2).await;
    assert_eq!(gateway.get("a", "/").await.status, 503);
    assert_eq!(gateway.log().wait(1).await[0]["verdict"], "stream_refused");
    assert_eq!(gateway.get("a", "/").await.status, 200);
}

#[tokio::test]
async fn bodies_and_trailers_go_both_ways() {
    let origin = Origin::start(Manners::default()).await;
    let gateway = to(&origin, HTTP2).await;
    let mut client = H2::connect(gateway.address()).await;
    let mut frames = wire::head(1, &wire::post("/"));
    frames.extend(wire::data(1, b"hello"));
    frames.extend(wire::request(1, &wire::block(&[("x-sum", "7")])));
    client.send(frames).await;
    let Outcome::Answer(answer) = client.outcome(1).await else {
        panic!("{client:?}");
    };
    assert_eq!((answer.status, answer.text()), (200, "hello".to_owned()));
    for field in [("grpc-status", "0"), ("x-sum", "7")] {
        let field = (field.0.to_owned(), field.1.to_owned());
        assert!(answer.trailers.contains(&field), "{:?}", answer.trailers);
    }
}

#[tokio::test]
async fn a_reader_that_stopped_stops_the_origin_and_nobody_else() {
    let origin = Origin::start(Manners::default()).await;
    let gateway = to(&origin, HTTP2).await;
    let mut stopped = Vec::new();
    for _ in 0..5 {
        let mut client = Client::connect_narrow(gateway.address()).await;
        client
            .send("GET /endless HTTP/1.1\r\nHost: a\r\n\r\n")
            .await;
        stopped.push(client);
    }
    let written = || origin.counts.written.load(Ordering::Relaxed);
    let mut before = 0;
    eventually("the origin stops", || {
        let now = written();
        (now > 0 && now == std::mem::replace(&mut before, now)).then_some(())
    })
    .await;
    // A window each, and what the kernel took on the way to the clients.
    assert!(written() < 5 * (8 << 20), "{} bytes", written());
    assert_eq!(gateway.get("a", "/").await.text(), "two");
    assert_eq!(origin.connections(), 1);
}

#[tokio::test]
async fn a_client_that_leaves_cancels_its_request_alone() {
    let origin = Origin::start(Manners::default()).await;
    let gateway = to(&origin, HTTP2).await;
    let mut client = gateway.connect().await;
    client.send("GET /never HTTP/1.1\r\nHost: a\r\n\r\n").await;
    becomes("requests under way", 1, || {
        origin.counts.now.load(Ordering::Relaxed)
    })
    .await;
    drop(client);
    becomes("cancelled requests", 1, || {
        origin.counts.cancelled.load(Ordering::Relaxed)
    })
    .await;
    assert_eq!(gateway.get("a", "/").await.text(), "two");
    assert_eq!(origin.connections(), 1);
}

#[tokio::test]
async fn auto_speaks_http_2_for_grpc_only() {
    let origin = Origin::start(Manners::default()).await;
    let gateway = to(&origin, "protocol = \"auto\"").await;
    for (kind, expected) in [
        ("text/plain", "one"),
        ("application/grpc-web", "one"),
        ("application/grpc", "two"),
        ("application/grpc+proto", "two"),
        ("Application/GRPC; x=1", "two"),
    ] {
        let request = format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: {kind}\r\nContent-Length: 0\r\n\r\n"
        );
        assert_eq!(gateway.ask(request).await.text(), expected, "{kind}");
    }
}

#[tokio::test]
async fn an_address_says_its_protocol_itself() {
    let origin = Origin::start(Manners::default()).await;
    for (to, expected) in [("h2c://", "two"), ("http://", "one"), ("", "one")] {
        let config = format!("[routes.r]\nto = \"{to}{}\"\n", origin.address);
        let gateway = Gateway::start(&config, 1).await;
        assert_eq!(gateway.get("a", "/").await.text(), expected, "{to}");
    }
}

#[tokio::test]
async fn an_origin_that_speaks_another_protocol_is_found_out() {
    let origin = sluice_tests::Origin::text("ok").await;
    let address = origin.address();
    let config = format!("[routes.r]\nto = \"h2c://{address}\"\n");
    let gateway = Gateway::start(&config, 1).await;
    assert_eq!(gateway.get("a", "/").await.status, 502);
    let verdict = &gateway.log().wait(1).await[0]["verdict"];
    assert!(
        verdict == "upstream_protocol" || verdict == "connect",
        "{verdict}"
    );
}

#[tokio::test]
async fn draining_waits_for_what_runs_and_closes_shared_connections() {
    let manners = Manners::default();
    let gate = Arc::clone(&manners.gate);
    let origin = Origin::start(manners).await;
    let mut gateway = to(&origin, HTTP2).await;
    let address = gateway.address();
    let asking = get(address, "/gate");
    let (reply, in_time) = tokio::join!(asking, async {
        becomes("requests under way", 1, || {
            origin.counts.now.load(Ordering::Relaxed)
        })
        .await;
        gate.add_permits(1);
        gateway.drain(Duration::from_secs(10)).await
    });
    assert_eq!(reply.1, "two");
    assert!(in_time);
}
