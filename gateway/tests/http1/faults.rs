//! Failures on purpose: what is held back, what is answered, and whom that spares.

use std::time::Duration;

use sluice_config::model::{
    Fault, FaultAbort, FaultDelay, FaultStatus, GrpcStatus, HeaderName, Limit, Percent,
};
use sluice_gateway::telemetry::metrics::Counter;
use tokio::time::Instant;

use super::rig::{GET, OK, Rig, local};

const PAUSE: Duration = Duration::from_secs(5);

fn delay() -> Fault {
    Fault {
        delay: Some(FaultDelay {
            percent: Percent::new(100.0).unwrap(),
            duration: PAUSE,
        }),
        ..Fault::default()
    }
}

fn abort(with: FaultStatus) -> Fault {
    Fault {
        abort: Some(FaultAbort {
            percent: Percent::new(100.0).unwrap(),
            with,
        }),
        ..Fault::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_is_held_back_and_then_served() {
    local(async {
        let mut rig = Rig::new(|_, route, _| route.filters.fault = Some(delay()));
        rig.answers(OK);
        let mut client = rig.client();
        let began = Instant::now();

        client.send(GET).await;
        let (head, _) = client.message().await;

        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!((PAUSE..PAUSE + Duration::from_millis(10)).contains(&began.elapsed()));
        let line = rig.line();
        assert!(
            (5000.0..5010.0).contains(&line["delayed_ms"].as_f64().unwrap()),
            "{line}"
        );
        assert_eq!(line["verdict"], serde_json::Value::Null);
        assert_eq!(rig.count(Counter::FaultsDelayed), 1);
        assert_eq!(rig.count(Counter::FaultsAborted), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_delay_ends_with_the_time_of_the_rule() {
    local(async {
        let mut rig = Rig::new(|_, route, _| {
            route.filters.fault = Some(delay());
            route.timeout = Some(Limit::At(Duration::from_secs(2)));
        });
        rig.answers(OK);
        let mut client = rig.client();
        let began = Instant::now();

        client.send(GET).await;
        let (head, _) = client.message().await;

        assert!(head.starts_with("HTTP/1.1 504 "), "{head}");
        let two = Duration::from_secs(2);
        assert!((two..two + Duration::from_millis(10)).contains(&began.elapsed()));
        let line = rig.line();
        assert_eq!(line["verdict"], "request_timeout");
        assert_eq!(line["attempts"], 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_aborted_request_reaches_no_origin() {
    local(async {
        let mut rig = Rig::new(|_, route, _| {
            route.filters.fault = Some(abort(FaultStatus::Status(429)));
        });
        rig.answers(OK);
        let mut client = rig.client();

        client.send(GET).await;
        let (head, _) = client.message().await;
        // The connection goes on.
        client.send(GET).await;
        client.message().await;

        assert!(
            head.starts_with("HTTP/1.1 429 Too Many Requests\r\n"),
            "{head}"
        );
        for line in rig.lines() {
            assert_eq!(line["verdict"], "fault");
            assert_eq!(line["flags"], "FI");
            assert_eq!(line["status"], 429);
            assert_eq!(line["attempts"], 0);
            assert!(line.get("delayed_ms").is_none(), "{line}");
        }
        assert_eq!(rig.count(Counter::FaultsAborted), 2);
        assert_eq!(rig.count(Counter::UpstreamAttempts), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_call_is_aborted_in_the_words_of_grpc_and_another_request_in_those_of_http() {
    local(async {
        let mut rig = Rig::new(|_, route, _| {
            let status = FaultStatus::Grpc(GrpcStatus::DeadlineExceeded);
            route.filters.fault = Some(abort(status));
        });
        rig.answers(OK);
        let mut client = rig.client();

        let call = "POST /p.S/M HTTP/1.1\r\nhost: app.test\r\ncontent-type: application/grpc\r\n\
                    content-length: 0\r\n\r\n";
        client.send(call).await;
        let (head, _) = client.message().await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.contains("grpc-status: 4\r\n"), "{head}");

        client.send(GET).await;
        let (head, _) = client.message().await;
        assert!(head.starts_with("HTTP/1.1 504 "), "{head}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn with_a_header_whoever_does_not_send_it_is_spared() {
    local(async {
        let mut rig = Rig::new(|_, route, _| {
            let header = HeaderName::new("x-chaos");
            let fault = abort(FaultStatus::Status(503));
            route.filters.fault = Some(Fault { header, ..fault });
        });
        rig.answers(OK);
        let mut client = rig.client();

        client.send(GET).await;
        let (spared, _) = client.message().await;
        client
            .send("GET / HTTP/1.1\r\nhost: app.test\r\nx-chaos: 1\r\n\r\n")
            .await;
        let (harmed, _) = client.message().await;

        assert!(spared.starts_with("HTTP/1.1 200 OK\r\n"), "{spared}");
        assert!(harmed.starts_with("HTTP/1.1 503 "), "{harmed}");
    })
    .await;
}
