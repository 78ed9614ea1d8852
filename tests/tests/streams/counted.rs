//! What went through streams, as the metrics tell it while they go on.

use super::*;

/// What the metrics say of streams under way and their bytes, at three places that have to agree.
async fn told(gateway: &Gateway, active: u64, (inward, outward): (u64, u64)) {
    for (kind, name) in [("listener", "web"), ("route", "r"), ("upstream", "u")] {
        becomes(kind, (active, inward, outward), || {
            let reading = gateway.streams(kind, name);
            (reading.active, reading.bytes_in, reading.bytes_out)
        })
        .await;
    }
}

#[tokio::test]
async fn bytes_count_while_a_stream_goes_on_and_once_altogether() {
    // Whatever ends idle streams, the same timer tells of bytes.
    for idle in ["1h", "off"] {
        let keys = format!("stream = {{ idle_timeout = \"{idle}\" }}");
        let pair = Pair::new(&keys, "").await;
        let (mut client, mut server) = pair.open().await;
        client.write_all(b"12345").await.unwrap();
        assert_eq!(exactly(&mut server, 5).await, b"12345");
        told(&pair.gateway, 1, (5, 0)).await;
        // After a pause that has nothing to tell, too.
        tokio::time::sleep(Duration::from_millis(2500)).await;
        server.write_all(b"678").await.unwrap();
        assert_eq!(exactly(&mut client, 3).await, b"678");
        told(&pair.gateway, 1, (5, 3)).await;

        client.write_all(b"9").await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(rest(&mut server).await, b"9");
        server.shutdown().await.unwrap();
        let line = pair.line().await;
        assert_eq!(
            (&line["bytes_in"], &line["bytes_out"]),
            (&6.into(), &3.into())
        );
        told(&pair.gateway, 0, (6, 3)).await;
    }
}

#[tokio::test]
async fn a_quiet_stream_is_idle_in_time_though_the_clock_tells_of_bytes() {
    let pair = Pair::new("stream = { idle_timeout = \"3s\" }", "").await;
    let (mut client, _server) = pair.open().await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    client.write_all(b"x").await.unwrap();
    let since = tokio::time::Instant::now();
    assert_eq!(pair.line().await["verdict"], "stream_idle");
    let quiet = since.elapsed();
    assert!(quiet >= Duration::from_millis(2900), "{quiet:?}");
}
