//! `cargo xtask sizes`: files, folders, tests and debts stay small.
//!
//! A function's length is clippy's affair. Exceptions stand in `tests/xtask/sizes.toml` with a
//! reason; they may only shrink.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde::Deserialize;

use crate::{
    Report,
    source::{self, Source},
};

/// Production lines of a file beyond which somebody should split it.
const FILE: usize = 400;
/// Production lines of a file beyond which the check fails.
const FILE_FAILS: usize = 600;
/// Lines of a file of tests.
const TEST_FILE: usize = 800;
/// Rust files in a folder below `src`, those of tests not counted.
const FOLDER: usize = 12;
/// Folders below `src`, one inside the other.
const DEPTH: usize = 2;
/// Debts in the whole tree.
const TODOS: usize = 10;

/// Where the code is.
const TREES: [&str; 9] = [
    "config/src",
    "certs/src",
    "gateway/src",
    "gateway/benches",
    "controller/src",
    "sidecar/src",
    "tests/src",
    "tests/tests",
    "tests/xtask/src",
];

/// The content of `sizes.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exceptions {
    #[serde(default)]
    exception: Vec<Exception>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exception {
    /// The file, below the root.
    path: PathBuf,
    /// What it had when the exception was made.
    lines: usize,
    /// Why it is right as it is.
    reason: String,
}

/// Measures the tree at `root`.
pub(crate) fn run(root: &Path) -> anyhow::Result<Report> {
    let path = root.join("tests/xtask/sizes.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let exceptions: Exceptions =
        toml::from_str(&text).with_context(|| format!("reading {}", path.display()))?;
    let mut sources = Vec::new();
    for tree in TREES {
        for path in source::rust_files(&root.join(tree))? {
            sources.push(Source::read(root, &path)?);
        }
    }
    Ok(measure(&sources, &exceptions.exception))
}

fn measure(sources: &[Source], exceptions: &[Exception]) -> Report {
    let mut report = Report::default();
    for source in sources {
        file(source, exceptions, &mut report);
        let depth = below_src(&source.path).map_or(0, |below| below.components().count());
        if depth > DEPTH.saturating_add(1) {
            report.violations.push(format!(
                "{}: lies more than {DEPTH} folders below src",
                source.path.display()
            ));
        }
    }
    for exception in exceptions {
        let known = sources.iter().any(|source| source.path == exception.path);
        if !known || exception.reason.trim().is_empty() {
            report.violations.push(format!(
                "sizes.toml: the exception for {} needs a file and a reason",
                exception.path.display()
            ));
        }
    }
    for (folder, files) in folders(sources) {
        if files > FOLDER {
            report.violations.push(format!(
                "{}: has {files} files, at most {FOLDER} are allowed",
                folder.display()
            ));
        }
    }
    let debts: usize = sources.iter().map(todos).sum();
    if debts > TODOS {
        report.violations.push(format!(
            "the tree has {debts} TODOs, at most {TODOS} are allowed"
        ));
    }
    let production = sources.iter().filter(|source| !is_test(source));
    let lines: usize = production.map(|source| source.lines).sum();
    report.summary = format!(
        "sizes: {} files with {lines} lines outside tests, {debts} TODOs",
        sources.len()
    );
    report
}

fn file(source: &Source, exceptions: &[Exception], report: &mut Report) {
    let path = source.path.display();
    let test = is_test(source);
    let (lines, limit) = if test {
        (source.text.lines().count(), TEST_FILE)
    } else {
        (source.lines, FILE_FAILS)
    };
    let exception = exceptions.iter().find(|known| known.path == source.path);
    match exception {
        Some(_) if lines <= limit => report.violations.push(format!(
            "{path}: has {lines} lines and no longer needs its exception in sizes.toml"
        )),
        Some(exception) if lines > exception.lines => report.violations.push(format!(
            "{path}: has {lines} lines, its exception allows {} and may only shrink",
            exception.lines
        )),
        None if lines > limit => report.violations.push(format!(
            "{path}: has {lines} lines, at most {limit} are allowed"
        )),
        None if !test && lines > FILE => report.warnings.push(format!(
            "{path}: has {lines} lines, more than {FILE}: which noun is hiding?"
        )),
        Some(_) | None => {}
    }
}

fn is_test(source: &Source) -> bool {
    source.is_test() || source.path.starts_with("tests/tests")
}

/// The part of a path below its `src`.
fn below_src(path: &Path) -> Option<PathBuf> {
    let mut parts = path.iter();
    parts.find(|part| *part == "src")?;
    Some(parts.collect())
}

/// The Rust files, without tests, of each folder that is neither a `src` root nor the folder of the suites.
fn folders(sources: &[Source]) -> BTreeMap<PathBuf, usize> {
    let mut folders: BTreeMap<PathBuf, usize> = BTreeMap::new();
    for source in sources.iter().filter(|source| !source.is_test()) {
        let Some(folder) = source.path.parent() else {
            continue;
        };
        if folder.ends_with("src") || folder == Path::new("tests/tests") {
            continue;
        }
        let count = folders.entry(folder.to_owned()).or_default();
        *count = count.saturating_add(1);
    }
    folders
}

/// The debts that a file's comments admit.
fn todos(source: &Source) -> usize {
    // Spelled in two parts, lest this line count itself.
    let words = [concat!("TO", "DO"), concat!("FIX", "ME")];
    let admits = |line: &&str| {
        let comment = line.split_once("//").map_or("", |(_, comment)| comment);
        let mut parts = comment.split(|c: char| !c.is_alphanumeric());
        parts.any(|part| words.contains(&part))
    };
    source.text.lines().filter(admits).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, count: usize) -> Source {
        Source::new(Path::new(path), "fn f() {}\n".repeat(count))
    }

    fn exception(path: &str, lines: usize) -> Exception {
        let reason = "a table is read as a table".to_owned();
        Exception {
            path: path.into(),
            lines,
            reason,
        }
    }

    #[test]
    fn a_long_file_warns_and_a_longer_one_fails() {
        let report = measure(&[lines("gateway/src/a.rs", 400)], &[]);
        assert_eq!((report.warnings.len(), report.violations.len()), (0, 0));
        let report = measure(&[lines("gateway/src/a.rs", 401)], &[]);
        assert_eq!((report.warnings.len(), report.violations.len()), (1, 0));
        let report = measure(&[lines("gateway/src/a.rs", 601)], &[]);
        assert_eq!((report.warnings.len(), report.violations.len()), (0, 1));
    }

    #[test]
    fn test_lines_do_not_count_but_test_files_have_their_own_limit() {
        let tests = format!(
            "fn f() {{}}\n#[cfg(test)]\nmod tests {{\n{}}}\n",
            "\n".repeat(700)
        );
        let source = Source::new(Path::new("gateway/src/a.rs"), tests);
        assert_eq!(measure(&[source], &[]).violations.len(), 0);
        for path in ["gateway/src/a/tests.rs", "tests/tests/routing.rs"] {
            assert_eq!(
                measure(&[lines(path, 800)], &[]).violations.len(),
                0,
                "{path}"
            );
            assert_eq!(
                measure(&[lines(path, 801)], &[]).violations.len(),
                1,
                "{path}"
            );
        }
    }

    #[test]
    fn an_exception_may_only_shrink_and_goes_when_it_is_not_needed() {
        let path = "gateway/src/a.rs";
        let violations = |lines_now, allowed| {
            measure(&[lines(path, lines_now)], &[exception(path, allowed)])
                .violations
                .len()
        };
        assert_eq!(violations(700, 700), 0);
        assert_eq!(violations(701, 700), 1);
        assert_eq!(violations(500, 700), 1);
        assert_eq!(measure(&[], &[exception(path, 700)]).violations.len(), 1);
    }

    #[test]
    fn a_crowded_folder_fails_unless_it_is_a_root() {
        let crowd = |folder: &str| {
            let files = (0..13).map(|n| lines(&format!("{folder}/f{n}.rs"), 1));
            measure(&files.collect::<Vec<_>>(), &[]).violations.len()
        };
        assert_eq!(crowd("gateway/src/http"), 1);
        assert_eq!(crowd("gateway/src"), 0);
        assert_eq!(crowd("tests/tests"), 0);
    }

    #[test]
    fn more_than_two_folders_below_src_fail() {
        assert_eq!(
            measure(&[lines("gateway/src/a/b/c.rs", 1)], &[])
                .violations
                .len(),
            0
        );
        assert_eq!(
            measure(&[lines("gateway/src/a/b/c/d.rs", 1)], &[])
                .violations
                .len(),
            1
        );
    }

    #[test]
    fn debts_are_counted_in_comments_only() {
        let word = concat!("TO", "DO");
        let text = format!("// {word}: later\nlet {word} = 1;\n/// {word}(me)\n");
        assert_eq!(todos(&Source::new(Path::new("a.rs"), text)), 2);
    }
}
