//! What holds for traces: the configuration, and for what it does not say the variables that every
//! OpenTelemetry program knows.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;
use percent_encoding::percent_decode_str;
use sluice_config::model::{self, OtlpProtocol, Share};

use super::{Unusable, connect::Files, propagation::Propagation};

/// The variables that begin with `OTEL_`.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// Those of this process.
    pub fn of_process() -> Self {
        let variables = std::env::vars_os();
        let text = variables.filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        text.filter(|(name, _)| name.starts_with("OTEL_")).collect()
    }

    /// The first of these that is set to something.
    fn first(&self, names: &[&str]) -> Option<&str> {
        names
            .iter()
            .filter_map(|name| self.0.get(*name))
            .map(|value| value.trim())
            .find(|value| !value.is_empty())
    }
}

impl FromIterator<(String, String)> for Environment {
    fn from_iter<T: IntoIterator<Item = (String, String)>>(variables: T) -> Self {
        Self(variables.into_iter().collect())
    }
}

/// Only the names: headers carry secrets.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// That of traces alone, and that of every kind of telemetry.
const ENDPOINTS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
];

/// What holds for traces.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) endpoint: String,
    pub(super) protocol: OtlpProtocol,
    pub(super) headers: HeaderMap,
    pub(super) resource: Resource,
    pub(super) sampler: Sampler,
    pub(super) propagation: Propagation,
    /// For TLS.
    pub(super) files: Files,
}

/// Which traces are recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sampler {
    /// Who is called within a trace records what its caller records.
    pub(super) follows: bool,
    pub(super) share: Share,
}

impl Settings {
    /// None when there are no traces.
    pub(super) fn new(
        model: &model::Tracing,
        environment: &Environment,
    ) -> Result<Option<Self>, Unusable> {
        let off = |name: &str, word: &str| {
            let value = environment.first(&[name]);
            value.is_some_and(|value| value.eq_ignore_ascii_case(word))
        };
        if off("OTEL_SDK_DISABLED", "true") || off("OTEL_TRACES_EXPORTER", "none") {
            return Ok(None);
        }
        if model.otlp.is_none() && environment.first(&ENDPOINTS).is_none() {
            return Ok(None);
        }
        let otlp = model.otlp.clone().unwrap_or_default();
        let protocol = otlp.protocol.or_else(|| {
            let names = [
                "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
                "OTEL_EXPORTER_OTLP_PROTOCOL",
            ];
            OtlpProtocol::new(environment.first(&names)?)
        });
        let protocol = protocol.unwrap_or(OtlpProtocol::Grpc);
        let endpoint = endpoint(otlp.endpoint, protocol, environment)?;
        let mut headers = HeaderMap::new();
        let names = [
            "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
            "OTEL_EXPORTER_OTLP_HEADERS",
        ];
        let listed = pairs(environment.first(&names).unwrap_or_default());
        let written = otlp
            .headers
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), value.expose().to_owned()));
        for (name, value) in listed.into_iter().chain(written) {
            if let (Ok(name), Ok(value)) =
                (HeaderName::try_from(name), HeaderValue::try_from(value))
            {
                headers.insert(name, value);
            }
        }
        Ok(Some(Self {
            endpoint,
            protocol,
            headers,
            resource: resource(model, environment),
            sampler: sampler(model, environment),
            propagation: Propagation::new(environment.first(&["OTEL_PROPAGATORS"])),
            files: files(environment),
        }))
    }
}

/// Where spans are sent. A URL of the environment is checked like a configured one; for gRPC it may be
/// an address alone, which is meant with TLS unless the environment says otherwise.
fn endpoint(
    configured: Option<String>,
    protocol: OtlpProtocol,
    environment: &Environment,
) -> Result<String, Unusable> {
    let is_http = protocol == OtlpProtocol::Http;
    if let Some(url) = configured {
        return Ok(if is_http && is_bare(&url) {
            with_path(&url)
        } else {
            url
        });
    }
    let [own, any] = ENDPOINTS;
    for variable in [own, any] {
        let Some(url) = environment.first(&[variable]) else {
            continue;
        };
        let url = if is_http || url.contains("://") {
            url.to_owned()
        } else {
            let names = [
                "OTEL_EXPORTER_OTLP_TRACES_INSECURE",
                "OTEL_EXPORTER_OTLP_INSECURE",
            ];
            let insecure = environment.first(&names);
            let insecure = insecure.is_some_and(|word| word.eq_ignore_ascii_case("true"));
            format!("{}://{url}", if insecure { "http" } else { "https" })
        };
        model::Otlp::check_url(&url).map_err(|source| Unusable::Variable { variable, source })?;
        return Ok(if is_http && variable == any {
            with_path(&url)
        } else {
            url
        });
    }
    Ok(match protocol {
        OtlpProtocol::Http => with_path("http://localhost:4318"),
        OtlpProtocol::Grpc => "http://localhost:4317".to_owned(),
    })
}

/// The files that TLS needs; those of traces alone count before those of every kind of telemetry.
fn files(environment: &Environment) -> Files {
    let file = |what: &str| {
        let own = format!("OTEL_EXPORTER_OTLP_TRACES_{what}");
        let any = format!("OTEL_EXPORTER_OTLP_{what}");
        environment.first(&[&own, &any]).map(PathBuf::from)
    };
    let (chain, key) = (file("CLIENT_CERTIFICATE"), file("CLIENT_KEY"));
    if chain.is_some() != key.is_some() {
        tracing::warn!("a certificate for the receiver of traces needs its key, and the key it");
    }
    Files {
        roots: file("CERTIFICATE"),
        pair: chain.zip(key),
    }
}

/// A URL without a path.
fn is_bare(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split_once('/').is_none_or(|(_, path)| path.is_empty())
}

fn with_path(url: &str) -> String {
    format!("{}/v1/traces", url.trim_end_matches('/'))
}

/// `name=value,name=value`, with values that may be percent-encoded.
fn pairs(text: &str) -> Vec<(String, String)> {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(name, value)| {
            let value = percent_decode_str(value.trim()).decode_utf8_lossy();
            (name.trim().to_owned(), value.into_owned())
        })
        .filter(|(name, _)| !name.is_empty())
        .collect()
}

fn resource(model: &model::Tracing, environment: &Environment) -> Resource {
    let listed = environment.first(&["OTEL_RESOURCE_ATTRIBUTES"]);
    let mut attributes: BTreeMap<String, String> = BTreeMap::new();
    attributes.insert("service.name".to_owned(), "sluice".to_owned());
    attributes.insert(
        "service.version".to_owned(),
        env!("CARGO_PKG_VERSION").to_owned(),
    );
    attributes.extend(pairs(listed.unwrap_or_default()));
    let name = model.service_name.as_deref();
    if let Some(name) = name.or_else(|| environment.first(&["OTEL_SERVICE_NAME"])) {
        attributes.insert("service.name".to_owned(), name.to_owned());
    }
    let attributes = attributes.into_iter();
    Resource::builder_empty()
        .with_attributes(attributes.map(|(name, value)| KeyValue::new(name, value)))
        .build()
}

fn sampler(model: &model::Tracing, environment: &Environment) -> Sampler {
    let share = || {
        let argument = environment.first(&["OTEL_TRACES_SAMPLER_ARG"])?;
        Share::new(argument.parse().ok()?)
    };
    let word = environment.first(&["OTEL_TRACES_SAMPLER"]);
    let (follows, named) = match word.unwrap_or_default() {
        "always_on" => (false, Share::ALL),
        "always_off" => (false, Share::NONE),
        "traceidratio" => (false, share().unwrap_or(Share::ALL)),
        "parentbased_always_off" => (true, Share::NONE),
        "parentbased_traceidratio" => (true, share().unwrap_or(Share::ALL)),
        _ => (true, Share::ALL),
    };
    match model.sample {
        Some(share) => Sampler {
            follows: true,
            share,
        },
        None => Sampler {
            follows,
            share: named,
        },
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::Key;

    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        let variables = variables.iter();
        variables
            .map(|(name, value)| (format!("OTEL_{name}"), (*value).to_owned()))
            .collect()
    }

    fn made(model: &model::Tracing, environment: &Environment) -> Option<Settings> {
        Settings::new(model, environment).unwrap()
    }

    #[test]
    fn urls_of_the_environment_are_checked_and_bare_addresses_are_meant_with_tls() {
        let of = |variables: &[(&str, &str)]| {
            let made = Settings::new(&model::Tracing::default(), &environment(variables));
            made.map(|settings| settings.unwrap().endpoint)
                .map_err(|error| error.to_string())
        };
        let any = |url| ("EXPORTER_OTLP_ENDPOINT", url);
        let http = ("EXPORTER_OTLP_PROTOCOL", "http/protobuf");
        for (variables, url) in [
            (&[any("c:4317")][..], "https://c:4317"),
            (
                &[any("c:4317"), ("EXPORTER_OTLP_INSECURE", "true")],
                "http://c:4317",
            ),
            (&[any("https://c:4317")], "https://c:4317"),
            (&[any("https://c"), http], "https://c/v1/traces"),
        ] {
            assert_eq!(of(variables).as_deref(), Ok(url));
        }
        for variables in [
            &[any("ftp://c")][..],
            &[any("http://")],
            &[any("c:4318"), http],
            &[any("http://c:99999")],
        ] {
            let error = of(variables).unwrap_err();
            assert!(error.contains("OTEL_EXPORTER_OTLP_ENDPOINT: "), "{error}");
        }
    }

    #[test]
    fn without_a_word_about_a_receiver_there_are_no_traces() {
        let none = model::Tracing::default();
        assert!(made(&none, &environment(&[])).is_none());
        let there = ("EXPORTER_OTLP_ENDPOINT", "http://c:1");
        assert!(made(&none, &environment(&[there])).is_some());
        let disabled = environment(&[there, ("SDK_DISABLED", "True")]);
        assert!(made(&none, &disabled).is_none());
        let nowhere = environment(&[there, ("TRACES_EXPORTER", "none")]);
        assert!(made(&none, &nowhere).is_none());
    }

    #[test]
    fn the_configuration_wins_over_the_environment_and_this_over_defaults() {
        let variables = environment(&[
            ("EXPORTER_OTLP_ENDPOINT", "http://c:1/base"),
            ("EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
            ("EXPORTER_OTLP_HEADERS", "a=1%202,b=3"),
            ("SERVICE_NAME", "from-env"),
            ("RESOURCE_ATTRIBUTES", "zone=z1,service.name=lost"),
            ("TRACES_SAMPLER", "traceidratio"),
            ("TRACES_SAMPLER_ARG", "0.5"),
        ]);
        let settings = made(&model::Tracing::default(), &variables).unwrap();
        assert_eq!(settings.endpoint, "http://c:1/base/v1/traces");
        assert_eq!(settings.protocol, OtlpProtocol::Http);
        assert_eq!(settings.headers["a"], "1 2");
        assert_eq!(settings.headers["b"], "3");
        let half = Share::new(0.5).unwrap();
        let ratio = Sampler {
            follows: false,
            share: half,
        };
        assert_eq!(settings.sampler, ratio);
        let attribute = |settings: &Settings, key: &'static str| {
            let value = settings.resource.get(&Key::new(key));
            value.map(|value| value.to_string())
        };
        assert_eq!(attribute(&settings, "zone").as_deref(), Some("z1"));
        let name = attribute(&settings, "service.name");
        assert_eq!(name.as_deref(), Some("from-env"));

        let model = model::Tracing {
            otlp: Some(model::Otlp {
                endpoint: Some("http://d:2".to_owned()),
                protocol: Some(OtlpProtocol::Grpc),
                headers: Vec::new(),
            }),
            sample: Some(Share::NONE),
            service_name: Some("edge".to_owned()),
        };
        let settings = made(&model, &variables).unwrap();
        assert_eq!(settings.endpoint, "http://d:2");
        assert_eq!(settings.protocol, OtlpProtocol::Grpc);
        assert_eq!(settings.sampler.share, Share::NONE);
        let name = attribute(&settings, "service.name");
        assert_eq!(name.as_deref(), Some("edge"));
    }

    #[test]
    fn a_path_is_added_only_where_there_is_none() {
        for (url, expected) in [
            ("http://c:1", "http://c:1/v1/traces"),
            ("http://c:1/", "http://c:1/v1/traces"),
            ("http://c:1/own", "http://c:1/own"),
        ] {
            let model = model::Tracing {
                otlp: Some(model::Otlp {
                    endpoint: Some(url.to_owned()),
                    protocol: Some(OtlpProtocol::Http),
                    headers: Vec::new(),
                }),
                ..model::Tracing::default()
            };
            let settings = made(&model, &Environment::default()).unwrap();
            assert_eq!(settings.endpoint, expected);
        }
    }
}
