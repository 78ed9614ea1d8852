//! A receiver of spans on the official protobuf types: gRPC and HTTP.

use std::{collections::BTreeMap, fmt::Write as _, net::SocketAddr, sync::Arc};

use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{AnyValue, KeyValue, any_value::Value},
    trace::v1::Span,
};
use parking_lot::Mutex;
use prost::Message as _;
use sluice_gateway::drain::Tasks;
use sluice_tests::{Origin, eventually::eventually};
use tokio::net::TcpListener;
use tonic::{Request, Response, Status};

/// What arrived.
#[derive(Debug, Clone, Default)]
pub(crate) struct Received(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    spans: Vec<Span>,
    resource: BTreeMap<String, String>,
    headers: BTreeMap<String, String>,
    path: String,
}

/// A receiver at work.
pub(crate) struct Receiver {
    pub(crate) url: String,
    pub(crate) received: Received,
    tasks: Tasks,
    _origin: Option<Origin>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.tasks.abort();
    }
}

impl Received {
    fn take(&self, request: ExportTraceServiceRequest, path: &str) {
        let mut inner = self.0.lock();
        path.clone_into(&mut inner.path);
        for resource_spans in request.resource_spans {
            if let Some(resource) = resource_spans.resource {
                inner.resource = attributes(&resource.attributes);
            }
            for scope in resource_spans.scope_spans {
                assert_eq!(scope.scope.expect("a scope").name, "sluice");
                inner.spans.extend(scope.spans);
            }
        }
    }

    /// Waits for this many spans and gives all there are.
    pub(crate) async fn wait(&self, count: usize) -> Vec<Span> {
        eventually(&format!("{count} spans"), || {
            Some(self.spans()).filter(|spans| spans.len() >= count)
        })
        .await
    }

    pub(crate) fn spans(&self) -> Vec<Span> {
        self.0.lock().spans.clone()
    }

    pub(crate) fn resource(&self, key: &str) -> Option<String> {
        self.0.lock().resource.get(key).cloned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<String> {
        self.0.lock().headers.get(name).cloned()
    }

    pub(crate) fn path(&self) -> String {
        self.0.lock().path.clone()
    }
}

#[tonic::async_trait]
impl TraceService for Received {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for entry in request.metadata().iter() {
            if let tonic::metadata::KeyAndValueRef::Ascii(name, value) = entry {
                let value = value.to_str().expect("ASCII").to_owned();
                let name = name.as_str().to_owned();
                self.0.lock().headers.insert(name, value);
            }
        }
        self.take(request.into_inner(), "grpc");
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// A receiver that speaks gRPC.
pub(crate) async fn grpc() -> Receiver {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    grpc_on(listener)
}

/// The same, on a socket that was bound before.
pub(crate) fn grpc_on(listener: TcpListener) -> Receiver {
    let address: SocketAddr = listener.local_addr().expect("an address");
    let received = Received::default();
    let tasks = Tasks::new();
    let (own, service) = (tasks.clone(), received.clone());
    tasks.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = TowerToHyperService::new(TraceServiceServer::new(service.clone()));
            own.spawn(async move {
                let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                let served = connection.serve_connection(TokioIo::new(stream), service);
                // The gateway went away.
                served.await.unwrap_or_default();
            });
        }
    });
    Receiver {
        url: format!("http://{address}"),
        received,
        tasks,
        _origin: None,
    }
}

/// A receiver that speaks HTTP/1.1 with protobuf.
pub(crate) async fn http() -> Receiver {
    let received = Received::default();
    let own = received.clone();
    let origin = Origin::start(move |mut peer| {
        let received = own.clone();
        async move {
            while let Some(request) = peer.request().await {
                assert_eq!(
                    request.header("content-type"),
                    Some("application/x-protobuf")
                );
                for (name, value) in &request.headers {
                    let mut inner = received.0.lock();
                    inner
                        .headers
                        .insert(name.to_ascii_lowercase(), value.clone());
                }
                let message = ExportTraceServiceRequest::decode(request.body.as_slice());
                received.take(message.expect("a request"), request.second());
                let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\n\
                              content-length: 0\r\n\r\n";
                if !peer.send(answer).await {
                    return;
                }
            }
        }
    })
    .await;
    Receiver {
        url: format!("http://{}", origin.address()),
        received,
        tasks: Tasks::new(),
        _origin: Some(origin),
    }
}

/// Attributes as texts.
pub(crate) fn attributes(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |value: Option<AnyValue>| match value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(truth)) => truth.to_string(),
        other => panic!("an attribute of another type: {other:?}"),
    };
    let pairs = attributes.iter();
    pairs
        .map(|pair| (pair.key.clone(), text(pair.value.clone())))
        .collect()
}

/// Bytes of an id in digits.
pub(crate) fn hex(id: &[u8]) -> String {
    id.iter().fold(String::new(), |mut digits, byte| {
        write!(digits, "{byte:02x}").expect("a text");
        digits
    })
}
