//! One exchange: what is sent, what comes back, what it means when it does not.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_request_goes_out_as_it_is_and_the_response_comes_back() {
    local(async {
        let rig = Rig::new(|_| {});
        let mut origin = rig.origin();
        let (reply, head) =
            tokio::join!(rig.get(), async { origin.accept().await.answer(OK).await });
        assert_eq!(reply, "ok");
        assert_eq!(head, "GET /path HTTP/1.1\r\nhost: shop.example\r\n\r\n");
        assert_eq!(rig.metrics.sum(Counter::UpstreamConnections), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_body_of_unknown_length_and_its_announced_trailers_are_sent_even_with_get() {
    local(async {
        let rig = Rig::new(|_| {});
        let mut origin = rig.origin();
        let (feed, body) = fed();
        let mut request = request("GET", body);
        let headers = request.headers_mut();
        headers.insert("trailer", "x-sum".parse().unwrap());
        let feeding = async move {
            feed.send(piece("abc")).await.unwrap();
            let mut trailers = HeaderMap::new();
            trailers.insert("x-sum", "7".parse().unwrap());
            feed.send(Ok(Frame::trailers(trailers))).await.unwrap();
        };
        let expected = "3\r\nabc\r\n0\r\nx-sum: 7\r\n\r\n";
        let (response, (), sent) = tokio::join!(rig.send(request), feeding, async {
            let mut peer = origin.accept().await;
            let head = peer.head().await;
            assert!(head.contains("transfer-encoding: chunked\r\n"), "{head}");
            let sent = peer.body(expected.len()).await;
            peer.say(OK).await;
            sent
        });
        assert_eq!(text(response.unwrap()).await.unwrap(), "ok");
        assert_eq!(sent, expected);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn trailers_of_a_response_come_through() {
    local(async {
        let rig = Rig::new(|_| {});
        let mut origin = rig.origin();
        let (response, ()) = tokio::join!(rig.send(get()), async {
            let mut peer = origin.accept().await;
            peer.answer(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n\
                 2\r\nok\r\n0\r\nx-sum: 9\r\n\r\n",
            )
            .await;
        });
        let body = response.unwrap().into_body().collect().await.unwrap();
        assert_eq!(body.trailers().unwrap()["x-sum"], "9");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_is_no_usable_http_is_a_protocol_error() {
    for answer in [
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nok",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX-A: b\r\n folded\r\nContent-Length: 2\r\n\r\nok",
    ] {
        local(async {
            let rig = Rig::new(|_| {});
            let mut origin = rig.origin();
            let (failed, closed) = tokio::join!(rig.send(get()), async {
                let mut peer = origin.accept().await;
                peer.answer(answer).await;
                peer.is_closed().await
            });
            let failed = failed.expect_err(answer);
            assert!(
                matches!(failed.error, ProxyError::UpstreamProtocol { .. }),
                "{answer}: {:?}",
                failed.error
            );
            assert!(failed.answered && closed, "{answer}");
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_length_beside_chunks_is_dropped_and_the_connection_not_used_again() {
    local(async {
        let rig = Rig::new(|_| {});
        let mut origin = rig.origin();
        let (response, closed) = tokio::join!(
            async {
                let response = rig.send(get()).await.unwrap();
                assert!(!response.headers().contains_key("content-length"));
                text(response).await.unwrap()
            },
            async {
                let mut peer = origin.accept().await;
                peer.answer(
                    "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n\
                     2\r\nok\r\n0\r\n\r\n",
                )
                .await;
                peer.is_closed().await
            }
        );
        assert_eq!(response, "ok");
        assert!(closed);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn equal_lengths_become_one() {
    local(async {
        let rig = Rig::new(|_| {});
        let mut origin = rig.origin();
        let (response, _) = tokio::join!(rig.send(get()), async {
            let mut peer = origin.accept().await;
            peer.answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok")
                .await;
            peer
        });
        let response = response.unwrap();
        assert_eq!(
            response.headers().get_all("content-length").iter().count(),
            1
        );
        assert_eq!(text(response).await.unwrap(), "ok");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn interim_responses_are_not_the_response() {
    local(async {
        let rig = Rig::new(|_| {});
        let mut origin = rig.origin();
        let (reply, _) = tokio::join!(rig.get(), async {
            let mut peer = origin.accept().await;
            peer.answer("HTTP/1.1 100 Continue\r\n\r\n").await;
            peer.say("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
                .await;
            peer.say(OK).await;
            peer
        });
        assert_eq!(reply, "ok");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_body_that_ends_early_breaks_the_response() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n",
    ] {
        local(async {
            let rig = Rig::new(|_| {});
            let mut origin = rig.origin();
            let (outcome, ()) = tokio::join!(
                async { text(rig.send(get()).await.unwrap()).await },
                async {
                    let mut peer = origin.accept().await;
                    peer.answer(answer).await;
                }
            );
            let error = outcome.expect_err(answer);
            assert!(
                matches!(error, ProxyError::ResponseBroken { .. }),
                "{error:?}"
            );
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_origin_that_closes_without_an_answer_resets() {
    for (answer, answered) in [("", false), ("HTTP/1.1 200 O", true)] {
        local(async {
            let rig = Rig::new(|_| {});
            let mut origin = rig.origin();
            let (failed, ()) = tokio::join!(rig.send(get()), async {
                origin.accept().await.answer(answer).await;
            });
            let failed = failed.unwrap_err();
            assert!(matches!(failed.error, ProxyError::UpstreamReset { .. }));
            assert_eq!((failed.reused, failed.answered), (false, answered));
            assert!(failed.request.is_none(), "it was sent");
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_head_of_the_response_is_waited_for_from_the_end_of_the_request() {
    for (delay, in_time) in [(59, true), (61, false)] {
        local(async {
            let rig = Rig::new(|_| {});
            let mut origin = rig.origin();
            let (feed, body) = fed();
            let slow_client = async move {
                for _ in 0..10 {
                    tokio::time::sleep(Duration::from_secs(20)).await;
                    feed.send(piece("x")).await.unwrap();
                }
            };
            let (response, (), _) =
                tokio::join!(rig.send(request("POST", body)), slow_client, async {
                    let mut peer = origin.accept().await;
                    peer.head().await;
                    peer.body(10 * "1\r\nx\r\n".len() + "0\r\n\r\n".len()).await;
                    tokio::time::sleep(Duration::from_secs(delay)).await;
                    let _gone = peer.0.write_all(OK.as_bytes()).await;
                    peer
                });
            match response {
                Ok(_) => assert!(in_time),
                Err(failed) => {
                    assert!(!in_time);
                    assert!(matches!(failed.error, ProxyError::ResponseTimeout { .. }));
                }
            }
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_may_be_slow_but_not_stop() {
    local(async {
        let rig = Rig::new(|_| {});
        let mut origin = rig.origin();
        let (outcome, closed) = tokio::join!(
            async {
                let mut body = rig.send(get()).await.unwrap().into_body();
                let mut pieces = 0;
                loop {
                    match body.frame().await.unwrap() {
                        Ok(_) => pieces += 1,
                        Err(error) => return (pieces, error),
                    }
                }
            },
            async {
                let mut peer = origin.accept().await;
                peer.answer("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
                    .await;
                for _ in 0..5 {
                    tokio::time::sleep(Duration::from_secs(299)).await;
                    peer.say("x").await;
                }
                tokio::time::sleep(Duration::from_secs(301)).await;
                peer.is_closed().await
            }
        );
        assert_eq!(outcome.0, 5);
        assert!(matches!(outcome.1, ProxyError::ResponseBroken { .. }));
        assert!(closed);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_origin_that_stops_reading_is_given_up() {
    local(async {
        let rig = Rig::new(|_| {});
        let mut origin = rig.origin();
        let body = Body::Full(Bytes::from(vec![b'x'; 4 << 20]));
        let started = tokio::time::Instant::now();
        let (failed, _) = tokio::join!(rig.send(request("PUT", body)), origin.accept());
        let failed = failed.unwrap_err();
        assert!(matches!(failed.error, ProxyError::UpstreamStalled { .. }));
        assert_eq!(started.elapsed().as_secs(), 30);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_the_body_is_delivered_and_its_connection_not_used_again() {
    local(async {
        let rig = Rig::new(|_| {});
        let mut origin = rig.origin();
        let (feed, body) = fed();
        feed.send(piece("first")).await.unwrap();
        let (response, mut peer) = tokio::join!(rig.send(request("POST", body)), async {
            let mut peer = origin.accept().await;
            peer.head().await;
            peer.say("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
                .await;
            peer
        });
        let response = response.unwrap();
        assert_eq!(response.status(), 413);
        assert_eq!(text(response).await.unwrap(), "no");
        while let Ok(Ok(_)) = timeout(SOON, peer.0.read_u8()).await {}
        assert!(peer.is_closed().await);
        assert!(feed.is_closed(), "nobody reads the rest of the body");
        let (again, _) = tokio::join!(rig.get(), async {
            let mut peer = origin.accept().await;
            peer.answer(OK).await;
            peer
        });
        assert_eq!(again, "ok");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_refusal_counts_even_if_the_origin_closes_while_the_body_is_sent() {
    local(async {
        let rig = Rig::new(|_| {});
        let mut origin = rig.origin();
        let body = Body::Full(Bytes::from(vec![b'x'; 4 << 20]));
        let (response, ()) = tokio::join!(rig.send(request("POST", body)), async {
            let mut peer = origin.accept().await;
            peer.head().await;
            peer.say("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
                .await;
        });
        let response = response.unwrap();
        assert_eq!(response.status(), 413);
        assert_eq!(text(response).await.unwrap(), "no");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_the_requests_body_comes_out_as_it_went_in() {
    local(async {
        let rig = Rig::new(|_| {});
        let mut origin = rig.origin();
        let (feed, body) = fed();
        let (failed, closed) = tokio::join!(rig.send(request("POST", body)), async {
            let mut peer = origin.accept().await;
            peer.head().await;
            feed.send(Err(ProxyError::BodyTimeout)).await.unwrap();
            peer.is_closed().await
        });
        assert!(matches!(failed.unwrap_err().error, ProxyError::BodyTimeout));
        assert!(
            closed,
            "the origin must not take it for the end of the body"
        );

        // Also when the response has begun.
        let (feed, body) = fed();
        let (response, _) = tokio::join!(rig.send(request("POST", body)), async {
            let mut peer = origin.accept().await;
            peer.answer("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
                .await;
            peer
        });
        let (outcome, ()) = tokio::join!(text(response.unwrap()), async {
            feed.send(Err(ProxyError::ClientClosed)).await.unwrap();
        });
        assert!(matches!(outcome, Err(ProxyError::ClientClosed)));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_stops_stops_the_origin() {
    local(async {
        let rig = Rig::new(|_| {});
        let mut origin = rig.origin();
        let (response, taken) = tokio::join!(rig.send(get()), async {
            let mut peer = origin.accept().await;
            peer.answer("HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n")
                .await;
            let mut taken = 0;
            while let Ok(written) = timeout(SOON, peer.0.write(&[b'x'; 4096])).await {
                taken += written.unwrap();
            }
            taken
        });
        assert!(taken < 512 * 1024, "{taken} bytes were taken");
        drop(response);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn connecting_fails_fast_or_in_time() {
    local(async {
        let rig = Rig::new(|_| {});
        let error = rig.lease().await.unwrap_err();
        assert!(matches!(error, ProxyError::Connect { .. }));

        let _full = rig.network.listen_with_backlog("origin:80", 1);
        let _first = rig.lease().await.unwrap();
        let started = tokio::time::Instant::now();
        let error = rig.lease().await.unwrap_err();
        assert!(matches!(error, ProxyError::ConnectTimeout { .. }));
        assert_eq!(started.elapsed().as_secs(), 5);
        assert_eq!(rig.metrics.sum(Counter::UpstreamConnectFailures), 2);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_upstream_without_endpoints_says_so() {
    local(async {
        let mut rig = Rig::new(|_| {});
        rig.reload([], |_| {});
        let error = rig.lease().await.unwrap_err();
        assert!(matches!(error, ProxyError::NoEndpoint { .. }));
        rig.reload(["origin"], |model| model.endpoints[0].weight = 0);
        let error = rig.lease().await.unwrap_err();
        assert!(matches!(error, ProxyError::NoEndpoint { .. }));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_futures_of_a_request_stay_small() {
    local(async {
        let rig = Rig::new(|_| {});
        let _origin = rig.origin();
        let lease = rig.pools[0].lease(&rig.upstream, Choice::Any, Dialect::Http1);
        let size = size_of_val(&lease);
        assert!((50..300).contains(&size), "leasing takes {size} bytes");
        let send = lease.await.unwrap().send(get());
        let size = size_of_val(&send);
        assert!((200..600).contains(&size), "sending takes {size} bytes");
    })
    .await;
}
