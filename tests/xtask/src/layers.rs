//! `cargo xtask layers`: who may import whom.
//!
//! Packages by their manifests, files of the gateway by the rows below, heavy libraries by the one
//! place where each lives. Tests are free to import what they like.

mod bans;
mod homes;
mod packages;
mod rows;

use std::path::{Path, PathBuf};

use crate::{Report, source};

/// The packages whose `src` is read.
const PACKAGES: [&str; 5] = ["config", "certs", "gateway", "controller", "sidecar"];

/// The files of the data path, which one person reads in one sitting.
const SPINE: [&str; 13] = [
    "gateway/src/listener.rs",
    "gateway/src/connection.rs",
    "gateway/src/connection/proxy_protocol.rs",
    "gateway/src/connection/sniff.rs",
    "gateway/src/connection/tls.rs",
    "gateway/src/http/serve.rs",
    "gateway/src/http/handle.rs",
    "gateway/src/route.rs",
    "gateway/src/authn.rs",
    "gateway/src/authz.rs",
    "gateway/src/filter.rs",
    "gateway/src/http/forward.rs",
    "gateway/src/upstream.rs",
];

/// The production lines of [`SPINE`] together.
const SPINE_LINES: usize = 2_000;

/// Holds the tree at `root` against every rule.
pub(crate) fn run(root: &Path) -> anyhow::Result<Report> {
    let mut sources = Vec::new();
    for package in PACKAGES {
        for path in source::rust_files(&root.join(package).join("src"))? {
            sources.push(source::Source::read(root, &path)?);
        }
    }
    let test_files = test_files(&sources);
    sources.retain(|source| !source.is_test() && !test_files.contains(&source.path));

    let mut violations = packages::check(root, &sources)?;
    violations.extend(bans::check(root)?);
    violations.extend(rows::check(&sources));
    violations.extend(homes::check(&sources));
    let spine: usize = sources
        .iter()
        .filter(|source| SPINE.iter().any(|path| Path::new(path) == source.path))
        .map(|source| source.lines)
        .sum();
    if spine > SPINE_LINES {
        violations.push(format!(
            "the files of the data path have {spine} lines together, at most {SPINE_LINES} are allowed"
        ));
    }
    Ok(Report {
        summary: format!(
            "layers: {} files hold; the data path has {spine} of {SPINE_LINES} lines",
            sources.len()
        ),
        warnings: Vec::new(),
        violations,
    })
}

/// The files that are declared as `#[cfg(test)] mod name;`.
fn test_files(sources: &[source::Source]) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for source in sources {
        let root = ["lib.rs", "main.rs"]
            .iter()
            .any(|name| source.path.ends_with(name));
        let folder = if root {
            source.path.parent().map(Path::to_owned)
        } else {
            Some(source.path.with_extension(""))
        };
        let modules = source.test_modules.iter();
        files.extend(folder.into_iter().flat_map(|folder| {
            modules
                .clone()
                .map(move |module| folder.join(format!("{module}.rs")))
        }));
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_declared_for_tests_only_is_a_test() {
        let declared = |path: &str| {
            let code = "#[cfg(test)]\nmod oracle;\nmod other;\n".to_owned();
            test_files(&[source::Source::new(Path::new(path), code)])
        };
        assert_eq!(
            declared("gateway/src/route.rs"),
            [Path::new("gateway/src/route/oracle.rs")]
        );
        assert_eq!(
            declared("gateway/src/lib.rs"),
            [Path::new("gateway/src/oracle.rs")]
        );
    }
}
