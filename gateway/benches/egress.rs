//! What a decision about egress costs, and remembering it.
//!
//! Targets: 1 µs for a decision among 1,000 rules that differ by host, 10 µs where all of them are for the same
//! host or are networks and only the last one holds, 1 µs for an entry of a report that is full.
#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a measurement, and macros that generate undocumented items"
)]

use std::{
    hint::black_box,
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use criterion::{Criterion, criterion_group, criterion_main};
use sluice_config::{
    model::{self, EgressHost, EgressRule, HostPattern, Rate},
    names::EgressName,
};
use sluice_gateway::{
    egress::{Ask, Asker, Egress, Kind, Sni, Table, Target},
    limit::Limiter,
};
use tokio::time::Instant;

const RULES: usize = 1_000;

fn model(rule: impl Fn(usize) -> EgressRule) -> Arc<model::Egress> {
    Arc::new(model::Egress {
        allow: (0..RULES).map(rule).collect(),
        ..model::Egress::default()
    })
}

fn rule(number: usize, host: EgressHost) -> EgressRule {
    let name = EgressName::new(&format!("rule-{number:04}")).expect("a name");
    EgressRule::new(name, vec![host])
}

fn exact(number: usize) -> EgressRule {
    let host = format!("host-{number}.example.com");
    rule(number, EgressHost::Name(HostPattern::Exact(host)))
}

fn wildcard(number: usize) -> EgressRule {
    let suffix = format!(".host-{number}.example.com");
    rule(number, EgressHost::Name(HostPattern::Wildcard(suffix)))
}

fn same(number: usize) -> EgressRule {
    let mut rule = rule(number, EgressHost::Name(HostPattern::Any));
    if number < RULES - 1 {
        rule.from.sources = vec!["192.0.2.0/24".parse().expect("a network")];
    }
    rule
}

fn network(number: usize) -> EgressRule {
    let network = format!("93.{}.{}.0/24", number / 250, number % 250);
    let network = network.parse().expect("a network");
    rule(number, EgressHost::Network(network))
}

fn asker() -> Asker<'static> {
    Asker {
        source: IpAddr::from([10, 1, 0, 7]),
        user: Some("alice"),
        identity: None,
    }
}

fn decide(criterion: &mut Criterion) {
    type Make = fn(usize) -> EgressRule;
    let kinds: [(&str, Make, &str); 4] = [
        ("exact", exact, "host-999.example.com:443"),
        ("wildcard", wildcard, "a.b.host-999.example.com:443"),
        ("same_host", same, "host-999.example.com:443"),
        ("networks", network, "93.3.249.7:443"),
    ];
    let mut group = criterion.benchmark_group("egress");
    for (kind, make, at) in kinds {
        let table = Table::compile(Some(&model(make)));
        let (target, port) = Target::parse(at, None).expect("a target");
        let ask = Ask {
            target: &target,
            port,
            kind: Kind::Tunnel,
        };
        let decision = table.decide(&asker(), &ask);
        assert!(decision.passes(), "{kind}: {decision:?}");
        group.bench_function(format!("decide_{kind}"), |bench| {
            bench.iter(|| table.decide(black_box(&asker()), black_box(&ask)).passes());
        });
    }
    group.bench_function("parse", |bench| {
        bench.iter(|| Target::parse(black_box("api.eu.stripe.com:443"), None).is_ok());
    });
    group.finish();
}

/// All that a tunnel asks for, but for its addresses.
fn whole(criterion: &mut Criterion) {
    let mut settings = (*model(exact)).clone();
    for rule in &mut settings.allow {
        rule.rate = Some(Rate {
            count: 1_000_000,
            per: Duration::from_secs(1),
        });
    }
    let egress = Egress::compile(Some(&Arc::new(settings)), None);
    let mut group = criterion.benchmark_group("egress");
    group.bench_function("tunnel", |bench| {
        bench.iter(|| {
            let at = black_box("host-999.example.com:443");
            let (target, port) = Target::parse(at, None).expect("a target");
            let ask = |kind| Ask {
                target: &target,
                port,
                kind,
            };
            let outer = egress.attempt(&asker(), &ask(Kind::Tunnel), Instant::now());
            let inner = ask(Kind::Tls {
                name: Sni::Name("host-999.example.com"),
            });
            let decision = egress.inside(&outer, &asker(), &inner, Instant::now());
            egress.tell(&asker(), &inner, &decision, SystemTime::now());
            decision.passes()
        });
    });
    group.finish();
}

fn report(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("egress");
    for limit in [1_000, 10_000, 100_000] {
        let settings = model::Egress {
            report: limit,
            ..model::Egress::default()
        };
        let egress = Egress::compile(Some(&Arc::new(settings)), None);
        // Twice as many as there is room for, so that each time another one has to go.
        let targets: Vec<Target> = (0..limit * 2)
            .map(|number| Target::host(format!("host-{number}.example.com")).expect("a host"))
            .collect();
        let mut next = targets.iter().cycle();
        let now = SystemTime::now();
        let mut note = || {
            let target = next.next().expect("endless");
            let ask = Ask {
                target,
                port: 443,
                kind: Kind::Tunnel,
            };
            let decision = egress.table().decide(&asker(), &ask);
            egress.tell(&asker(), &ask, &decision, now);
        };
        for _ in 0..limit {
            note();
        }
        group.bench_function(format!("report_full_{limit}"), |bench| {
            bench.iter(&mut note);
        });
    }
    let limiter = Limiter::new(1_000_000, Duration::from_secs(1));
    let start = Instant::now();
    group.bench_function("limit", |bench| {
        bench.iter(|| limiter.take(black_box(start).elapsed()).is_ok());
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(700));
    targets = decide, whole, report
}
criterion_main!(benches);
