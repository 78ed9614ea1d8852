//! One way to each reason word, through a real gateway: each gives the line of the access log.

use std::{num::NonZeroUsize, time::Duration};

use serde_json::Value;
use sluice_certs::testing::{Authority, Leaf, Server, Wanted};
use sluice_gateway::{engine::Options, pressure::Bounds};
use sluice_tests::{
    AccessLog, Client, Front, Gateway, Origin,
    eventually::{eventually, within},
    gateway,
    h2::{H2, Outcome, wire},
    origin::{Peer, closed_port, ok},
    outside::{Outside, rule},
    tls::{Pki, secure},
};
use tokio::{
    net::{TcpSocket, TcpStream},
    time::{sleep, timeout},
};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// A gateway with these keys of its listener and of its route.
async fn with(listener: &str, route: &str) -> Gateway {
    gateway(&format!(
        "[listeners.web]\naddress = \"127.0.0.1:0\"\n{listener}\n[routes.r]\n{route}\n"
    ))
    .await
}

/// A gateway in front of an origin, with these keys of the upstream.
async fn before(origin: &Origin, upstream: &str) -> Gateway {
    gateway(&format!(
        "[routes.r]\nto = \"u\"\n[upstreams.u]\nendpoints = \"{}\"\n{upstream}\n",
        origin.address()
    ))
    .await
}

/// The line of a request that is answered.
async fn asked(gateway: &Gateway, request: impl AsRef<[u8]>) -> Value {
    gateway.ask(request).await;
    first(&gateway.log()).await
}

async fn first(log: &AccessLog) -> Value {
    log.wait(1).await.remove(0)
}

/// An origin that takes a request and never answers.
async fn silent() -> Origin {
    Origin::start(|mut peer| async move { peer.hold().await }).await
}

/// An origin that answers a head with these bytes and closes.
async fn saying(bytes: &'static str) -> Origin {
    Origin::start(move |mut peer| async move {
        if peer.head().await.is_some() {
            peer.send(bytes).await;
        }
    })
    .await
}

pub(crate) async fn bad_request() -> Value {
    let gateway = with("", "respond = {}").await;
    asked(&gateway, "GET / HTTP/1.1\r\n\r\n").await
}

pub(crate) async fn expectation_failed() -> Value {
    let gateway = with("", "respond = {}").await;
    asked(
        &gateway,
        "GET / HTTP/1.1\r\nHost: a\r\nExpect: the-best\r\n\r\n",
    )
    .await
}

pub(crate) async fn head_too_large() -> Value {
    let gateway = with("limits = { headers = 8 }", "respond = {}").await;
    let fields = "X: y\r\n".repeat(9);
    asked(
        &gateway,
        format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"),
    )
    .await
}

pub(crate) async fn uri_too_long() -> Value {
    let gateway = with("limits = { uri = \"256B\" }", "respond = {}").await;
    let long = "x".repeat(256);
    asked(&gateway, format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n")).await
}

pub(crate) async fn body_too_large() -> Value {
    let gateway = with("", "max_body = \"2B\"\nrespond = {}").await;
    asked(
        &gateway,
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
    )
    .await
}

pub(crate) async fn head_timeout() -> Value {
    let gateway = with("timeouts = { request_head = \"200ms\" }", "respond = {}").await;
    asked(&gateway, "GET / HTTP/1.1\r\nHost:").await
}

pub(crate) async fn body_timeout() -> Value {
    let origin = silent().await;
    let to = format!("to = \"{}\"", origin.address());
    let gateway = with("timeouts = { request_body = \"200ms\" }", &to).await;
    asked(
        &gateway,
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nsome",
    )
    .await
}

pub(crate) async fn flood() -> Value {
    let gateway = with("limits = { resets = 8 }", "respond = {}").await;
    let mut client = H2::connect(gateway.address()).await;
    for stream in (1..2000).step_by(2) {
        let both = [
            wire::request(stream, &wire::get("/")),
            wire::reset(stream, wire::code::CANCEL),
        ];
        if !client.send(both.concat()).await {
            break;
        }
    }
    assert_eq!(client.end().await, Outcome::Gone(Some(wire::code::CALM)));
    gateway.log().wait_for("verdict", "flood").await
}

pub(crate) async fn client_closed() -> Value {
    let origin = silent().await;
    let gateway = before(&origin, "").await;
    let mut client = gateway.connect().await;
    client.send(GET).await;
    origin.wait_for_requests(1).await;
    client.reset();
    first(&gateway.log()).await
}

pub(crate) async fn client_stalled() -> Value {
    let origin = Origin::raw(ok(&"x".repeat(32 << 20))).await;
    let to = format!("to = \"{}\"", origin.address());
    let gateway = with("timeouts = { write_stall = \"300ms\" }", &to).await;
    let mut client = Client::connect_narrow(gateway.address()).await;
    client.send(GET).await;
    first(&gateway.log()).await
}

pub(crate) async fn misdirected() -> Value {
    let pki = Pki::new();
    let gateway = with(
        "protocol = \"https\"",
        &format!("respond = {{}}\n{}", pki.certificate("a", &["a.example"])),
    )
    .await;
    let mut client = secure(&pki.client(), gateway.address(), "a.example").await;
    client.get("b.example", "/").await;
    first(&gateway.log()).await
}

pub(crate) async fn no_route() -> Value {
    let gateway = with("", "hosts = \"b\"\nrespond = {}").await;
    asked(&gateway, GET).await
}

pub(crate) async fn config_refused() -> Value {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("access.jsonl");
    let gateway = gateway(&format!(
        "on_error = \"contain\"\n[listeners.web]\naddress = \"127.0.0.1:0\"\n\
         [access_log]\noutput = {{ file = {:?} }}\n[routes.r]\nto = \"nowhere\"\n",
        log.display().to_string()
    ))
    .await;
    gateway.ask(GET).await;
    first(&AccessLog::at(&log)).await
}

pub(crate) async fn no_target() -> Value {
    let gateway = with("", "to = [{ address = \"127.0.0.1:1\", weight = 0 }]").await;
    asked(&gateway, GET).await
}

pub(crate) async fn fault() -> Value {
    let rule = "to = \"127.0.0.1:1\"\nfault = { abort = { percent = 100, status = 503 } }";
    let gateway = with("", rule).await;
    asked(&gateway, GET).await
}

pub(crate) async fn unknown_service() -> Value {
    let gateway = with("", "to = { service = \"reviews\", port = 9080 }").await;
    asked(&gateway, GET).await
}

pub(crate) async fn no_endpoint() -> Value {
    let gateway = with("", "to = \"empty\"\n[upstreams.empty]\nendpoints = []").await;
    asked(&gateway, GET).await
}

pub(crate) async fn overflow() -> Value {
    let origin = silent().await;
    let limits = "limits = { connections = 1, pending_requests = 0 }";
    let config = format!(
        "[routes.r]\nto = \"u\"\n[upstreams.u]\nendpoints = \"{}\"\n{limits}\n",
        origin.address()
    );
    // One worker: each may always hold one connection.
    let gateway = Gateway::start(&config, 1).await;
    let mut busy = gateway.connect().await;
    busy.send(GET).await;
    origin.wait_for_requests(1).await;
    asked(&gateway, GET).await
}

pub(crate) async fn connect() -> Value {
    let (dead, _held) = closed_port();
    let gateway = with("", &format!("to = \"{dead}\"")).await;
    asked(&gateway, GET).await
}

pub(crate) async fn connect_timeout() -> Value {
    // A full accept queue swallows what comes next.
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(([127, 0, 0, 1], 0).into()).expect("a port");
    let listener = socket.listen(1).expect("a queue");
    let address = listener.local_addr().expect("an address");
    let mut held = Vec::new();
    let fresh = || timeout(Duration::from_millis(300), TcpStream::connect(address));
    while let Ok(Ok(stream)) = fresh().await {
        held.push(stream);
    }
    let gateway = gateway(&format!(
        "[routes.r]\nto = \"u\"\n[upstreams.u]\nendpoints = \"{address}\"\ntimeouts = {{ connect = \"200ms\" }}\n"
    ))
    .await;
    asked(&gateway, GET).await
}

/// The line of a request to an origin that shows a certificate and speaks these protocols.
async fn shown(leaf: &Leaf, alpn: &[&str], demanded: Option<&Authority>, keys: &str) -> Value {
    let origin = Origin::text("hello").await;
    let server = Server::new(leaf, alpn, demanded, false);
    let front = Front::before(origin.address(), server).await;
    let gateway = gateway(&format!(
        "[routes.r]\nto = \"u\"\n[upstreams.u]\nendpoints = \"{}\"\n{keys}\n",
        front.address()
    ))
    .await;
    asked(&gateway, GET).await
}

/// The same where its authority is trusted.
async fn trusted(authority: &Authority, leaf: &Leaf) -> Value {
    let folder = tempfile::tempdir().expect("a folder");
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, authority.pem()).expect("a file");
    let keys = format!("tls = {{ ca = {:?} }}", ca.display().to_string());
    shown(leaf, &["http/1.1"], None, &keys).await
}

pub(crate) async fn upstream_tls() -> Value {
    let origin = Origin::start(|mut peer: Peer| async move {
        peer.send("220 mail.example ESMTP\r\n").await;
        peer.hold().await;
    })
    .await;
    asked(&before(&origin, "tls = { insecure = true }").await, GET).await
}

pub(crate) async fn upstream_tls_name() -> Value {
    let authority = Authority::default();
    trusted(&authority, &authority.server(&["a.example"])).await
}

pub(crate) async fn upstream_tls_issuer() -> Value {
    let leaf = Authority::new("Other CA").server(&["127.0.0.1"]);
    trusted(&Authority::default(), &leaf).await
}

pub(crate) async fn upstream_tls_validity() -> Value {
    let authority = Authority::default();
    let wanted = Wanted::server(&["127.0.0.1"]).days(-9, -1);
    trusted(&authority, &authority.sign(&wanted)).await
}

pub(crate) async fn upstream_tls_certificate() -> Value {
    let authority = Authority::default();
    trusted(&authority, &authority.client(&["127.0.0.1"])).await
}

pub(crate) async fn upstream_tls_client_certificate() -> Value {
    let authority = Authority::default();
    let leaf = authority.server(&["127.0.0.1"]);
    shown(
        &leaf,
        &["http/1.1"],
        Some(&authority),
        "tls = { insecure = true }",
    )
    .await
}

pub(crate) async fn upstream_tls_alpn() -> Value {
    let leaf = Authority::default().server(&["127.0.0.1"]);
    let keys = "protocol = \"http2\"\ntls = { insecure = true }";
    shown(&leaf, &["http/1.1"], None, keys).await
}

pub(crate) async fn upstream_startup() -> Value {
    let origin = Origin::start(|mut peer| async move {
        peer.take(8).await;
        peer.send("N").await;
        peer.hold().await;
    })
    .await;
    let gateway = gateway(&format!(
        "[listeners.web]\naddress = \"127.0.0.1:0\"\nprotocol = \"tcp\"\n\
         [routes.r]\nlisteners = \"web\"\nto = \"u\"\n\
         [upstreams.u]\nendpoints = \"{}\"\nstartup = \"postgres\"\ntls = {{ insecure = true }}\n",
        origin.address()
    ))
    .await;
    let mut client = gateway.connect().await;
    client.rest().await;
    first(&gateway.log()).await
}

pub(crate) async fn upstream_reset() -> Value {
    let origin = saying("").await;
    asked(&before(&origin, "").await, GET).await
}

pub(crate) async fn upstream_protocol() -> Value {
    let origin = saying("220 mail.example ESMTP\r\n").await;
    asked(&before(&origin, "").await, GET).await
}

pub(crate) async fn stream_refused() -> Value {
    let origin = Origin::start(|mut peer: Peer| async move {
        peer.send(wire::settings(&[])).await;
        let mut saw = Vec::new();
        while !has_head(&saw) {
            let more = peer.take(1).await;
            if more.is_empty() {
                return;
            }
            saw.extend(more);
        }
        peer.send(wire::reset(1, wire::code::REFUSED_STREAM)).await;
        peer.hold().await;
    })
    .await;
    asked(&before(&origin, "protocol = \"http2\"").await, GET).await
}

/// Whether a client of HTTP/2 has sent its first request.
fn has_head(bytes: &[u8]) -> bool {
    let mut rest = bytes.get(wire::PREFACE.len()..).unwrap_or_default();
    while let [a, b, c, kind, _, _, _, _, _, payload @ ..] = rest {
        if *kind == wire::kind::HEADERS {
            return true;
        }
        let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        rest = payload.get(length..).unwrap_or_default();
    }
    false
}

pub(crate) async fn response_timeout() -> Value {
    let origin = silent().await;
    let timeouts = "timeouts = { response_head = \"200ms\" }";
    asked(&before(&origin, timeouts).await, GET).await
}

pub(crate) async fn try_timeout() -> Value {
    let origin = silent().await;
    let rule = format!(
        "to = \"{}\"\nretry = {{ attempts = 1, on = \"reset\", per_try_timeout = \"100ms\" }}",
        origin.address()
    );
    asked(&with("", &rule).await, GET).await
}

pub(crate) async fn upstream_stalled() -> Value {
    let origin = Origin::start(|peer| async move {
        peer.narrow();
        sleep(Duration::from_mins(1)).await;
        drop(peer);
    })
    .await;
    let gateway = before(&origin, "timeouts = { write_stall = \"300ms\" }").await;
    let mut client = gateway.connect().await;
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n";
    client.send(head).await;
    let piece = vec![b'x'; 64 << 10];
    let patience = Duration::from_millis(200);
    within("the gateway takes no more", async {
        while client.try_send_for(&piece, patience).await {}
    })
    .await;
    first(&gateway.log()).await
}

pub(crate) async fn response_broken() -> Value {
    let origin = saying("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").await;
    let gateway = before(&origin, "").await;
    let mut client = gateway.connect().await;
    client.send(GET).await;
    client.rest().await;
    first(&gateway.log()).await
}

pub(crate) async fn request_timeout() -> Value {
    let origin = silent().await;
    let to = format!("timeout = \"200ms\"\nto = \"{}\"", origin.address());
    asked(&with("", &to).await, GET).await
}

pub(crate) async fn overloaded() -> Value {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let resident = pages
        .split(' ')
        .nth(1)
        .and_then(|it| it.parse::<u64>().ok());
    let mut options = Options::new(NonZeroUsize::MIN);
    // The gateway lives in this process: what we hold, it holds.
    options.bounds = Bounds {
        memory: Some(resident.expect("a number") * 4096 + (192 << 20)),
        descriptor_reserve: None,
    };
    let gateway = Gateway::start_with("[routes.r]\nrespond = {}\n", options).await;
    let mut client = gateway.connect().await;
    assert_eq!(client.get("a", "/").await.status, 200);
    let much = vec![1_u8; 512 << 20];
    within("it is refused", async {
        while client.get("a", "/").await.status != 503 {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(much.last(), Some(&1));
    gateway.log().wait_for("verdict", "overloaded").await
}

const SWITCH: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";

/// A gateway with a connection through it that went over to another protocol.
async fn upgraded(keys: &str) -> (Gateway, Client, Origin) {
    let origin = Origin::start(|mut peer: Peer| async move {
        if peer.head().await.is_some() {
            peer.send(SWITCH).await;
            peer.hold().await;
        }
    })
    .await;
    let to = format!("to = \"{}\"\nupgrade = {{ {keys} }}", origin.address());
    let gateway = with("", &to).await;
    let mut client = gateway.connect().await;
    client
        .send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
        .await;
    assert_eq!(client.reply().await.status, 101);
    (gateway, client, origin)
}

pub(crate) async fn protocol_refused() -> Value {
    let gateway = with("", "respond = {}").await;
    asked(&gateway, "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n").await
}

pub(crate) async fn protocol_unsupported() -> Value {
    let origin = Origin::start(|mut peer: Peer| async move {
        peer.send(wire::settings(&[])).await;
        peer.hold().await;
    })
    .await;
    let gateway = before(&origin, "protocol = \"http2\"").await;
    let opening = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    asked(&gateway, opening).await
}

pub(crate) async fn upgrade_idle() -> Value {
    let open = upgraded("protocols = \"echo\", idle_timeout = \"200ms\"").await;
    first(&open.0.log()).await
}

pub(crate) async fn upgrade_expired() -> Value {
    let open = upgraded("protocols = \"echo\", max_duration = \"200ms\"").await;
    first(&open.0.log()).await
}

/// The line of a raw stream with this key of its `stream`.
async fn stream(limit: &str) -> Value {
    let origin = silent().await;
    let gateway = gateway(&format!(
        "[listeners.web]\naddress = \"127.0.0.1:0\"\nprotocol = \"tcp\"\nstream = {{ {limit} }}\n\
         [routes.r]\nlisteners = \"web\"\nto = \"{}\"\n",
        origin.address()
    ))
    .await;
    let _client = gateway.connect().await;
    first(&gateway.log()).await
}

pub(crate) async fn stream_idle() -> Value {
    stream("idle_timeout = \"200ms\"").await
}

pub(crate) async fn stream_expired() -> Value {
    stream("max_duration = \"200ms\"").await
}

/// The line of a forward proxy with these keys, asked for this, as often as it takes to be refused.
async fn outside(listener: &str, objects: &str, target: &str) -> Value {
    let outside = Outside::start(&["a.test"], listener, objects).await;
    loop {
        let (reply, _stream) = outside.connect(target).await;
        if reply.status != 200 {
            break;
        }
    }
    let log = outside.gateway.log();
    eventually("a line with a verdict", || {
        log.lines()
            .into_iter()
            .find(|line| line["verdict"].is_string() && line["status"] != 200)
    })
    .await
}

pub(crate) async fn proxy_authentication() -> Value {
    let hash = "$2b$04$abcdefghijklmnopqrstuu/LVz6MZlItEy42I2juLihZ66HnQx/cy";
    let basic = format!("basic = {{ users = {{ shop = \"{hash}\" }} }}");
    outside(&basic, "", "a.test:443").await
}

/// The three digits of a number in base64; `c2hvcDp4` before them makes them the end of a password of `shop`.
fn base64(number: u32) -> String {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = format!("{number:03}").into_bytes();
    let bits = digits
        .iter()
        .fold(0, |bits, digit| bits << 8 | usize::from(*digit));
    let letters = [18, 12, 6, 0].map(|shift| char::from(alphabet[bits >> shift & 63]));
    letters.into_iter().collect()
}

pub(crate) async fn authentication_busy() -> Value {
    // A hash that takes a while, and more passwords at once than may wait for theirs.
    let hash = "$2b$08$abcdefghijklmnopqrstuu/LVz6MZlItEy42I2juLihZ66HnQx/cy";
    let basic = format!("basic = {{ users = {{ shop = \"{hash}\" }} }}");
    let outside = Outside::start(&[], &basic, "").await;
    let mut clients = Vec::new();
    for number in 0..150_u32 {
        let mut client = outside.gateway.connect().await;
        client
            .send(format!(
                "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\
                 Proxy-Authorization: Basic c2hvcDp4{}\r\n\r\n",
                base64(number)
            ))
            .await;
        clients.push(client);
    }
    let line = outside
        .gateway
        .log()
        .wait_for("verdict", "authentication_busy")
        .await;
    assert!(line.get("egress_reason").is_none(), "{line}");
    for client in &mut clients {
        let status = client.reply().await.status;
        assert!(matches!(status, 407 | 503), "{status}");
    }
    outside.gateway.log().wait(150).await;
    assert_eq!(outside.gateway.unauthenticated(), 150);
    assert_eq!(outside.gateway.egress(""), [0, 0, 0]);
    line
}

pub(crate) async fn egress_target() -> Value {
    outside("", "", "0x7f.1:443").await
}

pub(crate) async fn egress_refused() -> Value {
    outside("", "[egress]\n", "a.test:443").await
}

pub(crate) async fn egress_address() -> Value {
    outside("", "", "a.test:443").await
}

pub(crate) async fn egress_rate() -> Value {
    let origin = silent().await;
    let port = origin.address().port();
    let rules = rule(
        "a",
        "\"a.test\"",
        port,
        "protocols = \"tcp\"\nrate = \"1/h\"",
    );
    outside("", &rules, &format!("a.test:{port}")).await
}

pub(crate) async fn draining() -> Value {
    let origin = silent().await;
    let mut gateway = before(&origin, "").await;
    let log = gateway.log();
    let mut client = gateway.connect().await;
    client.send(GET).await;
    origin.wait_for_requests(1).await;
    assert!(!gateway.drain(Duration::from_millis(100)).await);
    // The log is in the folder of the gateway.
    first(&log).await
}
