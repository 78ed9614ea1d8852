//! TLS towards a gateway: certificates in files, and clients that say what they want.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use sluice_certs::testing::{Authority, Client as TlsClient, Connected, Leaf, Speaks};
use sluice_gateway::drain::Tasks;
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::{
    Client,
    eventually::within,
    tools::{program, run, said},
};

/// A connection over TLS.
pub type Secure = Client<Connected<TcpStream>>;

/// An authority, and a folder for what it signs.
#[derive(Debug)]
pub struct Pki {
    /// Signs.
    pub authority: Authority,
    folder: TempDir,
}

impl Default for Pki {
    fn default() -> Self {
        Self::new()
    }
}

impl Pki {
    /// An authority that has signed nothing, whose own certificate is in `ca.pem`.
    pub fn new() -> Self {
        let authority = Authority::default();
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("ca.pem"), authority.pem()).expect("ca.pem");
        Self { authority, folder }
    }

    /// Where a file is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The same as a string of the configuration.
    pub fn quoted(&self, name: &str) -> String {
        quoted(&self.path(name))
    }

    /// Writes a file and gives where it is.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).expect("a file");
        path
    }

    /// `[certificates.NAME]` from files with a certificate for these names.
    pub fn certificate(&self, name: &str, hosts: &[&str]) -> String {
        let leaf = self.authority.server(hosts);
        self.place(name, &leaf);
        format!("[certificates.{name}]\nfiles = {}\n", self.files(name))
    }

    /// Puts a pair into the files of `name`.
    pub fn place(&self, name: &str, leaf: &Leaf) {
        leaf.write(&self.path(name));
    }

    /// The value of `files` for `name`.
    pub fn files(&self, name: &str) -> String {
        files(&self.path(name))
    }

    /// A client that believes the authority and speaks HTTP/1.1.
    pub fn client(&self) -> TlsClient {
        TlsClient::new(&self.authority, &["http/1.1"])
    }

    /// The same with a certificate of its own.
    pub fn known_client(&self, leaf: &Leaf) -> TlsClient {
        TlsClient::with(&self.authority, &["http/1.1"], Speaks::Any, Some(leaf))
    }
}

/// A listener `web` that ends TLS, with these further keys, and these objects.
pub fn https(listener: &str, objects: &str) -> String {
    format!(
        "[listeners.web]\naddress = \"127.0.0.1:0\"\nprotocol = \"https\"\n{listener}\n{objects}\n"
    )
}

/// A path as a string of the configuration.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    format!("{text:?}")
}

/// The value of `files` for a pair in this folder.
pub fn files(folder: &Path) -> String {
    let (chain, key) = (folder.join("chain.pem"), folder.join("key.pem"));
    format!("{{ chain = {}, key = {} }}", quoted(&chain), quoted(&key))
}

/// Connects to `address` as if to `name`. Whether the gateway accepts shows when something is read.
pub async fn connect(
    client: &TlsClient,
    address: SocketAddr,
    name: &str,
) -> io::Result<Connected<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    within("the handshake ends", client.connect(stream, name)).await
}

/// A connection that has to succeed.
pub async fn secure(client: &TlsClient, address: SocketAddr, name: &str) -> Secure {
    let stream = connect(client, address, name).await;
    Client::over(stream.expect("the handshake succeeds"))
}

/// A connection of HTTP/2 over TLS.
#[derive(Debug)]
pub struct Multiplexed {
    sender: SendRequest<Bytes>,
    tasks: Tasks,
}

impl Multiplexed {
    /// A connection that has to succeed, by a client that offers HTTP/2.
    pub async fn connect(client: &TlsClient, address: SocketAddr, name: &str) -> Self {
        let stream = connect(client, address, name).await;
        let stream = stream.expect("the handshake succeeds");
        assert_eq!(stream.protocol().as_deref(), Some("h2"));
        let (sender, connection) = Box::pin(h2::client::handshake(stream))
            .await
            .expect("HTTP/2");
        let tasks = Tasks::new();
        tasks.spawn(async move { drop(connection.await) });
        Self { sender, tasks }
    }

    /// The status of a GET.
    pub async fn status(&mut self, url: &str) -> u16 {
        let request = Request::get(url).body(()).expect("a request");
        let ready = self.sender.clone().ready().await;
        let (answer, _) = ready
            .expect("room")
            .send_request(request, true)
            .expect("sent");
        let answer = within("an answer", answer).await.expect("an answer");
        answer.status().as_u16()
    }
}

impl Drop for Multiplexed {
    fn drop(&mut self) {
        self.tasks.abort();
    }
}

/// What `openssl s_client` says of a connection that it ends at once.
pub async fn s_client(pki: &Pki, address: SocketAddr, arguments: &[&str]) -> String {
    let mut client = program("openssl", pki.folder.path());
    client
        .args(["s_client", "-connect", &address.to_string(), "-CAfile"])
        .arg(pki.path("ca.pem"))
        .args(arguments);
    said(&run(client).await)
}
