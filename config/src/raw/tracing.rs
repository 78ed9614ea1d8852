//! `[tracing]` and the filter key `trace`

use schemars::JsonSchema;
use serde::Deserialize;

use super::Table;

/// Traces of requests, exported by OTLP. What is not written here is taken from the variables that
/// every OpenTelemetry program knows (`OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_TRACES_SAMPLER`, …); with
/// neither there are none. Whatever becomes of the receiver, no request waits for it.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct Tracing {
    /// Where spans are sent.
    pub otlp: Option<Otlp>,
    /// The share of traces that begin here and are recorded; who is called within a trace records
    /// what its caller records. Range 0 to 1. Default `OTEL_TRACES_SAMPLER` and
    /// `OTEL_TRACES_SAMPLER_ARG`, else `1.0`.
    #[schemars(range(min = 0, max = 1))]
    pub sample: Option<f64>,
    /// The name of this gateway in traces. Default `OTEL_SERVICE_NAME`, else `sluice`.
    pub service_name: Option<String>,
}

/// A receiver of spans.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct Otlp {
    /// Its URL; over `http/protobuf` one without a path gets `/v1/traces`. With `https://` its
    /// certificate is checked against the issuers that the system trusts, or those in the file that
    /// `OTEL_EXPORTER_OTLP_CERTIFICATE` names; `OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE` and
    /// `OTEL_EXPORTER_OTLP_CLIENT_KEY` name files with a certificate of ours.
    /// Default `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` or `OTEL_EXPORTER_OTLP_ENDPOINT`, else
    /// `http://localhost:4317` for `grpc` and `http://localhost:4318` for `http/protobuf`.
    pub endpoint: Option<String>,
    /// `grpc` or `http/protobuf`. Default `OTEL_EXPORTER_OTLP_TRACES_PROTOCOL` or
    /// `OTEL_EXPORTER_OTLP_PROTOCOL`, else `grpc`.
    pub protocol: Option<String>,
    /// Headers of every export, by name, besides those of `OTEL_EXPORTER_OTLP_HEADERS`.
    pub headers: Option<Table<String>>,
}

/// Whether requests are traced.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct Trace {
    /// The share of traces that begin here and are recorded. Required. Range 0 to 1.
    #[schemars(range(min = 0, max = 1))]
    pub sample: Option<f64>,
}
