//! How the program starts: with good files, with broken ones, with none.

use std::{ffi::OsStr, fs, net::SocketAddr, os::unix::fs::PermissionsExt, sync::Arc};

use sluice_tests::{
    eventually::eventually,
    process::{Sluice, free_port, sluice, stderr, stdout},
    reach::answers,
};
use tempfile::TempDir;

/// A configuration that answers with this text. Its sixth line is the route's own.
fn says(body: &str) -> String {
    format!(
        "[access_log]\noutput = {{ file = \"access.jsonl\" }}\n\
         [listeners.web]\naddress = \"{{address}}\"\n\
         [routes.app]\nrespond = {{ body = \"{body}\" }}\n"
    )
}

/// `sluice run` on `sluice.toml` with this content; none takes the file away.
fn start(folder: &Arc<TempDir>, address: SocketAddr, content: Option<&[u8]>) -> Sluice {
    let path = folder.path().join("sluice.toml");
    match content {
        Some(content) => fs::write(&path, content).expect("a configuration"),
        None => fs::remove_file(&path).expect("it was there"),
    }
    let args = [
        "run",
        "--config",
        "sluice.toml",
        "--state-directory",
        "state",
        "--workers",
        "1",
    ];
    Sluice::spawn(Arc::clone(folder), address, &args.map(OsStr::new))
}

#[tokio::test]
async fn a_start_with_a_broken_file_runs_the_last_good_one_and_says_so() {
    let folder = Arc::new(tempfile::tempdir().expect("a folder"));
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let good = |text: &str| says(text).replace("{address}", &address.to_string());
    let mut gateway = start(&folder, address, Some(good("kept").as_bytes()));
    gateway.accepts().await;
    let kept = eventually("it is kept", || {
        let mut entries = fs::read_dir(folder.path().join("state")).ok()?.flatten();
        entries.find(|entry| entry.file_name().to_string_lossy().starts_with("last-good"))
    })
    .await;
    let mode = kept.metadata().expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    gateway.signal("TERM");
    assert!(gateway.ends().await.success());

    let new = good("new");
    let key = new.replace("respond", "respnd");
    let syntax = format!("oops\n{new}");
    let (half, _) = new.split_at(new.len() - 9);
    let bytes = [new.as_bytes(), b"\xff\xfe"].concat();
    for (content, place) in [
        (Some(key.as_bytes()), "sluice.toml:6:1"),
        (Some(syntax.as_bytes()), "sluice.toml:1:"),
        (Some(half.as_bytes()), "sluice.toml:6:"),
        (Some(&bytes), "sluice.toml:7:1"),
        (Some(b" \n"), "sluice.toml is empty"),
        (None, "sluice.toml"),
    ] {
        let mut gateway = start(&folder, address, content);
        gateway.accepts().await;
        answers(address, "a", "kept").await;
        let output = gateway.output();
        assert!(output.contains(place), "no {place:?}: {output}");
        assert!(
            output.contains("last good") && output.contains("ERROR"),
            "{output}"
        );
        gateway.signal("TERM");
        assert!(gateway.ends().await.success());
    }

    // Mended while it runs, it takes over, and is the one that is kept from now on.
    let mut gateway = start(&folder, address, Some(key.as_bytes()));
    gateway.accepts().await;
    gateway.write_config(&good("mended"));
    answers(address, "a", "mended").await;
    gateway.signal("TERM");
    assert!(gateway.ends().await.success());
    let gateway = start(&folder, address, Some(key.as_bytes()));
    gateway.accepts().await;
    answers(address, "a", "mended").await;
}

#[tokio::test]
async fn a_first_start_with_a_broken_file_ends_with_3_and_the_diagnosis() {
    let folder = Arc::new(tempfile::tempdir().expect("a folder"));
    let broken = says("new").replace("respond", "respnd");
    let broken = broken.replace("{address}", "127.0.0.1:0");
    let mut gateway = start(
        &folder,
        SocketAddr::from(([127, 0, 0, 1], 1)),
        Some(broken.as_bytes()),
    );
    assert_eq!(gateway.ends().await.code(), Some(3));
    let output = gateway.says("did you mean").await;
    assert!(output.contains("sluice.toml:6:1"), "{output}");
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
    fs::write(
        folder.path().join("sluice.toml"),
        "[routes.app]\nrespond = {}\n",
    )
    .expect("a file");
    let output = sluice(folder.path(), &["explain", "GET", "http://a:8080/"]).await;
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).contains(":8080"), "{}", stdout(&output));
}

#[tokio::test]
async fn a_state_directory_that_cannot_be_written_stops_nobody_and_is_said_so() {
    let folder = Arc::new(tempfile::tempdir().expect("a folder"));
    fs::write(folder.path().join("state"), "a file").expect("a file");
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let good = says("good").replace("{address}", &address.to_string());
    let gateway = start(&folder, address, Some(good.as_bytes()));
    answers(address, "a", "good").await;
    let output = gateway.says("cannot be kept").await;
    assert!(output.contains("WARN"), "{output}");
}

#[tokio::test]
async fn several_files_and_directories_make_one_configuration() {
    let folder = Arc::new(tempfile::tempdir().expect("a folder"));
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let write = |name: &str, text: &str| {
        let text = text.replace("{address}", &address.to_string());
        fs::write(folder.path().join(name), text).expect("a file");
    };
    fs::create_dir(folder.path().join("routes")).expect("a directory");
    write("base.toml", &says("base"));
    write(
        "routes/b.toml",
        "[routes.b]\nhosts = \"${HOST_B:-b.example}\"\nto = \"u\"\n",
    );
    write(
        "routes/u.toml",
        "[upstreams.u]\nendpoints = \"${NOWHERE:-127.0.0.1:1}\"\n",
    );
    let args = [
        "run",
        "-c",
        "base.toml",
        "-c",
        "routes",
        "--state-directory",
        "state",
    ];
    let gateway = Sluice::spawn(Arc::clone(&folder), address, &args.map(OsStr::new));
    answers(address, "a", "base").await;
    let mut client = gateway.connect().await;
    assert_eq!(client.get("b.example", "/").await.status, 502);
}
