//! `sluice egress report`: who asked for what outside, and what came of it.

use std::{
    io::{self, Write},
    net::IpAddr,
};

use ipnet::IpNet;
use serde::Deserialize;
use serde_json::Value;

use super::{Args, allow_list::allow_list, at, json, table, text};
use crate::{Exit, commands::reach::Output};

/// What there is to do with what goes out.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Egress {
    /// List the destinations that clients asked for, by client, with what came of it.
    Report(Report),
}

/// Which destinations, and how.
#[derive(Debug, clap::Args)]
pub(crate) struct Report {
    #[command(flatten)]
    look: Args,
    /// The same as `-o json`.
    #[arg(long, conflicts_with = "allow_list")]
    json: bool,
    /// Only those that clients in this network asked for.
    #[arg(long, value_name = "CIDR", value_parser = network)]
    source: Option<IpNet>,
    /// Print rules for `[egress]` that would allow what was asked for. Read them before you use them.
    #[arg(long, conflicts_with = "output")]
    allow_list: bool,
}

/// A destination, as far as a rule can be made of it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Seen {
    pub(super) source: IpAddr,
    pub(super) host: Option<String>,
    pub(super) port: u16,
    #[serde(default)]
    pub(super) public: Option<bool>,
    pub(super) protocols: Vec<String>,
    pub(super) reason: Option<String>,
}

/// `sluice egress …`
pub(crate) fn egress(egress: &Egress) -> anyhow::Result<Exit> {
    let Egress::Report(args) = egress;
    let mut report = args.look.reach.value("/egress")?;
    if at(&report, "/limit") == 0 {
        let hint = "sluice: there is no report: egress.report is 0";
        writeln!(io::stderr().lock(), "{hint}")?;
    }
    if let (Some(source), Some(all)) = (
        args.source,
        report
            .pointer_mut("/destinations")
            .and_then(Value::as_array_mut),
    ) {
        all.retain(|it| is_from(source, it));
    }
    let destinations = at(&report, "/destinations");
    if args.allow_list {
        let seen = Vec::<Seen>::deserialize(destinations)?;
        io::stdout()
            .lock()
            .write_all(allow_list(&seen).as_bytes())?;
        return Ok(Exit::Fine);
    }
    if args.json || args.look.output == Output::Json {
        return json(&report);
    }
    let mut rows = vec![HEAD.map(str::to_owned).to_vec()];
    rows.extend(destinations.as_array().into_iter().flatten().map(row));
    table(&rows)?;
    Ok(Exit::Fine)
}

fn is_from(network: IpNet, destination: &Value) -> bool {
    let source = at(destination, "/source").as_str();
    let source = source.and_then(|text| text.parse::<IpAddr>().ok());
    source.is_some_and(|source| network.contains(&source))
}

const HEAD: [&str; 12] = [
    "SOURCE",
    "HOST",
    "PORT",
    "PROTOCOLS",
    "RULE",
    "VERDICT",
    "REASON",
    "ALLOWED",
    "REFUSED",
    "SHADOW",
    "FIRST",
    "LAST",
];

fn row(it: &Value) -> Vec<String> {
    let columns = [
        "/source",
        "/host",
        "/port",
        "/protocols",
        "/rule",
        "/verdict",
        "/reason",
        "/allowed",
        "/refused",
        "/shadow",
        "/first",
        "/last",
    ];
    let cells = columns.map(|column| match text(at(it, column)) {
        cell if cell.is_empty() => "-".to_owned(),
        cell => cell,
    });
    cells.to_vec()
}

/// A network, or an address alone.
fn network(text: &str) -> Result<IpNet, ipnet::AddrParseError> {
    match text.parse::<IpAddr>() {
        Ok(address) => Ok(address.into()),
        Err(_) => text.parse(),
    }
}
