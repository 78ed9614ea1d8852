//! HTTP/2: many requests on one connection, and what happens to them when it ends.

use h2::{
    Reason, RecvStream,
    server::{self, SendResponse},
};
use http::HeaderMap;
use model::{Limit, UpstreamProtocol};

use super::*;

/// A connection of an HTTP/2 origin.
type Served = server::Connection<DuplexStream, Bytes>;

/// A request that an origin got.
struct Asked {
    request: http::Request<RecvStream>,
    reply: SendResponse<Bytes>,
}

fn http2(model: &mut model::Upstream) {
    model.protocol = UpstreamProtocol::Http2;
}

impl Rig {
    async fn place(&self) -> Result<Lease, ProxyError> {
        let lease = self.pools[0].lease(&self.upstream, Choice::Any, Dialect::Http2);
        lease.await.map_err(ProxyError::from)
    }

    async fn ask(&self, request: Request) -> Result<Response, Failed> {
        self.place().await.unwrap().send(request).await
    }

    async fn fetch(&self) -> String {
        text(self.ask(get()).await.unwrap()).await.unwrap()
    }
}

impl Origin {
    async fn serve(&mut self) -> Served {
        self.serve_at_most(1000).await
    }

    async fn serve_at_most(&mut self, streams: u32) -> Served {
        let stream = self.0.accept().await.unwrap();
        let mut builder = server::Builder::new();
        builder.max_concurrent_streams(streams);
        builder.handshake(stream).await.unwrap()
    }
}

async fn asked(served: &mut Served) -> Option<Asked> {
    let (request, reply) = served.accept().await?.ok()?;
    Some(Asked { request, reply })
}

/// Lets the codec of an origin work until nobody is there any more.
async fn close(mut served: Served) {
    while let Some(Ok(_)) = served.accept().await {}
}

impl Asked {
    fn answer(&mut self, bytes: &'static str) {
        let mut stream = self.begin();
        stream
            .send_data(Bytes::from_static(bytes.as_bytes()), true)
            .unwrap();
    }

    fn begin(&mut self) -> h2::SendStream<Bytes> {
        self.reply
            .send_response(http::Response::new(()), false)
            .unwrap()
    }
}

/// The part of somebody who is on his own from now on.
fn play(part: impl Future<Output = ()> + 'static) {
    Tasks::new().spawn_local(part);
}

/// Answers everything at once.
async fn answer_all(mut served: Served) {
    while let Some(mut asked) = asked(&mut served).await {
        asked.answer("ok");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_is_said_in_the_words_of_http_2() {
    local(async {
        let rig = Rig::new(http2);
        let mut origin = rig.origin();
        let mut request = get();
        let headers = request.headers_mut();
        for (name, value) in [("te", "trailers"), ("connection", "te"), ("cookie", "a=b")] {
            headers.insert(name, value.parse().unwrap());
        }
        let (reply, head) = tokio::join!(
            async { text(rig.ask(request).await.unwrap()).await.unwrap() },
            async {
                let mut served = origin.serve().await;
                let mut asked = asked(&mut served).await.unwrap();
                asked.answer("ok");
                play(close(served));
                asked.request.into_parts().0
            }
        );
        assert_eq!(reply, "ok");
        assert_eq!(head.uri, "http://shop.example/path");
        let headers = head.headers;
        assert_eq!(
            (&headers["te"], &headers["cookie"]),
            (&"trailers".parse().unwrap(), &"a=b".parse().unwrap())
        );
        assert_eq!(headers.len(), 2, "{headers:?}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn requests_that_begin_together_share_one_connection() {
    local(async {
        let rig = Rig::new(http2);
        let mut origin = rig.origin();
        let (replies, quiet) = tokio::join!(
            futures_util::future::join_all((0..50).map(|_| rig.fetch())),
            async {
                let served = origin.serve().await;
                play(answer_all(served));
                origin.is_quiet().await
            }
        );
        assert!(replies.iter().all(|reply| reply == "ok"));
        assert!(quiet);
        assert_eq!(rig.metrics.sum(Counter::UpstreamConnections), 1);
        assert_eq!(rig.fetch().await, "ok", "it is used again");
        assert_eq!(rig.metrics.sum(Counter::UpstreamConnections), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_full_connection_is_joined_by_another_and_the_peers_limit_counts() {
    for (ours, theirs) in [(2, 1000), (1000, 2)] {
        local(async {
            let rig = Rig::new(|model| {
                http2(model);
                model.limits.streams = ours;
            });
            let mut origin = rig.origin();
            play(async move {
                loop {
                    let mut served = origin.serve_at_most(theirs).await;
                    play(async move {
                        let mut held = Vec::new();
                        while let Some(asked) = asked(&mut served).await {
                            held.push(asked);
                            assert!(held.len() <= 2);
                        }
                    });
                }
            });
            let leases = futures_util::future::join_all((0..6).map(|_| rig.place())).await;
            assert!(leases.iter().all(Result::is_ok));
            assert_eq!(
                rig.metrics.sum(Counter::UpstreamConnections),
                3,
                "{ours} {theirs}"
            );
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn connections_count_in_the_budget_and_the_queue_is_bounded() {
    local(async {
        let rig = Rig::new(|model| {
            http2(model);
            model.limits.streams = 1;
            model.limits.connections = Limit::At(1);
            model.limits.pending_requests = 1;
        });
        let mut origin = rig.origin();
        let (first, _served) = tokio::join!(rig.place(), origin.serve());
        let first = first.unwrap();
        let (waited, refused) = tokio::join!(rig.place(), async {
            let refused = rig.place().await;
            drop(first);
            refused
        });
        assert!(matches!(refused, Err(ProxyError::Overflow { .. })));
        assert!(waited.is_ok(), "room became free");
        assert_eq!(rig.metrics.sum(Counter::UpstreamConnections), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn those_who_share_a_connection_share_its_failure_to_come() {
    local(async {
        let rig = Rig::new(http2);
        // Nobody listens.
        let leases = futures_util::future::join_all((0..20).map(|_| rig.place())).await;
        for lease in leases {
            assert!(
                matches!(lease, Err(ProxyError::Connect { .. })),
                "{lease:?}"
            );
        }
        let mut origin = rig.origin();
        let (lease, mut peer) = tokio::join!(rig.place(), async {
            let mut peer = origin.accept().await;
            peer.say("HTTP/1.1 400 Bad Request\r\n\r\n").await;
            peer
        });
        assert!(
            matches!(lease, Err(ProxyError::UpstreamProtocol { .. })),
            "{lease:?}"
        );
        while peer.next().await.is_some() {}
        let (started, lease) = (tokio::time::Instant::now(), rig.place());
        let (lease, _silent) = tokio::join!(lease, origin.accept());
        assert!(
            matches!(lease, Err(ProxyError::ConnectTimeout { .. })),
            "{lease:?}"
        );
        assert_eq!(started.elapsed().as_secs(), 5);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn whoever_began_a_connection_may_leave_without_harm_to_the_others() {
    local(async {
        let rig = Rig::new(http2);
        let mut origin = rig.origin();
        let mut first = Box::pin(rig.place());
        assert!(timeout(SOON, &mut first).await.is_err());
        let (second, served) = tokio::join!(
            async {
                tokio::task::yield_now().await;
                rig.place().await
            },
            async {
                drop(first);
                origin.serve().await
            }
        );
        assert!(second.is_ok());
        assert!(origin.is_quiet().await);
        drop(served);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn after_a_goodbye_what_runs_ends_well_and_the_next_goes_elsewhere() {
    local(async {
        let rig = Rig::new(http2);
        let mut origin = rig.origin();
        let (reply, ()) = tokio::join!(rig.fetch(), async {
            let mut served = origin.serve().await;
            let mut running = asked(&mut served).await.unwrap();
            served.graceful_shutdown();
            play(close(served));
            let next = async {
                tokio::time::sleep(SOON).await;
                assert_eq!(rig.fetch().await, "ok");
            };
            tokio::join!(next, async {
                let served = origin.serve().await;
                play(answer_all(served));
            });
            running.answer("late");
        });
        assert_eq!(reply, "late");
        assert_eq!(rig.metrics.sum(Counter::UpstreamConnections), 2);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_request_comes_back_whole_whatever_its_method() {
    local(async {
        let rig = Rig::new(http2);
        let mut origin = rig.origin();
        let (feed, body) = fed();
        let sent = rig.ask(request("POST", body));
        let (failed, ()) = tokio::join!(sent, async {
            let mut served = origin.serve().await;
            let mut asked = asked(&mut served).await.unwrap();
            asked.reply.send_reset(Reason::REFUSED_STREAM);
            play(close(served));
        });
        let failed = failed.unwrap_err();
        assert!(
            matches!(failed.error, ProxyError::StreamRefused { .. }),
            "{:?}",
            failed.error
        );
        assert!(!failed.answered);
        let request = *failed.request.expect("it is whole");
        let feeding = async move { feed.send(piece("abc")).await.unwrap() };
        let (reply, (), body) = tokio::join!(rig.ask(request), feeding, async {
            let mut served = origin.serve().await;
            let mut asked = asked(&mut served).await.unwrap();
            play(close(served));
            let body = asked.request.body_mut().data().await.unwrap().unwrap();
            asked.answer("ok");
            body
        });
        assert_eq!(body, "abc");
        assert_eq!(text(reply.unwrap()).await.unwrap(), "ok");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_request_whose_body_was_begun_stays_refused() {
    local(async {
        let rig = Rig::new(http2);
        let mut origin = rig.origin();
        let (feed, body) = fed();
        let feeding = async move {
            feed.send(piece("abc")).await.unwrap();
            feed
        };
        let (failed, _feed, ()) = tokio::join!(rig.ask(request("POST", body)), feeding, async {
            let mut served = origin.serve().await;
            let mut asked = asked(&mut served).await.unwrap();
            play(close(served));
            asked.request.body_mut().data().await.unwrap().unwrap();
            asked.reply.send_reset(Reason::REFUSED_STREAM);
        });
        let failed = failed.unwrap_err();
        assert!(matches!(failed.error, ProxyError::StreamRefused { .. }));
        assert!(failed.request.is_none());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_reset_means_what_its_reason_says() {
    for reason in [Reason::CANCEL, Reason::INTERNAL_ERROR, Reason::NO_ERROR] {
        local(async {
            let rig = Rig::new(http2);
            let mut origin = rig.origin();
            let (failed, ()) = tokio::join!(rig.ask(get()), async {
                let mut served = origin.serve().await;
                asked(&mut served).await.unwrap().reply.send_reset(reason);
                play(close(served));
            });
            let failed = failed.unwrap_err();
            assert!(
                matches!(failed.error, ProxyError::UpstreamReset { .. }),
                "{reason}"
            );
            assert!(failed.answered, "{reason}");
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_cut_short_is_broken_whatever_the_reason() {
    for reason in [Reason::CANCEL, Reason::INTERNAL_ERROR, Reason::NO_ERROR] {
        local(async {
            let rig = Rig::new(http2);
            let mut origin = rig.origin();
            let (response, ()) = tokio::join!(rig.ask(get()), async {
                let mut served = origin.serve().await;
                let mut asked = asked(&mut served).await.unwrap();
                let mut stream = asked.begin();
                stream
                    .send_data(Bytes::from_static(b"half"), false)
                    .unwrap();
                play(close(served));
                play(async move {
                    tokio::time::sleep(SOON).await;
                    stream.send_reset(reason);
                });
            });
            let error = text(response.unwrap()).await.unwrap_err();
            assert!(
                matches!(error, ProxyError::ResponseBroken { .. }),
                "{reason}: {error:?}"
            );
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_early_answer_counts_and_stops_the_rest_of_the_request() {
    local(async {
        let rig = Rig::new(http2);
        let mut origin = rig.origin();
        let (feed, body) = fed();
        let (response, mut asked) = tokio::join!(rig.ask(request("POST", body)), async {
            let mut served = origin.serve().await;
            let mut asked = asked(&mut served).await.unwrap();
            asked.answer("no");
            play(close(served));
            asked
        });
        assert_eq!(text(response.unwrap()).await.unwrap(), "no");
        let next = asked.request.body_mut().data().await;
        let reset = next.expect("the stream is ended by us").unwrap_err();
        assert_eq!(reset.reason(), Some(Reason::CANCEL));
        assert!(feed.is_closed() || timeout(SOON, feed.closed()).await.is_ok());
        // The connection is as good as new.
        assert_eq!(rig.metrics.sum(Counter::UpstreamConnections), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn whoever_leaves_cancels_its_request_and_no_other() {
    local(async {
        let rig = Rig::new(http2);
        let mut origin = rig.origin();
        let (leaver, mut first) =
            tokio::join!(async { timeout(SOON, rig.ask(get())).await }, async {
                let mut served = origin.serve().await;
                let first = asked(&mut served).await.unwrap();
                play(answer_all(served));
                first
            });
        assert!(leaver.is_err());
        let reset = poll_fn(|cx| first.reply.poll_reset(cx)).await.unwrap();
        assert_eq!(reset, Reason::CANCEL);
        assert_eq!(rig.fetch().await, "ok");
        assert_eq!(rig.metrics.sum(Counter::UpstreamConnections), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn trailers_go_both_ways_without_being_announced() {
    local(async {
        let rig = Rig::new(http2);
        let mut origin = rig.origin();
        let (feed, body) = fed();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "7".parse().unwrap());
        let last = trailers.clone();
        let feeding = async move {
            feed.send(piece("abc")).await.unwrap();
            feed.send(Ok(Frame::trailers(last))).await.unwrap();
        };
        let (response, (), got) = tokio::join!(rig.ask(request("POST", body)), feeding, async {
            let mut served = origin.serve().await;
            let mut asked = asked(&mut served).await.unwrap();
            play(close(served));
            let body = asked.request.body_mut();
            while body.data().await.is_some() {}
            let got = body.trailers().await.unwrap().unwrap();
            let mut stream = asked.begin();
            stream.send_trailers(trailers.clone()).unwrap();
            got
        });
        let body = response.unwrap().into_body().collect().await.unwrap();
        assert_eq!(
            (&got["x-sum"], &body.trailers().unwrap()["x-sum"]),
            (&"7".parse().unwrap(), &"7".parse().unwrap())
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn readers_that_stopped_stop_the_origin_and_hold_up_nobody_else() {
    local(async {
        let rig = Rig::new(http2);
        let mut origin = rig.origin();
        play(async move {
            let mut served = origin.serve().await;
            while let Some(mut asked) = asked(&mut served).await {
                let mut stream = asked.begin();
                play(async move {
                    let mut left = 1_usize << 20;
                    while left > 0 {
                        stream.reserve_capacity(left);
                        let Some(Ok(room)) = poll_fn(|cx| stream.poll_capacity(cx)).await else {
                            return;
                        };
                        left -= room.min(left);
                        stream
                            .send_data(Bytes::from(vec![0; room]), left == 0)
                            .unwrap();
                    }
                });
            }
        });
        let mut stopped = Vec::new();
        for _ in 0..20 {
            stopped.push(rig.ask(get()).await.unwrap());
        }
        let reader = rig.ask(get()).await.unwrap();
        let read = reader.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(read.len(), 1 << 20);
        assert_eq!(rig.metrics.sum(Counter::UpstreamConnections), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_failing_client_resets_its_request_and_is_blamed_itself() {
    local(async {
        let rig = Rig::new(http2);
        let mut origin = rig.origin();
        let (feed, body) = fed();
        let feeding = async move {
            feed.send(piece("abc")).await.unwrap();
            feed.send(Err(ProxyError::BodyTimeout)).await.unwrap();
        };
        let (failed, (), reason) = tokio::join!(rig.ask(request("POST", body)), feeding, async {
            let mut served = origin.serve().await;
            let mut asked = asked(&mut served).await.unwrap();
            play(close(served));
            let body = asked.request.body_mut();
            loop {
                if let Some(Err(error)) = body.data().await {
                    break error.reason();
                }
            }
        });
        assert!(matches!(failed.unwrap_err().error, ProxyError::BodyTimeout));
        assert_eq!(reason, Some(Reason::CANCEL));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_takes_nothing_of_a_body_is_given_up() {
    local(async {
        let rig = Rig::new(http2);
        let mut origin = rig.origin();
        let (feed, body) = fed();
        play(async move {
            let large = || Ok(Frame::data(Bytes::from(vec![0; 16 * 1024])));
            while feed.send(large()).await.is_ok() {}
        });
        let started = tokio::time::Instant::now();
        let (failed, asked) = tokio::join!(rig.ask(request("POST", body)), async {
            let mut served = origin.serve().await;
            let asked = asked(&mut served).await.unwrap();
            play(close(served));
            asked
        });
        assert!(matches!(
            failed.unwrap_err().error,
            ProxyError::UpstreamStalled { .. }
        ));
        assert_eq!(started.elapsed().as_secs(), 30);
        drop(asked);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn when_a_connection_dies_everybody_on_it_learns_it() {
    local(async {
        let rig = Rig::new(http2);
        let mut origin = rig.origin();
        let (failures, ()) = tokio::join!(
            futures_util::future::join_all((0..10).map(|_| rig.ask(get()))),
            async {
                let (mut served, mut held) = (origin.serve().await, Vec::new());
                for _ in 0..10 {
                    held.push(asked(&mut served).await.unwrap());
                }
                // Before its requests, so that nothing is said about them.
                drop(served);
            }
        );
        for failed in failures {
            let failed = failed.unwrap_err();
            assert!(matches!(failed.error, ProxyError::UpstreamReset { .. }));
            assert!(!failed.answered);
        }
        let (reply, ()) = tokio::join!(rig.fetch(), async {
            let served = origin.serve().await;
            play(answer_all(served));
        });
        assert_eq!(reply, "ok");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_silent_while_a_request_times_out_takes_no_other() {
    local(async {
        let rig = Rig::new(http2);
        let mut origin = rig.origin();
        let (failed, _served) = tokio::join!(rig.ask(get()), async {
            let mut served = origin.serve().await;
            let asked = asked(&mut served).await.unwrap();
            (served, asked)
        });
        assert!(matches!(
            failed.unwrap_err().error,
            ProxyError::ResponseTimeout { .. }
        ));
        let (reply, ()) = tokio::join!(rig.fetch(), async {
            let served = origin.serve().await;
            play(answer_all(served));
        });
        assert_eq!(reply, "ok");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_answers_no_ping_is_gone() {
    local(async {
        let rig = Rig::new(|model| {
            http2(model);
            model.pool.ping = Limit::At(Duration::from_secs(10));
        });
        let mut origin = rig.origin();
        let started = tokio::time::Instant::now();
        let (failed, _served) = tokio::join!(rig.ask(get()), async {
            let mut served = origin.serve().await;
            let asked = asked(&mut served).await.unwrap();
            // Not driven any more: it answers nothing.
            (served, asked)
        });
        assert!(matches!(
            failed.unwrap_err().error,
            ProxyError::UpstreamReset { .. }
        ));
        assert_eq!(started.elapsed().as_secs(), 20);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn connections_grow_old_and_idle_ones_are_closed() {
    for change in [
        |model: &mut model::Upstream| model.pool.max_age = Limit::At(Duration::from_mins(1)),
        |model: &mut model::Upstream| model.pool.requests_per_connection = Limit::At(2),
        |model: &mut model::Upstream| model.pool.idle_timeout = Duration::from_mins(1),
        |model: &mut model::Upstream| model.pool.idle_connections = 0,
    ] {
        local(async {
            let rig = Rig::new(|model| {
                http2(model);
                change(model);
            });
            let mut origin = rig.origin();
            let (mut open, closed) = (0, Rc::new(std::cell::Cell::new(0)));
            let count = Rc::clone(&closed);
            play(async move {
                loop {
                    let (served, count) = (origin.serve().await, Rc::clone(&count));
                    play(async move {
                        answer_all(served).await;
                        count.set(count.get() + 1);
                    });
                }
            });
            for _ in 0..3 {
                assert_eq!(rig.fetch().await, "ok");
                open += 1;
            }
            tokio::time::sleep(Duration::from_secs(61)).await;
            assert_eq!(rig.fetch().await, "ok");
            tokio::time::sleep(SOON).await;
            assert_eq!(open, 3);
            assert!(rig.metrics.sum(Counter::UpstreamConnections) > 1);
            assert!(closed.get() > 0, "the old one is closed");
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_reload_that_removes_an_endpoint_ends_its_connections_gently() {
    local(async {
        let mut rig = Rig::new(http2);
        let mut origin = rig.origin();
        let (lease, mut served) = tokio::join!(rig.place(), origin.serve());
        let asking = lease.unwrap().send(get());
        rig.reload(["other"], http2);
        let (reply, ()) = tokio::join!(
            async { text(asking.await.unwrap()).await.unwrap() },
            async {
                asked(&mut served).await.unwrap().answer("ok");
                assert!(
                    timeout(SOON, served.accept()).await.unwrap().is_none(),
                    "it is closed after"
                );
            }
        );
        assert_eq!(reply, "ok");
    })
    .await;
}
