//! Raw streams with real peers at both ends: PostgreSQL and psql, Redis, protocols in which the server
//! speaks first.

#[path = "stream_peers/postgres.rs"]
mod postgres;

use std::{net::SocketAddr, path::Path, process::Stdio};

use postgres::Postgres;
use sluice_tests::{
    Client, Gateway, Origin,
    eventually::within,
    gateway,
    pebble::free,
    tls::{Pki, secure},
    tools::{are_there, program, said},
};
use tokio::{net::TcpStream, process::Child};

/// A listener without TLS, and where it passes streams on.
async fn passing(to: SocketAddr) -> Gateway {
    gateway(&format!(
        "[listeners.raw]\naddress = \"127.0.0.1:0\"\nprotocol = \"tcp\"\n\
         [routes.raw]\nlisteners = \"raw\"\nto = \"{to}\"\n"
    ))
    .await
}

fn at(gateway: &Gateway, listener: &str) -> SocketAddr {
    gateway.address_of(listener).expect("it listens")
}

#[tokio::test]
async fn psql_speaks_tls_with_the_database_itself_over_a_raw_stream() {
    let pki = Pki::new();
    let Some(database) = Postgres::start(&pki, &["db.example"]).await else {
        return;
    };
    let gateway = passing(database.address).await;
    let query = "select 6 * 7, ssl, length(repeat('x', 3000000)) \
                 from pg_stat_ssl where pid = pg_backend_pid()";
    for mode in ["require", "verify-full"] {
        let name = ("db.example", mode);
        let answer = database.ask(&pki, at(&gateway, "raw"), name, query).await;
        assert_eq!(said(&answer).trim(), "42|t|3000000", "{mode}");
    }
    // Much comes back, and nothing is lost at the end.
    let rows = "select repeat('y', 1000) from generate_series(1, 5000)";
    let name = ("db.example", "require");
    let answer = database.ask(&pki, at(&gateway, "raw"), name, rows).await;
    assert!(answer.status.success(), "{}", said(&answer));
    assert_eq!(answer.stdout.len(), 5000 * 1001);
    let other = ("other.example", "verify-full");
    let refused = database
        .ask(&pki, at(&gateway, "raw"), other, "select 1")
        .await;
    assert!(
        said(&refused).contains("other.example"),
        "{}",
        said(&refused)
    );
}

/// A Redis that runs until it is dropped.
struct Redis {
    _process: Child,
    address: SocketAddr,
}

impl Redis {
    async fn start(folder: &Path) -> Option<Self> {
        if !are_there(&["redis-server"]) {
            return None;
        }
        let [address] = free::<1>().await;
        let process = program("redis-server", folder)
            .args(["--port", &address.port().to_string()])
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .arg("--dir")
            .arg(folder)
            .stdout(Stdio::null())
            .spawn()
            .expect("it starts");
        within("redis accepts", async {
            while TcpStream::connect(address).await.is_err() {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        })
        .await;
        Some(Self {
            _process: process,
            address,
        })
    }
}

#[tokio::test]
async fn redis_answers_over_a_raw_stream_and_behind_tls() {
    let pki = Pki::new();
    let folder = tempfile::tempdir().expect("a folder");
    let Some(redis) = Redis::start(folder.path()).await else {
        return;
    };
    let gateway = gateway(&format!(
        "[listeners.raw]\naddress = \"127.0.0.1:0\"\nprotocol = \"tcp\"\n\
         [listeners.inside]\naddress = \"127.0.0.1:0\"\nprotocol = \"tls\"\n{}\
         [routes.raw]\nlisteners = [\"raw\", \"inside\"]\nto = \"{}\"\n",
        pki.certificate("redis", &["redis.example"]),
        redis.address
    ))
    .await;
    let value = "v".repeat(2_000_000);
    let mut plain = Client::connect(at(&gateway, "raw")).await;
    plain
        .send(format!(
            "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n{value}\r\n*2\r\n$6\r\nSTRLEN\r\n$1\r\nk\r\n",
            value.len()
        ))
        .await;
    let answer = plain.read_at_least(15).await;
    assert_eq!(String::from_utf8_lossy(&answer), "+OK\r\n:2000000\r\n");

    let mut inside = secure(&pki.client(), at(&gateway, "inside"), "redis.example").await;
    inside.send("*2\r\n$3\r\nGET\r\n$1\r\nk\r\n").await;
    let answer = inside.read_at_least(value.len() + 12).await;
    let expected = format!("$2000000\r\n{value}\r\n");
    assert!(answer == expected.as_bytes(), "{} bytes", answer.len());
}

/// A mail server, as far as it speaks first.
async fn mail() -> Origin {
    Origin::start(|mut peer| async move {
        peer.send("220 mail.example ESMTP\r\n").await;
        let mut heard = Vec::new();
        while !heard.ends_with(b"\r\n") {
            let read = peer.take(1).await;
            if read.is_empty() {
                return;
            }
            heard.extend(read);
        }
        peer.send("250 mail.example\r\n").await;
        peer.hold().await;
    })
    .await
}

#[tokio::test]
async fn a_server_that_speaks_first_is_heard_by_a_client_that_says_nothing() {
    let origin = mail().await;
    let gateway = passing(origin.address()).await;
    let mut client = Client::connect(at(&gateway, "raw")).await;
    let banner = client.read_at_least(24).await;
    assert_eq!(
        String::from_utf8_lossy(&banner),
        "220 mail.example ESMTP\r\n"
    );
    client.send("EHLO client.example\r\n").await;
    let answer = client.read_at_least(18).await;
    assert_eq!(String::from_utf8_lossy(&answer), "250 mail.example\r\n");
    assert_eq!(origin.saw(), [b"EHLO client.example\r\n"]);
}
