//! Automatic certificates: tells the keeper what the configuration wants, and where to keep it.
//!
//! What must stay true: a storage that is away, or an issuer, holds up nothing but orders; what is stored
//! is served before the first connection is accepted.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sluice_certs::{
    Choice, Store,
    acme::{Issuer, Keeper, Keeping, Terms},
    storage::Storage,
};
use sluice_config::{Problem, Snapshot, model::Listener};

use super::development::Development;
use crate::{
    drain::Tasks,
    load::{CertificateFiles, Certificates, DevelopmentCa, Place},
};

/// How long a start, or a configuration with new hosts, waits for certificates that are stored.
const PATIENCE: Duration = Duration::from_secs(3);

/// What an engine has of certificates, from its start to its end.
pub(super) struct Keeps {
    /// All of them.
    pub(super) certificates: CertificateFiles,
    /// Orders those without files.
    pub(super) orders: Orders,
    /// The work of ordering.
    pub(super) keeping: Keeping,
    /// Renews what the development CA made.
    pub(super) development: Development,
}

impl Keeps {
    /// No certificate yet.
    pub(super) fn new(state_directory: Option<PathBuf>) -> Self {
        let ca = state_directory.as_deref().map(DevelopmentCa::of);
        let certificates = CertificateFiles::new(ca.clone());
        let (keeper, keeping) = Keeper::new(certificates.store.clone());
        Self {
            development: Development::new(ca, certificates.store.clone()),
            certificates,
            orders: Orders {
                keeper,
                state_directory,
                storage: None,
                is_waited_for: false,
            },
            keeping,
        }
    }
}

/// Orders certificates.
#[derive(Debug)]
pub(super) struct Orders {
    keeper: Keeper,
    state_directory: Option<PathBuf>,
    /// The storage in use, and where that is.
    storage: Option<(Place, Arc<dyn Storage>)>,
    /// Something is wanted that is not there yet, but may be stored.
    is_waited_for: bool,
}

impl Orders {
    /// What orders and renews.
    pub(super) fn keeper(&self) -> &Keeper {
        &self.keeper
    }

    /// Whether what is wanted can be kept.
    pub(super) fn check(&self, certificates: &Certificates) -> Result<(), Vec<Problem>> {
        let place = certificates.issuance.as_ref().map(|it| &it.place);
        let is_local = certificates.automatic.local().next().is_some();
        if (place == Some(&Place::Own) || is_local) && self.state_directory.is_none() {
            return Err(vec![Problem {
                code: "storage",
                at: "acme".to_owned(),
                what: "there is no state directory to keep certificates in".to_owned(),
                hint: Some("write a [storage]".to_owned()),
                witness: None,
                place: None,
            }]);
        }
        Ok(())
    }

    /// The same choice for `listener`, with what is answered and ordered besides.
    pub(super) fn answer_for(
        &self,
        listener: &Listener,
        snapshot: &Snapshot,
        choice: Choice,
    ) -> Choice {
        let choice = choice.answering(Arc::clone(self.keeper.pending()));
        let chosen = listener.tls.as_ref().map(|tls| &tls.certificates);
        let issuer = chosen.and_then(|chosen| snapshot.acme.get(chosen.auto.as_ref()?));
        match issuer.filter(|issuer| issuer.on_demand.is_some()) {
            Some(issuer) => choice.ordering(self.keeper.clone(), issuer.name.as_str()),
            None => choice,
        }
    }

    /// From now on this is wanted.
    pub(super) fn set(&mut self, certificates: &Certificates, store: &Store, tasks: &Tasks) {
        let wanted = certificates.automatic.over_acme();
        let is_missing = |name: &String| store.get(name).is_none_or(|slot| slot.pairs().is_none());
        self.is_waited_for = wanted.keys().any(is_missing);
        let mut issuers = BTreeMap::new();
        if let Some(issuance) = &certificates.issuance {
            issuers.clone_from(&issuance.issuers);
            let is_used = |issuer: &Arc<Issuer>| issuer.on_demand.is_some();
            if !wanted.is_empty() || issuers.values().any(is_used) {
                self.open(&issuance.place, tasks);
            }
        }
        // Who never needed an issuer has no storage either.
        if let Some((_, storage)) = &self.storage {
            self.keeper.set(Terms {
                storage: Arc::clone(storage),
                issuers,
                wanted,
            });
        }
    }

    /// Waits until what is stored is served, but not for a storage that does not answer.
    pub(super) async fn settle(&self) {
        if self.is_waited_for && self.storage.is_some() {
            let loaded = tokio::time::timeout(PATIENCE, self.keeper.loaded()).await;
            if loaded.is_err() {
                tracing::warn!("the storage of certificates does not answer, going on without");
            }
        }
    }

    /// Uses the storage at `place`, unless it is in use.
    fn open(&mut self, place: &Place, tasks: &Tasks) {
        if self
            .storage
            .as_ref()
            .is_some_and(|(known, _)| known == place)
        {
            return;
        }
        let state = self.state_directory.clone().unwrap_or_default();
        if let Some(path) = place.folder(&state) {
            tasks.spawn(warn_of_volatile(path));
        }
        let storage = place.storage(&state);
        self.storage = Some((place.clone(), storage));
    }
}

/// Warns of a place that a restart empties: whoever begins anew each time soon gets no more certificates.
async fn warn_of_volatile(path: PathBuf) {
    let looked = path.clone();
    let kind = tokio::task::spawn_blocking(move || volatile(&looked)).await;
    if let Ok(Some(kind)) = kind {
        tracing::warn!(
            path = %path.display(),
            kind,
            "certificates and the account are lost with the next restart: keep them on a volume"
        );
    }
}

/// The kind of file system below `path`, if it does not last.
fn volatile(path: &Path) -> Option<&'static str> {
    // It is made later: what it will lie on is where its nearest parent does.
    let path = path.ancestors().find(|path| path.exists())?;
    kind(u64::try_from(rustix::fs::statfs(path).ok()?.f_type).ok()?)
}

/// File systems by their numbers in `linux/magic.h`.
fn kind(number: u64) -> Option<&'static str> {
    match number {
        0x0102_1994 => Some("tmpfs"),
        0x8584_58f6 => Some("ramfs"),
        0x794c_7630 => Some("the writable layer of a container (overlay)"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_restart_empties_is_warned_of() {
        assert_eq!(kind(0x0102_1994), Some("tmpfs"));
        assert!(kind(0x794c_7630).is_some_and(|kind| kind.contains("container")));
        for lasting in [0xef53, 0x9123_683e, 0x6969, 0x5846_5342] {
            assert_eq!(kind(lasting), None, "{lasting:x}");
        }
        assert_eq!(volatile(Path::new("/proc/none/of/these")), None);
    }
}
