//! A request that shows a finding, in the form in which `sluice explain` takes it.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
};

use super::{expression, subsume};
use crate::{
    model::{Alpn, HostPattern, Match, Mode, PathMatch, ValueMatch},
    names::ListenerName,
};

/// A request, stream or datagram, as far as conditions look at it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Witness {
    pub(crate) method: String,
    pub(crate) host: String,
    pub(crate) path: String,
    pub(crate) query: Vec<(String, String)>,
    /// Names are lower-case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) cookies: Vec<(String, String)>,
    /// None where no condition asks.
    pub(crate) client: Option<IpAddr>,
    /// None where there is only one.
    pub(crate) listener: Option<ListenerName>,
    /// What the rule takes.
    pub(crate) mode: Mode,
    /// Our side of the connection; none where nobody knows.
    pub(crate) destination: Option<SocketAddr>,
    /// Whether that is the address of the listener, which need not be said.
    pub(crate) at_home: bool,
    /// What the client offers inside TLS.
    pub(crate) alpn: Vec<String>,
    /// The name that it asks for in its handshake.
    pub(crate) sni: Option<String>,
}

/// Where conditions are held against something.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scene<'a> {
    /// None where there is only one.
    pub(crate) listener: Option<&'a ListenerName>,
    /// What the rules take.
    pub(crate) mode: Mode,
    /// Clients say in a TLS handshake which host they mean.
    pub(crate) hello: bool,
    /// What is offered inside TLS where it is ended, the best first.
    pub(crate) offered: &'a [Alpn],
    /// Our side of a connection where nothing else is said.
    pub(crate) home: SocketAddr,
}

impl Witness {
    /// A request to `host` that each of `conditions` admits; its path is made for the first of them
    /// that has one.
    pub(crate) fn new(conditions: &[&Match], host: String, scene: Scene<'_>) -> Option<Self> {
        let paths = conditions
            .iter()
            .filter_map(|condition| condition.path.as_ref());
        let methods = conditions
            .iter()
            .filter_map(|condition| condition.methods.first());
        let clients = conditions
            .iter()
            .filter_map(|condition| condition.clients.first());
        let destination = destination(conditions, scene.home);
        let mut witness = Self {
            method: methods
                .map(|method| method.as_str().to_owned())
                .next()
                .unwrap_or("GET".into()),
            sni: scene.hello.then(|| host.clone()),
            host,
            path: paths
                .map(sample_path)
                .next()
                .unwrap_or(Some("/".to_owned()))?,
            client: clients.map(ipnet::IpNet::addr).next(),
            listener: scene.listener.cloned(),
            mode: scene.mode,
            destination: Some(destination),
            at_home: destination == scene.home,
            alpn: alpn(conditions, scene)?,
            ..Self::default()
        };
        for condition in conditions {
            for header in &condition.headers {
                fill(&mut witness.headers, header.name.as_str(), &header.value)?;
            }
            for (name, value) in &condition.query {
                fill(&mut witness.query, name, value)?;
            }
            for (name, value) in &condition.cookies {
                fill(&mut witness.cookies, name, value)?;
            }
        }
        let admitted = conditions
            .iter()
            .all(|condition| witness.is_admitted_by(condition));
        (admitted && witness.is_printable()).then_some(witness)
    }

    /// Whether `condition` admits it. The plainest way to say what a condition means.
    pub(crate) fn is_admitted_by(&self, condition: &Match) -> bool {
        let among = |values: &[(String, String)], name: &str, wanted: &ValueMatch| {
            let mut same = values
                .iter()
                .filter(|(other, _)| other == name)
                .map(|(_, value)| value);
            match wanted {
                ValueMatch::Present(present) => same.next().is_some() == *present,
                ValueMatch::Exact(text) => same.any(|value| value == text),
                ValueMatch::StartsWith(text) => same.any(|value| value.starts_with(text.as_str())),
                ValueMatch::Regex(pattern) => same.any(|value| pattern.regex().is_match(value)),
            }
        };
        let Match {
            path,
            methods,
            headers,
            query,
            cookies,
            clients,
            listeners,
            destination,
            destination_port,
            alpn,
            sni,
        } = condition;
        let ours = self.destination;
        path.as_ref()
            .is_none_or(|path| subsume::admits(path, &self.path))
            && (methods.is_empty() || methods.iter().any(|method| method.as_str() == self.method))
            && headers
                .iter()
                .all(|one| among(&self.headers, one.name.as_str(), &one.value))
            && query
                .iter()
                .all(|(name, value)| among(&self.query, name, value))
            && cookies
                .iter()
                .all(|(name, value)| among(&self.cookies, name, value))
            && (clients.is_empty()
                || self
                    .client
                    .is_some_and(|ip| clients.iter().any(|net| net.contains(&ip))))
            && (listeners.is_empty()
                || self
                    .listener
                    .as_ref()
                    .is_none_or(|own| listeners.contains(own)))
            && (destination.is_empty()
                || ours.is_some_and(|it| destination.iter().any(|net| net.contains(&it.ip()))))
            && (destination_port.is_empty()
                || ours.is_some_and(|it| {
                    let mut ports = destination_port.iter();
                    ports.any(|ports| ports.contains(&it.port()))
                }))
            && (alpn.is_empty() || alpn.iter().any(|one| self.alpn.contains(one)))
            && sni.as_ref().is_none_or(|wanted| {
                let asked = self.sni.iter().map(|name| (String::new(), name.clone()));
                among(&asked.collect::<Vec<_>>(), "", wanted)
            })
    }

    /// Whether it can be written on a command line without escapes that hide it.
    fn is_printable(&self) -> bool {
        let plain = |c: char| c.is_ascii_graphic() && !"\"'<>\\^`{|}?#%".contains(c);
        let quoted = |text: &str| {
            text.chars()
                .all(|c| (c == ' ' || c.is_ascii_graphic()) && c != '\'')
        };
        self.path.starts_with('/')
            && self.path.chars().all(plain)
            && self.alpn.iter().all(|protocol| quoted(protocol))
            && self.headers.iter().all(|(_, value)| quoted(value))
            && self
                .cookies
                .iter()
                .all(|(name, value)| quoted(name) && quoted(value))
    }
}

/// What the client offers inside TLS; none where the gateway would not agree to it.
fn alpn(conditions: &[&Match], scene: Scene<'_>) -> Option<Vec<String>> {
    let mut lists = conditions.iter().map(|condition| &condition.alpn);
    if scene.mode != Mode::Tcp {
        return Some(lists.filter_map(|list| list.first().cloned()).collect());
    }
    // One is agreed on, whatever is offered besides.
    let Some(wanted) = lists.find(|list| !list.is_empty()) else {
        return Some(Vec::new());
    };
    let offered = |name: &&String| scene.offered.iter().any(|it| it.as_str() == name.as_str());
    wanted.iter().find(offered).map(|name| vec![name.clone()])
}

/// Our side of a connection that the conditions ask for; the caller tries whether they hold.
fn destination(conditions: &[&Match], home: SocketAddr) -> SocketAddr {
    let mut networks = conditions.iter().flat_map(|one| &one.destination);
    let mut ports = conditions.iter().flat_map(|one| &one.destination_port);
    let ip = networks.next().map_or(home.ip(), ipnet::IpNet::addr);
    let port = ports.next().map_or(home.port(), |ports| *ports.start());
    SocketAddr::new(ip, port)
}

/// Adds a value that holds, unless one is there (then the caller tries whether it holds).
fn fill(values: &mut Vec<(String, String)>, name: &str, wanted: &ValueMatch) -> Option<()> {
    if values.iter().any(|(other, _)| other == name) {
        return Some(());
    }
    let value = match wanted {
        ValueMatch::Present(false) => return Some(()),
        ValueMatch::Present(true) => "x".to_owned(),
        ValueMatch::StartsWith(text) if text.is_empty() => "x".to_owned(),
        ValueMatch::Exact(text) | ValueMatch::StartsWith(text) => text.clone(),
        ValueMatch::Regex(pattern) => expression::sample(pattern)?,
    };
    values.push((name.to_owned(), value));
    Some(())
}

fn sample_path(path: &PathMatch) -> Option<String> {
    match path {
        PathMatch::StartsWith(text) if text.is_empty() => Some("/".to_owned()),
        PathMatch::Exact(text) | PathMatch::Prefix(text) | PathMatch::StartsWith(text) => {
            Some(text.clone())
        }
        PathMatch::Regex(pattern) => {
            expression::sample(pattern).filter(|text| text.starts_with('/'))
        }
    }
}

/// Whether the pattern covers a host.
pub(super) fn covers(pattern: &HostPattern, host: &str) -> bool {
    match pattern {
        HostPattern::Exact(name) => name == host,
        HostPattern::Wildcard(suffix) => host.len() > suffix.len() && host.ends_with(&**suffix),
        HostPattern::Any => true,
    }
}

/// A host that the pattern covers and none of the `taken` ones, which would be preferred; none where
/// we think of no such host.
pub(super) fn sample_host<T>(
    pattern: &HostPattern,
    taken: &BTreeMap<&HostPattern, T>,
) -> Option<String> {
    let (suffixes, own): (&[&str], usize) = match pattern {
        HostPattern::Exact(host) => return Some(host.clone()),
        HostPattern::Wildcard(suffix) => (&[suffix], suffix.len()),
        HostPattern::Any => (&[".example", ".test", ".invalid", ""], 0),
    };
    let free = |host: &String| {
        !taken.keys().any(|other| match other {
            HostPattern::Exact(other) => other == host,
            HostPattern::Wildcard(other) => other.len() > own && host.ends_with(other.as_str()),
            HostPattern::Any => false,
        })
    };
    let labels = ["www", "any", "other", "some-other-host"];
    let mut hosts = suffixes
        .iter()
        .flat_map(|suffix| labels.map(|label| format!("{label}{suffix}")));
    hosts.find(free)
}

impl fmt::Display for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.mode != Mode::Http {
            return self.print_stream(f);
        }
        write!(f, "{} http://{}{}", self.method, self.host, self.path)?;
        for (position, (name, value)) in self.query.iter().enumerate() {
            let mark = if position == 0 { '?' } else { '&' };
            write!(f, "{mark}{}={}", Escaped(name), Escaped(value))?;
        }
        for (name, value) in &self.headers {
            write!(f, " -H '{name}: {value}'")?;
        }
        if !self.cookies.is_empty() {
            let pairs: Vec<String> = self
                .cookies
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            write!(f, " -H 'cookie: {}'", pairs.join("; "))?;
        }
        self.print_connection(f)?;
        if let Some(listener) = &self.listener {
            write!(f, " --listener {listener}")?;
        }
        Ok(())
    }
}

impl Witness {
    fn print_stream(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let transport = if self.mode == Mode::Udp { "udp" } else { "tcp" };
        let listener = self.listener.as_ref().map_or("", ListenerName::as_str);
        write!(f, "--{transport} {listener}")?;
        if let Some(name) = &self.sni {
            write!(f, " --sni {name}")?;
        }
        for protocol in &self.alpn {
            write!(f, " --alpn '{protocol}'")?;
        }
        self.print_connection(f)
    }

    fn print_connection(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(client) = self.client {
            write!(f, " --client-ip {client}")?;
        }
        if let Some(destination) = self.destination.filter(|_| !self.at_home) {
            write!(f, " --destination {destination}")?;
        }
        Ok(())
    }
}

/// A text inside a query.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                write!(f, "{}", char::from(byte))?;
            } else {
                write!(f, "%{byte:02X}")?;
            }
        }
        Ok(())
    }
}
