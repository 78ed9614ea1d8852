//! `sluice certs export`: writes a chain and its key to files, from the files of the gateway itself.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use sluice_certs::{
    Pair,
    durable::{self, PRIVATE},
};
use sluice_config::{
    Snapshot, Style,
    model::{CertificateSource, KeyPairFiles},
    names::CertificateName,
};

use super::State;
use crate::{Exit, args::environment};

/// Arguments of `export`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The name of the certificate, as `sluice certs list` has it.
    name: String,
    /// Where the chain is written. What is there is replaced.
    #[arg(long, value_name = "PATH")]
    chain: PathBuf,
    /// Where the key is written, readable by its owner only. What is there is replaced.
    #[arg(long, value_name = "PATH")]
    key: PathBuf,
    #[command(flatten)]
    state: State,
}

/// Exports.
pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let sources = sluice_config::read(&args.state.config.clone().resolve(), &environment);
    let report = sluice_config::check(&sources, None);
    let Some(snapshot) = report.snapshot else {
        let text = report.render(&sources, Style::Plain);
        io::stderr().lock().write_all(text.as_bytes())?;
        return Ok(Exit::Refused);
    };
    let (chain, key) = find(&args.name, &snapshot)?;
    // Neither is written unless they belong together.
    Pair::from_pem(chain.as_bytes(), key.as_bytes())?;
    for (path, text) in [(&args.key, &key), (&args.chain, &chain)] {
        durable::replace(path, text.as_bytes(), PRIVATE).map_err(|source| Unexported::Write {
            path: path.clone(),
            source,
        })?;
    }
    let (chain, key) = (args.chain.display(), args.key.display());
    writeln!(io::stdout().lock(), "chain in {chain}, key in {key}")?;
    Ok(Exit::Fine)
}

/// Why nothing is exported.
#[derive(Debug, thiserror::Error)]
enum Unexported {
    #[error("there is no certificate named {0}: `sluice certs list` has their names")]
    Unknown(String),
    #[error("{name} has several pairs: copy those that you want: {}", paths(pairs))]
    Several {
        name: String,
        pairs: Vec<KeyPairFiles>,
    },
    #[error(
        "{} may not be read: keys are for the user of the gateway alone; run this as that user, or as root",
        path.display()
    )]
    Rights { path: PathBuf },
    #[error("{} cannot be read", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("writing {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

fn paths(pairs: &[KeyPairFiles]) -> String {
    let each = pairs.iter().map(|pair| {
        let KeyPairFiles { chain, key } = pair;
        format!("{} with {}", chain.display(), key.display())
    });
    each.collect::<Vec<_>>().join(", ")
}

/// The chain and the key of the certificate called `name`.
fn find(name: &str, snapshot: &Snapshot) -> Result<(String, String), Unexported> {
    let unknown = || Unexported::Unknown(name.to_owned());
    let named = CertificateName::new(name).ok();
    let named = named.and_then(|name| snapshot.certificates.get(&name));
    match named.map(|certificate| &certificate.source) {
        Some(CertificateSource::Files(pairs)) => match pairs.as_slice() {
            [KeyPairFiles { chain, key }] => Ok((read(chain)?, read(key)?)),
            several => Err(Unexported::Several {
                name: name.to_owned(),
                pairs: several.to_vec(),
            }),
        },
        Some(CertificateSource::Auto(_) | CertificateSource::Refused) | None => Err(unknown()),
    }
}

fn read(path: &Path) -> Result<String, Unexported> {
    fs::read_to_string(path).map_err(|source| match source.kind() {
        io::ErrorKind::PermissionDenied => Unexported::Rights {
            path: path.to_path_buf(),
        },
        _ => Unexported::Read {
            path: path.to_path_buf(),
            source,
        },
    })
}
