//! Which certificates nobody has files for: they are ordered, and kept, for the hosts that are routed or
//! written.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use sluice_certs::acme;
use sluice_config::{
    Snapshot,
    model::{Certificate, CertificateSource, HostPattern, ListenerCertificates},
    names::{IssuerName, ListenerName},
};

/// The certificates that are ordered for a snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Automatic {
    /// By their names in the store: that of `[certificates.NAME]`, else the host.
    pub wanted: BTreeMap<String, Wanted>,
    /// For what each listener has its issuer order: the host, and the name in the store.
    listeners: BTreeMap<ListenerName, Vec<(HostPattern, String)>>,
}

/// One certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The hosts it is for, never `*` and never none.
    pub hosts: Vec<HostPattern>,
    /// From whom.
    pub issuer: IssuerName,
}

impl Wanted {
    /// Its hosts as certificates have them: an address stands without brackets.
    fn names(&self) -> Vec<String> {
        let bare = |host: &HostPattern| {
            let text = host.to_string();
            let address = text.strip_prefix('[');
            let address = address.and_then(|rest| rest.strip_suffix(']'));
            address.map_or_else(|| text.clone(), str::to_owned)
        };
        self.hosts.iter().map(bare).collect()
    }
}

/// The hosts of a certificate from files for which none are written; none where they are not known.
type Names<'n> = &'n dyn Fn(&Certificate) -> Option<Vec<HostPattern>>;

impl Automatic {
    /// What `snapshot` wants ordered.
    pub(super) fn of(snapshot: &Snapshot, names: Names<'_>) -> Self {
        let mut all = Self::default();
        for (name, certificate) in &snapshot.certificates {
            if let CertificateSource::Auto(issuer) = &certificate.source {
                let wanted = Wanted {
                    hosts: certificate.hosts.clone(),
                    issuer: issuer.clone(),
                };
                all.wanted.insert(name.to_string(), wanted);
            }
        }
        for (name, listener) in &snapshot.listeners {
            let chosen = listener.tls.as_ref().map(|tls| &tls.certificates);
            let Some((chosen, issuer)) = chosen.and_then(|it| Some((it, it.auto.as_ref()?))) else {
                continue;
            };
            let files = Named::of(chosen, snapshot, names);
            let routes = snapshot.routes.values();
            let routes = routes.filter(|route| {
                let inside = route.mode.is_inside_tls_of(listener.protocol);
                inside && route.listeners.contains(name)
            });
            let hosts = routes.flat_map(|route| &route.hosts).cloned();
            let mut hosts: BTreeSet<HostPattern> = hosts.collect();
            if issuer.is_local() && hosts.iter().any(is_here) {
                hosts.extend(here());
            }
            let ordered = hosts
                .into_iter()
                .filter(|host| !files.stands_for(host) && is_ordered(snapshot, issuer, host))
                .map(|host| {
                    let name = all.want(snapshot, issuer, &host);
                    (host, name)
                });
            let ordered = ordered.collect();
            all.listeners.insert(name.clone(), ordered);
        }
        all
    }

    /// For what `listener` has its issuer order: each host with the name in the store.
    pub fn of_listener(
        &self,
        listener: &ListenerName,
    ) -> impl Iterator<Item = (&HostPattern, &str)> {
        let ordered = self.listeners.get(listener).into_iter().flatten();
        ordered.map(|(host, name)| (host, name.as_str()))
    }

    /// What the development CA makes for clients of `listener` that were given an address of this machine,
    /// and so name nobody.
    pub fn nameless(&self, listener: &ListenerName) -> Option<&str> {
        let mut ordered = self.of_listener(listener);
        let is_local = |name: &str| {
            let wanted = self.wanted.get(name);
            wanted.is_some_and(|wanted| wanted.issuer.is_local())
        };
        let (_, name) = ordered.find(|(host, name)| is_here(host) && is_local(name))?;
        Some(name)
    }

    /// What the development CA makes, by name, with its hosts as certificates have them.
    pub fn local(&self) -> impl Iterator<Item = (&str, Vec<String>)> {
        let all = self.wanted.iter();
        let local = all.filter(|(_, wanted)| wanted.issuer.is_local());
        local.map(|(name, wanted)| (name.as_str(), wanted.names()))
    }

    /// What is ordered over ACME, by name.
    pub fn over_acme(&self) -> BTreeMap<String, acme::Wanted> {
        let all = self.wanted.iter();
        let ordered = all.filter(|(_, wanted)| !wanted.issuer.is_local());
        let ordered = ordered.map(|(name, wanted)| {
            let wanted = acme::Wanted {
                hosts: wanted.names(),
                issuer: wanted.issuer.to_string(),
            };
            (name.clone(), wanted)
        });
        ordered.collect()
    }

    /// Notes that `host` is wanted by a listener; gives its name in the store, which is the host unless
    /// that is something else's.
    fn want(&mut self, snapshot: &Snapshot, issuer: &IssuerName, host: &HostPattern) -> String {
        let hosts = if issuer.is_local() && is_here(host) {
            here().to_vec()
        } else {
            vec![host.clone()]
        };
        let plain = hosts.first().unwrap_or(host).to_string();
        let wanted = Wanted {
            hosts,
            issuer: issuer.clone(),
        };
        let mut named = snapshot.certificates.keys();
        let is_taken = match self.wanted.get(&plain) {
            Some(other) => *other != wanted,
            None => named.any(|name| name.as_str() == plain),
        };
        let name = if is_taken {
            // No name of the configuration has this sign.
            format!("{plain}@{issuer}")
        } else {
            plain
        };
        self.wanted.insert(name.clone(), wanted);
        name
    }
}

/// What developers call this machine. All of it stands in one certificate, so that it also answers those
/// who ask for an address.
fn here() -> [HostPattern; 3] {
    ["localhost", "127.0.0.1", "[::1]"].map(|host| HostPattern::Exact(host.to_owned()))
}

/// Whether a route for `host` is meant to be reached under what developers call this machine.
fn is_here(host: &HostPattern) -> bool {
    *host == HostPattern::Any || here().contains(host)
}

/// Whether `issuer` can be asked for `host` in advance.
fn is_ordered(snapshot: &Snapshot, issuer: &IssuerName, host: &HostPattern) -> bool {
    match snapshot.acme.get(issuer) {
        Some(acme) => acme.can_order(host),
        None => issuer.is_local() && *host != HostPattern::Any,
    }
}

/// What the named certificates of a listener stand for.
struct Named(HashSet<HostPattern>);

impl Named {
    fn of(chosen: &ListenerCertificates, snapshot: &Snapshot, names: Names<'_>) -> Self {
        let all = snapshot.certificates.iter();
        let chosen = all.filter(|(name, _)| chosen.names.has(name));
        let hosts = chosen.flat_map(|(_, certificate)| {
            if certificate.hosts.is_empty() {
                names(certificate).unwrap_or_default()
            } else {
                certificate.hosts.clone()
            }
        });
        Self(hosts.collect())
    }

    /// A wildcard of a certificate stands for one label (RFC 9525 §6.3).
    fn stands_for(&self, host: &HostPattern) -> bool {
        if self.0.contains(host) {
            return true;
        }
        let HostPattern::Exact(name) = host else {
            return false;
        };
        let parent = name.find('.').and_then(|dot| name.get(dot..));
        parent.is_some_and(|parent| self.0.contains(&HostPattern::Wildcard(parent.to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use sluice_config::{Sources, check};

    use super::*;

    const ISSUERS: &str = "[acme.one]\ndirectory = \"https://one.example/dir\"\n\
        [acme.two]\ndirectory = \"https://two.example/dir\"\nchallenge = \"dns-01\"\n\
        dns = { exec = { command = [\"/bin/true\"] } }\n";

    fn automatic(text: &str) -> Automatic {
        let report = check(
            &Sources::from_text("a.toml", &format!("{text}\n{ISSUERS}")),
            None,
        );
        let snapshot = report.snapshot;
        let snapshot = snapshot.unwrap_or_else(|| panic!("{:?}", report.problems));
        let names = |_: &Certificate| Some(vec![HostPattern::Exact("filed.example".to_owned())]);
        Automatic::of(&snapshot, &names)
    }

    /// Each name with its hosts and its issuer.
    fn wanted(automatic: &Automatic) -> Vec<(&str, String, &str)> {
        let all = automatic.wanted.iter();
        all.map(|(name, wanted)| {
            let hosts: Vec<String> = wanted.hosts.iter().map(ToString::to_string).collect();
            (name.as_str(), hosts.join(" "), wanted.issuer.as_str())
        })
        .collect()
    }

    fn listener(name: &str, certificates: &str) -> String {
        format!(
            "[listeners.{name}]\naddress = \":0\"\nprotocol = \"https\"\n\
             certificates = {certificates}\n"
        )
    }

    fn route(name: &str, hosts: &[&str]) -> String {
        format!("[routes.{name}]\nhosts = {hosts:?}\nto = \"10.0.0.1:80\"\n")
    }

    #[test]
    fn each_exact_host_of_a_listener_gets_one_that_no_named_one_stands_for() {
        let text = listener("web", "{ auto = \"one\" }")
            + &route("a", &["shop.example", "filed.example", "one.wild.example"])
            + &route("b", &["shop.example", "a.one.wild.example", "*"])
            + "[certificates.filed]\nfiles = { chain = \"c\", key = \"k\" }\n\
               [certificates.wild]\nhosts = [\"*.wild.example\"]\nauto = \"two\"\n";
        let automatic = automatic(&text);
        let expected = [
            ("a.one.wild.example", "a.one.wild.example", "one"),
            ("shop.example", "shop.example", "one"),
            ("wild", "*.wild.example", "two"),
        ];
        let expected = expected.map(|(name, hosts, issuer)| (name, hosts.to_owned(), issuer));
        assert_eq!(wanted(&automatic), expected);
        let web = ListenerName::new("web").expect("a name");
        let hosts: Vec<_> = automatic.of_listener(&web).map(|(_, name)| name).collect();
        assert_eq!(hosts, ["a.one.wild.example", "shop.example"]);
    }

    #[test]
    fn only_who_can_prove_a_wildcard_is_asked_for_one() {
        let of = |issuer: &str| {
            let certificates = format!("{{ auto = {issuer:?} }}");
            let text = listener("web", &certificates) + &route("a", &["*.shop.example"]);
            let automatic = automatic(&text);
            automatic.wanted.into_keys().collect::<Vec<_>>()
        };
        assert_eq!(of("two"), ["*.shop.example"]);
        assert_eq!(of("local"), ["*.shop.example"]);
    }

    #[test]
    fn what_two_issuers_order_for_one_host_has_two_names() {
        let text = listener("a", "{ auto = \"one\" }")
            + &listener("b", "{ auto = \"two\", names = [] }")
            + &listener("c", "{ auto = \"one\" }")
            + &route("a", &["shop.example"]);
        let automatic = automatic(&text);
        let expected = [
            ("shop.example", "shop.example".to_owned(), "one"),
            ("shop.example@two", "shop.example".to_owned(), "two"),
        ];
        assert_eq!(wanted(&automatic), expected);
    }

    #[test]
    fn a_named_certificate_keeps_its_name() {
        let text = listener("a", "{ auto = \"one\", names = [\"other\"] }")
            + &route("a", &["shop.example"])
            + "[certificates.\"shop.example\"]\nfiles = { chain = \"c\", key = \"k\" }\n\
               [certificates.other]\nfiles = { chain = \"c\", key = \"k\" }\n";
        let automatic = automatic(&text);
        assert_eq!(
            wanted(&automatic),
            [("shop.example@one", "shop.example".to_owned(), "one")]
        );
    }

    #[test]
    fn the_development_ca_is_for_this_machine_where_every_host_is_routed() {
        let web = ListenerName::new("web").expect("a name");
        let of = |hosts: &[&str]| {
            let text = listener("web", "{ auto = \"local\" }") + &route("a", hosts);
            let automatic = automatic(&text);
            let nameless = automatic.nameless(&web).map(str::to_owned);
            let wanted = wanted(&automatic).into_iter();
            let wanted = wanted.map(|(name, hosts, _)| format!("{name}: {hosts}"));
            (wanted.collect::<Vec<_>>().join("; "), nameless)
        };
        let here = "localhost: localhost 127.0.0.1 [::1]";
        for hosts in [&["*"][..], &["localhost"], &["127.0.0.1", "*"], &["[::1]"]] {
            let expected = (here.to_owned(), Some("localhost".to_owned()));
            assert_eq!(of(hosts), expected, "{hosts:?}");
        }
        let (wanted, nameless) = of(&["shop.example", "*.shop.example"]);
        assert_eq!(
            wanted,
            "*.shop.example: *.shop.example; shop.example: shop.example"
        );
        assert_eq!(nameless, None);
    }

    #[test]
    fn addresses_stand_in_certificates_without_brackets() {
        let hosts = ["[2001:db8::1]", "10.0.0.1", "shop.example"];
        let hosts = hosts.map(|host| HostPattern::Exact(host.to_owned()));
        let wanted = Wanted {
            hosts: [&hosts[..], &[HostPattern::Wildcard(".example".to_owned())]].concat(),
            issuer: IssuerName::new("one").expect("a name"),
        };
        let names = ["2001:db8::1", "10.0.0.1", "shop.example", "*.example"];
        assert_eq!(wanted.names(), names);
    }

    #[test]
    fn what_the_development_ca_makes_is_told_apart() {
        let text = listener("a", "{ auto = \"local\" }")
            + &route("a", &["shop.example"])
            + "[certificates.x]\nhosts = [\"x.example\"]\nauto = \"one\"\n";
        let automatic = automatic(&text);
        let local: Vec<_> = automatic.local().map(|(name, _)| name).collect();
        assert_eq!(local, ["shop.example"]);
    }
}
