//! Exchanges with hand-written origins in memory, under a paused clock.

#![expect(
    clippy::large_futures,
    reason = "a test holds both sides of an exchange"
)]

mod budget;
mod exchange;
mod health;
mod keeping;
mod shared;

use std::{future::poll_fn, rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use sluice_config::{
    model::{self, Address, Dns, Endpoint, HostPort, Scheme},
    names::UpstreamName,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    sync::mpsc,
    task::LocalSet,
    time::timeout,
};

use super::*;
use crate::{
    drain::Tasks,
    error::ProxyError,
    message::{Body, Request, Response},
    stream::{MemoryListener, MemoryNetwork},
    telemetry::metrics::{Counter, Metrics},
};

/// Longer than any pause an origin of these tests makes on purpose.
const SOON: Duration = Duration::from_millis(10);

/// The upstream side of a gateway with some workers.
struct Rig {
    network: MemoryNetwork,
    registry: Registry,
    pools: Vec<Rc<Pools>>,
    upstream: Arc<Upstream>,
    tasks: Tasks,
    metrics: Metrics,
}

impl Rig {
    fn new(change: impl FnOnce(&mut model::Upstream)) -> Self {
        Self::with_workers(1, change)
    }

    fn with_workers(workers: usize, change: impl FnOnce(&mut model::Upstream)) -> Self {
        let network = MemoryNetwork::new();
        let connector = Connector::Memory(network.clone());
        let tasks = Tasks::new();
        let metrics = Metrics::new(workers);
        let registry = Registry::new(connector.clone(), tasks.clone(), metrics.control());
        let pools = (0..workers)
            .map(|worker| {
                let counters = metrics.worker(worker);
                let connector = connector.clone();
                Rc::new(Pools::new(
                    worker,
                    workers,
                    connector,
                    tasks.clone(),
                    counters,
                ))
            })
            .collect();
        let upstream = registry.upstream(&model(["origin"], change), &Dns::default(), None);
        Self {
            network,
            registry,
            pools,
            upstream,
            tasks,
            metrics,
        }
    }

    fn origin(&self) -> Origin {
        self.origin_at("origin")
    }

    fn origin_at(&self, name: &str) -> Origin {
        Origin(self.network.listen(&format!("{name}:80")))
    }

    async fn send(&self, request: Request) -> Result<Response, Failed> {
        self.lease().await.unwrap().send(request).await
    }

    async fn lease(&self) -> Result<Lease, ProxyError> {
        let lease = self.pools[0]
            .lease(&self.upstream, Choice::Any, Dialect::Http1)
            .await;
        lease.map_err(ProxyError::from)
    }

    /// One whole exchange of a bodiless request: the text of the response.
    async fn get(&self) -> String {
        let response = self.send(get()).await.unwrap();
        text(response).await.unwrap()
    }

    /// Takes over other settings, as a reload does.
    fn reload<const N: usize>(
        &mut self,
        names: [&str; N],
        change: impl FnOnce(&mut model::Upstream),
    ) {
        let upstream = self
            .registry
            .upstream(&model(names, change), &Dns::default(), None);
        self.upstream = Arc::clone(&upstream);
        for pools in &self.pools {
            pools.retain(|name| (name == upstream.name()).then(|| Arc::clone(&upstream)));
        }
    }
}

fn model<const N: usize>(
    names: [&str; N],
    change: impl FnOnce(&mut model::Upstream),
) -> Arc<model::Upstream> {
    let endpoints = names.map(|name| {
        Endpoint::new(Address {
            scheme: Scheme::Http,
            host: HostPort::Name {
                name: name.to_owned(),
                port: 80,
            },
        })
    });
    let name = UpstreamName::new("shop").unwrap();
    let mut model = model::Upstream::new(name, endpoints.into());
    change(&mut model);
    Arc::new(model)
}

/// An origin whose connections are played by hand.
struct Origin(MemoryListener);

struct Peer(DuplexStream);

impl Origin {
    async fn accept(&mut self) -> Peer {
        Peer(self.0.accept().await.unwrap())
    }

    /// Whether nobody connects.
    async fn is_quiet(&mut self) -> bool {
        timeout(SOON, self.0.accept()).await.is_err()
    }
}

impl Peer {
    /// The head of the next request; nothing when the connection is closed instead.
    async fn next(&mut self) -> Option<String> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.0.read_u8().await.ok()?);
        }
        Some(String::from_utf8(head).unwrap())
    }

    async fn head(&mut self) -> String {
        self.next().await.unwrap()
    }

    async fn body(&mut self, length: usize) -> String {
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await.unwrap();
        String::from_utf8(body).unwrap()
    }

    async fn say(&mut self, bytes: &str) {
        self.0.write_all(bytes.as_bytes()).await.unwrap();
    }

    /// Takes a request without a body and answers it.
    async fn answer(&mut self, bytes: &str) -> String {
        let head = self.head().await;
        self.say(bytes).await;
        head
    }

    /// Whether the gateway closes the connection, now or soon.
    async fn is_closed(&mut self) -> bool {
        matches!(timeout(SOON, self.0.read_u8()).await, Ok(Err(_)))
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn get() -> Request {
    request("GET", Body::Empty)
}

fn request(method: &str, body: Body) -> Request {
    http::Request::builder()
        .method(method)
        .uri("/path")
        .header("host", "shop.example")
        .body(body)
        .unwrap()
}

/// A body that is fed by hand.
fn fed() -> (mpsc::Sender<Result<Frame<Bytes>, ProxyError>>, Body) {
    let (feed, mut eaten) = mpsc::channel(1);
    let frames = futures_util::stream::poll_fn(move |cx| eaten.poll_recv(cx));
    (feed, Body::stream(StreamBody::new(frames)))
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "it is fed to a body that may fail"
)]
fn piece(bytes: &'static str) -> Result<Frame<Bytes>, ProxyError> {
    Ok(Frame::data(Bytes::from_static(bytes.as_bytes())))
}

async fn text(response: Response) -> Result<String, ProxyError> {
    let bytes = response.into_body().collect().await?.to_bytes();
    Ok(String::from_utf8(bytes.to_vec()).unwrap())
}

/// Runs a test where connections can be driven.
async fn local<T>(test: impl Future<Output = T>) -> T {
    LocalSet::new().run_until(test).await
}
