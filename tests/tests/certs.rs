//! Certificates as those see them who run the gateway: what is told of them, on the admin address and by
//! the command line, and that no key ever is.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, sync::Arc};

use serde_json::Value;
use sluice_certs::{
    Pair,
    storage::{Directory, Kind, Storage},
    testing::{Key, Wanted},
};
use sluice_tests::{
    asked::{Asked, post},
    process::{free_port, sluice, stderr, stdout},
    tls::Pki,
};
use tokio::time::{Duration, Instant, sleep};

/// An https listener with two certificates: `shop`, and `several` with two keys.
fn config(pki: &Pki) -> String {
    let rsa = Wanted::server(&["b.example", "c.example"]).key(Key::Rsa);
    pki.place("rsa", &pki.authority.sign(&rsa));
    let ecdsa = pki.authority.server(&["b.example", "c.example"]);
    pki.place("ecdsa", &ecdsa);
    let shop = pki.certificate("shop", &["a.example"]);
    format!(
        "[process]\nstate_directory = \"state\"\n[access_log]\noutput = \"off\"\n\
         [listeners.web]\naddress = \"{{address}}\"\nprotocol = \"https\"\n{shop}\
         [certificates.several]\nhosts = [\"b.example\"]\nfiles = [{}, {}]\n\
         [routes.r]\nhosts = [\"a.example\", \"b.example\"]\nrespond = {{ body = \"hello\" }}\n",
        pki.files("rsa"),
        pki.files("ecdsa"),
    )
}

fn json(output: &std::process::Output) -> Value {
    assert!(output.status.success(), "{}", stderr(output));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn mode(path: &Path) -> u32 {
    let facts = fs::metadata(path).expect("a file");
    facts.permissions().mode() & 0o777
}

async fn reload(asked: &Asked) {
    let output = asked.says(&["reload"]).await;
    let said = || format!("{}{}", stderr(&output), asked.running.output());
    assert!(output.status.success(), "{}", said());
}

/// Lines of a key that nobody could write by accident.
fn secrets(key: &str) -> Vec<String> {
    let lines = key.lines().filter(|line| !line.starts_with("-----"));
    lines
        .filter(|line| line.len() > 16)
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn certificates_from_files_are_listed_with_what_they_say() {
    let pki = Pki::new();
    let asked = Asked::start(&config(&pki)).await;

    let all = json(&asked.says(&["certs", "list", "-o", "json"]).await);
    assert_eq!(all, asked.get("/certificates").await);
    let names: Vec<_> = all
        .as_array()
        .expect("a list")
        .iter()
        .map(|it| &it["name"])
        .collect();
    assert_eq!(names, ["several", "shop"]);
    let shop = &all[1];
    let chain = fs::read(pki.path("shop/chain.pem")).expect("a chain");
    let key = fs::read(pki.path("shop/key.pem")).expect("a key");
    let pair = Pair::from_pem(&chain, &key).expect("a pair");
    assert_eq!(shop["hosts"], serde_json::json!(["a.example"]));
    assert_eq!(
        shop["source"]["files"][0]["chain"],
        pki.path("shop/chain.pem").to_str().unwrap()
    );
    assert_eq!(shop["state"], "valid");
    assert_eq!(shop["pairs"][0]["issuer"], "CN=Test CA");
    assert_eq!(shop["pairs"][0]["key"], "ECDSA P-256");
    assert_eq!(
        shop["pairs"][0]["fingerprint"],
        pair.facts().fingerprint_hex()
    );
    assert_eq!(shop["pairs"][0]["serial"], pair.facts().serial);
    assert_eq!(shop["not_after"], shop["pairs"][0]["not_after"]);
    assert!(
        shop["problem"].is_null() && shop["renewal"].is_null(),
        "{shop}"
    );
    let several = &all[0];
    assert_eq!(several["hosts"], serde_json::json!(["b.example"]));
    let keys: Vec<_> = (0..2).map(|it| &several["pairs"][it]["key"]).collect();
    assert_eq!(keys, ["ECDSA P-256", "RSA 2048"]);

    let table = stdout(&asked.says(&["certs", "list"]).await);
    for part in [
        "NAME",
        "shop ",
        "a.example",
        "ECDSA P-256,RSA 2048",
        "valid",
        "(in 8",
    ] {
        assert!(table.contains(part), "no {part:?} in:\n{table}");
    }
    let one = stdout(&asked.says(&["certs", "show", "several"]).await);
    for part in [
        "RSA 2048",
        "ECDSA P-256",
        "b.example,c.example",
        "CN=Test CA",
        "fingerprint",
    ] {
        assert!(one.contains(part), "no {part:?} in:\n{one}");
    }
    let one = json(&asked.says(&["certs", "show", "shop", "-o", "json"]).await);
    assert_eq!(one, all[1]);
    let none = asked.says(&["certs", "show", "none"]).await;
    assert_eq!(none.status.code(), Some(1));
    assert!(
        stderr(&none).contains("no certificate of this name"),
        "{}",
        stderr(&none)
    );
}

#[tokio::test]
async fn what_is_wrong_with_newer_files_is_told_until_it_is_mended() {
    let pki = Pki::new();
    let asked = Asked::start(&config(&pki)).await;
    fs::write(pki.path("shop/key.pem"), "broken").expect("a file");
    reload(&asked).await;
    let shop = asked.get("/certificates/shop").await;
    let what = shop["problem"]["what"].as_str().expect("a problem");
    assert!(
        what.contains("key.pem") && what.contains("no private key"),
        "{what}"
    );
    assert!(
        shop["problem"]["since"]
            .as_str()
            .is_some_and(|since| since.ends_with('Z'))
    );
    assert_eq!(shop["state"], "valid", "the one before serves");
    let table = stdout(&asked.says(&["certs", "list"]).await);
    assert!(
        table.contains("\nshop: ") && table.contains("no private key"),
        "{table}"
    );

    let leaf = pki
        .authority
        .sign(&Wanted::server(&["a.example"]).days(-3, -1));
    pki.place("shop", &leaf);
    reload(&asked).await;
    let shop = asked.get("/certificates/shop").await;
    assert!(shop["problem"].is_null(), "{shop}");
    assert_eq!(shop["state"], "expired");
    let table = stdout(&asked.says(&["certs", "list"]).await);
    assert!(
        table.contains("expired") && table.contains("1d ago"),
        "{table}"
    );
}

#[tokio::test]
async fn files_are_not_renewed_and_nothing_is_renewed_by_looking() {
    let pki = Pki::new();
    let asked = Asked::start(&config(&pki)).await;
    let refused = asked.says(&["certs", "renew", "shop"]).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        stderr(&refused).contains("comes from files"),
        "{}",
        stderr(&refused)
    );
    for (request, status) in [
        (post("/certificates/none/renew", ""), 404),
        (post("/certificates/shop/renew", ""), 409),
        (post("/certificates/shop", ""), 405),
        (post("/certificates", ""), 405),
        (
            "GET /certificates/shop/renew HTTP/1.1\r\nhost: localhost\r\n\r\n".to_owned(),
            404,
        ),
        (
            "GET /certificates/%73hop HTTP/1.1\r\nhost: localhost\r\n\r\n".to_owned(),
            200,
        ),
        (
            "GET /certificates/ HTTP/1.1\r\nhost: localhost\r\n\r\n".to_owned(),
            404,
        ),
        (
            "GET /certificates HTTP/1.1\r\nhost: evil.test\r\n\r\n".to_owned(),
            403,
        ),
    ] {
        assert_eq!(asked.ask(&request).await.status, status, "{request}");
    }
}

#[tokio::test]
async fn no_key_is_ever_told_or_logged() {
    let pki = Pki::new();
    let text = config(&pki);
    let asked = Asked::start(&text).await;
    assert!(asked.says(&["log-level", "trace"]).await.status.success());
    // Something to log about each: a pair that is refused, a reload, handshakes.
    fs::write(pki.path("shop/chain.pem"), "broken").expect("a file");
    reload(&asked).await;
    let client = pki.client();
    for name in ["a.example", "b.example", "none.example"] {
        sluice_tests::tls::connect(&client, asked.running.address(), name)
            .await
            .ok();
    }
    let mut told = String::new();
    for path in [
        "/certificates",
        "/certificates/shop",
        "/certificates/several",
        "/config",
        "/ready",
        "/listeners",
        "/routes",
    ] {
        told.push_str(&asked.get(path).await.to_string());
    }
    for args in [
        &["certs", "list"][..],
        &["certs", "show", "several"],
        &["config", "dump"],
        &["status"],
    ] {
        let output = asked.says(args).await;
        told.push_str(&stdout(&output));
        told.push_str(&stderr(&output));
    }
    told.push_str(&asked.running.output());
    assert!(
        told.contains("TLS handshake"),
        "it logs what it does:\n{told}"
    );
    for name in ["shop", "rsa", "ecdsa"] {
        let key = fs::read_to_string(pki.path(&format!("{name}/key.pem"))).expect("a key");
        let secrets = secrets(&key);
        assert!(!secrets.is_empty());
        for secret in secrets {
            assert!(!told.contains(&secret), "a key was told:\n{told}");
        }
    }
    assert!(!told.contains("PRIVATE KEY"), "{told}");
    // Nor does it get to disk anywhere but where it was.
    let kept = fs::read_dir(asked.running.folder().path().join("state")).expect("a folder");
    for entry in kept {
        let text = fs::read_to_string(entry.expect("an entry").path()).unwrap_or_default();
        assert!(!text.contains("PRIVATE KEY"), "{text}");
    }
}

#[tokio::test]
async fn a_certificate_from_files_is_exported_for_its_owner_alone() {
    let pki = Pki::new();
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(
        folder.path().join("sluice.toml"),
        config(&pki).replace("{address}", ":0"),
    )
    .expect("a configuration");
    let export = async |name: &str| {
        let args = [
            "certs",
            "export",
            name,
            "--chain",
            "out/c.pem",
            "--key",
            "out/k.pem",
        ];
        sluice(folder.path(), &args).await
    };
    let output = export("shop").await;
    assert!(output.status.success(), "{}", stderr(&output));
    let text = |name: &str| fs::read_to_string(folder.path().join("out").join(name)).expect(name);
    let leaf = |name: &str| fs::read_to_string(pki.path("shop").join(name)).expect(name);
    assert_eq!(text("c.pem"), leaf("chain.pem"));
    assert_eq!(text("k.pem"), leaf("key.pem"));
    assert_eq!(mode(&folder.path().join("out/k.pem")), 0o600);
    assert_eq!(mode(&folder.path().join("out")), 0o700);
    let left = fs::read_dir(folder.path().join("out")).expect("a folder");
    assert_eq!(left.count(), 2, "nothing else is left behind");

    let several = export("several").await;
    assert_eq!(several.status.code(), Some(1));
    assert!(
        stderr(&several).contains("rsa/chain.pem"),
        "{}",
        stderr(&several)
    );
    let none = export("none").await;
    assert!(
        stderr(&none).contains("no certificate named none"),
        "{}",
        stderr(&none)
    );
    // What does not belong together is not written.
    fs::write(
        pki.path("shop/key.pem"),
        fs::read(pki.path("rsa/key.pem")).expect("a key"),
    )
    .expect("a file");
    let before = text("k.pem");
    let broken = export("shop").await;
    assert_eq!(broken.status.code(), Some(1));
    assert!(
        stderr(&broken).contains("does not belong"),
        "{}",
        stderr(&broken)
    );
    assert_eq!(text("k.pem"), before);
}

/// An issuer at which nobody answers, and a host that is ordered from it.
fn ordered() -> String {
    let nobody = free_port();
    format!(
        "[process]\nstate_directory = \"state\"\n[access_log]\noutput = \"off\"\n\
         [listeners.web]\naddress = \"{{address}}\"\nprotocol = \"https\"\n\
         certificates = {{ auto = \"nobody\" }}\n\
         [acme.nobody]\ndirectory = \"https://127.0.0.1:{nobody}/dir\"\nca = \"ca.pem\"\n\
         [routes.r]\nhosts = [\"a.example\"]\nrespond = {{ body = \"hello\" }}\n"
    )
}

#[tokio::test]
async fn what_cannot_be_ordered_is_told_with_the_reason_and_is_tried_again_on_demand() {
    let folder = Arc::new(tempfile::tempdir().expect("a folder"));
    let pki = Pki::new();
    fs::copy(pki.path("ca.pem"), folder.path().join("ca.pem")).expect("a file");
    let asked = Asked::start_in(folder, &ordered(), &[]);
    asked.answers().await;
    let failed = async |times: u64| {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let told = asked.get("/certificates/a.example").await;
            if told["problem"]["failures"].as_u64() >= Some(times) {
                return told;
            }
            assert!(Instant::now() < deadline, "still {told}");
            sleep(Duration::from_millis(20)).await;
        }
    };
    let told = failed(1).await;
    assert_eq!(told["state"], "missing");
    assert_eq!(told["source"]["auto"], "nobody");
    assert_eq!(told["hosts"], serde_json::json!(["a.example"]));
    assert_eq!(told["problem"]["issuer"], "nobody");
    assert_eq!(told["order"]["phase"], "waiting");
    assert!(
        told["order"]["until"].is_string() && told["not_after"].is_null(),
        "{told}"
    );
    let table = stdout(&asked.says(&["certs", "list"]).await);
    assert!(table.contains("missing, waiting until"), "{table}");
    assert!(table.contains("\na.example: nobody: "), "{table}");

    let renewed = asked.says(&["certs", "renew", "a.example"]).await;
    assert!(renewed.status.success(), "{}", stderr(&renewed));
    failed(2).await;
}

#[tokio::test]
async fn what_was_ordered_is_exported_from_where_it_is_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let pki = Pki::new();
    fs::copy(pki.path("ca.pem"), folder.path().join("ca.pem")).expect("a file");
    fs::write(
        folder.path().join("sluice.toml"),
        ordered().replace("{address}", ":0"),
    )
    .expect("a configuration");
    let args = [
        "certs",
        "export",
        "a.example",
        "--chain",
        "c.pem",
        "--key",
        "k.pem",
    ];
    let none = sluice(folder.path(), &args).await;
    assert!(
        stderr(&none).contains("no certificate named a.example"),
        "{}",
        stderr(&none)
    );
    let state = folder.path().join("state");
    assert!(!state.exists(), "looking makes nothing");

    let leaf = pki.authority.server(&["a.example"]);
    let storage = Directory::new(state.join("certificates"), false);
    let lock = storage.lock("a").await.expect("a storage").expect("a lock");
    let text = format!(
        "Directory: https://127.0.0.1/dir\n{}{}",
        leaf.chain, leaf.key
    );
    let written = storage.write(Kind::Certificate, "a.example", text.into(), &lock);
    written.await.expect("written");
    let output = sluice(folder.path(), &args).await;
    assert!(output.status.success(), "{}", stderr(&output));
    let read = |name: &str| fs::read(folder.path().join(name)).expect("a file");
    let pair = Pair::from_pem(&read("c.pem"), &read("k.pem")).expect("a pair");
    assert_eq!(pair, leaf.pair());
    assert_eq!(mode(&folder.path().join("k.pem")), 0o600);
}

#[tokio::test]
async fn who_may_not_read_keys_is_told_who_may() {
    let pki = Pki::new();
    let shared = Arc::new(tempfile::tempdir().expect("a folder"));
    let folder = shared.path();
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).expect("rights");
    fs::write(
        folder.join("sluice.toml"),
        config(&pki).replace("{address}", ":0"),
    )
    .expect("a configuration");
    let key = fs::Permissions::from_mode(0o600);
    fs::set_permissions(pki.path("shop/key.pem"), key).expect("rights");
    let nobody = std::process::Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
        .arg(sluice_tests::process::program())
        .args([
            "certs",
            "export",
            "shop",
            "--chain",
            "/dev/null",
            "--key",
            "/dev/null",
        ])
        .current_dir(folder)
        .output();
    let Ok(output) = nobody else {
        println!("SKIPPED: there is no setpriv to become somebody else with");
        return;
    };
    let said = stderr(&output);
    if said.contains("setpriv:") {
        println!("SKIPPED: this user may not become another one: {said}");
        return;
    }
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("run this as that user, or as root"), "{said}");
}
