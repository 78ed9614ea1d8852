//! Endpoints that speak HTTP/2 and break its rules for messages: one response suffers, and no other on
//! the same connection.

use fluke_hpack::Decoder;
use sluice_tests::{
    Client, Gateway, Origin,
    client::NoReply,
    h2::wire::{
        data, flag, frame, head, index, indexed_field, kind, request, settings, settings_ack,
    },
    origin::Peer,
};

/// Reads the next frame: its type, its stream and its contents.
async fn next(peer: &mut Peer, pending: &mut Vec<u8>) -> Option<(u8, u32, Vec<u8>)> {
    loop {
        if let Some(front) = pending.get(..9) {
            let length = usize::from(front[1]) << 8 | usize::from(front[2]);
            if pending.len() >= 9 + length {
                let whole: Vec<u8> = pending.drain(..9 + length).collect();
                let stream = u32::from_be_bytes([whole[5], whole[6], whole[7], whole[8]]);
                return Some((whole[3], stream, whole[9..].to_vec()));
            }
        }
        let more = peer.take(1).await;
        if more.is_empty() {
            return None;
        }
        pending.extend(more);
    }
}

/// `:status: 200`, then what is behind it.
fn ok(behind: &[u8]) -> Vec<u8> {
    [&[0x88], behind].concat()
}

/// The answer to a path, in frames.
fn answer(stream: u32, path: &str) -> Vec<u8> {
    let whole = |block: &[u8]| request(stream, block);
    let trailers = |block: &[u8]| {
        [
            head(stream, &ok(&[])),
            data(stream, "part"),
            request(stream, block),
        ]
        .concat()
    };
    match path {
        "/first" => whole(&ok(&indexed_field(b"x-kept", b"yes"))),
        "/kept" => whole(&ok(&index(62))),
        // Takes a place in the table before the one that is to be known later.
        "/name" => whole(&ok(&[
            &indexed_field(b"X-Upper", b"y")[..],
            &indexed_field(b"x-kept", b"name"),
        ]
        .concat())),
        "/value" => whole(&ok(&[
            &indexed_field(b"x-bad", b"\0")[..],
            &indexed_field(b"x-kept", b"value"),
        ]
        .concat())),
        "/pseudo" => trailers(&[0x88]),
        "/trailer" => trailers(b"\x00\x01X\x01y"),
        "/interim" => {
            let early = head(stream, b"\x08\x03103\x00\x01x\x01y");
            let late = frame(
                kind::HEADERS,
                flag::END_HEADERS | flag::END_STREAM,
                stream,
                &ok(&[]),
            );
            [early, late].concat()
        }
        "/trailers" => trailers(b"\x00\x05x-sum\x017"),
        other => panic!("nobody asks for {other}"),
    }
}

/// Answers by path; `/slow` when all others have been asked for.
async fn origin() -> Origin {
    Origin::start(|mut peer: Peer| async move {
        let mut pending = peer.take(24).await.split_off(24);
        let (mut decoder, mut slow) = (Decoder::new(), 0);
        peer.send([settings(&[]), settings_ack()].concat()).await;
        while let Some((kind, stream, contents)) = next(&mut peer, &mut pending).await {
            if kind != kind::HEADERS {
                continue;
            }
            let fields = decoder.decode(&contents).expect("a header block");
            let path = fields.into_iter().find(|(name, _)| name == b":path");
            let path = String::from_utf8(path.expect("a path").1).expect("text");
            match &*path {
                "/slow" => slow = stream,
                "/last" => {
                    peer.send([request(stream, &ok(&[])), request(slow, &ok(&[]))].concat())
                        .await;
                }
                path => {
                    peer.send(answer(stream, path)).await;
                }
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_malformed_response_of_an_endpoint_costs_no_other_on_its_connection() {
    let origin = origin().await;
    let config = format!(
        "[routes.r]\nto = \"u\"\n[upstreams.u]\nendpoints = [\"{}\"]\nprotocol = \"http2\"\n",
        origin.address()
    );
    // One worker, so that all go over one connection.
    let gateway = Gateway::start(&config, 1).await;
    let mut patient = Client::connect(gateway.address()).await;
    patient
        .send("GET /slow HTTP/1.1\r\nHost: a.example\r\n\r\n")
        .await;

    let kept = async |path: &str| {
        let reply = gateway.get("a.example", path).await;
        assert_eq!(reply.status, 200, "{path}");
        reply.header("x-kept").map(str::to_owned)
    };
    assert_eq!(kept("/first").await.as_deref(), Some("yes"));
    for (path, value) in [("/name", "name"), ("/value", "value")] {
        assert_eq!(gateway.get("a.example", path).await.status, 502, "{path}");
        gateway.log().wait_for("path", path).await;
        assert_eq!(kept("/kept").await.as_deref(), Some(value), "behind {path}");
    }
    for path in ["/pseudo", "/trailer"] {
        let mut client = Client::connect(gateway.address()).await;
        client
            .send(format!(
                "GET {path} HTTP/1.1\r\nHost: a.example\r\nTE: trailers\r\n\r\n"
            ))
            .await;
        let cut = client.try_reply("GET").await;
        assert!(
            matches!(cut, Err(NoReply::Closed(_) | NoReply::Reset)),
            "{path}: {cut:?}"
        );
        let line = gateway.log().wait_for("path", path).await;
        assert_eq!(line["verdict"], "response_broken", "{path}");
    }
    assert_eq!(kept("/interim").await, None);
    assert_eq!(kept("/trailers").await, None);
    assert_eq!(kept("/last").await, None);
    assert_eq!(patient.reply().await.status, 200);
    assert_eq!(origin.connections(), 1);
    for path in ["/name", "/value"] {
        let line = gateway.log().wait_for("path", path).await;
        assert_eq!(line["verdict"], "upstream_protocol", "{path}");
    }
}
