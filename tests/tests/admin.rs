//! The admin and readiness addresses of the real program, and the command line that asks them.

use std::{net::SocketAddr, path::Path, sync::Arc};

use serde_json::Value;
use sluice_tests::{
    Origin,
    asked::{Asked, ask, post},
    process::{Sluice, free_ports, sluice, stderr, stdout},
};

const CONFIG: &str = "[listeners.web]\naddress = \"{address}\"\n\
    [access_log]\noutput = \"off\"\n\
    [routes.pets]\nhosts = [\"pets.test\"]\nto = \"pets\"\n\
    [upstreams.pets]\nendpoints = [\"127.0.0.1:1\"]\n";

#[tokio::test]
async fn a_page_in_a_browser_gets_nothing() {
    let asked = Asked::start(CONFIG).await;
    for headers in [
        "host: evil.test",
        "host: evil.test:15000",
        "host: 10.0.0.1",
        "host: localhost\r\norigin: http://evil.test",
        "host: localhost\r\norigin: null",
    ] {
        let reply = asked
            .ask(&format!("GET /config HTTP/1.1\r\n{headers}\r\n\r\n"))
            .await;
        assert_eq!(reply.status, 403, "{headers}");
        let reply = asked
            .ask(&format!(
                "POST /drain HTTP/1.1\r\n{headers}\r\ncontent-length: 0\r\n\r\n"
            ))
            .await;
        assert_eq!(reply.status, 403, "{headers}");
    }
    assert_eq!(asked.get("/ready").await["draining"], false);
}

#[tokio::test]
async fn paths_are_exact_methods_are_checked_and_requests_are_bounded() {
    let asked = Asked::start(CONFIG).await;
    for (request, status) in [
        ("GET /", 404),
        ("GET /ready/", 404),
        ("GET /ready?x", 200),
        ("GET //ready", 404),
        ("GET /metrics", 404),
        ("GET /reload", 405),
        ("POST /ready", 405),
        ("DELETE /config", 405),
    ] {
        let text = format!("{request} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n");
        assert_eq!(asked.ask(&text).await.status, status, "{request}");
    }
    let large = post("/log-level", &"x".repeat(20 << 10));
    assert_eq!(asked.ask(&large).await.status, 413);
    let long = format!(
        "GET /live HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n",
        "y".repeat(20 << 10)
    );
    assert_eq!(asked.ask(&long).await.status, 431);
}

#[tokio::test]
async fn readiness_says_less_to_more_people_and_names_a_refusal() {
    let asked = Asked::start(CONFIG).await;
    let probe = "GET /ready HTTP/1.1\r\nhost: pod-7.test\r\n\r\n";
    assert_eq!(ask(asked.readiness, probe).await.status, 200);
    assert_eq!(
        ask(asked.readiness, &probe.replace("ready", "live"))
            .await
            .status,
        200
    );
    assert_eq!(
        ask(asked.readiness, &probe.replace("ready", "config"))
            .await
            .status,
        404
    );

    asked
        .running
        .write_config("[routes.pets]\nto = \"nobody\"\n");
    asked.running.says("configuration refused").await;

    let detail = asked.get("/ready").await;
    assert_eq!(
        (&detail["ready"], &detail["refused"]),
        (&true.into(), &true.into())
    );
    let problems = detail["problems"].as_str().expect("problems");
    assert!(problems.contains("nobody"), "{problems}");
    let public = ask(asked.readiness, probe).await;
    assert_eq!(public.status, 200, "the last good configuration serves");
    assert!(!public.text().contains("nobody"), "{}", public.text());
    assert!(
        public.text().contains("\"refused\":true"),
        "{}",
        public.text()
    );
}

#[tokio::test]
async fn lists_and_dumps_show_what_runs() {
    let pets = Origin::text("hello").await;
    let address = pets.address().to_string();
    let asked = Asked::start(&CONFIG.replace("127.0.0.1:1", &address)).await;
    asked.running.connect().await.get("pets.test", "/").await;

    let upstreams = asked.get("/upstreams").await;
    assert_eq!(upstreams[0]["name"], "pets");
    assert_eq!(upstreams[0]["endpoints"][0]["address"], address);
    assert_eq!(upstreams[0]["connections"]["open"], 1);
    assert_eq!(upstreams[0]["attempts"], 1);
    let routes = asked.get("/routes").await;
    assert_eq!(routes[0]["hosts"][0], "pets.test");
    assert_eq!(routes[0]["rules"][0]["action"]["to"][0], "pets");
    let listeners = asked.get("/listeners").await;
    let own = asked.running.address().to_string();
    assert_eq!(listeners[0]["bound"], own);
    let dump = asked.get("/config").await;
    assert_eq!(dump["routes"]["pets"]["hosts"][0], "pets.test");

    for (verb, word) in [
        ("routes", "pets.test"),
        ("upstreams", address.as_str()),
        ("listeners", own.as_str()),
        ("status", "ready"),
    ] {
        let table = asked.says(&[verb]).await;
        assert!(table.status.success(), "{verb}: {}", stderr(&table));
        assert!(stdout(&table).contains(word), "{verb}: {}", stdout(&table));
        let json = asked.says(&[verb, "-o", "json"]).await;
        let json: Value = serde_json::from_str(&stdout(&json)).expect("JSON");
        assert!(json.is_array() || json["ready"] == true, "{verb}: {json}");
    }
    let toml = asked.says(&["config", "dump"]).await;
    let file = asked.running.folder().path().join("dump.toml");
    std::fs::write(&file, stdout(&toml)).expect("a file");
    let checked = sluice(Path::new("/"), &["check", &file.display().to_string()]).await;
    assert!(checked.status.success(), "{}", stderr(&checked));
}

#[tokio::test]
async fn a_dump_shows_no_secret() {
    let tracing = "[tracing]\notlp = { endpoint = \"http://127.0.0.1:9\", headers = { api-key = \"s3cret\" } }\n";
    let asked = Asked::start(&format!("{CONFIG}{tracing}")).await;
    for format in ["toml", "json"] {
        let args: &[&str] = match format {
            "json" => &["config", "dump", "-o", "json"],
            _ => &["config", "dump"],
        };
        let dump = stdout(&asked.says(args).await);
        assert!(
            dump.contains("api-key") && dump.contains("redacted"),
            "{dump}"
        );
        assert!(!dump.contains("s3cret"), "{dump}");
    }
}

#[tokio::test]
async fn a_reload_says_what_became_of_it() {
    let asked = Asked::start(CONFIG).await;
    let fine = asked.says(&["reload"]).await;
    assert!(fine.status.success(), "{}", stderr(&fine));
    assert!(stdout(&fine).contains(" runs"));

    asked
        .running
        .write_config("[routes.pets]\nto = \"nobody\"\n");
    let refused = asked.says(&["reload"]).await;
    assert_eq!(refused.status.code(), Some(1));
    let text = stderr(&refused);
    assert!(text.contains("no upstream named \"nobody\""), "{text}");
}

#[tokio::test]
async fn the_log_level_changes_while_it_runs() {
    let asked = Asked::start(CONFIG).await;
    assert_eq!(stdout(&asked.says(&["log-level"]).await).trim(), "info");
    let changed = asked
        .says(&["log-level", "info,sluice_gateway=debug"])
        .await;
    assert!(changed.status.success(), "{}", stderr(&changed));
    asked.running.connect().await.get("nobody.test", "/").await;
    asked.running.says("\"refused\"").await;
    let wrong = asked.says(&["log-level", "debgu"]).await;
    assert_eq!(wrong.status.code(), Some(1));
    assert!(
        stderr(&wrong).contains("neither a level"),
        "{}",
        stderr(&wrong)
    );
}

#[tokio::test]
async fn the_access_log_is_switched_while_it_runs() {
    let config = |filter: &str| {
        format!(
            "[listeners.web]\naddress = \"{{address}}\"\n\
             [access_log]\noutput = {{ file = \"access.jsonl\" }}\nfilter = {{ status = \"{filter}\" }}\n\
             [routes.pets]\nhosts = [\"pets.test\"]\nrespond = {{}}\n"
        )
    };
    let asked = Asked::start(&config("2xx")).await;
    let mut client = asked.running.connect().await;
    // Each is asked for twice: for a route, and for none.
    let mut ask = async |path: &str| {
        assert_eq!(client.get("pets.test", path).await.status, 200);
        assert_eq!(client.get("nobody.test", path).await.status, 404);
    };
    let switch = async |word: &str| {
        let told = asked.says(&["access-log", word]).await;
        assert!(told.status.success(), "{}", stderr(&told));
        assert_eq!(stdout(&told).trim(), word);
    };
    assert_eq!(stdout(&asked.says(&["access-log"]).await).trim(), "on");
    ask("/configured").await;
    switch("off").await;
    ask("/off").await;
    switch("404").await;
    ask("/refused").await;
    // It holds over reloads, also where these change the log.
    asked.running.write_config(&config("1xx"));
    assert!(asked.says(&["reload"]).await.status.success());
    ask("/reloaded").await;
    switch("all").await;
    ask("/all").await;
    switch("on").await;
    ask("/none").await;
    switch("1h").await;
    ask("/slow").await;
    assert_eq!(asked.get("/access-log").await["access_log"], "1h");
    switch("all").await;
    ask("/last").await;

    let lines = asked.running.log().wait(7).await;
    let said: Vec<_> = lines
        .iter()
        .map(|line| {
            format!(
                "{}{}",
                line["status"],
                line["path"].as_str().expect("a path")
            )
        })
        .collect();
    assert_eq!(
        said,
        [
            "200/configured",
            "404/refused",
            "404/reloaded",
            "200/all",
            "404/all",
            "200/last",
            "404/last"
        ]
    );

    let wrong = asked.says(&["access-log", "maybe"]).await;
    assert_eq!(wrong.status.code(), Some(1));
    assert!(stderr(&wrong).contains("neither on"), "{}", stderr(&wrong));
    let nowhere = Asked::start(CONFIG).await;
    let told = nowhere.says(&["access-log", "on"]).await;
    assert!(stderr(&told).contains("no access log"), "{}", stderr(&told));
}

#[tokio::test]
async fn a_gateway_that_drains_is_not_ready_and_stop_waits_for_its_end() {
    let waiting = Origin::start(|mut peer| async move {
        peer.request().await;
        peer.hold().await;
    })
    .await;
    let config = CONFIG.replace("127.0.0.1:1", &waiting.address().to_string());
    let mut asked = Asked::start(&config).await;
    assert!(asked.says(&["healthcheck"]).await.status.success());
    let mut client = asked.running.connect().await;
    client
        .send("GET / HTTP/1.1\r\nhost: pets.test\r\n\r\n")
        .await;
    waiting.wait_for_requests(1).await;

    assert!(asked.says(&["drain"]).await.status.success());

    let reply = asked
        .ask("GET /ready HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await;
    assert_eq!(reply.status, 503);
    assert!(reply.text().contains("\"draining\":true"));
    let probe = "GET /ready HTTP/1.1\r\nhost: x\r\n\r\n";
    assert_eq!(ask(asked.readiness, probe).await.status, 503);
    assert_eq!(asked.says(&["healthcheck"]).await.status.code(), Some(1));
    let stopped = asked.says(&["stop", "--grace", "0"]).await;
    assert!(stopped.status.success(), "{}", stderr(&stopped));
    asked.running.ends().await;
}

#[tokio::test]
async fn a_unix_socket_will_do_and_goes_with_the_process() {
    let folder = Arc::new(tempfile::tempdir().expect("a folder"));
    let socket = folder.path().join("admin.sock");
    let admin = format!("unix:{}", socket.display());
    let address = SocketAddr::from(([127, 0, 0, 1], free_ports(1)));
    let more = ["--admin", admin.as_str()];
    let mut running = Sluice::start_with(Arc::clone(&folder), address, CONFIG, &more);
    running.accepts().await;

    let args = ["healthcheck", "--admin", &admin];
    assert!(sluice(folder.path(), &args).await.status.success());
    let args = ["stop", "--admin", &admin];
    assert!(sluice(folder.path(), &args).await.status.success());
    assert!(running.ends().await.success());
    assert!(!socket.exists());
}

#[tokio::test]
async fn a_port_that_is_taken_ends_the_start_and_nobody_there_is_said() {
    let first = Asked::start(CONFIG).await;
    let folder = Arc::new(tempfile::tempdir().expect("a folder"));
    let admin = format!("127.0.0.1:{}", first.admin);
    let address = SocketAddr::from(([127, 0, 0, 1], free_ports(1)));
    let mut second = Sluice::start_with(folder, address, CONFIG, &["--admin", &admin]);
    assert_eq!(second.ends().await.code(), Some(1));
    assert!(
        second.output().contains("admin address"),
        "{}",
        second.output()
    );

    let nobody = format!("127.0.0.1:{}", free_ports(1));
    for verb in ["status", "healthcheck", "reload"] {
        let told = sluice(Path::new("/"), &[verb, "--admin", &nobody]).await;
        assert_eq!(told.status.code(), Some(1), "{verb}");
        assert!(
            stderr(&told).contains("nobody answers"),
            "{verb}: {}",
            stderr(&told)
        );
    }
    let open = ["run", "--admin", "0.0.0.0:0"];
    let told = sluice(first.running.folder().path(), &open).await;
    assert_eq!(told.status.code(), Some(1));
    assert!(stderr(&told).contains("from outside"), "{}", stderr(&told));
}
