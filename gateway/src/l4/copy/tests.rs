//! The copy loop between pipes in memory under a paused clock, and between real sockets.

use std::{future::pending, time::Duration};

use proptest::prelude::*;
use rand::{Rng as _, RngCore as _, SeedableRng as _, rngs::SmallRng};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, duplex},
    net::UnixStream,
    runtime,
    task::yield_now,
    time::sleep,
};

use super::{buffers::LARGE, *};

const STALL: Duration = Duration::from_secs(30);

const UNBOUND: Bounds = Bounds {
    idle: None,
    whole: None,
};

/// Joins two streams, of which nothing was read before.
async fn joined(down: Stream, up: Stream, bounds: Bounds, carried: &Carried) -> Parted {
    let mut down = WriteStall::new(down, STALL);
    let mut up = WriteStall::new(up, STALL);
    let downstream = End {
        stream: &mut down,
        ahead: Bytes::new(),
    };
    let upstream = End {
        stream: &mut up,
        ahead: Bytes::new(),
    };
    let pressure = Pressure::default();
    let (ends, carried) = ((downstream, upstream), (carried, || {}));
    join(ends, bounds, carried, &pressure, pending()).await
}

/// Pauses now and then: in memory for some time, on sockets until others had their turn.
async fn pause(random: &mut SmallRng, paused: bool) {
    match random.random_range(0..8) {
        0 if paused => sleep(Duration::from_millis(random.random_range(1..100))).await,
        0 | 1 => yield_now().await,
        _ => {}
    }
}

/// Says `bytes` in pieces of up to `most`, mostly large or mostly small ones for a while, and is done.
async fn say(
    mut to: impl AsyncWrite + Unpin,
    bytes: &[u8],
    (seed, most, paused): (u64, usize, bool),
) {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut rest = bytes;
    let mut large = true;
    while !rest.is_empty() {
        if random.random_ratio(1, 16) {
            large = !large;
        }
        let most = if large { most } else { most.min(100) };
        let (piece, after) = rest.split_at(random.random_range(1..=most.min(rest.len())));
        to.write_all(piece).await.unwrap();
        rest = after;
        pause(&mut random, paused).await;
    }
    to.shutdown().await.unwrap();
}

/// Everything that comes, read in pieces of up to `most`.
async fn hear(
    mut from: impl AsyncRead + Unpin,
    (seed, most, paused): (u64, usize, bool),
) -> Vec<u8> {
    let mut random = SmallRng::seed_from_u64(seed);
    let (mut all, mut piece) = (Vec::new(), vec![0; most]);
    loop {
        let room = random.random_range(1..=most);
        let read = from.read(&mut piece[..room]).await.unwrap();
        if read == 0 {
            return all;
        }
        all.extend_from_slice(&piece[..read]);
        pause(&mut random, paused).await;
    }
}

fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; length];
    SmallRng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes
}

/// What both sides heard of each other, and what was counted.
async fn exchanged(
    (client, down): (impl AsyncRead + AsyncWrite, Stream),
    (server, up): (impl AsyncRead + AsyncWrite, Stream),
    (asked, answered): (&[u8], &[u8]),
    (seed, most, paused): (u64, usize, bool),
) -> (Parted, Vec<u8>, Vec<u8>, Carried) {
    let (client_hears, client_says) = tokio::io::split(client);
    let (server_hears, server_says) = tokio::io::split(server);
    let manner = |step| (seed.wrapping_add(step), most, paused);
    let carried = Carried::default();
    let (parted, (), (), at_client, at_server) = tokio::join!(
        joined(down, up, UNBOUND, &carried),
        say(client_says, asked, manner(1)),
        say(server_says, answered, manner(2)),
        hear(client_hears, manner(3)),
        hear(server_hears, manner(4)),
    );
    (parted, at_client, at_server, carried)
}

fn counts(carried: &Carried) -> (usize, usize) {
    let count = |cell: &Cell<u64>| usize::try_from(cell.get()).unwrap();
    (count(&carried.inward), count(&carried.outward))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_byte_arrives_once_and_in_order_however_they_come(
        asked in 0_usize..300_000,
        answered in 0_usize..300_000,
        room in 1_usize..100_000,
        most in 1_usize..80_000,
        seed: u64,
    ) {
        // Byte by byte only where that is soon over.
        let (most, room) = (most.max(asked.max(answered) / 500), room.max(64));
        let (asked, answered) = (noise(asked, seed), noise(answered, !seed));
        let mut runtime = runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build().unwrap();
        let (parted, at_client, at_server, carried) = runtime.block_on(async {
            let (client, down) = duplex(room);
            let (server, up) = duplex(room);
            let ends = ((client, Stream::Memory(down)), (server, Stream::Memory(up)));
            exchanged(ends.0, ends.1, (&asked, &answered), (seed, most, true)).await
        });
        prop_assert!(matches!(parted, Parted::Closed), "{parted:?}");
        prop_assert!(at_client == answered && at_server == asked);
        prop_assert_eq!(counts(&carried), (asked.len(), answered.len()));
        prop_assert!(carried.whole.get());
    }
}

fn sockets() -> (UnixStream, Stream) {
    let (theirs, ours) = UnixStream::pair().unwrap();
    (theirs, Stream::Unix(ours))
}

#[tokio::test]
async fn bytes_pass_exactly_while_the_kernel_moves_them_and_while_it_does_not() {
    for seed in 0..8 {
        let (asked, answered) = (noise(3 << 20, seed), noise(2 << 20, !seed));
        let bytes = (&*asked, &*answered);
        let manner = (seed, 300_000, false);
        let (parted, at_client, at_server, carried) =
            exchanged(sockets(), sockets(), bytes, manner).await;
        assert!(matches!(parted, Parted::Closed), "{parted:?}");
        assert!(at_client == answered && at_server == asked, "seed {seed}");
        assert_eq!(counts(&carried), (asked.len(), answered.len()));
    }
}

#[tokio::test]
async fn what_a_dropped_stream_left_on_its_way_reaches_nobody() {
    for seed in 0..4 {
        // Nobody reads: buffers and a pipe are full.
        let ((mut client, down), (_server, up)) = (sockets(), sockets());
        let carried = Carried::default();
        let flood = async {
            let piece = vec![b'x'; 1 << 20];
            while client.write_all(&piece).await.is_ok() {}
        };
        tokio::select! {
            parted = joined(down, up, UNBOUND, &carried) => panic!("{parted:?}"),
            () = flood => panic!("the flood ended"),
            () = sleep(Duration::from_millis(100)) => {}
        }
        assert!(carried.inward.get() > 100_000, "it flowed");

        let asked = noise(1 << 20, seed);
        let manner = (seed, 300_000, false);
        let (_, _, at_server, _) = exchanged(sockets(), sockets(), (&asked, b""), manner).await;
        assert!(at_server == asked, "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_stops_reading_holds_little_and_not_for_long() {
    const ROOM: usize = 10_000;
    let ((client, down), (mut server, up)) = (duplex(ROOM), duplex(ROOM));
    let carried = Carried::default();
    let began = Instant::now();
    let mut sent = 0;
    let flood = async {
        let piece = [0; 1000];
        while let Ok(written) = server.write(&piece).await {
            sent += written;
        }
    };
    let both = joined(Stream::Memory(down), Stream::Memory(up), UNBOUND, &carried);
    let (parted, ()) = tokio::join!(both, flood);
    assert!(
        matches!(&parted, Parted::Downstream(error) if is_stalled(error)),
        "{parted:?}"
    );
    assert_eq!(began.elapsed(), STALL);
    // What both pipes hold, and what is on its way between them.
    assert!(sent <= 2 * ROOM + LARGE, "{sent}");
    drop(client);
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_after_a_time_without_a_byte_and_after_its_whole_time() {
    let idle = Some(Duration::from_secs(10));
    let whole = Some(Duration::from_mins(1));
    for (idle, whole, pauses, after, expired) in [
        (idle, whole, 1, 19, false),
        (idle, whole, 100, 60, true),
        (None, whole, 0, 60, true),
        (idle, None, 0, 10, false),
    ] {
        let ((mut client, down), (server, up)) = (duplex(100), duplex(100));
        let carried = Carried::default();
        let began = Instant::now();
        let talk = async {
            for _ in 0..pauses {
                sleep(Duration::from_secs(9)).await;
                let _gone = client.write_all(b"x").await;
            }
            pending::<()>().await;
        };
        let bounds = Bounds { idle, whole };
        let parted = tokio::select! {
            parted = joined(Stream::Memory(down), Stream::Memory(up), bounds, &carried) => parted,
            () = talk => unreachable!(),
        };
        assert_eq!(began.elapsed(), Duration::from_secs(after), "{parted:?}");
        assert_eq!(matches!(parted, Parted::Expired), expired, "{parted:?}");
        drop(server);
    }
}
