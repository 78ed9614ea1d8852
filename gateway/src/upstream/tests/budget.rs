//! The limit of connections, and who waits for one.

use std::cell::Cell;

use model::Limit;
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};

use super::*;

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
            leases.push(
                pools
                    .lease(&rig.upstream, Choice::Any, Dialect::Http1)
                    .await
                    .unwrap(),
            );
        }
        for pools in &rig.pools {
            let refused = pools
                .lease(&rig.upstream, Choice::Any, Dialect::Http1)
                .await
                .unwrap_err();
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
            .lease(&rig.upstream, Choice::Any, Dialect::Http1)
            .await
            .unwrap();
        let (lease, closed) = tokio::join!(
            rig.pools[1].lease(&rig.upstream, Choice::Any, Dialect::Http1),
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
            .lease(&rig.upstream, Choice::Any, Dialect::Http1)
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

/// An origin of many moods; keeps count of its open connections.
async fn moody(mut origin: Origin, tasks: Tasks, open: Rc<Cell<usize>>, most: Rc<Cell<usize>>) {
    let mut random = SmallRng::seed_from_u64(11);
    loop {
        let mut peer = origin.accept().await;
        let mut random = SmallRng::seed_from_u64(random.random());
        open.set(open.get() + 1);
        most.set(most.get().max(open.get()));
        let open = Rc::clone(&open);
        tasks.spawn_local(async move {
            while peer.next().await.is_some() {
                let pause = Duration::from_millis(random.random_range(0..30));
                let gone = timeout(pause, peer.0.read_u8()).await.is_ok();
                let mood = random.random_range(0..10);
                if gone || mood == 0 {
                    break;
                }
                let answer = match mood {
                    1 => "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
                    2 => "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok",
                    3 => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok!",
                    _ => OK,
                };
                if peer.0.write_all(answer.as_bytes()).await.is_err() || mood == 2 {
                    break;
                }
            }
            open.set(open.get() - 1);
        });
    }
}

#[tokio::test(start_paused = true)]
async fn the_limit_holds_and_nobody_is_forgotten_whatever_the_origin_does() {
    local(async {
        const LIMIT: usize = 4;
        const WORKERS: usize = 3;
        let rig = Rc::new(Rig::with_workers(WORKERS, at_most(LIMIT, 1000)));
        let (open, most) = (Rc::default(), Rc::default());
        let tasks = rig.tasks.clone();
        let origin = moody(rig.origin(), tasks, Rc::clone(&open), Rc::clone(&most));
        rig.tasks.spawn_local(origin);
        let mut random = SmallRng::seed_from_u64(5);
        let mut requests = Vec::new();
        for number in 0..600 {
            let rig = Rc::clone(&rig);
            let start = Duration::from_millis(random.random_range(0..2000));
            let patience = Duration::from_millis(random.random_range(20..4000));
            requests.push(async move {
                tokio::time::sleep(start).await;
                let exchange = async {
                    let pools = &rig.pools[number % WORKERS];
                    let lease = pools
                        .lease(&rig.upstream, Choice::Any, Dialect::Http1)
                        .await;
                    let lease = lease.map_err(ProxyError::from)?;
                    text(lease.send(get()).await.map_err(|failed| failed.error)?).await
                };
                // Some give up.
                timeout(patience, exchange).await.ok()
            });
        }
        let mut served = 0;
        for outcome in futures_util::future::join_all(requests).await {
            match outcome {
                Some(Ok(reply)) => served += usize::from(reply == "ok"),
                Some(Err(ProxyError::UpstreamReset { .. } | ProxyError::ResponseBroken { .. }))
                | None => {}
                Some(Err(error)) => panic!("{error:?}"),
            }
        }
        assert!(served > 300, "{served} of 600");
        assert!(
            (LIMIT..LIMIT + WORKERS).contains(&most.get()),
            "{most:?} were open"
        );
        // Everything was given back.
        tokio::time::sleep(Duration::from_mins(1)).await;
        assert_eq!(open.get(), 0);
        assert_eq!(rig.upstream.state.budget.waiting(), 0);
        for endpoint in rig.upstream.set.load().iter() {
            assert_eq!(endpoint.active(), 0);
        }
        let leases = async {
            for _ in 0..LIMIT {
                Box::leak(Box::new(rig.lease().await.unwrap()));
            }
        };
        timeout(SOON, leases)
            .await
            .expect("the whole budget is there");
    })
    .await;
}
