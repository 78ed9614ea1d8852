//! `[storage]`: what several gateways share.

use std::path::PathBuf;

use serde::{Serialize, Serializer};

use crate::model::SecretText;

/// Where accounts, certificates, challenges and locks are kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Storage {
    /// `certificates` in the state directory: this gateway is alone.
    #[default]
    Own,
    /// A directory that all of them reach.
    Directory(PathBuf),
    /// An etcd that all of them reach.
    Etcd(Etcd),
}

/// The key that says it.
impl Serialize for Storage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Own => serializer.collect_map::<&str, &str, _>([]),
            Self::Directory(path) => serializer.collect_map([("directory", path)]),
            Self::Etcd(etcd) => serializer.collect_map([("etcd", etcd)]),
        }
    }
}

/// An etcd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Etcd {
    /// URLs of its members, with the scheme http or https; never empty.
    pub endpoints: Vec<String>,
    /// What all our keys begin with.
    pub prefix: String,
    /// Who logs in.
    #[serde(flatten)]
    pub login: Option<EtcdLogin>,
    /// Files with the CAs of its members; empty: those of the system.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ca: Vec<PathBuf>,
}

impl Etcd {
    /// Nobody else's.
    pub const PREFIX: &str = "/sluice";
}

/// Who logs in at an etcd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EtcdLogin {
    /// The name.
    pub user: String,
    /// The password.
    pub password: SecretText,
}

impl Storage {
    /// Takes its secrets away.
    pub(crate) fn redact(&mut self) {
        if let Self::Etcd(Etcd {
            login: Some(login), ..
        }) = self
        {
            login.password.redact();
        }
    }
}
