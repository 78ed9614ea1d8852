//! `[storage]`

use schemars::JsonSchema;
use serde::Deserialize;

use crate::raw::OneOrMany;

/// What several gateways share: accounts at issuers, certificates, challenges, and who orders. At most
/// one of these; without any, `certificates` in the state directory of this one.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct Storage {
    /// A directory that all of them reach, on a file system that knows exclusive creation and renaming.
    pub directory: Option<String>,
    /// An etcd that all of them reach.
    pub etcd: Option<Etcd>,
}

/// An etcd.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[serde(default)]
pub struct Etcd {
    /// URLs of its members: `http://127.0.0.1:2379`. Required.
    pub endpoints: Option<OneOrMany<String>>,
    /// What all our keys begin with. Default `/sluice`.
    pub prefix: Option<String>,
    /// The user to log in as. Default none.
    pub user: Option<String>,
    /// Its password, or `file:/PATH`. A secret. Required with `user`.
    pub password: Option<String>,
    /// Files in PEM with the CAs of its members. Default those of the system.
    pub ca: Option<OneOrMany<String>>,
}
