//! Streams and reloads: what goes on, what ends, and when.

use sluice_gateway::drain::Tasks;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep},
};

use super::*;

/// A route for each of two listeners, and a third whose only purpose is to change.
fn config(origin: SocketAddr, drain: &str, number: usize, with_b: bool) -> String {
    let b = format!(
        "[listeners.b]\naddress = \"127.0.0.1:0\"\nprotocol = \"tcp\"\n\
         [routes.b]\nlisteners = \"b\"\nstream = {{ drain = \"{drain}\" }}\nto = \"{origin}\"\n"
    );
    format!(
        "[listeners.web]\naddress = \"127.0.0.1:0\"\nprotocol = \"tcp\"\n\
         [routes.a]\nlisteners = \"web\"\nto = \"{origin}\"\n\
         [listeners.other]\naddress = \"127.0.0.1:0\"\n\
         [routes.other]\nlisteners = \"other\"\nrespond = {{ body = \"{number}\" }}\n{}",
        if with_b { &*b } else { "" }
    )
}

/// Says something and hears it again, until told to end; gives how many bytes that were.
async fn talk(mut client: TcpStream, seed: u64, told: watch::Receiver<bool>) -> u64 {
    let mut random = SmallRng::seed_from_u64(seed);
    let (mut last, mut exchanged) = (false, 0);
    while !last {
        last = *told.borrow();
        let length = random.random_range(1..40_000);
        let said = noise(length, random.random());
        let (mut from, mut to) = client.split();
        let (sent, heard) = tokio::join!(to.write_all(&said), exactly(&mut from, length));
        sent.unwrap();
        assert!(heard == said, "stream {seed}");
        exchanged += length as u64;
        sleep(Duration::from_millis(20)).await;
    }
    client.shutdown().await.unwrap();
    assert_eq!(rest(&mut client).await, b"");
    exchanged
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_streams_live_through_reloads_of_other_routes_byte_by_byte() {
    let origin = listening().await;
    let address = origin.local_addr().unwrap();
    let gateway = gateway(&config(address, "1s", 0, false)).await;
    let (mut streams, echoes) = (Vec::new(), Tasks::new());
    for seed in 0..200 {
        let client = TcpStream::connect(gateway.address()).await.unwrap();
        let (server, _) = within("a connection", origin.accept()).await.unwrap();
        echoes.spawn(async move {
            let (mut from, mut to) = server.into_split();
            let _copied = tokio::io::copy(&mut from, &mut to).await;
        });
        streams.push((client, seed));
    }
    let (done, told) = watch::channel(false);
    let mut talks = JoinSet::new();
    for (client, seed) in streams {
        talks.spawn(talk(client, seed, told.clone()));
    }
    for number in 1..=100 {
        gateway.reload(&config(address, "1s", number, false)).await;
    }
    done.send_replace(true);
    let mut exchanged = 0;
    while let Some(talk) = talks.join_next().await {
        exchanged += talk.unwrap();
    }
    let lines = gateway.log().wait(200).await;
    let all = |field: &str| {
        lines
            .iter()
            .map(|line| line[field].as_u64().unwrap())
            .sum::<u64>()
    };
    assert_eq!((all("bytes_in"), all("bytes_out")), (exchanged, exchanged));
    assert!(lines.iter().all(|line| line["verdict"].is_null()));
    let reading = gateway.streams("listener", "web");
    assert_eq!(
        (reading.bytes_in, reading.bytes_out),
        (exchanged, exchanged)
    );
}

#[tokio::test]
async fn streams_of_what_changed_or_is_gone_end_after_their_drain() {
    for (with_b, drain) in [(true, "700ms"), (false, "500ms")] {
        let origin = listening().await;
        let address = origin.local_addr().unwrap();
        let gateway = gateway(&config(address, "500ms", 0, true)).await;
        let open = async |listener: &str| {
            let client = TcpStream::connect(gateway.address_of(listener).unwrap()).await;
            let (server, _) = within("a connection", origin.accept()).await.unwrap();
            (client.unwrap(), server)
        };
        let mut kept = open("web").await;
        let mut ending = open("b").await;
        let began = Instant::now();
        gateway.reload(&config(address, drain, 0, with_b)).await;
        // Until then it goes on.
        ending.0.write_all(b"still").await.unwrap();
        assert_eq!(exactly(&mut ending.1, 5).await, b"still");
        assert_eq!(rest(&mut ending.0).await, b"");
        assert!(began.elapsed() >= Duration::from_millis(450));
        is_reset(&mut ending.1).await;
        let line = gateway.log().wait(1).await.remove(0);
        assert_eq!(line["verdict"], "draining");
        assert_eq!(line["route"], "b");
        assert_eq!(line["bytes_in"], 5);
        kept.0.write_all(b"on").await.unwrap();
        assert_eq!(exactly(&mut kept.1, 2).await, b"on");
    }
}

#[tokio::test]
async fn a_drain_ends_streams_at_its_deadline_and_tells_so() {
    let mut pair = Pair::new("", "").await;
    let (mut client, mut server) = pair.open().await;
    client.write_all(b"x").await.unwrap();
    exactly(&mut server, 1).await;
    let log = pair.gateway.log();
    assert!(!pair.gateway.drain(Duration::from_millis(300)).await);
    drop(client);
    let line = log.wait(1).await.remove(0);
    assert_eq!(line["verdict"], "draining");
    assert_eq!(line["bytes_in"], 1);
}

#[tokio::test]
async fn a_drain_waits_for_streams_that_end_by_themselves() {
    let mut pair = Pair::new("", "").await;
    let (mut client, mut server) = pair.open().await;
    let log = pair.gateway.log();
    let both = async {
        client.write_all(b"last words").await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(rest(&mut server).await, b"last words");
        drop(server);
        assert_eq!(rest(&mut client).await, b"");
    };
    let (finished, ()) = tokio::join!(pair.gateway.drain(Duration::from_secs(10)), both);
    assert!(finished);
    assert_eq!(log.wait(1).await[0]["verdict"], Value::Null);
}
