//! What would become of one raw stream or datagram, by the same table as in the running gateway.
//!
//! The order is that of `connection.rs`: what is passed through comes before TLS is ended.

use std::net::{IpAddr, SocketAddr};

use sluice_config::{
    Snapshot,
    model::{self, Bind, Listener, Mode, Protocol, Startup, StreamLimits},
    names::ListenerName,
};

use super::{
    Unexplained, known,
    report::{StreamAnswer, StreamReport},
    targets,
};
use crate::{
    error::ProxyError,
    route::{Opening, Table},
};

/// What `PostgreSQL` is inside TLS.
const POSTGRES: &str = "postgresql";

/// A connection or datagram as somebody asks about it.
#[derive(Debug, Clone)]
pub struct AskedStream {
    /// Whether it is a datagram.
    pub datagram: bool,
    /// The name of a listener, or an address at which one accepts; found by the name that is asked for
    /// when not given.
    pub to: Option<String>,
    /// What the client says first where it speaks TLS.
    pub hello: Option<Hello>,
    /// The connected peer; `127.0.0.1` when not given.
    pub client: Option<IpAddr>,
    /// Our side of the connection; the address of the listener when not given.
    pub destination: Option<SocketAddr>,
}

/// What a client says in its TLS handshake.
#[derive(Debug, Clone, Default)]
pub struct Hello {
    /// The name that it asks for.
    pub sni: Option<String>,
    /// The protocols that it offers.
    pub alpn: Vec<String>,
}

/// Says what would become of `asked`.
pub fn explain_stream(
    snapshot: &Snapshot,
    asked: &AskedStream,
) -> Result<StreamReport, Unexplained> {
    let table = Table::compile(snapshot, None);
    let (listener, destination) = choose(snapshot, &table, asked)?;
    let client = asked.client.unwrap_or(IpAddr::from([127, 0, 0, 1]));
    let mut report = StreamReport::new(listener, client, destination);
    let walk = Walk {
        snapshot,
        table: &table,
        listener,
    };
    match listener.protocol {
        Protocol::Udp => walk.find(Mode::Udp, &Hello::default(), &mut report),
        Protocol::Http => report.answer = StreamAnswer::Requests,
        Protocol::ForwardProxy | Protocol::Transparent => report.answer = StreamAnswer::Egress,
        Protocol::Tcp => {
            if asked.hello.is_some() {
                report.note("on a tcp listener nobody looks at what a client says first");
            }
            walk.find(Mode::Tcp, &Hello::default(), &mut report);
        }
        Protocol::Https | Protocol::Tls => {
            if asked.hello.is_none() {
                report.note("taken as TLS for no name; say with --sni which one is asked for");
            }
            walk.secured(&asked.hello.clone().unwrap_or_default(), &mut report);
        }
        Protocol::Auto => match &asked.hello {
            Some(hello) if walk.looks_at_tls() => walk.secured(hello, &mut report),
            _ => {
                report.note("taken as neither HTTP nor TLS, which are told by the first bytes");
                if walk.listener.startup.is_some() && walk.looks_at_tls() {
                    report.note(
                        "clients of PostgreSQL that ask for TLS get it: ask with --sni and --alpn \
                         postgresql",
                    );
                }
                walk.find(Mode::Tcp, &Hello::default(), &mut report);
            }
        },
    }
    Ok(report)
}

/// The way of one connection on one listener.
struct Walk<'a> {
    snapshot: &'a Snapshot,
    table: &'a Table,
    listener: &'a Listener,
}

impl Walk<'_> {
    /// TLS is a raw stream like others on an auto listener that can do nothing else with it.
    fn looks_at_tls(&self) -> bool {
        let name = &self.listener.name;
        let mut routes = self.snapshot.routes.values();
        self.listener.tls.is_some()
            || routes.any(|route| route.mode == Mode::Passthrough && route.listeners.contains(name))
    }

    fn secured(&self, hello: &Hello, report: &mut StreamReport) {
        report.hello(hello);
        self.find(Mode::Passthrough, hello, report);
        let chosen = report.route.as_ref().is_some_and(|it| it.chosen.is_some());
        let Some(tls) = self.listener.tls.as_ref().filter(|_| !chosen) else {
            return;
        };
        let startup = self.listener.startup.map(|Startup::Postgres| POSTGRES);
        let spoken = tls.terms.alpn.iter().map(model::Alpn::as_str);
        let spoken: Vec<&str> = spoken.chain(startup).collect();
        let mut agreed = spoken.iter().copied();
        let agreed = agreed.find(|name| hello.alpn.iter().any(|offer| offer == name));
        if agreed.is_none() && !spoken.is_empty() && !hello.alpn.is_empty() {
            let why = "the handshake fails: none of the client's protocols is spoken here";
            report.route = None;
            report.answer = StreamAnswer::Refuse {
                reason: "no_application_protocol",
                why: why.to_owned(),
            };
            return;
        }
        report.ended = true;
        let is_raw = match self.listener.protocol {
            Protocol::Tls => true,
            Protocol::Auto => agreed == Some(POSTGRES),
            Protocol::Http
            | Protocol::Https
            | Protocol::Tcp
            | Protocol::Udp
            | Protocol::ForwardProxy
            | Protocol::Transparent => false,
        };
        if !is_raw {
            if startup.is_some() {
                report.note(
                    "taken as no client of PostgreSQL: those that ask for TLS first count as \
                     --alpn postgresql",
                );
            }
            (report.mode, report.route) = (Mode::Http, None);
            report.answer = StreamAnswer::Requests;
            return;
        }
        let inside = Hello {
            sni: hello.sni.clone(),
            alpn: agreed.map(str::to_owned).into_iter().collect(),
        };
        self.find(Mode::Tcp, &inside, report);
    }

    /// Finds the rule, and says where it leads.
    fn find(&self, mode: Mode, hello: &Hello, report: &mut StreamReport) {
        let alpn: Vec<&[u8]> = hello.alpn.iter().map(String::as_bytes).collect();
        let opening = Opening {
            destination: report.destination,
            alpn: &alpn,
            sni: hello.sni.as_deref(),
        };
        let question = opening.question(mode, report.client);
        let name = &self.listener.name;
        report.mode = mode;
        report.route = Some(self.table.explain(name, &question));
        let found = self.table.find(name, &question);
        let Some((found, rule)) = found.and_then(|found| Some((found, found.rule()?))) else {
            report.answer = StreamAnswer::refused(&ProxyError::NoRoute);
            return;
        };
        if found.route.demands_certificate_on(self.listener) {
            if !report.ended {
                report.answer = StreamAnswer::refused(&ProxyError::Misdirected);
                return;
            }
            report.note("its client has to show a certificate in the handshake");
        }
        let levels = [&rule.filters, &found.route.filters, &self.listener.filters];
        report.stream = (mode != Mode::Udp).then(|| StreamLimits::nearest(&levels));
        report.answer = match &rule.action {
            model::Action::Forward(split) => match targets(self.snapshot, split) {
                Some(targets) => StreamAnswer::Forward { targets },
                None => StreamAnswer::refused(&ProxyError::NoTarget),
            },
            model::Action::Redirect(_) | model::Action::Respond(_) | model::Action::Refused => {
                StreamAnswer::refused(&ProxyError::ConfigRefused)
            }
        };
    }
}

/// The listener, and our side of the connection.
fn choose<'s>(
    snapshot: &'s Snapshot,
    table: &Table,
    asked: &AskedStream,
) -> Result<(&'s Listener, SocketAddr), Unexplained> {
    let fits = |it: &&Listener| (it.protocol == Protocol::Udp) == asked.datagram;
    let all: Vec<&Listener> = snapshot.listeners.values().map(AsRef::as_ref).collect();
    let Some(to) = &asked.to else {
        let listener = by_name(&all, table, asked).ok_or(Unexplained::NoTls)?;
        let ours = asked.destination.unwrap_or(listener.address.nominal());
        return Ok((listener, ours));
    };
    let named = ListenerName::new(to).ok();
    let named = named.and_then(|name| snapshot.listeners.get(&name));
    if let Some(listener) = named {
        if !fits(&&**listener) {
            return Err(Unexplained::OtherTransport {
                name: listener.name.clone(),
                protocol: listener.protocol,
            });
        }
        let ours = asked.destination.unwrap_or(listener.address.nominal());
        return Ok((listener.as_ref(), ours));
    }
    let address = address(to);
    let mut all = all.into_iter().filter(fits);
    let here = address
        .as_ref()
        .and_then(|to| all.find(|listener| accepts(&listener.address, to)));
    let listener = here.ok_or_else(|| Unexplained::NothingThere {
        to: to.clone(),
        known: known(snapshot),
    })?;
    let ours = asked.destination.or(address.and_then(|it| it.socket()));
    Ok((listener, ours.unwrap_or(listener.address.nominal())))
}

/// Of the listeners that look at TLS handshakes the first on which a rule matches, or the first at all.
fn by_name<'s>(all: &[&'s Listener], table: &Table, asked: &AskedStream) -> Option<&'s Listener> {
    let looks = |it: &&&Listener| {
        matches!(
            it.protocol,
            Protocol::Https | Protocol::Tls | Protocol::Auto
        )
    };
    let alpn = asked.hello.iter().flat_map(|hello| &hello.alpn);
    let alpn: Vec<&[u8]> = alpn.map(String::as_bytes).collect();
    let answers = |it: &&&Listener| {
        let opening = Opening {
            destination: asked.destination.unwrap_or(it.address.nominal()),
            alpn: &alpn,
            sni: asked.hello.as_ref().and_then(|hello| hello.sni.as_deref()),
        };
        let client = asked.client.unwrap_or(IpAddr::from([127, 0, 0, 1]));
        let modes = [Mode::Passthrough, Mode::Tcp, Mode::Http];
        let mut modes = modes.iter().filter(|mode| {
            // Of a request only the host is known.
            mode.is_allowed_on(it.protocol)
        });
        modes.any(|mode| table.knows(&it.name, &opening.question(*mode, client)))
    };
    let first = || all.iter().find(looks);
    let found = all.iter().filter(looks).find(answers).or_else(first);
    found.copied()
}

/// An address as listeners write theirs.
fn address(text: &str) -> Option<Bind> {
    match text.strip_prefix(':') {
        Some(port) => format!("[::]:{port}").parse().ok(),
        None => text.parse().ok(),
    }
}

/// Whether a listener at `bind` accepts what comes to `to`.
fn accepts(bind: &Bind, to: &Bind) -> bool {
    match (bind, to) {
        (Bind::Socket(bind), Bind::Socket(to)) => {
            bind.port() == to.port()
                && (bind.ip() == to.ip() || bind.ip().is_unspecified() || to.ip().is_unspecified())
        }
        (bind, to) => bind == to,
    }
}
