//! Networks of the test's own: a workload, the gateway that is its only way out, and the outside.
//!
//! ```text
//! workload 10.7.0.2 ──── 10.7.0.1 gateway 11.7.0.1 ──── 11.7.0.2, .3, .4, .53 outside
//!          fd07::2  ──── fd07::1          2a07::1  ──── 2a07::2
//! ```
//!
//! The addresses outside are public ones by their looks; nothing of this leaves the machine.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    os::fd::AsFd as _,
    process::{Child, Command, Stdio},
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::net::{TcpListener, UdpSocket};

/// A network namespace, which is there as long as a process in it.
pub(crate) struct Network(Child);

impl Network {
    /// None where this machine gives no network.
    fn new() -> Option<Self> {
        let mut child = Command::new("unshare")
            .args([
                "--net",
                "sh",
                "-c",
                "ip link set lo up && echo up && exec sleep infinity",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take()?);
        out.read_line(&mut line).ok()?;
        let network = Self(child);
        (line == "up\n").then_some(network)
    }

    fn id(&self) -> String {
        self.0.id().to_string()
    }

    /// A program that runs in it.
    pub(crate) fn command(&self, program: &str) -> tokio::process::Command {
        let mut command = tokio::process::Command::new("nsenter");
        command
            .args(["--net", "--target", &self.id(), "--"])
            .arg(program)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// Runs the lines of a shell script in it.
    pub(crate) fn set(&self, script: &str) {
        let mut child = Command::new("nsenter")
            .args(["--net", "--target", &self.id(), "sh", "-e"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("nsenter runs");
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(script.as_bytes()).expect("it is read");
        drop(stdin);
        assert!(child.wait().expect("it ends").success(), "{script}");
    }

    /// Gives rules to the packet filter of it.
    pub(crate) fn filter(&self, rules: &str) {
        self.set(&format!(
            "PATH=$PATH:/usr/sbin nft -f - <<'END'\nflush ruleset\n{rules}\nEND\n"
        ));
    }

    /// What is opened in it belongs to it, wherever it is used.
    fn open<T: Send>(&self, open: impl FnOnce() -> T + Send) -> T {
        let file = File::open(format!("/proc/{}/ns/net", self.0.id())).expect("its network");
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let kind = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(file.as_fd(), kind).expect("it may be entered");
                open()
            });
            thread.join().expect("it is opened")
        })
    }

    pub(crate) fn listen(&self, address: &str) -> TcpListener {
        let socket = self.open(|| std::net::TcpListener::bind(address).expect("a port"));
        socket.set_nonblocking(true).expect("a socket");
        TcpListener::from_std(socket).expect("a socket")
    }

    pub(crate) fn datagrams(&self, address: &str) -> UdpSocket {
        let socket = self.open(|| std::net::UdpSocket::bind(address).expect("a port"));
        socket.set_nonblocking(true).expect("a socket");
        UdpSocket::from_std(socket).expect("a socket")
    }

    /// Connects from within it.
    pub(crate) async fn connect(
        &self,
        address: SocketAddr,
    ) -> std::io::Result<tokio::net::TcpStream> {
        let socket = self.open(|| match address {
            SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4(),
            SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6(),
        })?;
        socket.connect(address).await
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.0.kill().unwrap_or_default();
        drop(self.0.wait());
    }
}

/// The three of them, joined.
pub(crate) struct Networks {
    pub(crate) workload: Network,
    pub(crate) gateway: Network,
    pub(crate) outside: Network,
}

impl Networks {
    /// None, said aloud, where this machine gives no network or has no nftables.
    pub(crate) fn new() -> Option<Self> {
        let networks = Network::new()
            .zip(Network::new())
            .zip(Network::new())
            .filter(|_| {
                Command::new("sh")
                    .args(["-c", "PATH=$PATH:/usr/sbin nft --version"])
                    .stdout(Stdio::null())
                    .status()
                    .is_ok_and(|it| it.success())
            });
        let Some(((workload, gateway), outside)) = networks else {
            let must = std::env::var_os("CI").is_some_and(|it| !it.is_empty());
            assert!(!must, "CI needs network namespaces and nftables");
            eprintln!("SKIPPED: no network namespaces, or nftables is not installed (tests/setup)");
            return None;
        };
        gateway.set(&format!(
            "ip link add in0 type veth peer name eth0 netns {}
             ip link add out0 type veth peer name eth0 netns {}
             ip addr add 10.7.0.1/24 dev in0
             ip addr add 11.7.0.1/24 dev out0
             ip addr add fd07::1/64 dev in0 nodad
             ip addr add 2a07::1/64 dev out0 nodad
             ip link set in0 up
             ip link set out0 up",
            workload.id(),
            outside.id()
        ));
        workload.set(
            "ip addr add 10.7.0.2/24 dev eth0
             ip addr add fd07::2/64 dev eth0 nodad
             ip link set eth0 up
             ip route add default via 10.7.0.1
             ip -6 route add default via fd07::1",
        );
        outside.set(
            "for last in 2 3 4 53; do ip addr add 11.7.0.$last/24 dev eth0; done
             ip addr add 2a07::2/64 dev eth0 nodad
             ip link set eth0 up",
        );
        Some(Self {
            workload,
            gateway,
            outside,
        })
    }
}
