//! Does to a request what its rule wants done to it on purpose.

use http::HeaderMap;
use tokio::time::{Instant, sleep_until};

use crate::{
    error::ProxyError, filter::Harm, http::exchange::Exchange, telemetry::metrics::Counter,
};

/// What is to be done to a request; mostly nothing.
pub(super) fn meant(exchange: &Exchange, headers: &HeaderMap) -> Option<Harm> {
    let local = &exchange.visitor.local;
    exchange.filters().harm(headers, || local.random())
}

/// Holds a request back, and answers it. The time of its rule goes on meanwhile.
pub(super) async fn suffer(exchange: &mut Exchange, harm: Harm) -> Result<(), ProxyError> {
    let local = &exchange.visitor.local;
    if let Some(delay) = harm.delay {
        local.counters.count(Counter::FaultsDelayed);
        let rule = exchange.chosen.as_ref().map(|it| &it.rule);
        let timeout = rule.and_then(|rule| rule.timeout);
        let end = timeout.and_then(|timeout| exchange.started.checked_add(timeout));
        let began = Instant::now();
        let until = began.checked_add(delay).unwrap_or(began);
        Box::pin(sleep_until(end.map_or(until, |end| end.min(until)))).await;
        exchange.delayed = Some(began.elapsed());
        if end.is_some_and(|end| end <= until) {
            return Err(ProxyError::RequestTimeout);
        }
    }
    let Some((status, grpc)) = harm.abort else {
        return Ok(());
    };
    exchange
        .visitor
        .local
        .counters
        .count(Counter::FaultsAborted);
    Err(ProxyError::Fault { status, grpc })
}
