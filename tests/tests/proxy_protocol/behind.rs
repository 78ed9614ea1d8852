//! Origins whose connections begin with a header, which they keep apart from the rest.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::Response;
use parking_lot::Mutex;
use sluice_certs::testing::Server;
use sluice_gateway::drain::Tasks;
use sluice_tests::{eventually::eventually, http1, origin::ok};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// An origin that is told who its clients are.
pub(crate) struct Behind {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    tasks: Tasks,
}

/// One of its connections.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) header: Vec<u8>,
    pub(crate) requests: usize,
    pub(crate) open: bool,
}

/// What is spoken behind the header.
#[derive(Clone)]
pub(crate) enum Speaks {
    /// HTTP/1.1; after so many requests the connection is closed as the next one comes.
    Http1(usize),
    Http2,
    Http1InTls(Server),
    /// Whatever comes is sent back.
    Echo,
}

impl Behind {
    pub(crate) async fn start(speaks: Speaks) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, tasks) = (Arc::<Mutex<Vec<Seen>>>::default(), Tasks::new());
        let (record, own) = (Arc::clone(&seen), tasks.clone());
        tasks.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (record, speaks) = (Arc::clone(&record), speaks.clone());
                own.spawn(async move {
                    let Some(header) = header(&mut stream).await else {
                        return;
                    };
                    let number = {
                        let mut record = record.lock();
                        record.push(Seen {
                            header,
                            requests: 0,
                            open: true,
                        });
                        record.len() - 1
                    };
                    let seen = |change: fn(&mut Seen)| change(&mut record.lock()[number]);
                    match speaks {
                        Speaks::Http1(most) => serve(stream, most, seen).await,
                        Speaks::Http1InTls(server) => {
                            let (stream, _) = server.accept(stream).await.expect("TLS");
                            serve(stream, usize::MAX, seen).await;
                        }
                        Speaks::Http2 => serve_http2(stream, seen).await,
                        Speaks::Echo => {
                            let (mut reads, mut writes) = stream.split();
                            drop(tokio::io::copy(&mut reads, &mut writes).await);
                        }
                    }
                    record.lock()[number].open = false;
                });
            }
        });
        Self {
            address,
            seen,
            tasks,
        }
    }

    /// Every connection so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().clone()
    }

    /// The headers of all connections as text, which those of version 1 are.
    pub(crate) fn lines(&self) -> Vec<String> {
        let seen = self.seen();
        let lines = seen
            .iter()
            .map(|seen| String::from_utf8_lossy(&seen.header));
        lines.map(|line| line.trim_end().to_owned()).collect()
    }

    /// Waits until the connection of that number is closed.
    pub(crate) async fn closes(&self, number: usize) {
        eventually("a connection to the origin is closed", || {
            self.seen()
                .get(number)
                .filter(|seen| !seen.open)
                .map(|_| ())
        })
        .await;
    }
}

impl Drop for Behind {
    fn drop(&mut self) {
        self.tasks.abort();
    }
}

/// Takes the header and nothing behind it.
async fn header(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        let whole = match bytes.first() {
            Some(b'P') => bytes.ends_with(b"\r\n"),
            Some(_) if bytes.len() >= 16 => {
                bytes.len() == 16 + usize::from(u16::from_be_bytes([bytes[14], bytes[15]]))
            }
            Some(_) | None => false,
        };
        if whole {
            return Some(bytes);
        }
        bytes.push(stream.read_u8().await.ok()?);
    }
}

async fn serve<S>(mut stream: S, most: usize, seen: impl Fn(fn(&mut Seen)))
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut bytes, mut served) = (Vec::new(), 0);
    while stream.read_buf(&mut bytes).await.is_ok_and(|read| read > 0) {
        while let Ok((_, length)) = http1::request(&bytes) {
            if served == most {
                return;
            }
            served += 1;
            bytes.drain(..length);
            seen(|seen| seen.requests += 1);
            if stream.write_all(&ok("ok")).await.is_err() {
                return;
            }
        }
    }
}

async fn serve_http2(stream: TcpStream, seen: impl Fn(fn(&mut Seen))) {
    let Ok(mut connection) = h2::server::handshake(stream).await else {
        return;
    };
    while let Some(Ok((_, mut reply))) = connection.accept().await {
        seen(|seen| seen.requests += 1);
        let response = Response::new(());
        if let Ok(mut body) = reply.send_response(response, false) {
            drop(body.send_data(Bytes::from_static(b"ok"), true));
        }
    }
}
