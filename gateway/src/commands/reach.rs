//! How the command line reaches a gateway that runs.

use std::{path::PathBuf, time::Duration};

use http::{Method, StatusCode};
use serde_json::Value;
use sluice_config::model::{ControlAddress, Process};
use sluice_gateway::admin::{Answer, ask};

use crate::args::{ConfigPaths, environment};

/// Longest wait for an answer; a reload may take half of it.
const PATIENCE: Duration = Duration::from_mins(1);

/// Which gateway.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Reach {
    /// Its admin address: `ADDRESS:PORT` or `unix:/PATH` [default: `process.admin` of the
    /// configuration if there is one, else 127.0.0.1:15000].
    #[arg(long, value_name = "ADDRESS", env = "SLUICE_ADMIN")]
    admin: Option<ControlAddress>,
    #[command(flatten)]
    config: ConfigPaths,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Output {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

impl Reach {
    /// Where to ask: as said, else as configured, else where it is by default.
    pub(crate) fn address(&self) -> ControlAddress {
        self.admin.clone().unwrap_or_else(|| self.process().admin)
    }

    /// `[process]` of the configuration; of a broken one what can be read.
    pub(crate) fn process(&self) -> Process {
        process(&self.config)
    }

    /// Asks for a page.
    pub(crate) fn get(&self, path: &str) -> anyhow::Result<Answer> {
        self.ask(Method::GET, path, "application/json", String::new())
    }

    /// Gives an order.
    pub(crate) fn post(&self, path: &str, body: String) -> anyhow::Result<Answer> {
        self.ask(Method::POST, path, "application/json", body)
    }

    /// Asks and waits.
    pub(crate) fn ask(
        &self,
        method: Method,
        path: &str,
        kind: &'static str,
        body: String,
    ) -> anyhow::Result<Answer> {
        ask_at(&self.address(), (method, path), (kind, body), PATIENCE)
    }

    /// A page that is there whenever somebody answers.
    pub(crate) fn value(&self, path: &str) -> anyhow::Result<Value> {
        let answer = self.get(path)?;
        good(&answer)?;
        Ok(serde_json::from_str(&answer.body)?)
    }
}

/// `[process]` of a configuration; of a broken one what can be read.
pub(crate) fn process(config: &ConfigPaths) -> Process {
    let paths: Vec<PathBuf> = config.clone().resolve();
    if paths.iter().any(|path| !path.exists()) {
        return Process::default();
    }
    let sources = sluice_config::read(&paths, &environment);
    sluice_config::check(&sources, None).process
}

/// Asks at `address` and waits at most `patience`.
pub(crate) fn ask_at(
    address: &ControlAddress,
    what: (Method, &str),
    body: (&'static str, String),
    patience: Duration,
) -> anyhow::Result<Answer> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime.block_on(ask(address, what, body, patience))?)
}

/// An answer that is no success is an error in the words of the gateway.
pub(crate) fn good(answer: &Answer) -> anyhow::Result<()> {
    if answer.status.is_success() || answer.status == StatusCode::SERVICE_UNAVAILABLE {
        return Ok(());
    }
    let value: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    let error = at(&value, "/error").as_str().unwrap_or("no reason given");
    match at(&value, "/problems").as_str() {
        Some(problems) => anyhow::bail!("{error}\n{}", problems.trim_end()),
        None => anyhow::bail!("{error} ({})", answer.status.as_u16()),
    }
}

/// A part of an answer by its path, `/a/b`; null where there is none.
pub(crate) fn at<'v>(value: &'v Value, path: &str) -> &'v Value {
    static NOTHING: Value = Value::Null;
    value.pointer(path).unwrap_or(&NOTHING)
}
