//! An engine under a paused clock, and peers that speak bytes.

use std::{future::Future, net::SocketAddr, num::NonZeroUsize, sync::Arc};

use sluice_config::{
    Objects, Snapshot,
    model::{
        AccessLog, Action, Address, Destination, Endpoint, Filters, HostPattern, HostPort,
        Listener, Match, Mode, PathMatch, Respond, RespondBody, Route, Rule, Scheme, Target,
        Upstream,
    },
    names::{ListenerName, RouteName, RuleName, UpstreamName},
};
use sluice_gateway::{
    drain::Tasks,
    engine::{Engine, LocalEngine, Options},
    stream::MemoryNetwork,
    telemetry::{
        access_log::{Memory, Sink, Writer},
        metrics::{Counter, Metrics},
    },
    upstream::Connector,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    task::LocalSet,
};

pub(crate) const GET: &str = "GET /a HTTP/1.1\r\nhost: app.test\r\n\r\n";
pub(crate) const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// An engine with one listener and one route to one origin, and what it can be asked.
pub(crate) struct Rig {
    pub(crate) engine: LocalEngine,
    network: MemoryNetwork,
    pub(crate) log: Memory,
    tasks: Tasks,
}

/// What a test changes about the engine.
pub(crate) type Edit = fn(&mut Listener, &mut Route, &mut Upstream);

pub(crate) const PLAIN: Edit = |_, _, _| {};

impl Rig {
    pub(crate) fn new(edit: Edit) -> Self {
        let snapshot = snapshot(edit);
        let (log, network) = (Memory::default(), MemoryNetwork::new());
        let sink = Sink::Memory(log.clone());
        let writer =
            Writer::start(sink, &AccessLog::default(), 1, Metrics::new(1).control()).unwrap();
        let mut options = Options::new(NonZeroUsize::MIN);
        options.connector = Connector::Memory(network.clone());
        options.access_log = Some(writer);
        Self {
            engine: Engine::local(options, &snapshot).unwrap(),
            network,
            log,
            tasks: Tasks::new(),
        }
    }

    /// Applies the configuration again, with other changes.
    pub(crate) async fn apply(&mut self, edit: Edit) {
        self.engine.apply(&snapshot(edit)).await.unwrap();
    }

    pub(crate) fn client(&mut self) -> Peer {
        Peer(self.engine.connect("web").unwrap())
    }

    /// Serves each connection to the origin with `serve`.
    pub(crate) fn origin<F: Future<Output = ()> + 'static>(
        &self,
        serve: impl Fn(usize, Peer) -> F + 'static,
    ) {
        self.origin_at("origin:80", serve);
    }

    /// The same for the endpoint of this name.
    pub(crate) fn origin_at<F: Future<Output = ()> + 'static>(
        &self,
        name: &str,
        serve: impl Fn(usize, Peer) -> F + 'static,
    ) {
        let mut listener = self.network.listen(name);
        let tasks = self.tasks.clone();
        self.tasks.spawn_local(async move {
            let mut number = 0;
            while let Some(stream) = listener.accept().await {
                tasks.spawn_local(serve(number, Peer(stream)));
                number += 1;
            }
        });
    }

    /// An origin that answers every request without a body alike.
    pub(crate) fn answers(&self, answer: &'static str) {
        self.origin(move |_, mut peer| async move {
            while !peer.head().await.is_empty() {
                peer.send(answer).await;
            }
        });
    }

    pub(crate) fn lines(&self) -> Vec<serde_json::Value> {
        let lines = self.log.lines();
        lines
            .iter()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// The only line.
    pub(crate) fn line(&self) -> serde_json::Value {
        let mut lines = self.lines();
        assert_eq!(lines.len(), 1, "{lines:#?}");
        lines.remove(0)
    }

    pub(crate) fn count(&self, counter: Counter) -> u64 {
        self.engine.metrics().sum(counter)
    }
}

fn snapshot(edit: Edit) -> Snapshot {
    let address = SocketAddr::from(([127, 0, 0, 1], 8080));
    let web = ListenerName::new("web").unwrap();
    let mut listener = Listener::new(web.clone(), address.into());
    let origin = Address {
        scheme: Scheme::Http,
        host: HostPort::Name {
            name: "origin".into(),
            port: 80,
        },
    };
    let name = UpstreamName::new("origin").unwrap();
    let mut upstream = Upstream::new(name.clone(), vec![Endpoint::new(origin)]);
    let rule = Rule {
        name: RuleName::catch_all(),
        matches: Vec::new(),
        action: Action::Forward(vec![Target {
            destination: Destination::Upstream(name.clone()),
            weight: 1,
        }]),
        timeout: None,
        filters: Filters::default(),
    };
    let app = RouteName::new("app").unwrap();
    let mut route = Route {
        name: app.clone(),
        listeners: vec![web.clone()],
        mode: Mode::Http,
        hosts: vec![HostPattern::Exact("app.test".into())],
        priority: 0,
        rules: vec![Arc::new(rule)],
        timeout: None,
        filters: Filters::default(),
        client_certificates: None,
    };
    edit(&mut listener, &mut route, &mut upstream);
    Snapshot::seal(Objects {
        listeners: [(web, Arc::new(listener))].into(),
        routes: [(app, Arc::new(route))].into(),
        upstreams: [(name, Arc::new(upstream))].into(),
        ..Objects::default()
    })
}

/// One end of a stream.
pub(crate) struct Peer(pub(crate) DuplexStream);

impl Peer {
    pub(crate) async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    /// Reads one byte at a time up to the end of a head; empty when the stream ended.
    pub(crate) async fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            match self.0.read(&mut byte).await {
                Ok(1) => head.push(byte[0]),
                _ => break,
            }
        }
        String::from_utf8(head).unwrap()
    }

    pub(crate) async fn exactly(&mut self, length: usize) -> String {
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes).await.unwrap();
        String::from_utf8(bytes).unwrap()
    }

    /// A head and as much body as it announces.
    pub(crate) async fn message(&mut self) -> (String, String) {
        let head = self.head().await;
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.parse().unwrap());
        let body = self.exactly(length).await;
        (head, body)
    }

    /// Everything up to the end of the stream.
    pub(crate) async fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        while let Ok(1..) = self.0.read_buf(&mut bytes).await {}
        String::from_utf8(bytes).unwrap()
    }
}

/// Runs a test where workers run.
pub(crate) fn local(test: impl Future<Output = ()>) -> impl Future<Output = ()> {
    let test = Box::pin(test);
    async { LocalSet::new().run_until(test).await }
}

pub(crate) fn respond(path: &str, body: &str) -> Arc<Rule> {
    Arc::new(Rule {
        name: RuleName::nth(0),
        matches: vec![Match {
            path: Some(PathMatch::Prefix(path.into())),
            ..Match::default()
        }],
        action: Action::Respond(Respond {
            status: 200,
            headers: Vec::new(),
            body: Some(RespondBody::Text(body.into())),
        }),
        timeout: None,
        filters: Filters::default(),
    })
}
