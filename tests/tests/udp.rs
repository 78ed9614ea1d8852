//! Datagrams through the gateway, as a client, an endpoint, the access log and the metrics see them.

#[path = "udp/peers.rs"]
mod peers;
#[path = "udp/told.rs"]
mod told;
#[path = "udp/workers.rs"]
mod workers;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use peers::{Client, Endpoint, nobody};
use sluice_gateway::telemetry::metrics::{DatagramReading, Loss};
use sluice_tests::{
    Gateway,
    eventually::{becomes, eventually, within},
    gateway,
    named::Named,
    tools,
};

/// A listener `dns` with these settings, and a route to these endpoints.
fn config(settings: &str, endpoints: &[SocketAddr]) -> String {
    config_at("127.0.0.1:0", settings, endpoints)
}

fn config_at(address: &str, settings: &str, endpoints: &[SocketAddr]) -> String {
    let endpoints: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
    format!(
        "[listeners.dns]\naddress = {address:?}\nprotocol = \"udp\"\n{settings}\n\
         [routes.r]\nlisteners = [\"dns\"]\nto = \"u\"\n\
         [upstreams.u]\nendpoints = {endpoints:?}\n"
    )
}

fn place(gateway: &Gateway) -> SocketAddr {
    gateway.address_of("dns").expect("there is a listener dns")
}

/// From an address of its own to a port of the gateway.
fn at(ip: &str, gateway: &Gateway) -> SocketAddr {
    SocketAddr::new(ip.parse().expect("an address"), place(gateway).port())
}

fn reading(gateway: &Gateway) -> DatagramReading {
    gateway.datagrams("dns")
}

async fn loses(gateway: &Gateway, loss: Loss, count: u64) {
    let what = format!("{count} datagrams lost as {}", loss.word());
    becomes(&what, count, || reading(gateway).lost(loss)).await;
}

#[tokio::test]
async fn datagrams_of_every_size_come_back_as_they_were() {
    let origin = Endpoint::echo().await;
    let gateway = gateway(&config("", &[origin.address])).await;
    let client = Client::to(place(&gateway)).await;
    let sizes = [0, 1, 512, 1472, 1473, 9000, 65_506, 65_507];
    for size in sizes {
        let sent: Vec<u8> = (0..size).map(|n| u8::try_from(n % 251).unwrap()).collect();
        client.send(&sent).await;
        assert_eq!(client.receive().await.len(), size);
        assert_eq!(origin.saw().last().expect("it got one").1, sent);
    }
    let from: BTreeSet<_> = origin.saw().into_iter().map(|(from, _)| from).collect();
    assert_eq!(from.len(), 1, "one session, one socket");
    let bytes = sizes.iter().sum::<usize>().try_into().unwrap();
    let reading = reading(&gateway);
    assert_eq!(reading.inward, (8, bytes));
    assert_eq!(reading.outward, (8, bytes));
    assert_eq!((reading.opened, reading.active), (1, 1));
}

#[tokio::test]
async fn every_client_socket_has_a_session_of_its_own_and_hears_only_its_answers() {
    let origin = Endpoint::echo().await;
    let gateway = gateway(&config("", &[origin.address])).await;
    let mut clients = Vec::new();
    for _ in 0..40 {
        clients.push(Client::to(place(&gateway)).await);
    }
    for round in 0..5 {
        for (number, client) in clients.iter().enumerate() {
            client.send(format!("{number} {round}")).await;
        }
        for (number, client) in clients.iter().enumerate() {
            let answer = client.receive().await;
            assert_eq!(answer, format!("{number} {round}").into_bytes());
        }
    }
    let from: BTreeSet<_> = origin.saw().into_iter().map(|(from, _)| from).collect();
    assert_eq!(from.len(), 40);
    assert_eq!(reading(&gateway).active, 40);
}

#[tokio::test]
async fn a_session_in_which_nothing_moves_ends_and_has_one_line() {
    let origin = Endpoint::echo().await;
    let gateway = gateway(&config(
        "udp = { idle_timeout = \"300ms\" }",
        &[origin.address],
    ))
    .await;
    let client = Client::to(place(&gateway)).await;
    assert_eq!(client.ask("one").await, "one");
    assert_eq!(client.ask("three").await, "three");

    let lines = gateway.log().wait(1).await;
    let line = &lines[0];
    assert_eq!(line["scheme"], "udp");
    assert_eq!(line["listener"], "dns");
    assert_eq!(line["peer"], client.address().to_string());
    assert_eq!(
        (&line["bytes_in"], &line["bytes_out"]),
        (&8.into(), &8.into())
    );
    assert_eq!(
        (&line["datagrams_in"], &line["datagrams_out"]),
        (&2.into(), &2.into())
    );
    assert_eq!(
        (&line["route"], &line["upstream"]),
        (&"r".into(), &"u".into())
    );
    assert_eq!(line["endpoint"], origin.address.to_string());
    assert!(line["verdict"].is_null(), "{line}");
    assert!(line["duration_ms"].as_f64().unwrap() >= 300.0, "{line}");
    assert_eq!(reading(&gateway).active, 0);
    for (kind, name) in [("listener", "dns"), ("route", "r"), ("upstream", "u")] {
        let told = gateway.streams(kind, name);
        assert_eq!((told.requests(), told.bytes_in), (1, 8), "{kind}");
    }

    assert_eq!(client.ask("again").await, "again");
    let from = origin.got(3).await;
    assert_eq!(from[0], from[1]);
    assert_ne!(from[1], from[2], "a new session has a new socket");
}

#[tokio::test]
async fn what_moves_keeps_a_session() {
    let origin = Endpoint::echo().await;
    let gateway = gateway(&config(
        "udp = { idle_timeout = \"400ms\" }",
        &[origin.address],
    ))
    .await;
    let client = Client::to(place(&gateway)).await;
    client.send("first").await;
    client.receive().await;
    let session = origin.got(1).await[0];
    // Answers alone do, too.
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        origin.send(b"news", session).await;
        assert_eq!(client.receive().await, b"news");
    }
    assert_eq!(reading(&gateway).opened, 1);
}

#[tokio::test]
async fn one_shot_ends_with_the_answer_to_what_was_asked() {
    let origin = Endpoint::start("127.0.0.1:0", |bytes| {
        vec![bytes.to_vec(), b"more".to_vec()]
    })
    .await;
    let settings = "udp = { one_shot = true, idle_timeout = \"1m\" }";
    let gateway = gateway(&config(settings, &[origin.address])).await;
    let client = Client::to(place(&gateway)).await;
    assert_eq!(client.ask("question").await, "question");
    client.hears_nothing().await;
    let line = gateway.log().wait(1).await.remove(0);
    assert_eq!(
        (&line["datagrams_in"], &line["datagrams_out"]),
        (&1.into(), &1.into())
    );
    assert!(line["verdict"].is_null(), "{line}");
    assert_eq!(reading(&gateway).active, 0);

    assert_eq!(client.ask("question").await, "question");
    let from = origin.got(2).await;
    assert_ne!(from[0], from[1], "no socket is used for two sessions");
}

#[tokio::test]
async fn one_shot_waits_for_as_many_answers_as_there_were_questions() {
    let origin = Endpoint::echo().await;
    let settings = "udp = { one_shot = true, idle_timeout = \"1m\" }";
    let gateway = gateway(&config(settings, &[origin.address])).await;
    let client = Client::to(place(&gateway)).await;
    // As resolvers do, who ask for both kinds of addresses from one socket.
    client.send("A").await;
    client.send("AAAA").await;
    let answers: BTreeSet<_> = [client.receive().await, client.receive().await].into();
    assert_eq!(answers, [b"A".to_vec(), b"AAAA".to_vec()].into());
}

#[tokio::test]
async fn one_shot_without_an_answer_is_told_so() {
    let origin = Endpoint::silent().await;
    let settings = "udp = { one_shot = true, idle_timeout = \"200ms\" }";
    let gateway = gateway(&config(settings, &[origin.address])).await;
    Client::to(place(&gateway)).await.send("question").await;
    let line = gateway.log().wait_for("verdict", "response_timeout").await;
    assert_eq!(line["endpoint"], origin.address.to_string());
}

#[tokio::test]
async fn the_number_of_sessions_is_bounded_and_nobody_is_put_out() {
    let origin = Endpoint::echo().await;
    let settings = "udp = { sessions = 2, idle_timeout = \"1m\" }";
    let gateway = gateway(&config(settings, &[origin.address])).await;
    let (a, b) = (
        Client::to(place(&gateway)).await,
        Client::to(place(&gateway)).await,
    );
    assert_eq!(a.ask("a").await, "a");
    assert_eq!(b.ask("b").await, "b");
    let third = Client::to(place(&gateway)).await;
    for _ in 0..20 {
        third.send("c").await;
    }
    loses(&gateway, Loss::Sessions, 20).await;
    third.hears_nothing().await;
    assert_eq!(a.ask("a again").await, "a again");
    assert_eq!(b.ask("b again").await, "b again");
    let reading = reading(&gateway);
    assert_eq!((reading.opened, reading.active), (2, 2));
}

#[tokio::test]
async fn one_client_has_only_so_many_sessions() {
    let origin = Endpoint::echo().await;
    let settings = "udp = { sessions_per_client = 1, idle_timeout = \"1m\" }";
    let gateway = gateway(&config(settings, &[origin.address])).await;
    let first = Client::from("127.0.0.1:0", place(&gateway)).await;
    assert_eq!(first.ask("first").await, "first");
    let second = Client::from("127.0.0.1:0", place(&gateway)).await;
    second.send("second").await;
    loses(&gateway, Loss::SessionsPerClient, 1).await;
    let other = Client::from("127.0.0.2:0", place(&gateway)).await;
    assert_eq!(other.ask("other").await, "other");
}

#[tokio::test]
async fn answers_leave_from_the_address_that_the_client_spoke_to() {
    let origin = Endpoint::echo().await;
    let gateway = gateway(&config_at("0.0.0.0:0", "", &[origin.address])).await;
    // A connected socket hears nothing that comes from elsewhere. The same port for each, so that only our
    // address tells their sessions apart.
    let own = "127.0.0.1:0";
    for ip in ["127.0.0.1", "127.0.0.2", "127.9.8.7"] {
        let client = Client::from(own, at(ip, &gateway)).await;
        assert_eq!(client.ask(ip).await, ip);
    }
    let one = Client::from(own, at("127.0.0.5", &gateway)).await;
    assert_eq!(one.ask("one").await, "one");
    let same = one.address().to_string();
    drop(one);
    let other = Client::from(&same, at("127.0.0.6", &gateway)).await;
    assert_eq!(other.ask("other").await, "other");
    assert_eq!(reading(&gateway).opened, 5);
}

#[tokio::test]
async fn both_families_come_in_by_one_socket() {
    let origin = Endpoint::start("[::1]:0", |bytes| vec![bytes.to_vec()]).await;
    let gateway = gateway(&config_at("[::]:0", "", &[origin.address])).await;
    for (own, ip) in [
        ("127.0.0.1:0", "127.0.0.3"),
        ("127.0.0.4:0", "127.0.0.1"),
        ("[::1]:0", "::1"),
    ] {
        let client = Client::from(own, at(ip, &gateway)).await;
        assert_eq!(client.ask(ip).await, ip);
    }
}

#[tokio::test]
async fn ipv6_alone_and_to_an_endpoint_of_ipv4() {
    let origin = Endpoint::echo().await;
    let gateway = gateway(&config_at(
        "[::1]:0",
        "udp = { idle_timeout = \"100ms\" }",
        &[origin.address],
    ))
    .await;
    let client = Client::to(place(&gateway)).await;
    assert_eq!(client.ask("six").await, "six");
    let line = gateway.log().wait(1).await.remove(0);
    assert_eq!(line["client"], "::1");
}

#[tokio::test]
async fn nobody_but_the_endpoint_can_answer() {
    let (origin, stranger) = (Endpoint::silent().await, Endpoint::silent().await);
    let gateway = gateway(&config("", &[origin.address])).await;
    let client = Client::to(place(&gateway)).await;
    client.send("question").await;
    let session = origin.got(1).await[0];
    stranger.send(b"a lie", session).await;
    client.hears_nothing().await;
    origin.send(b"the truth", session).await;
    assert_eq!(client.receive().await, b"the truth");
    assert_eq!(reading(&gateway).outward.0, 1);
}

#[tokio::test]
async fn who_is_not_there_loses_its_session_and_another_endpoint_takes_over() {
    let there = Endpoint::named("there").await;
    for balance in ["round-robin", "ring-hash"] {
        let gone = nobody().await;
        let config = config("", &[gone, there.address]) + &format!("balance = {balance:?}\n");
        let gateway = Gateway::start(&config, 1).await;
        // Many clients, so that some of them belong to the one that is gone however they are spread.
        for n in 1..=20 {
            let client = Client::from(&format!("127.0.1.{n}:0"), place(&gateway)).await;
            assert_eq!(client.ask_until("anybody?", |_| true).await, "there");
        }
        let line = gateway.log().wait_for("verdict", "connect").await;
        assert_eq!(line["endpoint"], gone.to_string());
        // Who comes later is not sent there again.
        let lines = gateway.log().lines();
        let failed = lines.iter().filter(|line| line["verdict"] == "connect");
        assert!(failed.count() <= 2, "{balance}: {lines:#?}");
    }
}

#[tokio::test]
async fn a_ring_keeps_clients_with_their_endpoint_whatever_becomes_of_others() {
    let mut origins = Vec::new();
    for name in ["a", "b", "c", "d"] {
        origins.push(Endpoint::named(name).await);
    }
    let addresses: Vec<_> = origins.iter().map(|origin| origin.address).collect();
    let ring = |endpoints: &[SocketAddr]| {
        config(
            "udp = { idle_timeout = \"1m\" }\nstream = { drain = \"0s\" }",
            endpoints,
        ) + "balance = \"ring-hash\"\n"
    };
    let gateway = Gateway::start(&ring(&addresses), 2).await;
    let owners = async || {
        let mut owners = BTreeMap::new();
        for n in 1..=60 {
            let ip = format!("127.0.2.{n}");
            for _ in 0..3 {
                let client = Client::from(&format!("{ip}:0"), place(&gateway)).await;
                let owner = client.ask("who?").await;
                let before = owners.insert(ip.clone(), owner.clone());
                assert!(before.is_none_or(|before| before == owner), "{ip} moved");
            }
        }
        owners
    };
    let before = owners().await;
    let used: BTreeSet<_> = before.values().collect();
    assert_eq!(used.len(), 4, "{before:?}");

    gateway.reload(&ring(&addresses[1..])).await;
    let after = owners().await;
    for (client, owner) in &before {
        if owner != "a" {
            assert_eq!(&after[client], owner, "{client}");
        }
    }
}

#[tokio::test]
async fn clients_are_routed_by_where_they_come_from() {
    let (a, b) = (Endpoint::named("a").await, Endpoint::named("b").await);
    let config = format!(
        "[listeners.dns]\naddress = \"127.0.0.1:0\"\nprotocol = \"udp\"\n\
         [routes.r]\nlisteners = [\"dns\"]\n\
         [[routes.r.rules]]\nmatch = {{ client = \"127.0.3.0/24\" }}\nto = \"{}\"\n\
         [[routes.r.rules]]\nmatch = {{ client = \"127.0.4.0/24\" }}\nto = \"{}\"\n",
        a.address, b.address
    );
    let gateway = gateway(&config).await;
    let from = async |ip: &str| Client::from(&format!("{ip}:0"), place(&gateway)).await;
    assert_eq!(from("127.0.3.1").await.ask("?").await, "a");
    assert_eq!(from("127.0.4.1").await.ask("?").await, "b");
    from("127.0.5.1").await.send("?").await;
    loses(&gateway, Loss::NoRoute, 1).await;
    assert_eq!(reading(&gateway).opened, 2);
}

#[tokio::test]
async fn clients_are_routed_by_which_of_our_addresses_they_speak_to() {
    let (a, b) = (Endpoint::named("a").await, Endpoint::named("b").await);
    let config = format!(
        "[listeners.dns]\naddress = \"0.0.0.0:0\"\nprotocol = \"udp\"\n\
         [routes.r]\nlisteners = [\"dns\"]\n\
         [[routes.r.rules]]\nmatch = {{ destination = \"127.0.3.0/24\" }}\nto = \"{}\"\n\
         [[routes.r.rules]]\n\
         match = {{ destination = \"127.0.4.1\", client = \"127.0.5.1\", destination_port = \"1-65535\" }}\n\
         to = \"{}\"\n",
        a.address, b.address
    );
    let gateway = gateway(&config).await;
    let between = async |own: &str, ip: &str| Client::from(own, at(ip, &gateway)).await;
    assert_eq!(
        between("127.0.0.1:0", "127.0.3.9").await.ask("?").await,
        "a"
    );
    assert_eq!(
        between("127.0.5.1:0", "127.0.4.1").await.ask("?").await,
        "b"
    );
    // One socket of a client that speaks to two of ours has two sessions.
    let one = tokio::net::UdpSocket::bind("127.0.5.1:0")
        .await
        .expect("a port");
    for (ip, name) in [("127.0.3.1", "a"), ("127.0.4.1", "b")] {
        let (mut buffer, to) = ([0; 8], at(ip, &gateway));
        one.send_to(b"?", to).await.expect("it goes out");
        let heard = within("an answer", one.recv_from(&mut buffer)).await;
        let (length, from) = heard.expect("a datagram");
        assert_eq!((&buffer[..length], from), (name.as_bytes(), to));
    }
    assert_eq!(reading(&gateway).opened, 4);
    for (own, ip) in [("127.0.5.2:0", "127.0.4.1"), ("127.0.5.1:0", "127.0.4.2")] {
        between(own, ip).await.send("?").await;
    }
    loses(&gateway, Loss::NoRoute, 2).await;
}

#[tokio::test]
async fn a_session_lasts_as_long_as_it_may_and_no_longer() {
    let origin = Endpoint::echo().await;
    let gateway = gateway(&config(
        "udp = { idle_timeout = \"200ms\" }\nstream = { max_duration = \"1s\" }",
        &[origin.address],
    ))
    .await;
    let client = Client::to(place(&gateway)).await;
    let started = tokio::time::Instant::now();
    while started.elapsed() < Duration::from_millis(1500) {
        // What comes back to a session that is just over is lost.
        client.ask_until("busy", |answer| answer == "busy").await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let line = gateway.log().wait_for("verdict", "stream_expired").await;
    let lasted = line["duration_ms"].as_f64().expect("a number");
    assert!((1000.0..3000.0).contains(&lasted), "{line}");
    let from: BTreeSet<_> = origin.saw().into_iter().map(|(from, _)| from).collect();
    assert!(from.len() > 1, "the next datagram began another session");
}

#[tokio::test]
async fn sessions_are_split_by_weight() {
    let (a, b) = (Endpoint::named("a").await, Endpoint::named("b").await);
    let config = format!(
        "[listeners.dns]\naddress = \"127.0.0.1:0\"\nprotocol = \"udp\"\n\
         [routes.r]\nlisteners = [\"dns\"]\n\
         to = [{{ address = \"{}\", weight = 9 }}, {{ address = \"{}\", weight = 1 }}]\n",
        a.address, b.address
    );
    let gateway = gateway(&config).await;
    let mut answers = BTreeMap::<String, u32>::new();
    for _ in 0..300 {
        let client = Client::to(place(&gateway)).await;
        *answers.entry(client.ask("?").await).or_default() += 1;
    }
    assert!((10..=60).contains(&answers["b"]), "{answers:?}");
}

#[tokio::test]
async fn a_reload_leaves_sessions_of_unchanged_routes_alone() {
    let (origin, extra) = (Endpoint::echo().await, Endpoint::echo().await);
    let one = config("", &[origin.address]);
    let gateway = gateway(&one).await;
    let client = Client::to(place(&gateway)).await;
    assert_eq!(client.ask("before").await, "before");
    let more = format!(
        "{one}[listeners.more]\naddress = \"127.0.0.1:0\"\nprotocol = \"udp\"\n\
         [routes.more]\nlisteners = [\"more\"]\nto = \"{}\"\n",
        extra.address
    );
    gateway.reload(&more).await;
    let added = gateway.address_of("more").expect("it was added");
    assert_eq!(Client::to(added).await.ask("new").await, "new");
    assert_eq!(client.ask("after").await, "after");
    let from = origin.got(2).await;
    assert_eq!(from[0], from[1], "the same session");
}

#[tokio::test]
async fn sessions_of_a_route_that_changed_end_after_their_grace() {
    let (old, new) = (Endpoint::named("old").await, Endpoint::named("new").await);
    let settings = "stream = { drain = \"300ms\" }";
    let gateway = gateway(&config(settings, &[old.address])).await;
    let client = Client::to(place(&gateway)).await;
    assert_eq!(client.ask("?").await, "old");
    gateway.reload(&config(settings, &[new.address])).await;
    let fresh = Client::to(place(&gateway)).await;
    assert_eq!(
        fresh.ask("?").await,
        "new",
        "who is new gets the new one at once"
    );
    assert_eq!(client.ask_until("?", |answer| answer == "new").await, "new");
    let line = gateway.log().wait_for("verdict", "draining").await;
    assert_eq!(line["endpoint"], old.address.to_string());
}

#[tokio::test]
async fn a_listener_that_is_gone_lets_its_sessions_finish_and_comes_back() {
    let origin = Endpoint::echo().await;
    let port = sluice_tests::process::free_port();
    let with = config_at(
        &format!("127.0.0.1:{port}"),
        "stream = { drain = \"20s\" }",
        &[origin.address],
    );
    let without =
        "[listeners.web]\naddress = \"127.0.0.1:0\"\n[routes.r]\nrespond = { body = \"ok\" }\n";
    let gateway = gateway(&with).await;
    let address = place(&gateway);
    let client = Client::to(address).await;
    assert_eq!(client.ask("before").await, "before");

    gateway.reload(without).await;
    assert_eq!(gateway.address_of("dns"), None);
    assert_eq!(client.ask("finishing").await, "finishing");
    let late = Client::to(address).await;
    late.send("new").await;
    late.hears_nothing().await;

    gateway.reload(&with).await;
    assert_eq!(late.ask("there again").await, "there again");
    assert_eq!(client.ask("still").await, "still");
    let from = origin.got(4).await;
    assert_eq!(from[0], from[3], "the same session all along");
}

#[tokio::test]
async fn a_listener_without_sessions_gives_its_port_back() {
    let origin = Endpoint::echo().await;
    let gateway = gateway(&config("", &[origin.address])).await;
    let address = place(&gateway);
    gateway
        .reload("[routes.r]\nrespond = { body = \"ok\" }\n")
        .await;
    eventually("the port is free", || {
        std::net::UdpSocket::bind(address).ok()
    })
    .await;
}

#[tokio::test]
async fn a_port_that_somebody_else_has_is_refused() {
    let origin = Endpoint::echo().await;
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    let taken = taken
        .local_addr()
        .map(|at| (taken, at))
        .expect("an address");
    let gateway = gateway("[routes.r]\nrespond = { body = \"ok\" }\n").await;
    let config = config_at(&taken.1.to_string(), "", &[origin.address]);
    let problems = gateway.try_reload(&config).await.expect_err("refused");
    assert!(problems.contains("listeners.dns.address"), "{problems}");
}

#[tokio::test]
async fn stopping_waits_for_answers_and_tells_of_sessions_that_go_on() {
    let origin = Endpoint::silent().await;
    let settings = "udp = { one_shot = true, idle_timeout = \"1m\" }\nstream = { drain = \"1m\" }";
    let mut gateway = gateway(&config(settings, &[origin.address])).await;
    let log = gateway.log();
    let (asks, waits) = (
        Client::to(place(&gateway)).await,
        Client::to(place(&gateway)).await,
    );
    asks.send("question").await;
    let session = origin.got(1).await[0];
    waits.send("never answered").await;
    origin.got(2).await;
    let (in_time, ()) = tokio::join!(gateway.drain(Duration::from_millis(600)), async {
        // It has begun to stop when nobody new is let in.
        tokio::time::sleep(Duration::from_millis(200)).await;
        origin.send(b"answer", session).await;
        assert_eq!(asks.receive().await, b"answer");
    });
    assert!(!in_time, "one of them was not over");
    let lines = log.lines();
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(lines[0]["verdict"].is_null(), "{lines:#?}");
    assert_eq!(lines[1]["verdict"], "draining");
}

#[tokio::test]
async fn a_flood_of_strangers_costs_others_nothing() {
    let origin = Endpoint::echo().await;
    let settings = "udp = { sessions = 100, idle_timeout = \"1m\" }";
    let gateway = gateway(&config(settings, &[origin.address])).await;
    let client = Client::to(place(&gateway)).await;
    assert_eq!(client.ask("before").await, "before");
    // Each datagram from a socket of its own: as many clients as a flood that lies about its sender.
    let done = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let flood = tokio::task::spawn_blocking({
        let (address, done) = (place(&gateway), std::sync::Arc::clone(&done));
        move || {
            let mut sent = 0;
            while sent < 5_000 || !done.load(std::sync::atomic::Ordering::Relaxed) {
                let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
                socket.send_to(b"flood", address).expect("it goes out");
                sent += 1;
            }
        }
    });
    for _ in 0..50 {
        assert_eq!(client.ask("during").await, "during");
    }
    done.store(true, std::sync::atomic::Ordering::Relaxed);
    flood.await.expect("it ran");
    let reading = reading(&gateway);
    assert_eq!(reading.active, 100);
    assert!(reading.lost(Loss::Sessions) > 1_000, "{reading:?}");
}

#[tokio::test]
async fn dig_resolves_through_the_gateway() {
    if !tools::are_there(&["dig"]) {
        return;
    }
    let Some(named) = Named::start().await else {
        return;
    };
    let gateway = gateway(&config("udp = { one_shot = true }", &[named.address])).await;
    let folder = tempfile::tempdir().expect("a folder");
    let mut dig = tools::program("dig", folder.path());
    let port = place(&gateway).port().to_string();
    dig.args([
        "@127.0.0.1",
        "-p",
        &port,
        "+notcp",
        "+tries=1",
        "+short",
        "any-name.example",
    ]);
    let output = tools::run(dig).await;
    assert_eq!(tools::said(&output).trim(), "127.0.0.1");
    let line = gateway.log().wait(1).await.remove(0);
    assert!(line["verdict"].is_null(), "{line}");
    assert_eq!(
        (&line["datagrams_in"], &line["datagrams_out"]),
        (&1.into(), &1.into())
    );
}
