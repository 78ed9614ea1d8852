//! Which connections are used again, and which are not.

use super::*;
use model::Limit;

/// Has one exchange over a first connection, then another; says whether the first was used again.
async fn is_used_again(rig: &Rig, method: &str, answer: &str) -> bool {
    let mut origin = rig.origin();
    let ((), again) = tokio::join!(
        async {
            let response = rig.send(request(method, Body::Empty)).await.unwrap();
            text(response).await.unwrap();
            // Whatever comes late has come.
            tokio::time::sleep(SOON).await;
            let response = rig.send(get()).await.unwrap();
            assert_eq!(text(response).await.unwrap(), "ok");
        },
        async {
            let mut first = origin.accept().await;
            first.answer(answer).await;
            tokio::select! {
                Some(_) = first.next() => {
                    first.say(OK).await;
                    true
                }
                mut second = origin.accept() => {
                    second.answer(OK).await;
                    assert!(first.is_closed().await);
                    false
                }
            }
        }
    );
    again
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_used_again_only_after_a_clean_exchange() {
    let cases: &[(&str, &str, bool)] = &[
        ("GET", OK, true),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", true),
        (
            "GET",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            true,
        ),
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", true),
        (
            "HEAD",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            true,
        ),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", true),
        (
            "GET",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n",
            true,
        ),
        (
            "GET",
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
            false,
        ),
        (
            "GET",
            "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
            false,
        ),
        (
            "GET",
            "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
            false,
        ),
        // Answers twice.
        (
            "GET",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
            false,
        ),
        (
            "HEAD",
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
            false,
        ),
        (
            "GET",
            "HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nevil",
            false,
        ),
        // More than announced.
        (
            "GET",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokay",
            false,
        ),
        (
            "GET",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n\r\n",
            false,
        ),
        (
            "GET",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nevil",
            false,
        ),
    ];
    for (method, answer, again) in cases {
        local(async {
            let rig = Rig::new(|_| {});
            assert_eq!(
                is_used_again(&rig, method, answer).await,
                *again,
                "{method} {answer}"
            );
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_nothing_is_the_answer_to_nothing() {
    local(async {
        let rig = Rig::new(|_| {});
        let mut origin = rig.origin();
        let mut exchange_and_poison = async || {
            let (_, mut peer) = tokio::join!(rig.get(), async {
                let mut peer = origin.accept().await;
                peer.answer(OK).await;
                peer
            });
            peer.say("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
                .await;
            peer
        };
        let _first = exchange_and_poison().await;
        // Nobody has had the time to notice: the request is not sent.
        let failed = rig.send(get()).await.unwrap_err();
        assert!(failed.request.is_some() && !failed.answered);
        let _second = exchange_and_poison().await;
        tokio::time::sleep(SOON).await;
        let (reply, _) = tokio::join!(rig.get(), async {
            let mut peer = origin.accept().await;
            peer.answer(OK).await;
            peer
        });
        assert_eq!(reply, "ok");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_request_comes_back_when_its_connection_had_died_unnoticed() {
    local(async {
        let rig = Rig::new(|_| {});
        let mut origin = rig.origin();
        let (_, peer) = tokio::join!(rig.get(), async {
            let mut peer = origin.accept().await;
            peer.answer(OK).await;
            peer
        });
        drop(peer);
        // Nobody has had the time to notice.
        let lease = rig.lease().await.unwrap();
        assert!(lease.reused());
        let endpoint = lease.endpoint_key();
        let failed = lease.send(get()).await.unwrap_err();
        assert!(failed.reused && !failed.answered);
        let request = failed.request.expect("no byte of it was sent");
        let choice = Choice::FreshOf(endpoint);
        let fresh = rig.pools[0]
            .lease(&rig.upstream, choice, Dialect::Http1)
            .await
            .unwrap();
        assert!(!fresh.reused());
        let (response, _) = tokio::join!(fresh.send(*request), async {
            let mut peer = origin.accept().await;
            peer.answer(OK).await;
            peer
        });
        assert_eq!(text(response.unwrap()).await.unwrap(), "ok");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_connection_used_last_is_used_first() {
    local(async {
        let rig = Rig::new(|_| {});
        let mut origin = rig.origin();
        let (a, b) = (rig.lease().await.unwrap(), rig.lease().await.unwrap());
        let (mut first, mut second) = (origin.accept().await, origin.accept().await);
        for (lease, peer) in [(a, &mut first), (b, &mut second)] {
            let (response, _) = tokio::join!(lease.send(get()), peer.answer(OK));
            text(response.unwrap()).await.unwrap();
        }
        let (reply, _) = tokio::join!(rig.get(), second.answer(OK));
        assert_eq!(reply, "ok");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_dropped_response_closes_its_connection() {
    local(async {
        let rig = Rig::new(|_| {});
        let mut origin = rig.origin();
        let (response, mut peer) = tokio::join!(rig.send(get()), async {
            let mut peer = origin.accept().await;
            peer.answer("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
                .await;
            peer
        });
        drop(response);
        assert!(peer.is_closed().await);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_request_given_up_closes_its_connection() {
    local(async {
        let rig = Rig::new(|_| {});
        let mut origin = rig.origin();
        let mut sending = Box::pin(rig.send(get()));
        let mut peer = tokio::select! {
            _ = &mut sending => panic!("nobody answered"),
            peer = async {
                let mut peer = origin.accept().await;
                peer.head().await;
                peer
            } => peer,
        };
        drop(sending);
        assert!(peer.is_closed().await);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn idle_connections_close_after_their_time() {
    local(async {
        let rig = Rig::new(|_| {});
        let mut origin = rig.origin();
        let (_, mut peer) = tokio::join!(rig.get(), async {
            let mut peer = origin.accept().await;
            peer.answer(OK).await;
            peer
        });
        let closed = timeout(Duration::from_secs(49), peer.0.read_u8()).await;
        assert!(closed.is_err(), "it is kept");
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(peer.is_closed().await);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_takes_no_request_beyond_its_age_or_count() {
    local(async {
        let rig = Rig::new(|model| model.pool.max_age = Limit::At(Duration::from_millis(5)));
        assert!(!is_used_again(&rig, "GET", OK).await);
        let rig = Rig::new(|model| model.pool.requests_per_connection = Limit::At(1));
        assert!(!is_used_again(&rig, "GET", OK).await);
        let rig = Rig::new(|model| model.pool.idle_connections = 0);
        assert!(!is_used_again(&rig, "GET", OK).await);
        let rig = Rig::new(|model| model.pool.requests_per_connection = Limit::At(2));
        assert!(is_used_again(&rig, "GET", OK).await);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn no_more_idle_connections_are_kept_than_the_workers_share() {
    local(async {
        let rig = Rig::with_workers(2, |model| model.pool.idle_connections = 4);
        let mut origin = rig.origin();
        let mut peers = Vec::new();
        let mut leases = Vec::new();
        for _ in 0..3 {
            leases.push(rig.lease().await.unwrap());
            peers.push(origin.accept().await);
        }
        for (lease, peer) in leases.into_iter().zip(&mut peers) {
            let (response, _) = tokio::join!(lease.send(get()), peer.answer(OK));
            text(response.unwrap()).await.unwrap();
        }
        let mut closed = Vec::new();
        for peer in &mut peers {
            closed.push(peer.is_closed().await);
        }
        assert_eq!(closed, [true, false, false], "the oldest goes");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_reload_keeps_what_it_does_not_concern() {
    local(async {
        let mut rig = Rig::new(|_| {});
        let mut origin = rig.origin();
        let mut other = rig.origin_at("other");
        let before = Arc::clone(&rig.upstream);
        let (_, mut peer) = tokio::join!(rig.get(), async {
            let mut peer = origin.accept().await;
            peer.answer(OK).await;
            peer
        });
        rig.reload(["origin"], |_| {});
        assert!(Arc::ptr_eq(&before, &rig.upstream), "nothing changed");

        rig.reload(["origin", "other"], |_| {});
        assert!(!Arc::ptr_eq(&before, &rig.upstream));
        let ((), ()) = tokio::join!(
            async {
                rig.get().await;
                rig.get().await;
            },
            async {
                tokio::join!(peer.answer(OK), async {
                    other.accept().await.answer(OK).await;
                });
            }
        );

        rig.reload(["other"], |_| {});
        assert!(peer.is_closed().await, "its endpoint is gone");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_is_gone_closes_its_connections() {
    local(async {
        let rig = Rig::new(|_| {});
        let mut origin = rig.origin();
        let (_, mut peer) = tokio::join!(rig.get(), async {
            let mut peer = origin.accept().await;
            peer.answer(OK).await;
            peer
        });
        rig.pools[0].retain(|_| None);
        assert!(peer.is_closed().await);
        let Rig {
            registry, upstream, ..
        } = rig;
        let weak = Arc::downgrade(&upstream);
        drop(upstream);
        registry.sweep();
        assert!(weak.upgrade().is_none());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn draining_closes_idle_connections_and_waits_for_busy_ones() {
    local(async {
        let rig = Rig::new(|_| {});
        let mut origin = rig.origin();
        let (idle, busy) = (rig.lease().await.unwrap(), rig.lease().await.unwrap());
        let (mut first, mut second) = (origin.accept().await, origin.accept().await);
        let (response, _) = tokio::join!(idle.send(get()), first.answer(OK));
        text(response.unwrap()).await.unwrap();
        let (reply, (), in_time) = tokio::join!(
            async { text(busy.send(get()).await.unwrap()).await.unwrap() },
            async {
                second.head().await;
                assert!(first.is_closed().await);
                tokio::time::sleep(Duration::from_secs(3)).await;
                second.say(OK).await;
                assert!(second.is_closed().await);
            },
            rig.tasks.finish(Duration::from_secs(10))
        );
        assert_eq!(reply, "ok");
        assert!(in_time);
    })
    .await;
}
