//! What settings of sockets do on the wire, counted by the kernel in a network of the test's own.

#[path = "netns_sockets/apart.rs"]
mod apart;

use std::net::SocketAddr;

use apart::{apart, run};
use sluice_tests::{
    Client, Gateway, Origin,
    eventually::{becomes, within},
    tools,
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpStream, UdpSocket};

/// Packets that leave: all that `of` is about, and those of them with this mark and code point.
struct Leaving {
    all: String,
    set: String,
}

impl Leaving {
    /// Counts from now on. `of` says what in the words of iptables.
    fn count(of: &str, mark: u32, dscp: u8) -> Self {
        let words: Vec<&str> = of.split_whitespace().collect();
        let name = |what: &str| format!("{of} {what}");
        let (all, set) = (name("all"), name("set"));
        let (mark, dscp) = (mark.to_string(), dscp.to_string());
        let is_set = ["-m", "mark", "--mark", &mark, "-m", "dscp", "--dscp", &dscp];
        for (comment, conditions) in [(&all, &[][..]), (&set, &is_set)] {
            let comment = ["-m", "comment", "--comment", comment];
            let rule = [&["-w", "-A", "OUTPUT"], &words[..], conditions, &comment].concat();
            run("iptables", &rule);
        }
        Self { all, set }
    }

    /// Some have left, and every one of them had both.
    fn assert_all_set(&self) {
        let table = run("iptables", &["-w", "-L", "OUTPUT", "-v", "-x", "-n"]);
        let packets = |comment: &str| -> u64 {
            let comment = format!("/* {comment} */");
            let line = table.lines().find(|line| line.contains(&comment));
            let line = line.unwrap_or_else(|| panic!("{comment} in {table}"));
            let count = line.split_whitespace().next().expect("a number");
            count.parse().expect("a number")
        };
        let (all, set) = (packets(&self.all), packets(&self.set));
        assert!(all > 0, "{}: nothing left", self.all);
        assert_eq!(all, set, "{}", self.all);
    }
}

/// Whether packets can be counted, and marked.
fn is_possible() -> bool {
    if !tools::are_there(&["iptables", "ip"]) {
        return false;
    }
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).expect("a socket");
    let may = socket.set_mark(1).is_ok();
    if !may {
        tools::skip("marks: this process may not set any");
    }
    may
}

/// Where a listener accepts.
fn place(gateway: &Gateway, listener: &str) -> SocketAddr {
    gateway.address_of(listener).expect("it listens")
}

#[test]
fn every_packet_of_streams_has_the_mark_and_the_code_point() {
    apart(|| async {
        if !is_possible() {
            return;
        }
        let requests = Origin::text("ok").await;
        let raw = Origin::start(|mut peer| async move { peer.echo().await }).await;
        let config = format!(
            "[listeners.web]\naddress = \"127.0.0.1:0\"\nsocket = {{ mark = 11, dscp = 46 }}\n\
             [listeners.raw]\naddress = \"127.0.0.1:0\"\nprotocol = \"tcp\"\n\
             socket = {{ mark = 12, dscp = 8 }}\n\
             [routes.web]\nlisteners = [\"web\"]\nto = \"requests\"\n\
             [routes.raw]\nlisteners = [\"raw\"]\nto = \"raw\"\n\
             [upstreams.requests]\nendpoints = \"{}\"\nsocket = {{ mark = 21, dscp = 10 }}\n\
             [upstreams.raw]\nendpoints = \"{}\"\nsocket = {{ mark = 22, dscp = 63 }}\n",
            requests.address(),
            raw.address()
        );
        let gateway = Gateway::start(&config, 1).await;
        let from = |at: SocketAddr| format!("-p tcp --sport {}", at.port());
        let to = |at: SocketAddr| format!("-p tcp --dport {}", at.port());
        let counted = [
            Leaving::count(&from(place(&gateway, "web")), 11, 46),
            Leaving::count(&from(place(&gateway, "raw")), 12, 8),
            Leaving::count(&to(requests.address()), 21, 10),
            Leaving::count(&to(raw.address()), 22, 63),
        ];
        let mut client = gateway.connect().await;
        assert_eq!(client.get("a", "/").await.status, 200);
        let stream = TcpStream::connect(place(&gateway, "raw")).await;
        let mut stream = Client::from(stream.expect("accepted"));
        stream.send("hello").await;
        assert_eq!(stream.read_at_least(5).await, b"hello");
        for leaving in counted {
            leaving.assert_all_set();
        }
    });
}

#[test]
fn every_datagram_has_the_mark_and_the_code_point() {
    apart(|| async {
        if !is_possible() {
            return;
        }
        let endpoint = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        let there = endpoint.local_addr().expect("an address");
        let config = format!(
            "[listeners.dns]\naddress = \"0.0.0.0:0\"\nprotocol = \"udp\"\n\
             socket = {{ mark = 31, dscp = 46 }}\n\
             [routes.dns]\nlisteners = [\"dns\"]\nto = \"u\"\n\
             [upstreams.u]\nendpoints = \"{there}\"\nsocket = {{ mark = 32, dscp = 10 }}\n"
        );
        let gateway = Gateway::start(&config, 2).await;
        let port = place(&gateway, "dns").port();
        let counted = [
            Leaving::count(&format!("-p udp --sport {port}"), 31, 46),
            Leaving::count(&format!("-p udp --dport {}", there.port()), 32, 10),
        ];
        for number in 0..10 {
            let client = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
            let to = SocketAddr::from(([127, 0, 0, 1], port));
            client.send_to(&[number], to).await.expect("it goes out");
            let mut buffer = [0; 8];
            let heard = within("a datagram", endpoint.recv_from(&mut buffer)).await;
            let (_, from) = heard.expect("a datagram");
            endpoint
                .send_to(&[number], from)
                .await
                .expect("it goes out");
            within("an answer", client.recv(&mut buffer))
                .await
                .expect("one");
        }
        for leaving in counted {
            leaving.assert_all_set();
        }
    });
}

/// A counter of TCP, of this network.
fn counted(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/net/netstat").expect("counters");
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt:"));
    let (names, values) = (lines.next().expect("names"), lines.next().expect("values"));
    let mut all = names.split_whitespace().zip(values.split_whitespace());
    let found = all.find(|(known, _)| *known == name);
    found
        .expect("there is such a counter")
        .1
        .parse()
        .expect("a number")
}

#[test]
fn a_handshake_carries_data_where_both_sides_open_fast() {
    apart(|| async {
        let switch = "/proc/sys/net/ipv4/tcp_fastopen";
        if let Err(error) = std::fs::write(switch, "3") {
            return tools::skip(&format!("TCP Fast Open: {switch}: {error}"));
        }
        let origin = Origin::text("ok").await;
        let inner = |queue: &str| {
            format!(
                "[listeners.web]\naddress = \"127.0.0.1:0\"\nsocket = {{ fast_open = {queue} }}\n\
                 [routes.r]\nto = \"{}\"\n",
                origin.address()
            )
        };
        let inner = Gateway::start(&inner("64"), 1).await;
        let outer = |fast: bool| {
            format!(
                "[routes.r]\nto = \"u\"\n[upstreams.u]\nendpoints = \"{}\"\n\
                 pool = {{ idle_connections = 0 }}\nsocket = {{ fast_open = {fast} }}\n",
                inner.address()
            )
        };
        // The gateway in front is the client of the one behind.
        let gateway = Gateway::start(&outer(false), 1).await;
        let both = || (counted("TCPFastOpenActive"), counted("TCPFastOpenPassive"));
        for _ in 0..3 {
            assert_eq!(gateway.get("a", "/").await.status, 200);
        }
        assert_eq!(both(), (0, 0), "nobody has asked for it");
        gateway.reload(&outer(true)).await;
        // The first handshake asks for the cookie that all others show.
        for _ in 0..4 {
            assert_eq!(gateway.get("a", "/").await.text(), "ok");
        }
        becomes(
            "handshakes with data, by who connects and who accepts",
            (3, 3),
            both,
        )
        .await;
        assert_eq!(counted("TCPFastOpenPassiveFail"), 0);
    });
}
