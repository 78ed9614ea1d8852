use sluice_config::{Sources, check, names::EgressName};

use super::*;

const CONFIG: &str = r#"
[listeners.proxy]
address = "127.0.0.1:3128"
protocol = "forward-proxy"

[listeners.asking]
address = "127.0.0.1:3129"
protocol = "forward-proxy"
basic = { users = { shop = "$2b$04$......................KJQVhCZQGdVGLHxZbiCa.wbXpfTzDDi" } }

[listeners.redirected]
address = "127.0.0.1:3130"
protocol = "transparent"

[egress.allow.payments]
hosts = "api.example.com"
protocols = "tls"
rate = "50/s"
from = { sources = "10.0.1.0/24" }

[egress.allow.packages]
hosts = ["deb.example.com", "*.deb.example.com"]
methods = "GET"
paths = { prefix = "/debian" }

[egress.allow.search]
hosts = "search.example.com"
protocols = "http"
tls = true

[egress.allow.mail]
hosts = "*"
ports = 587
protocols = "tcp"
addresses = "10.20.0.0/16"

[egress.allow.far]
hosts = "far.example.com"
via = "outer"

[egress.allow.users]
hosts = "users.example.com"
from = { users = "shop" }

[upstreams.outer]
endpoints = ["10.0.0.9:3128"]
"#;

/// What is said of an attempt that comes from 10.0.1.5, with these edits.
fn said(method: &str, target: &str, edit: impl FnOnce(&mut AskedEgress)) -> EgressReport {
    explained(CONFIG, method, target, edit)
}

fn explained(
    config: &str,
    method: &str,
    target: &str,
    edit: impl FnOnce(&mut AskedEgress),
) -> EgressReport {
    let report = check(&Sources::from_text("sluice.toml", config), None);
    assert_eq!(report.problems, []);
    let mut asked = AskedEgress {
        method: method.to_owned(),
        target: target.to_owned(),
        client: Some([10, 0, 1, 5].into()),
        user: None,
        identity: None,
        sni: None,
        listener: ListenerName::new("proxy").ok(),
    };
    if matches!(method, "TLS" | "TCP") {
        asked.listener = None;
    }
    edit(&mut asked);
    explain_egress(&report.snapshot.unwrap(), &asked).unwrap()
}

/// `by RULE`, `by default`, or the reason with the word for what was missing.
fn outcome(report: &EgressReport) -> String {
    let rule = report.rule.as_ref().map(EgressName::as_str);
    match &report.answer {
        EgressAnswer::Pass { shadow: None, .. } => format!("by {}", rule.unwrap_or("default")),
        EgressAnswer::Pass {
            shadow: Some(it), ..
        } => format!("shadow {}", it.reason),
        EgressAnswer::Refuse(it) => format!("{} {}", it.status, it.reason),
    }
}

#[test]
fn an_attempt_is_allowed_by_a_rule_or_refused() {
    for (method, target, expected) in [
        ("CONNECT", "api.example.com:443", "by payments"),
        ("CONNECT", "API.example.com:443", "by payments"),
        ("CONNECT", "api.example.com:8443", "403 egress_refused"),
        ("CONNECT", "other.example.com:443", "403 egress_refused"),
        ("CONNECT", "other.example.com:587", "by mail"),
        ("CONNECT", "api.example.com", "400 egress_target"),
        ("CONNECT", "api.example.com.:443", "400 egress_target"),
        ("CONNECT", "2130706433:443", "400 egress_target"),
        ("CONNECT", "127.0.0.1:443", "403 egress_refused"),
        ("CONNECT", "deb.example.com:443", "403 egress_refused"),
        ("GET", "http://deb.example.com/debian/pool", "by packages"),
        (
            "GET",
            "http://a.deb.example.com/x/../debian/",
            "by packages",
        ),
        (
            "GET",
            "http://deb.example.com/debian-security",
            "403 egress_refused",
        ),
        ("PUT", "http://deb.example.com/debian", "403 egress_refused"),
        ("GET", "https://deb.example.com/debian", "400 egress_target"),
        ("GET", "http://search.example.com/", "by search"),
        ("TLS", "api.example.com:443", "by payments"),
        ("TCP", "api.example.com:443", "403 egress_refused"),
        ("TLS", "far.example.com:443", "by far"),
    ] {
        let report = said(method, target, |_| {});
        assert_eq!(outcome(&report), expected, "{method} {target}\n{report}");
    }
}

#[test]
fn what_is_said_inside_of_a_tunnel_is_decided_about_too() {
    for (sni, expected) in [
        ("api.example.com", "by payments"),
        ("other.example.com", "403 egress_refused"),
        ("", "403 egress_refused"),
    ] {
        let report = said("CONNECT", "api.example.com:443", |asked| {
            asked.sni = Some(sni.to_owned());
        });
        assert_eq!(outcome(&report), expected, "{sni}\n{report}");
        assert_eq!(report.inside, []);
    }
    let report = said("CONNECT", "api.example.com:443", |_| {});
    let inside: Vec<_> = report.inside.iter().map(|it| it.refused).collect();
    assert_eq!(inside, [None, Some("protocol")], "{report}");
}

#[test]
fn what_is_inside_may_be_connected_to_what_both_rules_list() {
    let config = "[listeners.proxy]\naddress = \"127.0.0.1:1\"\nprotocol = \"forward-proxy\"\n\
                  [egress.allow.tls]\nhosts = \"a.example\"\nprotocols = \"tls\"\n\
                  addresses = [\"10.0.0.0/8\", \"192.168.7.0/24\"]\n\
                  [egress.allow.tcp]\nhosts = \"*\"\nprotocols = \"tcp\"\nports = 443\n\
                  addresses = [\"10.1.0.0/16\", \"172.16.0.0/12\"]\n";
    let report = explained(config, "CONNECT", "a.example:443", |_| {});
    assert_eq!(outcome(&report), "by tls");
    let inside = |report: &EgressReport| {
        let all = report.inside.iter();
        let all = all.map(|it| (it.rule.clone().unwrap().to_string(), it.addresses.clone()));
        all.collect::<Vec<_>>()
    };
    let both: Vec<IpNet> = vec!["10.1.0.0/16".parse().unwrap()];
    let own: Vec<IpNet> = ["10.0.0.0/8", "192.168.7.0/24"]
        .map(|it| it.parse().unwrap())
        .to_vec();
    assert_eq!(
        inside(&report),
        [("tls".to_owned(), own), ("tcp".to_owned(), both)]
    );
    let text = report.to_string();
    let expected = "  + TLS for a.example: allowed by tls\n  \
                    + anything else: allowed by tcp, to a public address, or one in 10.1.0.0/16\n";
    assert!(text.contains(expected), "{text}");

    // Where anything may be spoken nobody looks at what it is.
    let config = config.replace("[\"10.1.0.0/16\", \"172.16.0.0/12\"]", "\"0.0.0.0/0\"");
    let report = explained(&config, "CONNECT", "a.example:443", |asked| {
        asked.sni = Some("other.example".to_owned());
    });
    assert_eq!(outcome(&report), "by tcp");
}

#[test]
fn it_says_how_it_goes_out() {
    let way = |method, target| match said(method, target, |_| {}).answer {
        EgressAnswer::Pass {
            port,
            addresses,
            via,
            tls,
            rate,
            shadow: None,
        } => (port, addresses.len(), via.is_some(), tls, rate.is_some()),
        refused => panic!("{refused:?}"),
    };
    assert_eq!(
        way("CONNECT", "api.example.com:443"),
        (443, 0, false, false, true)
    );
    assert_eq!(
        way("GET", "http://search.example.com/"),
        (443, 0, false, true, false)
    );
    assert_eq!(
        way("CONNECT", "mail.example.org:587"),
        (587, 1, false, false, false)
    );
    assert_eq!(
        way("CONNECT", "far.example.com:443"),
        (443, 0, true, false, false)
    );
}

#[test]
fn who_somebody_is_counts_where_the_listener_asks() {
    let asked = |listener: &'static str, user: Option<&'static str>| {
        said("CONNECT", "users.example.com:443", |asked| {
            asked.listener = ListenerName::new(listener).ok();
            asked.user = user.map(str::to_owned);
        })
    };
    assert_eq!(outcome(&asked("asking", None)), "407 proxy_authentication");
    assert_eq!(
        outcome(&asked("asking", Some("ship"))),
        "407 proxy_authentication"
    );
    assert_eq!(outcome(&asked("asking", Some("shop"))), "by users");
    let unasked = asked("proxy", Some("shop"));
    assert_eq!(outcome(&unasked), "403 egress_refused");
    assert_eq!(unasked.candidates[0].lacks, Some("user"), "{unasked}");
    assert!(
        unasked.to_string().contains("--user says nothing"),
        "{unasked}"
    );
}

#[test]
fn without_rules_everything_public_is_allowed_and_in_the_shadow_everything_public_passes() {
    let proxy = "[listeners.proxy]\naddress = \"127.0.0.1:1\"\nprotocol = \"forward-proxy\"\n";
    let shadow = format!("{proxy}[egress]\nmode = \"shadow\"\n");
    for (config, target, expected) in [
        (proxy, "a.example:443", "by default"),
        (proxy, "a.example:22", "403 egress_refused"),
        (proxy, "10.0.0.1:443", "403 egress_address"),
        (proxy, "localhost:443", "403 egress_address"),
        (&shadow, "a.example:22", "shadow egress_refused"),
        (&shadow, "169.254.169.254:443", "403 egress_address"),
    ] {
        let report = explained(config, "CONNECT", target, |_| {});
        assert_eq!(outcome(&report), expected, "{target}\n{report}");
    }
}

#[test]
fn in_the_shadow_what_passes_is_not_led_by_a_rule_that_refuses_it() {
    let shadow = format!("[egress]\nmode = \"shadow\"\naddresses = \"10.9.0.0/16\"\n{CONFIG}");
    let way = |target| {
        let report = explained(&shadow, "CONNECT", target, |asked| {
            asked.client = Some([10, 0, 2, 5].into());
        });
        match report.answer {
            EgressAnswer::Pass {
                addresses,
                via,
                rate,
                shadow: Some(_),
                ..
            } => (addresses.len(), via.is_some(), rate.is_some()),
            answer => panic!("{target}: {answer:?}"),
        }
    };
    for target in [
        "api.example.com:443",
        "far.example.com:444",
        "users.example.com:443",
        "a.example:22",
    ] {
        assert_eq!(way(target), (1, false, false), "{target}");
    }
    let inside = explained(&shadow, "CONNECT", "far.example.com:443", |asked| {
        asked.sni = Some("evil.test".to_owned());
    });
    assert_eq!(outcome(&inside), "403 egress_refused", "{inside}");
}

#[test]
fn a_report_names_each_rule_for_the_host_and_what_it_lacks() {
    let report = said("CONNECT", "api.example.com:443", |asked| {
        asked.client = Some([10, 0, 2, 5].into());
    });
    assert_eq!(
        report.to_string(),
        "egress    CONNECT api.example.com:443\n\
         client    10.0.2.5\n\
         listener  proxy (127.0.0.1:3128, forward-proxy)\n\
         target    api.example.com, port 443\n\
         \n\
         candidates, in the order in which they are asked\n  \
         - payments: not this source\n  \
         - mail: not this port\n\
         \n\
         refused with 403 egress_refused: no rule allows to go there (source)\n"
    );
    let report = said("GET", "http://search.example.com/", |_| {});
    let text = report.to_string();
    assert!(
        text.ends_with(
            "\nallowed by search\n  to port 443 of a public address\n  inside of TLS, which begins here\n"
        ),
        "{text}"
    );
}
