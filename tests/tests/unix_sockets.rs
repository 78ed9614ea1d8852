//! Listeners on unix sockets, as their clients, the file system, origins and the log see them.

use std::{
    fs,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sluice_gateway::telemetry::metrics::Counter;
use sluice_tests::{
    Client, Gateway, Origin,
    eventually::eventually,
    gateway,
    process::{Sluice, free_port},
    tls::Pki,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
};

/// A place for sockets.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("web.sock")
    }

    /// The listener `web` there, and the route of everything to `to`.
    fn config(&self, keys: &str, to: &str) -> String {
        format!(
            "[listeners.web]\naddress = \"unix:{}\"\n{keys}\n[routes.r]\nto = \"{to}\"\n",
            self.path().display()
        )
    }
}

async fn connect(path: &Path) -> Client<UnixStream> {
    Client::over(UnixStream::connect(path).await.expect("accepted"))
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path)
        .expect("a file")
        .permissions()
        .mode()
        & 0o7777
}

#[tokio::test]
async fn a_client_on_a_unix_socket_counts_as_one_of_this_machine() {
    let (place, origin) = (Place::new(), Origin::echo().await);
    let gateway = gateway(&place.config("", &origin.address().to_string())).await;
    let mut client = connect(&place.path()).await;
    let spoof = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 9.9.9.9\r\n\r\n";
    client.send(spoof).await;
    let seen = client.reply().await.text();
    assert!(seen.contains("x-forwarded-for: 127.0.0.1\r\n"), "{seen}");
    assert!(!seen.contains("9.9.9.9"), "{seen}");
    let lines = gateway.log().wait(1).await;
    assert_eq!(lines[0]["client"], "127.0.0.1");
    assert_eq!(lines[0]["peer"], "127.0.0.1:0");
    assert_eq!(gateway.address_of("web"), None);
}

#[tokio::test]
async fn what_it_says_of_clients_is_believed_where_this_machine_is_trusted() {
    let (place, origin) = (Place::new(), Origin::echo().await);
    let keys = "trusted_proxies = \"127.0.0.1\"\nproxy_protocol = \"optional\"";
    let gateway = gateway(&place.config(keys, &origin.address().to_string())).await;
    let mut client = connect(&place.path()).await;
    client
        .send("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 198.51.100.7\r\n\r\n")
        .await;
    let seen = client.reply().await.text();
    assert!(
        seen.contains("x-forwarded-for: 198.51.100.7, 127.0.0.1\r\n"),
        "{seen}"
    );

    let mut client = connect(&place.path()).await;
    client
        .send("PROXY TCP4 198.51.100.8 203.0.113.9 1000 443\r\n")
        .await;
    let seen = client.get("a", "/").await.text();
    assert!(seen.contains("x-forwarded-for: 198.51.100.8\r\n"), "{seen}");
    let line = gateway.log().wait_for("client", "198.51.100.7").await;
    assert_eq!(line["peer"], "127.0.0.1:0");
    let line = gateway.log().wait_for("client", "198.51.100.8").await;
    assert_eq!(line["peer"], "198.51.100.8:1000");
}

#[tokio::test]
async fn an_endpoint_is_told_that_such_a_client_has_no_address() {
    let place = Place::new();
    for (version, header) in [
        ("v1", b"PROXY UNKNOWN\r\n".as_slice()),
        ("v2", b"\r\n\r\n\0\r\nQUIT\n\x21\0\0\0"),
    ] {
        let origin = Origin::start(|mut peer| async move { peer.hold().await }).await;
        let upstream = format!(
            "u\"\n[upstreams.u]\nendpoints = \"{}\"\nproxy_protocol = \"{version}",
            origin.address()
        );
        let mut gateway = gateway(&place.config("", &upstream)).await;
        let mut client = connect(&place.path()).await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let request = [header, b"GET / "].concat();
        eventually("the origin is told", || {
            let saw = origin.saw();
            saw.first()
                .filter(|saw| saw.starts_with(&request))
                .map(|_| ())
        })
        .await;
        drop(client);
        gateway.drain(Duration::ZERO).await;
    }
}

#[tokio::test]
async fn every_worker_serves_and_limits_hold() {
    let (place, origin) = (Place::new(), Origin::text("ok").await);
    let config = place.config(
        "limits = { connections = 60 }",
        &origin.address().to_string(),
    );
    let gateway = Gateway::start(&config, 3).await;
    let mut clients = Vec::new();
    for _ in 0..60 {
        clients.push(connect(&place.path()).await);
    }
    for client in &mut clients {
        assert_eq!(client.get("a", "/").await.status, 200);
    }
    let mut more = connect(&place.path()).await;
    assert_eq!(more.rest().await, b"");
    assert_eq!(gateway.count(Counter::ConnectionsRefused), 1);
}

#[tokio::test]
async fn the_file_has_its_permissions_and_others_after_a_reload() {
    let (place, origin) = (Place::new(), Origin::text("ok").await);
    let to = origin.address().to_string();
    let gateway = gateway(&place.config("", &to)).await;
    assert_eq!(mode(&place.path()), 0o660);
    gateway
        .reload(&place.config("socket = { mode = \"0600\" }", &to))
        .await;
    assert_eq!(mode(&place.path()), 0o600);
    assert_eq!(connect(&place.path()).await.get("a", "/").await.status, 200);
}

#[tokio::test]
async fn it_survives_reloads_and_goes_with_its_listener() {
    let (place, origin) = (Place::new(), Origin::text("ok").await);
    let to = origin.address().to_string();
    let gateway = gateway(&place.config("", &to)).await;
    let before = fs::metadata(place.path()).expect("a file").ino();
    let mut client = connect(&place.path()).await;
    assert_eq!(client.get("a", "/").await.status, 200);
    gateway
        .reload(&place.config("limits = { uri = \"4KiB\" }", &to))
        .await;
    assert_eq!(fs::metadata(place.path()).expect("a file").ino(), before);
    assert_eq!(connect(&place.path()).await.get("a", "/").await.status, 200);

    gateway
        .reload(&format!("[routes.r]\nto = \"{to}\"\n"))
        .await;
    assert!(!place.path().exists());
    assert_eq!(gateway.get("a", "/").await.status, 200);
    gateway.reload(&place.config("", &to)).await;
    assert_eq!(connect(&place.path()).await.get("a", "/").await.status, 200);
}

#[tokio::test]
async fn it_goes_when_the_gateway_stops_unless_another_has_taken_its_place() {
    let (place, origin) = (Place::new(), Origin::text("ok").await);
    let config = place.config("", &origin.address().to_string());
    let mut first = gateway(&config).await;
    assert!(first.drain(Duration::from_secs(5)).await);
    assert!(!place.path().exists());

    let mut second = gateway(&config).await;
    fs::remove_file(place.path()).expect("removed");
    let _other = UnixListener::bind(place.path()).expect("bound");
    assert!(second.drain(Duration::from_secs(5)).await);
    assert!(place.path().exists(), "it is the other one's");
}

#[tokio::test]
async fn a_socket_that_somebody_listens_on_is_refused_and_left_alone() {
    let (place, origin) = (Place::new(), Origin::text("ok").await);
    let to = origin.address().to_string();
    let gateway = gateway(&format!("[routes.r]\nto = \"{to}\"\n")).await;
    let other = UnixListener::bind(place.path()).expect("bound");
    let refused = gateway.try_reload(&place.config("", &to)).await;
    let problems = refused.expect_err("it is refused");
    assert!(
        problems.contains("another process listens there"),
        "{problems}"
    );
    // The first was to see whether somebody is there.
    drop(other.accept().await.expect("a look"));
    let mut client = connect(&place.path()).await;
    let (mut accepted, _) = other.accept().await.expect("accepted");
    client.send("x").await;
    assert_eq!(accepted.read_u8().await.expect("it lives"), b'x');

    // What a dead process left behind is replaced.
    drop(other);
    assert!(place.path().exists());
    gateway.reload(&place.config("", &to)).await;
    assert_eq!(connect(&place.path()).await.get("a", "/").await.status, 200);
}

#[tokio::test]
async fn a_file_that_is_no_socket_is_never_taken_away() {
    let (place, origin) = (Place::new(), Origin::text("ok").await);
    let to = origin.address().to_string();
    let gateway = gateway(&format!("[routes.r]\nto = \"{to}\"\n")).await;
    fs::write(place.path(), "precious").expect("written");
    let refused = gateway.try_reload(&place.config("", &to)).await;
    let problems = refused.expect_err("it is refused");
    assert!(problems.contains("no socket"), "{problems}");
    assert_eq!(fs::read_to_string(place.path()).expect("there"), "precious");
}

#[tokio::test]
async fn a_refused_configuration_leaves_no_file() {
    let (place, origin) = (Place::new(), Origin::text("ok").await);
    let to = origin.address().to_string();
    let gateway = gateway(&format!("[routes.r]\nto = \"{to}\"\n")).await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let more = format!(
        "{}[listeners.late]\naddress = \"{}\"\n",
        place.config("", &to),
        taken.local_addr().expect("bound")
    );
    gateway.try_reload(&more).await.expect_err("it is refused");
    assert!(!place.path().exists());
}

#[tokio::test]
async fn what_a_killed_gateway_left_behind_is_replaced_at_the_next_start() {
    let place = Place::new();
    let config = format!(
        "[listeners.tcp]\naddress = \"{{address}}\"\n{}",
        place.config("", "127.0.0.1:9")
    );
    let mut first = Sluice::run(&config).await;
    assert!(
        fs::metadata(place.path())
            .expect("a file")
            .file_type()
            .is_socket()
    );
    first.signal("KILL");
    first.ends().await;
    assert!(place.path().exists());

    let address = ([127, 0, 0, 1], free_port()).into();
    let folder = Arc::new(tempfile::tempdir().expect("a folder"));
    let mut second = Sluice::start_in(folder, address, &config);
    second.accepts().await;
    assert_eq!(connect(&place.path()).await.get("a", "/").await.status, 502);
    second.signal("TERM");
    assert!(second.ends().await.success());
    assert!(!place.path().exists());
}

/// An endpoint on a unix socket that sends back what comes.
fn echo(path: &Path) {
    let listener = UnixListener::bind(path).expect("bound");
    let tasks = sluice_gateway::drain::Tasks::new();
    let own = tasks.clone();
    tasks.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            own.spawn(async move {
                let (mut reads, mut writes) = stream.split();
                drop(tokio::io::copy(&mut reads, &mut writes).await);
                drop(writes.shutdown().await);
            });
        }
    });
}

#[tokio::test]
async fn raw_streams_go_from_unix_socket_to_unix_socket() {
    let (place, pki) = (Place::new(), Pki::new());
    let endpoint = place.0.path().join("echo.sock");
    echo(&endpoint);
    let config = format!(
        "[listeners.web]\naddress = \"unix:{}\"\nprotocol = \"tls\"\n\
         [routes.r]\nlisteners = \"web\"\nhosts = [\"a.example\"]\nto = \"unix:{}\"\n{}",
        place.path().display(),
        endpoint.display(),
        pki.certificate("a", &["a.example"])
    );
    let gateway = gateway(&config).await;
    let stream = UnixStream::connect(place.path()).await.expect("accepted");
    let stream = pki
        .client()
        .connect(stream, "a.example")
        .await
        .expect("TLS");
    let mut client = Client::over(stream);
    client.send("hello").await;
    assert_eq!(client.read_at_least(5).await, b"hello");
    client.finish().await;
    assert_eq!(client.rest().await, b"");
    let lines = gateway.log().wait(1).await;
    assert_eq!(lines[0]["peer"], "127.0.0.1:0");
    assert_eq!(lines[0]["endpoint"], format!("unix:{}", endpoint.display()));
    assert_eq!(
        (&lines[0]["bytes_in"], &lines[0]["bytes_out"]),
        (&5.into(), &5.into())
    );
}
