//! Requests at a constant rate, over connections that are kept and connections that are fresh.
//!
//! Each lane has its own schedule and never skips a beat: a late answer makes the next request late,
//! it does not make it disappear. Nothing is kept per request, so that the memory of this process
//! can be judged while it runs.

use std::{
    collections::BTreeMap,
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
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep_until},
};

use crate::{Client, PATIENCE, Reply};

/// Connections in use at a time.
const LANES: u32 = 10;

/// Every so many requests of a lane a new connection is made.
const FRESH: u64 = 10;

/// How many different failures are kept word by word.
const KEPT: usize = 20;

/// What is asked, by a running number.
pub type Ask = fn(u64) -> String;

/// What is wrong with the answer to the request of that number, if anything.
pub type Judge = fn(u64, &Reply) -> Option<String>;

/// A load that runs until it is stopped.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    tasks: Tasks,
    outcome: Arc<Mutex<Outcome>>,
    begun: Instant,
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Answers that were as they should be.
    pub good: u64,
    /// Everything else.
    pub bad: u64,
    /// What else, and how often.
    pub failures: BTreeMap<String, u64>,
    /// The longest time between the moment a request was due and its whole answer.
    pub slowest: Duration,
    /// How long it ran.
    pub took: Duration,
}

impl Outcome {
    /// Good answers per second.
    pub fn rate(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52 requests")]
        let good = self.good as f64;
        good / self.took.as_secs_f64()
    }

    fn note(&mut self, failure: Option<String>, time: Duration) {
        self.slowest = self.slowest.max(time);
        let Some(failure) = failure else {
            self.good += 1;
            return;
        };
        self.bad += 1;
        if self.failures.len() < KEPT || self.failures.contains_key(&failure) {
            *self.failures.entry(failure).or_default() += 1;
        }
    }
}

impl Load {
    /// Asks `address` `rate` times per second.
    pub fn start(address: SocketAddr, rate: u32, ask: Ask, judge: Judge) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let tasks = Tasks::new();
        let outcome = Arc::new(Mutex::new(Outcome::default()));
        let begun = Instant::now();
        let period = Duration::from_secs(1) * LANES / rate;
        for lane in 0..LANES {
            let lane = Lane {
                address,
                first: begun + period * lane / LANES,
                period,
                number: u64::from(lane),
                ask,
                judge,
            };
            tasks.spawn(lane.run(Arc::clone(&stop), Arc::clone(&outcome)));
        }
        Self {
            stop,
            tasks,
            outcome,
            begun,
        }
    }

    /// What came of it so far.
    pub fn so_far(&self) -> Outcome {
        let took = self.begun.elapsed();
        Outcome {
            took,
            ..self.outcome.lock().clone()
        }
    }

    /// Ends it after the requests under way.
    pub async fn stop(self) -> Outcome {
        self.stop.store(true, Ordering::Relaxed);
        let outcome = self.so_far();
        assert!(self.tasks.finish(PATIENCE).await, "every answer arrives");
        let last = self.outcome.lock().clone();
        Outcome {
            took: outcome.took,
            ..last
        }
    }
}

/// One of the connections at a time.
struct Lane {
    address: SocketAddr,
    first: Instant,
    period: Duration,
    number: u64,
    ask: Ask,
    judge: Judge,
}

impl Lane {
    async fn run(mut self, stop: Arc<AtomicBool>, outcome: Arc<Mutex<Outcome>>) {
        let mut due = self.first;
        let mut kept: Option<Client> = None;
        let mut count = 0_u64;
        while !stop.load(Ordering::Relaxed) {
            sleep_until(due).await;
            if count.is_multiple_of(FRESH) {
                kept = None;
            }
            let failure = match self.one(&mut kept).await {
                Ok(reply) => {
                    if reply
                        .header("connection")
                        .is_some_and(|it| it.eq_ignore_ascii_case("close"))
                    {
                        kept = None;
                    }
                    (self.judge)(self.number, &reply)
                }
                Err(why) => {
                    kept = None;
                    Some(why)
                }
            };
            outcome.lock().note(failure, due.elapsed());
            due += self.period;
            self.number += u64::from(LANES);
            count += 1;
        }
    }

    async fn one(&mut self, kept: &mut Option<Client>) -> Result<Reply, String> {
        if kept.is_none() {
            let stream = TcpStream::connect(self.address).await;
            let stream = stream.map_err(|error| format!("connecting: {}", error.kind()))?;
            stream.set_nodelay(true).unwrap_or_default();
            *kept = Some(Client::from(stream));
        }
        let client = kept.as_mut().ok_or("no connection")?;
        client.send((self.ask)(self.number)).await;
        let reply = client.try_reply("GET").await;
        reply.map_err(|why| format!("no answer: {why:?}"))
    }
}

/// An origin that answers every request with its head's first line and remembers nothing.
/// It lives as long as the tasks that are given back.
pub async fn forgetful_origin(name: &'static str) -> (SocketAddr, Tasks) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let tasks = Tasks::new();
    let own = tasks.clone();
    tasks.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).unwrap_or_default();
            own.spawn(answer(stream, name));
        }
    });
    (address, tasks)
}

async fn answer(mut stream: TcpStream, name: &'static str) {
    let length = name.len();
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{name}");
    let mut pending = Vec::new();
    while let Ok(1..) = stream.read_buf(&mut pending).await {
        while let Some(end) = pending.windows(4).position(|four| four == b"\r\n\r\n") {
            pending.drain(..end + 4);
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}

/// Resident memory of a process in bytes; `self` for this one.
pub fn resident(process: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).expect("Linux");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("VmRSS");
    let kilobytes: u64 = line
        .trim()
        .trim_end_matches(" kB")
        .trim()
        .parse()
        .expect("a number");
    kilobytes * 1024
}
