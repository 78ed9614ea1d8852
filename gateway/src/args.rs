//! The words of the command line.

use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};

use crate::commands;

/// The edge gateway: routes requests as a TOML configuration says, and reloads it while running.
#[derive(Debug, Parser)]
#[command(
    name = "sluice",
    version,
    propagate_version = true,
    max_term_width = 100
)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the gateway in the foreground.
    Run(commands::run::Args),
    /// Check a configuration: exit 0 when it is fine, 3 when it is refused.
    Check(commands::check::Args),
    /// Say what would become of a request: exit 4 when no rule matches it.
    Explain(Box<commands::explain::Args>),
    /// Bring configuration files into their canonical layout.
    Fmt(commands::fmt::Args),
    /// Hash a password for a list of users: from the terminal, which does not show it, or from standard
    /// input.
    HashPassword(commands::hash_password::Args),
    /// Say how a running gateway is.
    Status(commands::show::Args),
    /// List the routes of a running gateway.
    Routes(commands::show::Args),
    /// List the listeners of a running gateway.
    Listeners(commands::show::Args),
    /// List the upstreams of a running gateway, with their endpoints and connections.
    Upstreams(commands::show::Args),
    /// Look at what goes out through a running gateway.
    #[command(subcommand)]
    Egress(commands::show::Egress),
    /// Look at the certificates of a gateway, renew and export them, and trust the development CA.
    #[command(subcommand)]
    Certs(commands::certs::Certs),
    /// Look at the configuration of a running gateway.
    #[command(subcommand)]
    Config(commands::show::Config),
    /// Let a running gateway read its configuration again: exit 1 when it is refused.
    Reload(commands::steer::Args),
    /// Let a running gateway finish what is in flight and end.
    Drain(commands::steer::Ending),
    /// Like `drain`, and wait until it has ended.
    Stop(commands::steer::Ending),
    /// Say or change what a running gateway logs.
    LogLevel(commands::steer::LogLevel),
    /// Say or change which requests have a line in a running gateway's access log.
    AccessLog(commands::steer::AccessLog),
    /// Exit 0 when a running gateway is ready for requests, else 1.
    Healthcheck(commands::steer::Args),
    /// Run a small shop with a gateway in front of it, and show what to try.
    Demo(commands::demo::Args),
    /// Print the JSON Schema of the configuration.
    Schema,
    /// Print the version.
    Version,
    /// Print a completion script for a shell.
    Completions(commands::about::Completions),
}

/// Where the configuration is.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ConfigPaths {
    /// A file or a directory of `*.toml`; may be repeated [default: ./sluice.toml, else
    /// /etc/sluice/sluice.toml].
    #[arg(short, long = "config", value_name = "PATH", env = "SLUICE_CONFIG")]
    config: Vec<PathBuf>,
}

impl ConfigPaths {
    /// What was given, or the default that is there.
    pub(crate) fn resolve(self) -> Vec<PathBuf> {
        if !self.config.is_empty() {
            return self.config;
        }
        let here = Path::new("sluice.toml");
        let there = Path::new("/etc/sluice/sluice.toml");
        let found = if here.exists() || !there.exists() {
            here
        } else {
            there
        };
        vec![found.to_owned()]
    }
}

/// A variable of the environment, for `${NAME}` in configuration files.
pub(crate) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
