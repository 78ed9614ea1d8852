//! With a real `HAProxy` on either side.

use std::{net::SocketAddr, process::Stdio, time::Duration};

use sluice_tests::{
    Client, Gateway, Origin,
    eventually::eventually,
    gateway,
    process::free_port,
    tools::{are_there, program},
};
use tempfile::TempDir;
use tokio::{net::TcpStream, process::Child};

/// A running `HAProxy`, until dropped.
struct Haproxy {
    address: SocketAddr,
    _child: Child,
    _folder: TempDir,
}

impl Haproxy {
    /// With one listener with these keys, and one endpoint with those.
    async fn start(bind: &str, server: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let config = folder.path().join("haproxy.cfg");
        let text = format!(
            "defaults\n mode http\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n\
             frontend f\n bind {address} {bind}\n http-request set-header x-source %[src]:%[src_port]\n \
             default_backend b\n\
             backend b\n http-reuse never\n server s {server}\n"
        );
        std::fs::write(&config, text).expect("written");
        let mut command = program("haproxy", folder.path());
        command.args(["-db", "-f"]).arg(&config);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("haproxy starts");
        eventually("haproxy accepts", || {
            std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()
        })
        .await;
        Self {
            address,
            _child: child,
            _folder: folder,
        }
    }
}

async fn listening(origin: &Origin) -> Gateway {
    gateway(&format!(
        "[listeners.web]\naddress = \"127.0.0.1:0\"\ntrusted_proxies = \"127.0.0.1\"\n\
         proxy_protocol = true\n[routes.r]\nto = \"{}\"\n",
        origin.address()
    ))
    .await
}

#[tokio::test]
async fn what_haproxy_says_is_believed() {
    if !are_there(&["haproxy"]) {
        return;
    }
    let origin = Origin::echo().await;
    let gateway = listening(&origin).await;
    for said in [
        "send-proxy",
        "send-proxy-v2",
        "send-proxy-v2 proxy-v2-options crc32c",
        "send-proxy-v2 proxy-v2-options crc32c,unique-id",
    ] {
        let server = format!("{} {said}", gateway.address());
        let front = Haproxy::start("", &server).await;
        let mut client = Client::from(TcpStream::connect(front.address).await.expect("accepted"));
        let own = client.local();
        let seen = client.get("a", "/").await.text();
        assert!(
            seen.contains(&format!("x-source: {own}\r\n")),
            "{said}: {seen}"
        );
        let line = gateway.log().wait_for("peer", &own.to_string()).await;
        assert_eq!(line["client"], "127.0.0.1", "{said}");
    }
}

#[tokio::test]
async fn haproxy_believes_what_we_say() {
    if !are_there(&["haproxy"]) {
        return;
    }
    let origin = Origin::echo().await;
    let behind = Haproxy::start("accept-proxy", &origin.address().to_string()).await;
    for version in ["v1", "v2"] {
        let gateway = gateway(&format!(
            "[routes.r]\nto = \"u\"\n[upstreams.u]\nendpoints = \"{}\"\nproxy_protocol = \"{version}\"\n",
            behind.address
        ))
        .await;
        let mut client = gateway.connect().await;
        let own = client.local();
        let seen = client.get("a", "/").await.text();
        assert!(
            seen.contains(&format!("x-source: {own}\r\n")),
            "{version}: {seen}"
        );
    }
}
