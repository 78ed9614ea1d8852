//! Whether an address answers, and with what; and an origin whose answers take as long as a test wants.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    net::TcpStream,
    sync::watch,
    time::{Instant, sleep},
};

use crate::{Client, Origin, PATIENCE, client::NoReply};

/// Asks over a new connection until the answer is this text.
pub async fn answers(address: SocketAddr, host: &str, wanted: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let got = match TcpStream::connect(address).await {
            Ok(stream) => match ask(&mut Client::from(stream), host).await {
                Ok(text) => text,
                Err(why) => format!("{why:?}"),
            },
            Err(error) => error.kind().to_string(),
        };
        if got == wanted {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{address} {host}: wanted {wanted:?}, still {got:?}"
        );
        sleep(Duration::from_millis(10)).await;
    }
}

/// The text of the answer to a GET of `/`.
pub async fn ask(client: &mut Client, host: &str) -> Result<String, NoReply> {
    client
        .send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"))
        .await;
    client.try_reply("GET").await.map(|reply| reply.text())
}

/// Waits until nobody accepts there.
pub async fn refuses(address: SocketAddr) {
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(address).await.is_ok() {
        assert!(Instant::now() < deadline, "{address} still accepts");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Tells an origin to send the piece of that number, and whether it is the last one.
pub type Pieces = watch::Sender<(usize, bool)>;

/// An origin whose answers end when they are told to: one piece per change of the channel, the last
/// one at `true`.
pub async fn streaming() -> (Origin, Pieces) {
    let (tell, told) = watch::channel((0, false));
    let origin = Origin::start(move |mut peer| {
        let mut told = told.clone();
        async move {
            while peer.request().await.is_some() {
                peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                    .await;
                loop {
                    if told.changed().await.is_err() {
                        return;
                    }
                    let (number, last) = *told.borrow_and_update();
                    let piece = format!("piece-{number};");
                    peer.send(format!("{:x}\r\n{piece}\r\n", piece.len())).await;
                    if last {
                        peer.send("0\r\n\r\n").await;
                        break;
                    }
                }
            }
        }
    })
    .await;
    (origin, tell)
}
