//! What a snapshot names and the machine must provide: files and sockets.
//!
//! Stands between check and compile. Each thing is ready or a [`Problem`]; the caller refuses the
//! snapshot as a whole when there is one, and drops what was made ready. `sluice check` reads the
//! files and binds nothing.

mod automatic;
mod certificates;
mod datagrams;
mod development;
mod issuers;
mod sockets;
mod trust;
mod upstreams;
mod users;

use std::{
    collections::{HashMap, hash_map::Entry},
    io::Read,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use sluice_config::{
    Problem, Snapshot,
    model::{Action, Respond, RespondBody, Route},
    names::RuleName,
};

use crate::{authn::users::Lists, plan::TlsClients};

pub use automatic::{Automatic, Wanted};
pub use certificates::{CertificateFiles, Certificates};
pub use datagrams::{DatagramSets, Datagrams};
pub use development::{DevelopmentCa, LOCAL, Made, put};
pub use issuers::{Issuance, Place};
pub use sockets::{Bound, SocketKey, Sockets};

/// The contents of the files that a snapshot names.
pub type Bodies = HashMap<PathBuf, Bytes>;

/// What the files that a snapshot names came to.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Bodies of answers.
    pub bodies: Bodies,
    /// How TLS is spoken to the endpoints of upstreams.
    pub tls_clients: TlsClients,
    /// Certificates, and what client certificates are held against.
    pub certificates: Certificates,
    /// Who may come in with a password.
    pub users: Lists,
}

/// Why a file cannot be the body of an answer.
#[derive(Debug, thiserror::Error)]
enum BodyError {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("it is larger than {} bytes", Respond::MAX_FILE)]
    TooLarge,
}

/// Reads every file that `snapshot` names. `known` has the certificates that serve, `users` the lists.
pub fn files(
    snapshot: &Snapshot,
    known: &CertificateFiles,
    users: &Lists,
) -> Result<Loaded, Vec<Problem>> {
    let mut problems = Vec::new();
    let users = users::lists(snapshot, users, &mut problems);
    let bodies = bodies(snapshot, &mut problems);
    let tls_clients = upstreams::clients(snapshot, &known.upstreams, &mut problems);
    let issuance = issuers::read_all(snapshot, &mut problems);
    match known.read(snapshot) {
        Ok(mut certificates) if problems.is_empty() => {
            certificates.issuance = issuance;
            certificates.made = known.make(snapshot, &certificates.automatic)?;
            Ok(Loaded {
                bodies,
                tls_clients,
                certificates,
                users,
            })
        }
        Ok(_) => Err(problems),
        Err(more) => {
            problems.extend(more);
            Err(problems)
        }
    }
}

/// Every file that a certificate, a policy, an issuer, the TLS of an upstream or a list of users of
/// `snapshot` is read from.
pub fn named(snapshot: &Snapshot) -> Vec<PathBuf> {
    let mut paths = certificates::named(snapshot);
    paths.extend(issuers::named(snapshot));
    paths.extend(upstreams::named(snapshot));
    paths.extend(users::named(snapshot));
    paths.sort();
    paths.dedup();
    paths
}

/// Reads the bodies of answers.
fn bodies(snapshot: &Snapshot, problems: &mut Vec<Problem>) -> Bodies {
    let mut bodies = Bodies::new();
    for (name, route) in &snapshot.routes {
        for (position, rule) in route.rules.iter().enumerate() {
            let Action::Respond(respond) = &rule.action else {
                continue;
            };
            let Some(RespondBody::File(path)) = &respond.body else {
                continue;
            };
            let Entry::Vacant(entry) = bodies.entry(path.clone()) else {
                continue;
            };
            match body(path) {
                Ok(bytes) => {
                    entry.insert(bytes);
                }
                Err(error) => problems.push(Problem {
                    code: "file",
                    at: format!("routes.{name}.{}respond.file", place(route, position)),
                    what: format!("{} cannot be read: {error}", path.display()),
                    hint: None,
                    witness: None,
                    place: None,
                }),
            }
        }
    }
    bodies
}

/// How a rule is reached from its route: nothing for the catch-all, which stands on the route.
fn place(route: &Route, position: usize) -> String {
    let catch_all = route
        .rules
        .get(position)
        .is_some_and(|rule| rule.name == RuleName::catch_all());
    if catch_all {
        String::new()
    } else {
        format!("rules[{position}].")
    }
}

fn body(path: &Path) -> Result<Bytes, BodyError> {
    let mut bytes = Vec::new();
    let limit = Respond::MAX_FILE.saturating_add(1);
    let read = std::fs::File::open(path)?
        .take(limit)
        .read_to_end(&mut bytes)?;
    if u64::try_from(read).unwrap_or(u64::MAX) >= limit {
        return Err(BodyError::TooLarge);
    }
    Ok(Bytes::from(bytes))
}
