//! The bans and version floors of `deny.toml`, held here too, since cargo-deny is not everywhere.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};
use serde::Deserialize;

#[derive(Deserialize)]
struct Deny {
    bans: Bans,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Ban>,
}

#[derive(Deserialize)]
struct Ban {
    /// `name`, or `name:<floor`.
    #[serde(rename = "crate")]
    package: String,
    reason: String,
}

/// Every banned package that the workspace would build.
pub(super) fn check(root: &Path) -> anyhow::Result<Vec<String>> {
    let path = root.join("deny.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let deny: Deny = toml::from_str(&text).context("reading deny.toml")?;
    let built = tree(root, &["--workspace", "--edges", "all"])?;
    Ok(banned(&deny, &built))
}

/// What `cargo tree` lists: names and versions.
pub(super) fn tree(root: &Path, what: &[&str]) -> anyhow::Result<Vec<(String, String)>> {
    let cargo = std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from);
    let output = Command::new(cargo)
        .current_dir(root)
        .arg("tree")
        .args(what)
        .args(["--prefix", "none", "--format", "{p}", "--locked"])
        .output()
        .context("running cargo tree")?;
    ensure!(
        output.status.success(),
        "cargo tree failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut packages: Vec<_> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| {
            let (name, rest) = line.split_once(" v")?;
            let version = rest.split_whitespace().next()?;
            Some((name.to_owned(), version.to_owned()))
        })
        .collect();
    packages.sort();
    packages.dedup();
    Ok(packages)
}

fn banned(deny: &Deny, built: &[(String, String)]) -> Vec<String> {
    let mut violations = Vec::new();
    for ban in &deny.bans.deny {
        let (name, floor) = match ban.package.split_once(":<") {
            Some((name, floor)) => (name, Some(numbers(floor))),
            None => (ban.package.as_str(), None),
        };
        for (_, version) in built.iter().filter(|(built, _)| built == name) {
            if floor.as_ref().is_none_or(|floor| numbers(version) < *floor) {
                violations.push(format!("{name} {version} is banned: {}", ban.reason));
            }
        }
    }
    violations
}

/// `0.4.16-rc.1+x` as `[0, 4, 16]`.
fn numbers(version: &str) -> Vec<u64> {
    let release = version.split(['-', '+']).next().unwrap_or_default();
    release
        .split('.')
        .map(|part| part.parse().unwrap_or_default())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn banned_packages_and_versions_below_a_floor_are_found() {
        let deny = toml::from_str(
            r#"bans.deny = [{ crate = "ring", reason = "a" }, { crate = "h2:<0.4.16", reason = "b" }]"#,
        )
        .unwrap();
        let found = |packages: &[(&str, &str)]| {
            let built: Vec<_> = packages
                .iter()
                .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
                .collect();
            banned(&deny, &built)
        };
        assert!(found(&[("h2", "0.4.16"), ("h2", "0.4.20"), ("rings", "1.0.0")]).is_empty());
        assert_eq!(found(&[("ring", "0.17.8")]), ["ring 0.17.8 is banned: a"]);
        assert_eq!(
            found(&[("h2", "0.4.9"), ("h2", "0.4.16")]),
            ["h2 0.4.9 is banned: b"]
        );
    }
}
