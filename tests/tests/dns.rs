//! Endpoints by name: a name server by hand on loopback, and what the gateway makes of its answers.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use sluice_gateway::telemetry::metrics::Counter;
use sluice_tests::{
    Gateway, Origin,
    eventually::eventually,
    gateway,
    name_server::{Answer, NameServer},
};
use tokio::{net::TcpListener, time::Instant};

/// Origins on one port of several loopback addresses, each of which answers with its address.
async fn origins<const N: usize>(addresses: [Ipv4Addr; N]) -> (u16, Vec<Origin>) {
    for _ in 0..50 {
        let first = TcpListener::bind((addresses[0], 0)).await.expect("a port");
        let port = first.local_addr().expect("an address").port();
        let mut listeners = vec![first];
        for address in &addresses[1..] {
            if let Ok(listener) = TcpListener::bind((*address, port)).await {
                listeners.push(listener);
            }
        }
        if listeners.len() < N {
            continue;
        }
        let origins = listeners
            .into_iter()
            .map(|listener| {
                let me = listener.local_addr().expect("an address").ip().to_string();
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{me}",
                    me.len()
                );
                Origin::on(listener, move |mut peer| {
                    let answer = answer.clone();
                    async move {
                        while peer.request().await.is_some() {
                            peer.send(&answer).await;
                        }
                    }
                })
            })
            .collect();
        return (port, origins);
    }
    panic!("no port is free on all of {addresses:?}");
}

const A1: Ipv4Addr = Ipv4Addr::LOCALHOST;
const A2: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const A3: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

fn to(name: &str, port: u16) -> String {
    format!("[routes.r]\nto = \"{name}:{port}\"\n")
}

/// Who answers, over some requests.
async fn answering(gateway: &Gateway) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for _ in 0..8 {
        names.insert(gateway.get("a", "/").await.text());
    }
    names
}

async fn becomes_answered_by<const N: usize>(gateway: &Gateway, wanted: [Ipv4Addr; N]) {
    let wanted: BTreeSet<String> = wanted.iter().map(|a| IpAddr::V4(*a).to_string()).collect();
    let deadline = Instant::now() + sluice_tests::PATIENCE;
    loop {
        let got = answering(gateway).await;
        if got == wanted {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "wanted {wanted:?}, still {got:?}"
        );
    }
}

#[tokio::test]
async fn all_addresses_of_a_name_are_used_and_followed_when_they_change() {
    let (port, _origins) = origins([A1, A2, A3]).await;
    let names = NameServer::start().await;
    names.says("app.test", Answer::Addresses(vec![A1, A2], 0));
    let gateway = gateway(&format!("{}{}", to("app.test", port), names.config())).await;
    becomes_answered_by(&gateway, [A1, A2]).await;
    names.says("app.test", Answer::Addresses(vec![A3, A2], 0));
    becomes_answered_by(&gateway, [A2, A3]).await;
}

#[tokio::test]
async fn addresses_are_kept_while_the_name_does_not_resolve() {
    let (port, _origins) = origins([A1]).await;
    let names = NameServer::start().await;
    names.says("app.test", Answer::Addresses(vec![A1], 0));
    let gateway = gateway(&format!("{}{}", to("app.test", port), names.config())).await;
    becomes_answered_by(&gateway, [A1]).await;
    for failure in [Answer::NoSuchName, Answer::Silence] {
        let failures = gateway.count(Counter::DnsFailures);
        names.says("app.test", failure);
        gateway.counts(Counter::DnsFailures, failures + 2).await;
        becomes_answered_by(&gateway, [A1]).await;
    }
}

#[tokio::test]
async fn a_name_that_does_not_resolve_stops_nothing_and_is_found_later() {
    let (port, _origins) = origins([A1]).await;
    let names = NameServer::start().await;
    let gateway = gateway(&format!("{}{}", to("late.test", port), names.config())).await;
    let reply = gateway.get("a", "/").await;
    assert_eq!(reply.status, 503);
    names.says("late.test", Answer::Addresses(vec![A1], 0));
    becomes_answered_by(&gateway, [A1]).await;
}

#[tokio::test]
async fn a_request_waits_for_the_first_answer() {
    let (port, _origins) = origins([A1]).await;
    let names = NameServer::start().await;
    names.says("slow.test", Answer::Silence);
    let config = names.config_with("timeout = \"10s\"");
    let gateway = gateway(&format!("{}{config}", to("slow.test", port))).await;
    let (reply, ()) = tokio::join!(gateway.get("a", "/"), async {
        // It was asked once and said nothing; the resolver asks again.
        eventually("the name is asked for", || {
            (names.asked() > 0).then_some(())
        })
        .await;
        names.says("slow.test", Answer::Addresses(vec![A1], 60));
    });
    assert_eq!((reply.status, reply.text().as_str()), (200, "127.0.0.1"));
}

#[tokio::test]
async fn a_request_does_not_wait_for_a_silent_name_server_forever() {
    let names = NameServer::start().await;
    names.says("slow.test", Answer::Silence);
    let config = names.config_with("timeout = \"500ms\"");
    let gateway = gateway(&format!("{}{config}", to("slow.test", 80))).await;
    let started = Instant::now();
    let reply = gateway.get("a", "/").await;
    assert_eq!(reply.status, 503);
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_name_server_that_ignores_questions_for_ipv6_is_good_enough() {
    let (port, _origins) = origins([A1]).await;
    let names = NameServer::start().await;
    names.says("old.test", Answer::OnlyIpv4(vec![A1]));
    let config = names.config_with("timeout = \"5s\"");
    let gateway = gateway(&format!("{}{config}", to("old.test", port))).await;
    let started = Instant::now();
    assert_eq!(gateway.get("a", "/").await.text(), "127.0.0.1");
    assert!(started.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn another_address_of_the_name_is_tried_when_one_refuses() {
    let (port, _origins) = origins([A2]).await;
    let names = NameServer::start().await;
    names.says("half.test", Answer::Addresses(vec![A2, A3], 60));
    let gateway = gateway(&format!("{}{}", to("half.test", port), names.config())).await;
    for _ in 0..10 {
        assert_eq!(gateway.get("a", "/").await.text(), "127.0.0.2");
    }
}

#[tokio::test]
async fn look_ups_keep_to_the_time_to_live_within_bounds() {
    let names = NameServer::start().await;
    names.says("still.test", Answer::Addresses(vec![A1], 3600));
    names.says("restless.test", Answer::Addresses(vec![A1], 0));
    let quick = names.config_with("min_refresh = \"100ms\"");
    // An hour, bounded by a minute: once is enough for this test.
    let still = gateway(&format!("{}{quick}", to("still.test", 80))).await;
    eventually("it is asked for", || (names.asked() == 1).then_some(())).await;
    // A time to live of nothing: bounded by 100 ms.
    let restless = gateway(&format!("{}{quick}", to("restless.test", 80))).await;
    let started = Instant::now();
    eventually("it is asked for", || (names.asked() >= 6).then_some(())).await;
    assert!(started.elapsed() >= Duration::from_millis(400));
    drop((still, restless));
}

#[tokio::test]
async fn a_name_nobody_refers_to_any_more_is_not_looked_up_any_more() {
    let names = NameServer::start().await;
    names.says("gone.test", Answer::Addresses(vec![A1], 0));
    let config = names.config();
    let gateway = gateway(&format!("{}{config}", to("gone.test", 80))).await;
    eventually("it is asked for", || (names.asked() >= 2).then_some(())).await;
    gateway
        .reload(&format!(
            "[routes.r]\nrespond = {{ status = 200 }}\n{config}"
        ))
        .await;
    let deadline = Instant::now() + sluice_tests::PATIENCE;
    loop {
        let before = names.asked();
        // Several times the longest time between two look-ups.
        tokio::time::sleep(Duration::from_secs(1)).await;
        if names.asked() == before {
            return;
        }
        assert!(Instant::now() < deadline, "the name is still looked up");
    }
}
