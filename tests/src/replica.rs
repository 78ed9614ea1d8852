//! One of several that share a storage: a keeper with the smallest of all doors for HTTP-01.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use crate::{PATIENCE, Pebble, pebble::Setup};
use parking_lot::Mutex;
use sluice_certs::{
    Facts, Pending, Store,
    acme::{ChallengeKind, Issuer, Keeper, KeyChoice, State, Terms, Wanted},
    storage::{Directory, Storage},
};
use sluice_gateway::drain::Tasks;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Duration, Instant, sleep},
};

/// Stops when it is dropped.
pub struct Replica {
    /// Its keeper.
    pub keeper: Keeper,
    /// What it serves.
    pub store: Store,
    tasks: Tasks,
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.tasks.abort();
    }
}

impl Replica {
    /// One that keeps what `terms` say, and answers at `door`.
    pub fn start(terms: Terms, door: &Door) -> Self {
        let store = Store::new();
        let (keeper, keeping) = Keeper::new(store.clone());
        let tasks = Tasks::new();
        tasks.spawn(keeping.run());
        keeper.set(terms);
        door.open(&tasks, keeper.pending());
        Self {
            keeper,
            store,
            tasks,
        }
    }

    /// What it knows of `name`.
    pub fn state(&self, name: &str) -> Option<State> {
        let states = self.keeper.states();
        states.iter().find(|state| state.name == name).cloned()
    }

    /// The serial number of what is served under `name`.
    pub fn serial(&self, name: &str) -> Option<String> {
        let pairs = self.store.get(name)?.pairs()?;
        pairs.iter().next().map(|pair| pair.facts().serial.clone())
    }

    /// Waits until there is a certificate, and gives its serial number.
    pub async fn issued(&self, name: &str) -> String {
        self.serves(name, PATIENCE, |_| true).await
    }

    /// What is served under `name` says.
    pub fn facts(&self, name: &str) -> Option<Arc<Facts>> {
        self.state(name)?.facts
    }

    /// Waits until the certificate has such a serial number, and gives it.
    pub async fn serves(
        &self,
        name: &str,
        patience: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> String {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(serial) = self.serial(name).filter(|serial| wanted(serial)) {
                return serial;
            }
            assert!(
                Instant::now() < deadline,
                "no certificate: {:?}",
                self.state(name)
            );
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until an order failed, and gives why.
    pub async fn words(&self, name: &str) -> String {
        self.becomes(name, |state| Some(state.problem.clone()?.1.problem))
            .await
    }

    /// Waits until `look` finds something in the state of `name`.
    pub async fn becomes<T>(&self, name: &str, look: impl Fn(&State) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let state = self.state(name);
            if let Some(found) = state.as_ref().and_then(&look) {
                return found;
            }
            assert!(Instant::now() < deadline, "still {state:?}");
            sleep(Duration::from_millis(5)).await;
        }
    }
}

/// One that may answer, as long as its tasks run.
type Behind = (Tasks, Arc<Pending>);

/// Where validating servers come: each connection to another of those that are open.
#[derive(Clone, Default)]
pub struct Door {
    behind: Arc<Mutex<Vec<Behind>>>,
    turn: Arc<AtomicUsize>,
    /// How many came.
    pub came: Arc<AtomicUsize>,
    /// Whoever comes waits.
    pub shut: Arc<AtomicBool>,
    /// Requests, as host and path, and whether they were answered.
    pub seen: Arc<Mutex<Vec<(String, String, bool)>>>,
}

impl Door {
    fn open(&self, tasks: &Tasks, pending: &Arc<Pending>) {
        self.behind
            .lock()
            .push((tasks.clone(), Arc::clone(pending)));
    }

    /// Accepts from now on.
    pub async fn listen(&self, tasks: &Tasks) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (door, more) = (self.clone(), tasks.clone());
        tasks.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let door = door.clone();
                more.spawn(async move { door.answer(stream).await.unwrap_or_default() });
            }
        });
        address
    }

    async fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        self.came.fetch_add(1, Ordering::Relaxed);
        while self.shut.load(Ordering::Relaxed) {
            sleep(Duration::from_millis(5)).await;
        }
        let path = head.split(' ').nth(1).unwrap_or_default();
        let host = head
            .lines()
            .find_map(|line| line.strip_prefix("Host: "))
            .unwrap_or_default();
        let pending = {
            let mut behind = self.behind.lock();
            behind.retain(|(tasks, _)| !tasks.is_aborted());
            let turn = self.turn.fetch_add(1, Ordering::Relaxed);
            behind
                .get(turn % behind.len().max(1))
                .map(|(_, pending)| Arc::clone(pending))
        };
        let answer = match (pending, Pending::token(path)) {
            (Some(pending), Some(token)) => pending.find_http(host, token).await,
            _ => None,
        };
        self.seen
            .lock()
            .push((host.to_owned(), path.to_owned(), answer.is_some()));
        let answer = match answer {
            Some(text) => format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}",
                text.len()
            ),
            None => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(),
        };
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await
    }
}

/// An issuer at `pebble`.
pub fn issuer(pebble: &Pebble, name: &str) -> Issuer {
    Issuer {
        name: name.to_owned(),
        directory: pebble.directory.clone(),
        contact: vec!["mailto:ops@example.com".to_owned()],
        challenge: ChallengeKind::Http01,
        dns: None,
        external_account: None,
        profile: None,
        key: KeyChoice::default(),
        fallback: Vec::new(),
        on_demand: None,
        client: pebble.client(),
    }
}

/// What is wanted: each name with its hosts, from the first of `issuers`.
pub fn terms(storage: Arc<dyn Storage>, issuers: Vec<Issuer>, wanted: &[(&str, &[&str])]) -> Terms {
    let first = issuers[0].name.clone();
    let wanted = wanted.iter().map(|(name, hosts)| {
        let hosts = hosts.iter().map(ToString::to_string).collect();
        let issuer = first.clone();
        ((*name).to_owned(), Wanted { hosts, issuer })
    });
    Terms {
        storage,
        wanted: wanted.collect(),
        issuers: issuers
            .into_iter()
            .map(|issuer| (issuer.name.clone(), Arc::new(issuer)))
            .collect(),
    }
}

/// A door that listens, and pebble that knows it.
pub async fn pebble(mut setup: Setup) -> Option<(Pebble, Door, Tasks)> {
    let (tasks, door) = (Tasks::new(), Door::default());
    setup.http = door.listen(&tasks).await.port();
    let pebble = Pebble::start(&setup).await?;
    Some((pebble, door, tasks))
}

/// What a test of one replica needs: pebble, where it looks, and a folder to keep certificates in.
pub struct Stage {
    pebble: Option<Pebble>,
    /// Where it looks.
    pub door: Door,
    folder: TempDir,
    _tasks: Tasks,
}

impl Stage {
    /// None, said aloud, where pebble is not installed.
    pub async fn set(setup: Setup) -> Option<Self> {
        let (pebble, door, tasks) = pebble(setup).await?;
        Some(Self {
            pebble: Some(pebble),
            door,
            folder: TempDir::new().expect("a folder"),
            _tasks: tasks,
        })
    }

    /// Issues, until it ends.
    pub fn pebble(&self) -> &Pebble {
        self.pebble.as_ref().expect("it did not end")
    }

    /// Nobody issues any more.
    pub fn end_pebble(&mut self) {
        self.pebble = None;
    }

    /// pebble as an issuer of this name, with what `change` makes of it.
    pub fn issuer(&self, name: &str, change: impl FnOnce(&mut Issuer)) -> Issuer {
        let mut issuer = issuer(self.pebble(), name);
        change(&mut issuer);
        issuer
    }

    /// `a.example` is wanted as `web` from the first of `issuers`, and kept in a folder below this one's.
    pub fn terms(&self, folder: &str, issuers: Vec<Issuer>) -> Terms {
        let storage = directory(&self.folder.path().join(folder), false);
        terms(storage, issuers, &[("web", &["a.example"])])
    }

    /// The same from pebble.
    pub fn plain(&self) -> Terms {
        self.wants(&[("web", &["a.example"])])
    }

    /// Each name with its hosts is wanted from pebble.
    pub fn wants(&self, wanted: &[(&str, &[&str])]) -> Terms {
        let storage = directory(self.folder(), false);
        terms(storage, vec![issuer(self.pebble(), "pebble")], wanted)
    }

    /// A replica that keeps what `terms` say.
    pub fn start(&self, terms: Terms) -> Replica {
        Replica::start(terms, &self.door)
    }

    /// Where certificates lie.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// A storage in `folder`.
pub fn directory(folder: &Path, shared: bool) -> Arc<dyn Storage> {
    Arc::new(Directory::new(folder, shared))
}
