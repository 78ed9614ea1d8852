//! Raw streams with real peers at both ends: `PostgreSQL` and psql, Redis, a name server, protocols in which
//! the server speaks first.

#[path = "stream_peers/postgres.rs"]
mod postgres;

use std::{net::SocketAddr, path::Path, process::Stdio};

use postgres::Postgres;
use sluice_certs::testing::Server;
use sluice_tests::{
    Client, Front, Gateway, Origin,
    eventually::within,
    gateway,
    named::Named,
    pebble::free,
    tls::{Pki, connect, secure},
    tools::{are_there, program, run, said},
};
use tokio::{
    net::{TcpSocket, TcpStream},
    process::Child,
};

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

#[tokio::test]
async fn psql_reaches_the_database_by_name_where_tls_is_ended_and_where_it_is_passed_through() {
    let pki = Pki::new();
    let names = ["through.example", "db.internal"];
    let Some(database) = Postgres::start(&pki, &names).await else {
        return;
    };
    let gateway = gateway(&format!(
        "[listeners.pg]\naddress = \"127.0.0.1:0\"\nprotocol = \"tls\"\nstartup = \"postgres\"\n\
         {}[routes.ended]\nlisteners = \"pg\"\nhosts = \"ended.example\"\nto = \"db\"\n\
         [routes.through]\nmode = \"passthrough\"\nlisteners = \"pg\"\n\
         hosts = \"through.example\"\nto = \"{}\"\n\
         [upstreams.db]\nendpoints = \"{}\"\nstartup = \"postgres\"\n\
         tls = {{ ca = {}, sni = \"db.internal\" }}\n",
        pki.certificate("ended", &["ended.example"]),
        database.address,
        database.address,
        pki.quoted("ca.pem"),
    ))
    .await;
    let to = at(&gateway, "pg");
    let query = "select ssl, version from pg_stat_ssl where pid = pg_backend_pid()";
    for name in ["ended.example", "through.example"] {
        for mode in ["require", "verify-full"] {
            let answer = database.ask(&pki, to, (name, mode), query).await;
            assert_eq!(said(&answer).trim(), "t|TLSv1.3", "{name} {mode}");
        }
    }
    // What passes through is no handshake here.
    let handshakes = gateway.handshakes("pg").kinds;
    assert_eq!(handshakes.iter().sum::<u64>(), 2);
    let plain = database.ask(&pki, to, ("ended.example", "disable"), query);
    assert!(!plain.await.status.success(), "nobody comes in without TLS");
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

#[tokio::test]
async fn a_name_server_answers_over_datagrams_and_over_streams_on_one_port() {
    if !are_there(&["dig"]) {
        return;
    }
    let Some(named) = Named::start().await else {
        return;
    };
    let [here] = free::<1>().await;
    let listener = |name: &str, protocol: &str| {
        format!(
            "[listeners.{name}]\naddress = \"{here}\"\nprotocol = \"{protocol}\"\n\
             [routes.{name}]\nlisteners = \"{name}\"\nto = \"{}\"\n",
            named.address
        )
    };
    let gateway = gateway(&(listener("datagrams", "udp") + &listener("streams", "tcp"))).await;
    let folder = tempfile::tempdir().expect("a folder");
    for (how, scheme) in [("+notcp", "udp"), ("+tcp", "tcp")] {
        let mut dig = program("dig", folder.path());
        let port = here.port().to_string();
        let settings = ["@127.0.0.1", "-p", &port, "+tries=1", "+short", how];
        dig.args(settings)
            .args(["a.example", "b.example", "c.example"]);
        let output = run(dig).await;
        assert_eq!(said(&output), "127.0.0.1\n".repeat(3), "{how}");
        if scheme == "tcp" {
            let line = gateway.log().wait_for("scheme", scheme).await;
            assert_eq!(line["endpoint"], named.address.to_string());
        }
    }
    assert_eq!(gateway.datagrams("datagrams").inward.0, 3);
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

/// A database as `MySQL` begins: a packet with a head, before the client has said anything.
async fn database() -> Origin {
    Origin::start(|mut peer| async move {
        peer.send(b"\x0d\0\0\0\x0a8.0.0-test\0").await;
        if !peer.take(6).await.is_empty() {
            peer.send(b"\x01\0\0\x02\0").await;
        }
        peer.hold().await;
    })
    .await
}

#[tokio::test]
async fn one_port_serves_mail_databases_requests_and_tls() {
    let pki = Pki::new();
    let (mail, database) = (mail().await, database().await);
    let (site, inner) = (Origin::text("requests").await, Origin::text("inner").await);
    let leaf = pki.authority.server(&["through.example"]);
    let server = Server::new(&leaf, &["http/1.1"], None, false);
    let front = Front::before(inner.address(), server).await;
    let gateway = gateway(&format!(
        "[listeners.any]\naddress = \"127.0.0.1:0\"\nprotocol = \"auto\"\n{}\
         [routes.site]\nhosts = \"site.example\"\nto = \"{}\"\n\
         [routes.through]\nmode = \"passthrough\"\nhosts = \"through.example\"\nto = \"{}\"\n\
         [routes.mail]\nmode = \"tcp\"\nlisteners = \"any\"\nto = \"{}\"\n\
         [[routes.mail.rules]]\nmatch = {{ client = \"127.0.0.2\" }}\nto = \"{}\"\n",
        pki.certificate("site", &["site.example"]),
        site.address(),
        front.address(),
        mail.address(),
        database.address(),
    ))
    .await;
    let to = at(&gateway, "any");

    let mut client = Client::connect(to).await;
    let banner = client.read_at_least(24).await;
    assert_eq!(
        String::from_utf8_lossy(&banner),
        "220 mail.example ESMTP\r\n"
    );
    client.send("EHLO client.example\r\n").await;
    let answer = client.read_at_least(18).await;
    assert_eq!(String::from_utf8_lossy(&answer), "250 mail.example\r\n");

    let socket = TcpSocket::new_v4().expect("a socket");
    let from = SocketAddr::from(([127, 0, 0, 2], 0));
    socket.bind(from).expect("an address of loopback");
    let mut client = Client::from(socket.connect(to).await.expect("it accepts"));
    let greeting = client.read_at_least(16).await;
    assert!(greeting.ends_with(b"8.0.0-test\0"), "{greeting:?}");
    client.send(b"\x02\0\0\x01ok").await;
    assert_eq!(client.read_at_least(5).await, b"\x01\0\0\x02\0");

    let mut client = Client::connect(to).await;
    assert_eq!(client.get("site.example", "/").await.text(), "requests");
    for (name, text) in [("site.example", "requests"), ("through.example", "inner")] {
        let mut client = secure(&pki.client(), to, name).await;
        assert_eq!(client.get(name, "/").await.text(), text, "{name}");
    }
    assert_eq!(front.seen().len(), 1);
}

#[tokio::test]
async fn a_websocket_goes_through_tls_that_is_not_ended() {
    let pki = Pki::new();
    let origin = Origin::start(|mut peer| async move {
        if peer.head().await.is_some() {
            peer.send(
                "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
                 sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
            )
            .await;
            peer.echo().await;
        }
    })
    .await;
    let leaf = pki.authority.server(&["chat.example"]);
    let server = Server::new(&leaf, &["http/1.1"], None, false);
    let front = Front::before(origin.address(), server).await;
    let gateway = gateway(&format!(
        "[listeners.tls]\naddress = \"127.0.0.1:0\"\nprotocol = \"tls\"\n\
         [routes.chat]\nmode = \"passthrough\"\nhosts = \"chat.example\"\nto = \"{}\"\n",
        front.address()
    ))
    .await;
    let mut client = secure(&pki.client(), at(&gateway, "tls"), "chat.example").await;
    client
        .send(
            "GET /ws HTTP/1.1\r\nHost: chat.example\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )
        .await;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.extend(client.read_at_least(1).await);
    }
    assert!(
        head.starts_with(b"HTTP/1.1 101"),
        "{}",
        String::from_utf8_lossy(&head)
    );
    // A masked frame of text; its mask is zero.
    let frame = b"\x81\x85\0\0\0\0hello";
    client.send(frame).await;
    assert_eq!(client.read_at_least(frame.len()).await, frame);
    let refused = connect(&pki.client(), at(&gateway, "tls"), "other.example").await;
    assert!(refused.is_err(), "nobody has a certificate for it");
}
