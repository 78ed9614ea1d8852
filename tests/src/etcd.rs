//! etcd (Debian's `etcd-server`), one member, started by each test on free ports.

use std::path::Path;

use sluice_certs::{
    fetch::Client,
    storage::{self, Kind, Login, Storage},
};
use tempfile::TempDir;
use tokio::process::Child;

use crate::{
    eventually::within,
    pebble::{free, run},
};

/// An etcd that runs until it is dropped.
#[derive(Debug)]
pub struct Etcd {
    _folder: TempDir,
    _process: Child,
    /// Where it is asked.
    pub endpoint: String,
}

impl Etcd {
    /// None, said aloud, where it is not installed.
    pub async fn start() -> Option<Self> {
        let there = std::process::Command::new("etcd").arg("--version").output();
        if there.is_err() {
            assert!(std::env::var_os("CI").is_none(), "CI needs etcd");
            eprintln!("SKIPPED: etcd is not installed (tests/setup)");
            return None;
        }
        let folder = TempDir::new().expect("a folder");
        let [clients, peers] = free::<2>().await.map(|address| format!("http://{address}"));
        let process = run(Path::new("etcd"))
            .arg("--data-dir")
            .arg(folder.path().join("data"))
            .args(["--unsafe-no-fsync", "--log-level", "error"])
            .args([
                "--listen-client-urls",
                &clients,
                "--advertise-client-urls",
                &clients,
            ])
            .args([
                "--listen-peer-urls",
                &peers,
                "--initial-advertise-peer-urls",
                &peers,
            ])
            .args(["--initial-cluster", &format!("default={peers}")])
            .spawn()
            .expect("etcd starts");
        let etcd = Self {
            _folder: folder,
            _process: process,
            endpoint: clients,
        };
        let storage = etcd.storage("/ready");
        within("etcd answers", async {
            while storage.list(Kind::Record).await.is_err() {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        })
        .await;
        Some(etcd)
    }

    /// The storage below `prefix`.
    pub fn storage(&self, prefix: &str) -> storage::Etcd {
        self.storage_as(prefix, None)
    }

    /// The storage below `prefix` for a user.
    pub fn storage_as(&self, prefix: &str, login: Option<Login>) -> storage::Etcd {
        storage::Etcd::new(
            Client::plain(),
            std::slice::from_ref(&self.endpoint),
            prefix,
            login,
        )
    }
}
