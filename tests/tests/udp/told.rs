//! What endpoints are told of clients, and what is told of sessions while they go on.

use super::*;

/// How version 2 begins.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The header of version 2 in front of what `from` sends to `to`.
fn header(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let mut addresses = Vec::new();
    let protocol = match (from, to) {
        (SocketAddr::V4(from), SocketAddr::V4(to)) => {
            addresses.extend(from.ip().octets());
            addresses.extend(to.ip().octets());
            0x12
        }
        (SocketAddr::V6(from), SocketAddr::V6(to)) => {
            addresses.extend(from.ip().octets());
            addresses.extend(to.ip().octets());
            0x22
        }
        (from, to) => panic!("{from} to {to}"),
    };
    addresses.extend(from.port().to_be_bytes());
    addresses.extend(to.port().to_be_bytes());
    let length = u16::try_from(addresses.len()).expect("a few bytes");
    let head = [SIGNATURE, &[0x21, protocol], &length.to_be_bytes()].concat();
    [head, addresses].concat()
}

#[tokio::test]
async fn the_first_datagram_of_a_session_says_whose_it_is() {
    let origin = Endpoint::echo().await;
    let gateway = gateway(
        &(config("udp = { idle_timeout = \"300ms\" }", &[origin.address])
            + "proxy_protocol = \"v2\"\n"),
    )
    .await;
    let client = Client::to(place(&gateway)).await;
    let header = header(client.address(), place(&gateway));
    for said in ["one", "two", ""] {
        client.send(said).await;
        client.receive().await;
    }
    let expected = [[&header[..], b"one"].concat(), b"two".to_vec(), Vec::new()];
    let saw = || origin.saw().into_iter().map(|(_, bytes)| bytes);
    assert_eq!(saw().collect::<Vec<_>>(), expected);
    let line = gateway.log().wait(1).await.remove(0);
    // What the gateway adds is not what the client has sent; the echo of it is what the endpoint has.
    assert_eq!(
        (&line["bytes_in"], &line["datagrams_in"]),
        (&6.into(), &3.into())
    );
    assert_eq!(line["bytes_out"], 6 + header.len());
    // The next session begins with a header again, also where its datagram is empty.
    client.send("").await;
    assert_eq!(client.receive().await, header);
}

#[tokio::test]
async fn a_header_names_the_address_that_the_client_spoke_to() {
    let origin = Endpoint::echo().await;
    let told = |address| config_at(address, "", &[origin.address]) + "proxy_protocol = \"v2\"\n";
    let gateway = gateway(&told("0.0.0.0:0")).await;
    let client = Client::from("127.0.0.9:0", at("127.0.0.8", &gateway)).await;
    client.send("x").await;
    let expected = header(client.address(), at("127.0.0.8", &gateway));
    assert_eq!(client.receive().await, [&expected[..], b"x"].concat());
    if std::net::UdpSocket::bind("[::1]:0").is_err() {
        return tools::skip("IPv6: this machine has none");
    }
    let gateway = sluice_tests::gateway(&told("[::1]:0")).await;
    let client = Client::to(place(&gateway)).await;
    client.send("x").await;
    let expected = header(client.address(), place(&gateway));
    assert_eq!(client.receive().await, [&expected[..], b"x"].concat());
}

#[tokio::test]
async fn a_datagram_without_room_for_the_header_is_dropped_and_the_next_has_it() {
    let origin = Endpoint::silent().await;
    let gateway = gateway(&(config("", &[origin.address]) + "proxy_protocol = \"v2\"\n")).await;
    let client = Client::to(place(&gateway)).await;
    client.send(vec![7; 65_507]).await;
    loses(&gateway, Loss::TooLarge, 1).await;
    client.send("small").await;
    origin.got(1).await;
    let header = header(client.address(), place(&gateway));
    assert_eq!(origin.saw()[0].1, [&header[..], b"small"].concat());
    assert_eq!(reading(&gateway).opened, 1, "the session goes on");
}

#[tokio::test]
async fn who_takes_over_for_an_endpoint_that_is_not_there_is_told_too() {
    let there = Endpoint::silent().await;
    let gone = nobody().await;
    let gateway =
        gateway(&(config("", &[gone, there.address]) + "proxy_protocol = \"v2\"\n")).await;
    let client = Client::to(place(&gateway)).await;
    let header = header(client.address(), place(&gateway));
    let first = eventually_saw(&client, &there).await;
    assert_eq!(first, [&header[..], b"anybody?"].concat());
}

/// What an endpoint got first of a client that asks until it gets something.
async fn eventually_saw(client: &Client, endpoint: &Endpoint) -> Vec<u8> {
    within("a datagram", async {
        loop {
            client.send("anybody?").await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            if let Some((_, bytes)) = endpoint.saw().into_iter().next() {
                return bytes;
            }
        }
    })
    .await
}

#[tokio::test]
async fn what_moves_in_a_session_counts_while_it_goes_on() {
    let origin = Endpoint::echo().await;
    let gateway = gateway(&config(
        "udp = { idle_timeout = \"1m\" }",
        &[origin.address],
    ))
    .await;
    let client = Client::to(place(&gateway)).await;
    for (said, bytes) in [("12345", 5), ("678", 8)] {
        assert_eq!(client.ask(said).await, said);
        for (kind, name) in [("listener", "dns"), ("route", "r"), ("upstream", "u")] {
            becomes(kind, (1, bytes, bytes), || {
                let told = gateway.streams(kind, name);
                (told.active, told.bytes_in, told.bytes_out)
            })
            .await;
        }
    }
}
