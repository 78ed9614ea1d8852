//! Traces of requests: a span for each request and one for each attempt to reach an endpoint.
//!
//! First it is decided whether a trace is recorded, then spans are made: who is not recorded costs two
//! header look-ups and a number by chance, and without a receiver there is not even that. Spans are
//! sent by a task on the control side (`export`); a request never waits for it.

mod b3;
mod connect;
mod context;
mod export;
mod propagation;
mod raw;
mod settings;
mod span;

use std::{sync::Arc, time::Duration};

use http::HeaderMap;
use opentelemetry::{InstrumentationScope, SpanId, TraceId};
use sluice_config::model::{self, Share};

use super::metrics::Shard;
use export::Queue;
use propagation::Propagation;
use settings::{Sampler, Settings};

pub use connect::TlsError;
pub use settings::Environment;
pub use span::{AttemptFacts, Trace};

/// How long the last spans may take at the end.
const LAST: Duration = Duration::from_secs(2);

/// Begins traces. Clones send to the same receiver; the default one begins none.
#[derive(Debug, Clone, Default)]
pub struct Tracer(Option<Arc<Kit>>);

/// What all traces of a tracer share.
#[derive(Debug)]
struct Kit {
    sampler: Sampler,
    propagation: Propagation,
    queue: Queue,
    scope: InstrumentationScope,
}

/// The settings name a receiver that cannot be.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// The library wants none of it.
    #[error("spans cannot be sent there: {0}")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
    /// No connection could ever be made.
    #[error("spans cannot be sent there: {0}")]
    Channel(#[from] tonic::transport::Error),
    /// There can be no TLS with it.
    #[error("spans cannot be sent there: {0}")]
    Tls(#[from] TlsError),
    /// A variable of the environment names it, and no receiver has such a URL.
    #[error("{variable}: {source}")]
    Variable {
        /// Its name.
        variable: &'static str,
        /// What is wrong.
        source: model::ReceiverUrlError,
    },
}

impl Tracer {
    /// A tracer, and the task that sends its spans; none when nothing says where to. The task ends
    /// with the last clone. Called on the runtime that runs the task.
    pub fn new(
        model: &model::Tracing,
        environment: &Environment,
        counters: Shard,
    ) -> Result<(Self, Option<impl Future<Output = ()> + Send + use<>>), Unusable> {
        let Some(settings) = Settings::new(model, environment)? else {
            return Ok((Self::default(), None));
        };
        let (queue, task) = Queue::new(&settings, counters)?;
        let kit = Kit {
            sampler: settings.sampler,
            propagation: settings.propagation,
            queue,
            scope: InstrumentationScope::builder("sluice")
                .with_version(env!("CARGO_PKG_VERSION"))
                .build(),
        };
        Ok((Self(Some(Arc::new(kit))), Some(task)))
    }

    /// Begins or joins the trace of a request that came with `headers`. Nobody has decided yet whether
    /// it is recorded. None without a receiver.
    pub fn begin(&self, headers: &HeaderMap) -> Option<Box<Trace>> {
        let kit = self.0.as_ref()?;
        let caller = kit.propagation.caller(headers);
        Some(Box::new(Trace::new(Arc::clone(kit), caller)))
    }

    /// Sends what waits. For shutdown; bounded.
    pub async fn flush(&self) {
        if let Some(kit) = &self.0 {
            kit.queue.flush(LAST).await;
        }
    }
}

impl Kit {
    /// Whether a trace is recorded; `decided` is what its caller says, `share` what its rule says.
    fn records(&self, trace: TraceId, decided: Option<bool>, share: Option<Share>) -> bool {
        match decided {
            Some(decided) if self.sampler.follows => decided,
            _ => is_in(trace, share.unwrap_or(self.sampler.share)),
        }
    }
}

/// Whether the trace is among this share of all. Every program with the same share decides alike.
fn is_in(trace: TraceId, share: Share) -> bool {
    let bytes = trace.to_bytes();
    let low = u64::from_be_bytes(bytes.last_chunk().copied().unwrap_or_default());
    // As OpenTelemetry's sampler by ratio: the lower 63 bits count.
    let place = u128::from(low >> 1).saturating_mul(1_000_000);
    place < u128::from(share.millionths()) << 63
}

fn new_trace() -> TraceId {
    // Zero stands for none.
    TraceId::from(rand::random::<u128>().max(1))
}

fn new_span() -> SpanId {
    SpanId::from(rand::random::<u64>().max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_traces_is_about_that_share() {
        let count = |share: f64| {
            let share = Share::new(share).unwrap();
            let traces = (0..10_000).map(|_| new_trace());
            traces.filter(|trace| is_in(*trace, share)).count()
        };
        assert_eq!(count(0.0), 0);
        assert_eq!(count(1.0), 10_000);
        assert!((2_200..2_800).contains(&count(0.25)));
    }
}
