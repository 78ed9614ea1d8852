//! A workload whose only way out is a gateway that streams are led to: it reaches what is allowed, by whatever
//! means it tries.

#[path = "transparent/hostile.rs"]
mod hostile;
#[path = "transparent/network.rs"]
mod network;
#[path = "transparent/reload.rs"]
mod reload;

use std::{collections::HashMap, net::Ipv4Addr, process::Stdio, sync::Arc, time::Duration};

use hickory_proto::{
    op::{Message, MessageType, ResponseCode},
    rr::{RData, Record, RecordType, rdata::A},
};
use network::{Network, Networks};
use sluice_gateway::drain::Tasks;
use sluice_tests::{Origin, eventually::within, origin::Peer, process::program};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
    process::{Child, Command},
};

/// Where streams are led to.
const REDIRECT: &str = "table inet egress {
  chain led {
    type nat hook prerouting priority dstnat;
    iifname in0 ip daddr != 10.7.0.1 meta l4proto tcp redirect to :15001
    iifname in0 ip6 daddr != fd07::1 meta l4proto tcp redirect to :15001
  }
}";

const TPROXY: &str = "table inet egress {
  chain led {
    type filter hook prerouting priority mangle;
    iifname in0 ip daddr != 10.7.0.1 meta l4proto tcp tproxy ip to :15001 meta mark set 1 accept
  }
}";

/// The same for what this machine itself connects to, but for what the gateway does.
const OUTPUT: &str = "table inet egress {
  chain led {
    type nat hook output priority -100;
    meta mark != 77 oifname out0 meta l4proto tcp redirect to :15001
  }
}";

/// Of every gateway; what follows are further keys of its listener.
const LISTENER: &str = r#"
[dns]
servers = ["11.7.0.53:53"]
min_refresh = "100ms"
[access_log]
output = { file = "access.jsonl" }
[listeners.out]
address = "[::]:15001"
protocol = "transparent"
timeouts = { sniff = "500ms" }
"#;

const RULES: &str = r#"
[listeners.proxy]
address = "127.0.0.1:3128"
protocol = "forward-proxy"
[egress]
mark = 77
[egress.allow.shop]
hosts = ["shop.example", "*.pets.example"]
[egress.allow.database]
hosts = ["11.7.0.4/32", "2a07::2/128"]
ports = [5432]
protocols = ["tcp"]
[egress.allow.far]
hosts = "*.far.example"
via = "parent"
[egress.allow.farther]
hosts = "11.7.0.9"
ports = [5432]
protocols = ["tcp"]
via = "parent"
[upstreams.parent]
endpoints = ["11.7.0.4:3128"]
socket = { mark = 77 }
"#;

/// The workload, the gateway and the outside.
struct Stage {
    networks: Networks,
    folder: tempfile::TempDir,
    _gateway: Child,
    origins: Vec<Origin>,
    tasks: Tasks,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.tasks.abort();
    }
}

impl Stage {
    async fn new(listener: &str) -> Option<Self> {
        Self::with(&format!("{LISTENER}{listener}{RULES}")).await
    }

    /// With this configuration.
    async fn with(config: &str) -> Option<Self> {
        let networks = Networks::new()?;
        let tasks = Tasks::new();
        let names = networks.outside.datagrams("11.7.0.53:53");
        tasks.spawn(answer(names));
        let mut origins = Vec::new();
        for address in [
            "11.7.0.2:80",
            "11.7.0.3:80",
            "11.7.0.2:443",
            "11.7.0.3:443",
            "11.7.0.4:5432",
            "[2a07::2]:5432",
            "11.7.0.3:7000",
            "11.7.0.4:7000",
        ] {
            let listener = networks.outside.listen(address);
            let word: Arc<str> = address.into();
            origins.push(Origin::on(listener, move |mut peer| {
                let word = Arc::clone(&word);
                async move {
                    if word.ends_with(":5432") {
                        peer.read().await;
                        peer.send(word.as_bytes()).await;
                        return;
                    }
                    if word.ends_with(":7000") {
                        return peer.echo().await;
                    }
                    while peer.request().await.is_some() {
                        let head =
                            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", word.len());
                        peer.send(head).await;
                        peer.send(word.as_bytes()).await;
                    }
                }
            }));
        }
        origins.push(Origin::on(networks.outside.listen(PARENT), other_proxy));
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("sluice.toml"), config).expect("a file");
        let path = program().to_str().expect("a path");
        let mut command = networks.gateway.command(path);
        command
            .args(["run", "--config", "sluice.toml"])
            .current_dir(folder.path())
            .env("HOME", folder.path())
            .env("SLUICE_STATE_DIRECTORY", folder.path())
            .stderr(Stdio::inherit());
        for name in ["SLUICE_ADMIN", "SLUICE_READINESS"] {
            command.env(name, "off");
        }
        // In its own network nobody else has that port.
        command.env("SLUICE_METRICS", "127.0.0.1:15020");
        let gateway = command.spawn().expect("it starts");
        let stage = Self {
            networks,
            folder,
            _gateway: gateway,
            origins,
            tasks,
        };
        within("the gateway accepts", async {
            let address = "10.7.0.1:15001".parse().expect("an address");
            while stage.networks.workload.connect(address).await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
        Some(stage)
    }

    /// curl in the workload, to `host` at `address`: the status (0 for none) and the body.
    async fn curl(&self, scheme: &str, host: &str, address: &str) -> (u16, String) {
        let to = format!("::{address}:");
        let url = format!("{scheme}://{host}/");
        let in_workload = self.networks.workload.command("curl");
        self.asks(in_workload, &["--connect-to", &to, &url]).await
    }

    /// curl with these arguments.
    async fn asks(&self, mut command: Command, arguments: &[&str]) -> (u16, String) {
        command.args([
            "--silent",
            "--insecure",
            "--max-time",
            "5",
            "--write-out",
            "\n%{http_code}",
        ]);
        command.args(arguments);
        let output = command.output().await.expect("curl runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let (body, status) = said.rsplit_once('\n').unwrap_or_default();
        (status.parse().unwrap_or(0), body.to_owned())
    }

    /// A stream from the workload.
    async fn open(&self, address: &str) -> std::io::Result<TcpStream> {
        let address = address.parse().expect("an address");
        self.networks.workload.connect(address).await
    }

    /// Whatever accepts at `address` outside.
    fn origin(&self, address: &str) -> &Origin {
        let mut all = self.origins.iter();
        let found = all.find(|it| it.address().to_string() == address);
        found.expect("an origin")
    }

    /// What comes back for these bytes of the workload; nothing where nobody answers.
    async fn says(&self, address: &str, bytes: &[u8]) -> String {
        Self::said_in(&self.networks.workload, address, bytes).await
    }

    async fn said_in(network: &Network, address: &str, bytes: &[u8]) -> String {
        let address = address.parse().expect("an address");
        let asked = async {
            let mut stream: TcpStream = network.connect(address).await?;
            stream.write_all(bytes).await?;
            let mut buffer = [0; 512];
            let count = stream.read(&mut buffer).await?;
            std::io::Result::Ok(String::from_utf8_lossy(&buffer[..count]).into_owned())
        };
        // Where there is no way, nobody says so.
        let said = tokio::time::timeout(Duration::from_secs(3), asked).await;
        said.ok().and_then(Result::ok).unwrap_or_default()
    }

    /// What a metric says; 0 where it is not there.
    async fn metric(&self, name: &str) -> u64 {
        let lines = self.metrics().await;
        let found = lines.lines().find_map(|line| line.strip_prefix(name));
        found.map_or(0, |rest| rest.trim().parse().expect("a number"))
    }

    async fn metrics(&self) -> String {
        let mut command = self.networks.gateway.command("curl");
        command.args(["--silent", "http://127.0.0.1:15020/metrics"]);
        let output = command.output().await.expect("curl runs");
        String::from_utf8(output.stdout).expect("text")
    }

    /// Gives it another configuration and waits until that runs.
    async fn reload(&self, config: &str) {
        let version = async || {
            let lines = self.metrics().await;
            let line = lines
                .lines()
                .find(|line| line.starts_with("sluice_config_info"));
            line.expect("a version").to_owned()
        };
        let before = version().await;
        std::fs::write(self.folder.path().join("sluice.toml"), config).expect("a file");
        within("the configuration runs", async {
            while version().await == before {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }

    /// The last line about a host or address of the access log.
    async fn told(&self, word: &str) -> serde_json::Value {
        let path = self.folder.path().join("access.jsonl");
        within(&format!("a line about {word}"), async {
            loop {
                let text = std::fs::read_to_string(&path).unwrap_or_default();
                if let Some(line) = text.lines().rfind(|line| line.contains(word)) {
                    return serde_json::from_str(line).expect("JSON");
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
    }
}

/// Answers for the names that there are.
async fn answer(socket: UdpSocket) {
    let zone: HashMap<_, _> = HashMap::from([
        ("shop.example.", Ipv4Addr::new(11, 7, 0, 2)),
        ("cats.pets.example.", Ipv4Addr::new(11, 7, 0, 2)),
        ("inside.pets.example.", Ipv4Addr::new(10, 8, 0, 9)),
        ("else.example.", Ipv4Addr::new(11, 7, 0, 3)),
        ("inside.example.", Ipv4Addr::new(10, 8, 0, 9)),
    ]);
    // Leads outside once, and inside from then on.
    let mut turns = 0;
    let mut buffer = [0; 1500];
    while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
        let mut message = Message::from_vec(&buffer[..length]).expect("a question");
        let query = message.queries[0].clone();
        message.metadata.message_type = MessageType::Response;
        message.additionals.clear();
        message.edns = None;
        let name = query.name().to_string().to_ascii_lowercase();
        let is_ipv4 = query.query_type() == RecordType::A;
        let found = if name == "turns.pets.example." {
            turns += usize::from(is_ipv4);
            let inside = if turns > 1 {
                [10, 8, 0, 9]
            } else {
                [11, 7, 0, 2]
            };
            Some(Ipv4Addr::from(inside))
        } else {
            zone.get(&*name).copied()
        };
        match found {
            None => message.metadata.response_code = ResponseCode::NXDomain,
            Some(address) if is_ipv4 => {
                let data = RData::A(A(address));
                message
                    .answers
                    .push(Record::from_rdata(query.name().clone(), 1, data));
            }
            Some(_) => {}
        }
        let bytes = message.to_vec().expect("it can be said");
        socket.send_to(&bytes, peer).await.expect("it is sent");
    }
}

/// A proxy outside, which says everything again that is said inside of its tunnels.
const PARENT: &str = "11.7.0.4:3128";

async fn other_proxy(mut peer: Peer) {
    let Some(request) = peer.request().await else {
        return;
    };
    if request.start.contains("no.far.example") {
        peer.send("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")
            .await;
        return;
    }
    peer.send("HTTP/1.1 200 OK\r\n\r\n").await;
    peer.echo().await;
}

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: shop.example\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_reaches_what_is_allowed_and_nothing_else() {
    let Some(stage) = Stage::new("").await else {
        return;
    };
    // Without the rules there is no way out at all.
    assert_eq!(stage.says("11.7.0.2:80", REQUEST).await, "");
    stage.networks.gateway.filter(REDIRECT);

    let reached = |address: &str| (200, address.to_owned());
    let outcome = stage.curl("http", "shop.example", "11.7.0.2").await;
    assert_eq!(outcome, reached("11.7.0.2:80"));
    let line = stage.told("shop.example").await;
    assert_eq!(line["egress"], "shop", "{line}");
    assert_eq!(line["client"], "10.7.0.2", "{line}");
    let outcome = stage.curl("http", "cats.pets.example", "11.7.0.2").await;
    assert_eq!(outcome, reached("11.7.0.2:80"));

    // Hosts that are not allowed, and allowed ones at addresses that are not theirs.
    for (host, address) in [
        ("else.example", "11.7.0.3"),
        ("shop.example", "11.7.0.3"),
        ("11.7.0.2", "11.7.0.2"),
        ("nobody.pets.example", "11.7.0.2"),
        // Nothing that is not public, whatever its name.
        ("inside.pets.example", "10.8.0.9"),
    ] {
        let (status, _) = stage.curl("http", host, address).await;
        assert!(
            (400..=599).contains(&status),
            "{host} at {address}: {status}"
        );
    }
    // Another port than the one that was dialled.
    let other = b"GET / HTTP/1.1\r\nhost: shop.example:8080\r\n\r\n";
    let said = stage.says("11.7.0.2:80", other).await;
    assert!(said.starts_with("HTTP/1.1 400 "), "{said}");

    // Raw sockets, by address.
    assert!(
        stage
            .says("11.7.0.4:5432", RAW)
            .await
            .contains("11.7.0.4:5432")
    );
    assert!(
        stage
            .says("[2a07::2]:5432", RAW)
            .await
            .contains("[2a07::2]:5432")
    );
    for address in [
        "11.7.0.2:443",
        "11.7.0.3:443",
        "11.7.0.3:22",
        "[2a07::2]:80",
    ] {
        assert_eq!(stage.says(address, RAW).await, "", "{address}");
    }
    // Straight to the listener: it would come back.
    assert_eq!(stage.says("10.7.0.1:15001", REQUEST).await, "");
    assert_eq!(stage.says("[fd07::1]:15001", REQUEST).await, "");
}

/// What is neither a request nor TLS.
const RAW: &[u8] = b"\x01hello";

#[tokio::test(flavor = "multi_thread")]
async fn tls_goes_where_its_name_may_and_nowhere_else() {
    let Some(stage) = Stage::new("").await else {
        return;
    };
    stage.networks.gateway.filter(REDIRECT);
    for (host, address, goes) in [
        ("shop.example", "11.7.0.2", true),
        ("shop.example", "11.7.0.3", false),
        ("else.example", "11.7.0.3", false),
        // No SNI.
        ("11.7.0.2", "11.7.0.2", false),
    ] {
        let origin = stage.origin(&format!("{address}:443"));
        let before = origin.connections();
        stage.curl("https", host, address).await;
        let seen = origin.connections() - before;
        assert_eq!(seen > 0, goes, "{host} at {address}");
    }
    let line = stage.told("else.example").await;
    assert_eq!(line["verdict"], "egress_refused", "{line}");
    assert_eq!(line["egress_reason"], "host", "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_led_through_another_proxy_where_a_rule_says_so() {
    let Some(stage) = Stage::new("").await else {
        return;
    };
    stage.networks.gateway.filter(REDIRECT);
    let parent = stage.origin(PARENT);
    // Nobody here knows where that is.
    stage.curl("https", "api.far.example", "11.7.0.9").await;
    let said = stage.says("11.7.0.9:5432", RAW).await;
    assert_eq!(said.as_bytes(), RAW, "{said}");
    let asked: Vec<_> = parent.requests().into_iter().map(|it| it.start).collect();
    assert_eq!(
        asked,
        [
            "CONNECT api.far.example:443 HTTP/1.1",
            "CONNECT 11.7.0.9:5432 HTTP/1.1"
        ]
    );
    let hello = parent.saw().remove(0);
    let end = hello.windows(4).position(|it| it == b"\r\n\r\n");
    assert_eq!(hello[end.expect("a head") + 4], 22, "the handshake of curl");
    let line = stage.told("api.far.example").await;
    assert_eq!(line["egress"], "far", "{line}");
    assert_eq!(line["upstream"], "parent", "{line}");
    assert_eq!(line["endpoint"], PARENT, "{line}");

    // It may refuse, and what is refused here does not get there.
    stage.curl("https", "no.far.example", "11.7.0.9").await;
    let line = stage.told("no.far.example").await;
    assert_eq!(line["verdict"], "upstream_protocol", "{line}");
    assert_eq!(line["bytes_out"], 0, "{line}");
    let before = parent.connections();
    assert_eq!(stage.says("11.7.0.9:443", RAW).await, "");
    stage.curl("https", "far.example", "11.7.0.9").await;
    assert_eq!(parent.connections(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_gateway_connects_to_is_not_led_back_to_it() {
    let Some(stage) = Stage::new("").await else {
        return;
    };
    stage.networks.gateway.filter(OUTPUT);
    let own = &stage.networks.gateway;
    let to = "::11.7.0.2:";
    let led = ["--connect-to", to, "http://shop.example/"];
    let outcome = stage.asks(own.command("curl"), &led).await;
    assert_eq!(outcome, (200, "11.7.0.2:80".to_owned()));
    let elsewhere = ["--connect-to", "::11.7.0.3:", "http://else.example/"];
    let (status, _) = stage.asks(own.command("curl"), &elsewhere).await;
    assert_eq!(status, 403);
    let said = Stage::said_in(own, "11.7.0.4:5432", RAW).await;
    assert_eq!(said, "11.7.0.4:5432");
    let said = Stage::said_in(own, "11.7.0.9:5432", RAW).await;
    assert_eq!(said.as_bytes(), RAW, "through the other proxy");

    // Who asks the forward proxy comes out the same way.
    let proxy = ["--proxy", "http://127.0.0.1:3128"];
    let plain = [&proxy[..], &["http://shop.example/"]].concat();
    let outcome = stage.asks(own.command("curl"), &plain).await;
    assert_eq!(outcome, (200, "11.7.0.2:80".to_owned()));
    let origin = stage.origin("11.7.0.2:443");
    let tunnel = [&proxy[..], &["https://shop.example/"]].concat();
    stage.asks(own.command("curl"), &tunnel).await;
    assert_eq!(origin.connections(), 1);
    assert_eq!(stage.told("CONNECT").await["egress"], "shop");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_meant_for_others_is_accepted_as_it_is() {
    let Some(stage) = Stage::new("socket = { transparent = true }").await else {
        return;
    };
    stage.networks.gateway.filter(TPROXY);
    stage.networks.gateway.set(
        "ip rule add fwmark 1 lookup 100
         ip route add local 0.0.0.0/0 dev lo table 100",
    );
    let outcome = stage.curl("http", "shop.example", "11.7.0.2").await;
    assert_eq!(outcome, (200, "11.7.0.2:80".to_owned()));
    let (status, _) = stage.curl("http", "shop.example", "11.7.0.3").await;
    assert_eq!(status, 403);
    assert_eq!(stage.says("10.7.0.1:15001", REQUEST).await, "");
}
