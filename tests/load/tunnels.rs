//! Tunnels through forward proxies: each is asked for by CONNECT, carries one request and its answer, and
//! is gone.
//!
//! `tunnels PROXY TARGET PATH CONNECTIONS SECONDS` keeps so many of them going. The request inside asks for
//! PATH; with the last byte of its answer the client leaves. Needs the standard library only, and says what
//! came of it in JSON.

#![expect(clippy::disallowed_types, reason = "nothing here has a paused clock")]

use std::{
    env,
    error::Error,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

/// What has not come by then never comes.
const PATIENCE: Duration = Duration::from_secs(10);

/// Read at a time.
const ROOM: usize = 256 << 10;

/// What every tunnel says.
struct Words {
    proxy: SocketAddr,
    connect: String,
    request: String,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [proxy, target, path, connections, seconds] = arguments.as_slice() else {
        return Err("tunnels PROXY TARGET PATH CONNECTIONS SECONDS".into());
    };
    let words = Arc::new(Words {
        proxy: proxy.parse()?,
        connect: format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n"),
        request: format!("GET {path} HTTP/1.1\r\nHost: {target}\r\n\r\n"),
    });
    let connections: usize = connections.parse()?;
    let begun = Instant::now();
    let end = begun + Duration::from_secs_f64(seconds.parse()?);

    let lanes: Vec<_> = (0..connections)
        .map(|_| {
            let words = Arc::clone(&words);
            thread::spawn(move || run(&words, end))
        })
        .collect();
    let (mut bytes, mut times) = (0, Vec::new());
    for lane in lanes {
        let (some, took) = lane.join().map_err(|_| "a tunnel panicked")??;
        bytes += some;
        times.extend(took);
    }
    let seconds = begun.elapsed().as_secs_f64();
    times.sort_unstable();
    let at = |percent: usize| {
        times
            .get(times.len() * percent / 100)
            .map_or(0, Duration::as_micros)
    };
    let (tunnels, p50, p99) = (times.len(), at(50), at(99));
    println!(
        "{{\"tunnels\": {tunnels}, \"bytes\": {bytes}, \"seconds\": {seconds}, \"p50\": {p50}, \"p99\": {p99}}}"
    );
    Ok(())
}

/// One tunnel after the other. Gives the bytes that came through, and how long each tunnel took.
fn run(words: &Words, end: Instant) -> io::Result<(usize, Vec<Duration>)> {
    let mut buffer = vec![0; ROOM];
    let (mut bytes, mut times) = (0, Vec::new());
    while Instant::now() < end {
        let begun = Instant::now();
        bytes += tunnel(words, &mut buffer)?;
        times.push(begun.elapsed());
    }
    Ok((bytes, times))
}

fn tunnel(words: &Words, buffer: &mut [u8]) -> io::Result<usize> {
    let broken = |why: &[u8]| {
        let why = String::from_utf8_lossy(why).into_owned();
        io::Error::new(io::ErrorKind::InvalidData, why)
    };
    let mut stream = TcpStream::connect(words.proxy)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(words.connect.as_bytes())?;
    let mut head = Vec::new();
    // Nothing comes behind it before something was asked for inside.
    while !head.ends_with(b"\r\n\r\n") {
        let read = stream.read(buffer)?;
        if read == 0 {
            return Err(broken(&head));
        }
        head.extend_from_slice(&buffer[..read]);
    }
    if !head.starts_with(b"HTTP/1.1 200") && !head.starts_with(b"HTTP/1.0 200") {
        return Err(broken(&head));
    }
    stream.write_all(words.request.as_bytes())?;
    let mut head = Vec::new();
    let begin = loop {
        let read = stream.read(buffer)?;
        head.extend_from_slice(&buffer[..read]);
        if read == 0 || !head.starts_with(b"HTTP/1.1 200") {
            return Err(broken(&head));
        }
        if let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let length = length(&head[..begin]).ok_or_else(|| broken(&head))?;
    let mut bytes = head.len() - begin;
    while bytes < length {
        match stream.read(buffer)? {
            0 => return Err(broken(b"cut off")),
            read => bytes += read,
        }
    }
    Ok(bytes)
}

fn length(head: &[u8]) -> Option<usize> {
    let mut lines = str::from_utf8(head).ok()?.lines();
    let lines = lines.by_ref().filter_map(|line| line.split_once(':'));
    let mut lengths = lines.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    lengths.next()?.1.trim().parse().ok()
}
