//! Which package may depend on which, and who may name the controller.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::Context as _;
use serde::Deserialize;

use super::bans;
use crate::source::{Source, Token, tokens};

/// Each package with those of ours that it may depend on. Tests depend on what they test.
const ALLOWED: [(&str, &[&str]); 5] = [
    ("config", &[]),
    ("certs", &[]),
    (
        "gateway",
        &["sluice-config", "sluice-certs", "sluice-controller"],
    ),
    ("controller", &["sluice-config", "sluice-certs"]),
    (
        "sidecar",
        &["sluice-config", "sluice-certs", "sluice-gateway"],
    ),
];

/// What of the gateway may name the controller: only its binary.
const BINARY: [&str; 3] = [
    "gateway/src/main.rs",
    "gateway/src/args.rs",
    "gateway/src/commands",
];

/// What a sidecar must not carry.
const NOT_IN_SIDECAR: [&str; 4] = ["redb", "bollard", "kube", "sluice-controller"];

#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    dependencies: BTreeMap<String, toml::Value>,
    #[serde(default, rename = "build-dependencies")]
    build: BTreeMap<String, toml::Value>,
}

/// Every package that knows too much.
pub(super) fn check(root: &Path, sources: &[Source]) -> anyhow::Result<Vec<String>> {
    let mut violations = Vec::new();
    for (package, allowed) in ALLOWED {
        let path = root.join(package).join("Cargo.toml");
        let text =
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        violations.extend(manifest(package, allowed, &text)?);
    }
    violations.extend(sources.iter().filter_map(names_controller));
    let tree = bans::tree(root, &["--package", "sluice-sidecar", "--edges", "normal"])?;
    violations.extend(in_sidecar(&tree));
    Ok(violations)
}

fn manifest(package: &str, allowed: &[&str], text: &str) -> anyhow::Result<Vec<String>> {
    let manifest: Manifest =
        toml::from_str(text).with_context(|| format!("reading the manifest of {package}"))?;
    let mut violations = Vec::new();
    for (name, how) in manifest.dependencies.iter().chain(&manifest.build) {
        if name.starts_with("sluice-") && !allowed.contains(&name.as_str()) {
            violations.push(format!("{package}/Cargo.toml: may not depend on {name}"));
        }
        let optional = how.get("optional").and_then(toml::Value::as_bool) == Some(true);
        if package == "gateway" && name == "sluice-controller" && !optional {
            violations.push(format!(
                "{package}/Cargo.toml: {name} must be optional: the library never imports it"
            ));
        }
    }
    Ok(violations)
}

fn names_controller(source: &Source) -> Option<String> {
    let named = tokens(&source.code).contains(&Token::Word("sluice_controller"));
    let own = source.path.starts_with("controller/src");
    let binary = BINARY.iter().any(|place| source.path.starts_with(place));
    (named && !own && !binary).then(|| {
        format!(
            "{}: only the gateway's binary ({}) may import sluice_controller",
            source.path.display(),
            BINARY.join(", ")
        )
    })
}

fn in_sidecar(tree: &[(String, String)]) -> Vec<String> {
    NOT_IN_SIDECAR
        .iter()
        .filter(|name| tree.iter().any(|(package, _)| package == *name))
        .map(|name| format!("sidecar: its dependency tree holds {name}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_depends_only_on_those_below_it() {
        let text = "[dependencies]\nserde.workspace = true\nsluice-gateway.workspace = true\n";
        assert_eq!(
            manifest("controller", &["sluice-config"], text)
                .unwrap()
                .len(),
            1
        );
        assert!(
            manifest("sidecar", &["sluice-gateway"], text)
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn the_gateway_has_the_controller_as_an_option_only() {
        let allowed = ["sluice-controller"];
        let hard = "[dependencies]\nsluice-controller.workspace = true\n";
        let soft = "[dependencies]\nsluice-controller = { workspace = true, optional = true }\n";
        assert_eq!(manifest("gateway", &allowed, hard).unwrap().len(), 1);
        assert!(manifest("gateway", &allowed, soft).unwrap().is_empty());
    }

    #[test]
    fn only_the_binary_names_the_controller() {
        let named = |path: &str| {
            let source = Source::new(Path::new(path), "use sluice_controller::X;".to_owned());
            names_controller(&source).is_some()
        };
        assert!(named("gateway/src/engine.rs"));
        assert!(named("sidecar/src/main.rs"));
        assert!(!named("gateway/src/main.rs"));
        assert!(!named("gateway/src/commands/run.rs"));
        assert!(!named("controller/src/main.rs"));
    }

    #[test]
    fn a_sidecar_that_carries_a_database_is_refused() {
        let tree = ["sluice-sidecar", "redb", "kubernetes"]
            .map(|name| (name.to_owned(), "1.0.0".to_owned()));
        assert_eq!(
            in_sidecar(&tree),
            ["sidecar: its dependency tree holds redb"]
        );
    }
}
