//! `sluice certs …`: the certificates of a gateway.
//!
//! What must stay true: no key passes through the admin address. `export` reads the files of the gateway
//! itself, as far as whoever runs it may.

mod export;
mod stores;
mod trust;

use std::{
    io::{self, Write},
    path::PathBuf,
};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use sluice_gateway::source::LastGood;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    reach::{Output, Reach, at, good},
    show::{self, table, text},
};
use crate::{
    Exit,
    args::{ConfigPaths, environment},
};

/// What there is to do with certificates.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Certs {
    /// List the certificates of a running gateway.
    List(show::Args),
    /// Say everything about one.
    Show(One),
    /// Have one issued anew, now.
    Renew(Named),
    /// Write the chain and the key of one to files. Reads the files of the gateway, which takes the rights
    /// to do so.
    Export(export::Args),
    /// Let this machine trust the development CA, so that browsers take its certificates.
    Trust(trust::Args),
}

/// One certificate of a running gateway, to look at.
#[derive(Debug, clap::Args)]
pub(crate) struct One {
    /// Its name, as `sluice certs list` has it.
    name: String,
    #[command(flatten)]
    look: show::Args,
}

/// One certificate of a running gateway.
#[derive(Debug, clap::Args)]
pub(crate) struct Named {
    /// Its name, as `sluice certs list` has it.
    name: String,
    #[command(flatten)]
    reach: Reach,
}

/// Where a gateway keeps what outlives it.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct State {
    /// Where the gateway keeps its state [default: `process.state_directory` of the configuration, else
    /// /var/lib/sluice, else the user's].
    #[arg(long, value_name = "PATH", env = "SLUICE_STATE_DIRECTORY")]
    state_directory: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigPaths,
}

/// Does what was asked.
pub(super) fn run(certs: &Certs) -> anyhow::Result<Exit> {
    match certs {
        Certs::List(args) => list(args),
        Certs::Show(args) => show(args),
        Certs::Renew(args) => renew(args),
        Certs::Export(args) => export::run(args),
        Certs::Trust(args) => trust::run(args),
    }
}

impl State {
    fn directory(&self) -> PathBuf {
        let configured = || super::reach::process(&self.config).state_directory;
        let known = self.state_directory.clone().or_else(configured);
        known.unwrap_or_else(|| LastGood::default_directory(&environment))
    }
}

fn list(args: &show::Args) -> anyhow::Result<Exit> {
    let value = args.reach.value("/certificates")?;
    if args.output == Output::Json {
        return show::json(&value);
    }
    let head = ["NAME", "HOSTS", "SOURCE", "KEY", "STATE", "ENDS", "RENEWAL"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let all = value.as_array().into_iter().flatten();
    rows.extend(all.clone().map(|it| {
        let keys = at(it, "/pairs").as_array().into_iter().flatten();
        let keys: Vec<String> = keys.map(|pair| text(at(pair, "/key"))).collect();
        vec![
            text(at(it, "/name")),
            hosts(at(it, "/hosts")),
            source(it),
            if keys.is_empty() {
                "-".to_owned()
            } else {
                keys.join(",")
            },
            state(it),
            moment(at(it, "/not_after")),
            moment(at(it, "/renewal")),
        ]
    }));
    table(&rows)?;
    let mut out = io::stdout().lock();
    for it in all {
        if let Some(problem) = problem(it) {
            writeln!(out, "\n{}: {problem}", text(at(it, "/name")))?;
        }
    }
    Ok(Exit::Fine)
}

fn show(args: &One) -> anyhow::Result<Exit> {
    let value = args.look.reach.value(&path(&args.name, ""))?;
    if args.look.output == Output::Json {
        return show::json(&value);
    }
    let mut rows = vec![
        ("name", text(at(&value, "/name"))),
        ("hosts", text(at(&value, "/hosts"))),
        ("source", source(&value)),
        ("state", state(&value)),
        ("renewal", moment(at(&value, "/renewal"))),
    ];
    rows.extend(problem(&value).map(|problem| ("problem", problem)));
    for pair in at(&value, "/pairs").as_array().into_iter().flatten() {
        rows.extend([
            ("", String::new()),
            ("key", text(at(pair, "/key"))),
            ("subject", text(at(pair, "/subject"))),
            ("issuer", text(at(pair, "/issuer"))),
            ("names", text(at(pair, "/names"))),
            ("begins", moment(at(pair, "/not_before"))),
            ("ends", moment(at(pair, "/not_after"))),
            ("serial", text(at(pair, "/serial"))),
            ("fingerprint", text(at(pair, "/fingerprint"))),
        ]);
    }
    let rows: Vec<_> = rows
        .into_iter()
        .map(|(name, value)| vec![name.to_owned(), value])
        .collect();
    table(&rows)?;
    Ok(Exit::Fine)
}

fn renew(args: &Named) -> anyhow::Result<Exit> {
    let answer = args
        .reach
        .post(&path(&args.name, "/renew"), String::new())?;
    good(&answer)?;
    anyhow::ensure!(
        answer.status.is_success(),
        "the gateway takes no orders now"
    );
    let see = "`sluice certs show` says what became of it";
    writeln!(io::stdout().lock(), "{} is being renewed: {see}", args.name)?;
    Ok(Exit::Fine)
}

/// The path of a certificate on the admin address.
fn path(name: &str, order: &str) -> String {
    format!(
        "/certificates/{}{order}",
        utf8_percent_encode(name, NON_ALPHANUMERIC)
    )
}

/// How it fares, and its order where something is to be done.
fn state(value: &Value) -> String {
    let state = text(at(value, "/state"));
    match at(value, "/order/phase").as_str() {
        None | Some("issued") => state,
        Some("waiting") => format!("{state}, waiting until {}", text(at(value, "/order/until"))),
        Some(phase) => format!("{state}, {phase}"),
    }
}

/// Where it comes from: the issuer, or its first chain.
fn source(value: &Value) -> String {
    match at(value, "/source/auto") {
        Value::Null => text(at(value, "/source/files/0/chain")),
        issuer => text(issuer),
    }
}

/// The first hosts of many.
fn hosts(value: &Value) -> String {
    const SOME: usize = 3;
    let hosts = value.as_array().map_or(&[][..], Vec::as_slice);
    let some = hosts.iter().take(SOME).map(text).collect::<Vec<_>>();
    match hosts.len().saturating_sub(SOME) {
        0 if some.is_empty() => "-".to_owned(),
        0 => some.join(","),
        more => format!("{} and {more} more", some.join(",")),
    }
}

/// A moment, and how far away it is.
fn moment(value: &Value) -> String {
    let moment = value
        .as_str()
        .and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
    let Some(moment) = moment else {
        return text(value);
    };
    let away = moment - OffsetDateTime::now_utc();
    let amount = |days: i64, hours: i64| match (days, hours) {
        (0, hours) => format!("{hours}h"),
        (days, _) => format!("{days}d"),
    };
    let amount = amount(away.whole_days().abs(), away.whole_hours().abs());
    let away = if away.is_negative() {
        format!("{amount} ago")
    } else {
        format!("in {amount}")
    };
    format!("{} ({away})", text(value))
}

/// What went wrong last, and with whom.
fn problem(value: &Value) -> Option<String> {
    let what = at(value, "/problem/what").as_str()?;
    let what = text(&Value::from(what));
    let from = match at(value, "/problem/issuer") {
        Value::Null => String::new(),
        issuer => format!("{}: ", text(issuer)),
    };
    Some(format!("{from}{what}"))
}
