//! What 10,000 certificates cost: until the program serves, and per handshake.
//!
//! Goals: 3 s from the start of the program to its first handshake; per handshake at most 5 % more than
//! beside a single certificate. Both programs run at once and are asked in turns; a cost is the CPU time of
//! the program's worker, so that what else runs on the machine hardly counts, nor that the program looks
//! after its files meanwhile, which is told apart. Every client asks for another name and begins anew.
#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a measurement, for people"
)]

use std::{
    fmt::Write as _,
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use sluice_certs::testing::{Authority, Client};
use tokio::{io::AsyncReadExt as _, net::TcpStream, runtime, time::Instant};

const MANY: usize = 10_000;

/// Handshakes per turn, and how many turns each program has. Their ratio is the median over the turns.
const HANDSHAKES: usize = 400;
const TURNS: usize = 25;

const START: Duration = Duration::from_secs(3);
const RATIO: f64 = 1.05;

/// Longer than that nobody waits for a start.
const PATIENCE: Duration = Duration::from_mins(1);

/// A program that serves `h0.example`, `h1.example` and so on, with a certificate each.
struct Running {
    child: Child,
    address: SocketAddr,
    count: usize,
    asked: usize,
}

impl Running {
    fn start(folder: &Path, count: usize) -> Self {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = free.local_addr().expect("an address");
        drop(free);
        let own = folder.join(format!("serves-{count}"));
        fs::create_dir(&own).expect("a folder");
        let mut text = format!(
            "[process]\nworkers = 1\nstate_directory = \"{}\"\n[access_log]\noutput = \"off\"\n\
             [listeners.web]\naddress = \"{address}\"\nprotocol = \"https\"\ntls = {{ session_tickets = false }}\n\
             [routes.r]\nrespond = {{}}\n",
            own.display()
        );
        for number in 0..count {
            let pair = place(folder, number);
            let pair = pair.display();
            let files = format!("{{ chain = \"{pair}/chain.pem\", key = \"{pair}/key.pem\" }}");
            writeln!(text, "[certificates.c{number}]\nfiles = {files}").expect("a text");
        }
        let config = own.join("sluice.toml");
        fs::write(&config, text).expect("a configuration");
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
        command.args(["run", "--config"]).arg(config);
        for port in ["SLUICE_ADMIN", "SLUICE_METRICS", "SLUICE_READINESS"] {
            command.env(port, "off");
        }
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.stderr(Stdio::null()).spawn().expect("it starts");
        Self {
            child,
            address,
            count,
            asked: 0,
        }
    }

    /// Shakes hands with the last of its hosts, as soon as it can.
    async fn ready(&self, client: &Client) {
        let host = format!("h{}.example", self.count.saturating_sub(1));
        let deadline = Instant::now() + PATIENCE;
        while self.shake(client, &host).await.is_none() {
            assert!(Instant::now() < deadline, "it never served");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn shake(&self, client: &Client, host: &str) -> Option<()> {
        let stream = TcpStream::connect(self.address).await.ok()?;
        stream.set_nodelay(true).ok()?;
        let mut stream = client.connect(stream, host).await.ok()?;
        // Closed by us, it is over when the gateway has closed it, too.
        tokio::io::AsyncWriteExt::shutdown(&mut stream).await.ok()?;
        let _ended = stream.read(&mut [0]).await;
        Some(())
    }

    /// The CPU time of a handshake, over many.
    async fn turn(&mut self, client: &Client) -> Duration {
        let before = self.busy(true);
        for _ in 0..HANDSHAKES {
            // Far from the one before.
            self.asked = (self.asked + 7919) % self.count;
            let host = format!("h{}.example", self.asked);
            self.shake(client, &host).await.expect("a handshake");
        }
        let spent = self.busy(true).saturating_sub(before);
        spent / u32::try_from(HANDSHAKES).expect("not so many")
    }

    /// The CPU time so far of its worker, or of all other threads.
    fn busy(&self, worker: bool) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("threads");
        let tasks = tasks.map(|task| task.expect("a thread").path());
        let text = |path| fs::read_to_string(path).unwrap_or_default();
        let spent = tasks
            .filter(|task| text(task.join("comm")).starts_with("worker") == worker)
            .map(|task| {
                let text = text(task.join("schedstat"));
                let spent = text.split_whitespace().next();
                spent.map_or(0, |nanos| nanos.parse().expect("a number"))
            });
        Duration::from_nanos(spent.sum())
    }

    /// What it holds, in KiB.
    fn resident(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("its status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        number.expect("a line").parse().expect("a number")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn place(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("c{number}"))
}

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::default();
    for number in 0..MANY {
        let leaf = authority.server(&[&format!("h{number}.example")]);
        leaf.write(&place(folder.path(), number));
    }
    let client = Client::new(&authority, &["http/1.1"]).forgetful();
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let measured = measure(folder.path(), &client);
    runtime.expect("a runtime").block_on(measured);
}

async fn measure(folder: &Path, client: &Client) {
    let mut one = Running::start(folder, 1);
    one.ready(client).await;
    let began = Instant::now();
    let mut many = Running::start(folder, MANY);
    many.ready(client).await;
    let started = began.elapsed();
    let each = many.resident().saturating_sub(one.resident()) * 1024 / MANY;
    println!(
        "{MANY} certificates: served after {started:.2?} ({}), {each} bytes each",
        verdict(started <= START)
    );

    let (mut turns, before, began) = (Vec::new(), many.busy(false), Instant::now());
    for _ in 0..TURNS {
        let (alone, among) = (one.turn(client).await, many.turn(client).await);
        turns.push((among.as_secs_f64() / alone.as_secs_f64(), alone, among));
    }
    let beside = many.busy(false).saturating_sub(before);
    turns.sort_by(|one, other| one.0.total_cmp(&other.0));
    let (ratio, alone, among) = turns.swap_remove(TURNS / 2);
    println!(
        "a handshake: {alone:.1?} beside one certificate, {among:.1?} beside {MANY}, {ratio:.3} of it ({})",
        verdict(ratio <= RATIO)
    );
    println!(
        "looking after the files: {:.2} % of a core",
        beside.as_secs_f64() / began.elapsed().as_secs_f64() * 100.0
    );
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "MISSED" }
}
