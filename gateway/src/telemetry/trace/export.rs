//! Sends spans to their receiver, on the control side.
//!
//! What must stay true: nobody waits for a receiver but this task. What does not fit into the queue,
//! and what the receiver does not take, is dropped and counted.

use std::{collections::HashMap, time::Duration};

use opentelemetry_http::hyper::HyperClient;
use opentelemetry_otlp::{
    Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _, WithTonicConfig as _,
    tonic_types::metadata::MetadataMap,
};
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use sluice_config::model::OtlpProtocol;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout, timeout_at},
};
use tonic::transport::Endpoint;

use super::{Unusable, connect::Connector, settings::Settings};
use crate::telemetry::metrics::{Counter, Shard};

/// Spans that may wait: as OpenTelemetry's own processors keep.
const QUEUE: usize = 2048;

/// Spans of one export.
const BATCH: usize = 512;

/// How long spans gather before they are sent.
const GATHER: Duration = Duration::from_millis(500);

/// How long one export may take, repetitions included.
const EXPORT: Duration = Duration::from_secs(10);

/// What the task is told.
enum Item {
    Span(Box<SpanData>),
    /// Answer when everything before this was sent or dropped.
    Flush(oneshot::Sender<()>),
}

/// The way to the task. The task ends with the last of its kind.
#[derive(Debug)]
pub(super) struct Queue {
    sender: mpsc::Sender<Item>,
    counters: Shard,
}

impl Queue {
    /// A queue, and the task that empties it.
    pub(super) fn new(
        settings: &Settings,
        counters: Shard,
    ) -> Result<(Self, impl Future<Output = ()> + use<>), Unusable> {
        let exporter = exporter(settings)?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        let queue = Self {
            sender,
            counters: counters.clone(),
        };
        Ok((queue, run(receiver, exporter, counters)))
    }

    /// Takes a span, or drops it when there is no room. Never waits.
    pub(super) fn take(&self, span: SpanData) {
        if self.sender.try_send(Item::Span(Box::new(span))).is_err() {
            self.counters.count(Counter::SpansDropped);
        }
    }

    /// Sends what waits, for at most `limit`.
    pub(super) async fn flush(&self, limit: Duration) {
        let flush = async {
            let (done, wait) = oneshot::channel();
            if self.sender.send(Item::Flush(done)).await.is_ok() {
                wait.await.unwrap_or_default();
            }
        };
        if timeout(limit, flush).await.is_err() {
            tracing::warn!("the receiver of traces did not take the last spans in time");
        }
    }
}

fn exporter(settings: &Settings) -> Result<SpanExporter, Unusable> {
    let is_grpc = settings.protocol == OtlpProtocol::Grpc;
    let connector = Connector::new(&settings.endpoint, &settings.files, is_grpc)?;
    let mut exporter = match settings.protocol {
        OtlpProtocol::Grpc => {
            let channel = Endpoint::from_shared(settings.endpoint.clone())?
                .timeout(EXPORT)
                .connect_with_connector_lazy(connector);
            SpanExporter::builder()
                .with_tonic()
                .with_protocol(Protocol::Grpc)
                .with_channel(channel)
                .with_timeout(EXPORT)
                .with_metadata(MetadataMap::from_headers(settings.headers.clone()))
                .build()?
        }
        OtlpProtocol::Http => {
            let headers = settings.headers.iter();
            let headers: HashMap<_, _> = headers
                .filter_map(|(name, value)| {
                    Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
                })
                .collect();
            SpanExporter::builder()
                .with_http()
                .with_http_client(HyperClient::new(connector, EXPORT, None))
                .with_protocol(Protocol::HttpBinary)
                .with_endpoint(&settings.endpoint)
                .with_timeout(EXPORT)
                .with_headers(headers)
                .build()?
        }
    };
    exporter.set_resource(&settings.resource);
    Ok(exporter)
}

async fn run(mut items: mpsc::Receiver<Item>, exporter: SpanExporter, counters: Shard) {
    let mut spans = Vec::new();
    let mut failing = false;
    loop {
        let mut flush = None;
        let mut open = true;
        let mut deadline = None;
        while spans.len() < BATCH && flush.is_none() {
            let item = match deadline {
                None => items.recv().await,
                Some(deadline) => match timeout_at(deadline, items.recv()).await {
                    Ok(item) => item,
                    Err(_) => break,
                },
            };
            match item {
                Some(Item::Span(span)) => {
                    spans.push(*span);
                    deadline.get_or_insert_with(|| Instant::now() + GATHER);
                }
                Some(Item::Flush(done)) => flush = Some(done),
                None => {
                    open = false;
                    break;
                }
            }
        }
        if !spans.is_empty() {
            let sent = send(&exporter, std::mem::take(&mut spans), &counters).await;
            if sent.is_err() != failing {
                failing = !failing;
                tell(&sent);
            }
        }
        if let Some(done) = flush {
            // Who asked may have lost patience.
            done.send(()).unwrap_or_default();
        }
        if !open {
            return;
        }
    }
}

/// Sends a batch; the error is told once, not per batch.
async fn send(
    exporter: &SpanExporter,
    spans: Vec<SpanData>,
    counters: &Shard,
) -> Result<(), String> {
    let number = u64::try_from(spans.len()).unwrap_or(u64::MAX);
    let sent = match timeout(EXPORT, exporter.export(spans)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("it took too long".to_owned()),
    };
    let counter = match &sent {
        Ok(()) => Counter::SpansExported,
        Err(_) => Counter::SpansDropped,
    };
    counters.add(counter, number);
    sent
}

fn tell(sent: &Result<(), String>) {
    match sent {
        Ok(()) => tracing::info!("the receiver of traces takes spans again"),
        Err(error) => tracing::warn!(%error, "the receiver of traces takes no spans"),
    }
}
