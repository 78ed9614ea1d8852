//! What only a process has: signals, watched files, the persisted last good configuration.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use sluice_tests::{
    Client, Origin,
    eventually::within,
    process::{Sluice, free_port, stderr},
};
use tokio::time::sleep;

/// A configuration that answers with this text.
fn says(body: &str) -> String {
    format!(
        "[process]\nworkers = 1\nstate_directory = \"state\"\ndrain_timeout = \"5s\"\n[access_log]\noutput = {{ file = \"access.jsonl\" }}\n[listeners.web]\naddress = \"{{address}}\"\n[routes.r]\nrespond = {{ body = \"{body}\" }}\n"
    )
}

/// Waits until the gateway answers with this text; no answer on the way may fail.
async fn answers(gateway: &Sluice, body: &str) {
    let mut client = gateway.connect().await;
    within(&format!("it answers {body:?}"), async {
        loop {
            let reply = client.get("a", "/").await;
            assert_eq!(reply.status, 200);
            if reply.text() == body {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_written_file_takes_effect() {
    let gateway = Sluice::run(&says("one")).await;
    answers(&gateway, "one").await;
    gateway.write_config(&says("two"));
    answers(&gateway, "two").await;
}

#[tokio::test]
async fn an_editors_rename_takes_effect_again_and_again() {
    let gateway = Sluice::run(&says("0")).await;
    for number in 1..=3 {
        let new = gateway.config().with_extension("swp");
        let text = says(&number.to_string()).replace("{address}", &gateway.address().to_string());
        std::fs::write(&new, text).expect("a file");
        std::fs::rename(&new, gateway.config()).expect("a rename");
        answers(&gateway, &number.to_string()).await;
    }
}

#[tokio::test]
async fn a_swapped_symlink_takes_effect_as_kubernetes_does_it() {
    let folder = Arc::new(tempfile::tempdir().expect("a folder"));
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let root = folder.path();
    let generation = |number: usize| {
        let data = root.join(format!("..data-{number}"));
        std::fs::create_dir(&data).expect("a folder");
        let text = says(&number.to_string()).replace("{address}", &address.to_string());
        std::fs::write(data.join("sluice.toml"), text).expect("a file");
        data
    };
    let point = |to: &Path| {
        let new = root.join("..data_tmp");
        std::os::unix::fs::symlink(to, &new).expect("a link");
        std::fs::rename(&new, root.join("..data")).expect("a swap");
    };
    point(&generation(1));
    std::os::unix::fs::symlink("..data/sluice.toml", root.join("sluice.toml")).expect("a link");
    let path = root.join("sluice.toml");
    let gateway = Sluice::spawn(
        Arc::clone(&folder),
        address,
        &["run".as_ref(), "--config".as_ref(), path.as_os_str()],
    );
    gateway.accepts().await;
    answers(&gateway, "1").await;
    for number in 2..=3 {
        point(&generation(number));
        answers(&gateway, &number.to_string()).await;
    }
}

#[tokio::test]
async fn a_half_written_file_does_no_harm_and_the_whole_one_takes_effect() {
    let gateway = Sluice::run(&says("one")).await;
    let whole = says("two").replace("{address}", &gateway.address().to_string());
    for cut in [whole.len() / 3, whole.len() / 2, whole.len() - 4] {
        std::fs::write(gateway.config(), &whole[..cut]).expect("a file");
        for _ in 0..10 {
            answers(&gateway, "one").await;
            sleep(Duration::from_millis(30)).await;
        }
    }
    std::fs::write(gateway.config(), &whole).expect("a file");
    answers(&gateway, "two").await;
}

#[tokio::test]
async fn a_refused_file_leaves_the_last_good_one_running_and_says_why() {
    let gateway = Sluice::run(&says("good")).await;
    gateway.write_config(&says("bad").replace("respond", "repsond"));
    let output = gateway.says("repsond").await;
    assert!(
        output.contains("respond"),
        "the nearest word is offered: {output}"
    );
    answers(&gateway, "good").await;
    gateway.write_config(&says("mended"));
    answers(&gateway, "mended").await;
}

#[tokio::test]
async fn a_directory_of_files_is_watched_as_one() {
    let folder = Arc::new(tempfile::tempdir().expect("a folder"));
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let conf = folder.path().join("conf.d");
    std::fs::create_dir(&conf).expect("a folder");
    let text = says("one").replace("{address}", &address.to_string());
    std::fs::write(conf.join("10-base.toml"), text).expect("a file");
    let gateway = Sluice::spawn(
        Arc::clone(&folder),
        address,
        &["run".as_ref(), "--config".as_ref(), conf.as_os_str()],
    );
    gateway.accepts().await;
    answers(&gateway, "one").await;
    let more = "[routes.more]\nhosts = [\"more.example\"]\nrespond = { body = \"more\" }\n";
    std::fs::write(conf.join("20-more.toml"), more).expect("a file");
    within("the new file takes effect", async {
        while gateway
            .connect()
            .await
            .get("more.example", "/")
            .await
            .text()
            != "more"
        {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    std::fs::remove_file(conf.join("20-more.toml")).expect("it is there");
    within("the removed file is gone", async {
        while gateway
            .connect()
            .await
            .get("more.example", "/")
            .await
            .text()
            != "one"
        {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_hangup_reloads_what_the_watcher_cannot_see() {
    // The body file is not a configuration file; a hangup reads everything again.
    let gateway = Sluice::run(&says("one")).await;
    gateway.write_config(&says("two"));
    gateway.signal("HUP");
    answers(&gateway, "two").await;
}

#[tokio::test]
async fn a_start_with_a_broken_file_runs_the_last_good_one_loudly() {
    let mut first = Sluice::run(&says("good")).await;
    answers(&first, "good").await;
    let (folder, address) = (first.folder(), first.address());
    first.signal("TERM");
    assert!(first.ends().await.success());
    let broken = "[process]\nstate_directory = \"state\"\n[routes.r]\nrespond = oops\n";
    let second = Sluice::start_in(Arc::clone(&folder), address, broken);
    second.accepts().await;
    answers(&second, "good").await;
    let output = second.output();
    assert!(output.contains("last good"), "{output}");
    drop(second);
    let files = std::fs::read_dir(folder.path().join("state")).expect("a folder");
    for file in files {
        use std::os::unix::fs::PermissionsExt;
        let file = file.expect("a file");
        let mode = file.metadata().expect("metadata").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{:?} is readable by others", file.path());
    }
}

#[tokio::test]
async fn a_start_with_a_broken_file_and_no_last_good_one_is_refused() {
    let mut gateway =
        Sluice::start("[process]\nstate_directory = \"state\"\n[routes.r]\nrespond = oops\n");
    assert_eq!(gateway.ends().await.code(), Some(3));
    assert!(
        gateway.output().contains("sluice.toml"),
        "{}",
        gateway.output()
    );
}

#[tokio::test]
async fn a_port_that_is_taken_fails_the_start() {
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let address = taken.local_addr().expect("an address");
    let folder = Arc::new(tempfile::tempdir().expect("a folder"));
    let mut gateway = Sluice::start_in(folder, address, &says("never"));
    let code = gateway.ends().await.code();
    assert!(code == Some(1) || code == Some(3), "{code:?}");
    assert!(
        gateway.output().contains(&address.to_string()),
        "{}",
        gateway.output()
    );
}

/// A gateway with one request in flight, and the switch that lets the origin answer it.
async fn in_flight() -> (Sluice, Client, Origin, tokio::sync::watch::Sender<bool>) {
    let (go, gate) = tokio::sync::watch::channel(false);
    let origin = Origin::start(move |mut peer| {
        let mut gate = gate.clone();
        async move {
            peer.request().await;
            if gate.wait_for(|open| *open).await.is_ok() {
                peer.send(sluice_tests::origin::ok("late")).await;
            }
        }
    })
    .await;
    let to = format!("to = \"{}\"", origin.address());
    let gateway = Sluice::run(&says("").replace("respond = { body = \"\" }", &to)).await;
    let mut client = gateway.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    origin.wait_for_requests(1).await;
    (gateway, client, origin, go)
}

#[tokio::test]
async fn a_termination_finishes_what_is_in_flight_and_exits_with_0() {
    let (mut gateway, mut client, _origin, go) = in_flight().await;
    gateway.signal("TERM");
    within("the port refuses", async {
        while tokio::net::TcpStream::connect(gateway.address())
            .await
            .is_ok()
        {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    go.send_replace(true);
    assert_eq!(client.reply().await.text(), "late");
    assert_eq!(gateway.ends().await.code(), Some(0));
    assert_eq!(gateway.log().lines().len(), 1);
}

#[tokio::test]
async fn a_second_signal_forces_the_end() {
    let (mut gateway, mut client, _origin, _go) = in_flight().await;
    let begun = tokio::time::Instant::now();
    gateway.signal("TERM");
    sleep(Duration::from_millis(200)).await;
    gateway.signal("TERM");
    assert_ne!(gateway.ends().await.code(), Some(0));
    assert!(
        begun.elapsed() < Duration::from_secs(4),
        "{:?}",
        begun.elapsed()
    );
    assert!(client.try_reply("GET").await.is_err());
}

#[tokio::test]
async fn the_drain_has_a_deadline() {
    let (mut gateway, mut client, _origin, _go) = in_flight().await;
    gateway.signal("TERM");
    gateway.ends().await;
    assert!(client.try_reply("GET").await.is_err());
}

#[tokio::test]
async fn a_name_that_does_not_resolve_does_not_stop_the_start() {
    let config = says("").replace(
        "respond = { body = \"\" }",
        "to = \"no-such-host.invalid:80\"",
    );
    let gateway = Sluice::run(&config).await;
    let reply = gateway.connect().await.get("a", "/").await;
    assert_eq!(reply.status, 503);
    assert_eq!(gateway.log().wait(1).await[0]["verdict"], "no_endpoint");
}

#[tokio::test]
async fn without_any_listener_port_8080_is_meant() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(
        folder.path().join("sluice.toml"),
        "[routes.app]\nrespond = {}\n",
    )
    .expect("a file");
    let output = sluice_tests::process::sluice(folder.path(), &["check", "sluice.toml"]).await;
    assert!(output.status.success(), "{}", stderr(&output));
}
