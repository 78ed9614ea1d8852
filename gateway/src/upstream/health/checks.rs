//! Asks an endpoint, again and again, whether it is well.

use std::{
    error::Error,
    fmt::Write as _,
    sync::{Arc, Weak},
};

use sluice_config::model::HealthCheck;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    super::{
        Connector, Upstream,
        connect::{Unwell, ask},
        endpoints::Endpoint,
    },
    streak::pause,
};
use crate::drain::Tasks;

/// Checks an endpoint until the guard is dropped, or its upstream is.
pub(super) fn start(
    upstream: Weak<Upstream>,
    endpoint: Arc<Endpoint>,
    connector: Connector,
    control: &Tasks,
) -> DropGuard {
    let stop = CancellationToken::new();
    let (stopped, drained) = (stop.clone(), control.drained());
    control.spawn(async move {
        tokio::select! {
            () = stopped.cancelled() => {}
            () = drained => {}
            () = keep_asking(upstream, endpoint, connector) => {}
        }
    });
    stop.drop_guard()
}

async fn keep_asking(known: Weak<Upstream>, endpoint: Arc<Endpoint>, connector: Connector) {
    let check = known
        .upgrade()
        .and_then(|upstream| upstream.model.health_check.clone());
    let Some(check) = check else {
        return;
    };
    // Who was asked a moment ago, under another configuration, is not asked again at once.
    let mut due = endpoint.standing.due(&check).unwrap_or_else(Instant::now);
    loop {
        sleep_until(due).await;
        let Some(upstream) = known.upgrade() else {
            return;
        };
        due = Instant::now() + pause(&check, rand::random());
        endpoint.standing.put_off(&check, due);
        let asked = Box::pin(ask(&upstream, &endpoint, &check, &connector));
        let outcome = timeout(check.timeout, asked).await;
        match outcome.unwrap_or(Err(Unwell::TooSlow)) {
            Ok(()) => note(&upstream, &endpoint, &check, None),
            // It was not asked.
            Err(Unwell::NoDescriptor) => {}
            Err(unwell) => note(&upstream, &endpoint, &check, Some(&told(&unwell))),
        }
    }
}

fn note(upstream: &Upstream, endpoint: &Endpoint, check: &HealthCheck, failure: Option<&str>) {
    upstream.state.standings.checked(failure.is_none());
    if !endpoint.standing.note(failure, check) {
        return;
    }
    let (name, address) = (upstream.name(), &endpoint.key);
    match failure {
        Some(why) => {
            tracing::warn!(upstream = %name, endpoint = %address, why, "an endpoint is unhealthy");
        }
        None => {
            tracing::info!(upstream = %name, endpoint = %address, "an endpoint is healthy again");
        }
    }
    upstream.refresh();
}

/// A failure with what is behind it.
fn told(unwell: &Unwell) -> String {
    let mut text = unwell.to_string();
    let mut cause = unwell.source();
    while let Some(error) = cause {
        // Writing to a string cannot fail.
        write!(text, ": {error}").unwrap_or_default();
        cause = error.source();
    }
    text
}
