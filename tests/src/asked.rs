//! A running program that is asked at its admin address, by hand and by its own command line.

use std::{net::SocketAddr, process::Output, sync::Arc};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    Client, Reply,
    process::{Sluice, free_ports, sluice},
};

/// A gateway, and the ports of its admin and readiness addresses.
#[derive(Debug)]
pub struct Asked {
    /// The program.
    pub running: Sluice,
    /// The port of its admin address.
    pub admin: u16,
    /// The port of its readiness address.
    pub readiness: u16,
}

impl Asked {
    /// `sluice run` with this configuration in a folder of its own, waited for until it answers.
    pub async fn start(config: &str) -> Self {
        let folder = Arc::new(tempfile::tempdir().expect("a folder"));
        let asked = Self::start_in(folder, config, &[]);
        asked.answers().await;
        asked
    }

    /// `sluice run` in a folder that exists already, with further arguments; not waited for.
    pub fn start_in(folder: Arc<TempDir>, config: &str, more: &[&str]) -> Self {
        let admin = free_ports(3);
        let readiness = admin + 1;
        let addresses = [admin, readiness].map(|port| format!("127.0.0.1:{port}"));
        let [at, probed] = addresses.each_ref().map(String::as_str);
        let arguments = [&["--admin", at, "--readiness", probed], more].concat();
        let address = SocketAddr::from(([127, 0, 0, 1], admin + 2));
        Self {
            running: Sluice::start_with(folder, address, config, &arguments),
            admin,
            readiness,
        }
    }

    /// Waits until it has started: sockets are there before the files are read.
    pub async fn answers(&self) {
        self.running.accepts().await;
        self.running.says("\"purpose\":\"admin\"").await;
    }

    /// The answer of the admin address to a request as it is written here.
    pub async fn ask(&self, request: &str) -> Reply {
        ask(self.admin, request).await
    }

    /// What stands at a path of the admin address.
    pub async fn get(&self, path: &str) -> Value {
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        let reply = self.ask(&request).await;
        serde_json::from_str(&reply.text()).expect("JSON")
    }

    /// What the command line says when it asks this gateway.
    pub async fn says(&self, args: &[&str]) -> Output {
        let admin = format!("127.0.0.1:{}", self.admin);
        let args: Vec<_> = args.iter().copied().chain(["--admin", &admin]).collect();
        sluice(self.running.folder().path(), &args).await
    }
}

/// The answer at a port of this machine to a request as it is written here.
pub async fn ask(port: u16, request: &str) -> Reply {
    let mut client = Client::connect(([127, 0, 0, 1], port).into()).await;
    client.send(request).await;
    client.reply().await
}

/// An order as the command line gives it.
pub fn post(path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}
