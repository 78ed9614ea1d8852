//! The small shop behind the demo: a product page, details, three versions of the reviews, and
//! ratings, each on a port of its own.
//!
//! They are origins, not a part of the gateway: a few lines of HTTP/1.1 over loopback, enough for
//! `curl` and a browser.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use sluice_gateway::drain::Tasks;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::pages;

/// The parts of the shop, in the order of their ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// The page a person sees; asks the others through the gateway.
    ProductPage,
    /// Facts about a book.
    Details,
    /// Reviews without stars, with black stars, with red stars.
    Reviews(u8),
    /// Stars, asked by reviews v2 and v3 directly.
    Ratings,
}

impl Part {
    /// Every part. Its position is added to the shop's first port.
    pub(super) const ALL: [Self; 6] = [
        Self::ProductPage,
        Self::Details,
        Self::Reviews(1),
        Self::Reviews(2),
        Self::Reviews(3),
        Self::Ratings,
    ];

    /// What stands for its address in the configuration that the demo writes.
    pub(super) const fn mark(self) -> &'static str {
        match self {
            Self::ProductPage => "{productpage}",
            Self::Details => "{details}",
            Self::Reviews(1) => "{reviews-v1}",
            Self::Reviews(2) => "{reviews-v2}",
            Self::Reviews(_) => "{reviews-v3}",
            Self::Ratings => "{ratings}",
        }
    }
}

/// Where the parts find each other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Places {
    /// The gateway, which the product page asks.
    pub(super) gateway: SocketAddr,
    /// The ratings, which the reviews ask.
    pub(super) ratings: SocketAddr,
}

/// A port of the shop that is taken.
#[derive(Debug, thiserror::Error)]
#[error("the shop of the demo cannot listen on {address}")]
pub(super) struct Taken {
    pub(super) address: SocketAddr,
    #[source]
    source: io::Error,
}

/// The sockets of the shop, bound and not yet served.
pub(super) struct Storefront(Vec<(Part, TcpListener)>);

impl Storefront {
    /// Binds a port for each part, beginning with `first`.
    pub(super) async fn bind(first: u16) -> Result<Self, Taken> {
        let mut sockets = Vec::new();
        for (part, port) in Part::ALL.into_iter().zip(first..) {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            let socket = TcpListener::bind(address).await;
            sockets.push((part, socket.map_err(|source| Taken { address, source })?));
        }
        Ok(Self(sockets))
    }

    /// Serves until `tasks` is told to finish.
    pub(super) fn serve(self, places: Places, tasks: &Tasks) {
        for (part, socket) in self.0 {
            let own = tasks.clone();
            tasks.spawn(async move {
                let finished = own.drained();
                tokio::pin!(finished);
                loop {
                    let accepted = tokio::select! {
                        () = &mut finished => return,
                        accepted = socket.accept() => accepted,
                    };
                    if let Ok((stream, _)) = accepted {
                        own.spawn(connection(stream, part, places, own.clone()));
                    }
                }
            });
        }
    }
}

/// The longest head a part reads.
const MAX_HEAD: usize = 16 << 10;
/// How long a connection may stay unused, and how long a question to another part may take.
const IDLE: Duration = Duration::from_mins(1);
const ANSWER: Duration = Duration::from_secs(3);

async fn connection(mut stream: TcpStream, part: Part, places: Places, tasks: Tasks) {
    let finished = tasks.drained();
    tokio::pin!(finished);
    loop {
        let request = tokio::select! {
            () = &mut finished => return,
            request = timeout(IDLE, head(&mut stream)) => request,
        };
        let Ok(Some(request)) = request else { return };
        let target = request.split(' ').nth(1).unwrap_or("/");
        let (kind, body) = answer(part, target, places).await;
        let length = body.len();
        // A HEAD is answered like a GET without its body; nothing else is asked of the shop.
        let body = if request.starts_with("HEAD ") {
            ""
        } else {
            &body
        };
        let text = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        // Only `ask` below says so, and it waits for the end.
        let last = request.contains("\r\nconnection: close\r\n");
        if stream.write_all(text.as_bytes()).await.is_err() || last {
            return;
        }
    }
}

/// Reads one head. `None`: the peer closed, or sent what the shop does not read.
async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        // One byte at a time would be slow for a real origin; here it keeps pipelining simple.
        bytes.push(stream.read_u8().await.ok()?);
        if bytes.len() > MAX_HEAD {
            return None;
        }
    }
    String::from_utf8(bytes).ok()
}

async fn answer(part: Part, target: &str, places: Places) -> (&'static str, String) {
    const JSON: &str = "application/json";
    match part {
        Part::ProductPage => {
            let details = ask(places.gateway, "/details/0").await;
            let reviews = ask(places.gateway, "/reviews/0").await;
            (
                "text/html; charset=utf-8",
                pages::product(target, &details, &reviews),
            )
        }
        Part::Details => (JSON, pages::details()),
        Part::Reviews(1) => (JSON, pages::reviews(1, None)),
        Part::Reviews(version) => {
            let stars = ask(places.ratings, "/ratings/0").await;
            (JSON, pages::reviews(version, Some(&stars)))
        }
        Part::Ratings => (JSON, pages::ratings()),
    }
}

/// The body of the answer to a GET; JSON `null` when there is none.
async fn ask(address: SocketAddr, path: &str) -> String {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await.ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        head.starts_with("HTTP/1.1 200").then(|| body.to_owned())
    };
    let body = timeout(ANSWER, exchange).await.ok().flatten();
    body.unwrap_or_else(|| "null".to_owned())
}
