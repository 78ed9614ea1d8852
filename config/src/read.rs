//! Reads files and directories, and says what to watch. The only I/O of this crate, with `watch`.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use crate::{Place, Problem, SourceFile, Sources, Watch, sources::Form, substitute};

/// The largest file that is read.
const MAX_FILE: u64 = 10 << 20;

/// Reads `paths`, each a file or a directory whose `*.toml` are read in byte order. Never fails:
/// what cannot be read is among the problems. `env` is asked for every variable the files name.
pub fn read(paths: &[PathBuf], env: &dyn Fn(&str) -> Option<String>) -> Sources {
    let mut sources = Sources::default();
    let mut watch = Watch::default();
    for path in paths {
        watch.add(path);
        if path.is_dir() {
            watch.add_contents(path);
            match list(path) {
                Ok(files) => {
                    for file in files {
                        watch.add(&file);
                        read_file(file, &mut sources);
                    }
                }
                Err(error) => sources.problems.push(unreadable(path, &error)),
            }
        } else {
            read_file(path.clone(), &mut sources);
        }
    }
    let mut texts = sources.files.iter().map(|file| file.text.as_str());
    if sources.problems.is_empty() && texts.all(|text| text.trim().is_empty()) {
        sources
            .problems
            .extend(paths.iter().map(|path| empty(path)));
    }
    for file in &sources.files {
        for name in substitute::names(&file.text) {
            if !sources.environment.contains_key(name) {
                sources.environment.insert(name.to_owned(), env(name));
            }
        }
    }
    sources.watch = watch.into_directories();
    sources
}

/// The configuration files of a directory, in byte order. One level; hidden files and editors'
/// backups are not ours.
fn list(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .map(std::ffi::OsStr::as_encoded_bytes)
            .unwrap_or_default();
        let ours = name.ends_with(b".toml") && !name.starts_with(b".") && !name.starts_with(b"~");
        if ours && !path.is_dir() {
            files.push(path);
        }
    }
    files.sort_by(|a, b| {
        a.as_os_str()
            .as_encoded_bytes()
            .cmp(b.as_os_str().as_encoded_bytes())
    });
    Ok(files)
}

fn read_file(path: PathBuf, sources: &mut Sources) {
    let (text, problem) = match bytes(&path) {
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => (text, None),
            Err(error) => {
                let valid = error.utf8_error().valid_up_to();
                let bytes = error.into_bytes();
                let text = String::from_utf8_lossy(bytes.get(..valid).unwrap_or_default());
                let problem = problem_at(&path, "encoding", "this byte is not UTF-8".to_owned());
                (text.into_owned(), Some((problem, Some(valid))))
            }
        },
        Err(error) => (String::new(), Some((unreadable(&path, &error), None))),
    };
    let form = if problem.is_none() {
        Form::Toml
    } else {
        Form::Unreadable
    };
    let file = SourceFile { path, text, form };
    if let Some((mut problem, offset)) = problem {
        let index = sources.files.len();
        problem.place = offset.map(|offset| Place::of(index, &file, offset..offset));
        sources.problems.push(problem);
    }
    sources.files.push(file);
}

fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let mut bytes = Vec::new();
    // One more than allowed, so that a pipe or a growing file is noticed too.
    file.take(MAX_FILE.saturating_add(1))
        .read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length <= MAX_FILE) {
        Ok(bytes)
    } else {
        Err(io::Error::from(io::ErrorKind::FileTooLarge))
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Problem {
    match error.kind() {
        io::ErrorKind::FileTooLarge => {
            let what = format!("{} is larger than 10 MiB", path.display());
            problem_at(path, "too_large", what)
        }
        kind => {
            let problem = problem_at(
                path,
                "unreadable",
                format!("{} cannot be read: {error}", path.display()),
            );
            let hint = match kind {
                io::ErrorKind::NotFound => Some("is the path right?".to_owned()),
                io::ErrorKind::PermissionDenied => Some("may this user read it?".to_owned()),
                _ => None,
            };
            Problem { hint, ..problem }
        }
    }
}

/// Somebody may want no route at all, but a file that was cut off and a directory whose volume is
/// not there look just like that, and would take down everything that is served.
fn empty(path: &Path) -> Problem {
    let what = if path.is_dir() {
        format!("there is nothing in the *.toml files of {}", path.display())
    } else {
        format!("{} is empty", path.display())
    };
    let hint = "write at least a comment where nothing is meant";
    Problem {
        hint: Some(hint.to_owned()),
        ..problem_at(path, "empty", what)
    }
}

fn problem_at(path: &Path, code: &'static str, what: String) -> Problem {
    Problem {
        code,
        at: path.display().to_string(),
        what,
        hint: None,
        witness: None,
        place: None,
    }
}
