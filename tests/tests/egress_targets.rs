//! How hostile targets are read, and what is decided about them.

use std::{net::IpAddr, sync::Arc};

use sluice_config::{
    model::{Egress, EgressHost, EgressRule, HostPattern},
    names::EgressName,
};
use sluice_gateway::egress::{Ask, Asker, Kind, Table, Target, Why};
use sluice_tests::{
    asked::Asked,
    targets::{Fate, TARGETS},
};

/// Allows a wide lot, and nothing of what it could be mistaken for.
fn table() -> Table {
    let name = EgressName::new("wide").expect("a name");
    let exact = |text: &str| EgressHost::Name(HostPattern::Exact(text.to_owned()));
    let hosts = vec![
        exact("example.com"),
        exact("api.stripe.com"),
        exact("apple.example"),
        EgressHost::Network("0.0.0.0/0".parse().expect("a network")),
        EgressHost::Network("::/0".parse().expect("a network")),
    ];
    Table::compile(Some(&Arc::new(Egress {
        allow: vec![EgressRule {
            ports: Some(vec![1..=65535]),
            ..EgressRule::new(name, hosts)
        }],
        ..Egress::default()
    })))
}

#[test]
fn hostile_targets_are_read_as_what_they_are_or_not_at_all() {
    assert!(TARGETS.len() >= 150, "{}", TARGETS.len());
    for (text, fate) in TARGETS {
        match (Target::parse(text, Some(443)), fate) {
            (Err(_), Fate::Unreadable) => {}
            (Ok((target, _)), Fate::Inner | Fate::Plain(_)) => {
                if let Fate::Plain(shown) = fate {
                    assert_eq!(target.to_string(), *shown, "{text:?}");
                }
            }
            (read, _) => panic!("{text:?}: {read:?} instead of {fate:?}"),
        }
    }
}

#[test]
fn hostile_targets_reach_nothing_that_is_not_public_and_no_other_name() {
    let table = table();
    let asker = Asker {
        source: IpAddr::from([10, 0, 0, 1]),
        user: None,
        identity: None,
    };
    for (text, fate) in TARGETS {
        let Ok((target, port)) = Target::parse(text, None) else {
            continue;
        };
        let ask = Ask {
            target: &target,
            port,
            kind: Kind::Tunnel,
        };
        let why = table.decide(&asker, &ask).why();
        let public = matches!(target, Target::Address(_)) || target.to_string() == "example.com";
        let expected = match fate {
            Fate::Plain(_) if public => None,
            // It is a name that nobody wrote down, or this machine, for which there is no rule.
            Fate::Plain(_) => Some(Why::Host),
            Fate::Inner if target.is_loopback_name() => Some(Why::Host),
            Fate::Inner | Fate::Unreadable => Some(Why::Address),
        };
        assert_eq!(why, expected, "{text:?}");
    }
}

#[tokio::test]
async fn a_gateway_that_runs_lets_none_of_them_out() {
    let asked = Asked::start(
        "[listeners.proxy]\naddress = \"{address}\"\nprotocol = \"forward-proxy\"\n\
         [access_log]\noutput = \"off\"\n\
         [egress.allow.some]\nhosts = [\"api.stripe.com\", \"10.0.0.0/8\", \"::/0\"]\nports = \"1-65535\"\n",
    )
    .await;
    for (text, fate) in TARGETS {
        // What is public and allowed would be dialled, which is none of this test's business.
        if *fate == Fate::Plain("[2606:4700::1111]") || *fate == Fate::Plain("[2606:4700::abcd]") {
            continue;
        }
        let mut client = asked.running.connect().await;
        let request = format!("CONNECT {text} HTTP/1.1\r\nhost: {text}\r\n\r\n");
        client.send(&request).await;
        let status = client.try_reply("CONNECT").await.ok().map(|it| it.status);
        match fate {
            Fate::Inner | Fate::Plain(_) => assert_eq!(status, Some(403), "{text:?}"),
            // Some are not even one request.
            Fate::Unreadable => assert!(
                status.is_none_or(|status| (400..500).contains(&status) && status != 403),
                "{text:?}: {status:?}"
            ),
        }
    }
    let report = asked.get("/egress").await;
    let all = report["destinations"].as_array().expect("a list");
    let allowed = all.iter().filter(|it| it["allowed"] != 0);
    assert_eq!(allowed.count(), 0, "{all:?}");
}

#[test]
fn the_table_has_each_target_once() {
    let mut texts: Vec<&str> = TARGETS.iter().map(|(text, _)| *text).collect();
    texts.sort_unstable();
    let before = texts.len();
    texts.dedup();
    assert_eq!(texts.len(), before);
}
