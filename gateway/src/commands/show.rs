//! `sluice status`, `routes`, `listeners`, `upstreams`, `config dump`, `egress report`: what a running gateway
//! tells.

mod allow_list;
mod egress;

use std::io::{self, Write};

use http::Method;
use serde_json::Value;

use super::reach::{Output, Reach, at, good};
use crate::Exit;

pub(crate) use egress::{Egress, egress};

/// Arguments of the verbs that only look.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(super) reach: Reach,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t)]
    pub(super) output: Output,
}

/// What there is to do with the configuration of a running gateway.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Config {
    /// Print the configuration that runs, in its canonical form: TOML, or JSON with `-o json`.
    Dump(Args),
}

/// `sluice status`
pub(super) fn status(args: &Args) -> anyhow::Result<Exit> {
    let status = args.reach.value("/ready")?;
    if args.output == Output::Json {
        return json(&status);
    }
    let state = match (at(&status, "/ready"), at(&status, "/draining")) {
        (_, Value::Bool(true)) => "draining",
        (Value::Bool(true), _) => "ready",
        _ => "not ready",
    };
    let configuration = match at(&status, "/refused") {
        Value::Bool(true) => "the files are refused, the last good configuration runs",
        _ => "as the files say",
    };
    let rows = [
        ("state", state.to_owned()),
        ("configuration", configuration.to_owned()),
        ("version", text(at(&status, "/version"))),
        ("program", text(at(&status, "/program"))),
        ("process", text(at(&status, "/process"))),
        (
            "uptime",
            format!("{}s", text(at(&status, "/uptime_seconds"))),
        ),
        ("workers", text(at(&status, "/workers"))),
        ("listeners", text(at(&status, "/listeners"))),
        ("routes", text(at(&status, "/routes"))),
        ("upstreams", text(at(&status, "/upstreams"))),
        ("connections", text(at(&status, "/connections"))),
        ("requests", text(at(&status, "/requests"))),
        ("reloads", text(at(&status, "/reloads/applied"))),
        ("reloads refused", text(at(&status, "/reloads/refused"))),
    ];
    table(&rows.map(|(name, value)| vec![name.to_owned(), value]))?;
    if let Some(problems) = at(&status, "/problems").as_str() {
        writeln!(io::stdout().lock(), "\n{}", problems.trim_end())?;
    }
    Ok(Exit::Fine)
}

/// `sluice listeners`
pub(super) fn listeners(args: &Args) -> anyhow::Result<Exit> {
    let head = [
        "NAME",
        "ADDRESS",
        "PROTOCOL",
        "CONNECTIONS",
        "ACTIVE",
        "REQUESTS",
    ];
    list(args, "/listeners", &head, |it| {
        let address = match at(it, "/bound") {
            Value::Null => at(it, "/address"),
            bound => bound,
        };
        vec![
            text(at(it, "/name")),
            text(address),
            text(at(it, "/protocol")),
            text(at(it, "/connections")),
            text(at(it, "/requests/active")),
            text(at(it, "/requests/total")),
        ]
    })
}

/// `sluice routes`
pub(super) fn routes(args: &Args) -> anyhow::Result<Exit> {
    let head = ["NAME", "HOSTS", "LISTENERS", "RULES", "ACTIVE", "REQUESTS"];
    list(args, "/routes", &head, |it| {
        vec![
            text(at(it, "/name")),
            text(at(it, "/hosts")),
            text(at(it, "/listeners")),
            at(it, "/rules").as_array().map_or(0, Vec::len).to_string(),
            text(at(it, "/requests/active")),
            text(at(it, "/requests/total")),
        ]
    })
}

/// `sluice upstreams`
pub(super) fn upstreams(args: &Args) -> anyhow::Result<Exit> {
    let head = [
        "NAME",
        "ENDPOINTS",
        "BUSY",
        "IDLE",
        "WAITING",
        "ACTIVE",
        "REQUESTS",
        "RETRIES",
    ];
    let value = args.reach.value("/upstreams")?;
    if args.output == Output::Json {
        return json(&value);
    }
    rows(&value, &head, |it| {
        let endpoints = at(it, "/endpoints").as_array();
        let endpoints = endpoints
            .into_iter()
            .flatten()
            .map(|it| text(at(it, "/address")));
        vec![
            text(at(it, "/name")),
            endpoints.collect::<Vec<_>>().join(","),
            text(at(it, "/connections/busy")),
            text(at(it, "/connections/idle")),
            text(at(it, "/waiting")),
            text(at(it, "/requests/active")),
            text(at(it, "/requests/total")),
            text(at(it, "/retries")),
        ]
    })?;
    health(&value)?;
    Ok(Exit::Fine)
}

/// How the endpoints stand of those upstreams that are watched.
fn health(upstreams: &Value) -> io::Result<()> {
    let mut rows = Vec::new();
    for upstream in upstreams.as_array().into_iter().flatten() {
        if at(upstream, "/watched") != &Value::Bool(true) {
            continue;
        }
        for endpoint in at(upstream, "/endpoints").as_array().into_iter().flatten() {
            rows.push(vec![
                text(at(upstream, "/name")),
                text(at(endpoint, "/address")),
                text(at(endpoint, "/state")),
                text(at(endpoint, "/since")),
                text(at(endpoint, "/why")),
            ]);
        }
    }
    if !rows.is_empty() {
        let head = ["UPSTREAM", "ENDPOINT", "STATE", "SINCE", "WHY"];
        rows.insert(0, head.map(str::to_owned).to_vec());
        writeln!(io::stdout().lock())?;
        table(&rows)?;
    }
    Ok(())
}

/// `sluice config …`
pub(super) fn config(config: &Config) -> anyhow::Result<Exit> {
    let Config::Dump(args) = config;
    let kind = match args.output {
        Output::Table => "application/toml",
        Output::Json => "application/json",
    };
    let answer = args
        .reach
        .ask(Method::GET, "/config", kind, String::new())?;
    good(&answer)?;
    io::stdout().lock().write_all(answer.body.as_bytes())?;
    Ok(Exit::Fine)
}

fn list(
    args: &Args,
    path: &str,
    head: &[&str],
    row: impl Fn(&Value) -> Vec<String>,
) -> anyhow::Result<Exit> {
    let value = args.reach.value(path)?;
    if args.output == Output::Json {
        return json(&value);
    }
    rows(&value, head, row)?;
    Ok(Exit::Fine)
}

/// Prints a line for each item of a list.
fn rows(list: &Value, head: &[&str], row: impl Fn(&Value) -> Vec<String>) -> io::Result<()> {
    let mut rows = vec![head.iter().map(|&name| name.to_owned()).collect()];
    rows.extend(list.as_array().into_iter().flatten().map(row));
    table(&rows)
}

/// Prints a value as it came.
pub(super) fn json(value: &Value) -> anyhow::Result<Exit> {
    writeln!(io::stdout().lock(), "{value:#}")?;
    Ok(Exit::Fine)
}

/// Prints rows with aligned columns.
pub(super) fn table(rows: &[Vec<String>]) -> io::Result<()> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = io::stdout().lock();
    for row in rows {
        let cells = row.iter().zip(&widths);
        let line = cells.map(|(cell, &width)| format!("{cell:width$}"));
        let line = line.collect::<Vec<_>>().join("  ");
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// A value as a person writes it. What peers may have chosen loses its control characters.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.chars().filter(|char| !char.is_control()).collect(),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}
