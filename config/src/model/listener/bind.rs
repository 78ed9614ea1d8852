//! Where a listener accepts.

use std::{
    fmt,
    net::{AddrParseError, Ipv6Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
};

use serde::{Serialize, Serializer};

/// Where a listener accepts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bind {
    /// An address and port.
    Socket(SocketAddr),
    /// The file of a unix socket; its path is absolute.
    Unix(PathBuf),
}

impl Bind {
    /// The address; none for a unix socket.
    pub fn socket(&self) -> Option<SocketAddr> {
        match self {
            Self::Socket(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }

    /// The port; none for a unix socket. 0 becomes another one each time.
    pub fn port(&self) -> Option<u16> {
        self.socket().map(|address| address.port())
    }

    /// What stands for it where an address is asked for: a unix socket has none, which is told as
    /// `[::]:0`.
    pub fn nominal(&self) -> SocketAddr {
        let none = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
        self.socket().unwrap_or(none)
    }
}

impl From<SocketAddr> for Bind {
    fn from(address: SocketAddr) -> Self {
        Self::Socket(address)
    }
}

/// As it prints.
impl FromStr for Bind {
    type Err = AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix("unix:") {
            Some(path) => Ok(Self::Unix(path.into())),
            None => text.parse().map(Self::Socket),
        }
    }
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Serialize for Bind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
