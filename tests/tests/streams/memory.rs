//! What streams hold in the gateway: idle ones little, stuck ones no more than their buffers.

use sluice_tests::{load::resident, process::Sluice};

use tokio::task::JoinSet;

use super::*;

/// A gateway in a process of its own, before `origin`.
async fn process(origin: &TcpListener) -> Sluice {
    let address = origin.local_addr().unwrap();
    let gateway = Sluice::run(&format!(
        "[process]\nstate_directory = \"state\"\nworkers = 1\n\
         [listeners.web]\naddress = \"{{address}}\"\nprotocol = \"tcp\"\n\
         timeouts = {{ write_stall = \"1m\" }}\n\
         [access_log]\noutput = {{ file = \"access.jsonl\" }}\n\
         [routes.r]\nlisteners = \"web\"\nto = \"{address}\"\n"
    ))
    .await;
    // Whoever looked whether it accepts is gone.
    let (mut probe, _) = within("the first", origin.accept()).await.unwrap();
    assert_eq!(rest(&mut probe).await, b"");
    gateway
}

/// Streams on which one byte went there and back.
async fn open(gateway: &Sluice, origin: &TcpListener, count: usize) -> Vec<(TcpStream, TcpStream)> {
    let mut streams = Vec::new();
    for _ in 0..count {
        let mut client = TcpStream::connect(gateway.address()).await.unwrap();
        let (mut server, _) = within("a connection", origin.accept()).await.unwrap();
        client.write_all(b"x").await.unwrap();
        exactly(&mut server, 1).await;
        server.write_all(b"y").await.unwrap();
        exactly(&mut client, 1).await;
        streams.push((client, server));
    }
    streams
}

#[tokio::test]
async fn an_idle_stream_costs_less_than_eight_kibibytes() {
    const STREAMS: usize = 400;
    let origin = listening().await;
    let gateway = process(&origin).await;
    let process = gateway.id().to_string();
    // What the first ones allocate once is not the others' fault.
    let _first = open(&gateway, &origin, 20).await;
    let before = resident(&process);
    let _idle = open(&gateway, &origin, STREAMS).await;
    let each = resident(&process).saturating_sub(before) / STREAMS as u64;
    println!("{each} bytes per idle stream");
    assert!(each < 8 << 10, "{each} bytes");
}

#[tokio::test]
async fn stuck_peers_cost_bounded_memory() {
    const STREAMS: usize = 40;
    let origin = listening().await;
    let gateway = process(&origin).await;
    let process = gateway.id().to_string();
    let streams = open(&gateway, &origin, STREAMS).await;
    let before = resident(&process);
    let mut floods = JoinSet::new();
    let mut clients = Vec::new();
    for (number, (client, mut server)) in streams.into_iter().enumerate() {
        clients.push(client);
        floods.spawn(async move {
            let piece = vec![0; 1 << 20];
            let mut sent = 0_usize;
            // Until nothing moves any more.
            while let Ok(Ok(written)) =
                tokio::time::timeout(Duration::from_secs(1), server.write(&piece)).await
            {
                sent += written;
            }
            (number, sent, server)
        });
    }
    let mut sent = Vec::new();
    while let Some(flood) = floods.join_next().await {
        sent.push(flood.unwrap());
    }
    let each = resident(&process).saturating_sub(before) / STREAMS as u64;
    println!("{each} bytes per stuck stream");
    assert!(each < 80 << 10, "{each} bytes");
    // They go on where they stopped.
    for (number, sent, server) in sent {
        drop(server);
        assert_eq!(rest(&mut clients[number]).await.len(), sent);
    }
}
