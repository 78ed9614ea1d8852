//! A `PostgreSQL` (Debian's `postgresql`) of the test's own, which speaks TLS, and `psql`.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use sluice_tests::{
    eventually::within,
    pebble::free,
    tls::Pki,
    tools::{are_there, program, run, said, skip},
};
use tempfile::TempDir;
use tokio::{net::TcpStream, process::Child, process::Command};

/// Whoever runs as root runs it as nobody: it refuses to be root.
const NOBODY: u32 = 65534;

/// A database that runs until it is dropped.
pub(crate) struct Postgres {
    folder: TempDir,
    _process: Child,
    pub(crate) address: SocketAddr,
}

impl Postgres {
    /// With a certificate for these names. None, said aloud, where it is not installed.
    pub(crate) async fn start(pki: &Pki, names: &[&str]) -> Option<Self> {
        let Some(programs) = programs() else {
            skip("PostgreSQL is missing; tests/setup installs it");
            return None;
        };
        if !are_there(&["psql"]) {
            return None;
        }
        let folder = TempDir::new().expect("a folder");
        let data = folder.path().join("data");
        fs::create_dir(&data).expect("a folder for its data");
        open(folder.path(), 0o755);
        own(&data);
        let mut init = as_nobody(&programs.join("initdb"), folder.path());
        init.args(["--no-sync", "--auth=trust", "--username=postgres", "-D"]);
        let made = run({
            init.arg(&data);
            init
        })
        .await;
        assert!(made.status.success(), "initdb: {}", said(&made));

        pki.authority.server(names).write(&data);
        for name in ["chain.pem", "key.pem"] {
            open(&data.join(name), 0o600);
            own(&data.join(name));
        }
        let [address] = free::<1>().await;
        let settings = format!(
            "listen_addresses = '127.0.0.1'\nport = {}\nunix_socket_directories = ''\nfsync = off\n\
             ssl = on\nssl_cert_file = 'chain.pem'\nssl_key_file = 'key.pem'\n",
            address.port()
        );
        fs::write(data.join("postgresql.conf"), settings).expect("its settings");
        let mut command = as_nobody(&programs.join("postgres"), folder.path());
        command.arg("-D").arg(&data).stdout(Stdio::null());
        command.stderr(Stdio::null());
        let process = command.spawn().expect("it starts");
        within("the database accepts", async {
            while TcpStream::connect(address).await.is_err() {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        })
        .await;
        Some(Self {
            folder,
            _process: process,
            address,
        })
    }

    /// Asks by way of `address` as if it were `name`, whose certificate has to be of the authority.
    pub(crate) async fn ask(
        &self,
        pki: &Pki,
        address: SocketAddr,
        (name, mode): (&str, &str),
        query: &str,
    ) -> Output {
        let target = format!(
            "host={name} hostaddr=127.0.0.1 port={} user=postgres dbname=postgres sslmode={mode} \
             sslrootcert={} connect_timeout=15",
            address.port(),
            pki.path("ca.pem").display()
        );
        let mut command = program("psql", self.folder.path());
        command.args([
            "-X",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-c",
            query,
            &target,
        ]);
        run(command).await
    }
}

/// Where Debian has the programs of its newest version.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let folders = versions.filter_map(|entry| Some(entry.ok()?.path().join("bin")));
    folders.filter(|bin| bin.join("initdb").is_file()).max()
}

fn is_root() -> bool {
    let me = fs::metadata("/proc/self").expect("a process has its folder");
    std::os::unix::fs::MetadataExt::uid(&me) == 0
}

fn as_nobody(name: &Path, home: &Path) -> Command {
    let mut command = program(name.to_str().expect("text"), home);
    command.current_dir(home);
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

fn own(path: &Path) {
    if is_root() {
        chown(path, Some(NOBODY), Some(NOBODY)).expect("it can be given away");
    }
}

fn open(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("permissions");
}
