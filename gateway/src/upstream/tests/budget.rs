//! The limit of connections, and who waits for one.

use super::*;
use model::Limit;

fn at_most(connections: usize, pending: usize) -> impl FnOnce(&mut model::Upstream) {
    move |model| {
        model.limits.connections = Limit::At(connections);
        model.limits.pending_requests = pending;
    }
}

#[tokio::test(start_paused = true)]
async fn requests_beyond_the_limit_wait_and_share_the_connection() {
    local(async {
        let rig = Rig::new(at_most(1, 9));
        let mut origin = rig.origin();
        let ((a, b, c), quiet) = tokio::join!(
            async { tokio::join!(rig.get(), rig.get(), rig.get()) },
            async {
                let mut peer = origin.accept().await;
                for _ in 0..3 {
                    peer.answer(OK).await;
                }
                origin.is_quiet().await
            }
        );
        assert_eq!([a, b, c], ["ok", "ok", "ok"]);
        assert!(quiet, "one connection was enough");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_queue_is_bounded_in_length_and_time() {
    local(async {
        let rig = Rig::new(at_most(1, 1));
        let _origin = rig.origin();
        let _busy = rig.lease().await.unwrap();
        let started = tokio::time::Instant::now();
        let (waited, refused) = tokio::join!(rig.lease(), async {
            let refused = rig.lease().await;
            assert!(started.elapsed() < SOON);
            refused
        });
        assert!(matches!(refused, Err(ProxyError::Overflow { .. })));
        assert!(matches!(waited, Err(ProxyError::Overflow { .. })));
        assert_eq!(started.elapsed().as_secs(), 5);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_closes_lets_the_next_request_connect() {
    local(async {
        let rig = Rig::new(at_most(1, 9));
        let mut origin = rig.origin();
        let busy = rig.lease().await.unwrap();
        let _first = origin.accept().await;
        let (reply, ()) = tokio::join!(rig.get(), async {
            tokio::time::sleep(SOON).await;
            drop(busy);
            origin.accept().await.answer(OK).await;
        });
        assert_eq!(reply, "ok");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_to_another_endpoint_makes_room() {
    local(async {
        let mut rig = Rig::new(|_| {});
        // Nobody may wait: what is being closed for a request is not waited for in the queue.
        rig.reload(["origin", "other"], at_most(1, 0));
        let (mut origin, mut other) = (rig.origin(), rig.origin_at("other"));
        let (_, mut peer) = tokio::join!(rig.get(), async {
            let mut peer = origin.accept().await;
            peer.answer(OK).await;
            peer
        });
        let (reply, closed) = tokio::join!(rig.get(), async {
            let closed = peer.is_closed().await;
            other.accept().await.answer(OK).await;
            closed
        });
        assert_eq!(reply, "ok");
        assert!(closed);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn each_worker_may_have_one_connection_whatever_the_limit() {
    local(async {
        let rig = Rig::with_workers(3, at_most(1, 0));
        let _origin = rig.origin();
        let mut leases = Vec::new();
        for pools in &rig.pools {
            leases.push(pools.lease(&rig.upstream, Choice::Any).await.unwrap());
        }
        for pools in &rig.pools {
            let refused = pools.lease(&rig.upstream, Choice::Any).await.unwrap_err();
            assert!(matches!(refused.error, ProxyError::Overflow { .. }));
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_parts_with_an_idle_connection_for_another() {
    local(async {
        let rig = Rig::with_workers(2, at_most(2, 9));
        let mut origin = rig.origin();
        // Worker 0 keeps one idle, worker 1 has one busy and needs another.
        let (_, mut idle) = tokio::join!(rig.get(), async {
            let mut peer = origin.accept().await;
            peer.answer(OK).await;
            peer
        });
        let _busy = rig.pools[1]
            .lease(&rig.upstream, Choice::Any)
            .await
            .unwrap();
        let (lease, closed) = tokio::join!(
            rig.pools[1].lease(&rig.upstream, Choice::Any),
            idle.is_closed()
        );
        assert!(lease.is_ok() && closed);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_waits_at_a_worker_that_lost_its_last_connection_goes_on() {
    local(async {
        let rig = Rig::with_workers(2, at_most(1, 9));
        let _origin = rig.origin();
        let _others = rig.pools[1]
            .lease(&rig.upstream, Choice::Any)
            .await
            .unwrap();
        let own = rig.lease().await.unwrap();
        let (waiting, ()) = tokio::join!(rig.lease(), async {
            tokio::time::sleep(SOON).await;
            drop(own);
        });
        assert!(waiting.is_ok());
    })
    .await;
}
