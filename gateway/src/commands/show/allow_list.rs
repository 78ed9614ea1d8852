//! Rules for `[egress]`, made of what clients asked for.
//!
//! What must stay true: clients chose what is printed here, and somebody will put it into a configuration. So
//! only what is a target becomes a rule, nothing is allowed that is not public, and no text is more than a text.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    net::IpAddr,
};

use sluice_config::names::MAX_NAME;
use sluice_gateway::egress::Target;

use super::egress::Seen;

/// What is known of one host.
#[derive(Default)]
struct Host<'s> {
    sources: BTreeSet<IpAddr>,
    ports: BTreeSet<u16>,
    protocols: BTreeSet<&'static str>,
    /// Whether at some port nobody came so far as to say something.
    guessed: bool,
    /// Why attempts were refused that the rule would not allow either.
    reasons: BTreeSet<&'s str>,
    inner: bool,
}

/// Reasons that no host, port or protocol in a rule does away with, and what would.
const LASTING: [(&str, &str); 4] = [
    (
        "address",
        "it resolves to addresses that are not public: only `addresses` lets it",
    ),
    (
        "sni_absent",
        "TLS named nobody: only `without_sni = true` lets it",
    ),
    (
        "sni_encrypted",
        "TLS hid its name: only `encrypted_client_hello = true` lets it",
    ),
    (
        "sni_mismatch",
        "TLS was for another name than the tunnel: only `tcp` in `protocols` lets it",
    ),
];

/// One rule for each host, in the order of their names.
pub(super) fn allow_list(seen: &[Seen]) -> String {
    let mut hosts: BTreeMap<String, Host<'_>> = BTreeMap::new();
    let mut unreadable = 0_usize;
    for it in seen {
        let target = it.host.as_ref().and_then(|host| Target::host(host).ok());
        let Some(target) = target else {
            unreadable = unreadable.saturating_add(1);
            continue;
        };
        let text = match &target {
            Target::Name(name) => name.to_string(),
            Target::Address(address) => address.to_string(),
        };
        let host = hosts.entry(text).or_default();
        host.inner |= it.public == Some(false) || target.is_loopback_name();
        host.sources.insert(it.source);
        host.ports.insert(it.port);
        let words = ["http", "tls", "tcp"].into_iter();
        let spoken: Vec<_> = words
            .filter(|word| it.protocols.iter().any(|known| known == word))
            .collect();
        host.guessed |= spoken.is_empty();
        host.protocols.extend(spoken);
        host.reasons.extend(it.reason.as_deref());
    }
    let mut text = String::new();
    let mut names = BTreeSet::new();
    for (host, known) in &hosts {
        write(&mut text, &mut names, host, known);
    }
    if unreadable > 0 {
        let line = format!("# Of {unreadable} clients the target could not be read.\n");
        text.push_str(&line);
    }
    text
}

fn write(text: &mut String, names: &mut BTreeSet<String>, host: &str, known: &Host<'_>) {
    if known.inner {
        let line = format!("# {host} is not public: nothing is allowed here.\n\n");
        text.push_str(&line);
        return;
    }
    for (reason, remedy) in LASTING {
        if known.reasons.contains(reason) {
            text.extend(["# Refused (", reason, "): ", remedy, ".\n"]);
        }
    }
    let mut protocols = known.protocols.clone();
    if known.guessed {
        text.push_str(
            "# Nothing was said inside some tunnels: that they are for TLS is a guess.\n",
        );
        protocols.insert("tls");
    }
    let sources = known
        .sources
        .iter()
        .map(|source| quoted(&source.to_string()));
    let ports = known.ports.iter().map(u16::to_string);
    let protocols = protocols.iter().map(|word| quoted(word));
    let written = writeln!(
        text,
        "[egress.allow.{}]\nhosts = [{}]\nports = [{}]\nprotocols = [{}]\nfrom = {{ sources = [{}] }}\n",
        quoted(&name(names, host)),
        quoted(host),
        list(ports),
        list(protocols),
        list(sources),
    );
    debug_assert!(written.is_ok(), "a text takes everything");
}

fn list(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(", ")
}

/// A basic string of TOML. Nothing that comes here needs to be escaped, and this does not rely on it.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    // `${` would be a variable of the environment.
    for char in text.replace("${", "$${").chars() {
        match char {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            char if char.is_control() => {
                quoted.extend([format!("\\u{:04X}", u32::from(char))]);
            }
            char => quoted.push(char),
        }
    }
    quoted.push('"');
    quoted
}

/// A name for the rule of a host that no other rule here has.
fn name(taken: &mut BTreeSet<String>, host: &str) -> String {
    /// Leaves room for a number.
    const LONGEST: usize = MAX_NAME - 8;
    let plain = |char: char| char.is_ascii_alphanumeric() || "._-".contains(char);
    let fits = |char| if plain(char) { char } else { '-' };
    let mut base: String = host.chars().map(fits).take(LONGEST).collect();
    if !base.starts_with(|char: char| char.is_ascii_alphanumeric()) {
        base.insert(0, 'x');
    }
    let mut name = base.clone();
    let mut number = 1_usize;
    while !taken.insert(name.clone()) {
        number = number.saturating_add(1);
        name = format!("{base}-{number}");
    }
    name
}

#[cfg(test)]
mod tests {
    use sluice_config::{Sources, check};
    use sluice_gateway::egress::{Ask, Asker, Kind, Sni, Table};

    use super::*;

    fn seen(source: &str, host: &str, port: u16, protocols: &[&str]) -> Seen {
        Seen {
            source: source.parse().expect("an address"),
            host: Some(host.to_owned()),
            port,
            public: None,
            protocols: protocols.iter().map(|&word| word.to_owned()).collect(),
            reason: None,
        }
    }

    fn table(text: &str) -> Table {
        let config = format!("{text}\n[routes.app]\nto = \"10.0.0.5:80\"\n");
        let report = check(&Sources::from_text("sluice.toml", config.as_str()), None);
        assert_eq!(report.problems, [], "{text}");
        Table::compile(report.snapshot.expect("good").egress.as_ref())
    }

    fn passes(table: &Table, source: &str, at: &str, kind: Kind<'_>) -> bool {
        let (target, port) = Target::parse(at, None).expect("a target");
        let asker = Asker {
            source: source.parse().expect("an address"),
            user: None,
            identity: None,
        };
        let target = &target;
        table.decide(&asker, &Ask { target, port, kind }).passes()
    }

    #[test]
    fn what_was_seen_is_allowed_and_nothing_else() {
        let text = allow_list(&[
            seen("10.1.0.7", "api.stripe.com", 443, &["tls"]),
            seen("10.1.0.8", "api.stripe.com", 8443, &["tls"]),
            seen("10.1.0.7", "deb.example", 80, &["http"]),
            seen("10.1.0.7", "db.example", 5432, &["tcp"]),
            seen("10.1.0.7", "[2606:4700::1111]", 443, &[]),
        ]);
        let table = table(&text);
        let get = Kind::Http {
            method: "GET",
            path: "/",
        };
        let tls = Kind::Tls {
            name: Sni::Name("api.stripe.com"),
        };
        for (source, at, kind, expected) in [
            ("10.1.0.7", "api.stripe.com:443", tls, true),
            ("10.1.0.8", "api.stripe.com:8443", tls, true),
            ("10.1.0.9", "api.stripe.com:443", tls, false),
            ("10.1.0.7", "api.stripe.com:444", tls, false),
            ("10.1.0.7", "api.stripe.com:443", get, false),
            ("10.1.0.7", "deb.example:80", get, true),
            ("10.1.0.7", "db.example:5432", Kind::Tcp, true),
            ("10.1.0.7", "db.example:5432", get, false),
            ("10.1.0.7", "[2606:4700::1111]:443", Kind::Tunnel, true),
            ("10.1.0.7", "other.example:443", tls, false),
        ] {
            assert_eq!(passes(&table, source, at, kind), expected, "{at}\n{text}");
        }
        assert!(text.contains("is a guess"), "{text}");
    }

    #[test]
    fn nothing_but_public_targets_becomes_a_rule() {
        let inner = Seen {
            public: Some(false),
            ..seen("10.1.0.7", "169.254.169.254", 80, &["http"])
        };
        let nobody = Seen {
            host: None,
            ..seen("10.1.0.7", "", 0, &[])
        };
        let text = allow_list(&[
            inner,
            nobody,
            seen("10.1.0.7", "localhost", 80, &["http"]),
            seen("10.1.0.7", "a\"]\nhosts = [\"*", 443, &["tls"]),
            seen("10.1.0.7", "*", 443, &["tls"]),
            seen(
                "10.1.0.7",
                "a\n[egress]\ndefault = \"allow\"",
                443,
                &["tls"],
            ),
            seen("10.1.0.7", "${HOME}", 443, &["tls"]),
            seen("10.1.0.7", "a.example", 443, &["tls\"]", "everything"]),
        ]);
        let table = table(&text);
        assert_eq!(table.rules().len(), 1, "{text}");
        assert!(text.contains("# 169.254.169.254 is not public"), "{text}");
        assert!(text.contains("# Of 5 clients"), "{text}");
    }

    #[test]
    fn what_a_rule_would_not_change_is_told() {
        let refused = |reason: &str| Seen {
            reason: Some(reason.to_owned()),
            ..seen("10.1.0.7", "a.example", 443, &["tls"])
        };
        let text = allow_list(&[refused("host"), refused("sni_absent"), refused("address")]);
        assert!(text.contains("# Refused (sni_absent)"), "{text}");
        assert!(text.contains("# Refused (address)"), "{text}");
        assert!(!text.contains("(host)"), "{text}");
    }

    #[test]
    fn rules_have_names_of_their_own_however_long_or_odd_their_hosts() {
        let label = "a".repeat(60);
        let long = |end: &str| format!("{label}.{label}.{label}.{end}");
        let hosts = [long("one"), long("two"), "_srv.example".to_owned()];
        let all: Vec<Seen> = hosts
            .iter()
            .map(|host| seen("10.1.0.7", host, 443, &["tls"]))
            .collect();
        let text = allow_list(&all);
        assert_eq!(table(&text).rules().len(), 3, "{text}");
    }

    #[test]
    fn a_text_stays_a_text() {
        assert_eq!(quoted("a\"\\\n\u{7f}${b}"), r#""a\"\\\u000A\u007F$${b}""#);
    }
}
