//! What ships: the image and its compose file on a real engine, and the manifest for Kubernetes.
//!
//! What cannot be tried on this machine is skipped, loudly; where `CI` is set it must be tried.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use sluice_config::Sources;

fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Says that something was not tried; where it must be, that is a failure.
fn skip(why: &str) {
    let must = std::env::var_os("CI").is_some_and(|it| !it.is_empty());
    assert!(!must, "not tried, and must be where CI is set: {why}");
    eprintln!("SKIPPED: {why}");
}

/// The problems of a configuration, rendered; empty when there are none.
fn problems(text: &str) -> Vec<String> {
    let sources = Sources::from_text("sluice.toml", text);
    let report = sluice_config::check(&sources, None);
    report.problems.iter().map(|it| format!("{it:?}")).collect()
}

#[test]
fn the_image_serves_two_services_takes_a_change_over_and_ends_cleanly() {
    let output = Command::new(root().join("docker/smoke"))
        .env("SLUICE_PROFILE", "dev")
        .output()
        .expect("bash runs");
    let said = String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        Some(0) => {}
        Some(77) => skip(&said),
        code => panic!(
            "docker/smoke ended with {code:?}:\n{}{said}",
            String::from_utf8_lossy(&output.stdout)
        ),
    }
}

#[test]
fn the_configurations_of_the_compose_file_are_fine() {
    for service in ["gateway", "details", "reviews"] {
        let path = root().join(format!("docker/compose/{service}/sluice.toml"));
        let text = fs::read_to_string(&path).expect("a configuration");
        assert_eq!(problems(&text), Vec::<String>::new(), "{service}");
    }
}

/// The documents of a YAML file, by their kind.
fn documents(path: &Path) -> Option<Vec<Value>> {
    let script =
        "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(open(sys.argv[1])))))";
    // Debian's own, which has Debian's packages.
    let output = Command::new("/usr/bin/python3")
        .args(["-c", script])
        .arg(path)
        .output()
        .ok()?;
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("No module named") {
        return None;
    }
    assert!(output.status.success(), "{}: {said}", path.display());
    Some(serde_json::from_slice(&output.stdout).expect("JSON"))
}

#[test]
fn the_kubernetes_manifest_fits_together_and_its_configuration_is_fine() {
    let Some(all) = documents(&root().join("kubernetes/sluice.yaml")) else {
        return skip("python3-yaml is not installed");
    };
    let kind = |name: &str| {
        let found = all.iter().find(|it| it["kind"] == name);
        found.unwrap_or_else(|| panic!("no {name}"))
    };
    let text = kind("ConfigMap")["data"]["sluice.toml"].as_str();
    assert_eq!(problems(text.expect("TOML")), Vec::<String>::new());

    let template = &kind("Deployment")["spec"]["template"];
    let labels = &template["metadata"]["labels"];
    assert_eq!(
        &kind("Deployment")["spec"]["selector"]["matchLabels"],
        labels
    );
    assert_eq!(&kind("Service")["spec"]["selector"], labels);

    let container = &template["spec"]["containers"][0];
    let list = |value: &Value| value.as_array().expect("a list").clone();
    let ports: BTreeSet<_> = list(&container["ports"])
        .iter()
        .map(|port| port["name"].as_str().expect("a name").to_owned())
        .collect();
    for port in list(&kind("Service")["spec"]["ports"]) {
        assert!(ports.contains(port["targetPort"].as_str().expect("a name")));
    }
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        let port = container[probe]["httpGet"]["port"].as_str();
        assert!(ports.contains(port.expect("a name")), "{probe}");
    }
    let volumes = list(&template["spec"]["volumes"]);
    for mount in list(&container["volumeMounts"]) {
        assert!(
            volumes.iter().any(|it| it["name"] == mount["name"]),
            "{mount}"
        );
    }
    let map = volumes.iter().find(|it| it["name"] == "config");
    assert_eq!(
        map.expect("config")["configMap"]["name"],
        kind("ConfigMap")["metadata"]["name"]
    );
}
