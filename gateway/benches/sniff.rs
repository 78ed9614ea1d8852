//! What it adds to the first byte that a listener has to find out what is spoken.
//!
//! Goal: less than 5 ms, for endpoints that speak first as `MySQL` and mail servers do, for clients that
//! speak first as those of `PostgreSQL` and HTTP do, all behind one port. Each kind is asked in turns,
//! directly and through the program, from the moment that its client is connected.
#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a measurement, for people"
)]

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    runtime,
    time::Instant,
};

const TURNS: usize = 400;

/// The most that may be added.
const MOST: Duration = Duration::from_millis(5);

/// Longer than that nobody waits for a start.
const PATIENCE: Duration = Duration::from_secs(20);

const START: &[u8] = b"\0\0\0\x10\0\x03\0\0user\0a\0\0";
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: a.example\r\n\r\n";

/// Says this to whoever connects, or to whoever has said something.
#[derive(Clone, Copy)]
struct Endpoint {
    says: &'static [u8],
    first: bool,
}

async fn serve(socket: TcpListener, endpoint: Endpoint) {
    let tasks = sluice_gateway::drain::Tasks::new();
    while let Ok((mut stream, _)) = socket.accept().await {
        stream.set_nodelay(true).expect("a socket");
        tasks.spawn(async move {
            let mut room = [0; 1024];
            if !endpoint.first && !matches!(stream.read(&mut room).await, Ok(1..)) {
                return;
            }
            if stream.write_all(endpoint.says).await.is_ok() {
                while matches!(stream.read(&mut room).await, Ok(1..)) {}
            }
        });
    }
}

/// How long a client that says this waits for the first byte.
async fn ask(address: SocketAddr, says: &[u8]) -> Option<Duration> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    stream.set_nodelay(true).ok()?;
    let began = Instant::now();
    stream.write_all(says).await.ok()?;
    let mut first = [0];
    stream.read_exact(&mut first).await.ok()?;
    Some(began.elapsed())
}

fn start(folder: &Path, ours: SocketAddr, endpoint: SocketAddr) -> Child {
    let config = folder.join("sluice.toml");
    let state = folder.display();
    let text = format!(
        "[process]\nworkers = 1\nstate_directory = \"{state}\"\n[access_log]\noutput = \"off\"\n\
         [listeners.any]\naddress = \"{ours}\"\nprotocol = \"auto\"\n\
         [routes.raw]\nlisteners = [\"any\"]\nmode = \"tcp\"\nto = \"{endpoint}\"\n\
         [routes.web]\nlisteners = [\"any\"]\nrespond = {{ body = \"hello\" }}\n"
    );
    fs::write(&config, text).expect("a configuration");
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.args(["run", "--config"]).arg(config);
    for port in ["SLUICE_ADMIN", "SLUICE_METRICS", "SLUICE_READINESS"] {
        command.env(port, "off");
    }
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(Stdio::null()).spawn().expect("it starts")
}

async fn measure(what: &str, endpoint: Endpoint, says: &[u8], directly: bool) -> bool {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let socket = socket.expect("a port");
    let theirs = socket.local_addr().expect("an address");
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let ours = free.expect("a port").local_addr().expect("an address");
    let tasks = sluice_gateway::drain::Tasks::new();
    tasks.spawn(serve(socket, endpoint));
    let folder = tempfile::tempdir().expect("a folder");
    let mut child = start(folder.path(), ours, theirs);
    let deadline = Instant::now() + PATIENCE;
    while ask(ours, says).await.is_none() {
        assert!(Instant::now() < deadline, "it never served");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (mut alone, mut through) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        // What is answered by the program itself has nothing to be compared with.
        if directly {
            alone.push(ask(theirs, says).await.expect("an answer"));
        }
        through.push(ask(ours, says).await.expect("an answer"));
    }
    child.kill().expect("it ends");
    child.wait().expect("it ends");
    let at = |times: &mut Vec<Duration>, percent: usize| {
        times.sort_unstable();
        let place = times.len().saturating_sub(1) * percent / 100;
        times.get(place).copied().unwrap_or_default()
    };
    let median = at(&mut through, 50).saturating_sub(at(&mut alone, 50));
    let most = at(&mut through, 99).saturating_sub(at(&mut alone, 99));
    println!("{what:<32} adds {median:>10.1?} (median), {most:>10.1?} (p99)");
    tasks.abort();
    median < MOST
}

fn main() {
    // Cargo also asks for it with the tests, which want no measurement.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let greeting = |says| Endpoint { says, first: true };
    let mysql = greeting(b"\x4a\0\0\0\x0a8.4.0\0");
    let smtp = greeting(b"220 mail.example ESMTP\r\n");
    let postgres = Endpoint {
        says: b"R\0\0\0\x08\0\0\0\0",
        first: false,
    };
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let fine = runtime.block_on(async {
        [
            measure("like MySQL", mysql, b"", true).await,
            measure("like SMTP", smtp, b"", true).await,
            measure("like PostgreSQL", postgres, START, true).await,
            measure("HTTP beside MySQL", mysql, REQUEST, false).await,
        ]
    });
    assert!(fine.iter().all(|fine| *fine), "more than {MOST:?}");
}
