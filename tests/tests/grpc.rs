//! gRPC with a real server and a real client on both sides of the gateway.
//!
//! Python's `grpcio` stands in `target/tools/grpc` (`tests/setup`); without it these tests are skipped,
//! loudly.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
};

use parking_lot::Mutex;
use sluice_tests::{Gateway, eventually::eventually, gateway, origin::closed_port};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/grpc");

/// The Python that has `grpcio`.
fn python() -> Option<PathBuf> {
    // target/<profile>/deps/<test>
    let test = std::env::current_exe().expect("the path of this test");
    let target = test.ancestors().nth(3).expect("target");
    let python = target.join("tools/grpc/bin/python");
    if !python.exists() {
        eprintln!("SKIPPED: there is no {}; run tests/setup", python.display());
        return None;
    }
    Some(python)
}

/// A gRPC server in its own process; it ends when this is dropped.
struct Server {
    process: Child,
    port: u16,
    said: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(python: &Path) -> Self {
        let mut process = Command::new(python)
            .arg(Path::new(FOLDER).join("server.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python starts");
        let mut lines = BufReader::new(process.stdout.take().expect("a pipe")).lines();
        let first = lines.next().expect("a line").expect("text");
        let port = first.strip_prefix("port ").expect("a port");
        let port = port.parse().expect("a number");
        let said = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&said);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                record.lock().push(line);
            }
        });
        Self {
            process,
            port,
            said,
        }
    }

    async fn says(&self, line: &str) {
        eventually(&format!("the server says {line:?}"), || {
            self.said
                .lock()
                .iter()
                .any(|said| said == line)
                .then_some(())
        })
        .await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.process.kill().unwrap_or_default();
        self.process.wait().expect("it ends");
    }
}

async fn in_front_of(server: &Server, closed: std::net::SocketAddr) -> Gateway {
    gateway(&format!(
        "[listeners.web]\naddress = \"127.0.0.1:0\"\ngrpc_web = true\n\
         [[routes.r.rules]]\nmatch = {{ path = {{ regex = \"/calls.Calls/(Bounded|Tick)\" }} }}\ntimeout = \"500ms\"\nto = \"calls\"\n\
         [[routes.r.rules]]\nmatch = {{ path = {{ prefix = \"/calls.Calls\" }} }}\nto = \"calls\"\n\
         [[routes.r.rules]]\nmatch = {{ path = {{ prefix = \"/closed.Calls\" }} }}\nto = \"{closed}\"\n\
         [upstreams.calls]\nendpoints = [\"127.0.0.1:{}\"]\nprotocol = \"http2\"\n",
        server.port
    ))
    .await
}

#[tokio::test]
async fn calls_of_every_kind_pass_untouched() {
    let Some(python) = python() else { return };
    let server = Server::start(&python);
    let (closed, _guard) = closed_port();
    let gateway = in_front_of(&server, closed).await;

    let client = tokio::process::Command::new(&python)
        .arg(Path::new(FOLDER).join("client.py"))
        .arg(gateway.address().to_string())
        .kill_on_drop(true)
        .output();
    let client = tokio::time::timeout(std::time::Duration::from_mins(2), client).await;
    let client = client.expect("it ends").expect("python starts");

    let said = String::from_utf8_lossy(&client.stdout);
    assert!(
        client.status.success(),
        "after\n{said}:\n{}\nthe gateway's last lines: {:#?}",
        String::from_utf8_lossy(&client.stderr),
        gateway
            .log()
            .lines()
            .iter()
            .rev()
            .take(3)
            .collect::<Vec<_>>()
    );
    assert_eq!(said.lines().count(), 10, "{said}");
    // Deadline, cancellation and our own time limit reach the server: it need not go on.
    for call in ["deadline", "cancel", "bounded"] {
        server.says(&format!("ended {call}")).await;
    }
}

#[tokio::test]
async fn a_browser_calls_a_real_server() {
    let Some(python) = python() else { return };
    let server = Server::start(&python);
    let (closed, _guard) = closed_port();
    let gateway = in_front_of(&server, closed).await;
    let message = b"\0\0\0\0\x05hello";
    for (kind, body) in [
        ("application/grpc-web+proto", message.to_vec()),
        ("application/grpc-web-text", b"AAAAAAVoZWxsbw==".to_vec()),
    ] {
        let mut request = format!(
            "POST /calls.Calls/Unary HTTP/1.1\r\nHost: a\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        request.extend(body);
        let reply = gateway.ask(request).await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("x-initial"), Some("first"));
        let is_text = kind.contains("text");
        let expected: &[u8] = if is_text {
            b"AAAAAAplY2hvIGhlbGxv"
        } else {
            b"\0\0\0\0\x0aecho hello"
        };
        assert!(reply.message.body.starts_with(expected), "{}", reply.text());
        if !is_text {
            let trailers = &reply.message.body[expected.len()..];
            assert_eq!(trailers[0], 0x80);
            let text = String::from_utf8_lossy(&trailers[5..]);
            assert!(text.contains("grpc-status: 0\r\n"), "{text}");
            assert!(text.contains("x-trailing: last\r\n"), "{text}");
        }
    }
}
