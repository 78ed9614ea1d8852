//! DNS-01: a dynamic update to a real name server (Debian's `bind9`), a program, a webhook.

use std::{fs, os::unix::fs::PermissionsExt, sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue};
use parking_lot::Mutex;
use sluice_certs::{
    acme::{ChallengeKind, Dns, Exec, TsigAlgorithm, Update, Webhook},
    fetch::Client,
};
use sluice_config::model::Secret;
use sluice_gateway::drain::Tasks;
use sluice_tests::{
    Pebble,
    named::{KEY, Named},
    pebble::Setup,
    replica::{Door, Replica, directory, issuer, terms},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

/// Both stand at the same record, side by side.
const HOSTS: [&str; 2] = ["a.example", "*.a.example"];

fn update(named: &Named, key: &str) -> Update {
    Update {
        server: named.address.to_string(),
        zone: "example".to_owned(),
        key_name: "sluice-key".to_owned(),
        key: Secret::new(key).decoded().expect("base64"),
        algorithm: TsigAlgorithm::HmacSha256,
    }
}

fn keeps(pebble: &Pebble, dns: Dns) -> (Replica, TempDir) {
    let folder = TempDir::new().expect("a folder");
    let mut by_dns = issuer(pebble, "pebble");
    by_dns.challenge = ChallengeKind::Dns01;
    by_dns.dns = Some(dns);
    let wanted = terms(
        directory(folder.path(), false),
        vec![by_dns],
        &[("web", &HOSTS)],
    );
    (Replica::start(wanted, &Door::default()), folder)
}

#[tokio::test]
async fn a_record_is_written_by_a_signed_update() {
    let Some(named) = Named::start().await else {
        return;
    };
    let setup = Setup {
        dns: Some(named.address),
        ..Setup::default()
    };
    let Some(pebble) = Pebble::start(&setup).await else {
        return;
    };
    let (replica, _folder) = keeps(&pebble, Dns::Update(update(&named, KEY)));
    replica.issued("web").await;
    let facts = replica
        .state("web")
        .and_then(|state| state.facts)
        .expect("a certificate");
    assert!(
        facts.covers_wildcard("*.a.example") && facts.covers("a.example"),
        "{facts:?}"
    );
    let journal = named.changes().await;
    let records = |change: &str| {
        let changes = journal.lines().filter(|line| line.starts_with(change));
        changes
            .filter(|line| line.contains("_acme-challenge.a.example") && line.contains("TXT"))
            .count()
    };
    assert_eq!(
        (records("add"), records("del")),
        (2, 2),
        "both records are gone again: {journal}"
    );
}

#[tokio::test]
async fn a_name_server_that_refuses_is_quoted() {
    let Some(named) = Named::start().await else {
        return;
    };
    let Some(pebble) = Pebble::start(&Setup::default()).await else {
        return;
    };
    let (replica, _folder) = keeps(&pebble, Dns::Update(update(&named, "YW5vdGhlciBrZXk=")));
    let words = replica
        .becomes("web", |state| Some(state.problem.clone()?.1.problem))
        .await;
    assert!(words.contains("the name server answered"), "{words}");
}

#[tokio::test]
async fn a_record_is_written_by_a_program() {
    let Some(pebble) = Pebble::start(&Setup::default()).await else {
        return;
    };
    let folder = TempDir::new().expect("a folder");
    let (script, said) = (folder.path().join("hook"), folder.path().join("said"));
    let records = pebble.records();
    fs::write(
        &script,
        format!(
            "#!/bin/sh\necho \"$@\" >> {}\n[ $2 = present ] || exit 0\nexec curl -fsS -d \"{{\\\"host\\\":\\\"$3.\\\",\\\"value\\\":\\\"$4\\\"}}\" {records}/set-txt\n",
            said.display()
        ),
    )
    .expect("a program");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("a program");
    let exec = Exec {
        command: vec![script.display().to_string(), "--zone=example".to_owned()],
        timeout: Duration::from_secs(20),
    };
    let (replica, _folder) = keeps(&pebble, Dns::Exec(exec));
    replica.issued("web").await;
    let said = fs::read_to_string(said).expect("what was said");
    let count = |words: &str| said.lines().filter(|line| line.starts_with(words)).count();
    let name = "_acme-challenge.a.example";
    assert_eq!(
        count(&format!("--zone=example present {name} ")),
        2,
        "{said}"
    );
    assert_eq!(
        count(&format!("--zone=example cleanup {name} ")),
        2,
        "{said}"
    );
}

#[tokio::test]
async fn a_program_that_fails_is_quoted() {
    let Some(pebble) = Pebble::start(&Setup::default()).await else {
        return;
    };
    let exec = |command: &[&str]| Exec {
        command: command.iter().map(ToString::to_string).collect(),
        timeout: Duration::from_millis(200),
    };
    for (command, words) in [
        (
            &["/bin/sh", "-c", "echo no such zone >&2; exit 3"][..],
            "/bin/sh said: no such zone",
        ),
        (&["/bin/sh", "-c", "exit 3"][..], "exit status: 3"),
        (&["/bin/sleep", "100"][..], "invalid time"),
        (&["/bin/sh", "-c", "sleep 100"][..], "did not end within"),
        (&["/no/such/program"][..], "running /no/such/program"),
    ] {
        let (replica, _folder) = keeps(&pebble, Dns::Exec(exec(command)));
        let said = replica
            .becomes("web", |state| Some(state.problem.clone()?.1.problem))
            .await;
        assert!(said.contains(words), "{command:?}: {said}");
    }
}

#[tokio::test]
async fn a_record_is_written_by_a_webhook() {
    let Some(pebble) = Pebble::start(&Setup::default()).await else {
        return;
    };
    let pebble = Arc::new(pebble);
    let said: Arc<Mutex<Vec<serde_json::Value>>> = Arc::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (hook, heard, tasks) = (Arc::clone(&pebble), Arc::clone(&said), Tasks::new());
    tasks.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            let body = loop {
                request.push(stream.read_u8().await.expect("a byte"));
                let text = String::from_utf8_lossy(&request);
                if let Some((head, body)) = text.split_once("\r\n\r\n")
                    && let Ok(body) = serde_json::from_str::<serde_json::Value>(body)
                {
                    assert!(head.contains("authorization: Bearer secret"), "{head}");
                    break body;
                }
            };
            if body["action"] == "present" {
                let text = |field: &str| body[field].as_str().expect("text").to_owned();
                hook.set_txt(&text("name"), &text("value")).await;
            }
            heard.lock().push(body);
            stream
                .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
                .await
                .expect("answered");
        }
    });
    let webhook = Webhook {
        url: format!("http://{address}/dns"),
        headers: vec![(
            HeaderName::from_static("authorization"),
            HeaderValue::from_static("Bearer secret"),
        )],
        client: Client::plain(),
    };
    let (replica, _folder) = keeps(&pebble, Dns::Webhook(webhook));
    replica.issued("web").await;
    let actions: Vec<String> = said
        .lock()
        .iter()
        .map(|said| said["action"].to_string())
        .collect();
    assert_eq!(
        actions,
        ["\"present\"", "\"present\"", "\"cleanup\"", "\"cleanup\""]
    );
    tasks.abort();
}
