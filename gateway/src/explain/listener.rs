//! Where a request comes in, when nobody says.

use sluice_config::{
    Snapshot,
    model::{Listener, Mode, Protocol},
};

use super::{Asked, Unexplained, known, request};
use crate::{
    http::normalize::normalize,
    route::{Opening, Question, Table},
};

/// The listener that was named; else, among those whose port the URL has (or all, where none has
/// it), the first on which a rule matches, or the first at all. Those come first that end TLS where the URL
/// wants it, and do not where it does not; then by name.
pub(super) fn choose<'s>(
    snapshot: &'s Snapshot,
    table: &Table,
    asked: &Asked,
    notes: &mut Vec<String>,
) -> Result<&'s Listener, Unexplained> {
    let all = snapshot.listeners.values().map(AsRef::as_ref);
    let all = || {
        all.clone()
            .filter(|it: &&Listener| it.protocol.has_requests())
    };
    if let Some(name) = &asked.listener {
        let found = snapshot.listeners.get(name).map(AsRef::as_ref);
        let found: &Listener = found.ok_or_else(|| Unexplained::NoListener {
            name: name.clone(),
            known: known(snapshot),
        })?;
        if !found.protocol.has_requests() {
            return Err(Unexplained::NoRequests {
                name: name.clone(),
                protocol: found.protocol,
            });
        }
        return Ok(found);
    }
    let port = asked.url.port_u16().or(match asked.url.scheme_str() {
        Some("http") => Some(80),
        Some("https") => Some(443),
        _ => None,
    });
    let by_port: Vec<&Listener> = all()
        .filter(|listener| port.is_some() && listener.address.port() == port)
        .collect();
    let mut candidates = if by_port.is_empty() {
        all().collect()
    } else {
        by_port
    };
    let wanted = match asked.url.scheme_str() {
        Some("https") => Some(Protocol::Https),
        Some("http") => Some(Protocol::Http),
        _ => None,
    };
    if let Some(wanted) = wanted {
        // The others stay: behind somebody who ends TLS, an https URL comes in without.
        candidates.sort_by_key(|listener| listener.protocol != wanted);
    }
    let chosen = candidates
        .iter()
        .find(|listener| answers(listener, table, asked))
        .or_else(|| candidates.first())
        .copied();
    let chosen = chosen.ok_or(Unexplained::NoListeners)?;
    if candidates.len() > 1 {
        notes.push(format!(
            "the listener was chosen among {}; name one with --listener",
            candidates.len()
        ));
    }
    Ok(chosen)
}

fn answers(listener: &Listener, table: &Table, asked: &Asked) -> bool {
    let Ok(mut parts) = request(asked) else {
        return false;
    };
    let Ok(normalized) = normalize(&mut parts, listener) else {
        return false;
    };
    let question = Question {
        host: normalized.host.as_deref(),
        path: parts.uri.path(),
        query: parts.uri.query(),
        method: parts.method.as_str(),
        headers: &parts.headers,
        client: asked.client.unwrap_or([127, 0, 0, 1].into()),
        mode: Mode::Http,
        opening: Opening::plain(asked.destination.unwrap_or(listener.address.nominal())),
    };
    table.find(&listener.name, &question).is_some()
}
