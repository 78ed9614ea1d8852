//! `[process]`: read once at start; arguments and environment override it.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroUsize,
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use serde::{Serialize, Serializer};

use super::{Limit, canonical};

/// What holds for the life of the process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Process {
    /// Worker threads; none means one per core.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<NonZeroUsize>,
    /// Where the last good configuration is kept; none means `/var/lib/sluice`, else the user's
    /// state directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_directory: Option<PathBuf>,
    /// How long in-flight requests may finish after SIGTERM.
    #[serde(serialize_with = "canonical::time")]
    pub drain_timeout: Duration,
    /// Where the gateway is asked and told; only from this machine.
    pub admin: ControlAddress,
    /// Where metrics are read.
    pub metrics: ControlAddress,
    /// Where probes ask.
    pub readiness: ControlAddress,
    /// The memory that the process may hold, in bytes; none means half of what there is.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "canonical::maybe_size_or_off"
    )]
    pub memory: Option<Limit<u64>>,
    /// File descriptors that clients and endpoints never get.
    pub descriptor_reserve: u32,
}

/// Where the process answers those who run it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ControlAddress {
    /// Nowhere.
    Off,
    /// At an address and port.
    Tcp(SocketAddr),
    /// At a socket in the file system.
    Unix(PathBuf),
}

/// A text that is no [`ControlAddress`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither ADDRESS:PORT, nor unix:/PATH, nor \"off\"")]
pub struct ControlAddressError(String);

impl ControlAddress {
    const fn local(port: u16) -> Self {
        Self::Tcp(SocketAddr::new(
            std::net::IpAddr::V4(Ipv4Addr::LOCALHOST),
            port,
        ))
    }

    /// Whether nobody outside of this machine can reach it.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Off | Self::Unix(_) => true,
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
        }
    }
}

impl FromStr for ControlAddress {
    type Err = ControlAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unix = text.strip_prefix("unix:").filter(|path| is_socket(path));
        match (text, unix, text.parse()) {
            ("off", ..) => Ok(Self::Off),
            (_, Some(path), _) => Ok(Self::Unix(path.into())),
            (_, None, Ok(address)) => Ok(Self::Tcp(address)),
            (_, None, Err(_)) => Err(ControlAddressError(text.to_owned())),
        }
    }
}

/// Whether a socket can have this path: Linux has room for 107 bytes.
fn is_socket(path: &str) -> bool {
    path.starts_with('/') && path.len() <= 107 && !path.contains('\0')
}

impl fmt::Display for ControlAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Serialize for ControlAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Process {
    /// For who sits at the machine. 15000 and up is where proxies of meshes have these ports.
    pub const ADMIN: ControlAddress = ControlAddress::local(15_000);
    /// On this machine alone, until somebody opens it.
    pub const METRICS: ControlAddress = ControlAddress::local(15_020);
    /// On this machine alone, until somebody opens it.
    pub const READINESS: ControlAddress = ControlAddress::local(15_021);
    /// Long enough for ordinary requests, shorter than the 90 s after which systemd kills.
    pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
    /// Files of the configuration, the access log, a few control connections, and some to spare.
    pub const DESCRIPTOR_RESERVE: u32 = 64;
}

impl Default for Process {
    fn default() -> Self {
        Self {
            workers: None,
            state_directory: None,
            drain_timeout: Self::DRAIN_TIMEOUT,
            admin: Self::ADMIN,
            metrics: Self::METRICS,
            readiness: Self::READINESS,
            memory: None,
            descriptor_reserve: Self::DESCRIPTOR_RESERVE,
        }
    }
}
