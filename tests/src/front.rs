//! TLS in front of an origin: what comes is decrypted and passed on, byte for byte.

use std::{net::SocketAddr, sync::Arc};

use parking_lot::Mutex;
use sluice_certs::testing::{Seen, Server};
use sluice_gateway::drain::Tasks;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional, split},
    net::{TcpListener, TcpStream},
};

/// TLS in front of an origin.
#[derive(Debug)]
pub struct Front {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    refused: Arc<Mutex<Vec<String>>>,
    tasks: Tasks,
}

/// Where connections are passed on to.
#[derive(Debug, Clone, Copy)]
struct Behind {
    http1: SocketAddr,
    http2: SocketAddr,
    /// What the origin ends is ended without a word of TLS.
    rude: bool,
}

impl Front {
    /// In front of an origin that speaks whatever it is spoken to.
    pub async fn before(origin: SocketAddr, server: Server) -> Self {
        Self::between(origin, origin, server).await
    }

    /// In front of one origin for HTTP/1.1 and another for HTTP/2.
    pub async fn between(http1: SocketAddr, http2: SocketAddr, server: Server) -> Self {
        let rude = false;
        Self::start(Behind { http1, http2, rude }, server).await
    }

    /// Ends connections without saying so inside TLS, as who cuts them would.
    pub async fn rude(origin: SocketAddr, server: Server) -> Self {
        let (http1, http2, rude) = (origin, origin, true);
        Self::start(Behind { http1, http2, rude }, server).await
    }

    async fn start(behind: Behind, server: Server) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let front = Self {
            address: listener.local_addr().expect("an address"),
            seen: Arc::default(),
            refused: Arc::default(),
            tasks: Tasks::new(),
        };
        let (seen, refused) = (Arc::clone(&front.seen), Arc::clone(&front.refused));
        let own = front.tasks.clone();
        front.tasks.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (server, seen) = (server.clone(), Arc::clone(&seen));
                let refused = Arc::clone(&refused);
                own.spawn(async move {
                    match server.accept(stream).await {
                        Ok((stream, saw)) => {
                            let http2 = saw.alpn.as_deref() == Some("h2");
                            seen.lock().push(saw);
                            behind.pass(stream, http2).await;
                        }
                        Err(error) => refused.lock().push(error.to_string()),
                    }
                });
            }
        });
        front
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The handshakes that came to something.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().clone()
    }

    /// Why the others came to nothing.
    pub fn refused(&self) -> Vec<String> {
        self.refused.lock().clone()
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.tasks.abort();
    }
}

impl Behind {
    async fn pass<S>(self, mut stream: S, http2: bool)
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    {
        let address = if http2 { self.http2 } else { self.http1 };
        let mut origin = TcpStream::connect(address).await.expect("the origin");
        if !self.rude {
            // Whoever leaves first is nobody's fault.
            copy_bidirectional(&mut stream, &mut origin).await.ok();
            return;
        }
        let (mut from, mut to) = split(stream);
        let (mut reads, mut writes) = origin.split();
        let (mut up, mut down) = (vec![0; 16 * 1024], vec![0; 16 * 1024]);
        loop {
            tokio::select! {
                read = from.read(&mut up) => match read {
                    Ok(read @ 1..) => writes.write_all(&up[..read]).await.expect("it takes it"),
                    Ok(0) | Err(_) => return,
                },
                read = reads.read(&mut down) => match read {
                    Ok(read @ 1..) => {
                        to.write_all(&down[..read]).await.expect("it takes it");
                        to.flush().await.expect("it takes it");
                    }
                    Ok(0) | Err(_) => return,
                },
            }
        }
    }
}
