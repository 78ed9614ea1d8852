use super::*;
use crate::telemetry::metrics::Metrics;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

fn line(path: &str) -> Line<'_> {
    Line {
        time: time::OffsetDateTime::from_unix_timestamp_nanos(1_700_000_000_007_000_000).unwrap(),
        listener: "web",
        client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        peer: SocketAddr::from(([127, 0, 0, 1], 4711)),
        connection: 1,
        scheme: Some("http"),
        method: Some("GET"),
        host: Some("a.test"),
        path: Some(path),
        protocol: Some("HTTP/1.1"),
        status: 200,
        verdict: None,
        bytes_in: 0,
        bytes_out: 12,
        duration: Duration::from_micros(1234),
        route: Some("app"),
        rule: Some("#1"),
        upstream: None,
        endpoint: None,
        attempts: 0,
        reused: false,
        request_id: None,
        user_agent: None,
        version: None,
    }
}

#[test]
fn a_line_is_one_json_object_with_time_and_duration_as_documented() {
    let memory = Memory::default();
    let metrics = Metrics::new(1);
    let writer = Writer::start(Sink::Memory(memory.clone()), 1, 10, metrics.worker(0)).unwrap();

    writer.write(0, &line("/a"));

    let lines = memory.lines();
    assert_eq!(lines.len(), 1);
    let object: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!(object["time"], "2023-11-14T22:13:20.007Z");
    assert_eq!(object["duration_ms"], 1.234);
    assert_eq!(object["path"], "/a");
    assert_eq!(object["upstream"], serde_json::Value::Null);
}

#[test]
fn nothing_a_peer_sends_breaks_out_of_its_line() {
    let memory = Memory::default();
    let metrics = Metrics::new(1);
    let writer = Writer::start(Sink::Memory(memory.clone()), 1, 10, metrics.worker(0)).unwrap();
    let nasty = "/\"}\n{\"status\":200}\r\u{1b}[2J\u{9b}31m\u{7f}\u{2028}\u{202e}é\\";

    writer.write(0, &line(nasty));

    let lines = memory.lines();
    assert_eq!(lines.len(), 1);
    assert!(lines[0].chars().all(|c| !c.is_control()), "{}", lines[0]);
    let object: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!(object["path"], nasty);
}

#[test]
fn a_full_queue_drops_lines_and_counts_them() {
    let metrics = Metrics::new(1);
    let shared = Shared {
        lanes: Box::new([Mutex::default()]),
        sink: Mutex::new(Sink::Nowhere),
        at_once: false,
        waiting: AtomicUsize::new(0),
        queue: 2,
        asleep: AtomicBool::new(false),
        closed: AtomicBool::new(false),
        thread: OnceLock::new(),
        counters: metrics.worker(0),
    };

    for _ in 0..5 {
        shared.write(0, &line("/"));
    }

    assert_eq!(metrics.sum(Counter::AccessLogDropped), 3);
    shared.drain(&mut Vec::new());
    shared.write(0, &line("/"));
    assert_eq!(metrics.sum(Counter::AccessLogDropped), 3);
}

#[test]
fn lines_of_every_worker_reach_the_file_by_the_time_the_writer_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let model = AccessLog {
        output: AccessLogOutput::File(path.clone()),
        queue: 1000,
    };
    let metrics = Metrics::new(2);
    let writer = Writer::start(open(&model).unwrap(), 2, model.queue, metrics.control()).unwrap();

    for number in 0..100 {
        writer.write(number % 2, &line("/"));
    }
    drop(writer);

    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 100);
    assert_eq!(metrics.sum(Counter::AccessLogDropped), 0);
}

#[test]
fn a_file_that_cannot_be_opened_is_told_before_anything_runs() {
    let model = AccessLog {
        output: AccessLogOutput::File("/nonexistent/folder/access.log".into()),
        queue: 1,
    };
    assert!(open(&model).is_err());
}
