//! What a reload changes, object by object.
//!
//! `old.apply(diff(old, new))` is `new`: a diff is complete, so it can be logged, shown and sent.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use serde::Serialize;

use crate::{
    Objects, Snapshot,
    model::{
        AccessLog, Acme, Certificate, Dns, Egress, EgressRule, Listener, Route, Storage, Tracing,
        Upstream,
    },
    names::{CertificateName, EgressName, IssuerName, ListenerName, RouteName, UpstreamName},
};

/// What is different between two snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diff {
    /// Of listeners.
    pub listeners: Changes<ListenerName, Listener>,
    /// Of routes.
    pub routes: Changes<RouteName, Route>,
    /// Of certificates: where they come from, not what is in them.
    pub certificates: Changes<CertificateName, Certificate>,
    /// Of issuers.
    pub acme: Changes<IssuerName, Acme>,
    /// The new one, where it is different.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<Arc<Storage>>,
    /// Of upstreams.
    pub upstreams: Changes<UpstreamName, Upstream>,
    /// Of who may reach what outside, where it is different.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress: Option<EgressChange>,
    /// The new one, where it is different.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_log: Option<Arc<AccessLog>>,
    /// The new one, where it is different.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns: Option<Arc<Dns>>,
    /// The new one, where it is different.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracing: Option<Arc<Tracing>>,
}

/// What is different about who may reach what outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EgressChange {
    /// As it is in the new snapshot.
    pub now: Option<Arc<Egress>>,
    /// Of its rules.
    #[serde(skip)]
    pub rules: Changes<EgressName, EgressRule>,
    /// Whether something else than rules is different.
    #[serde(skip)]
    settings: bool,
}

/// What is different between the objects of one kind. No name is in two of the three.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Changes<N: Ord, T> {
    /// Only in the new snapshot.
    pub added: BTreeMap<N, Arc<T>>,
    /// In both, as it is in the new one.
    pub changed: BTreeMap<N, Arc<T>>,
    /// Only in the old snapshot.
    pub removed: BTreeSet<N>,
}

/// What turns `old` into `new`.
pub fn diff(old: &Snapshot, new: &Snapshot) -> Diff {
    Diff {
        listeners: Changes::between(&old.listeners, &new.listeners),
        routes: Changes::between(&old.routes, &new.routes),
        certificates: Changes::between(&old.certificates, &new.certificates),
        acme: Changes::between(&old.acme, &new.acme),
        storage: (old.storage != new.storage).then(|| Arc::clone(&new.storage)),
        upstreams: Changes::between(&old.upstreams, &new.upstreams),
        egress: (old.egress != new.egress).then(|| EgressChange::between(old, new)),
        access_log: (old.access_log != new.access_log).then(|| Arc::clone(&new.access_log)),
        dns: (old.dns != new.dns).then(|| Arc::clone(&new.dns)),
        tracing: (old.tracing != new.tracing).then(|| Arc::clone(&new.tracing)),
    }
}

impl Diff {
    /// Whether nothing is different.
    pub fn is_empty(&self) -> bool {
        self.listeners.is_empty()
            && self.routes.is_empty()
            && self.certificates.is_empty()
            && self.acme.is_empty()
            && self.storage.is_none()
            && self.upstreams.is_empty()
            && self.egress.is_none()
            && self.access_log.is_none()
            && self.dns.is_none()
            && self.tracing.is_none()
    }

    /// The snapshot that `old` becomes.
    #[must_use]
    pub fn apply(&self, old: &Snapshot) -> Snapshot {
        Snapshot::seal(Objects {
            listeners: self.listeners.apply(&old.listeners),
            routes: self.routes.apply(&old.routes),
            certificates: self.certificates.apply(&old.certificates),
            acme: self.acme.apply(&old.acme),
            storage: Arc::clone(self.storage.as_ref().unwrap_or(&old.storage)),
            upstreams: self.upstreams.apply(&old.upstreams),
            egress: match &self.egress {
                Some(change) => change.now.as_ref().map(Arc::clone),
                None => old.egress.as_ref().map(Arc::clone),
            },
            access_log: Arc::clone(self.access_log.as_ref().unwrap_or(&old.access_log)),
            dns: Arc::clone(self.dns.as_ref().unwrap_or(&old.dns)),
            tracing: Arc::clone(self.tracing.as_ref().unwrap_or(&old.tracing)),
        })
    }
}

impl EgressChange {
    fn between(old: &Snapshot, new: &Snapshot) -> Self {
        let rules = |snapshot: &Snapshot| -> BTreeMap<EgressName, Arc<EgressRule>> {
            let rules = snapshot.egress.iter().flat_map(|egress| &egress.allow);
            rules
                .map(|rule| (rule.name.clone(), Arc::new(rule.clone())))
                .collect()
        };
        let settings = |snapshot: &Snapshot| {
            let egress = snapshot.egress.as_deref();
            egress.map(|egress| Egress {
                allow: Vec::new(),
                ..egress.clone()
            })
        };
        Self {
            now: new.egress.as_ref().map(Arc::clone),
            rules: Changes::between(&rules(old), &rules(new)),
            settings: settings(old) != settings(new),
        }
    }

    /// What is different, rule by rule.
    fn words(&self) -> Vec<String> {
        let mut words = self.rules.words("egress");
        words.extend(self.settings.then(|| "~egress".to_owned()));
        words
    }
}

impl<N: Ord + Clone, T: PartialEq> Changes<N, T> {
    fn between(old: &BTreeMap<N, Arc<T>>, new: &BTreeMap<N, Arc<T>>) -> Self {
        let mut changes = Self {
            added: BTreeMap::new(),
            changed: BTreeMap::new(),
            removed: old
                .keys()
                .filter(|name| !new.contains_key(name))
                .cloned()
                .collect(),
        };
        for (name, object) in new {
            let list = match old.get(name) {
                Some(old) if old == object => continue,
                Some(_) => &mut changes.changed,
                None => &mut changes.added,
            };
            list.insert(name.clone(), Arc::clone(object));
        }
        changes
    }

    fn apply(&self, old: &BTreeMap<N, Arc<T>>) -> BTreeMap<N, Arc<T>> {
        let kept = old.iter().filter(|(name, _)| !self.removed.contains(name));
        let new = self.added.iter().chain(&self.changed);
        kept.chain(new)
            .map(|(name, object)| (name.clone(), Arc::clone(object)))
            .collect()
    }
}

impl<N: Ord, T> Changes<N, T> {
    /// Whether nothing is different.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.removed.is_empty()
    }
}

/// One line: `+route a, ~upstream b, -listener c`; `nothing` where nothing is different.
impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = self.listeners.words("listener");
        words.extend(self.routes.words("route"));
        words.extend(self.certificates.words("certificate"));
        words.extend(self.acme.words("issuer"));
        words.extend(self.storage.as_ref().map(|_| "~storage".to_owned()));
        words.extend(self.upstreams.words("upstream"));
        words.extend(self.egress.iter().flat_map(EgressChange::words));
        words.extend(self.access_log.as_ref().map(|_| "~access_log".to_owned()));
        words.extend(self.dns.as_ref().map(|_| "~dns".to_owned()));
        words.extend(self.tracing.as_ref().map(|_| "~tracing".to_owned()));
        if words.is_empty() {
            return f.write_str("nothing");
        }
        f.write_str(&words.join(", "))
    }
}

impl<N: Ord + fmt::Display, T> Changes<N, T> {
    fn words(&self, kind: &str) -> Vec<String> {
        let added = self.added.keys().map(|name| format!("+{kind} {name}"));
        let changed = self.changed.keys().map(|name| format!("~{kind} {name}"));
        let removed = self.removed.iter().map(|name| format!("-{kind} {name}"));
        added.chain(changed).chain(removed).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use proptest::prelude::*;

    use super::*;
    use crate::model::{Balance, CertificateSource, EgressHost, Filters, HostPattern, Mode};

    fn route(name: &str, priority: i32) -> Route {
        Route {
            name: RouteName::new(name).unwrap(),
            listeners: vec![ListenerName::new("web").unwrap()],
            mode: Mode::Http,
            hosts: vec![HostPattern::Any],
            priority,
            rules: Vec::new(),
            timeout: None,
            filters: Filters::default(),
            client_certificates: None,
        }
    }

    fn egress() -> impl Strategy<Value = Option<Egress>> {
        let name = prop::sample::select(vec!["a", "b", "c"]);
        let rules = prop::collection::btree_map(name, any::<bool>(), 0..3);
        prop::option::of((rules, 0_usize..2)).prop_map(|egress| {
            egress.map(|(rules, report)| Egress {
                report,
                allow: rules
                    .into_iter()
                    .map(|(name, without_sni)| EgressRule {
                        without_sni,
                        ..rule(name)
                    })
                    .collect(),
                ..Egress::default()
            })
        })
    }

    fn rule(name: &str) -> EgressRule {
        let host = EgressHost::Name(HostPattern::Any);
        EgressRule::new(EgressName::new(name).unwrap(), vec![host])
    }

    fn snapshot() -> impl Strategy<Value = Snapshot> {
        let named = || {
            let name = prop::sample::select(vec!["a", "b", "c", "d", "e"]);
            prop::collection::btree_map(name, 0_u16..3, 0..5)
        };
        let named = (named(), named(), named(), named());
        (named, egress(), 1_usize..3, 1_u64..3).prop_map(
            |((listeners, routes, upstreams, certificates), egress, queue, seconds)| {
                let balances = [Balance::RoundRobin, Balance::Random, Balance::LeastRequest];
                let objects = Objects {
                    listeners: listeners
                        .into_iter()
                        .map(|(name, port)| {
                            let name = ListenerName::new(name).unwrap();
                            let address = SocketAddr::from(([0, 0, 0, 0], port));
                            (name.clone(), Arc::new(Listener::new(name, address.into())))
                        })
                        .collect(),
                    routes: routes
                        .into_iter()
                        .map(|(name, priority)| {
                            let route = route(name, i32::from(priority));
                            (route.name.clone(), Arc::new(route))
                        })
                        .collect(),
                    upstreams: upstreams
                        .into_iter()
                        .map(|(name, balance)| {
                            let name = UpstreamName::new(name).unwrap();
                            let mut upstream = Upstream::new(name.clone(), Vec::new());
                            upstream.balance = balances[usize::from(balance)];
                            (name, Arc::new(upstream))
                        })
                        .collect(),
                    certificates: certificates
                        .into_iter()
                        .map(|(name, host)| {
                            let name = CertificateName::new(name).unwrap();
                            let certificate = Certificate {
                                name: name.clone(),
                                hosts: vec![HostPattern::Exact(format!("h{host}"))],
                                source: CertificateSource::Refused,
                            };
                            (name, Arc::new(certificate))
                        })
                        .collect(),
                    acme: BTreeMap::new(),
                    storage: Arc::new(if seconds > 1 {
                        Storage::Directory("/shared".into())
                    } else {
                        Storage::Own
                    }),
                    egress: egress.map(Arc::new),
                    access_log: Arc::new(AccessLog {
                        queue,
                        ..AccessLog::default()
                    }),
                    dns: Arc::new(Dns {
                        timeout: std::time::Duration::from_secs(seconds),
                        ..Dns::default()
                    }),
                    tracing: Arc::new(Tracing {
                        service_name: (seconds > 1).then(|| "edge".to_owned()),
                        ..Tracing::default()
                    }),
                };
                Snapshot::seal(objects)
            },
        )
    }

    proptest! {
        #[test]
        fn applying_a_diff_to_the_old_gives_the_new(old in snapshot(), new in snapshot()) {
            let diff = diff(&old, &new);
            prop_assert_eq!(&diff.apply(&old), &new);
            prop_assert_eq!(diff.is_empty(), old == new);
            prop_assert_eq!(diff.to_string() == "nothing", old == new);
        }
    }

    #[test]
    fn a_diff_is_one_line() {
        let with = |routes: &[(&str, i32)]| {
            let routes = routes.iter().map(|(name, priority)| route(name, *priority));
            Snapshot::seal(Objects {
                routes: routes
                    .map(|route| (route.name.clone(), Arc::new(route)))
                    .collect(),
                ..Objects::default()
            })
        };
        let old = with(&[("kept", 0), ("moved", 0), ("gone", 0)]);
        let new = with(&[("kept", 0), ("moved", 1), ("new", 0)]);
        assert_eq!(
            diff(&old, &new).to_string(),
            "+route new, ~route moved, -route gone"
        );
    }

    #[test]
    fn what_is_allowed_is_different_rule_by_rule() {
        let with = |egress: Option<Egress>| {
            Snapshot::seal(Objects {
                egress: egress.map(Arc::new),
                ..Objects::default()
            })
        };
        let allow = |rules: &[EgressRule]| Egress {
            allow: rules.to_vec(),
            ..Egress::default()
        };
        let moved = EgressRule {
            without_sni: true,
            ..rule("moved")
        };
        let old = with(Some(allow(&[rule("gone"), rule("kept"), rule("moved")])));
        let new = with(Some(allow(&[rule("kept"), moved, rule("new")])));
        let none = with(None);
        let empty = with(Some(Egress::default()));
        for (old, new, words) in [
            (&old, &new, "+egress new, ~egress moved, -egress gone"),
            (&none, &empty, "~egress"),
            (
                &old,
                &none,
                "-egress gone, -egress kept, -egress moved, ~egress",
            ),
            (&new, &new, "nothing"),
        ] {
            assert_eq!(diff(old, new).to_string(), words);
        }
    }
}
