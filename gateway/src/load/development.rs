//! Certificates of the development CA: made when a snapshot wants them, kept in the state directory, and
//! made anew before they end.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use sluice_certs::{Pairs, Slot, authority::local::Local};
use sluice_config::{Problem, Snapshot, model::Listener, names::IssuerName};
use time::OffsetDateTime;

use super::{
    Automatic,
    certificates::{CertificateFiles, chain},
};

/// Its folder in the state directory.
pub const LOCAL: &str = "local";

/// A certificate by its name, or why there is none.
pub type Made = (String, Result<Pairs, String>);

/// The development CA of a state directory. It begins to exist when it is first needed.
#[derive(Debug, Clone)]
pub struct DevelopmentCa {
    folder: PathBuf,
}

impl DevelopmentCa {
    /// The one that is kept in `state_directory`.
    pub fn of(state_directory: &Path) -> Self {
        Self {
            folder: state_directory.join(LOCAL),
        }
    }

    /// What serves each of `wanted` (a name, and its hosts): what is kept as long as it is good, else
    /// something new, as also for those that are `forced`. Blocks.
    pub fn make<'w>(
        &self,
        wanted: impl Iterator<Item = (&'w str, Vec<String>)>,
        forced: &[String],
    ) -> Vec<Made> {
        let now = OffsetDateTime::now_utc();
        let mut wanted = wanted.peekable();
        if wanted.peek().is_none() {
            return Vec::new();
        }
        let local = Local::open(&self.folder, &machine(), now).map_err(|error| chain(&error));
        let make = |(name, hosts): (&str, Vec<String>)| {
            let is_forced = forced.iter().any(|it| it == name);
            let pair = local.as_ref().map_err(Clone::clone).and_then(|local| {
                let pair = if is_forced {
                    local.renew(name, &hosts, now)
                } else {
                    local.pair(name, &hosts, now)
                };
                pair.map_err(|error| chain(&error))
            });
            let pairs = pair.and_then(|pair| Pairs::new(vec![pair]).ok_or_else(String::new));
            (name.to_owned(), pairs)
        };
        wanted.map(make).collect()
    }
}

impl CertificateFiles {
    /// Has made what `snapshot` wants of the development CA. What serves already goes on, whatever happens
    /// here.
    pub(super) fn make(
        &self,
        snapshot: &Snapshot,
        automatic: &Automatic,
    ) -> Result<Vec<Made>, Vec<Problem>> {
        let Some(ca) = &self.development else {
            return Ok(Vec::new());
        };
        let made = ca.make(automatic.local(), &[]);
        let serves = |name: &str| {
            let slot = self.store.get(name);
            slot.is_some_and(|slot| slot.pairs().is_some())
        };
        let problem = |(name, made): &Made| {
            let what = made.as_ref().err().filter(|_| !serves(name))?;
            Some(Problem {
                code: "development_ca",
                at: place(snapshot, name),
                what: format!("the development CA makes no certificate: {what}"),
                hint: Some("it is kept in `process.state_directory`".to_owned()),
                witness: None,
                place: None,
            })
        };
        // All of them fail for the same reason.
        match made.iter().find_map(problem) {
            Some(problem) => Err(vec![problem]),
            None => Ok(made),
        }
    }

    /// Puts what was made in its place. Gives what is wrong, and was not known to be.
    pub(super) fn keep_made(&self, made: Vec<Made>) -> Vec<(String, String)> {
        let news = made.into_iter().filter_map(|(name, made)| {
            let problem = put(&self.store.slot(&name), made)?;
            Some((name, problem))
        });
        news.collect()
    }
}

/// Puts what was made into its slot. Gives what is wrong, if that is news.
pub fn put(slot: &Slot, made: Result<Pairs, String>) -> Option<String> {
    match made {
        Ok(pairs) if slot.pairs().as_deref() == Some(&pairs) => slot.mend(),
        Ok(pairs) => slot.set(pairs),
        Err(problem) => return slot.fail(&problem).then_some(problem),
    }
    None
}

/// Where the configuration asks for the certificate called `name`.
fn place(snapshot: &Snapshot, name: &str) -> String {
    let mut named = snapshot.certificates.keys();
    if named.any(|it| it.as_str() == name) {
        return format!("certificates.{name}.auto");
    }
    let asks = |listener: &&Arc<Listener>| {
        let tls = listener.tls.as_ref();
        let issuer = tls.and_then(|tls| tls.certificates.auto.as_ref());
        issuer.is_some_and(IssuerName::is_local)
    };
    let mut listeners = snapshot.listeners.values();
    listeners.find(asks).map_or_else(String::new, |listener| {
        format!("listeners.{}.certificates.auto", listener.name)
    })
}

/// What this machine is called, so that people can tell whose CA they trust.
fn machine() -> String {
    let name = rustix::system::uname();
    let name = name.nodename().to_string_lossy();
    name.chars()
        .filter(|it| !it.is_control())
        .take(40)
        .collect()
}
