//! Endpoints that are asked whether they are well, by hand-written origins in memory.

use sluice_config::model::{Balance, GrpcCheck, HealthCheck, HttpCheck, Question, TcpCheck};

use super::*;

const INTERVAL: Duration = Duration::from_secs(10);

fn check(question: Question) -> HealthCheck {
    HealthCheck {
        question,
        interval: INTERVAL,
        timeout: Duration::from_secs(2),
        jitter: 0,
        healthy: 2,
        unhealthy: 3,
        port: None,
    }
}

fn http() -> HealthCheck {
    check(Question::Http(HttpCheck {
        path: "/healthz?a=b".to_owned(),
        method: model::Method::new("GET").unwrap(),
        host: None,
        expected: vec![HttpCheck::EXPECTED],
        body: None,
    }))
}

fn tcp() -> HealthCheck {
    check(Question::Tcp(TcpCheck::default()))
}

/// Lets everything happen that is due now.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

async fn next_interval() {
    tokio::time::sleep(INTERVAL).await;
    settle().await;
}

impl Rig {
    /// The names that requests go to.
    fn picked(&self) -> Vec<String> {
        let endpoints = self.upstream.endpoints().into_iter();
        endpoints.map(|key| key.to_string()).collect()
    }

    fn states(&self) -> Vec<&'static str> {
        let report = self.upstream.report().into_iter();
        report.map(|it| it.health.state.word()).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_is_left_out_after_enough_failures_and_back_after_enough_successes() {
    local(async {
        let mut rig = Rig::new(|_| {});
        let first = rig.origin_at("a");
        let _second = rig.origin_at("b");
        rig.reload(["a", "b"], |model| model.health_check = Some(tcp()));
        settle().await;
        drop(first);
        for expected in ["healthy", "healthy", "unhealthy"] {
            next_interval().await;
            assert_eq!(rig.states(), [expected, "healthy"]);
        }
        assert_eq!(rig.picked(), ["b:80"]);
        assert_eq!(rig.upstream.report().len(), 2, "it is told of all the same");
        assert_eq!(
            rig.upstream.report()[0].health.why.as_deref(),
            Some("connecting to it: connection refused"),
        );

        let _again = rig.origin_at("a");
        next_interval().await;
        assert_eq!(rig.picked(), ["b:80"], "one good answer may be luck");
        next_interval().await;
        assert_eq!(rig.picked(), ["a:80", "b:80"]);
        assert_eq!(rig.upstream.report()[0].health.why, None);
        assert_eq!(
            rig.upstream.checks(),
            Checks {
                passed: 9,
                failed: 3
            }
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_request_asks_over_http_and_the_status_counts() {
    local(async {
        let mut rig = Rig::new(|_| {});
        let mut origin = rig.origin_at("a");
        rig.reload(["a"], |model| {
            model.health_check = Some(http());
            model.panic_threshold = 0;
        });
        let mut answer = async |status: &str| {
            let mut peer = origin.accept().await;
            let head = peer
                .answer(&format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n"))
                .await;
            assert!(peer.is_closed().await, "nobody else uses it");
            settle().await;
            head
        };
        let head = answer("204").await;
        assert!(head.starts_with("GET /healthz?a=b HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("\r\nhost: a:80\r\n"), "{head}");
        assert!(head.contains("\r\nconnection: close\r\n"), "{head}");
        for _ in 0..3 {
            answer("503").await;
        }
        assert_eq!(rig.states(), ["unhealthy"]);
        let why = rig.upstream.report()[0].health.why.clone();
        assert_eq!(why.as_deref(), Some("it answers with status 503"));
        let no = rig.lease().await.expect_err("nobody is there");
        assert!(matches!(no, ProxyError::NoEndpoint { .. }), "{no}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn who_takes_too_long_or_says_no_http_or_something_else_fails() {
    for (answer, why) in [
        (None, "it took too long"),
        (
            Some("SSH-2.0-x\r\n\r\n"),
            "it answers with something that is no HTTP, or not at all",
        ),
        (Some(OK), "its answer lacks the text"),
    ] {
        local(async {
            let mut rig = Rig::new(|_| {});
            let mut origin = rig.origin_at("a");
            rig.reload(["a"], |model| {
                let mut check = http();
                check.unhealthy = 1;
                if let Question::Http(http) = &mut check.question {
                    http.body = Some("okay".to_owned());
                }
                model.health_check = Some(check);
            });
            let mut peer = origin.accept().await;
            peer.head().await;
            if let Some(answer) = answer {
                peer.say(answer).await;
            }
            tokio::time::sleep(Duration::from_secs(3)).await;
            let told = rig.upstream.report()[0].health.why.clone();
            let told = told.expect("it is unhealthy");
            assert!(told.starts_with(why), "{told}");
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_endless_answer_is_read_to_its_bound_only() {
    local(async {
        let mut rig = Rig::new(|_| {});
        let mut origin = rig.origin_at("a");
        rig.reload(["a"], |model| {
            let mut check = http();
            check.unhealthy = 1;
            if let Question::Http(http) = &mut check.question {
                http.body = Some("okay".to_owned());
            }
            model.health_check = Some(check);
        });
        let mut peer = origin.accept().await;
        peer.head().await;
        peer.say("HTTP/1.1 200 OK\r\n\r\n").await;
        let mut sent = 0;
        let piece = "x".repeat(1024);
        while peer.0.write_all(piece.as_bytes()).await.is_ok() {
            sent += piece.len();
        }
        settle().await;
        assert!(sent < 512 * 1024, "{sent} bytes");
        assert_eq!(rig.states(), ["unhealthy"]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_says_and_hears_what_it_is_told_to() {
    local(async {
        let mut rig = Rig::new(|_| {});
        let mut origin = rig.origin_at("a");
        rig.reload(["a"], |model| {
            model.health_check = Some(HealthCheck {
                unhealthy: 1,
                healthy: 1,
                ..check(Question::Tcp(TcpCheck {
                    send: Some("PING\r\n".to_owned()),
                    expect: Some("+PONG".to_owned()),
                }))
            });
        });
        for (answer, state) in [("-LOADING\r\n", "unhealthy"), ("+PO|NG\r\n", "healthy")] {
            let mut peer = origin.accept().await;
            assert_eq!(peer.body(6).await, "PING\r\n");
            for piece in answer.split('|') {
                peer.say(piece).await;
                settle().await;
            }
            drop(peer);
            settle().await;
            assert_eq!(rig.states(), [state], "{answer}");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_call_is_answered_with_what_the_service_says() {
    local(async {
        let mut rig = Rig::new(|_| {});
        let mut origin = rig.origin_at("a");
        rig.reload(["a"], |model| {
            model.health_check = Some(HealthCheck {
                unhealthy: 1,
                healthy: 1,
                ..check(Question::Grpc(GrpcCheck {
                    service: "shop".to_owned(),
                    host: Some("orders".to_owned()),
                }))
            });
        });
        // What is answered, its status in the trailers, and what the endpoint is then.
        for (message, status, state, why) in [
            (
                &b"\0\0\0\0\x02\x08\x02"[..],
                "0",
                "unhealthy",
                "it says that it does not serve (2)",
            ),
            (b"\0\0\0\0\x02\x08\x01", "0", "healthy", ""),
            (
                b"",
                "12",
                "unhealthy",
                "it answers the call with gRPC status 12",
            ),
            (b"\0\0\0\0\x02\x08\x01", "0", "healthy", ""),
            (
                b"\0",
                "0",
                "unhealthy",
                "its answer to the call cannot be read",
            ),
        ] {
            let peer = origin.accept().await;
            let mut codec = h2::server::handshake(peer.0).await.unwrap();
            let (request, mut respond) = codec.accept().await.unwrap().unwrap();
            assert_eq!(request.uri(), "http://orders/grpc.health.v1.Health/Check");
            assert_eq!(request.headers()["content-type"], "application/grpc");
            let asked = async {
                let mut body = request.into_body();
                let data = body.data().await.unwrap().unwrap();
                assert_eq!(&data[..], b"\0\0\0\0\x06\x0a\x04shop");
                let mut stream = respond
                    .send_response(http::Response::new(()), false)
                    .unwrap();
                stream
                    .send_data(Bytes::from_static(message), false)
                    .unwrap();
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", status.parse().unwrap());
                stream.send_trailers(trailers).unwrap();
            };
            let ((), _closed) = tokio::join!(asked, async { codec.accept().await });
            settle().await;
            assert_eq!(rig.states(), [state], "{message:?} {status}");
            let told = rig.upstream.report()[0].health.why.clone();
            assert_eq!(told.as_deref().unwrap_or_default(), why);
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn another_port_is_asked_and_begins_as_any_connection_does() {
    local(async {
        let mut rig = Rig::new(|_| {});
        let mut origin = Origin(rig.network.listen("a:9090"));
        rig.reload(["a"], |model| {
            model.health_check = Some(HealthCheck {
                port: Some(9090),
                ..http()
            });
            model.proxy_protocol = Some(ProxyVersion::V1);
        });
        let mut peer = origin.accept().await;
        let head = peer.head().await;
        let expected = "PROXY UNKNOWN\r\nGET /healthz?a=b HTTP/1.1\r\n";
        assert!(head.starts_with(expected), "{head}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn with_too_few_left_all_are_picked_unless_that_shall_never_be() {
    // What is left of four when one after the other goes.
    for (threshold, expected) in [(50, [3, 2, 4, 4]), (0, [3, 2, 1, 0]), (100, [4, 4, 4, 4])] {
        local(async {
            let mut rig = Rig::new(|_| {});
            let names = ["a", "b", "c", "d"];
            let mut origins: Vec<_> = names.map(|name| rig.origin_at(name)).into();
            rig.reload(names, |model| {
                model.health_check = Some(HealthCheck {
                    unhealthy: 1,
                    ..tcp()
                });
                model.panic_threshold = threshold;
            });
            settle().await;
            for (gone, expected) in (1..).zip(expected) {
                origins.pop();
                next_interval().await;
                let picked = rig.picked();
                assert_eq!(
                    picked.len(),
                    expected,
                    "{threshold}: {gone} gone: {picked:?}"
                );
                assert_eq!(rig.upstream.is_panicking(), expected == 4, "{threshold}");
            }
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_reload_keeps_what_was_found_out_and_does_not_ask_at_once_again() {
    local(async {
        let mut rig = Rig::new(|_| {});
        let mut second = rig.origin_at("b");
        let watched = |model: &mut model::Upstream| {
            model.health_check = Some(HealthCheck {
                unhealthy: 1,
                ..tcp()
            });
        };
        rig.reload(["a", "b"], watched);
        settle().await;
        assert_eq!(rig.picked(), ["b:80"]);
        second.accept().await;

        let before = Arc::clone(&rig.upstream);
        let _third = rig.origin_at("c");
        rig.reload(["a", "b", "c"], watched);
        before.retire(Some(&rig.upstream));
        assert_eq!(rig.picked(), ["b:80", "c:80"], "another endpoint");
        rig.reload(["a", "b"], |model| {
            watched(model);
            model.limits.connections = model::Limit::At(7);
            model.balance = Balance::Random;
        });
        assert_eq!(rig.picked(), ["b:80"], "other settings of its connections");
        settle().await;
        assert!(second.is_quiet().await, "its next check is not due yet");

        rig.reload(["a", "b"], |_| {});
        assert_eq!(rig.picked(), ["a:80", "b:80"], "nobody is asked any more");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn nobody_is_asked_any_more_when_the_upstream_is_gone() {
    local(async {
        let mut rig = Rig::new(|_| {});
        let mut origin = rig.origin_at("a");
        rig.reload(["a"], |model| model.health_check = Some(tcp()));
        origin.accept().await;
        let held = Arc::clone(&rig.upstream);
        held.retire(None);
        tokio::time::sleep(INTERVAL * 3).await;
        assert!(origin.is_quiet().await);

        // As a plan does that has it again.
        rig.reload(["a"], |model| model.health_check = Some(tcp()));
        origin.accept().await;
        assert!(Arc::ptr_eq(&held, &rig.upstream));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_ring_gives_only_the_keys_of_who_is_unhealthy_to_others() {
    local(async {
        let mut rig = Rig::new(|_| {});
        let names = ["a", "b", "c", "d"];
        let mut origins: Vec<_> = names.map(|name| rig.origin_at(name)).into();
        rig.reload(names, |model| {
            model.balance = Balance::RingHash;
            model.health_check = Some(HealthCheck {
                unhealthy: 1,
                ..tcp()
            });
        });
        settle().await;
        let owners = |rig: &Rig| -> Vec<String> {
            let set = rig.upstream.set.load();
            let points = set.ring.as_ref().unwrap();
            let keys = (0..500_u32).map(|n| Key::of_client(std::net::Ipv4Addr::from(n).into()));
            let owner = |key| {
                set.get(points.at(key, |_| false).unwrap())
                    .unwrap()
                    .key
                    .to_string()
            };
            keys.map(owner).collect()
        };
        let before = owners(&rig);
        origins.remove(1);
        next_interval().await;
        let after = owners(&rig);
        for (before, after) in before.iter().zip(&after) {
            assert_ne!(after, "b:80");
            assert!(before == "b:80" || before == after, "{before} to {after}");
        }
    })
    .await;
}
