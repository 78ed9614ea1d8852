//! A forward proxy and what lies beyond it: origins on loopback under names that a name server of the test
//! knows.

use std::{fmt::Write as _, net::Ipv4Addr};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    Gateway, Reply,
    eventually::within,
    gateway,
    name_server::{Answer, NameServer},
};

/// A gateway whose listener `web` is a forward proxy, and the names that it asks.
#[derive(Debug)]
pub struct Outside {
    /// The proxy.
    pub gateway: Gateway,
    /// What its names stand for.
    pub names: NameServer,
}

/// The configuration of a forward proxy `web` with these keys, and these objects.
pub fn proxy(listener: &str, objects: &str) -> String {
    format!(
        "[listeners.web]\naddress = \"127.0.0.1:0\"\nprotocol = \"forward-proxy\"\n{listener}\n{objects}\n"
    )
}

/// A rule that lets everybody reach these hosts at this port on this machine.
pub fn rule(name: &str, hosts: &str, port: u16, more: &str) -> String {
    format!(
        "[egress.allow.{name}]\nhosts = {hosts}\nports = [{port}]\naddresses = [\"127.0.0.0/8\"]\n{more}\n"
    )
}

impl Outside {
    /// Starts both. Every name in `known` stands for 127.0.0.1.
    pub async fn start(known: &[&str], listener: &str, objects: &str) -> Self {
        let names = NameServer::start().await;
        for name in known {
            names.says(name, Answer::Addresses(vec![Ipv4Addr::LOCALHOST], 60));
        }
        let objects = format!("{objects}\n{}", names.config());
        let gateway = gateway(&proxy(listener, &objects)).await;
        Self { gateway, names }
    }

    /// What it says to CONNECT, and the connection.
    pub async fn connect(&self, target: &str) -> (Reply, TcpStream) {
        connect(self.gateway.address(), target, "").await
    }

    /// A tunnel that has to open.
    pub async fn tunnel(&self, target: &str) -> TcpStream {
        let (reply, stream) = self.connect(target).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        stream
    }

    /// The answer to a GET in absolute form.
    pub async fn get(&self, url: &str) -> Reply {
        let host = url.trim_start_matches("http://");
        let host = host.split('/').next().unwrap_or_default();
        let request = format!("GET {url} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        self.gateway.ask(request).await
    }

    /// The first line of its log for this host.
    pub async fn line(&self, host: &str) -> Value {
        self.gateway.log().wait_for("host", host).await
    }
}

/// What a proxy says to CONNECT with these further header lines, and the connection.
pub async fn connect(proxy: std::net::SocketAddr, target: &str, more: &str) -> (Reply, TcpStream) {
    let mut stream = TcpStream::connect(proxy).await.expect("the proxy accepts");
    stream.set_nodelay(true).expect("TCP_NODELAY");
    let mut request = String::new();
    write!(
        request,
        "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{more}\r\n"
    )
    .expect("a text");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = within("an answer to CONNECT", stream.read_u8()).await;
        head.push(byte.unwrap_or_else(|_| panic!("closed after {head:?}")));
    }
    let (start, headers, _) = crate::http1::head(&head).expect("a head");
    let status = start.split(' ').nth(1).and_then(|text| text.parse().ok());
    let message = crate::http1::Message {
        start,
        headers,
        body: Vec::new(),
        trailers: Vec::new(),
        raw: head,
    };
    let reply = Reply {
        status: status.expect("a status"),
        message,
        interim: Vec::new(),
    };
    (reply, stream)
}
