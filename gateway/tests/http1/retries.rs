//! What is sent once more, to whom and when, and what never is.

use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};

use sluice_config::model::{
    Address, Endpoint, HostPort, Limit, Retry, RetryOn, Route, Scheme, Upstream,
};
use sluice_gateway::telemetry::metrics::Counter;
use tokio::time::Instant;

use super::rig::{GET, OK, Peer, Rig, local};

const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
const PAY: &str = "POST /pay HTTP/1.1\r\nhost: app.test\r\ncontent-length: 3\r\n\r\neur";

fn endpoint(name: &str) -> Endpoint {
    let host = HostPort::Name {
        name: name.into(),
        port: 80,
    };
    let scheme = Scheme::Http;
    Endpoint::new(Address { scheme, host })
}

fn two(upstream: &mut Upstream) {
    upstream.endpoints = vec![endpoint("origin"), endpoint("other")];
}

fn on(route: &mut Route, on: &[RetryOn]) {
    route.filters.retry = Some(Arc::new(Retry {
        on: on.to_vec(),
        ..Retry::default()
    }));
}

/// Serves `name` and remembers the heads that came, and the bodies of known length.
fn serve(rig: &Rig, name: &str, answers: &'static [&'static str]) -> Rc<RefCell<Vec<String>>> {
    let heads = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&heads);
    rig.origin_at(name, move |_, mut peer: Peer| {
        let seen = Rc::clone(&seen);
        async move {
            loop {
                let (head, body) = peer.message().await;
                if head.is_empty() {
                    return;
                }
                let number = seen.borrow().len();
                seen.borrow_mut().push(format!("{head}{body}"));
                let Some(answer) = answers.get(number).or(answers.last()) else {
                    return;
                };
                peer.send(answer).await;
            }
        }
    });
    heads
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_will_not_do_is_replaced_by_one_of_another_endpoint() {
    local(async {
        let mut rig = Rig::new(|_, route, upstream| {
            two(upstream);
            on(route, &[RetryOn::Status(503)]);
        });
        let busy = serve(&rig, "origin:80", &[BUSY]);
        let well = serve(&rig, "other:80", &[OK]);
        let mut client = rig.client();

        for _ in 0..10 {
            client.send(GET).await;
            let (head, _) = client.message().await;
            assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        }

        assert_eq!(well.borrow().len(), 10);
        assert!((1..10).contains(&busy.borrow().len()));
        let retried = rig.lines().into_iter().filter(|line| line["attempts"] == 2);
        assert_eq!(retried.count(), busy.borrow().len());
        let again = well.borrow();
        assert!(
            again
                .iter()
                .any(|head| head.contains("x-envoy-attempt-count: 2\r\n"))
        );
        assert!(
            again
                .iter()
                .any(|head| head.contains("x-envoy-attempt-count: 1\r\n"))
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_last_answer_stands_when_all_attempts_are_made() {
    local(async {
        let mut rig = Rig::new(|_, route, _| on(route, &[RetryOn::ServerError]));
        let busy = serve(&rig, "origin:80", &[BUSY]);
        let mut client = rig.client();

        client.send(GET).await;
        let (head, _) = client.message().await;

        assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
        assert_eq!(busy.borrow().len(), 3);
        let line = rig.line();
        assert_eq!(line["attempts"], 3);
        assert_eq!(line["verdict"], serde_json::Value::Null);
        assert_eq!(rig.count(Counter::UpstreamRetries), 2);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_may_have_had_its_effect_is_repeated_only_when_somebody_says_so() {
    local(async {
        let key = "POST /pay HTTP/1.1\r\nhost: app.test\r\nidempotency-key: 7\r\n\
                   content-length: 3\r\n\r\neur";
        for (allowed, request, times) in [(false, PAY, 1), (true, PAY, 3), (false, key, 3)] {
            let mut rig = if allowed {
                Rig::new(|_, route, _| {
                    route.filters.retry = Some(Arc::new(Retry {
                        on: vec![RetryOn::ServerError],
                        non_idempotent: true,
                        ..Retry::default()
                    }));
                })
            } else {
                Rig::new(|_, route, _| on(route, &[RetryOn::ServerError]))
            };
            let busy = serve(&rig, "origin:80", &[BUSY]);
            let mut client = rig.client();

            client.send(request).await;
            let (head, _) = client.message().await;

            assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
            assert_eq!(busy.borrow().len(), times);
            assert!(busy.borrow().iter().all(|it| it.ends_with("\r\n\r\neur")));
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_too_large_to_keep_is_sent_once() {
    local(async {
        let mut rig = Rig::new(|_, route, _| {
            route.filters.retry = Some(Arc::new(Retry {
                on: vec![RetryOn::ServerError],
                max_body: 2,
                ..Retry::default()
            }));
        });
        let busy = serve(&rig, "origin:80", &[BUSY]);
        let mut client = rig.client();

        client
            .send("PUT /a HTTP/1.1\r\nhost: app.test\r\ncontent-length: 3\r\n\r\neur")
            .await;
        let (head, _) = client.message().await;

        assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
        assert_eq!(busy.borrow().len(), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_takes_too_long_is_followed_by_another() {
    local(async {
        let mut rig = Rig::new(|_, route, upstream| {
            two(upstream);
            route.filters.retry = Some(Arc::new(Retry {
                on: vec![RetryOn::GatewayError],
                per_try_timeout: Limit::At(Duration::from_secs(1)),
                ..Retry::default()
            }));
        });
        rig.origin(|_, mut peer| async move {
            peer.head().await;
            std::future::pending::<()>().await;
        });
        serve(&rig, "other:80", &[OK]);
        let mut client = rig.client();
        for _ in 0..4 {
            let began = Instant::now();
            client.send(GET).await;
            let (head, _) = client.message().await;
            assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
            assert!(began.elapsed() < Duration::from_millis(1_100));
        }
        let slow = rig.lines().into_iter().filter(|line| line["attempts"] == 2);
        assert!(slow.count() >= 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_last_attempt_that_takes_too_long_is_told_of() {
    local(async {
        let mut rig = Rig::new(|_, route, _| {
            route.filters.retry = Some(Arc::new(Retry {
                attempts: 1,
                on: vec![RetryOn::Reset],
                per_try_timeout: Limit::At(Duration::from_secs(1)),
                ..Retry::default()
            }));
        });
        rig.origin(|_, mut peer| async move {
            peer.head().await;
            std::future::pending::<()>().await;
        });
        let mut client = rig.client();
        let began = Instant::now();

        client.send(GET).await;
        let (head, _) = client.message().await;

        assert!(head.starts_with("HTTP/1.1 504 "), "{head}");
        assert!(began.elapsed() >= Duration::from_secs(2));
        let line = rig.line();
        assert_eq!(line["verdict"], "try_timeout");
        assert_eq!(line["attempts"], 2);
        assert_eq!(line["retry"], "tried_again");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn without_a_word_about_it_an_endpoint_that_is_not_there_is_passed_over() {
    local(async {
        let mut rig = Rig::new(|_, _, upstream| two(upstream));
        let well = serve(&rig, "other:80", &[OK]);
        let mut client = rig.client();

        for _ in 0..6 {
            client.send(PAY).await;
            let (head, _) = client.message().await;
            assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        }

        assert_eq!(well.borrow().len(), 6);
        assert!(
            well.borrow()
                .iter()
                .all(|it| !it.contains("x-envoy-attempt-count"))
        );
        assert!(rig.lines().iter().any(|line| line["attempts"] == 2));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_rule_can_switch_retries_off_and_a_hop_before_us_does() {
    local(async {
        let mut rig = Rig::new(|_, route, upstream| {
            two(upstream);
            route.filters.retry = Some(Arc::new(Retry {
                attempts: 0,
                ..Retry::default()
            }));
        });
        serve(&rig, "other:80", &[OK]);
        let mut client = rig.client();
        let mut refused = 0;
        for _ in 0..4 {
            client.send(GET).await;
            let (head, _) = client.message().await;
            refused += u32::from(head.starts_with("HTTP/1.1 502 "));
        }
        assert!(refused >= 1);

        let mut rig = Rig::new(|_, route, _| on(route, &[RetryOn::ServerError]));
        let busy = serve(&rig, "origin:80", &[BUSY]);
        let mut client = rig.client();
        client
            .send("GET / HTTP/1.1\r\nhost: app.test\r\nx-envoy-attempt-count: 1\r\n\r\n")
            .await;
        client.message().await;
        assert_eq!(busy.borrow().len(), 1);
    })
    .await;
}

/// Answers the first request of each connection, and does `then` with the next one.
fn once<F: Future<Output = ()> + 'static>(
    rig: &Rig,
    name: &str,
    then: impl Fn(Peer) -> F + Clone + 'static,
) -> Rc<RefCell<Vec<String>>> {
    let heads = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&heads);
    rig.origin_at(name, move |_, mut peer: Peer| {
        let (seen, then) = (Rc::clone(&seen), then.clone());
        async move {
            let (head, _) = peer.message().await;
            seen.borrow_mut().push(head);
            peer.send(OK).await;
            let (head, _) = peer.message().await;
            seen.borrow_mut().push(head);
            then(peer).await;
        }
    });
    heads
}

#[tokio::test(start_paused = true)]
async fn what_takes_too_long_on_a_kept_connection_goes_elsewhere() {
    local(async {
        let mut rig = Rig::new(|_, route, upstream| {
            two(upstream);
            route.filters.retry = Some(Arc::new(Retry {
                on: vec![RetryOn::Reset],
                per_try_timeout: Limit::At(Duration::from_secs(1)),
                ..Retry::default()
            }));
        });
        let hang = |peer: Peer| async move {
            std::future::pending::<()>().await;
            drop(peer);
        };
        let slow = once(&rig, "origin:80", hang);
        let well = serve(&rig, "other:80", &[OK]);
        let mut client = rig.client();

        for _ in 0..4 {
            client.send(GET).await;
            let (head, _) = client.message().await;
            assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        }

        // One that it answered and one that it kept; the retry was not for it.
        assert_eq!(slow.borrow().iter().filter(|it| !it.is_empty()).count(), 2);
        assert_eq!(well.borrow().len(), 3);
        let lines = rig.lines();
        let retried: Vec<_> = lines.iter().filter(|it| it["attempts"] == 2).collect();
        assert_eq!(retried.len(), 1, "{lines:#?}");
        assert_eq!(retried[0]["endpoint"], "other:80");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_connection_dies_is_not_repeated_for_a_condition_about_answers() {
    local(async {
        let mut rig = Rig::new(|_, route, _| {
            let unavailable = RetryOn::named("unavailable").unwrap();
            on(route, &[unavailable]);
        });
        let seen = once(&rig, "origin:80", |peer: Peer| async move { drop(peer) });
        let mut client = rig.client();
        let call = "POST /p.S/M HTTP/1.1\r\nhost: app.test\r\ncontent-type: application/grpc\r\n\
                    content-length: 0\r\n\r\n";

        client.send(call).await;
        client.message().await;
        client.send(call).await;
        let (head, _) = client.message().await;

        assert!(head.contains("grpc-status: 14\r\n"), "{head}");
        assert_eq!(seen.borrow().len(), 2);
        assert_eq!(rig.count(Counter::UpstreamRetries), 0);
    })
    .await;
}
