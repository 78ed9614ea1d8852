//! Accepting: limits, hand-over, the size of what a connection costs.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use sluice_config::{Sources, names::ListenerName};
use tokio::{net::TcpStream, sync::mpsc, task::LocalSet, time::timeout};

use super::{Accepting, Crew, Door, Fresh, Listening, is_of_one_connection};
use crate::{
    authn::verifier::Verifier,
    connection,
    downstream::Connection,
    drain::Tasks,
    load,
    plan::{Local, Parts, Plan, reaper},
    stream::Stream,
    telemetry::{
        access_log::Writer,
        metrics::{Counter, Metrics},
        trace::Tracer,
    },
    upstream::{Connector, Pools, Registry},
};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(10);

/// The first of two workers; only it accepts.
struct Bench {
    local: Rc<Local>,
    crew: Arc<Crew>,
    inboxes: Vec<mpsc::Receiver<Fresh>>,
    metrics: Metrics,
}

impl Bench {
    fn new(limits: &str) -> Self {
        let text = format!(
            "[listeners.web]\naddress = \"127.0.0.1:8080\"\nlimits = {{ {limits} }}\n\
             [routes.a]\nto = \"127.0.0.1:1\"\n"
        );
        let report = sluice_config::check(&Sources::from_text("test.toml", &text), None);
        let snapshot = report.snapshot.expect("good");
        let metrics = Metrics::new(2);
        let counters = metrics.worker(0);
        let registry = Registry::new(Connector::Network, Tasks::new(), metrics.control());
        let loaded = load::files(
            &snapshot,
            &load::CertificateFiles::default(),
            &HashMap::default(),
        )
        .expect("none");
        let parts = Parts {
            registry: &registry,
            tasks: &Tasks::new(),
            bodies: loaded.bodies,
            tls_clients: loaded.tls_clients,
            users: loaded.users,
            verifier: Verifier::default(),
            tls: HashMap::new(),
            certificates: sluice_certs::Store::new(),
            pending: sluice_certs::Pending::none(),
            access_log: Writer::default(),
            tracer: Tracer::default(),
        };
        let plan = Arc::new(Plan::compile(None, &snapshot, parts));
        let pools = Pools::new(0, 2, Connector::Network, Tasks::new(), counters.clone());
        let (reaper, _) = reaper();
        let (crew, inboxes) = Crew::new(2);
        Self {
            local: Rc::new(Local::new(
                0,
                plan,
                pools,
                counters,
                reaper,
                (1, Arc::default()),
            )),
            crew,
            inboxes,
            metrics,
        }
    }

    fn listener(&self) -> Arc<crate::plan::Listener> {
        let name = ListenerName::new("web").expect("a name");
        Arc::clone(&self.local.plan().listeners[&name])
    }

    /// Accepts on a port of its own.
    fn accept(&self) -> (Accepting, std::net::SocketAddr) {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        socket.set_nonblocking(true).expect("set");
        let address = socket.local_addr().expect("bound");
        let door = Rc::new(Door::new(Rc::clone(&self.local), Arc::clone(&self.crew)));
        let socket = Listening::Tcp(socket);
        let accepting = Accepting::start(socket, self.listener(), door).expect("watched");
        (accepting, address)
    }
}

#[tokio::test]
async fn a_worker_with_far_too_many_connections_hands_fresh_ones_to_another() {
    let work = async {
        let mut bench = Bench::new("connections = 100");
        let (_accepting, address) = bench.accept();
        let mut clients = Vec::new();
        for _ in 0..18 {
            clients.push(TcpStream::connect(address).await.expect("accepted"));
        }
        let inbox = &mut bench.inboxes[1];
        let handed = timeout(PATIENCE, inbox.recv())
            .await
            .expect("in time")
            .expect("one");
        assert_eq!(handed.peer.ip(), IpAddr::V4(Ipv4Addr::LOCALHOST));
        assert_eq!(bench.metrics.sum(Counter::ConnectionsHandedOver), 1);
        assert_eq!(
            bench.listener().census.len(),
            18,
            "it counts wherever it is served"
        );
        drop(handed);
        assert_eq!(bench.listener().census.len(), 17);
    };
    LocalSet::new().run_until(work).await;
}

#[tokio::test]
async fn a_connection_over_the_limit_is_closed_at_once_and_counted() {
    let work = async {
        let bench = Bench::new("connections = 1");
        let (_accepting, address) = bench.accept();
        let first = TcpStream::connect(address).await.expect("accepted");
        let second = TcpStream::connect(address)
            .await
            .expect("accepted by the kernel");
        timeout(PATIENCE, second.readable())
            .await
            .expect("closed")
            .expect("readable");
        assert_eq!(second.try_read(&mut [0]).unwrap_or(0), 0);
        assert_eq!(bench.metrics.sum(Counter::ConnectionsRefused), 1);

        drop(first);
        let free = async {
            while !bench.listener().census.is_empty() {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, free).await.expect("free again");
    };
    LocalSet::new().run_until(work).await;
}

#[tokio::test]
async fn whoever_waits_in_the_kernels_queue_is_served_when_accepting_stops() {
    let work = async {
        let bench = Bench::new("connections = 100");
        let (accepting, address) = bench.accept();
        // Without an await in between nobody can have accepted them.
        let clients: Vec<_> = (0..5)
            .map(|_| std::net::TcpStream::connect(address).expect("queued"))
            .collect();
        accepting.stop().await;
        assert_eq!(bench.metrics.sum(Counter::ConnectionsAccepted), 5);
        assert!(
            std::net::TcpStream::connect(address).is_err(),
            "the socket is closed"
        );
        drop(clients);
    };
    LocalSet::new().run_until(work).await;
}

#[test]
fn only_errors_of_the_process_make_a_pause() {
    let error = std::io::Error::from_raw_os_error;
    let (connection_aborted, too_many_files, no_memory) = (103, 24, 12);
    assert!(is_of_one_connection(&error(connection_aborted)));
    assert!(!is_of_one_connection(&error(too_many_files)));
    assert!(!is_of_one_connection(&error(no_memory)));
}

#[tokio::test]
async fn a_connection_costs_a_task_of_a_known_size() {
    let bench = Bench::new("connections = 100");
    let (stream, _peer) = tokio::io::duplex(1024);
    let address = ([127, 0, 0, 1], 1).into();
    let name = ListenerName::new("web").expect("a name");
    let connection = Connection::new(1, name, address, address);
    let (stream, listener) = (Stream::Memory(stream), bench.listener());
    let task = connection::serve(stream, connection, listener, Rc::clone(&bench.local));
    let size = size_of_val(&*task);
    // Every idle connection has one.
    assert!((500..2_500).contains(&size), "{size} bytes");
}
