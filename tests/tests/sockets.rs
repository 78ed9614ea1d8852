//! Options of sockets, read back from the sockets themselves.

use std::{net::SocketAddr, os::fd::OwnedFd, time::Duration};

use nix::{
    getsockopt_impl, libc, sockopt_impl,
    sys::socket::{getsockopt, sockopt::TcpFastOpenConnect},
};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use sluice_tests::{Client, Gateway, Origin, gateway, tools::skip};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpStream;

sockopt_impl!(
    /// The length of the queue of TCP Fast Open.
    FastOpen,
    GetOnly,
    libc::IPPROTO_TCP,
    libc::TCP_FASTOPEN,
    libc::c_int
);

/// The sockets of TCP that this process has, the gateway's among them.
fn sockets() -> Vec<Socket> {
    let own = pidfd_open(getpid(), PidfdFlags::empty()).expect("this process");
    let numbers = std::fs::read_dir("/proc/self/fd").expect("descriptors");
    let numbers = numbers.filter_map(|entry| {
        let entry = entry.ok()?;
        let target = std::fs::read_link(entry.path()).ok()?;
        let socket = target.to_str()?.starts_with("socket:");
        socket.then(|| entry.file_name().to_str()?.parse().ok())?
    });
    let sockets = numbers.filter_map(|number| {
        let descriptor: OwnedFd = pidfd_getfd(&own, number, PidfdGetfdFlags::empty()).ok()?;
        let socket = Socket::from(descriptor);
        let stream = socket.r#type().is_ok_and(|kind| kind == Type::STREAM);
        (stream && socket.local_addr().is_ok_and(|it| it.as_socket().is_some())).then_some(socket)
    });
    sockets.collect()
}

/// Those that accept at `address`.
fn accepting(address: SocketAddr) -> Vec<Socket> {
    let here = |socket: &Socket| socket.local_addr().ok()?.as_socket();
    let mut all = sockets();
    all.retain(|socket| here(socket) == Some(address) && socket.is_listener().unwrap_or(false));
    assert!(!all.is_empty(), "somebody accepts at {address}");
    all
}

/// The one from `local` to `peer`.
fn between(local: SocketAddr, peer: SocketAddr) -> Socket {
    let ends = |socket: &Socket| {
        let local = socket.local_addr().ok()?.as_socket()?;
        Some((local, socket.peer_addr().ok()?.as_socket()?))
    };
    let mut all = sockets().into_iter();
    let found = all.find(|socket| ends(socket) == Some((local, peer)));
    found.expect("there is such a connection")
}

/// The ends that lead to `peer`.
fn to(peer: SocketAddr) -> Socket {
    let leads = |socket: &Socket| socket.peer_addr().ok()?.as_socket();
    let mut all = sockets().into_iter();
    let found = all.find(|socket| leads(socket) == Some(peer));
    found.expect("there is a connection to it")
}

fn listening(address: &str, options: &str, origin: &Origin) -> String {
    format!(
        "[listeners.web]\naddress = \"{address}\"\nsocket = {{ {options} }}\n\
         [routes.r]\nto = \"{}\"\n",
        origin.address()
    )
}

/// Whether this process may mark packets.
fn may_mark() -> bool {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).expect("a socket");
    socket.set_mark(1).is_ok()
}

/// The bound of the queue of connections, as the kernel tells it.
async fn backlog(address: SocketAddr) -> Vec<u32> {
    let filter = format!("sport = :{}", address.port());
    let mut command = tokio::process::Command::new("ss");
    let output = command.args(["-Hltn", &filter]).output().await;
    let output = output.expect("ss runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines()
        .filter_map(|line| line.split_whitespace().nth(2)?.parse().ok())
        .collect()
}

#[tokio::test]
async fn without_settings_pieces_go_out_at_once_and_nothing_else_is_set() {
    let origin = Origin::text("ok").await;
    let gateway = gateway(&format!("[routes.r]\nto = \"{}\"\n", origin.address())).await;
    let mut client = gateway.connect().await;
    assert_eq!(client.get("a", "/").await.status, 200);
    for socket in [
        between(gateway.address(), client.local()),
        to(origin.address()),
    ] {
        assert!(socket.tcp_nodelay().expect("read"));
        assert!(!socket.keepalive().expect("read"));
        assert_eq!(socket.tos_v4().expect("read"), 0);
        assert_eq!(socket.mark().expect("read"), 0);
    }
}

#[tokio::test]
async fn what_is_set_on_a_listener_holds_for_what_it_accepts() {
    let origin = Origin::text("ok").await;
    let options = "nodelay = false, dscp = 46, \
                   keepalive = { idle = \"70s\", interval = \"7s\", count = 3 }";
    let gateway = gateway(&listening("127.0.0.1:0", options, &origin)).await;
    let mut client = gateway.connect().await;
    assert_eq!(client.get("a", "/").await.status, 200);
    let accepted = between(gateway.address(), client.local());
    assert!(!accepted.tcp_nodelay().expect("read"));
    assert_eq!(accepted.tos_v4().expect("read"), 46 << 2);
    assert!(accepted.keepalive().expect("read"));
    assert_eq!(
        accepted.tcp_keepalive_time().expect("read"),
        Duration::from_secs(70)
    );
    assert_eq!(
        accepted.tcp_keepalive_interval().expect("read"),
        Duration::from_secs(7)
    );
    assert_eq!(accepted.tcp_keepalive_retries().expect("read"), 3);
}

#[tokio::test]
async fn what_is_set_on_an_upstream_holds_for_connections_to_it() {
    let origin = Origin::text("ok").await;
    let mark = if may_mark() { "mark = 77," } else { "" };
    let gateway = gateway(&format!(
        "[routes.r]\nto = \"u\"\n[upstreams.u]\nendpoints = \"{}\"\n\
         socket = {{ {mark} nodelay = false, dscp = 10, keepalive = {{ idle = \"90s\" }} }}\n",
        origin.address()
    ))
    .await;
    assert_eq!(gateway.get("a", "/").await.status, 200);
    let socket = to(origin.address());
    assert!(!socket.tcp_nodelay().expect("read"));
    assert_eq!(socket.tos_v4().expect("read"), 10 << 2);
    assert_eq!(
        socket.tcp_keepalive_time().expect("read"),
        Duration::from_secs(90)
    );
    let marked = if may_mark() { 77 } else { 0 };
    assert_eq!(socket.mark().expect("read"), marked);
}

#[tokio::test]
async fn a_mark_is_set_by_who_may_and_a_problem_for_who_may_not() {
    let origin = Origin::text("ok").await;
    let plain = format!("[routes.r]\nto = \"{}\"\n", origin.address());
    let gateway = gateway(&plain).await;
    let marked = listening("127.0.0.1:0", "mark = 4711", &origin);
    if !may_mark() {
        skip("marks: this process may not set any");
        let problems = gateway.try_reload(&marked).await.expect_err("refused");
        assert!(problems.contains("CAP_NET_ADMIN"), "{problems}");
        return;
    }
    // The same port, whose sockets are there already.
    gateway.reload(&marked).await;
    let mut client = gateway.connect().await;
    assert_eq!(client.get("a", "/").await.status, 200);
    let accepted = between(gateway.address(), client.local());
    assert_eq!(accepted.mark().expect("read"), 4711);
}

#[tokio::test]
async fn changed_settings_reach_the_sockets_that_are_there() {
    let origin = Origin::text("ok").await;
    let before = "backlog = 100, dscp = 8, keepalive = { idle = \"50s\" }";
    let gateway = Gateway::start(&listening("127.0.0.1:0", before, &origin), 2).await;
    let address = gateway.address();
    assert_eq!(accepting(address).len(), 2);
    assert_eq!(backlog(address).await, [100, 100]);
    let mut old = gateway.connect().await;
    assert_eq!(old.get("a", "/").await.status, 200);

    let after = "backlog = 200, nodelay = false, keepalive = \"off\"";
    gateway
        .reload(&listening("127.0.0.1:0", after, &origin))
        .await;
    assert_eq!(gateway.address(), address);
    assert_eq!(backlog(address).await, [200, 200]);
    for socket in accepting(address) {
        assert!(!socket.tcp_nodelay().expect("read"));
        assert!(!socket.keepalive().expect("read"));
        assert_eq!(socket.tos_v4().expect("read"), 0);
    }
    let mut fresh = gateway.connect().await;
    assert_eq!(fresh.get("a", "/").await.status, 200);
    assert!(!between(address, fresh.local()).keepalive().expect("read"));
    // What was accepted before keeps what it had.
    assert_eq!(
        between(address, old.local()).tos_v4().expect("read"),
        8 << 2
    );
}

#[tokio::test]
async fn fast_open_is_set_where_it_is_asked_for() {
    let origin = Origin::text("ok").await;
    let config = |queue: &str, connects: bool| {
        format!(
            "[listeners.web]\naddress = \"127.0.0.1:0\"\nsocket = {{ fast_open = {queue} }}\n\
             [routes.r]\nto = \"u\"\n[upstreams.u]\nendpoints = \"{}\"\n\
             socket = {{ fast_open = {connects} }}\n",
            origin.address()
        )
    };
    let gateway = Gateway::start(&config("64", true), 1).await;
    let queue = || getsockopt(&accepting(gateway.address())[0], FastOpen).expect("read");
    assert_eq!(queue(), 64);
    assert_eq!(gateway.get("a", "/").await.status, 200);
    assert!(getsockopt(&to(origin.address()), TcpFastOpenConnect).expect("read"));
    gateway.reload(&config("128", true)).await;
    assert_eq!(queue(), 128);
    gateway.reload(&config("\"off\"", true)).await;
    assert_eq!(queue(), 0);
    assert_eq!(gateway.get("a", "/").await.status, 200);
}

#[tokio::test]
async fn ipv6_takes_ipv4_along_unless_told_otherwise() {
    let origin = Origin::text("ok").await;
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        return skip("IPv6: this machine has none");
    }
    let gateway = gateway(&listening("[::]:0", "dscp = 12", &origin)).await;
    let port = gateway.address().port();
    let four = SocketAddr::from(([127, 0, 0, 1], port));
    let six = SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], port));
    for address in [four, six] {
        let mut client = Client::connect(address).await;
        assert_eq!(client.get("a", "/").await.status, 200);
    }
    for socket in accepting(gateway.address()) {
        assert_eq!(socket.tclass_v6().expect("read"), 12 << 2);
        assert_eq!(socket.tos_v4().expect("read"), 12 << 2);
        assert!(!socket.only_v6().expect("read"));
    }

    // It is bound anew, on the port that it had.
    let only = listening(&format!("[::]:{port}"), "ipv6_only = true", &origin);
    let both = listening(&format!("[::]:{port}"), "", &origin);
    gateway.reload(&both).await;
    for (config, works) in [(&only, false), (&both, true)] {
        gateway.reload(config).await;
        assert_eq!(gateway.address().port(), port);
        assert_eq!(TcpStream::connect(four).await.is_ok(), works);
        let mut client = Client::connect(six).await;
        assert_eq!(client.get("a", "/").await.status, 200);
    }
}
