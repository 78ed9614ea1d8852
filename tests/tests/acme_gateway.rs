//! The whole program and a real pebble: who names a host gets a certificate for it, and keeps it.

use std::{
    net::SocketAddr,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use sluice_certs::testing::{Client as TlsClient, alert};
use sluice_gateway::drain::Tasks;
use sluice_tests::{
    Client, PATIENCE, Pebble,
    etcd::Etcd,
    eventually::eventually,
    named::{KEY, Named},
    pebble::Setup,
    process::{Sluice, free_ports},
    tls::{connect, secure},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{Duration, Instant, sleep, timeout},
};

const HOST: &str = "shop.example";

/// Ports of a gateway that does not run yet: pebble has to know where it looks.
#[derive(Clone, Copy)]
struct Ports {
    http: SocketAddr,
    https: SocketAddr,
    metrics: SocketAddr,
    admin: SocketAddr,
    /// Of an http listener that redirects nobody.
    plain: SocketAddr,
}

impl Ports {
    fn free() -> Self {
        let first = free_ports(5);
        let at = |offset| SocketAddr::from(([127, 0, 0, 1], first + offset));
        Self {
            http: at(0),
            https: at(1),
            metrics: at(2),
            admin: at(3),
            plain: at(4),
        }
    }

    fn setup(self) -> Setup {
        Setup {
            http: self.http.port(),
            tls: self.https.port(),
            ..Setup::default()
        }
    }
}

/// A host on an http listener that redirects and an https listener whose certificates look after themselves.
/// `issuer` is what stands in its table, `more` is anything else.
fn config(pebble: &Pebble, ports: Ports, issuer: &str, more: &str) -> String {
    format!(
        "[process]\nstate_directory = \"state\"\n\
         [access_log]\noutput = {{ file = \"access.jsonl\" }}\n\
         [listeners.web]\naddress = \"{}\"\nhttps_redirect = {{ port = {} }}\n\
         [listeners.plain]\naddress = \"{}\"\n\
         [listeners.websecure]\naddress = \"{}\"\nprotocol = \"https\"\n\
         certificates = {{ auto = \"pebble\" }}\n\
         [acme.pebble]\ndirectory = {:?}\nca = \"{}\"\ncontact = [\"mailto:ops@example.com\"]\n{issuer}\n\
         [routes.shop]\nhosts = [\"{HOST}\"]\nrespond = {{ body = \"hello\" }}\n{more}",
        ports.http,
        ports.https.port(),
        ports.plain,
        ports.https,
        pebble.directory,
        pebble.root_file().display(),
    )
}

/// Starts the program and waits until it accepts.
async fn run(home: &Arc<TempDir>, ports: Ports, config: &str) -> Sluice {
    let (metrics, admin) = (ports.metrics.to_string(), ports.admin.to_string());
    let more = ["--metrics", &*metrics, "--admin", &*admin];
    let gateway = Sluice::start_with(Arc::clone(home), ports.https, config, &more);
    gateway.accepts().await;
    gateway
}

fn home() -> Arc<TempDir> {
    Arc::new(tempfile::tempdir().expect("a folder"))
}

async fn issuing_root(pebble: &Pebble) -> String {
    String::from_utf8(pebble.issuing_root().await).expect("PEM")
}

/// A client that believes what `pebble` issues.
async fn client(pebble: &Pebble) -> TlsClient {
    let root = issuing_root(pebble).await;
    TlsClient::believing(&root, &["http/1.1"]).forgetful()
}

/// The serial number of what a fresh connection is shown, if there is anything.
async fn serial(client: &TlsClient, at: SocketAddr, host: &str) -> Option<String> {
    let stream = connect(client, at, host).await.ok()?;
    Some(stream.certificate()?.serial)
}

/// Waits until fresh connections are shown such a certificate.
async fn serves(
    gateway: &Sluice,
    client: &TlsClient,
    (at, host): (SocketAddr, &str),
    wanted: impl Fn(&str) -> bool,
) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let shown = serial(client, at, host).await;
        if let Some(serial) = shown.filter(|serial| wanted(serial)) {
            return serial;
        }
        let said = gateway.output();
        assert!(
            Instant::now() < deadline,
            "no certificate; it said:\n{said}"
        );
        sleep(Duration::from_millis(20)).await;
    }
}

async fn scrape(ports: Ports) -> String {
    let mut client = Client::connect(ports.metrics).await;
    client.get("metrics.test", "/metrics").await.text()
}

/// Waits until a scrape has this line.
async fn tells(ports: Ports, line: &str) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let text = scrape(ports).await;
        if text.lines().any(|it| it == line) {
            return text;
        }
        assert!(Instant::now() < deadline, "no {line:?} in:\n{text}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// What both challenges that a gateway answers itself have in common.
async fn is_served_without_thinking(challenge: &str) -> Option<(Sluice, Ports, Pebble)> {
    let ports = Ports::free();
    let pebble = Pebble::start(&ports.setup()).await?;
    let issuer = format!("challenge = {challenge:?}");
    let gateway = run(&home(), ports, &config(&pebble, ports, &issuer, "")).await;

    let client = client(&pebble).await;
    serves(&gateway, &client, (ports.https, HOST), |_| true).await;

    let mut visitor = secure(&client, ports.https, HOST).await;
    let reply = visitor.get(HOST, "/").await;
    assert_eq!((reply.status, reply.text().as_str()), (200, "hello"));
    for path in ["/", "/.well-known/acme-challenge/guessed"] {
        let mut visitor = Client::connect(ports.http).await;
        let reply = visitor.get(HOST, path).await;
        assert_eq!(reply.status, 301, "{path}");
        let port = ports.https.port();
        let wanted = format!("https://{HOST}:{port}{path}");
        assert_eq!(reply.header("location"), Some(wanted.as_str()));
    }
    // Where nothing redirects, what is not pending is routed like all else.
    let mut visitor = Client::connect(ports.plain).await;
    let path = "/.well-known/acme-challenge/guessed";
    assert_eq!(visitor.get(HOST, path).await.text(), "hello");
    let answered = format!("sluice_acme_challenges_answered_total{{challenge=\"{challenge}\"}} 0");
    let told = tells(ports, "sluice_acme_orders_total{outcome=\"issued\"} 1").await;
    assert!(!told.contains(&answered), "{told}");
    for name in [
        "sluice_certificate_not_after_seconds",
        "sluice_certificate_renewal_seconds",
    ] {
        let line = format!("{name}{{certificate=\"{HOST}\"}} ");
        assert!(told.contains(&line), "no {line:?} in:\n{told}");
    }
    Some((gateway, ports, pebble))
}

#[tokio::test]
async fn a_host_that_is_named_is_proven_over_http_before_it_redirects() {
    let Some((gateway, _, _)) = Box::pin(is_served_without_thinking("http-01")).await else {
        return;
    };
    let line = gateway.log().wait_for("route", "@acme-challenge").await;
    assert_eq!(
        (&line["status"], &line["host"]),
        (&200.into(), &HOST.into())
    );
    assert_eq!(line["listener"], "web");
}

#[tokio::test]
async fn a_host_that_is_named_is_proven_in_a_handshake_and_nothing_else_is_said_there() {
    let Some((_gateway, ports, pebble)) = Box::pin(is_served_without_thinking("tls-alpn-01")).await
    else {
        return;
    };
    let root = issuing_root(&pebble).await;
    let validating = TlsClient::believing(&root, &["acme-tls/1"]);
    let refused = connect(&validating, ports.https, HOST).await;
    let refused = refused.expect_err("nothing is pending any more");
    assert_eq!(alert(&refused).as_deref(), Some("NoApplicationProtocol"));
}

#[tokio::test]
async fn the_example_is_all_that_it_takes() {
    let ports = Ports::free();
    let Some(pebble) = Pebble::start(&ports.setup()).await else {
        return;
    };
    let example = include_str!("../../config/examples/automatic.toml");
    let mut text = format!("[process]\nstate_directory = \"state\"\n{example}");
    let root = pebble.root_file();
    let issuer = format!("{:?}\nca = \"{}\"", pebble.directory, root.display());
    for (written, here) in [
        ("0.0.0.0:80\"", format!("{}\"", ports.http)),
        ("0.0.0.0:443\"", format!("{}\"", ports.https)),
        ("\"https://acme-v02.api.letsencrypt.org/directory\"", issuer),
    ] {
        assert!(text.contains(written), "{text}");
        text = text.replace(written, &here);
    }
    let gateway = run(&home(), ports, &text).await;
    let client = client(&pebble).await;
    for host in ["shop.example.com", "www.example.com"] {
        serves(&gateway, &client, (ports.https, host), |_| true).await;
        let mut visitor = Client::connect(ports.http).await;
        let reply = visitor.get(host, "/basket?a=1").await;
        let wanted = format!("https://{host}/basket?a=1");
        assert_eq!(
            (reply.status, reply.header("location")),
            (301, Some(&*wanted))
        );
    }
}

#[tokio::test]
async fn a_wildcard_is_proven_by_a_record() {
    let Some(named) = Named::start().await else {
        return;
    };
    let ports = Ports::free();
    let setup = Setup {
        dns: Some(named.address),
        ..ports.setup()
    };
    let Some(pebble) = Pebble::start(&setup).await else {
        return;
    };
    let home = home();
    std::fs::write(home.path().join("tsig"), format!("{KEY}\n")).expect("a file");
    let issuer = format!(
        "challenge = \"dns-01\"\n[acme.pebble.dns.rfc2136]\nserver = \"{}\"\nzone = \"example\"\n\
         key_name = \"sluice-key\"\nkey = \"file:{}\"\n",
        named.address,
        home.path().join("tsig").display(),
    );
    let more = "[routes.others]\nhosts = [\"*.shops.example\"]\nrespond = {}\n";
    let gateway = run(&home, ports, &config(&pebble, ports, &issuer, more)).await;
    let client = client(&pebble).await;
    for host in [HOST, "any.shops.example"] {
        serves(&gateway, &client, (ports.https, host), |_| true).await;
    }
    let changes = named.changes().await;
    assert!(
        changes.contains("_acme-challenge.shops.example"),
        "{changes}"
    );
}

#[tokio::test]
async fn an_address_and_what_an_issuer_asks_for_are_ordered_as_written() {
    const KEY: &str = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3I";
    let ports = Ports::free();
    let setup = Setup {
        external: Some(("kid-1", KEY)),
        ..ports.setup()
    };
    let Some(pebble) = Pebble::start(&setup).await else {
        return;
    };
    let issuer =
        format!("key = \"rsa-2048\"\nexternal_account = {{ key_id = \"kid-1\", key = {KEY:?} }}");
    let more = "[certificates.address]\nhosts = [\"127.0.0.1\"]\nauto = \"pebble\"\n";
    let config = config(&pebble, ports, &issuer, more).replace(
        "{ auto = \"pebble\" }",
        "{ auto = \"pebble\", default = \"address\" }",
    );
    let gateway = run(&home(), ports, &config).await;
    let client = client(&pebble).await.nameless();
    serves(&gateway, &client, (ports.https, "127.0.0.1"), |_| true).await;
    let shown = connect(&client, ports.https, "127.0.0.1").await;
    let facts = shown.expect("TLS").certificate().expect("a certificate");
    assert!(facts.covers("127.0.0.1"), "{facts:?}");
    assert!(format!("{:?}", facts.key).contains("Rsa"), "{facts:?}");
}

/// Clients that come one after the other until they are told to stop; gives how many failed.
async fn visit(client: TlsClient, at: SocketAddr, until: impl Fn() -> bool) -> (u32, u32) {
    let (mut served, mut lost) = (0, 0);
    while !until() {
        let visit = async {
            let stream = connect(&client, at, HOST).await.ok()?;
            let mut visitor = Client::over(stream);
            visitor
                .send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"))
                .await;
            visitor.try_reply("GET").await.ok()
        };
        match visit.await {
            Some(reply) if reply.status == 200 => served += 1,
            _ => lost += 1,
        }
    }
    (served, lost)
}

#[tokio::test]
async fn a_renewal_changes_what_is_served_and_costs_no_request() {
    let ports = Ports::free();
    let setup = Setup {
        lifetime: 20,
        ..ports.setup()
    };
    let Some(pebble) = Pebble::start(&setup).await else {
        return;
    };
    let gateway = run(&home(), ports, &config(&pebble, ports, "", "")).await;
    let client = client(&pebble).await;
    let at = (ports.https, HOST);
    let first = serves(&gateway, &client, at, |_| true).await;
    let over = std::cell::Cell::new(false);
    let renewed = async {
        let second = serves(&gateway, &client, at, |serial| serial != first).await;
        over.set(true);
        second
    };
    let visits = visit(client.clone(), ports.https, || over.get());
    let (_, (served, lost)) = tokio::join!(renewed, visits);
    assert!(served > 0 && lost == 0, "{served} served, {lost} lost");
}

#[tokio::test]
async fn half_of_all_nonces_may_be_refused() {
    let ports = Ports::free();
    let setup = Setup {
        refused_nonces: 50,
        ..ports.setup()
    };
    let Some(pebble) = Pebble::start(&setup).await else {
        return;
    };
    let more = "[routes.more]\nhosts = [\"a.example\", \"b.example\"]\nrespond = {}\n";
    let gateway = run(&home(), ports, &config(&pebble, ports, "", more)).await;
    let client = client(&pebble).await;
    for host in [HOST, "a.example", "b.example"] {
        serves(&gateway, &client, (ports.https, host), |_| true).await;
    }
    let told = tells(ports, "sluice_acme_orders_total{outcome=\"issued\"} 3").await;
    assert!(
        told.contains("sluice_acme_orders_total{outcome=\"failed\"} 0"),
        "{told}"
    );
}

/// A client that takes anything: whether there is any answer inside.
async fn answers_with_anything(at: SocketAddr) -> bool {
    use sluice_certs::client::{Client as Tls, ClientSpec, Host, Offer, Version};
    let client = Tls::new(ClientSpec {
        trust: None,
        sni: None,
        names: Vec::new(),
        certificate: None,
        min_version: Version::Tls12,
    });
    let stream = TcpStream::connect(at).await.expect("accepted");
    let host = Host::new(HOST).expect("a name");
    let client = client.expect("a client");
    client
        .connect(stream, Some(&host), Offer::Http1)
        .await
        .is_ok()
}

#[tokio::test]
async fn what_was_issued_is_served_at_once_by_a_start_without_its_issuer_and_expired_too() {
    let ports = Ports::free();
    let setup = Setup {
        lifetime: 15,
        ..ports.setup()
    };
    let Some(pebble) = Pebble::start(&setup).await else {
        return;
    };
    let (home, config) = (home(), config(&pebble, ports, "", ""));
    let client = client(&pebble).await;
    let mut gateway = run(&home, ports, &config).await;
    let first = serves(&gateway, &client, (ports.https, HOST), |_| true).await;
    gateway.signal("KILL");
    gateway.ends().await;
    // Its folder has the file that says whom to trust.
    let bundle = std::fs::read(pebble.root_file()).expect("a file");
    let kept = home.path().join("root.pem");
    std::fs::write(&kept, bundle).expect("a file");
    let config = config.replace(
        &pebble.root_file().display().to_string(),
        &kept.display().to_string(),
    );
    drop(pebble);

    let gateway = run(&home, ports, &config).await;
    assert_eq!(
        serial(&client, ports.https, HOST).await.as_deref(),
        Some(&*first),
        "from the first connection on"
    );
    let said = timeout(
        PATIENCE,
        gateway.says("the certificate has ended, and is served"),
    );
    said.await.expect("it is told aloud");
    assert!(answers_with_anything(ports.https).await, "it is served");
    let line = format!("sluice_certificate_order_failures{{certificate=\"{HOST}\"}} 1");
    tells(ports, &line).await;
}

#[tokio::test]
async fn an_issuer_that_refuses_is_quoted() {
    let ports = Ports::free();
    let setup = Setup {
        http: 9,
        ..ports.setup()
    };
    let Some(pebble) = Pebble::start(&setup).await else {
        return;
    };
    let config = config(&pebble, ports, "challenge = \"http-01\"", "");
    let gateway = run(&home(), ports, &config).await;
    let said = gateway.says("no certificate").await;
    let words = said.lines().find(|line| line.contains("no certificate"));
    let words = words.expect("a line");
    assert!(
        words.contains(HOST) && words.contains("connection"),
        "{words}"
    );
    let line = format!("sluice_certificate_order_failures{{certificate=\"{HOST}\"}} 1");
    tells(ports, &line).await;
    let mut operator = Client::connect(ports.admin).await;
    let path = format!("/certificates/{HOST}");
    let told = operator.get("127.0.0.1", &path).await.text();
    let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    let problem = told["problem"]["what"].as_str().expect("a problem");
    assert!(
        problem.contains(HOST) && problem.contains("connection"),
        "{told}"
    );
    assert_eq!(told["order"]["phase"], "waiting", "{told}");
}

#[tokio::test]
async fn what_lies_in_an_etcd_is_served_by_a_gateway_that_begins_anew() {
    let ports = Ports::free();
    let Some(pebble) = Pebble::start(&ports.setup()).await else {
        return;
    };
    let Some(etcd) = Etcd::start().await else {
        return;
    };
    let more = format!("[storage.etcd]\nendpoints = [{:?}]\n", etcd.endpoint);
    let config = config(&pebble, ports, "", &more);
    let client = client(&pebble).await;
    let mut gateway = run(&home(), ports, &config).await;
    let first = serves(&gateway, &client, (ports.https, HOST), |_| true).await;
    gateway.signal("KILL");
    gateway.ends().await;

    let _gateway = run(&home(), ports, &config).await;
    let shown = serial(&client, ports.https, HOST).await;
    assert_eq!(
        shown.as_deref(),
        Some(&*first),
        "from the first connection on"
    );
}

#[tokio::test]
async fn a_state_that_a_restart_empties_is_warned_of() {
    let here = std::process::Command::new("stat")
        .args(["-f", "-c", "%T", "/dev/shm"])
        .stderr(Stdio::null())
        .output();
    if here.is_ok_and(|kind| kind.stdout.trim_ascii() != b"tmpfs") {
        eprintln!("SKIPPED: /dev/shm is no tmpfs here");
        return;
    }
    let ports = Ports::free();
    let state = tempfile::tempdir_in("/dev/shm").expect("a folder");
    let Some(pebble) = Pebble::start(&ports.setup()).await else {
        return;
    };
    let config = config(&pebble, ports, "", "").replace(
        "state_directory = \"state\"",
        &format!("state_directory = {:?}", state.path()),
    );
    let gateway = run(&home(), ports, &config).await;
    let said = gateway.says("lost with the next restart").await;
    assert!(said.contains("tmpfs"), "{said}");
}

/// Says yes to hosts that end so, and notes who asked.
async fn opinion(allowed: &'static str) -> (SocketAddr, Tasks) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let tasks = Tasks::new();
    tasks.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = vec![0; 4_096];
            let length = stream.read(&mut head).await.unwrap_or_default();
            let text = String::from_utf8_lossy(&head[..length]).into_owned();
            let path = text.split(' ').nth(1).unwrap_or_default();
            let status = if path.ends_with(allowed) { 200 } else { 404 };
            let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n");
            stream
                .write_all(answer.as_bytes())
                .await
                .unwrap_or_default();
        }
    });
    (address, tasks)
}

#[tokio::test]
async fn a_name_that_nobody_has_written_is_ordered_where_list_and_opinion_agree() {
    let ports = Ports::free();
    let Some(pebble) = Pebble::start(&ports.setup()).await else {
        return;
    };
    let (opinion, _tasks) = opinion("good.customers.example").await;
    let issuer = format!(
        "on_demand = {{ allow = [\"*.customers.example\"], ask = \"http://{opinion}/may\", \
         rate = \"1/h\" }}"
    );
    let more = "[routes.customers]\nhosts = [\"*.customers.example\"]\nrespond = {}\n";
    let (home, config) = (home(), config(&pebble, ports, &issuer, more));
    let mut gateway = run(&home, ports, &config).await;
    let client = client(&pebble).await;

    // The first handshake waits for it.
    let good = "a.good.customers.example";
    let mut visitor = secure(&client, ports.https, good).await;
    assert_eq!(visitor.get(good, "/").await.status, 200);
    for host in [
        "bad.customers.example",
        "customers.example",
        "elsewhere.example",
        // The rate is spent.
        "b.good.customers.example",
    ] {
        let refused = connect(&client, ports.https, host).await;
        let refused = refused.expect_err(host);
        assert_eq!(
            alert(&refused).as_deref(),
            Some("unrecognized_name"),
            "{host}"
        );
    }
    let line =
        "sluice_tls_handshake_failures_total{listener=\"websecure\",reason=\"not_issued\"} 4";
    let told = tells(ports, line).await;
    assert!(
        !told.contains("good.customers.example"),
        "names of clients are no labels: {told}"
    );
    gateway.signal("KILL");
    gateway.ends().await;

    // What lies in the storage is no order.
    let _gateway = run(&home, ports, &config).await;
    let mut visitor = secure(&client, ports.https, good).await;
    assert_eq!(visitor.get(good, "/").await.status, 200);
}

/// Where pebble looks: each connection goes to another of those that accept.
async fn spread(to: Vec<SocketAddr>, shut: watch::Receiver<bool>) -> (u16, Tasks) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (tasks, more) = (Tasks::new(), Tasks::new());
    let turns = Arc::new(AtomicUsize::new(0));
    tasks.spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let (to, mut shut, turns) = (to.clone(), shut.clone(), Arc::clone(&turns));
            more.spawn(async move {
                shut.wait_for(|shut| !shut).await.expect("the test lives");
                for _ in &to {
                    let turn = turns.fetch_add(1, Ordering::Relaxed);
                    if let Ok(mut gateway) = TcpStream::connect(to[turn % to.len()]).await {
                        let copied = copy_bidirectional(&mut client, &mut gateway).await;
                        copied.map(drop).unwrap_or_default();
                        return;
                    }
                }
            });
        }
    });
    (port, tasks)
}

#[tokio::test]
async fn of_three_gateways_another_finishes_when_the_orderer_is_killed() {
    let all = [Ports::free(), Ports::free(), Ports::free()];
    let (shut, look) = watch::channel(true);
    let doors = all.iter().map(|ports| ports.http).collect();
    let (port, _tasks) = spread(doors, look).await;
    let setup = Setup {
        http: port,
        ..Setup::default()
    };
    let Some(pebble) = Pebble::start(&setup).await else {
        return;
    };
    let shared = tempfile::tempdir().expect("a folder");
    let more = format!("[storage]\ndirectory = {:?}\n", shared.path());
    let mut gateways = Vec::new();
    for ports in all {
        let config = config(&pebble, ports, "challenge = \"http-01\"", &more);
        gateways.push((run(&home(), ports, &config).await, ports));
    }
    // The orderer waits for the validating server, which waits at the door.
    let orderer = eventually("somebody orders", || {
        let orders = |gateway: &Sluice| gateway.output().contains("ordering a certificate");
        gateways.iter().position(|(gateway, _)| orders(gateway))
    })
    .await;
    let published = shared.path().join("challenges");
    eventually("its challenge is published", || {
        let mut published = std::fs::read_dir(&published).ok()?;
        published.next().map(drop)
    })
    .await;
    let (mut killed, _) = gateways.remove(orderer);
    killed.signal("KILL");
    killed.ends().await;
    shut.send_replace(false);

    let client = client(&pebble).await;
    // Its lock is anybody's after 30 s.
    let deadline = Instant::now() + Duration::from_secs(75);
    let first = loop {
        let mut served = None;
        for (_, ports) in &gateways {
            served = served.or(serial(&client, ports.https, HOST).await);
        }
        match served {
            Some(serial) => break serial,
            None => assert!(Instant::now() < deadline, "{}", gateways[0].0.output()),
        }
        sleep(Duration::from_millis(50)).await;
    };
    let seen = Instant::now();
    for (gateway, ports) in &gateways {
        serves(gateway, &client, (ports.https, HOST), |serial| {
            serial == first
        })
        .await;
    }
    let late = seen.elapsed();
    assert!(late < Duration::from_secs(5), "all serve it {late:?} later");
    let mut issued = 0;
    for (_, ports) in &gateways {
        let told = scrape(*ports).await;
        issued += u32::from(told.contains("sluice_acme_orders_total{outcome=\"issued\"} 1"));
    }
    assert_eq!(issued, 1, "exactly one ordered it");
}
