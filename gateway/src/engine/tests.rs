//! The engine on real sockets, asked by a client that speaks HTTP by hand.

use std::{net::SocketAddr, num::NonZeroUsize, sync::Arc, time::Duration};

use sluice_config::{Snapshot, Sources};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::LocalSet,
    time::timeout,
};

use super::{Applied, ApplyError, Engine, LocalEngine, Options};
use crate::telemetry::metrics::Counter;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(10);

fn snapshot(text: &str) -> Arc<Snapshot> {
    let text = format!("[access_log]\noutput = \"off\"\n{text}");
    let report = sluice_config::check(&Sources::from_text("test.toml", &text), None);
    assert_eq!(report.problems, [], "{text}");
    report.snapshot.expect("good")
}

/// Listeners with addresses, each with a route that answers its name.
fn answering(listeners: &[(&str, &str)]) -> Arc<Snapshot> {
    let each = |(name, address): &(&str, &str)| {
        format!(
            "[listeners.{name}]\naddress = \"{address}\"\n\
             [routes.{name}]\nlisteners = [\"{name}\"]\nrespond = {{ body = \"{name}\" }}\n"
        )
    };
    snapshot(&listeners.iter().map(each).collect::<String>())
}

fn start(first: Arc<Snapshot>) -> Result<(Engine, watch::Sender<Arc<Snapshot>>), ApplyError> {
    let (snapshots, receiver) = watch::channel(first);
    let options = Options::new(NonZeroUsize::new(2).expect("two"));
    Ok((Engine::start(options, receiver)?, snapshots))
}

/// Publishes `next` and waits for what becomes of it.
async fn apply(
    engine: &Engine,
    snapshots: &watch::Sender<Arc<Snapshot>>,
    next: Arc<Snapshot>,
) -> Applied {
    let mut applied = engine.applied();
    let before = applied.borrow().handled;
    snapshots.send_replace(next);
    let handled = applied.wait_for(|applied| applied.handled > before);
    let handled = timeout(PATIENCE, handled).await.expect("in time");
    handled.expect("the engine lives").clone()
}

/// The next response of a connection, head and body.
async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> String {
    let request = b"GET / HTTP/1.1\r\nhost: a.example\r\n\r\n";
    stream.write_all(request).await.expect("written");
    answer(stream).await
}

async fn answer(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut text = Vec::new();
    loop {
        let mut piece = [0; 1024];
        let read = timeout(PATIENCE, stream.read(&mut piece))
            .await
            .expect("in time");
        let read = read.unwrap_or(0);
        text.extend_from_slice(&piece[..read]);
        let all = String::from_utf8_lossy(&text);
        let length = all
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .and_then(|length| length.parse::<usize>().ok());
        let whole = all
            .split_once("\r\n\r\n")
            .is_some_and(|(_, body)| Some(body.len()) == length);
        if whole || read == 0 {
            return all.into_owned();
        }
    }
}

async fn ask_at(address: SocketAddr) -> String {
    ask(&mut TcpStream::connect(address).await.expect("accepted")).await
}

#[tokio::test]
async fn an_address_that_is_taken_refuses_the_start() {
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = taken.local_addr().expect("bound").to_string();

    match start(answering(&[("web", &address)])) {
        Err(ApplyError::Refused(problems)) => {
            assert_eq!(problems[0].at, "listeners.web.address");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_bound_leaves_everything_as_it_was() {
    let other = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let taken = other.local_addr().expect("bound").to_string();
    let (engine, snapshots) = start(answering(&[("web", "127.0.0.1:0")])).expect("started");
    let web = engine.address("web").expect("bound");
    let mut kept = TcpStream::connect(web).await.expect("accepted");
    assert!(ask(&mut kept).await.ends_with("web"));

    let next = answering(&[("web", "127.0.0.1:0"), ("more", &taken)]);
    let applied = apply(&engine, &snapshots, Arc::clone(&next)).await;

    let refused = applied.refused.expect("refused");
    assert_eq!(refused.version, next.version);
    assert_eq!(refused.problems[0].code, "bind");
    assert_ne!(applied.version, Some(next.version.clone()));
    assert_eq!(engine.metrics().sum(Counter::ReloadsRefused), 1);
    assert_eq!(engine.address("more"), None);
    assert!(ask(&mut kept).await.ends_with("web"));
    assert!(ask_at(web).await.ends_with("web"));
}

#[tokio::test]
async fn listeners_swap_their_addresses() {
    let (engine, snapshots) =
        start(answering(&[("a", "127.0.0.1:0"), ("b", "127.0.0.1:0")])).expect("started");
    let (one, two) = (
        engine.address("a").expect("a"),
        engine.address("b").expect("b"),
    );
    assert!(engine.drain(PATIENCE).await);
    drop(snapshots);

    let (first, second) = (one.to_string(), two.to_string());
    let (engine, snapshots) = start(answering(&[("a", &first), ("b", &second)])).expect("started");
    assert!(ask_at(one).await.ends_with('a'));
    let mut kept = TcpStream::connect(one).await.expect("accepted");
    assert!(ask(&mut kept).await.ends_with('a'));

    let swapped = answering(&[("a", &second), ("b", &first)]);
    let applied = apply(&engine, &snapshots, swapped).await;

    assert!(applied.refused.is_none(), "{applied:?}");
    assert!(ask_at(one).await.ends_with('b'));
    assert!(ask_at(two).await.ends_with('a'));
    // An open connection stays one of listener a, and ends with its next response.
    let last = ask(&mut kept).await;
    assert!(
        last.ends_with('a') && last.contains("connection: close"),
        "{last}"
    );
}

#[tokio::test]
async fn draining_finishes_what_is_in_flight_and_nothing_else() {
    let origin = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let config = format!(
        "[listeners.web]\naddress = \"127.0.0.1:0\"\n[routes.a]\nto = \"{}\"\n",
        origin.local_addr().expect("bound")
    );
    let (engine, _snapshots) = start(snapshot(&config)).expect("started");
    let web = engine.address("web").expect("bound");
    let mut busy = TcpStream::connect(web).await.expect("accepted");
    let mut idle = TcpStream::connect(web).await.expect("accepted");
    busy.write_all(b"GET / HTTP/1.1\r\nhost: a.example\r\n\r\n")
        .await
        .expect("written");
    let (mut asked, _) = timeout(PATIENCE, origin.accept())
        .await
        .expect("in time")
        .expect("it");
    asked.read_u8().await.expect("the request");

    let finish = async {
        let mut byte = [0];
        let closed = timeout(PATIENCE, idle.read(&mut byte))
            .await
            .expect("closed promptly");
        assert_eq!(closed.unwrap_or(0), 0);
        assert!(TcpStream::connect(web).await.is_err(), "nobody accepts");
        asked
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            .await
            .expect("written");
        answer(&mut busy).await
    };
    let (in_time, last) = tokio::join!(engine.drain(PATIENCE), finish);

    assert!(in_time);
    assert!(
        last.ends_with("ok") && last.contains("connection: close"),
        "{last}"
    );
}

#[tokio::test]
async fn draining_ends_what_does_not_finish() {
    let origin = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let config = format!(
        "[listeners.web]\naddress = \"127.0.0.1:0\"\n[routes.a]\nto = \"{}\"\n",
        origin.local_addr().expect("bound")
    );
    let (engine, _snapshots) = start(snapshot(&config)).expect("started");
    let web = engine.address("web").expect("bound");
    let mut busy = TcpStream::connect(web).await.expect("accepted");
    busy.write_all(b"GET / HTTP/1.1\r\nhost: a.example\r\n\r\n")
        .await
        .expect("written");
    let _never_answered = timeout(PATIENCE, origin.accept()).await.expect("in time");

    assert!(!engine.drain(Duration::from_millis(50)).await);
    assert_eq!(answer(&mut busy).await, "");
}

#[tokio::test]
async fn plans_that_were_replaced_are_freed() {
    let (engine, snapshots) = start(answering(&[("web", "127.0.0.1:0")])).expect("started");
    let web = engine.address("web").expect("bound");
    let mut client = TcpStream::connect(web).await.expect("accepted");
    let first = Arc::downgrade(&snapshots.borrow());
    for number in 0..20 {
        let next = snapshot(&format!(
            "[listeners.web]\naddress = \"127.0.0.1:0\"\n[routes.a]\nrespond = {{ body = \"{number}\" }}\n"
        ));
        assert!(apply(&engine, &snapshots, next).await.refused.is_none());
        assert!(ask(&mut client).await.ends_with(&number.to_string()));
    }
    assert!(first.upgrade().is_none());
    assert_eq!(engine.metrics().sum(Counter::ReloadsApplied), 21);
}

#[tokio::test(start_paused = true)]
async fn an_engine_in_memory_serves_and_reloads_on_the_callers_runtime() {
    let work = async {
        let first = answering(&[("web", "127.0.0.1:8080")]);
        let options = Options::new(NonZeroUsize::MIN);
        let mut engine = Engine::local(options, &first).expect("started");
        let mut client = engine.connect("web").expect("there");
        assert!(engine.connect("none").is_none());
        assert!(ask(&mut client).await.ends_with("web"));

        let next = "[listeners.web]\naddress = \"127.0.0.1:8080\"\n[routes.a]\nrespond = { body = \"new\" }\n";
        engine.apply(&snapshot(next)).await.expect("applied");
        assert!(ask(&mut client).await.ends_with("new"));

        // Nobody says anything: the idle timeout closes, on a clock that does not wait.
        assert_eq!(
            answer_within(&mut client, Duration::from_mins(10)).await,
            ""
        );
        assert!(engine.drain(Duration::from_secs(1)).await);
    };
    Box::pin(LocalSet::new().run_until(work)).await;
}

/// A client of HTTP/2 that acknowledges our settings and then says nothing, or answers pings.
async fn lasts(engine: &mut LocalEngine, answers: bool) -> Duration {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
    const ACK: &[u8] = &[0, 0, 0, 4, 1, 0, 0, 0, 0];
    const PING: &[u8] = &[0, 0, 8, 6, 0, 0, 0, 0, 0];
    let mut client = engine.connect("web").expect("there");
    let begun = tokio::time::Instant::now();
    let opening = [PREFACE, SETTINGS, ACK].concat();
    client.write_all(&opening).await.expect("taken");
    let mut pending = Vec::new();
    let closed = async {
        while client
            .read_buf(&mut pending)
            .await
            .is_ok_and(|read| read > 0)
        {
            let ping = pending.windows(PING.len()).position(|it| it == PING);
            let Some(contents) = ping.and_then(|at| pending.get(at + 9..at + 17)) else {
                continue;
            };
            let answer = [&PING[..4], &[1], &PING[5..], contents].concat();
            pending.clear();
            if answers && client.write_all(&answer).await.is_err() {
                break;
            }
        }
    };
    timeout(Duration::from_mins(10), closed)
        .await
        .expect("closed");
    begun.elapsed()
}

#[tokio::test(start_paused = true)]
async fn who_answers_no_ping_is_closed_at_its_deadline() {
    let work = async {
        let options = Options::new(NonZeroUsize::MIN);
        let first = answering(&[("web", "127.0.0.1:8080")]);
        let mut engine = Engine::local(options, &first).expect("started");
        // Asked after 30 seconds, waited for 20 more; the idle timeout is 75.
        let silent = lasts(&mut engine, false).await.as_secs();
        assert!((49..=52).contains(&silent), "{silent}");
        let answering = lasts(&mut engine, true).await.as_secs();
        assert!((75..=80).contains(&answering), "{answering}");
    };
    LocalSet::new().run_until(work).await;
}

async fn answer_within(stream: &mut (impl AsyncRead + Unpin), patience: Duration) -> String {
    let mut text = String::new();
    let read = stream.read_to_string(&mut text);
    timeout(patience, read)
        .await
        .expect("closed")
        .expect("text");
    text
}
