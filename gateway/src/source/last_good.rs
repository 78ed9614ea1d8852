//! The last good configuration, kept for a start on which the file is broken or gone.
//!
//! Kept as written, before substitution, so that no secret of the environment reaches the disk;
//! readable by its owner only; replaced atomically, so that a crash leaves the old or the new one.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sluice_config::{SourceFile, Sources};

/// Where the last good configuration is kept.
#[derive(Debug, Clone)]
pub struct LastGood {
    directory: PathBuf,
    name: String,
}

/// What is kept.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    /// When it took effect, in seconds since 1970.
    saved: u64,
    files: Vec<SourceFile>,
    /// The names of the variables that the files name; never their values.
    variables: BTreeSet<String>,
}

impl LastGood {
    /// Of the configuration in `paths`; another configuration has another one, so that gateways may
    /// share a state directory.
    pub fn new(directory: PathBuf, paths: &[PathBuf]) -> Self {
        let mut hash = Sha256::new();
        for path in paths {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            hash.update(path.as_os_str().as_encoded_bytes());
            hash.update([0]);
        }
        let digest = hash.finalize();
        let tag = digest
            .iter()
            .take(4)
            .fold(String::new(), |tag, byte| format!("{tag}{byte:02x}"));
        Self {
            directory,
            name: format!("last-good-{tag}.json"),
        }
    }

    /// The state directory of a process that names none: `/var/lib/sluice` where it can be written,
    /// else the user's.
    pub fn default_directory(env: &dyn Fn(&str) -> Option<String>) -> PathBuf {
        let system = PathBuf::from("/var/lib/sluice");
        if is_writable(&system) {
            return system;
        }
        let absolute = |name: &str| {
            env(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        absolute("XDG_STATE_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
            .map_or(system, |user| user.join("sluice"))
    }

    /// Where it is kept.
    pub fn path(&self) -> PathBuf {
        self.directory.join(&self.name)
    }

    /// Keeps `sources` instead of those of before.
    pub fn save(&self, sources: &Sources) -> io::Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let record = Record {
            saved: now.unwrap_or_default().as_secs(),
            files: sources.files.clone(),
            variables: sources.environment.keys().cloned().collect(),
        };
        let text = serde_json::to_vec(&record)?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.directory)?;
        let draft = self
            .directory
            .join(format!(".{}.{}", self.name, std::process::id()));
        let written = write(&draft, &text).and_then(|()| fs::rename(&draft, self.path()));
        if written.is_err() {
            // What is left is a draft that nobody reads; the first error says more.
            fs::remove_file(&draft).unwrap_or_default();
        }
        written?;
        File::open(&self.directory)?.sync_all()
    }

    /// What is kept, and when it took effect. None when nothing is.
    pub fn load(
        &self,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> io::Result<Option<(Sources, SystemTime)>> {
        let text = match fs::read(self.path()) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let Record {
            saved,
            files,
            variables,
        } = serde_json::from_slice(&text)?;
        let environment = variables
            .into_iter()
            .map(|name| {
                let value = env(&name);
                (name, value)
            })
            .collect();
        let sources = Sources {
            files,
            environment,
            ..Sources::default()
        };
        Ok(Some((sources, UNIX_EPOCH + Duration::from_secs(saved))))
    }
}

fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text)?;
    file.sync_all()
}

fn is_writable(directory: &Path) -> bool {
    let probe = directory.join(OsStr::new(&format!(".probe.{}", std::process::id())));
    fs::create_dir_all(directory).is_ok()
        && File::create(&probe).is_ok()
        && fs::remove_file(&probe).is_ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_kept_holds_names_of_variables_and_never_their_values() {
        let directory = tempfile::tempdir().expect("a directory");
        let kept = LastGood::new(directory.path().join("state"), &["a.toml".into()]);
        let sources = Sources::from_text("a.toml", "[routes.a]\nto = \"${HOST}:80\"\n")
            .with_variable("HOST", "secret.example");

        kept.save(&sources).expect("saved");

        let text = fs::read_to_string(kept.path()).expect("there");
        assert!(text.contains("${HOST}") && !text.contains("secret.example"));
        let mode = fs::metadata(kept.path())
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let (back, _) = kept
            .load(&|name| (name == "HOST").then(|| "now.example".to_owned()))
            .expect("readable")
            .expect("there");
        assert_eq!(back.files, sources.files);
        assert_eq!(back.environment["HOST"].as_deref(), Some("now.example"));
    }

    #[test]
    fn configurations_do_not_share_what_is_kept() {
        let directory = tempfile::tempdir().expect("a directory");
        let one = LastGood::new(directory.path().to_owned(), &["one.toml".into()]);
        let other = LastGood::new(directory.path().to_owned(), &["other.toml".into()]);

        one.save(&Sources::from_text("one.toml", ""))
            .expect("saved");

        assert!(other.load(&|_| None).expect("readable").is_none());
        assert!(one.load(&|_| None).expect("readable").is_some());
    }
}
