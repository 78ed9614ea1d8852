//! Where programs of a machine look up whom to trust: the store of the system, and the databases of
//! browsers that have their own.

use std::{
    ffi::OsString,
    fmt, fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use sluice_certs::{
    authority::local::Root,
    durable::{self, PUBLIC},
};

/// A place with roots that are trusted.
#[derive(Debug)]
pub(super) enum Place {
    /// Of the system: a folder, and a program that gathers what is in it.
    System {
        folder: PathBuf,
        program: &'static str,
        arguments: Vec<OsString>,
    },
    /// A database of NSS, as Chromium and Firefox have.
    Nss(PathBuf),
}

/// What is wanted of a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    /// It has the root.
    Trusted,
    /// It has not.
    Gone,
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Outcome {
    /// As wanted.
    Done,
    /// It never had the root.
    Nothing,
    /// It did not work.
    Failed(String),
}

impl Place {
    /// Those that there are, below `root` and in `home`.
    pub(super) fn all(root: &Path, home: Option<&Path>) -> Vec<Self> {
        let mut all: Vec<Self> = system(root).into_iter().collect();
        let databases = home.map(databases).unwrap_or_default();
        all.extend(databases.into_iter().map(Self::Nss));
        all
    }

    /// Sees to it that it has `root`, or has it not.
    pub(super) fn set(&self, root: &Root, want: Want) -> Outcome {
        let set = match self {
            Self::System {
                folder,
                program,
                arguments,
            } => in_system(root, want, folder, (program, arguments)),
            Self::Nss(database) => in_database(root, want, database),
        };
        set.unwrap_or_else(|why| Outcome::Failed(why.to_string()))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System { folder, .. } => write!(f, "the system ({})", folder.display()),
            Self::Nss(database) => write!(f, "browsers ({})", database.display()),
        }
    }
}

/// Why a place is not as wanted.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("{} may only be written by root: run this again with sudo", path.display())]
    Rights { path: PathBuf },
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("there is no {program}: install {package}")]
    NoProgram {
        program: &'static str,
        package: &'static str,
    },
    #[error("{program} does not start: {source}")]
    Start {
        program: &'static str,
        source: io::Error,
    },
    #[error("{program} failed: {said}")]
    Program { program: &'static str, said: String },
}

/// The store of the system, as Debian and its kind have it, or Red Hat and its kind.
fn system(root: &Path) -> Option<Place> {
    let below = |path: &str| root.join(path);
    let debian = below("usr/local/share/ca-certificates");
    let red_hat = below("etc/pki/ca-trust/source/anchors");
    let own = root == Path::new("/");
    let argument = |name: &str, path: &str| [OsString::from(name), below(path).into_os_string()];
    if debian.is_dir() {
        let elsewhere = [
            argument("--localcertsdir", "usr/local/share/ca-certificates"),
            argument("--certsdir", "usr/share/ca-certificates"),
            argument("--certsconf", "etc/ca-certificates.conf"),
            argument("--etccertsdir", "etc/ssl/certs"),
            argument("--hooksdir", "etc/ca-certificates/update.d"),
        ];
        let arguments = elsewhere.into_iter().flatten().filter(|_| !own);
        return Some(Place::System {
            folder: debian,
            program: "update-ca-certificates",
            arguments: arguments.collect(),
        });
    }
    let elsewhere = argument("--output", "etc/pki/ca-trust/extracted");
    let arguments = elsewhere.into_iter().filter(|_| !own);
    red_hat.is_dir().then(|| Place::System {
        folder: red_hat,
        program: "update-ca-trust",
        arguments: std::iter::once("extract".into()).chain(arguments).collect(),
    })
}

/// The databases of this user's browsers.
fn databases(home: &Path) -> Vec<PathBuf> {
    let chromium = [".pki/nssdb", "snap/chromium/current/.pki/nssdb"].map(|path| home.join(path));
    let firefox = [
        ".mozilla/firefox",
        "snap/firefox/common/.mozilla/firefox",
        ".var/app/org.mozilla.firefox/.mozilla/firefox",
    ];
    let profiles = firefox.iter().flat_map(|path| {
        let entries = fs::read_dir(home.join(path)).into_iter().flatten();
        entries.filter_map(|entry| Some(entry.ok()?.path()))
    });
    let all = chromium.into_iter().chain(profiles);
    let mut all: Vec<PathBuf> = all.filter(|path| path.join("cert9.db").is_file()).collect();
    all.sort();
    all
}

fn in_system(
    root: &Root,
    want: Want,
    folder: &Path,
    (program, arguments): (&'static str, &[OsString]),
) -> Result<Outcome, Refused> {
    // Another development CA of this machine has another file.
    let path = folder.join(format!("sluice-{}.crt", short(root)));
    let written = match want {
        Want::Trusted => durable::replace(&path, root.pem.as_bytes(), PUBLIC),
        Want::Gone if !path.exists() => return Ok(Outcome::Nothing),
        Want::Gone => fs::remove_file(&path),
    };
    written.map_err(|source| match source.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Refused::Rights {
            path: folder.to_path_buf(),
        },
        _ => Refused::File { path, source },
    })?;
    call(program, "ca-certificates", arguments)?;
    Ok(Outcome::Done)
}

/// What has `certutil`.
const PACKAGE: &str = "libnss3-tools (Debian) or nss-tools (Red Hat)";

fn in_database(root: &Root, want: Want, database: &Path) -> Result<Outcome, Refused> {
    let mut place = OsString::from("sql:");
    place.push(database);
    let name = OsString::from(format!("{} {}", root.facts.subject, short(root)));
    let with = |more: &[&str]| {
        let more = more.iter().map(OsString::from);
        let before = ["-d".into(), place.clone(), "-n".into(), name.clone()];
        before.into_iter().chain(more).collect::<Vec<OsString>>()
    };
    match want {
        Want::Trusted => {
            let mut add = with(&["-A", "-t", "C,,", "-i"]);
            add.push(root.path.clone().into_os_string());
            call("certutil", PACKAGE, &add)?;
        }
        Want::Gone => match call("certutil", PACKAGE, &with(&["-L"])) {
            Ok(()) => call("certutil", PACKAGE, &with(&["-D"]))?,
            Err(Refused::Program { .. }) => return Ok(Outcome::Nothing),
            Err(other) => return Err(other),
        },
    }
    Ok(Outcome::Done)
}

/// Enough of the fingerprint to tell roots apart.
fn short(root: &Root) -> String {
    root.facts.fingerprint_hex().chars().take(12).collect()
}

/// Runs a program that has no questions.
fn call(
    program: &'static str,
    package: &'static str,
    arguments: &[OsString],
) -> Result<(), Refused> {
    let start = |path: &Path| {
        let mut command = Command::new(path);
        command.args(arguments).stdin(Stdio::null()).output()
    };
    // Whoever is no administrator may lack these in PATH.
    let places = [Path::new(""), Path::new("/usr/sbin"), Path::new("/sbin")];
    let absent = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    let mut ran = Err(io::ErrorKind::NotFound.into());
    for place in places {
        if ran.as_ref().is_err_and(absent) {
            ran = start(&place.join(program));
        }
    }
    let output = ran.map_err(|source| {
        if absent(&source) {
            Refused::NoProgram { program, package }
        } else {
            Refused::Start { program, source }
        }
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said: String = said.trim().chars().filter(|it| !it.is_control()).collect();
    Err(Refused::Program { program, said })
}
