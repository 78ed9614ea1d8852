//! bind9, with a zone that takes dynamic updates; each test starts its own, which ends with it.

use std::{net::SocketAddr, path::Path};

use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    process::{Child, Command},
};

use crate::{
    eventually::within,
    pebble::{free, run},
};

/// The key of whoever may change the zone, in base64.
pub const KEY: &str = "YSBrZXkgdGhhdCBib3RoIHNpZGVzIGtub3csIG5vIGxlc3M=";

/// A name server for `example`, with dynamic updates for whoever has the key.
#[derive(Debug)]
pub struct Named {
    _process: Child,
    folder: TempDir,
    /// Where it is asked.
    pub address: SocketAddr,
}

impl Named {
    /// None, said aloud, where it is not installed.
    pub async fn start() -> Option<Self> {
        if std::process::Command::new("named")
            .arg("-v")
            .output()
            .is_err()
        {
            assert!(std::env::var_os("CI").is_none(), "CI needs bind9");
            eprintln!("SKIPPED: bind9 is not installed (tests/setup)");
            return None;
        }
        let folder = TempDir::new().expect("a folder");
        let [address] = free::<1>().await;
        let here = folder.path().display();
        let port = address.port();
        let settings = format!(
            r#"options {{ directory "{here}"; listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};
                recursion no; dnssec-validation no; pid-file none; session-keyfile "{here}/session.key"; }};
            controls {{ }};
            key "sluice-key" {{ algorithm hmac-sha256; secret "{KEY}"; }};
            zone "example" {{ type master; file "{here}/zone"; allow-update {{ key "sluice-key"; }}; }};"#
        );
        let zone = "$TTL 1\n@ SOA ns.example. ops.example. 1 60 60 60 1\n@ NS ns.example.\n* A 127.0.0.1\nns A 127.0.0.1\n";
        std::fs::write(folder.path().join("named.conf"), settings).expect("its settings");
        std::fs::write(folder.path().join("zone"), zone).expect("its zone");
        let process = run(Path::new("named"))
            .args(["-g", "-n", "1", "-c", "named.conf"])
            .current_dir(folder.path())
            .spawn()
            .expect("it starts");
        within("the name server answers", async {
            while TcpStream::connect(address).await.is_err() {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        })
        .await;
        Some(Self {
            _process: process,
            folder,
            address,
        })
    }

    /// What was changed in the zone.
    pub async fn changes(&self) -> String {
        let out = Command::new("named-journalprint")
            .arg(self.folder.path().join("zone.jnl"))
            .output()
            .await
            .expect("it starts");
        String::from_utf8(out.stdout).expect("text")
    }
}
