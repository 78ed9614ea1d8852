//! Who the client is, and what the origin is told about it.
//!
//! Forwarding headers are believed from `trusted_proxies` only; from everybody else they are
//! deleted before anybody can read them, under every alias. Runs after hop-by-hop headers are
//! stripped, so that `Connection` cannot take away what is announced here. Pure.

mod element;

use std::{net::IpAddr, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header, request::Parts};
use sluice_config::model;

use crate::downstream::{Connection, Downstream};

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest request id that is taken from a trusted peer; it stands in every log line.
const MAX_REQUEST_ID: usize = 128;

/// Whether a header (lower case, `-` for `_`) says who sent a request or how it came.
pub fn is_forwarding(name: &str) -> bool {
    name.starts_with("x-forwarded") || matches!(name, "forwarded" | "x-real-ip" | "x-request-id")
}

/// Finds the sender of a request, and deletes what the peer is not trusted to say.
pub fn downstream(
    parts: &mut Parts,
    connection: &Arc<Connection>,
    listener: &model::Listener,
    request_id: impl FnOnce() -> HeaderValue,
) -> Downstream {
    let peer = connection.peer.ip().to_canonical();
    let trusts = |address: IpAddr| {
        listener
            .trusted_proxies
            .iter()
            .any(|net| net.contains(&address))
    };
    let trusted = trusts(peer);
    delete(&mut parts.headers, trusted);

    let mut downstream = Downstream {
        connection: Arc::clone(connection),
        client: peer,
        trusted,
        scheme: connection.scheme,
        request_id: HeaderValue::from_static(""),
    };
    if trusted {
        let hops = listener.trusted_hops.get().unwrap_or(usize::MAX);
        if parts.headers.contains_key(&FOR) || !parts.headers.contains_key(header::FORWARDED) {
            read_lists(&parts.headers, &mut downstream, trusts, hops);
            // A proxy that maintains one form passes the other on as the client wrote it.
            if parts.headers.contains_key(&FOR) {
                parts.headers.remove(header::FORWARDED);
            }
        } else {
            read_elements(&parts.headers, &mut downstream, trusts, hops);
        }
        if let Some(id) = parts.headers.get(&REQUEST_ID).and_then(believable_id) {
            downstream.request_id = id;
            return downstream;
        }
    }
    downstream.request_id = request_id();
    downstream
}

/// Tells the origin who asked: appends to what a trusted peer said, else sets.
///
/// `host` and `port` are the client's. Runs before filters, which may change any of it.
pub fn announce(parts: &mut Parts, downstream: &Downstream, host: Option<&str>, port: Option<u16>) {
    let headers = &mut parts.headers;
    let peer = downstream.connection.peer.ip().to_canonical();
    announce_element(headers, downstream, peer);
    let text = downstream.connection.text_of(peer);
    if headers.contains_key(&FOR) {
        let chain = joined(headers, &FOR);
        let before = if chain.is_empty() { "" } else { ", " };
        let peer = text.to_str().unwrap_or_default();
        set(headers, FOR, format!("{chain}{before}{peer}"));
    } else {
        headers.insert(FOR, text);
    }
    let client = downstream.connection.text_of(downstream.client);
    headers.insert(REAL_IP, client);
    headers.insert(PROTO, HeaderValue::from_static(downstream.scheme));
    if !headers.contains_key(&HOST)
        && let Some(host) = host
    {
        announce_host(headers, host, port);
    }
    if !headers.contains_key(&PORT) {
        let port = match port {
            None if downstream.scheme == "https" => HeaderValue::from_static("443"),
            None => HeaderValue::from_static("80"),
            Some(port) => HeaderValue::from(port),
        };
        headers.insert(PORT, port);
    }
    announce_certificate(headers, downstream);
    headers.insert(REQUEST_ID, downstream.request_id.clone());
}

/// What the client called us; mostly that stands in `Host` as it is.
fn announce_host(headers: &mut HeaderMap, host: &str, port: Option<u16>) {
    let same = |written: &&HeaderValue| port.is_none() && *written == host;
    if let Some(written) = headers.get(header::HOST).filter(same) {
        let written = written.clone();
        headers.insert(HOST, written);
        return;
    }
    let text = port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    set(headers, HOST, text);
}

/// Tells of the certificate that the client showed, behind those that a trusted peer told of.
fn announce_certificate(headers: &mut HeaderMap, downstream: &Downstream) {
    let session = downstream.connection.tls.as_ref();
    let Some(peer) = session.and_then(|session| session.peer.as_ref()) else {
        return;
    };
    let mut chain = joined(headers, &CLIENT_CERT);
    if !chain.is_empty() {
        chain.push(',');
    }
    chain.push_str(peer.forwarded());
    set(headers, CLIENT_CERT, chain);
}

/// Aliases with `_` always go: no proxy speaks them, and some origins fold them into ours.
fn delete(headers: &mut HeaderMap, trusted: bool) {
    let unwanted = |name: &&HeaderName| {
        let name = name.as_str();
        // Most names are ruled out by their first letter.
        match name.as_bytes().first() {
            Some(b'x' | b'f') if name.contains('_') => is_forwarding(&name.replace('_', "-")),
            Some(b'x' | b'f') => !trusted && is_forwarding(name),
            _ => false,
        }
    };
    let names: Vec<HeaderName> = headers.keys().filter(unwanted).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// Believes `X-Forwarded-For` and `-Proto`.
fn read_lists(
    headers: &HeaderMap,
    downstream: &mut Downstream,
    trusts: impl Fn(IpAddr) -> bool,
    hops: usize,
) {
    let addresses = joined(headers, &FOR);
    let entries = addresses.split(',').rev().map(element::address);
    let (client, walked) = walk(downstream.client, entries, trusts, hops);
    downstream.client = client;
    let schemes = joined(headers, &PROTO);
    let scheme = schemes
        .rsplit(',')
        .nth(walked.saturating_sub(1))
        .or_else(|| schemes.rsplit(',').next())
        .and_then(element::scheme);
    downstream.scheme = scheme.unwrap_or(downstream.scheme);
}

/// Believes `Forwarded` (RFC 7239).
fn read_elements(
    headers: &HeaderMap,
    downstream: &mut Downstream,
    trusts: impl Fn(IpAddr) -> bool,
    hops: usize,
) {
    let text = joined(headers, &header::FORWARDED);
    let elements = element::split(&text);
    let entries = elements
        .iter()
        .rev()
        .map(|element| element::parameter(element, "for").and_then(|node| element::address(&node)));
    let (client, walked) = walk(downstream.client, entries, trusts, hops);
    downstream.client = client;
    let scheme = elements
        .iter()
        .rev()
        .nth(walked.saturating_sub(1))
        .and_then(|element| element::parameter(element, "proto"))
        .and_then(|proto| element::scheme(&proto));
    downstream.scheme = scheme.unwrap_or(downstream.scheme);
}

/// From the peer towards the client, as long as the last address is a trusted proxy. An entry
/// that is no address ends the walk: what stands left of it may be invented.
fn walk(
    peer: IpAddr,
    entries: impl Iterator<Item = Option<IpAddr>>,
    trusts: impl Fn(IpAddr) -> bool,
    hops: usize,
) -> (IpAddr, usize) {
    let mut client = peer;
    let mut walked = 0_usize;
    for entry in entries.take(hops) {
        match entry {
            Some(address) if trusts(client) => client = address,
            _ => break,
        }
        walked = walked.saturating_add(1);
    }
    (client, walked)
}

/// Continues a `Forwarded` chain that a trusted peer began. None is begun here: origins that read
/// it are few, and two forms of one truth invite disagreement.
fn announce_element(headers: &mut HeaderMap, downstream: &Downstream, peer: IpAddr) {
    if !headers.contains_key(header::FORWARDED) {
        return;
    }
    let node = match peer {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("\"[{address}]\""),
    };
    let chain = joined(headers, &header::FORWARDED);
    let scheme = downstream.scheme;
    set(
        headers,
        header::FORWARDED,
        format!("{chain}, for={node};proto={scheme}"),
    );
}

/// Every value in one line; what is no text ends up as an entry nobody can read.
fn joined(headers: &HeaderMap, name: &HeaderName) -> String {
    let mut text = String::new();
    for value in headers.get_all(name) {
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(value.to_str().unwrap_or("unknown"));
    }
    text
}

fn set(headers: &mut HeaderMap, name: HeaderName, text: String) {
    // Made of header values and addresses, so it is one.
    if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(text)) {
        headers.insert(name, value);
    }
}

fn believable_id(value: &HeaderValue) -> Option<HeaderValue> {
    let text = value.to_str().ok()?;
    let good = (1..=MAX_REQUEST_ID).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._:/+=".contains(&byte));
    good.then(|| value.clone())
}

#[cfg(test)]
mod tests;
