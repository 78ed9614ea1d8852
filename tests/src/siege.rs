//! What others notice while somebody misbehaves: how long their answers take, and how much memory the
//! gateway needs meanwhile.

use std::{
    cell::RefCell,
    fs,
    net::SocketAddr,
    process::Stdio,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use sluice_gateway::drain::Tasks;
use tokio::{
    net::TcpStream,
    task::LocalSet,
    time::{Instant, sleep, sleep_until},
};

use crate::{Client, PATIENCE, load::resident, process::Sluice, reach};

/// Well-behaved clients.
const CLIENTS: u32 = 10;

/// From one request of a client to its next; they take turns.
const EVERY: Duration = Duration::from_millis(50);

/// Every so many requests it makes a new connection.
const FRESH: u32 = 10;

/// Held by whoever measures: two sieges at a time would measure each other.
pub static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Well-behaved clients that ask until they are stopped. They have a thread and a runtime of their own, so
/// that what they notice is the gateway and not the attackers of the same test.
#[derive(Debug)]
pub struct Witness {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Report>,
}

/// What they noticed.
#[derive(Debug, Clone, Copy)]
pub struct Report {
    /// Their answers.
    pub answers: usize,
    /// 99 of 100 of them came within this time, counted from the moment that the request was due: who is
    /// held up does not ask less often because of it.
    pub p99: Duration,
    /// The longest one.
    pub longest: Duration,
    /// How much the gateway's resident memory grew, at its highest, in bytes.
    pub growth: u64,
    /// The longest that a thread of the gateway's workers, or that of the clients, was ready to run and had
    /// no processor, or that the machine itself had none: what it did to the figures.
    pub pause: Duration,
}

impl Witness {
    /// They begin to ask for `/` and to watch the memory of the process.
    pub async fn start(gateway: &Sluice) -> Self {
        // What every process needs once is paid for before.
        for _ in 0..50 {
            gateway.connect().await.get("a.example", "/").await;
        }
        let (process, address) = (gateway.id().to_string(), gateway.address());
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_all().build().expect("a runtime");
            LocalSet::new().block_on(&runtime, watch(address, &process, &told))
        });
        Self { stop, thread }
    }

    /// Ends it.
    pub async fn stop(self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        let joined = tokio::task::spawn_blocking(move || self.thread.join()).await;
        joined.expect("no panic").expect("every answer arrives")
    }
}

/// Lets clients ask until told to stop, and watches the process.
async fn watch(address: SocketAddr, process: &str, stop: &Arc<AtomicBool>) -> Report {
    let own = format!("{}/task/{}", std::process::id(), thread_id());
    let threads: Vec<_> = workers(process).chain([own]).collect();
    let look = || {
        let waits = threads.iter().map(|it| waited(it));
        waits.chain([stolen()]).collect::<Vec<_>>()
    };
    let (before, mut waits, mut pause) = (resident(process), look(), Duration::ZERO);
    let mut most = before;
    let (tasks, times) = (Tasks::new(), Rc::default());
    for number in 0..CLIENTS {
        let (stop, times) = (Arc::clone(stop), Rc::clone(&times));
        tasks.spawn_local(client(address, number, stop, times));
    }
    while !stop.load(Ordering::Relaxed) {
        most = most.max(resident(process));
        let now = look();
        let longer = now
            .iter()
            .zip(&waits)
            .map(|(now, before)| now.saturating_sub(*before));
        pause = longer.fold(pause, Duration::max);
        waits = now;
        sleep(EVERY / CLIENTS).await;
    }
    assert!(tasks.finish(PATIENCE).await, "every answer arrives");
    let mut times = times.take();
    times.sort_unstable();
    let rank = times.len() * 99 / 100;
    Report {
        answers: times.len(),
        p99: times.get(rank).copied().unwrap_or(Duration::MAX),
        longest: times.last().copied().unwrap_or(Duration::MAX),
        growth: most.saturating_sub(before),
        pause,
    }
}

/// How long answers took.
type Times = Rc<RefCell<Vec<Duration>>>;

/// Asks until told to stop.
async fn client(address: SocketAddr, number: u32, stop: Arc<AtomicBool>, times: Times) {
    let mut due = Instant::now() + EVERY * number / CLIENTS;
    let mut kept = None;
    for asked in number.. {
        sleep_until(due).await;
        if stop.load(Ordering::Relaxed) {
            return;
        }
        if asked.is_multiple_of(FRESH) {
            kept = None;
        }
        let served = ask(address, &mut kept).await;
        let time = if served { due.elapsed() } else { Duration::MAX };
        times.borrow_mut().push(time);
        due += EVERY;
    }
}

/// Asks over `client`, or a new connection. No answer counts as one that came too late.
async fn ask(address: SocketAddr, client: &mut Option<Client>) -> bool {
    if client.is_none() {
        *client = TcpStream::connect(address).await.ok().map(Client::from);
    }
    let served = match client {
        Some(client) => reach::ask(client, "a.example").await.is_ok(),
        None => false,
    };
    if !served {
        *client = None;
    }
    served
}

/// The number of the calling thread.
fn thread_id() -> String {
    let link = fs::read_link("/proc/thread-self").expect("Linux");
    let name = link.file_name().expect("a number");
    name.to_string_lossy().into_owned()
}

/// The threads of a gateway's workers.
fn workers(process: &str) -> impl Iterator<Item = String> {
    let threads = fs::read_dir(format!("/proc/{process}/task")).expect("Linux");
    let threads = threads.filter_map(|thread| Some(thread.ok()?.file_name()));
    let threads = threads.map(move |it| format!("{process}/task/{}", it.to_string_lossy()));
    threads.filter(|thread| {
        let name = fs::read_to_string(format!("/proc/{thread}/comm"));
        name.is_ok_and(|name| name.starts_with("worker-"))
    })
}

/// How long this machine, if it is a guest, was ready to run and its host ran something else.
fn stolen() -> Duration {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    // Hundredths of a second: user, nice, system, idle, iowait, irq, softirq, steal.
    let ticks = text.split_whitespace().nth(8);
    let ticks = ticks.and_then(|it| it.parse::<u64>().ok());
    Duration::from_millis(ticks.unwrap_or(0) * 10)
}

/// How long a thread was ready to run and had no processor. A kernel that does not count it says that it
/// never waits.
fn waited(thread: &str) -> Duration {
    let text = fs::read_to_string(format!("/proc/{thread}/schedstat")).unwrap_or_default();
    let nanoseconds = text.split_whitespace().nth(1);
    let nanoseconds = nanoseconds.and_then(|text| text.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or_default())
}

/// Lets the calling thread, and what it starts from here on, go before everything else on this machine,
/// where it may: whom others hold up says nothing about the gateway.
pub fn go_first() {
    let raised = std::process::Command::new("renice")
        .args(["-n", "-19", "-p", &thread_id()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    // Where it may not, the report tells what others did to it.
    raised.ok();
}

/// Lets this process, and whom it starts, open this many descriptors.
pub fn raise_descriptors(count: u32) {
    let own = std::process::id().to_string();
    let limit = format!("--nofile={count}:");
    let raised = std::process::Command::new("prlimit")
        .args(["--pid", &own, &limit])
        .status();
    let raised = raised.is_ok_and(|status| status.success());
    assert!(raised, "prlimit raises the limit");
    // The table of descriptors shall not grow while something is measured: who needs the next one then
    // sleeps for as long as the kernel likes.
    let room: Vec<_> = (0..count / 2)
        .map_while(|_| fs::File::open("/dev/null").ok())
        .collect();
    drop(room);
}
