//! How TLS is spoken with the endpoints of upstreams, as the configuration and its files say.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
};

use sluice_certs::{
    Pair, Roots,
    client::{Client, ClientSpec, Host, San, Version},
};
use sluice_config::{
    Problem, Snapshot,
    model::{Action, Destination, KeyPairFiles, TlsVersion, Upstream, UpstreamTls},
    names::{EgressName, RouteName, UpstreamName},
};

use super::trust::{Refused, read, roots};
use crate::plan::{TlsClient, TlsClients};

/// An upstream that speaks TLS, and where the configuration says so.
struct Wanted {
    model: Arc<Upstream>,
    at: At,
}

/// Where the configuration says that TLS is spoken.
enum At {
    /// In an upstream of that name.
    Upstream,
    /// In an address of a route.
    Route(RouteName),
    /// In a rule of `[egress]`.
    Egress(EgressName),
}

/// Every file that a client of an upstream of `snapshot` is made of.
pub(super) fn named(snapshot: &Snapshot) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for Wanted { model, .. } in wanted(snapshot).into_values() {
        let Some(UpstreamTls {
            ca, certificate, ..
        }) = &model.tls
        else {
            continue;
        };
        paths.extend_from_slice(ca);
        if let Some(KeyPairFiles { chain, key }) = certificate {
            paths.extend([chain.clone(), key.clone()]);
        }
    }
    paths
}

/// Reads what `snapshot` names for its upstreams and makes their clients. Files that are broken now are no
/// problem where the client of `known` was made of the same words: it stays.
pub(super) fn clients(
    snapshot: &Snapshot,
    known: &TlsClients,
    problems: &mut Vec<Problem>,
) -> TlsClients {
    let mut system = None;
    let mut clients = HashMap::new();
    for (name, Wanted { model, at }) in wanted(snapshot) {
        let Some(tls) = &model.tls else {
            continue;
        };
        match client(tls, &mut system) {
            Ok(client) => {
                if tls.insecure {
                    tracing::warn!(upstream = %name, "insecure: every certificate is taken");
                }
                let client = TlsClient {
                    model: tls.clone(),
                    client: Arc::new(client),
                    refused: None,
                };
                clients.insert(name, client);
            }
            Err(Refused { key, what, hint }) => match known.get(&name) {
                Some(known) if known.model == *tls => {
                    let refused = Some(Arc::from(what));
                    let known = known.clone();
                    clients.insert(name, TlsClient { refused, ..known });
                }
                _ => problems.push(Problem {
                    code: "tls",
                    at: match at {
                        At::Upstream => format!("upstreams.{name}.tls{key}"),
                        At::Route(route) => format!("routes.{route}"),
                        At::Egress(rule) => format!("egress.allow.{rule}.tls{key}"),
                    },
                    what,
                    hint: hint.map(str::to_owned),
                    witness: None,
                    place: None,
                }),
            },
        }
    }
    clients
}

/// Every upstream that speaks TLS, those of addresses in `to` included.
fn wanted(snapshot: &Snapshot) -> BTreeMap<UpstreamName, Wanted> {
    let mut all = BTreeMap::new();
    for (name, model) in &snapshot.upstreams {
        if model.tls.is_some() {
            let (model, at) = (Arc::clone(model), At::Upstream);
            all.insert(name.clone(), Wanted { model, at });
        }
    }
    for rule in snapshot.egress.iter().flat_map(|egress| &egress.allow) {
        let name = UpstreamName::of_egress(&rule.name);
        let mut model = Upstream::new(name.clone(), Vec::new());
        model.tls.clone_from(&rule.tls);
        if model.tls.is_some() {
            let (model, at) = (Arc::new(model), At::Egress(rule.name.clone()));
            all.insert(name, Wanted { model, at });
        }
    }
    for (name, route) in &snapshot.routes {
        for rule in &route.rules {
            let Action::Forward(targets) = &rule.action else {
                continue;
            };
            for target in targets {
                let Destination::Address(address) = &target.destination else {
                    continue;
                };
                let model = Upstream::of_address(address);
                if model.tls.is_some() {
                    let (model, at) = (Arc::new(model), At::Route(name.clone()));
                    let name = UpstreamName::of_address(address);
                    all.entry(name).or_insert(Wanted { model, at });
                }
            }
        }
    }
    all
}

fn client(tls: &UpstreamTls, system: &mut Option<Roots>) -> Result<Client, Refused> {
    let trust = if tls.insecure {
        None
    } else {
        Some(roots(&tls.ca, system)?)
    };
    let sni = tls.sni.as_deref().map(Host::new).transpose();
    let names = tls.san.iter().map(|san| San::new(&san.to_string()));
    let spec = ClientSpec {
        trust,
        sni: sni.map_err(|error| Refused::new(".sni", &error))?,
        names: names
            .collect::<Result<_, _>>()
            .map_err(|error| Refused::new(".san", &error))?,
        certificate: tls.certificate.as_ref().map(pair).transpose()?,
        min_version: match tls.min_version {
            TlsVersion::V1_2 => Version::Tls12,
            TlsVersion::V1_3 => Version::Tls13,
        },
    };
    Client::new(spec).map_err(|error| Refused::new("", &error))
}

fn pair(files: &KeyPairFiles) -> Result<Pair, Refused> {
    let KeyPairFiles { chain, key } = files;
    let text = |path: &Path| read(path).map_err(|error| Refused::of(".certificate", path, &error));
    Pair::from_pem(&text(chain)?, &text(key)?)
        .map_err(|error| Refused::of(".certificate", chain, &error))
}
