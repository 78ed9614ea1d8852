//! `sluice reload`, `drain`, `stop`, `log-level`, `access-log`, `healthcheck`: orders to a running gateway.

use std::{
    io::{self, Write},
    time::Duration,
};

use http::{Method, StatusCode};
use serde_json::{Value, json};
use sluice_config::model::ControlAddress;
use sluice_gateway::admin::{Answer, ask};

use super::reach::{Reach, ask_at, at, good};
use crate::Exit;

/// Between two looks at a gateway that ends.
const LOOK: Duration = Duration::from_millis(50);

/// Longest wait for a probe.
const PROBE: Duration = Duration::from_secs(3);

/// Arguments of orders without any.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    reach: Reach,
}

/// Arguments of `drain` and `stop`.
#[derive(Debug, clap::Args)]
pub(crate) struct Ending {
    #[command(flatten)]
    reach: Reach,
    /// Seconds that requests in flight may take [default: `process.drain_timeout`].
    #[arg(long, value_name = "SECONDS")]
    grace: Option<u32>,
}

/// Arguments of `log-level`.
#[derive(Debug, clap::Args)]
pub(crate) struct LogLevel {
    /// What to log from now on: `info`, `debug`, `info,sluice_gateway=debug`, … Without it, says what
    /// is logged.
    level: Option<String>,
    #[command(flatten)]
    reach: Reach,
}

/// Arguments of `access-log`.
#[derive(Debug, clap::Args)]
pub(crate) struct AccessLog {
    /// `off`, `on` (what the configuration admits), `all`, or a filter instead of the configured one:
    /// `5xx`, `404`, `500ms` (the shortest request), with commas between them. It holds until the
    /// gateway ends. Without it, says what holds.
    choice: Option<String>,
    #[command(flatten)]
    reach: Reach,
}

/// `sluice reload`: waits for the outcome.
pub(super) fn reload(args: &Args) -> anyhow::Result<Exit> {
    let answer = args.reach.post("/reload", String::new())?;
    accepted(&answer)?;
    let value: Value = serde_json::from_str(&answer.body)?;
    let version = at(&value, "/version").as_str().unwrap_or_default();
    writeln!(io::stdout().lock(), "{version} runs")?;
    Ok(Exit::Fine)
}

/// `sluice drain`: does not wait for the end.
pub(super) fn drain(args: &Ending) -> anyhow::Result<Exit> {
    end(args)?;
    writeln!(io::stdout().lock(), "draining")?;
    Ok(Exit::Fine)
}

/// `sluice stop`: waits until nobody answers any more.
pub(super) fn stop(args: &Ending) -> anyhow::Result<Exit> {
    let address = args.reach.address();
    end(args)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        loop {
            let what = (Method::GET, "/live");
            let body = ("application/json", String::new());
            if ask(&address, what, body, PROBE).await.is_err() {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    });
    writeln!(io::stdout().lock(), "stopped")?;
    Ok(Exit::Fine)
}

fn end(args: &Ending) -> anyhow::Result<()> {
    let body = match args.grace {
        None => String::new(),
        Some(seconds) => json!({ "grace_seconds": seconds }).to_string(),
    };
    accepted(&args.reach.post("/drain", body)?)
}

/// `sluice log-level`
pub(super) fn log_level(args: &LogLevel) -> anyhow::Result<Exit> {
    let answer = match &args.level {
        None => args.reach.get("/log-level")?,
        Some(level) => args.reach.post("/log-level", level.clone())?,
    };
    accepted(&answer)?;
    let value: Value = serde_json::from_str(&answer.body)?;
    let level = at(&value, "/level").as_str().unwrap_or_default();
    writeln!(io::stdout().lock(), "{level}")?;
    Ok(Exit::Fine)
}

/// `sluice access-log`
pub(super) fn access_log(args: &AccessLog) -> anyhow::Result<Exit> {
    let answer = match &args.choice {
        None => args.reach.get("/access-log")?,
        Some(choice) => args.reach.post("/access-log", choice.clone())?,
    };
    accepted(&answer)?;
    let value: Value = serde_json::from_str(&answer.body)?;
    if at(&value, "/output") == "off" {
        let nowhere = "sluice: the configuration has no access log: [access_log] output = \"off\"";
        writeln!(io::stderr().lock(), "{nowhere}")?;
    }
    let choice = at(&value, "/access_log").as_str().unwrap_or_default();
    writeln!(io::stdout().lock(), "{choice}")?;
    Ok(Exit::Fine)
}

/// `sluice healthcheck`: for `HEALTHCHECK` of images. Exit 0 when requests should come here.
pub(super) fn healthcheck(args: &Args) -> anyhow::Result<Exit> {
    let address = match args.reach.address() {
        ControlAddress::Off => args.reach.process().readiness,
        address => address,
    };
    let what = (Method::GET, "/ready");
    let answer = ask_at(&address, what, ("application/json", String::new()), PROBE)?;
    if answer.status == StatusCode::OK {
        return Ok(Exit::Fine);
    }
    writeln!(io::stderr().lock(), "sluice: not ready")?;
    Ok(Exit::Failure)
}

/// An order that was not taken is a failure.
fn accepted(answer: &Answer) -> anyhow::Result<()> {
    good(answer)?;
    anyhow::ensure!(
        answer.status.is_success(),
        "the gateway takes no orders now: it starts or ends"
    );
    Ok(())
}
