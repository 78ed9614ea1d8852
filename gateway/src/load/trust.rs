//! Who is trusted, as bundles in files or the system have it.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use sluice_certs::Roots;

/// The largest file of certificates: all of the world's public issuers take 0.3 MiB.
const LARGEST: u64 = 16 << 20;

/// Why something cannot be had: the key below the object, with its dot.
pub(super) struct Refused {
    pub(super) key: &'static str,
    pub(super) what: String,
    pub(super) hint: Option<&'static str>,
}

impl Refused {
    pub(super) fn new(key: &'static str, error: &dyn std::error::Error) -> Self {
        let what = match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        let hint = None;
        Self { key, what, hint }
    }

    pub(super) fn of(key: &'static str, path: &Path, error: &dyn std::error::Error) -> Self {
        let Self { what, .. } = Self::new(key, error);
        let what = format!("{} cannot be used: {what}", path.display());
        let hint = None;
        Self { key, what, hint }
    }
}

/// The issuers of `bundles`, or without any those of the system, which are read once for all who want
/// them.
pub(super) fn roots(bundles: &[PathBuf], system: &mut Option<Roots>) -> Result<Roots, Refused> {
    if bundles.is_empty() {
        return of_system(system);
    }
    let mut texts = Vec::with_capacity(bundles.len());
    for path in bundles {
        let text = read(path).map_err(|error| Refused::of(".ca", path, &error))?;
        // Each alone first, so that the reason names the file.
        Roots::from_pem([text.as_slice()]).map_err(|error| Refused::of(".ca", path, &error))?;
        texts.push(text);
    }
    let texts = texts.iter().map(Vec::as_slice);
    Roots::from_pem(texts).map_err(|error| Refused::new(".ca", &error))
}

fn of_system(known: &mut Option<Roots>) -> Result<Roots, Refused> {
    if let Some(roots) = known {
        return Ok(roots.clone());
    }
    let roots = Roots::system().map_err(|error| Refused {
        hint: Some("write `ca` to trust other issuers than those of the system"),
        ..Refused::new("", &error)
    })?;
    *known = Some(roots.clone());
    Ok(roots)
}

/// The contents of a file, unless it is too large to be what it should.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = File::open(path)?
        .take(LARGEST.saturating_add(1))
        .read_to_end(&mut bytes)?;
    if u64::try_from(read).unwrap_or(u64::MAX) > LARGEST {
        let what = format!("it is larger than {LARGEST} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, what));
    }
    Ok(bytes)
}
