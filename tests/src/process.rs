//! The real program in its own process: what only a process has (signals, exit codes, its output).

use std::{
    ffi::OsStr,
    net::{SocketAddr, TcpListener as StdListener},
    path::{Path, PathBuf},
    process::{ExitStatus, Output, Stdio},
    sync::{Arc, OnceLock},
};

use parking_lot::Mutex;
use sluice_gateway::drain::Tasks;
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    net::TcpStream,
    process::{Child, Command},
    time::{Duration, sleep, timeout},
};

use crate::{AccessLog, Client, PATIENCE, eventually::eventually};

/// The path of the program, built when it is missing or stale.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        // target/<profile>/deps/<test>
        let test = std::env::current_exe().expect("the path of this test");
        let profile = test
            .parent()
            .and_then(Path::parent)
            .expect("target/<profile>");
        let name = profile
            .file_name()
            .and_then(OsStr::to_str)
            .unwrap_or("debug");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let built = std::process::Command::new(cargo)
            .args([
                "build",
                "--quiet",
                "--package",
                "sluice-gateway",
                "--bin",
                "sluice",
            ])
            .args(["--profile", if name == "debug" { "dev" } else { name }])
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
            .status()
            .expect("cargo runs");
        assert!(built.success(), "the program does not build");
        profile.join("sluice")
    })
}

/// Runs the program to its end in `folder` and gives its output.
pub async fn sluice(folder: &Path, args: &[&str]) -> Output {
    let running = command(folder).args(args).stdin(Stdio::null()).output();
    timeout(PATIENCE * 3, running)
        .await
        .expect("it ends")
        .expect("it starts")
}

fn command(folder: &Path) -> Command {
    let mut command = Command::new(program());
    // Nothing of this machine's own settings may leak in.
    command
        .current_dir(folder)
        .env_clear()
        .env("HOME", folder)
        // Whom "the system" trusts is for the test to say.
        .env("SSL_CERT_FILE", folder.join("roots.pem"))
        .kill_on_drop(true);
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    // Tests run beside each other; those that look at the control side say where.
    for name in ["SLUICE_ADMIN", "SLUICE_METRICS", "SLUICE_READINESS"] {
        command.env(name, "off");
    }
    command
}

/// Standard output of a finished program.
pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Standard error of a finished program.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    free_ports(1)
}

/// The first of so many ports in a row that were free a moment ago. They lie below those that the
/// kernel gives to connections, so that none of these takes one before the program does.
pub fn free_ports(count: u16) -> u16 {
    let is_free = |port| StdListener::bind(("127.0.0.1", port)).is_ok();
    std::iter::repeat_with(|| rand::random_range(10_000..32_000))
        .take(1000)
        .find(|first| (*first..first + count).all(is_free))
        .expect("free ports")
}

/// A running program.
#[derive(Debug)]
pub struct Sluice {
    child: Child,
    folder: Arc<TempDir>,
    address: SocketAddr,
    output: Arc<Mutex<String>>,
    tasks: Tasks,
}

impl Sluice {
    /// `sluice run` with this configuration in a folder of its own, waited for until it accepts.
    /// `{address}` in the text becomes the address it shall listen on.
    pub async fn run(config: &str) -> Self {
        let running = Self::start(config);
        running.accepts().await;
        running
    }

    /// `sluice run`, not waited for.
    pub fn start(config: &str) -> Self {
        let folder = Arc::new(tempfile::tempdir().expect("a folder"));
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        Self::start_in(folder, address, config)
    }

    /// `sluice run` in a folder that exists already, for a second life.
    pub fn start_in(folder: Arc<TempDir>, address: SocketAddr, config: &str) -> Self {
        Self::start_with(folder, address, config, &[])
    }

    /// `sluice run` in a folder that exists already, with further arguments.
    pub fn start_with(
        folder: Arc<TempDir>,
        address: SocketAddr,
        config: &str,
        more: &[&str],
    ) -> Self {
        let state = folder.path().join("state");
        std::fs::create_dir_all(&state).expect("a folder for state");
        let path = folder.path().join("sluice.toml");
        std::fs::write(&path, fill(config, address)).expect("a configuration");
        let mut args = vec!["run".as_ref(), "--config".as_ref(), path.as_os_str()];
        args.extend(more.iter().map(OsStr::new));
        Self::spawn(folder, address, &args)
    }

    /// As [`Sluice::run`], with everything in its log that the gateway has to say.
    pub async fn verbose(config: &str) -> Self {
        let folder = Arc::new(tempfile::tempdir().expect("a folder"));
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let path = folder.path().join("sluice.toml");
        std::fs::write(&path, fill(config, address)).expect("a configuration");
        let mut command = command(folder.path());
        command.env("SLUICE_LOG", "info,sluice_gateway=debug");
        command.args(["run".as_ref(), "--config".as_ref(), path.as_os_str()]);
        let running = Self::launch(command, folder, address);
        running.accepts().await;
        running
    }

    /// The program with these arguments.
    pub fn spawn(folder: Arc<TempDir>, address: SocketAddr, args: &[&OsStr]) -> Self {
        let mut command = command(folder.path());
        command.args(args);
        Self::launch(command, folder, address)
    }

    fn launch(mut command: Command, folder: Arc<TempDir>, address: SocketAddr) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let output = Arc::new(Mutex::new(String::new()));
        let tasks = Tasks::new();
        let (out, err) = (child.stdout.take(), child.stderr.take());
        tasks.spawn(copy(out.expect("a pipe"), Arc::clone(&output)));
        tasks.spawn(copy(err.expect("a pipe"), Arc::clone(&output)));
        Self {
            child,
            folder,
            address,
            output,
            tasks,
        }
    }

    /// Waits until it accepts connections.
    pub async fn accepts(&self) {
        let attempts = async {
            while TcpStream::connect(self.address).await.is_err() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        let accepted = timeout(PATIENCE, attempts).await.is_ok();
        assert!(accepted, "it never accepted; it said:\n{}", self.output());
    }

    /// A connection to it.
    pub async fn connect(&self) -> Client {
        Client::connect(self.address).await
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its folder: `sluice.toml`, `state/`, `access.jsonl`.
    pub fn folder(&self) -> Arc<TempDir> {
        Arc::clone(&self.folder)
    }

    /// Its configuration file.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("sluice.toml")
    }

    /// Replaces its configuration file as `cp` does.
    pub fn write_config(&self, config: &str) {
        std::fs::write(self.config(), fill(config, self.address)).expect("a configuration");
    }

    /// Its access log, when the configuration names `access.jsonl`.
    pub fn log(&self) -> AccessLog {
        AccessLog::at(&self.folder.path().join("access.jsonl"))
    }

    /// Everything it wrote so far, standard output and error together.
    pub fn output(&self) -> String {
        self.output.lock().clone()
    }

    /// Waits until it wrote this.
    pub async fn says(&self, text: &str) -> String {
        eventually(&format!("it says {text:?}"), || {
            Some(self.output()).filter(|output| output.contains(text))
        })
        .await
    }

    /// Sends a signal by name: `TERM`, `HUP`, ….
    pub fn signal(&self, name: &str) {
        let id = self.child.id().expect("it runs").to_string();
        let sent = std::process::Command::new("kill")
            .args(["-s", name, &id])
            .status();
        assert!(sent.expect("kill runs").success(), "the signal was sent");
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// Waits for its end.
    pub async fn ends(&mut self) -> ExitStatus {
        let ended = timeout(PATIENCE, self.child.wait()).await;
        let Ok(status) = ended else {
            panic!("it never ended; it said:\n{}", self.output())
        };
        eventually("its last words are read", || {
            self.tasks.is_empty().then_some(())
        })
        .await;
        status.expect("a status")
    }
}

impl Drop for Sluice {
    fn drop(&mut self) {
        self.tasks.abort();
    }
}

fn fill(config: &str, address: SocketAddr) -> String {
    config.replace("{address}", &address.to_string())
}

async fn copy(mut from: impl AsyncRead + Unpin, to: Arc<Mutex<String>>) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        to.lock()
            .push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
}
