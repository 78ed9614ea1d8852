//! Addresses of listeners, endpoints, name servers and networks.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    ops::RangeInclusive,
    path::PathBuf,
};

use ipnet::IpNet;

use super::host;
use crate::{
    findings::Finding,
    model::{Address, Bind, HostPort, Scheme},
};

/// The longest path a unix socket can have on Linux.
const MAX_UNIX: usize = 107;

fn bad(what: String) -> Finding {
    Finding::new("bad_address", what)
}

/// Where a listener accepts: `0.0.0.0:80`, `[::]:80`, `:80`, `unix:/path`. Port 0 asks the system for one.
pub(crate) fn listener_address(text: &str) -> Result<Bind, Finding> {
    if let Some(port) = text.strip_prefix(':') {
        let port = port_of(port, 0)?;
        return Ok(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into());
    }
    if let Some(path) = text.strip_prefix("unix:") {
        return unix_path(path).map(Bind::Unix);
    }
    let address: Result<SocketAddr, _> = text.parse();
    address.map(Bind::Socket).map_err(|_| {
        let finding = bad(format!("{text:?} is no address to listen on"));
        match text.rsplit_once(':') {
            Some(("*", port)) => finding.hint(format!("write \":{port}\" for every address")),
            Some((name, port)) if !name.contains(':') && port.parse::<u16>().is_ok() => finding
                .hint(format!(
                    "names are not resolved here; write \":{port}\" for every address"
                )),
            _ if text.parse::<u16>().is_ok() => finding.hint(format!("write \":{text}\"")),
            _ => finding.hint("write ADDRESS:PORT, for instance \"0.0.0.0:80\" or \"[::]:80\""),
        }
    })
}

/// One endpoint: `10.0.0.5:8080`, `[::1]:80`, `name:8080`, `http://name`, `https://name`, `h2c://name`,
/// `h2://name`, `unix:/path`.
pub(crate) fn endpoint(text: &str) -> Result<Address, Finding> {
    if let Some(path) = text.strip_prefix("unix:") {
        return unix_path(path).map(|path| address(Scheme::Http, HostPort::Unix(path)));
    }
    let (scheme, rest, default) = match text.split_once("://") {
        Some(("http", rest)) => (Scheme::Http, rest, Some(80)),
        Some(("h2c", rest)) => (Scheme::H2c, rest, Some(80)),
        Some(("https", rest)) => (Scheme::Https, rest, Some(443)),
        Some(("h2", rest)) => (Scheme::H2, rest, Some(443)),
        Some(("tls", rest)) => {
            return Err(
                bad("there is no scheme \"tls\" for endpoints".to_owned()).hint(format!(
                    "write \"https://{rest}\", or \"h2://{rest}\" for HTTP/2"
                )),
            );
        }
        Some((scheme, _)) => {
            return Err(bad(format!("there is no scheme {scheme:?} for endpoints"))
                .hint("write ADDRESS:PORT, http://NAME, https://NAME, h2c://NAME, h2://NAME or unix:/PATH"));
        }
        None => (Scheme::Http, text, None),
    };
    if let Some(at) = rest.find(['/', '?', '#']) {
        let kept = text.len().saturating_sub(rest.len()).saturating_add(at);
        let head = text.get(..kept).unwrap_or_default();
        return Err(bad(format!("{text:?} has a path, but an address has none"))
            .hint(format!("write {head:?}, and the path as `rewrite`")));
    }
    if rest.contains('@') {
        return Err(bad(format!("{text:?} has a user, but an address has none")));
    }
    host_port(text, rest, default).map(|host| address(scheme, host))
}

fn address(scheme: Scheme, host: HostPort) -> Address {
    Address { scheme, host }
}

fn unix_path(path: &str) -> Result<PathBuf, Finding> {
    if !path.starts_with('/') {
        return Err(bad(format!(
            "the path {path:?} of a unix socket does not begin with /"
        )));
    }
    if path.len() > MAX_UNIX || path.contains('\0') {
        return Err(bad(format!(
            "the path of a unix socket has at most {MAX_UNIX} bytes"
        )));
    }
    Ok(path.into())
}

fn host_port(text: &str, rest: &str, default: Option<u16>) -> Result<HostPort, Finding> {
    let (name, port) = match rest.strip_prefix('[') {
        Some(inner) => {
            let (name, tail) = inner
                .split_once(']')
                .ok_or_else(|| bad(format!("{text:?} lacks a closing bracket")))?;
            let port = match tail.strip_prefix(':') {
                Some(port) => Some(port),
                None if tail.is_empty() => None,
                None => return Err(bad(format!("{tail:?} after the bracket is no port"))),
            };
            (name, port)
        }
        None => match rest.rsplit_once(':') {
            Some((name, _)) if name.contains(':') => {
                return Err(bad(format!("{text:?} is no address"))
                    .hint("put an IPv6 address in brackets: \"[::1]:80\""));
            }
            Some((name, port)) => (name, Some(port)),
            None => (rest, None),
        },
    };
    let port = match (port, default) {
        (Some(port), _) => port_of(port, 1)?,
        (None, Some(port)) => port,
        (None, None) => {
            return Err(bad(format!("{text:?} has no port")).hint(format!("write \"{rest}:80\"")));
        }
    };
    if rest.starts_with('[') {
        let ip: Ipv6Addr = name
            .parse()
            .map_err(|_| bad(format!("{name:?} is no IPv6 address")))?;
        return Ok(HostPort::Socket((ip, port).into()));
    }
    if let Ok(ip) = name.parse::<IpAddr>() {
        return Ok(HostPort::Socket((ip, port).into()));
    }
    if host::looks_like_ip(name) {
        return Err(bad(format!("{name:?} is no IPv4 address")));
    }
    let name = host::name(name).map_err(|what| bad(format!("{name:?} is no host name: {what}")))?;
    Ok(HostPort::Name { name, port })
}

fn port_of(text: &str, least: u16) -> Result<u16, Finding> {
    match text.parse::<u16>() {
        // "+80" parses as a number but is no port.
        Ok(port) if port >= least && text.bytes().all(|b| b.is_ascii_digit()) => Ok(port),
        _ => Err(bad(format!(
            "{text:?} is no port, which is {least} to 65535"
        ))),
    }
}

/// A server to ask for names: an address with an optional port.
pub(crate) fn nameserver(text: &str) -> Result<SocketAddr, Finding> {
    let ip = text
        .strip_prefix('[')
        .and_then(|t| t.strip_suffix(']'))
        .unwrap_or(text);
    let address = match (text.parse::<SocketAddr>(), ip.parse::<IpAddr>()) {
        (Ok(address), _) => Some(address),
        (_, Ok(ip)) => Some((ip, 53).into()),
        _ => None,
    };
    address.filter(|address| address.port() > 0).ok_or_else(|| {
        bad(format!("{text:?} is no address of a name server"))
            .hint("write an address with an optional port: \"10.0.0.2\" or \"10.0.0.2:5353\"")
    })
}

/// A network or a single address.
pub(crate) fn network(text: &str) -> Result<IpNet, Finding> {
    if let Ok(net) = text.parse::<IpNet>() {
        let whole = net.trunc();
        if whole == net {
            return Ok(net);
        }
        return Err(Finding::new(
            "bad_network",
            format!("{text:?} has bits beyond its prefix"),
        )
        .hint(format!("did you mean \"{whole}\"?")));
    }
    text.parse::<IpAddr>().map(IpNet::from).map_err(|_| {
        Finding::new("bad_network", format!("{text:?} is no address or network"))
            .hint("write \"10.0.0.1\" or \"10.0.0.0/8\"")
    })
}

/// A port, or a range of ports: `5432`, `5000-5999`.
pub(crate) fn ports(text: &str) -> Result<RangeInclusive<u16>, Finding> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = port_of(first.trim(), 1)?..=port_of(last.trim(), 1)?;
    if range.is_empty() {
        return Err(bad(format!("the range {text:?} ends before it begins")));
    }
    Ok(range)
}
