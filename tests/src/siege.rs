//! What others notice while somebody misbehaves: how long their answers take, and how much memory the
//! gateway needs meanwhile.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use sluice_gateway::drain::Tasks;
use tokio::{
    net::TcpStream,
    time::{Instant, sleep},
};

use crate::{Client, PATIENCE, load::resident, process::Sluice, reach};

/// Between an answer and the next request of the well-behaved client.
const PAUSE: Duration = Duration::from_millis(5);

/// Every so many requests it makes a new connection.
const FRESH: usize = 10;

/// Held by whoever measures: two sieges at a time would measure each other.
pub static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A well-behaved client that asks until it is stopped.
#[derive(Debug)]
pub struct Witness {
    stop: Arc<AtomicBool>,
    times: Arc<Mutex<Vec<Duration>>>,
    tasks: Tasks,
    process: String,
    before: u64,
    most: Arc<Mutex<u64>>,
}

/// What it noticed.
#[derive(Debug, Clone, Copy)]
pub struct Report {
    /// Its answers.
    pub answers: usize,
    /// 99 of 100 of them came within this time.
    pub p99: Duration,
    /// How much the gateway's resident memory grew, at its highest, in bytes.
    pub growth: u64,
}

impl Witness {
    /// Begins to ask for `/` and to watch the memory of the process.
    pub async fn start(gateway: &Sluice) -> Self {
        // What every process needs once is paid for before.
        for _ in 0..50 {
            gateway.connect().await.get("a.example", "/").await;
        }
        let process = gateway.id().to_string();
        let before = resident(&process);
        let witness = Self {
            stop: Arc::default(),
            times: Arc::default(),
            tasks: Tasks::new(),
            process: process.clone(),
            before,
            most: Arc::new(Mutex::new(before)),
        };
        let (stop, times) = (Arc::clone(&witness.stop), Arc::clone(&witness.times));
        let (most, address) = (Arc::clone(&witness.most), gateway.address());
        witness.tasks.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                ask(address, &times).await;
                let now = resident(&process);
                let mut most = most.lock();
                *most = now.max(*most);
            }
        });
        witness
    }

    /// Ends it; fails the test when an answer was missing.
    pub async fn stop(self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        assert!(self.tasks.finish(PATIENCE).await, "every answer arrives");
        let mut times = std::mem::take(&mut *self.times.lock());
        times.sort_unstable();
        let rank = times.len() * 99 / 100;
        let most = (*self.most.lock()).max(resident(&self.process));
        Report {
            answers: times.len(),
            p99: times.get(rank).copied().unwrap_or(Duration::MAX),
            growth: most.saturating_sub(self.before),
        }
    }
}

/// Asks over one connection. No answer counts as one that came too late.
async fn ask(address: SocketAddr, times: &Mutex<Vec<Duration>>) {
    let mut client: Option<Client> = None;
    for _ in 0..FRESH {
        let begun = Instant::now();
        if client.is_none() {
            client = TcpStream::connect(address).await.ok().map(Client::from);
        }
        let served = match &mut client {
            Some(client) => reach::ask(client, "a.example").await.is_ok(),
            None => false,
        };
        let time = begun.elapsed();
        times.lock().push(if served { time } else { Duration::MAX });
        if !served {
            client = None;
        }
        sleep(PAUSE).await;
    }
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
}
