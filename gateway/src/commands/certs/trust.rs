//! `sluice certs trust`: gives the root of the development CA to those whom programs ask whom to trust.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use anyhow::Context as _;
use sluice_certs::authority::local::{Local, Root};

use super::{
    State,
    stores::{Outcome, Place, Want},
};
use crate::Exit;

/// Arguments of `trust`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print the root in PEM, and change nothing.
    #[arg(long, conflicts_with_all = ["remove", "root"])]
    print: bool,
    /// Take the root out of every store again.
    #[arg(long)]
    remove: bool,
    /// The folder in which the stores of the system lie, as of an image that is being made.
    #[arg(long, value_name = "FOLDER", default_value = "/")]
    root: PathBuf,
    #[command(flatten)]
    state: State,
}

/// Trusts, or ceases to.
pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let folder = args.state.directory().join(sluice_gateway::load::LOCAL);
    let Some(root) = published(&folder)? else {
        let none = "there is no development CA in";
        let how = "start the gateway once with `certificates = { auto = \"local\" }`, or say where its \
                   state is with --state-directory";
        anyhow::bail!("{none} {}: {how}", folder.display());
    };
    if args.print {
        io::stdout().lock().write_all(root.pem.as_bytes())?;
        return Ok(Exit::Fine);
    }
    let want = if args.remove {
        Want::Gone
    } else {
        Want::Trusted
    };
    let home = crate::args::environment("HOME").map(PathBuf::from);
    let places = Place::all(&args.root, home.as_deref());
    let outcomes: Vec<(Place, Outcome)> = places
        .into_iter()
        .map(|place| {
            let outcome = place.set(&root, want);
            (place, outcome)
        })
        .collect();
    tell(&root, want, &outcomes)
}

/// The root; where it may not be read, with what to do about it.
fn published(folder: &std::path::Path) -> anyhow::Result<Option<Root>> {
    Local::published(folder).with_context(|| {
        "the root of the development CA cannot be read: run this as the user of the gateway, or as root"
    })
}

/// Says what was done and what could not be. A failure of one store is a failure.
fn tell(root: &Root, want: Want, outcomes: &[(Place, Outcome)]) -> anyhow::Result<Exit> {
    let (mut out, mut err) = (io::stdout().lock(), io::stderr().lock());
    let subject = &root.facts.subject;
    writeln!(out, "{subject}\nSHA-256 {}", root.facts.fingerprint_hex())?;
    let mut exit = Exit::Fine;
    let mut done = false;
    for (place, outcome) in outcomes {
        match outcome {
            Outcome::Done => {
                done = true;
                let word = match want {
                    Want::Trusted => "trusted by",
                    Want::Gone => "gone from",
                };
                writeln!(out, "{word} {place}")?;
            }
            Outcome::Nothing => writeln!(out, "not known to {place}")?,
            Outcome::Failed(why) => {
                exit = Exit::Failure;
                writeln!(err, "sluice: not done for {place}: {why}")?;
            }
        }
    }
    if want == Want::Trusted && !done {
        exit = Exit::Failure;
        let how = "`sluice certs trust --print` prints the root for any other store";
        writeln!(err, "sluice: no store took it; {how}")?;
    }
    if want == Want::Trusted && done {
        writeln!(
            out,
            "Programs that are running read their stores when they are started again."
        )?;
    }
    Ok(exit)
}
