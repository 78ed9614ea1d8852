//! Certificates in files that change while the program runs, and what is told of them.

use std::{
    fs,
    net::SocketAddr,
    num::NonZeroUsize,
    os::unix::fs::symlink,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use sluice_certs::testing::{Client as TlsClient, Leaf, Wanted};
use sluice_gateway::{
    drain::Tasks,
    engine::{Engine, Options},
    source::{
        LastGood,
        file::{Files, First, Status, Tell},
    },
};
use sluice_tests::{
    Client,
    process::{Sluice, free_ports},
    tls::{Pki, Secure, connect, files},
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep},
};

/// What changed is served within this time: sooner than the gateway looks without being told.
const SOON: Duration = Duration::from_secs(8);

/// A gateway that serves `a.example` with the pair in `folder`, and the port of its metrics.
async fn serving(folder: &Path) -> (Sluice, u16) {
    let home = Arc::new(tempfile::tempdir().expect("a folder"));
    let port = free_ports(3);
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let config = config(folder);
    let metrics = format!("127.0.0.1:{}", port + 1);
    let admin = format!("127.0.0.1:{}", port + 2);
    let arguments = ["--metrics", &*metrics, "--admin", &admin];
    let running = Sluice::start_with(home, address, &config, &arguments);
    running.accepts().await;
    (running, port + 1)
}

fn config(folder: &Path) -> String {
    format!(
        "[process]\nstate_directory = \"state\"\n[access_log]\noutput = \"off\"\n\
         [listeners.web]\naddress = \"{{address}}\"\nprotocol = \"https\"\n\
         [certificates.a]\nfiles = {}\n\
         [routes.r]\nhosts = [\"a.example\"]\nrespond = {{ body = \"hello\" }}\n",
        files(folder)
    )
}

async fn scrape(port: u16) -> String {
    let mut client = Client::connect(([127, 0, 0, 1], port).into()).await;
    client.get("metrics.test", "/metrics").await.text()
}

/// Waits until a scrape has this line.
async fn tells(port: u16, line: &str) -> String {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let text = scrape(port).await;
        if text.lines().any(|it| it == line) {
            return text;
        }
        assert!(Instant::now() < deadline, "no {line:?} in:\n{text}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// A pair for `a.example` whose certificate has this subject.
fn leaf(pki: &Pki, name: &str) -> Leaf {
    let wanted = Wanted::server(&["a.example"]).subject(name);
    pki.authority.sign(&wanted)
}

/// The subject that a fresh connection is shown.
async fn shown(client: &TlsClient, address: SocketAddr) -> String {
    let stream = connect(client, address, "a.example").await.expect("TLS");
    stream.certificate().expect("a certificate").subject
}

/// Waits until fresh connections are shown this subject.
async fn shows(client: &TlsClient, address: SocketAddr, subject: &str) {
    let deadline = Instant::now() + SOON;
    loop {
        let now = shown(client, address).await;
        if now == subject {
            return;
        }
        assert!(Instant::now() < deadline, "still {now}, not {subject}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Clients that connect and ask all the time; what failed is counted.
struct Siege {
    tasks: Tasks,
    stop: Arc<AtomicBool>,
    good: Arc<AtomicU64>,
    bad: Arc<AtomicU64>,
}

impl Siege {
    fn start(client: &TlsClient, address: SocketAddr) -> Self {
        let siege = Self {
            tasks: Tasks::new(),
            stop: Arc::default(),
            good: Arc::default(),
            bad: Arc::default(),
        };
        for _ in 0..4 {
            let client = client.clone().forgetful();
            let stop = Arc::clone(&siege.stop);
            let (good, bad) = (Arc::clone(&siege.good), Arc::clone(&siege.bad));
            siege.tasks.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let counter = if asks(&client, address).await {
                        &good
                    } else {
                        &bad
                    };
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        siege
    }

    async fn ends_well(self) {
        self.stop.store(true, Ordering::Relaxed);
        assert!(self.tasks.finish(Duration::from_secs(20)).await);
        assert_eq!(self.bad.load(Ordering::Relaxed), 0, "connections were lost");
        assert!(self.good.load(Ordering::Relaxed) > 0);
    }
}

async fn asks(client: &TlsClient, address: SocketAddr) -> bool {
    let Ok(stream) = connect(client, address, "a.example").await else {
        return false;
    };
    let mut client: Secure = Client::over(stream);
    client
        .send("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
        .await;
    let reply = client.try_reply("GET").await;
    reply.is_ok_and(|reply| reply.status == 200)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_written_anew_are_served_and_broken_ones_are_not() {
    let pki = Pki::new();
    let leaf = |name: &str| leaf(&pki, name);
    pki.place("a", &leaf("one"));
    let (gateway, metrics) = serving(&pki.path("a")).await;
    let (address, client) = (gateway.address(), pki.client().forgetful());
    assert_eq!(shown(&client, address).await, "CN=one");
    let siege = Siege::start(&client, address);
    let mut steady: Secure = Client::over(connect(&client, address, "a.example").await.unwrap());

    pki.place("a", &leaf("two"));
    shows(&client, address, "CN=two").await;

    // A key that is not that of the certificate: what serves goes on, and it is told.
    let (three, other) = (leaf("three"), leaf("other"));
    fs::write(pki.path("a").join("chain.pem"), &three.chain).unwrap();
    fs::write(pki.path("a").join("key.pem"), &other.key).unwrap();
    tells(metrics, "sluice_certificate_refused{certificate=\"a\"} 1").await;
    gateway.says("does not belong to the certificate").await;
    assert_eq!(shown(&client, address).await, "CN=two");
    let mut admin = Client::connect(([127, 0, 0, 1], metrics + 1).into()).await;
    let ready = admin.get("localhost", "/ready").await.text();
    assert!(ready.contains("does not belong"), "{ready}");

    fs::write(pki.path("a").join("key.pem"), &three.key).unwrap();
    shows(&client, address, "CN=three").await;
    tells(metrics, "sluice_certificate_refused{certificate=\"a\"} 0").await;

    // For other hosts than those that are routed: refused, too.
    let foreign = pki.authority.server(&["b.example"]);
    pki.place("a", &foreign);
    gateway
        .says("no certificate of listener web covers a.example")
        .await;
    assert_eq!(shown(&client, address).await, "CN=three");

    // Whoever was there all the time noticed nothing.
    assert_eq!(steady.get("a.example", "/").await.status, 200);
    siege.ends_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_is_swapped_is_followed() {
    // As an orchestrator mounts secrets: `a/chain.pem` → `..data/chain.pem`, `..data` → a folder.
    let pki = Pki::new();
    let root = pki.path("mounted");
    let generation = |number: u32| {
        let folder = root.join(format!("..{number}"));
        leaf(&pki, &format!("g{number}")).write(&folder);
        let fresh = root.join("..fresh");
        symlink(format!("..{number}"), &fresh).expect("a link");
        fs::rename(&fresh, root.join("..data")).expect("the swap");
    };
    fs::create_dir_all(&root).unwrap();
    generation(1);
    for file in ["chain.pem", "key.pem"] {
        symlink(format!("..data/{file}"), root.join(file)).expect("a link");
    }
    let (gateway, metrics) = serving(&root).await;
    let (address, client) = (gateway.address(), pki.client().forgetful());
    assert_eq!(shown(&client, address).await, "CN=g1");
    let siege = Siege::start(&client, address);

    for number in 2..5 {
        generation(number);
        shows(&client, address, &format!("CN=g{number}")).await;
    }
    siege.ends_well().await;
    let text = scrape(metrics).await;
    let family =
        "sluice_tls_handshakes_total{listener=\"web\",version=\"TLSv1.3\",resumed=\"false\"}";
    assert!(text.contains(family), "{text}");
    assert!(text.contains("sluice_tls_handshake_duration_seconds_count{listener=\"web\"}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_far_above_the_files_is_followed() {
    // As releases are switched: `current` → `releases/2`, and the files two folders below.
    let pki = Pki::new();
    let root = pki.path("app");
    let release = |number: u32| {
        let folder = root.join(format!("releases/{number}/etc/tls"));
        leaf(&pki, &format!("r{number}")).write(&folder);
        symlink(format!("releases/{number}"), root.join("fresh")).expect("a link");
        fs::rename(root.join("fresh"), root.join("current")).expect("the swap");
    };
    release(1);
    let (gateway, _) = serving(&root.join("current/etc/tls")).await;
    let (address, client) = (gateway.address(), pki.client().forgetful());
    assert_eq!(shown(&client, address).await, "CN=r1");
    for number in 2..4 {
        release(number);
        shows(&client, address, &format!("CN=r{number}")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_configuration_runs_as_soon_as_its_certificate_is_there() {
    let pki = Pki::new();
    pki.place("a", &leaf(&pki, "one"));
    let (gateway, _) = serving(&pki.path("a")).await;
    let (address, client) = (gateway.address(), pki.client().forgetful());

    gateway.write_config(&config(&pki.path("not/yet")));
    gateway.says("configuration refused").await;
    assert_eq!(shown(&client, address).await, "CN=one");

    leaf(&pki, "two").write(&pki.path("not/yet"));
    shows(&client, address, "CN=two").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_while_the_gateway_starts_is_not_missed() {
    let pki = Pki::new();
    pki.place("a", &leaf(&pki, "one"));
    let text = config(&pki.path("a")).replace("{address}", "127.0.0.1:0");
    let paths = vec![pki.write("sluice.toml", &text)];
    let first = First::read(&paths, |_| None);
    let start = first.start().expect("a good configuration");
    let (snapshots, receiver) = watch::channel(Arc::clone(&start.snapshot));
    let engine = tokio::task::spawn_blocking(move || {
        let options = Options::new(NonZeroUsize::MIN);
        Engine::start(options, receiver)
    });
    let engine = engine.await.expect("no panic").expect("the engine starts");

    // The pair has been read, and nobody watches it yet.
    pki.place("a", &leaf(&pki, "two"));

    let kept = LastGood::new(pki.path("state"), &paths);
    let files = Files::new(paths, |_| None, kept, &first, &start);
    let tell = Tell {
        counters: engine.metrics().control(),
        status: watch::Sender::new(Status::default()),
    };
    let (_reload, reloads) = mpsc::channel(1);
    let control = Tasks::new();
    control.spawn(files.follow(snapshots, engine.applied(), reloads, tell));
    let address = engine.address("web").expect("it listens");
    shows(&pki.client().forgetful(), address, "CN=two").await;
    control.abort();
    engine.drain(Duration::ZERO).await;
}

#[tokio::test]
async fn the_end_of_a_certificate_is_told_by_a_metric_and_loudly() {
    let pki = Pki::new();
    for (days, says) in [
        (5, "the certificate ends soon"),
        (-1, "the certificate has ended"),
    ] {
        let wanted = Wanted::server(&["a.example"]).days(-30, days);
        let leaf = pki.authority.sign(&wanted);
        pki.place("a", &leaf);
        let (gateway, metrics) = serving(&pki.path("a")).await;
        let end = leaf.pair().facts().not_after.unix_timestamp();
        let line = format!("sluice_certificate_not_after_seconds{{certificate=\"a\"}} {end}");
        tells(metrics, &line).await;
        gateway.says(says).await;
    }
}
