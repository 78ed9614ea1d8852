//! How TLS is spoken with the endpoints of upstreams, as the configuration and its files say.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{self, Read as _},
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
    names::{RouteName, UpstreamName},
};

use crate::plan::TlsClients;

/// The largest file of certificates: all of the world's public issuers take 0.3 MiB.
const LARGEST: u64 = 16 << 20;

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
}

/// Reads what `snapshot` names for its upstreams and makes their clients.
pub(super) fn clients(snapshot: &Snapshot, problems: &mut Vec<Problem>) -> TlsClients {
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
                clients.insert(name, Arc::new(client));
            }
            Err(Refused { key, what, hint }) => problems.push(Problem {
                code: "tls",
                at: match at {
                    At::Upstream => format!("upstreams.{name}.tls{key}"),
                    At::Route(route) => format!("routes.{route}"),
                },
                what,
                hint: hint.map(str::to_owned),
                witness: None,
                place: None,
            }),
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

/// Why there is no client: the key below `tls`, with its dot.
struct Refused {
    key: &'static str,
    what: String,
    hint: Option<&'static str>,
}

impl Refused {
    fn new(key: &'static str, error: &dyn std::error::Error) -> Self {
        let what = match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        let hint = None;
        Self { key, what, hint }
    }

    fn of(key: &'static str, path: &Path, error: &dyn std::error::Error) -> Self {
        let Self { what, .. } = Self::new(key, error);
        let what = format!("{} cannot be used: {what}", path.display());
        let hint = None;
        Self { key, what, hint }
    }
}

fn client(tls: &UpstreamTls, system: &mut Option<Roots>) -> Result<Client, Refused> {
    let trust = match (tls.insecure, tls.ca.as_slice()) {
        (true, _) => None,
        (false, []) => Some(of_system(system)?),
        (false, bundles) => Some(roots(bundles)?),
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

/// The issuers that the system trusts; read once for all who want them.
fn of_system(known: &mut Option<Roots>) -> Result<Roots, Refused> {
    if let Some(roots) = known {
        return Ok(roots.clone());
    }
    let roots = Roots::system().map_err(|error| Refused {
        hint: Some("write `ca` to trust other issuers than those of the system"),
        ..Refused::new("", &error)
    })?;
    *known = Some(roots.clone());
    Ok(roots)
}

fn roots(bundles: &[PathBuf]) -> Result<Roots, Refused> {
    let mut texts = Vec::with_capacity(bundles.len());
    for path in bundles {
        let text = read(path).map_err(|error| Refused::of(".ca", path, &error))?;
        // Each alone first, so that the reason names the file.
        Roots::from_pem([text.as_slice()]).map_err(|error| Refused::of(".ca", path, &error))?;
        texts.push(text);
    }
    let texts = texts.iter().map(Vec::as_slice);
    Roots::from_pem(texts).map_err(|error| Refused::new(".ca", &error))
}

fn pair(files: &KeyPairFiles) -> Result<Pair, Refused> {
    let KeyPairFiles { chain, key } = files;
    let text = |path: &Path| read(path).map_err(|error| Refused::of(".certificate", path, &error));
    Pair::from_pem(&text(chain)?, &text(key)?)
        .map_err(|error| Refused::of(".certificate", chain, &error))
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = File::open(path)?
        .take(LARGEST.saturating_add(1))
        .read_to_end(&mut bytes)?;
    if u64::try_from(read).unwrap_or(u64::MAX) > LARGEST {
        let what = format!("it is larger than {LARGEST} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, what));
    }
    Ok(bytes)
}
