use super::*;
use crate::telemetry::metrics::Metrics;
use sluice_config::model::{LogField, LogFormat, LogPart, StatusClass};
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
        flags: None,
        bytes_in: 0,
        bytes_out: 12,
        duration: Duration::from_micros(1234),
        connect: None,
        first_byte: None,
        failed: None,
        route: Some("app"),
        rule: Some("#1"),
        upstream: None,
        endpoint: None,
        attempts: 0,
        reused: false,
        retry: None,
        request_id: None,
        trace_id: None,
        user_agent: None,
        referer: None,
        version: None,
        tls_version: None,
        tls_cipher: None,
        sni: None,
        alpn: None,
        client_certificate: None,
        datagrams: None,
        delayed: None,
        egress: None,
    }
}

#[test]
fn a_line_is_one_json_object_with_time_and_duration_as_documented() {
    let memory = Memory::default();
    let metrics = Metrics::new(1);
    let writer = Writer::start(
        Sink::Memory(memory.clone()),
        &AccessLog::default(),
        1,
        metrics.worker(0),
    )
    .unwrap();

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
    let writer = Writer::start(
        Sink::Memory(memory.clone()),
        &AccessLog::default(),
        1,
        metrics.worker(0),
    )
    .unwrap();
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
        shape: Shape::new(&AccessLog::default()),
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
        ..AccessLog::default()
    };
    let metrics = Metrics::new(2);
    let writer = Writer::start(open(&model).unwrap(), &model, 2, metrics.control()).unwrap();

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
        ..AccessLog::default()
    };
    assert!(open(&model).is_err());
}

/// What is written of one line.
fn written(model: &AccessLog, line: &Line<'_>) -> Vec<String> {
    let memory = Memory::default();
    let metrics = Metrics::new(1);
    let sink = Sink::Memory(memory.clone());
    let writer = Writer::start(sink, model, 1, metrics.worker(0)).unwrap();
    writer.write(0, line);
    memory.lines()
}

fn model(format: LogFormat) -> AccessLog {
    AccessLog {
        format,
        ..AccessLog::default()
    }
}

#[test]
fn the_classic_formats_are_those_that_everybody_reads() {
    let mut line = line("/a");
    line.user_agent = Some("curl/8".into());

    assert_eq!(
        written(&model(LogFormat::Common), &line),
        ["127.0.0.1 - - [14/Nov/2023:22:13:20 +0000] \"GET /a HTTP/1.1\" 200 12"]
    );
    assert_eq!(
        written(&model(LogFormat::Combined), &line),
        ["127.0.0.1 - - [14/Nov/2023:22:13:20 +0000] \"GET /a HTTP/1.1\" 200 12 \"-\" \"curl/8\""]
    );
}

#[test]
fn a_format_of_the_operator_fills_in_fields_and_dashes() {
    let parts = vec![
        LogPart::Text("{".into()),
        LogPart::Field(LogField::Status),
        LogPart::Text(" ".into()),
        LogPart::Field(LogField::Upstream),
        LogPart::Text(" ".into()),
        LogPart::Field(LogField::Duration),
        LogPart::Text(" ".into()),
        LogPart::Field(LogField::Time),
    ];
    assert_eq!(
        written(&model(LogFormat::Parts(parts)), &line("/")),
        ["{200 - 1.234 2023-11-14T22:13:20.007Z"]
    );
}

#[test]
fn outside_of_json_nothing_a_peer_sends_breaks_out_of_its_field() {
    let mut line = line("/\"}\n{\r\u{1b}[2J\u{9b}\u{202e}é\\");
    line.user_agent = Some("\" 200 0 \"-\n127.0.0.1 - - ".into());
    for format in [LogFormat::Common, LogFormat::Combined] {
        let lines = written(&model(format), &line);
        assert_eq!(lines.len(), 1);
        assert!(lines[0].bytes().all(|byte| (b' '..=b'~').contains(&byte)));
        assert!(
            lines[0].contains(r#"/\"}\x0A{\x0D\x1B[2J\xC2\x9B\xE2\x80\xAE\xC3\xA9\\ HTTP/1.1""#)
        );
    }
}

#[test]
fn dropped_fields_are_gone_and_redacted_ones_hide_their_value() {
    let mut line = line("/");
    line.user_agent = Some("curl/8".into());
    let mut model = model(LogFormat::Json);
    model.fields.drop = vec![LogField::Time, LogField::Peer];
    model.fields.redact = vec![LogField::UserAgent, LogField::RequestId, LogField::Client];

    let lines = written(&model, &line);

    let object: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!(object.get("time"), None);
    assert_eq!(object.get("peer"), None);
    assert_eq!(object["user_agent"], "redacted");
    assert_eq!(object["client"], "redacted");
    assert_eq!(object["request_id"], serde_json::Value::Null);
    assert_eq!(object["path"], "/");
}

#[test]
fn a_line_is_written_when_every_condition_holds() {
    let filtered = |status: &[StatusClass], millis| {
        let mut model = model(LogFormat::Json);
        model.filter.status = status.to_vec();
        model.filter.min_duration = Duration::from_millis(millis);
        written(&model, &line("/")).len()
    };
    let cases = [
        (&[][..], 0, 1),
        (&[StatusClass::Class(2)][..], 0, 1),
        (&[StatusClass::Class(5), StatusClass::One(200)][..], 1, 1),
        (&[StatusClass::Class(5), StatusClass::One(201)][..], 0, 0),
        (&[][..], 2, 0),
        (&[StatusClass::Class(2)][..], 2, 0),
    ];
    for (status, millis, lines) in cases {
        assert_eq!(filtered(status, millis), lines, "{status:?} {millis}");
    }
}
