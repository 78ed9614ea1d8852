//! What both ends of a WebSocket agree on passes the gateway, and tunnels outlive reloads of other routes.

use http::HeaderValue;
use sluice_gateway::telemetry::metrics::Counter;
use sluice_tests::{Origin, gateway, origin::Peer};

use super::peers::{self, Client, Manner, Tunnel, connect, extended};

const OFFER: &str = "permessage-deflate; client_max_window_bits, x-other; a=\"b, c\"";
const ACCEPTED: &str = "permessage-deflate; server_no_context_takeover; client_max_window_bits=12";

#[tokio::test]
async fn extensions_are_agreed_on_between_http2_and_an_http1_origin() {
    let origin = Origin::start(|mut peer: Peer| async move {
        if let Some((_, headers, _)) = peer.head().await {
            let more = format!("\r\nSec-WebSocket-Extensions: {ACCEPTED}\r\n\r\n");
            peer.send(super::switch(&headers).replace("\r\n\r\n", &more))
                .await;
            peer.echo().await;
        }
    })
    .await;
    let gateway = gateway(&super::to(origin.address())).await;
    let mut client = Client::connect(gateway.address()).await;
    let mut request = extended("websocket", "/chat");
    let offer = HeaderValue::from_static(OFFER);
    request
        .headers_mut()
        .insert("sec-websocket-extensions", offer);
    let (answer, mut tunnel) = client.ask(request).await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert_eq!(answer.headers()["sec-websocket-extensions"], ACCEPTED);
    let seen = origin.requests().remove(0);
    assert_eq!(seen.header("sec-websocket-extensions"), Some(OFFER));
    assert_eq!(seen.header("upgrade"), Some("websocket"));
    // A compressed message: a bit that means nothing without the extension.
    let frame = b"\xc1\x87\x00\x00\x00\x00\xf2\x48\xcd\xc9\xc9\x07\x00".to_vec();
    assert_eq!(tunnel.exchange(frame.clone()).await, Ok(frame));
}

/// Grants upgrades and CONNECT over HTTP/1.1, and sends back what comes.
async fn granting() -> Origin {
    Origin::start(|mut peer: Peer| async move {
        if let Some((start, headers, _)) = peer.head().await {
            if start.starts_with("CONNECT ") {
                peer.send("HTTP/1.1 200 OK\r\n\r\n").await;
            } else {
                peer.send(super::switch(&headers)).await;
            }
            peer.echo().await;
        }
    })
    .await
}

/// Says something through each, and hears it back.
async fn talk(tunnels: &mut [Tunnel], round: usize) {
    for (number, tunnel) in tunnels.iter_mut().enumerate() {
        let text = format!("round {round} of tunnel {number}");
        assert!(tunnel.write(text.clone()).await, "{text}");
        assert_eq!(tunnel.at_least(text.len()).await, text.as_bytes());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_tunnels_of_every_kind_live_through_two_hundred_reloads_of_other_routes() {
    const ROUNDS: usize = 13;
    let (one, two) = (
        granting().await,
        peers::Origin::start(true, Manner::Echo).await,
    );
    let config = |number: usize| {
        let tunnels = super::TUNNELS;
        let (one, two) = (one.address(), two.address);
        format!(
            "[routes.web]\nhosts = [\"a.example\"]\n\
             [[routes.web.rules]]\nmatch = {{ path = \"/one\" }}\nto = \"one\"\n\
             [[routes.web.rules]]\nmatch = {{ path = \"/two\" }}\nto = \"two\"\n\
             [routes.c]\nhosts = [\"c.example\"]\n{tunnels}\nto = \"one\"\n\
             [routes.d]\nhosts = [\"d.example\"]\n{tunnels}\nto = \"two\"\n\
             [routes.other]\nhosts = [\"other.example\"]\nrespond = {{ body = \"{number}\" }}\n\
             [upstreams.one]\nendpoints = [\"{one}\"]\n\
             [upstreams.two]\nendpoints = [\"{two}\"]\nprotocol = \"http2\"\n"
        )
    };
    let gateway = gateway(&config(0)).await;
    let mut clients = Vec::new();
    let mut tunnels = Vec::new();
    for _ in 0..ROUNDS {
        let mut client = Client::connect(gateway.address()).await;
        for request in [
            extended("websocket", "/one"),
            extended("websocket", "/two"),
            connect("c.example:443"),
            connect("d.example:443"),
        ] {
            tunnels.push(client.open(request).await);
        }
        clients.push(client);
    }
    talk(&mut tunnels, 0).await;
    for number in 1..=200 {
        gateway.reload(&config(number)).await;
        // Not only before and after.
        if number % 50 == 0 {
            talk(&mut tunnels, number).await;
        }
    }
    assert_eq!(gateway.get("other.example", "/").await.text(), "200");
    let opened = u64::try_from(4 * ROUNDS).expect("a number");
    assert_eq!(gateway.count(Counter::UpgradesStarted), opened);
    assert_eq!(gateway.count(Counter::UpgradesEnded), 0);
}
