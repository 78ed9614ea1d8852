//! Requests at a steady pace: one after the other in time, each on the next of several connections.
//!
//! `pace ADDRESS HOST PATH CONNECTIONS RATE SECONDS` asks RATE times per second altogether. Load generators
//! that give each connection a clock of its own start those clocks together, and what comes then is a burst
//! on all connections and a pause: of such a burst the median tells how long half of it takes, not how long
//! a request does. Each connection has a thread, which skips no beat: where an answer was late, the next
//! request was due before it was sent, and its time counts from then. Needs the standard library only, and
//! says what came of it in JSON.

#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "nothing here has a paused clock"
)]

use std::{
    env,
    error::Error,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

/// What has not come by then never comes.
const PATIENCE: Duration = Duration::from_secs(5);

/// Connections are made before this is over; only then the clock runs.
const AHEAD: Duration = Duration::from_millis(100);

/// What one connection does.
#[derive(Clone, Copy)]
struct Beat {
    first: Instant,
    period: Duration,
    end: Instant,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [address, host, path, connections, rate, seconds] = arguments.as_slice() else {
        return Err("pace ADDRESS HOST PATH CONNECTIONS RATE SECONDS".into());
    };
    let address: SocketAddr = address.parse()?;
    let (connections, rate): (u32, f64) = (connections.parse()?, rate.parse()?);
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let period = Duration::from_secs_f64(f64::from(connections) / rate);
    let begin = Instant::now() + AHEAD;
    let end = begin + Duration::from_secs_f64(seconds.parse()?);

    let lanes: Vec<_> = (0..connections)
        .map(|lane| {
            let stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let first = begin + period * lane / connections;
            let (beat, request) = (Beat { first, period, end }, request.clone());
            Ok(thread::spawn(move || run(stream, &request, beat)))
        })
        .collect::<io::Result<_>>()?;
    let mut times = Vec::new();
    for lane in lanes {
        times.extend(lane.join().map_err(|_| "a connection panicked")??);
    }
    times.sort_unstable();
    let at = |percent: usize| {
        times
            .get(times.len() * percent / 100)
            .map_or(0, Duration::as_micros)
    };
    let (requests, p50, p99) = (times.len(), at(50), at(99));
    println!("{{\"requests\": {requests}, \"p50\": {p50}, \"p99\": {p99}}}");
    Ok(())
}

/// Asks on each beat, and gives how long each answer took.
fn run(mut stream: TcpStream, request: &str, beat: Beat) -> io::Result<Vec<Duration>> {
    let mut times = Vec::new();
    let mut due = beat.first;
    while due < beat.end {
        let now = Instant::now();
        let begun = if now < due {
            thread::sleep(due - now);
            Instant::now()
        } else {
            due
        };
        stream.write_all(request.as_bytes())?;
        answer(&mut stream)?;
        times.push(begun.elapsed());
        due += beat.period;
    }
    Ok(times)
}

/// Reads an answer of status 200 with a length.
fn answer(stream: &mut TcpStream) -> io::Result<()> {
    let broken = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
    let mut buffer = [0; 8192];
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        filled += read;
        let text = str::from_utf8(&buffer[..filled]).map_err(|_| broken("no text"))?;
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        if !head.starts_with("HTTP/1.1 200 ") {
            return Err(broken(head));
        }
        let mut lines = head.lines().filter_map(|line| line.split_once(':'));
        let length = lines.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        let length: usize = length
            .and_then(|(_, value)| value.trim().parse().ok())
            .ok_or_else(|| broken("no length"))?;
        if body.len() >= length {
            return Ok(());
        }
    }
}
