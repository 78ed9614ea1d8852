//! What it costs to find out what is spoken, counted by a clock that only moves when somebody waits.

#![expect(
    clippy::unwrap_used,
    reason = "clippy knows tests by their attribute; here everything is one"
)]

use std::{num::NonZeroUsize, time::Duration};

use sluice_config::Sources;
use sluice_gateway::{
    drain::Tasks,
    engine::{Engine, LocalEngine, Options},
    stream::{MemoryListener, MemoryNetwork},
    upstream::Connector,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::LocalSet,
    time::Instant,
};

const CONFIG: &str = "[access_log]\noutput = \"off\"\n\
    [listeners.web]\naddress = \"127.0.0.1:80\"\nprotocol = \"auto\"\n\
    [routes.raw]\nlisteners = [\"web\"]\nmode = \"tcp\"\nto = \"origin:80\"\n\
    [routes.web]\nlisteners = [\"web\"]\nrespond = { body = \"hello\" }\n";

/// The most that may be added to the first byte.
const MOST: Duration = Duration::from_millis(5);

fn engine(network: &MemoryNetwork) -> LocalEngine {
    let report = sluice_config::check(&Sources::from_text("test.toml", CONFIG), None);
    assert_eq!(report.problems, []);
    let mut options = Options::new(NonZeroUsize::MIN);
    options.connector = Connector::Memory(network.clone());
    Engine::local(options, &report.snapshot.unwrap()).unwrap()
}

/// Speaks first after `pause`, or answers what comes with it.
fn serve(mut origin: MemoryListener, says: &'static [u8], first: bool, pause: Duration) -> Tasks {
    let tasks = Tasks::new();
    let own = tasks.clone();
    tasks.spawn_local(async move {
        while let Some(mut stream) = origin.accept().await {
            own.spawn_local(async move {
                let mut room = [0; 64];
                if !first && !matches!(stream.read(&mut room).await, Ok(1..)) {
                    return;
                }
                tokio::time::sleep(pause).await;
                if stream.write_all(says).await.is_ok() {
                    while matches!(stream.read(&mut room).await, Ok(1..)) {}
                }
            });
        }
    });
    tasks
}

#[tokio::test(start_paused = true)]
async fn finding_out_what_is_spoken_adds_less_than_five_milliseconds_to_the_first_byte() {
    let mysql: &[u8] = b"\x4a\0\0\0\x0a8.4.0\0";
    let smtp: &[u8] = b"220 mail.example ESMTP\r\n";
    let postgres: &[u8] = b"R\0\0\0\x08\0\0\0\0";
    let start: &[u8] = b"\0\0\0\x10\0\x03\0\0user\0a\0\0";
    let request: &[u8] = b"GET / HTTP/1.1\r\nhost: a.example\r\n\r\n";
    let (at_once, slow) = (Duration::ZERO, Duration::from_millis(100));
    for (endpoint, first, pause, client, answer) in [
        (mysql, true, at_once, &b""[..], mysql),
        (mysql, true, slow, b"", mysql),
        (smtp, true, at_once, b"", smtp),
        (smtp, true, slow, b"", smtp),
        (postgres, false, at_once, start, postgres),
        (postgres, false, slow, start, postgres),
        // Whoever else is there.
        (mysql, true, at_once, request, b"HTTP/1.1 200 OK\r\n"),
        (smtp, true, slow, request, b"HTTP/1.1 200 OK\r\n"),
    ] {
        let set = LocalSet::new();
        let took = set.run_until(async {
            let network = MemoryNetwork::new();
            let endpoint = serve(network.listen("origin:80"), endpoint, first, pause);
            let mut engine = engine(&network);
            let mut stream = engine.connect("web").unwrap();
            let began = Instant::now();
            stream.write_all(client).await.unwrap();
            let mut got = vec![0; answer.len()];
            stream.read_exact(&mut got).await.unwrap();
            assert_eq!(got, answer);
            let took = began.elapsed();
            endpoint.abort();
            took
        });
        let alone = if client == request { at_once } else { pause };
        let added = took.await.saturating_sub(alone);
        let text = String::from_utf8_lossy(answer);
        assert!(added < MOST, "{added:?} before {text:?}");
    }
}
