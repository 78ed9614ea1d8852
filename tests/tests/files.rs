//! Configuration files that change while the program runs.

use std::{
    ffi::OsStr, fs, net::SocketAddr, os::unix::fs::symlink, path::Path, sync::Arc, time::Duration,
};

use sluice_tests::{
    Client, Origin,
    eventually::{eventually, within},
    load::Load,
    origin::ok,
    process::{Sluice, free_port},
    reach::{answers, ask, refuses, streaming},
};
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::watch, time::Instant};

/// What every configuration here begins with.
const HEAD: &str = "[process]\nworkers = 1\nstate_directory = \"state\"\ndrain_timeout = \"10s\"\n\
                    [access_log]\noutput = { file = \"access.jsonl\" }\n\
                    [listeners.web]\naddress = \"{address}\"\n";

/// A whole configuration.
fn config(rest: &str) -> String {
    format!("{HEAD}{rest}")
}

/// One route that answers with this text.
fn says(text: &str) -> String {
    config(&format!(
        "[routes.app]\nrespond = {{ body = \"{text}\" }}\n"
    ))
}

/// Sooner than a look without being told: the kernel must have told.
const SOON: Duration = Duration::from_secs(8);

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// `sluice run` on this path, below a folder that is there already.
async fn run_on(folder: Arc<TempDir>, address: SocketAddr, path: &Path) -> Sluice {
    let args: [&OsStr; 3] = ["run".as_ref(), "--config".as_ref(), path.as_os_str()];
    let gateway = Sluice::spawn(folder, address, &args);
    gateway.accepts().await;
    gateway
}

#[tokio::test]
async fn listeners_appear_move_and_disappear_and_the_others_notice_nothing() {
    let (first, second) = (local(free_port()), local(free_port()));
    let gateway = Sluice::run(&says("app")).await;
    let mut steady = gateway.connect().await;
    assert_eq!(ask(&mut steady, "a").await.as_deref(), Ok("app"));

    let extra = |address: SocketAddr| {
        format!(
            "{}[listeners.extra]\naddress = \"{address}\"\n\
             [routes.extra]\nlisteners = \"extra\"\nhosts = \"extra.example\"\nrespond = {{ body = \"extra\" }}\n",
            says("app")
        )
    };
    gateway.write_config(&extra(first));
    answers(first, "extra.example", "extra").await;
    answers(first, "other.example", "app").await;
    assert_eq!(ask(&mut steady, "a").await.as_deref(), Ok("app"));

    gateway.write_config(&extra(second));
    answers(second, "extra.example", "extra").await;
    refuses(first).await;
    assert_eq!(ask(&mut steady, "a").await.as_deref(), Ok("app"));

    gateway.write_config(&says("app"));
    refuses(second).await;
    assert_eq!(ask(&mut steady, "a").await.as_deref(), Ok("app"));
}

#[tokio::test]
async fn a_listener_that_disappears_finishes_what_is_under_way() {
    let address = local(free_port());
    let (origin, tell) = streaming().await;
    let more = format!(
        "{}[listeners.extra]\naddress = \"{address}\"\n[routes.slow]\nhosts = \"slow.example\"\nto = \"{}\"\n",
        says("app"),
        origin.address()
    );
    let gateway = Sluice::run(&more).await;
    let mut idle = Client::connect(address).await;
    assert_eq!(ask(&mut idle, "a").await.as_deref(), Ok("app"));
    let mut client = Client::connect(address).await;
    client
        .send("GET / HTTP/1.1\r\nHost: slow.example\r\n\r\n")
        .await;
    origin.wait_for_requests(1).await;

    gateway
        .write_config(&more.replace(&format!("[listeners.extra]\naddress = \"{address}\"\n"), ""));
    refuses(address).await;
    assert!(
        within("the idle connection ends", idle.rest())
            .await
            .is_empty()
    );

    tell.send_replace((1, true));
    let reply = client.reply().await;
    assert_eq!(reply.text(), "piece-1;");
    assert!(client.rest().await.is_empty(), "and nothing after it");
}

#[tokio::test]
async fn a_response_under_way_survives_every_reload() {
    let (origin, tell) = streaming().await;
    let with = |other: &str, timeout: &str| {
        config(&format!(
            "[routes.slow]\nhosts = \"slow.example\"\nto = \"{}\"\ntimeout = \"{timeout}\"\n\
             [routes.other]\nhosts = \"other.example\"\nrespond = {{ body = \"{other}\" }}\n",
            origin.address()
        ))
    };
    let gateway = Sluice::run(&with("one", "1h")).await;
    let mut client = gateway.connect().await;
    client
        .send("GET / HTTP/1.1\r\nHost: slow.example\r\n\r\n")
        .await;
    origin.wait_for_requests(1).await;

    tell.send_replace((1, false));
    let mut seen = String::new();
    let mut until = async |client: &mut Client, text: &str| {
        while !seen.contains(text) {
            seen.push_str(&String::from_utf8_lossy(&client.read_at_least(1).await));
        }
    };
    until(&mut client, "piece-1;").await;

    // Another route changes, then its own, then it is gone: nobody takes back what was begun.
    gateway.write_config(&with("two", "1h"));
    answers(gateway.address(), "other.example", "two").await;
    tell.send_replace((2, false));
    until(&mut client, "piece-2;").await;

    gateway.write_config(&with("three", "2h"));
    answers(gateway.address(), "other.example", "three").await;
    tell.send_replace((3, false));
    until(&mut client, "piece-3;").await;

    gateway.write_config(&says("gone"));
    answers(gateway.address(), "other.example", "gone").await;
    tell.send_replace((4, true));
    until(&mut client, "piece-4;\r\n0\r\n\r\n").await;
    let line = gateway.log().wait_for("route", "slow").await;
    assert!(line["verdict"].is_null(), "{line}");
}

#[tokio::test]
async fn what_did_not_change_keeps_its_connections_and_what_changed_gets_new_ones() {
    let (kept, moved, target) = (
        Origin::text("kept").await,
        Origin::text("old").await,
        Origin::text("new").await,
    );
    let with = |second: &Origin, more: &str| {
        config(&format!(
            "[upstreams.kept]\nendpoints = [\"{}\"]\n[upstreams.moved]\nendpoints = [\"{}\"]\n\
             [routes.kept]\nhosts = \"kept.example\"\nto = \"kept\"\n\
             [routes.moved]\nhosts = \"moved.example\"\nto = \"moved\"\n{more}",
            kept.address(),
            second.address()
        ))
    };
    let gateway = Sluice::run(&with(&moved, "")).await;
    answers(gateway.address(), "kept.example", "kept").await;
    answers(gateway.address(), "moved.example", "old").await;

    for number in 0..3 {
        let more = format!(
            "[routes.more]\nhosts = \"more.example\"\nrespond = {{ body = \"{number}\" }}\n"
        );
        gateway.write_config(&with(&moved, &more));
        answers(gateway.address(), "more.example", &number.to_string()).await;
        answers(gateway.address(), "kept.example", "kept").await;
        answers(gateway.address(), "moved.example", "old").await;
    }
    assert_eq!((kept.connections(), moved.connections()), (1, 1));

    gateway.write_config(&with(&target, ""));
    answers(gateway.address(), "moved.example", "new").await;
    answers(gateway.address(), "kept.example", "kept").await;
    assert_eq!(
        (
            kept.connections(),
            moved.connections(),
            target.connections()
        ),
        (1, 1, 1)
    );
}

#[tokio::test]
async fn a_half_written_file_never_stops_what_runs() {
    let gateway = Sluice::run(&says("before")).await;
    let after = says("after").replace("{address}", &gateway.address().to_string());
    let (half, rest) = after.split_at(after.len() - 9);
    let mut client = gateway.connect().await;

    // Nothing, then a half that is no TOML, long enough to be looked at; then the rest.
    fs::write(gateway.config(), "").expect("truncated");
    fs::write(gateway.config(), half).expect("half");
    gateway.says("configuration refused").await;
    assert_eq!(ask(&mut client, "a").await.as_deref(), Ok("before"));
    fs::write(gateway.config(), format!("{half}{rest}")).expect("whole");
    answers(gateway.address(), "a", "after").await;
    assert_eq!(ask(&mut client, "a").await.as_deref(), Ok("after"));
}

#[tokio::test]
async fn an_editors_rename_is_noticed_each_time() {
    let gateway = Sluice::run(&says("0")).await;
    for number in 1..=3 {
        let draft = gateway.folder().path().join(".sluice.toml.swp");
        let text = says(&number.to_string()).replace("{address}", &gateway.address().to_string());
        fs::write(&draft, text).expect("a draft");
        fs::rename(&draft, gateway.config()).expect("renamed over");
        answers(gateway.address(), "a", &number.to_string()).await;
    }
}

#[tokio::test]
async fn a_swap_of_links_is_noticed_each_time() {
    let folder = Arc::new(tempfile::tempdir().expect("a folder"));
    let address = local(free_port());
    // As kubelet lays out a volume: sluice.toml → ..data/sluice.toml, ..data → ..NUMBER
    let mount = folder.path().join("mount");
    fs::create_dir(&mount).expect("the mount");
    let publish = |number: usize| {
        let target = format!("..{number}");
        fs::create_dir(mount.join(&target)).expect("a folder");
        let text = says(&number.to_string()).replace("{address}", &address.to_string());
        fs::write(mount.join(&target).join("sluice.toml"), text).expect("a file");
        symlink(&target, mount.join("..data_tmp")).expect("a link");
        fs::rename(mount.join("..data_tmp"), mount.join("..data")).expect("swapped");
        if let Some(before) = number.checked_sub(1) {
            fs::remove_dir_all(mount.join(format!("..{before}"))).expect("the old one goes");
        }
    };
    publish(0);
    symlink("..data/sluice.toml", mount.join("sluice.toml")).expect("a link");

    for path in [mount.join("sluice.toml"), mount.clone()] {
        let first = fs::read_link(mount.join("..data")).expect("a link");
        let first: usize = first
            .to_string_lossy()
            .trim_start_matches('.')
            .parse()
            .expect("a number");
        let mut gateway = run_on(Arc::clone(&folder), address, &path).await;
        for number in first + 1..=first + 2 {
            publish(number);
            answers(address, "a", &number.to_string()).await;
        }
        gateway.signal("TERM");
        assert!(gateway.ends().await.success());
    }
}

#[tokio::test]
async fn files_come_and_go_in_a_directory() {
    let folder = Arc::new(tempfile::tempdir().expect("a folder"));
    let address = local(free_port());
    let place = folder.path().join("conf.d");
    fs::create_dir(&place).expect("a directory");
    let write = |name: &str, text: &str| {
        fs::write(
            place.join(name),
            text.replace("{address}", &address.to_string()),
        )
        .expect("a file");
    };
    let route = |name: &str, body: &str| {
        format!("[routes.{name}]\nhosts = \"{name}.example\"\nrespond = {{ body = \"{body}\" }}\n")
    };
    write("00-base.toml", &says("base"));
    write("10-a.toml", &route("a", "1"));
    write(".hidden.toml", "this is not read");
    write("notes.txt", "nor is this");
    let gateway = run_on(Arc::clone(&folder), address, &place).await;
    answers(address, "a.example", "1").await;

    write("20-b.toml", &route("b", "2"));
    answers(address, "b.example", "2").await;
    write("10-a.toml", &route("a", "3"));
    answers(address, "a.example", "3").await;
    fs::remove_file(place.join("10-a.toml")).expect("removed");
    answers(address, "a.example", "base").await;

    // The same name twice: both places are named and nothing changes.
    write("30-again.toml", &route("b", "4"));
    let output = gateway.says("configuration refused").await;
    assert!(
        output.contains("30-again.toml:1:") && output.contains("20-b.toml:1"),
        "{output}"
    );
    answers(address, "b.example", "2").await;
    fs::remove_file(place.join("20-b.toml")).expect("removed");
    answers(address, "b.example", "4").await;
}

#[tokio::test]
async fn a_refused_configuration_leaves_the_last_good_one_and_says_where_it_is_wrong() {
    let gateway = Sluice::run(&says("good")).await;
    let mut client = gateway.connect().await;
    gateway.write_config(&says("bad").replace("respond", "respnd"));
    let output = gateway.says("configuration refused").await;
    // respnd stands in the last line but one of the file.
    let line = says("bad").lines().count();
    assert!(
        output.contains(&format!("sluice.toml:{line}:1")),
        "{output}"
    );
    assert!(
        output.contains("respnd") && output.contains("did you mean"),
        "{output}"
    );
    assert_eq!(ask(&mut client, "a").await.as_deref(), Ok("good"));

    gateway.write_config(&says("better"));
    answers(gateway.address(), "a", "better").await;
}

#[tokio::test]
async fn an_address_that_cannot_be_had_refuses_the_whole_reload() {
    let taken = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let address = taken.local_addr().expect("an address");
    let gateway = Sluice::run(&says("good")).await;
    let extra = format!(
        "{}[listeners.extra]\naddress = \"{address}\"\n",
        says("bad")
    );
    gateway.write_config(&extra);
    let output = gateway.says("configuration refused").await;
    assert!(
        output.contains(&address.to_string()) && output.contains("sluice.toml:12:11"),
        "{output}"
    );
    answers(gateway.address(), "a", "good").await;

    // What stood in the way is gone: asking again is enough.
    drop(taken);
    gateway.signal("HUP");
    answers(address, "a", "bad").await;
    answers(gateway.address(), "a", "bad").await;
}

#[tokio::test]
async fn sighup_reads_again_what_the_configuration_names() {
    let text = config("[routes.app]\nrespond = { file = \"body.txt\" }\n");
    let folder = Arc::new(tempfile::tempdir().expect("a folder"));
    fs::write(folder.path().join("body.txt"), "one").expect("a body");
    let gateway = Sluice::start_in(folder, local(free_port()), &text);
    gateway.accepts().await;
    let address = gateway.address();
    answers(address, "a", "one").await;
    fs::write(gateway.folder().path().join("body.txt"), "two").expect("a body");
    gateway.signal("HUP");
    answers(address, "a", "two").await;
}

#[tokio::test]
async fn a_change_of_process_settings_waits_for_the_next_start() {
    let gateway = Sluice::run(&says("one")).await;
    gateway.write_config(&says("two").replace("workers = 1", "workers = 2"));
    gateway.says("takes effect at the next start").await;
    answers(gateway.address(), "a", "two").await;
}

#[tokio::test]
async fn with_containment_a_refused_object_fails_alone() {
    let with = |rest: &str| format!("on_error = \"contain\"\n{}{rest}", says("app"));
    let one = "[routes.one]\nhosts = \"one.example\"\nrespond = { body = \"one\" }\n";
    let gateway = Sluice::run(&with(one)).await;
    answers(gateway.address(), "one.example", "one").await;

    // The known route keeps what it was, the new one is closed, and the neighbour proceeds.
    let broken = one.replace("respond", "to = \"nowhere\"\nrespond");
    let two = "[routes.two]\nhosts = \"two.example\"\nto = \"nowhere\"\n";
    gateway.write_config(&with(&format!("{broken}{two}")).replace("\"app\"", "\"new\""));
    answers(gateway.address(), "a", "new").await;
    answers(gateway.address(), "one.example", "one").await;
    let mut client = gateway.connect().await;
    assert_eq!(client.get("two.example", "/").await.status, 503);
    let line = gateway.log().wait_for("host", "two.example").await;
    assert_eq!(line["verdict"], "config_refused");
    assert!(gateway.output().contains("nowhere"), "{}", gateway.output());
}

#[tokio::test]
async fn what_needs_a_restart_is_said_so_and_the_rest_takes_effect() {
    let gateway = Sluice::run(&says("before")).await;
    gateway.write_config(&says("after").replace("workers = 1", "workers = 2"));
    answers(gateway.address(), "a", "after").await;
    gateway.says("takes effect at the next start").await;
}

#[tokio::test]
async fn a_listener_that_gets_another_name_or_a_wider_address_refuses_nobody() {
    let gateway = Sluice::run(&says("app")).await;
    let (port, host) = (gateway.address().port(), "a.example");
    let load = Load::start(
        gateway.address(),
        200,
        |_| "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n".to_owned(),
        |_, reply| (reply.status != 200).then(|| format!("status {}", reply.status)),
    );
    for (number, name, address) in [
        (1, "front", format!("127.0.0.1:{port}")),
        (2, "front", format!("0.0.0.0:{port}")),
        (3, "web", format!("0.0.0.0:{port}")),
        (4, "web", format!("127.0.0.1:{port}")),
    ] {
        let text = says(&number.to_string());
        let text = text.replace("listeners.web", &format!("listeners.{name}"));
        gateway.write_config(&text.replace("{address}", &address));
        answers(gateway.address(), host, &number.to_string()).await;
    }
    let outcome = load.stop().await;
    assert_eq!(outcome.bad, 0, "{:#?}", outcome.failures);
    assert!(outcome.good > 100, "{outcome:?}");
}

#[tokio::test]
async fn a_directory_that_is_replaced_is_watched_like_the_one_before() {
    let folder = Arc::new(tempfile::tempdir().expect("a folder"));
    let address = local(free_port());
    let write = |directory: &str, text: &str| {
        let directory = folder.path().join(directory);
        fs::create_dir_all(&directory).expect("a directory");
        let text = says(text).replace("{address}", &address.to_string());
        fs::write(directory.join("a.toml"), text).expect("a file");
    };
    let rename = |from: &str, to: &str| {
        fs::rename(folder.path().join(from), folder.path().join(to)).expect("renamed");
    };
    let soon = async |text: &str| {
        let begun = Instant::now();
        answers(address, "a", text).await;
        assert!(
            begun.elapsed() < SOON,
            "{text} only after {:?}",
            begun.elapsed()
        );
    };
    write("conf", "one");
    let _gateway = run_on(Arc::clone(&folder), address, &folder.path().join("conf")).await;
    answers(address, "a", "one").await;

    write("next", "two");
    rename("conf", "gone");
    rename("next", "conf");
    soon("two").await;
    write("conf", "three");
    soon("three").await;

    // A link to a directory, which then leads to another one.
    write("release", "four");
    symlink("release", folder.path().join("link")).expect("a link");
    rename("conf", "gone too");
    rename("link", "conf");
    soon("four").await;
    write("conf", "five");
    soon("five").await;
}

#[tokio::test]
async fn idle_connections_to_an_upstream_that_is_gone_are_closed() {
    let (tell, mut told) = watch::channel(0);
    let origin = Origin::start(move |mut peer| {
        let tell = tell.clone();
        async move {
            while peer.request().await.is_some() {
                peer.send(ok("origin")).await;
            }
            tell.send_modify(|closed| *closed += 1);
        }
    })
    .await;
    let to = config(&format!("[routes.app]\nto = \"{}\"\n", origin.address()));
    let gateway = Sluice::run(&to).await;
    answers(gateway.address(), "a", "origin").await;
    gateway.write_config(&says("gone"));
    answers(gateway.address(), "a", "gone").await;
    let closed = told.wait_for(|closed| *closed == origin.connections());
    within("the connection is closed", closed)
        .await
        .expect("the origin lives");
}

#[tokio::test]
async fn files_that_say_nothing_at_all_do_not_take_down_what_runs() {
    let folder = Arc::new(tempfile::tempdir().expect("a folder"));
    let address = local(free_port());
    let place = folder.path().join("conf");
    let file = place.join("a.toml");
    let text = |body: &str| says(body).replace("{address}", &address.to_string());
    fs::create_dir(&place).expect("a directory");
    fs::write(&file, text("one")).expect("a file");
    let gateway = run_on(Arc::clone(&folder), address, &place).await;

    // Cut off, as on a full disk.
    fs::write(&file, "\n").expect("a file");
    gateway
        .says("there is nothing in the *.toml files of")
        .await;
    answers(address, "a", "one").await;
    fs::write(&file, text("two")).expect("a file");
    answers(address, "a", "two").await;

    // A volume that went away.
    fs::remove_file(&file).expect("it was there");
    eventually("it is refused again", || {
        (gateway.output().matches("there is nothing").count() >= 2).then_some(())
    })
    .await;
    answers(address, "a", "two").await;
    fs::write(&file, text("three")).expect("a file");
    answers(address, "a", "three").await;
}
