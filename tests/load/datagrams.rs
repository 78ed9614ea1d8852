//! Small datagrams through a proxy and back: clients and their endpoint in one thread.
//!
//! `datagrams PROXY ORIGIN CLIENTS BYTES SECONDS` sends one datagram from each client, answers what
//! arrives at the origin, takes the answers, and begins again. Whoever sends waits for nobody, and nobody
//! is woken in between, so that a datagram costs this side little and the proxy has the other core for
//! itself. Needs the standard library only, and says what came of it in JSON.

#![expect(clippy::disallowed_types, reason = "nothing here has a paused clock")]

use std::{
    env,
    error::Error,
    io,
    net::{SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

/// What has not come by then is lost.
const PATIENCE: Duration = Duration::from_millis(500);

/// More than the largest datagram.
const ROOM: usize = 1 << 16;

/// The number of its turn leads each datagram.
const NUMBER: usize = 8;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [proxy, origin, clients, bytes, seconds] = arguments.as_slice() else {
        return Err("datagrams PROXY ORIGIN CLIENTS BYTES SECONDS".into());
    };
    let (proxy, origin): (SocketAddr, SocketAddr) = (proxy.parse()?, origin.parse()?);
    let (clients, bytes): (usize, usize) = (clients.parse()?, bytes.parse()?);
    let lasts = Duration::from_secs_f64(seconds.parse()?);

    let origin = patient(UdpSocket::bind(origin)?)?;
    let clients = (0..clients)
        .map(|_| {
            let client = patient(UdpSocket::bind("127.0.0.1:0")?)?;
            client.connect(proxy)?;
            Ok(client)
        })
        .collect::<io::Result<Vec<UdpSocket>>>()?;

    let mut payload = vec![b'x'; bytes.max(NUMBER)];
    let (mut sent, mut back) = (0_u64, 0_u64);
    let begun = Instant::now();
    while begun.elapsed() < lasts {
        let number = sent.to_be_bytes();
        payload[..NUMBER].copy_from_slice(&number);
        for client in &clients {
            client.send(&payload)?;
            sent += 1;
        }
        answer(&origin, &clients, number)?;
        for client in &clients {
            back += u64::from(take(client, number)?);
        }
    }
    println!(
        "{{\"sent\": {sent}, \"back\": {back}, \"seconds\": {}}}",
        begun.elapsed().as_secs_f64()
    );
    Ok(())
}

fn patient(socket: UdpSocket) -> io::Result<UdpSocket> {
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// Sends back what arrives, until it has been one datagram of this turn for each client, or the rest is
/// lost.
fn answer(origin: &UdpSocket, clients: &[UdpSocket], number: [u8; NUMBER]) -> io::Result<()> {
    let mut buffer = vec![0; ROOM];
    let mut left = clients.len();
    while left > 0 {
        let (length, from) = match origin.recv_from(&mut buffer) {
            Ok(received) => received,
            Err(error) if is_late(&error) => break,
            Err(error) => return Err(error),
        };
        origin.send_to(&buffer[..length], from)?;
        left -= usize::from(buffer.starts_with(&number));
    }
    Ok(())
}

/// Whether the answer of this turn came.
fn take(client: &UdpSocket, number: [u8; NUMBER]) -> io::Result<bool> {
    let mut buffer = vec![0; ROOM];
    loop {
        match client.recv(&mut buffer) {
            Ok(_) if buffer.starts_with(&number) => return Ok(true),
            // Of a turn before, which was given up.
            Ok(_) => {}
            Err(error) if is_late(&error) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}

fn is_late(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}
