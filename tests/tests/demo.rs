//! The first minute of a newcomer: `sluice demo`, the lines it prints, https, an edit, a mistake.

use std::{net::SocketAddr, path::PathBuf, process::Command, sync::Arc, time::Duration};

use sluice_certs::testing::Client as TlsClient;
use sluice_tests::{
    Client,
    eventually::within,
    process::{Sluice, free_ports, sluice, stderr, stdout},
    tls::secure,
};
use tempfile::TempDir;

struct Demo {
    gateway: Sluice,
    https: SocketAddr,
    folder: Arc<TempDir>,
}

impl Demo {
    fn start(folder: Arc<TempDir>) -> Self {
        // Two of the gateway and six of the shop.
        let port = free_ports(8);
        let args = [
            "demo".to_owned(),
            "--port".to_owned(),
            port.to_string(),
            "--https-port".to_owned(),
            (port + 1).to_string(),
            "--shop-port".to_owned(),
            (port + 2).to_string(),
        ];
        let args: Vec<_> = args.iter().map(AsRef::as_ref).collect();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        Self {
            gateway: Sluice::spawn(Arc::clone(&folder), address, &args),
            https: SocketAddr::from(([127, 0, 0, 1], port + 1)),
            folder,
        }
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("sluice-demo/sluice.toml")
    }

    async fn get(&self, path: &str) -> sluice_tests::Reply {
        self.gateway.connect().await.get("localhost", path).await
    }

    fn edit(&self, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.config()).expect("the configuration");
        assert!(text.contains(from), "{text}");
        std::fs::write(self.config(), text.replace(from, to)).expect("an edit");
    }
}

#[tokio::test]
async fn the_demo_keeps_every_promise_it_prints() {
    let demo = Demo::start(Arc::new(tempfile::tempdir().expect("a folder")));
    demo.gateway.accepts().await;
    let said = demo.gateway.output();
    assert_eq!(said.matches("curl ").count(), 6, "{said}");
    for check in [&["check"][..], &["fmt", "--check"]] {
        let file = ["sluice-demo/sluice.toml"];
        let output = sluice(demo.folder.path(), &[check, &file].concat()).await;
        let (out, err) = (stdout(&output), stderr(&output));
        assert!(
            output.status.success() && !format!("{out}{err}").contains("warning["),
            "{out}{err}"
        );
    }

    let details = demo.get("/details/0").await;
    assert!(details.text().contains("Shakespeare"));
    let mut client = demo.gateway.connect().await;
    client
        .send("GET /reviews/0 HTTP/1.1\r\nHost: localhost\r\nX-Canary: true\r\n\r\n")
        .await;
    let canary = client.reply().await.text();
    assert!(
        canary.contains("reviews v3") && canary.contains("red"),
        "{canary}"
    );
    let mut versions = [0, 0];
    for _ in 0..100 {
        let text = client.get("localhost", "/reviews/0").await.text();
        let second = usize::from(text.contains("reviews v2"));
        assert!(second == 1 || text.contains("reviews v1"), "{text}");
        versions[second] += 1;
    }
    assert!(versions[0] > 70 && versions[1] > 0, "{versions:?}");
    let redirect = demo.get("/productpage?x=1").await;
    assert_eq!(redirect.status, 301);
    assert!(
        redirect
            .header("location")
            .is_some_and(|to| to.ends_with("/?x=1"))
    );
    let dead = demo.get("/orders").await;
    assert_eq!(dead.status, 502);
    demo.gateway.says("\"verdict\":\"connect\"").await;
    let page = demo.get("/").await.text();
    assert!(
        page.contains("Shakespeare") && page.contains("reviews v"),
        "{page}"
    );
}

#[tokio::test]
async fn who_trusts_the_ca_of_the_demo_reaches_it_over_https() {
    let demo = Demo::start(Arc::new(tempfile::tempdir().expect("a folder")));
    let root = "sluice-demo/state/local/root.pem";
    let said = demo.gateway.says("\"listener\":\"websecure\"").await;
    assert!(
        said.contains(root) && said.contains("sluice certs trust"),
        "{said}"
    );
    let pem = std::fs::read_to_string(demo.folder.path().join(root)).expect("a root");
    let client = TlsClient::believing(&pem, &["http/1.1"]);
    for name in ["localhost", "127.0.0.1"] {
        let mut client = secure(&client, demo.https, name).await;
        let details = client.get(name, "/details/0").await;
        assert!(details.text().contains("Shakespeare"), "{name}");
    }

    if Command::new("curl").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "curl is missing");
        println!("SKIPPED: there is no curl: tests/setup installs it");
        return;
    }
    let port = demo.https.port();
    let curl = async |more: &[&str], host: &str| {
        let mut command = tokio::process::Command::new("curl");
        let url = format!("https://{host}:{port}/details/0");
        let command = command
            .args(["-sS", "--max-time", "20"])
            .args(more)
            .arg(url);
        let command = command.current_dir(demo.folder.path()).env_clear();
        let output = command
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .output();
        output.await.expect("curl runs")
    };
    for (http, host) in [
        ("--http2", "localhost"),
        ("--http1.1", "localhost"),
        ("--http2", "127.0.0.1"),
    ] {
        let output = curl(&["--cacert", root, http], host).await;
        assert!(
            stdout(&output).contains("Shakespeare"),
            "{host}: {}",
            stderr(&output)
        );
    }
    let stranger = curl(&[], "localhost").await;
    assert!(
        !stranger.status.success(),
        "who does not trust it gets nothing"
    );
    // What the demo prints to be trusted with finds the CA.
    let args = [
        "certs",
        "trust",
        "--print",
        "--state-directory",
        "sluice-demo/state",
    ];
    let printed = sluice(demo.folder.path(), &args).await;
    assert_eq!(stdout(&printed), pem, "{}", stderr(&printed));
}

#[tokio::test]
async fn an_edit_takes_effect_and_a_mistake_is_diagnosed_while_traffic_flows_on() {
    let mut demo = Demo::start(Arc::new(tempfile::tempdir().expect("a folder")));
    demo.gateway.accepts().await;
    demo.edit("status = 301", "status = 307");
    within("the edit takes effect", async {
        while demo.get("/productpage").await.status != 307 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    demo.edit("weight = 90", "wieght = 90");
    let said = demo.gateway.says("wieght").await;
    assert!(
        said.contains("weight") && said.contains("sluice.toml:"),
        "{said}"
    );
    assert_eq!(demo.get("/productpage").await.status, 307);
    demo.gateway.signal("INT");
    assert_eq!(demo.gateway.ends().await.code(), Some(0));
}

#[tokio::test]
async fn an_edited_file_is_kept_by_the_next_demo() {
    let folder = Arc::new(tempfile::tempdir().expect("a folder"));
    let mut first = Demo::start(Arc::clone(&folder));
    first.gateway.accepts().await;
    first.edit("# The demo of Sluice.", "# Mine.");
    let address = first.gateway.address();
    first.gateway.signal("TERM");
    first.gateway.ends().await;
    let second = Demo::start(folder);
    second.gateway.says("was kept").await;
    assert!(
        std::fs::read_to_string(second.config())
            .expect("a file")
            .starts_with("# Mine.")
    );
    // The file names the port, whatever was asked for on the command line.
    within("the gateway accepts where the file says", async {
        while tokio::net::TcpStream::connect(address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(
        Client::connect(address)
            .await
            .get("localhost", "/productpage")
            .await
            .status,
        301
    );
}

#[tokio::test]
async fn a_taken_port_is_named_with_what_to_do_about_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    for flag in ["--port", "--https-port", "--shop-port"] {
        // The others are free, so that it is this one that is named.
        let mut args = vec!["demo", flag, &port];
        let free = free_ports(8).to_string();
        let other = if flag == "--port" {
            "--https-port"
        } else {
            "--port"
        };
        args.extend([other, &free]);
        let output = sluice(folder.path(), &args).await;
        assert_eq!(output.status.code(), Some(1));
        let said = stderr(&output);
        assert!(said.contains(&port) && said.contains(flag), "{said}");
        assert!(
            !folder.path().join("sluice-demo").exists(),
            "nothing is left behind"
        );
    }
}
