//! `sluice certs export`: writes a chain and its key to files, from the files of the gateway itself.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use sluice_certs::{
    Pair,
    acme::stored,
    authority::local::{Local, LocalError},
    durable::{self, PRIVATE},
    pair::split,
    storage::StorageError,
};
use sluice_config::{
    Snapshot, Style,
    model::{CertificateSource, KeyPairFiles},
    names::CertificateName,
};

use sluice_gateway::authn::users::Lists;
use sluice_gateway::load::{self, CertificateFiles, Certificates, LOCAL};

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
    let (chain, key) = match written(&args.name, &snapshot)? {
        Some(pair) => pair,
        None => match load::files(&snapshot, &CertificateFiles::default(), &Lists::default()) {
            Ok(loaded) => issued(&args.name, &loaded.certificates, &args.state.directory())?,
            Err(problems) => {
                let text = sluice_config::render(&problems, &sources, Style::Plain);
                io::stderr().lock().write_all(text.as_bytes())?;
                return Ok(Exit::Refused);
            }
        },
    };
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

/// The chain and the key of the certificate called `name`, if it comes from files.
fn written(name: &str, snapshot: &Snapshot) -> Result<Option<(String, String)>, Unexported> {
    let named = CertificateName::new(name).ok();
    let named = named.and_then(|name| snapshot.certificates.get(&name));
    let Some(CertificateSource::Files(pairs)) = named.map(|certificate| &certificate.source) else {
        return Ok(None);
    };
    match pairs.as_slice() {
        [KeyPairFiles { chain, key }] => Ok(Some((read(chain)?, read(key)?))),
        several => Err(Unexported::Several {
            name: name.to_owned(),
            pairs: several.to_vec(),
        }),
    }
}

/// The chain and the key of the certificate called `name`, made or ordered.
fn issued(
    name: &str,
    certificates: &Certificates,
    state: &Path,
) -> anyhow::Result<(String, String)> {
    let wanted = certificates.automatic.wanted.get(name);
    let text = if wanted.is_some_and(|wanted| wanted.issuer.is_local()) {
        made(name, &state.join(LOCAL))?
    } else {
        ordered(name, certificates, state)?
    };
    let text = text.ok_or_else(|| Unexported::Unknown(name.to_owned()))?;
    Ok(split(&text)?)
}

/// What the development CA has made.
fn made(name: &str, folder: &Path) -> anyhow::Result<Option<String>> {
    match Local::kept(folder, name) {
        Err(LocalError::File { path, source }) => Err(unread(path, source).into()),
        kept => Ok(kept?),
    }
}

/// What was ordered over ACME.
fn ordered(name: &str, loaded: &Certificates, state: &Path) -> anyhow::Result<Option<String>> {
    let Some(issuance) = &loaded.issuance else {
        return Ok(None);
    };
    if let Some(folder) = issuance.place.folder(state)
        && let Err(source) = fs::metadata(&folder)
    {
        // Looking into it would make it.
        return match source.kind() {
            io::ErrorKind::NotFound => Ok(None),
            _ => Err(unread(folder, source).into()),
        };
    }
    let storage = issuance.place.storage(state);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let wanted = loaded.automatic.over_acme();
    match runtime.block_on(stored(&*storage, &wanted, name)) {
        Err(StorageError::Io { path, source }) => Err(unread(path, source).into()),
        found => Ok(found?),
    }
}

fn read(path: &Path) -> Result<String, Unexported> {
    fs::read_to_string(path).map_err(|source| unread(path.to_path_buf(), source))
}

fn unread(path: PathBuf, source: io::Error) -> Unexported {
    match source.kind() {
        io::ErrorKind::PermissionDenied => Unexported::Rights { path },
        _ => Unexported::Read { path, source },
    }
}
