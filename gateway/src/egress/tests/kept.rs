//! What is counted and remembered, and what of that outlives a reload.

use super::*;

fn rated(count: u32) -> EgressRule {
    EgressRule {
        rate: Some(Rate {
            count,
            per: Duration::from_secs(1),
        }),
        ..rule("rated", &["api.example"])
    }
}

fn attempt(egress: &Egress, at: &str, kind: Kind<'_>, now: Instant) -> Decision {
    let (target, port) = Target::parse(at, None).expect(at);
    let target = &target;
    egress.attempt(&asker(), &Ask { target, port, kind }, now)
}

#[test]
fn a_rate_bounds_its_rule_and_says_when_to_come_again() {
    let egress = running(model(vec![rated(2), rule("free", &["free.example"])]), None);
    let now = Instant::now();
    let at = |now| attempt(&egress, "api.example:443", Kind::Tunnel, now);
    assert_eq!(told(&at(now)), by("rated"));
    assert_eq!(told(&at(now)), by("rated"));
    let third = at(now);
    assert_eq!(told(&third), not("rated", Why::Rate));
    assert!(!third.passes());
    let wait = third.wait.expect("a while");
    assert_eq!(wait, Duration::from_millis(500));
    assert_eq!(
        told(&attempt(&egress, "free.example:443", Kind::Tunnel, now)),
        by("free")
    );
    assert_eq!(told(&at(now + wait)), by("rated"));
}

#[test]
fn what_is_inside_a_tunnel_is_counted_once_towards_its_rate() {
    let egress = running(model(vec![rated(1)]), None);
    let (target, port) = Target::parse("api.example:443", None).unwrap();
    let ask = |kind| Ask {
        target: &target,
        port,
        kind,
    };
    let now = Instant::now();
    let outer = egress.attempt(&asker(), &ask(Kind::Tunnel), now);
    assert!(outer.passes());
    let inner = egress.inside(&outer, &asker(), &ask(tls("api.example")), now);
    assert_eq!(told(&inner), by("rated"));
    let again = egress.attempt(&asker(), &ask(Kind::Tunnel), now);
    assert_eq!(again.why(), Some(Why::Rate));
}

#[test]
fn in_the_shadow_a_rate_is_told_and_passes() {
    let mut model = model(vec![rated(1)]);
    model.mode = EgressMode::Shadow;
    let egress = running(model, None);
    let now = Instant::now();
    assert!(attempt(&egress, "api.example:443", Kind::Tunnel, now).passes());
    let second = attempt(&egress, "api.example:443", Kind::Tunnel, now);
    assert_eq!(second.why(), Some(Why::Rate));
    assert!(second.shadow && second.passes());
    // Everything but its rate allows it, so it goes where the rule leads.
    assert_eq!(second.led_by(), Some(&name("rated")));
}

#[test]
fn a_bucket_outlives_a_reload_that_leaves_its_rate() {
    let now = Instant::now();
    let tries = |egress: &Egress| {
        let attempts = (0..10).map(|_| attempt(egress, "api.example:443", Kind::Tunnel, now));
        attempts.filter(Decision::passes).count()
    };
    let first = running(model(vec![rated(3)]), None);
    assert_eq!(tries(&first), 3);
    let same = running(model(vec![rated(3)]), Some(&first));
    assert!(Arc::ptr_eq(&first, &same));
    let other = running(model(vec![rated(3), rule("wide", &["*"])]), Some(&first));
    assert!(!Arc::ptr_eq(&first, &other));
    // A rule that is out of its rate is not passed over for a wider one.
    assert_eq!(tries(&other), 0);
    let wider = running(model(vec![rated(5)]), Some(&other));
    assert_eq!(tries(&wider), 5);
}

fn seen(egress: &Egress, at: &str, kind: Kind<'_>, seconds: u64) {
    let (target, port) = Target::parse(at, None).expect(at);
    let ask = Ask {
        target: &target,
        port,
        kind,
    };
    let decision = egress.attempt(&asker(), &ask, Instant::now());
    egress.tell(&asker(), &ask, &decision, moment(seconds));
}

fn moment(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// The hosts of the report, in its order.
fn hosts(egress: &Egress) -> Vec<String> {
    let all = egress.report().read().into_iter();
    all.map(|it| {
        it.target
            .map_or_else(String::new, |target| target.to_string())
    })
    .collect()
}

#[test]
fn the_report_says_who_asked_for_what_and_what_came_of_it() {
    let mut limited = rated(1);
    limited.protocols = TLS;
    let egress = running(model(vec![limited]), None);
    seen(&egress, "api.example:443", tls("api.example"), 10);
    seen(&egress, "api.example:443", tls("api.example"), 20);
    seen(&egress, "API.example:443", tls("evil.test"), 30);
    seen(&egress, "other.example:80", GET, 15);
    egress.tell_unreadable(&asker(), moment(40));
    let all = egress.report().read();
    assert_eq!(hosts(&egress), ["", "api.example", "other.example"]);
    let [unreadable, api, other] = &all[..] else {
        panic!("{all:?}");
    };
    assert_eq!((unreadable.refused, unreadable.why), (1, Some(Why::Target)));
    assert_eq!((api.allowed, api.refused, api.shadow), (1, 2, 0));
    assert_eq!(api.why, Some(Why::SniMismatch));
    assert_eq!((api.first, api.last), (moment(10), moment(30)));
    assert_eq!((api.source, api.port), (SOURCE, 443));
    assert_eq!(api.rule, Some(name("rated")));
    assert!(api.spoken.tls && !api.spoken.http && !api.spoken.tcp);
    assert_eq!((other.refused, &other.rule), (1, &None));
    assert!(other.spoken.http);

    let counts: Vec<_> = egress.counts().collect();
    let counts: Vec<_> = counts
        .iter()
        .map(|(rule, it)| (rule.map(EgressName::as_str), it.allowed, it.refused))
        .collect();
    assert_eq!(counts, [(None, 0, 2), (Some("rated"), 1, 2)]);
}

#[test]
fn in_a_full_report_what_was_seen_least_recently_makes_room() {
    let mut model = model(vec![rule("all", &["*"])]);
    model.report = 3;
    let egress = running(model, None);
    for at in ["a.x:443", "b.x:443", "c.x:443", "a.x:443", "d.x:443"] {
        seen(&egress, at, Kind::Tunnel, 1);
    }
    assert_eq!(hosts(&egress), ["a.x", "c.x", "d.x"]);
    assert_eq!(egress.report().forgotten(), 1);
    for at in ["c.x:443", "e.x:443", "f.x:443"] {
        seen(&egress, at, Kind::Tunnel, 2);
    }
    assert_eq!(hosts(&egress), ["c.x", "e.x", "f.x"]);
}

#[test]
fn a_report_outlives_reloads_shrinks_and_can_be_off() {
    let with = |report, previous: Option<&Arc<Egress>>| {
        let mut model = model(vec![rule("all", &["*"])]);
        model.report = report;
        running(model, previous)
    };
    let large = with(100, None);
    for number in 0..50 {
        seen(&large, &format!("h{number:02}.x:443"), Kind::Tunnel, 1);
    }
    let small = with(2, Some(&large));
    assert_eq!(small.report().read().len(), 50);
    for _ in 0..20 {
        seen(&small, "h00.x:443", Kind::Tunnel, 1);
    }
    assert_eq!(hosts(&small), ["h00.x", "h49.x"]);
    let counts = small.counts().last().unwrap().1;
    assert_eq!(counts.allowed, 70);

    let off = with(0, Some(&small));
    seen(&off, "a.x:443", Kind::Tunnel, 1);
    assert_eq!(off.report().read(), []);
    assert_eq!(off.counts().last().unwrap().1.allowed, 71);
}

proptest! {
    /// Against the plainest table there is: a list, the latest last.
    #[test]
    fn the_report_keeps_what_was_seen_last(
        limit in 1_usize..8,
        seen_hosts in prop::collection::vec(0_u8..12, 0..100),
    ) {
        let mut model = model(vec![rule("all", &["*"])]);
        model.report = limit;
        let egress = running(model, None);
        let mut plain: Vec<(String, u64)> = Vec::new();
        for number in seen_hosts {
            let text = format!("h{number:02}.x");
            seen(&egress, &format!("{text}:443"), Kind::Tunnel, 1);
            let known = plain.iter().position(|(known, _)| *known == text);
            let before = known.map_or(0, |position| plain.remove(position).1);
            plain.push((text, before + 1));
            if plain.len() > limit {
                plain.remove(0);
            }
        }
        plain.sort();
        let found: Vec<(String, u64)> = egress
            .report()
            .read()
            .into_iter()
            .map(|it| (it.target.unwrap().to_string(), it.allowed))
            .collect();
        prop_assert_eq!(found, plain);
    }
}
