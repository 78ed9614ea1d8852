//! pebble, the ACME server for tests, with its name server `pebble-challtestsrv`: each test starts its own on
//! free ports, which end with it.
//!
//! Its newer version, which knows renewal information and profiles, stands in `target/tools`
//! (`tests/setup`); else Debian's is taken. Without either the tests are skipped, loudly, but fail with `CI` set.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Stdio,
};

use bytes::Bytes;
use http::{Request, StatusCode};
use serde_json::json;
use sluice_certs::{Roots, fetch::Client, testing::Authority};
use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    process::{Child, Command},
};

use crate::eventually::within;

/// How it is to behave.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Where it looks for HTTP-01 answers.
    pub http: u16,
    /// Where it looks for TLS-ALPN-01 answers.
    pub tls: u16,
    /// So many of a hundred good nonces it refuses.
    pub refused_nonces: u32,
    /// How long certificates are valid, in seconds.
    pub lifetime: u32,
    /// The external account that it insists on: its name, and its key in base64url.
    pub external: Option<(&'static str, &'static str)>,
    /// Another name server than `pebble-challtestsrv`.
    pub dns: Option<SocketAddr>,
    /// The other profile that it has, and how long its certificates are valid.
    pub profile: Option<(&'static str, u32)>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            http: 1,
            tls: 1,
            refused_nonces: 5,
            lifetime: 90 * 86_400,
            external: None,
            dns: None,
            profile: None,
        }
    }
}

/// A pebble that runs until it is dropped.
#[derive(Debug)]
pub struct Pebble {
    folder: TempDir,
    server: Child,
    _names: Child,
    management: SocketAddr,
    names: SocketAddr,
    /// Whom to trust to trust its directory.
    pub root: Vec<u8>,
    /// The address of its directory.
    pub directory: String,
    /// The address of its name server.
    pub dns: SocketAddr,
    client: Client,
}

impl Pebble {
    /// None, said aloud, where it is not installed.
    pub async fn start(setup: &Setup) -> Option<Self> {
        let Some(program) = program() else {
            assert!(
                std::env::var_os("CI").is_none(),
                "CI needs pebble and pebble-challtestsrv"
            );
            eprintln!("SKIPPED: pebble and pebble-challtestsrv are not installed (tests/setup)");
            return None;
        };
        let folder = TempDir::new().expect("a folder");
        let [listen, management, dns, names] = free::<4>().await;
        let names_process = run(Path::new("pebble-challtestsrv"))
            .args(["-defaultIPv4", "127.0.0.1", "-defaultIPv6", ""])
            .args(["-http01", "", "-https01", "", "-tlsalpn01", ""])
            .args([
                "-dns01",
                &dns.to_string(),
                "-management",
                &names.to_string(),
            ])
            .spawn()
            .expect("pebble-challtestsrv starts");
        let authority = Authority::new("pebble's own");
        let roots = Roots::from_pem([authority.pem().as_bytes()]).expect("roots");
        authority
            .server(&["localhost", "127.0.0.1"])
            .write(folder.path());
        let mut pebble = Self {
            server: run(&program)
                .args(["-config", "pebble.json", "-strict"])
                .args(["-dnsserver", &setup.dns.unwrap_or(dns).to_string()])
                .env("PEBBLE_VA_NOSLEEP", "1")
                .env("PEBBLE_AUTHZREUSE", "0")
                .env("PEBBLE_WFE_NONCEREJECT", setup.refused_nonces.to_string())
                .current_dir(configure(&folder, setup, (listen, management)))
                .spawn()
                .expect("pebble starts"),
            folder,
            _names: names_process,
            management,
            names,
            root: authority.pem().into(),
            directory: format!("https://localhost:{}/dir", listen.port()),
            dns,
            client: Client::new(roots).expect("a client"),
        };
        within("pebble answers", pebble.ready()).await;
        Some(pebble)
    }

    async fn ready(&mut self) {
        loop {
            let asked = self.client.send(get(&self.directory)).await;
            let names = self
                .tell("set-default-ipv4", &json!({ "ip": "127.0.0.1" }))
                .await;
            if asked.is_ok_and(|answer| answer.status() == StatusCode::OK) && names {
                return;
            }
            let ended = self.server.try_wait().expect("a process");
            assert_eq!(ended, None, "pebble ended");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// A client that trusts its directory.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The file with whom to trust to trust its directory.
    pub fn root_file(&self) -> PathBuf {
        let path = self.folder.path().join("root.pem");
        std::fs::write(&path, &self.root).expect("a file");
        path
    }

    /// The root of what it issues, as PEM.
    pub async fn issuing_root(&self) -> Vec<u8> {
        let url = format!("https://{}/roots/0", self.management);
        let answer = self.client.send(get(&url)).await.expect("an answer");
        answer.into_body().into()
    }

    /// Sets a TXT record.
    pub async fn set_txt(&self, name: &str, value: &str) {
        let said = json!({ "host": format!("{name}."), "value": value });
        assert!(self.tell("set-txt", &said).await, "the record is set");
    }

    /// Where TXT records are set, with `POST {"host", "value"}` to `/set-txt`.
    pub fn records(&self) -> String {
        format!("http://{}", self.names)
    }

    /// Wishes that a certificate be renewed in that window. `false`: this pebble has no wishes.
    pub async fn wish(&self, certificate: &str, from: &str, until: &str) -> bool {
        let window = json!({ "suggestedWindow": { "start": from, "end": until } });
        let said = json!({ "certificate": certificate, "ariResponse": window.to_string() });
        let url = format!("https://{}/set-renewal-info/", self.management);
        let body = Bytes::from(said.to_string());
        let request = Request::post(url).body(body).expect("a request");
        let answer = self.client.send(request).await.expect("an answer");
        answer.status() == StatusCode::OK
    }

    async fn tell(&self, what: &str, said: &serde_json::Value) -> bool {
        let url = format!("http://{}/{what}", self.names);
        let body = Bytes::from(said.to_string());
        let request = Request::post(url).body(body).expect("a request");
        self.client
            .send(request)
            .await
            .is_ok_and(|answer| answer.status().is_success())
    }
}

fn get(url: &str) -> Request<Bytes> {
    Request::get(url).body(Bytes::new()).expect("a request")
}

/// Writes its files; gives their folder.
fn configure(
    folder: &TempDir,
    setup: &Setup,
    (listen, management): (SocketAddr, SocketAddr),
) -> PathBuf {
    let mut profiles = json!({
        "default": { "description": "as ever", "validityPeriod": setup.lifetime },
    });
    if let Some((name, lifetime)) = setup.profile {
        profiles[name] = json!({ "description": "another", "validityPeriod": lifetime });
    }
    let mut settings = json!({
        "listenAddress": listen,
        "managementListenAddress": management,
        "certificate": "chain.pem",
        "privateKey": "key.pem",
        "httpPort": setup.http,
        "tlsPort": setup.tls,
        "ocspResponderURL": "",
        "certificateValidityPeriod": setup.lifetime,
        "externalAccountBindingRequired": setup.external.is_some(),
        "profiles": profiles,
    });
    if let Some((name, key)) = setup.external {
        settings["externalAccountMACKeys"] = json!({ name: key });
    }
    let settings = json!({ "pebble": settings }).to_string();
    std::fs::write(folder.path().join("pebble.json"), settings).expect("its settings");
    folder.path().to_owned()
}

/// The newer one beside `target/<profile>/deps/<test>`, else Debian's.
fn program() -> Option<PathBuf> {
    let test = std::env::current_exe().ok()?;
    let newer = test.ancestors().nth(3)?.join("tools/pebble");
    let there = |program: &str| {
        let found = std::process::Command::new(program)
            .arg("-h")
            .stderr(Stdio::null())
            .status();
        found.is_ok()
    };
    if !there("pebble-challtestsrv") {
        return None;
    }
    if newer.is_file() {
        return Some(newer);
    }
    there("pebble").then(|| PathBuf::from("pebble"))
}

/// Whether this pebble knows renewal information and profiles.
pub fn is_newer() -> bool {
    program().is_some_and(|program| program.is_absolute())
}

/// A program that ends when it is dropped, and with the test's thread when even that does not happen.
pub fn run(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL"])
        .arg(program)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    command
}

/// Addresses on which nobody listens now.
pub async fn free<const N: usize>() -> [SocketAddr; N] {
    let mut held = Vec::new();
    let mut addresses = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); N];
    for address in &mut addresses {
        let listener = TcpListener::bind(*address).await.expect("a port");
        *address = listener.local_addr().expect("an address");
        held.push(listener);
    }
    addresses
}
