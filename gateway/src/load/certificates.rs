//! Certificates and keys, and what client certificates are held against, as files have them.
//!
//! What must stay true: a pair that serves is replaced by one that is good, or by none; what did not
//! change on disk is neither parsed nor replaced. Automatic certificates are in the same store, and
//! whoever orders them puts them there.

use std::{
    collections::{BTreeMap, HashMap},
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use sha2::{Digest as _, Sha256};
use sluice_certs::{Choice, Clients, ClientsSpec, Mode, NamePattern, Pair, Pairs, Slot, Store};
use sluice_config::{
    Problem, Snapshot,
    model::{
        Certificate, CertificateNames, CertificateSource, ClientCertificateMode,
        ClientCertificates, HostPattern, KeyPairFiles, Listener,
    },
    names::CertificateName,
};

use super::{Automatic, DevelopmentCa, Issuance, Made};
use crate::plan::{ClientPolicies, TlsClients};

/// Below this, one thread reads them sooner than several are started.
const FEW: usize = 64;

/// The certificates of the process, and what is known of the files that they came from. Clones share
/// the certificates.
#[derive(Debug, Clone, Default)]
pub struct CertificateFiles {
    /// Every certificate by name.
    pub store: Store,
    /// How TLS is spoken to upstreams.
    pub upstreams: TlsClients,
    /// What makes those for development; none where they could not be kept.
    pub(super) development: Option<DevelopmentCa>,
    seen: BTreeMap<CertificateName, Seen>,
}

/// What the pairs in use were read from.
#[derive(Debug, Clone)]
struct Seen {
    model: Arc<Certificate>,
    digest: [u8; 32],
}

/// What was read for a snapshot.
#[derive(Debug, Default)]
pub struct Certificates {
    found: BTreeMap<CertificateName, Found>,
    /// Policies for client certificates.
    pub clients: ClientPolicies,
    /// Those that are ordered.
    pub automatic: Automatic,
    /// From whom; none when nobody is named.
    pub issuance: Option<Issuance>,
    /// Those of the development CA.
    pub made: Vec<Made>,
}

/// What became of one certificate.
#[derive(Debug)]
enum Found {
    /// The files say what they said.
    Same,
    /// Something new.
    New(Pairs, Seen),
    /// Something new that cannot be used; what is there stays.
    Broken(String),
}

impl CertificateFiles {
    /// Nothing is known yet; `development` makes what is for development.
    pub fn new(development: Option<DevelopmentCa>) -> Self {
        Self {
            development,
            ..Self::default()
        }
    }

    /// Reads what `snapshot` names. A certificate that serves already and whose files are broken now is
    /// no problem of the snapshot. Blocks.
    pub fn read(&self, snapshot: &Snapshot) -> Result<Certificates, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut certificates = Certificates::default();
        for (name, found) in self.find(snapshot) {
            match found {
                Found::Broken(what) if !self.serves(snapshot, &name) => {
                    problems.push(problem(
                        "certificate",
                        format!("certificates.{name}.files"),
                        what,
                    ));
                }
                found => {
                    certificates.found.insert(name, found);
                }
            }
        }
        clients(snapshot, &mut certificates.clients, &mut problems);
        if problems.is_empty() {
            let names = |certificate: &Certificate| {
                let pairs = self.pairs_of(certificate, &certificates)?;
                Some(patterns(&pairs))
            };
            problems = sluice_config::uncovered(snapshot, &names);
            certificates.automatic = Automatic::of(snapshot, &names);
        }
        if problems.is_empty() {
            Ok(certificates)
        } else {
            Err(problems)
        }
    }

    /// Puts what was read in its place. From here on handshakes use it. Gives what is wrong, and was not
    /// known to be.
    pub fn keep(&mut self, certificates: &mut Certificates) -> Vec<(String, String)> {
        let mut news = self.keep_made(std::mem::take(&mut certificates.made));
        for (name, found) in std::mem::take(&mut certificates.found) {
            let slot = self.store.slot(name.as_str());
            match found {
                Found::Same => slot.mend(),
                Found::New(pairs, seen) => {
                    slot.set(pairs);
                    self.seen.insert(name, seen);
                }
                Found::Broken(what) => {
                    if slot.fail(&what) {
                        news.push((name.to_string(), what));
                    }
                }
            }
        }
        news
    }

    /// Forgets certificates that neither `snapshot` names nor anybody orders for it.
    pub fn sweep(&mut self, snapshot: &Snapshot, automatic: &Automatic) {
        let named = |name: &CertificateName| snapshot.certificates.contains_key(name);
        self.seen.retain(|name, _| named(name));
        self.store.retain(|name| {
            automatic.wanted.contains_key(name)
                || CertificateName::new(name).is_ok_and(|name| named(&name))
        });
    }

    /// The certificates of a listener: those that are named before those that are ordered for it.
    pub fn choice(
        &self,
        listener: &Listener,
        snapshot: &Snapshot,
        automatic: &Automatic,
    ) -> Option<Choice> {
        let model = listener.tls.as_ref()?;
        let slot = |name: &CertificateName| self.store.slot(name.as_str());
        let listed: Vec<&Arc<Certificate>> = match &model.certificates.names {
            CertificateNames::All => snapshot.certificates.values().collect(),
            CertificateNames::Listed(names) => {
                let find = |name| snapshot.certificates.get(name);
                names.iter().filter_map(find).collect()
            }
        };
        let hosts = |certificate: &Certificate, slot: &Slot| -> Vec<String> {
            if certificate.hosts.is_empty() {
                let pairs = slot.pairs();
                return pairs.map_or_else(Vec::new, |pairs| names(&pairs));
            }
            certificate.hosts.iter().map(ToString::to_string).collect()
        };
        let named = listed.into_iter().map(|certificate| {
            let slot = slot(&certificate.name);
            let hosts = hosts(certificate, &slot);
            (slot, hosts)
        });
        let ordered = automatic.of_listener(&listener.name);
        let ordered = ordered.map(|(host, name)| (self.store.slot(name), vec![host.to_string()]));
        let all: Vec<(Arc<Slot>, Vec<String>)> = named.chain(ordered).collect();
        let all = all
            .iter()
            .map(|(slot, hosts)| (Arc::clone(slot), hosts.iter().map(String::as_str)));
        let default = model.certificates.default.as_ref().map(slot);
        let nameless = automatic.nameless(&listener.name);
        let nameless = nameless.map(|name| self.store.slot(name));
        Some(Choice::new(all, default).answering_nameless(nameless))
    }

    fn serves(&self, snapshot: &Snapshot, name: &CertificateName) -> bool {
        let seen = self.seen.get(name);
        seen.is_some_and(|seen| snapshot.certificates.get(name) == Some(&seen.model))
    }

    /// Each certificate from files with what became of it; many at a time where there are many.
    fn find(&self, snapshot: &Snapshot) -> Vec<(CertificateName, Found)> {
        let named: Vec<&Arc<Certificate>> = snapshot
            .certificates
            .values()
            .filter(|certificate| matches!(certificate.source, CertificateSource::Files(_)))
            .collect();
        let find = |certificate: &&Arc<Certificate>| {
            let found = self.find_one(certificate);
            (certificate.name.clone(), found)
        };
        let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        if named.len() < FEW || threads < 2 {
            return named.iter().map(find).collect();
        }
        let share = named.len().div_ceil(threads);
        thread::scope(|scope| {
            let shares = named.chunks(share);
            let work = shares.map(|share| {
                let work = move || share.iter().map(find).collect::<Vec<_>>();
                scope.spawn(work)
            });
            let work: Vec<_> = work.collect();
            // A panic there is a defect like one here, and is caught by the same.
            let join = |work: thread::ScopedJoinHandle<'_, _>| {
                work.join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            work.into_iter().flat_map(join).collect()
        })
    }

    fn find_one(&self, certificate: &Arc<Certificate>) -> Found {
        let CertificateSource::Files(files) = &certificate.source else {
            return Found::Same;
        };
        let texts = match read_pairs(files) {
            Ok(texts) => texts,
            Err(what) => return Found::Broken(what),
        };
        let seen = Seen {
            model: Arc::clone(certificate),
            digest: digest(&texts),
        };
        let known = self.seen.get(&certificate.name);
        if known.is_some_and(|known| known.model == seen.model && known.digest == seen.digest) {
            return Found::Same;
        }
        match parse(certificate, files, &texts) {
            Ok(pairs) => Found::New(pairs, seen),
            Err(what) => Found::Broken(what),
        }
    }

    /// What will serve a certificate once what was read is kept.
    fn pairs_of<'c>(
        &self,
        certificate: &Certificate,
        certificates: &'c Certificates,
    ) -> Option<Held<'c>> {
        match certificates.found.get(&certificate.name) {
            Some(Found::New(pairs, _)) => Some(Held::New(pairs)),
            Some(Found::Same | Found::Broken(_)) => {
                let slot = self.store.get(certificate.name.as_str())?;
                slot.pairs().map(Held::Old)
            }
            None => None,
        }
    }
}

/// Pairs that were just read, or that serve.
enum Held<'c> {
    New(&'c Pairs),
    Old(Arc<Pairs>),
}

impl std::ops::Deref for Held<'_> {
    type Target = Pairs;

    fn deref(&self) -> &Pairs {
        match self {
            Self::New(pairs) => pairs,
            Self::Old(pairs) => pairs,
        }
    }
}

/// Every file that a certificate or a policy of `snapshot` is read from.
pub(super) fn named(snapshot: &Snapshot) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for certificate in snapshot.certificates.values() {
        if let CertificateSource::Files(files) = &certificate.source {
            for KeyPairFiles { chain, key } in files {
                paths.extend([chain.clone(), key.clone()]);
            }
        }
    }
    for (_, policy) in policies(snapshot) {
        paths.extend(policy.ca.iter().chain(&policy.crl).cloned());
    }
    paths
}

/// Each policy for client certificates, and where it stands.
fn policies(snapshot: &Snapshot) -> impl Iterator<Item = (String, &ClientCertificates)> {
    let listeners = snapshot.listeners.values().filter_map(|listener| {
        let policy = listener.tls.as_ref()?.client_certificates.as_ref()?;
        Some((
            format!("listeners.{}.client_certificates", listener.name),
            policy,
        ))
    });
    let routes = snapshot.routes.values().filter_map(|route| {
        let policy = route.client_certificates.as_ref()?;
        Some((format!("routes.{}.client_certificates", route.name), policy))
    });
    let all = listeners.chain(routes);
    all.filter(|(_, policy)| policy.mode != ClientCertificateMode::Off)
}

fn clients(snapshot: &Snapshot, known: &mut ClientPolicies, problems: &mut Vec<Problem>) {
    for (at, model) in policies(snapshot) {
        if known.contains_key(model) {
            continue;
        }
        let mut texts = HashMap::new();
        let mut readable = true;
        for (key, paths) in [("ca", &model.ca), ("crl", &model.crl)] {
            let read = paths.iter().map(|path| read(path)).collect();
            let read: Result<Vec<Vec<u8>>, String> = read;
            match read {
                Ok(read) => drop(texts.insert(key, read)),
                Err(what) => {
                    readable = false;
                    problems.push(problem("file", format!("{at}.{key}"), what));
                }
            }
        }
        if !readable {
            continue;
        }
        let spec = ClientsSpec {
            mode: match model.mode {
                ClientCertificateMode::Required => Mode::Required,
                ClientCertificateMode::Optional | ClientCertificateMode::Off => Mode::Optional,
            },
            authorities: texts.remove("ca").unwrap_or_default(),
            revoked: texts.remove("crl").unwrap_or_default(),
            names: model
                .san
                .iter()
                .map(|pattern| NamePattern::new(&pattern.to_string()))
                .collect(),
            keys: model.spki.iter().map(|pin| pin.0).collect(),
        };
        match Clients::new(&spec) {
            Ok(clients) => drop(known.insert(model.clone(), clients)),
            Err(error) => problems.push(problem("client_certificates", at, chain(&error))),
        }
    }
}

/// The contents of a chain and its key.
type Texts = (Vec<u8>, Vec<u8>);

fn read_pairs(files: &[KeyPairFiles]) -> Result<Vec<Texts>, String> {
    let read_pair = |files: &KeyPairFiles| Ok((read(&files.chain)?, read(&files.key)?));
    files.iter().map(read_pair).collect()
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))
}

/// Parts stand with their lengths, so that none can pass for a piece of another.
fn digest(texts: &[Texts]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for text in texts.iter().flat_map(|(chain, key)| [chain, key]) {
        hash.update(text.len().to_le_bytes());
        hash.update(text);
    }
    hash.finalize().into()
}

fn parse(
    certificate: &Certificate,
    files: &[KeyPairFiles],
    texts: &[Texts],
) -> Result<Pairs, String> {
    let mut pairs = Vec::with_capacity(texts.len());
    for (files, (chain_text, key_text)) in files.iter().zip(texts) {
        let place = || format!("{} with {}", files.chain.display(), files.key.display());
        let pair = Pair::from_pem(chain_text, key_text)
            .map_err(|error| format!("{}: {}", place(), chain(&error)))?;
        let facts = pair.facts();
        let uncovered = certificate.hosts.iter().find(|host| match host {
            HostPattern::Exact(host) => !facts.covers(host),
            wildcard => !facts.covers_wildcard(&wildcard.to_string()),
        });
        if let Some(host) = uncovered {
            return Err(format!(
                "{}: the certificate is not for {host}, but for {}",
                place(),
                listed(&facts.names)
            ));
        }
        pairs.push(pair);
    }
    Pairs::new(pairs).ok_or_else(|| "there is no pair of files".to_owned())
}

/// The first of many.
fn listed(names: &[String]) -> String {
    const SOME: usize = 5;
    match names {
        [] => "no host".to_owned(),
        names if names.len() <= SOME => names.join(", "),
        names => {
            let some = names.iter().take(SOME).map(String::as_str);
            let some: Vec<&str> = some.collect();
            format!(
                "{} and {} more",
                some.join(", "),
                names.len().saturating_sub(SOME)
            )
        }
    }
}

/// The hosts that every pair is for.
fn names(pairs: &Pairs) -> Vec<String> {
    let mut all = pairs.iter().map(|pair| &pair.facts().names);
    let first = all.next().cloned().unwrap_or_default();
    let rest: Vec<_> = all.collect();
    let everywhere = |name: &String| rest.iter().all(|names| names.contains(name));
    first.into_iter().filter(everywhere).collect()
}

fn patterns(pairs: &Pairs) -> Vec<HostPattern> {
    let pattern = |name: String| match name.strip_prefix('*') {
        Some(suffix) => HostPattern::Wildcard(suffix.to_owned()),
        // As hosts have it.
        None if name.contains(':') => HostPattern::Exact(format!("[{name}]")),
        None => HostPattern::Exact(name),
    };
    names(pairs).into_iter().map(pattern).collect()
}

/// An error with its causes in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

fn problem(code: &'static str, at: String, what: String) -> Problem {
    Problem {
        code,
        at,
        what,
        hint: None,
        witness: None,
        place: None,
    }
}
