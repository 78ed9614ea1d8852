//! The checked configuration as one value: what is true at one version.

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::{
    model::{
        AccessLog, Acme, Certificate, Dns, Egress, Listener, Route, Secret, Storage, Tracing,
        Upstream,
    },
    names::{CertificateName, IssuerName, ListenerName, RouteName, UpstreamName},
    substitute,
};

/// The first 12 hexadecimal digits of the SHA-256 of the canonical form.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Version(Arc<str>);

impl Version {
    /// The version as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Every object of the configuration, checked. Two snapshots with equal content have equal versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// Identifies the content in logs and dumps.
    #[serde(skip)]
    pub version: Version,
    /// By name; never empty (see [`Listener::implied`]).
    #[serde(skip_serializing_if = "only_implied")]
    pub listeners: BTreeMap<ListenerName, Arc<Listener>>,
    /// By name.
    pub routes: BTreeMap<RouteName, Arc<Route>>,
    /// By name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub certificates: BTreeMap<CertificateName, Arc<Certificate>>,
    /// By name, without the development CA.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub acme: BTreeMap<IssuerName, Arc<Acme>>,
    /// What several gateways share.
    #[serde(skip_serializing_if = "is_default")]
    pub storage: Arc<Storage>,
    /// By name. Those of addresses in `to` are not among them.
    pub upstreams: BTreeMap<UpstreamName, Arc<Upstream>>,
    /// Who may reach what outside; none: everybody everything that is public.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress: Option<Arc<Egress>>,
    /// Where request lines go.
    pub access_log: Arc<AccessLog>,
    /// How names are resolved.
    pub dns: Arc<Dns>,
    /// Where spans go, and which there are.
    #[serde(skip_serializing_if = "is_default")]
    pub tracing: Arc<Tracing>,
}

/// The objects of a snapshot before it has a version.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Objects {
    /// By name.
    #[serde(skip_serializing_if = "only_implied")]
    pub listeners: BTreeMap<ListenerName, Arc<Listener>>,
    /// By name.
    pub routes: BTreeMap<RouteName, Arc<Route>>,
    /// By name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub certificates: BTreeMap<CertificateName, Arc<Certificate>>,
    /// By name, without the development CA.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub acme: BTreeMap<IssuerName, Arc<Acme>>,
    /// What several gateways share.
    #[serde(skip_serializing_if = "is_default")]
    pub storage: Arc<Storage>,
    /// By name.
    pub upstreams: BTreeMap<UpstreamName, Arc<Upstream>>,
    /// Who may reach what outside; none: everybody everything that is public.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress: Option<Arc<Egress>>,
    /// Where request lines go.
    pub access_log: Arc<AccessLog>,
    /// How names are resolved.
    pub dns: Arc<Dns>,
    /// Where spans go, and which there are.
    #[serde(skip_serializing_if = "is_default")]
    pub tracing: Arc<Tracing>,
}

/// Whether nobody wrote anything about it.
fn is_default<T: Default + PartialEq>(single: &Arc<T>) -> bool {
    **single == T::default()
}

/// Whether nobody wrote a listener: then the canonical form has none either.
fn only_implied(listeners: &BTreeMap<ListenerName, Arc<Listener>>) -> bool {
    listeners.values().all(|listener| listener.implied)
}

impl Snapshot {
    /// The same without its secrets, for whoever looks at what runs.
    #[must_use]
    pub fn redacted(&self) -> Self {
        let mut shown = self.clone();
        if let Some(otlp) = &mut Arc::make_mut(&mut shown.tracing).otlp {
            for (_, secret) in &mut otlp.headers {
                *secret = Secret::redacted();
            }
        }
        for listener in shown.listeners.values_mut() {
            if listener.basic.is_some() {
                Arc::make_mut(listener).redact();
            }
        }
        for issuer in shown.acme.values_mut() {
            Arc::make_mut(issuer).redact();
        }
        Arc::make_mut(&mut shown.storage).redact();
        shown
    }

    /// The canonical form as JSON: objects of the same language, which check to an equal snapshot.
    pub fn to_json(&self) -> String {
        // As in `seal`, this cannot fail.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// The canonical form as a file that an operator could have written.
    pub fn to_toml(&self) -> String {
        let mut tree = serde_json::to_value(self).unwrap_or_default();
        escape(&mut tree);
        toml::to_string_pretty(&tree).unwrap_or_default()
    }

    /// Seals `objects`. The caller has checked their references.
    pub fn seal(objects: Objects) -> Self {
        let mut hash = Sha256::new();
        // Serialization of model types cannot fail: no maps with foreign keys, no fallible impls.
        if let Ok(text) = serde_json::to_vec(&objects) {
            hash.update(&text);
        }
        let digest = hash.finalize();
        let hex = digest
            .iter()
            .take(6)
            .fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        let Objects {
            listeners,
            routes,
            certificates,
            acme,
            storage,
            upstreams,
            egress,
            access_log,
            dns,
            tracing,
        } = objects;
        Self {
            version: Version(Arc::from(hex)),
            listeners,
            routes,
            certificates,
            acme,
            storage,
            upstreams,
            egress,
            access_log,
            dns,
            tracing,
        }
    }
}

/// What is literal here must not be substituted when it is read as a file.
fn escape(tree: &mut serde_json::Value) {
    match tree {
        serde_json::Value::String(text) => *text = substitute::escape(text),
        serde_json::Value::Array(items) => items.iter_mut().for_each(escape),
        serde_json::Value::Object(entries) => entries.values_mut().for_each(escape),
        _ => {}
    }
}
