//! How long an upgraded connection lasts: by its own bounds, and when what it belongs to changes.

use std::time::Duration;

use sluice_config::model::{Limit, Upgrade};
use sluice_gateway::telemetry::metrics::Counter;
use tokio::time::{Instant, sleep};

use super::rig::{Edit, PLAIN, Peer, Rig, local};

const OPEN: &str =
    "GET /a HTTP/1.1\r\nhost: app.test\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n";
const MINUTE: Duration = Duration::from_mins(1);

/// A rig whose origin echoes, and an upgraded connection through it.
async fn open(edit: Edit) -> (Rig, Peer) {
    let mut rig = Rig::new(edit);
    rig.origin(|_, mut peer| async move {
        peer.head().await;
        peer.send(SWITCH).await;
        let (mut reading, mut writing) = tokio::io::split(peer.0);
        tokio::io::copy(&mut reading, &mut writing)
            .await
            .unwrap_or(0);
    });
    let mut client = rig.client();
    client.send(OPEN).await;
    assert!(client.head().await.starts_with("HTTP/1.1 101 "));
    (rig, client)
}

async fn echo(client: &mut Peer) {
    client.send("ping").await;
    assert_eq!(client.exactly(4).await, "ping");
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_after_an_hour_without_a_byte_and_each_byte_counts() {
    local(async {
        let (rig, mut client) = open(PLAIN).await;
        for _ in 0..3 {
            sleep(59 * MINUTE).await;
            echo(&mut client).await;
        }
        let quiet = Instant::now();
        assert_eq!(client.rest().await, "");
        assert_eq!(quiet.elapsed().as_secs(), 3600);
        let line = rig.line();
        assert_eq!(line["verdict"], "upgrade_idle");
        assert_eq!(
            (&line["bytes_in"], &line["bytes_out"]),
            (&12.into(), &12.into())
        );
        assert_eq!(rig.count(Counter::UpgradesEnded), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_at_its_maximum_however_busy_it_is() {
    local(async {
        let (rig, mut client) = open(|listener, _, _| {
            listener.filters.upgrade = Some(Upgrade {
                idle_timeout: Limit::Off,
                max_duration: Limit::At(10 * MINUTE),
                ..Upgrade::default()
            });
        })
        .await;
        let start = Instant::now();
        sleep(9 * MINUTE).await;
        echo(&mut client).await;
        assert_eq!(client.rest().await, "");
        assert_eq!(start.elapsed().as_secs(), 600);
        assert_eq!(rig.line()["verdict"], "upgrade_expired");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_half_a_minute_after_its_own_objects_changed() {
    let edits: [Edit; 3] = [
        |listener, _, _| listener.timeouts.idle = MINUTE,
        |_, route, _| route.priority = 1,
        |_, _, upstream| upstream.timeouts.connect = MINUTE,
    ];
    for edit in edits {
        local(Box::pin(async {
            let (mut rig, mut client) = open(PLAIN).await;
            rig.apply(edit).await;
            let start = Instant::now();
            sleep(Duration::from_secs(29)).await;
            echo(&mut client).await;
            assert_eq!(client.rest().await, "");
            assert_eq!(start.elapsed().as_secs(), 30);
            let line = rig.line();
            assert_eq!(line["verdict"], "draining");
            assert_eq!(line["status"], 101);
        }))
        .await;
    }
}
