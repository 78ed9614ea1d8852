//! The manifest for Kubernetes: that it holds together, and, in a network of its own, that a gateway
//! started as it says answers its probes where a kubelet asks.

use std::{
    collections::BTreeSet,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::Value;
use sluice_config::Sources;
use sluice_tests::{
    eventually::{becomes, eventually},
    process::program,
};

/// The address of the pod.
const POD: &str = "192.0.2.7";

fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Says that something was not tried; where it must be, that is a failure.
fn skip(why: &str) {
    let must = std::env::var_os("CI").is_some_and(|it| !it.is_empty());
    assert!(!must, "not tried, and must be where CI is set: {why}");
    eprintln!("SKIPPED: {why}");
}

/// The documents of the manifest; none where nobody can read YAML.
fn manifest() -> Option<Vec<Value>> {
    documents(&root().join("kubernetes/sluice.yaml"))
}

/// The document of that kind.
fn kind<'a>(all: &'a [Value], name: &str) -> &'a Value {
    let found = all.iter().find(|it| it["kind"] == name);
    found.unwrap_or_else(|| panic!("no {name}"))
}

/// The variables of the image.
fn image() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(root().join("docker/Dockerfile")).expect("the image");
    let lines = text.lines().filter_map(|line| line.strip_prefix("ENV "));
    let pairs = lines.flat_map(str::split_whitespace);
    pairs
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// A pod: a network of its own, with an address besides loopback.
struct Pod(Child);

impl Pod {
    /// Runs the program in it. None where this machine gives no network.
    fn start(args: &[String], variables: &[(String, String)], folder: &Path) -> Option<Self> {
        let trial = Command::new("unshare")
            .args(["--net", "ip", "link"])
            .output();
        if !trial.is_ok_and(|trial| trial.status.success()) {
            return None;
        }
        let script =
            format!("ip link set lo up && ip addr add {POD}/32 dev lo && exec \"$0\" \"$@\"");
        let child = Command::new("unshare")
            .args(["--net", "sh", "-c", &script])
            .arg(program())
            .args(args)
            .current_dir(folder)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", folder)
            .envs(variables.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Some(Self(child.expect("it starts")))
    }

    /// The status and the body of a path on a port of the pod's address; the status is 0 when nobody
    /// answers.
    fn ask(&self, port: u64, path: &str) -> (u16, String) {
        let process = self.0.id().to_string();
        let url = format!("http://{POD}:{port}{path}");
        let output = Command::new("nsenter")
            .args(["--net", "--target", &process])
            .args([
                "curl",
                "--silent",
                "--max-time",
                "5",
                "--write-out",
                "\n%{http_code}",
                &url,
            ])
            .output()
            .expect("curl runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let (body, status) = said.rsplit_once('\n').unwrap_or_default();
        (status.parse().unwrap_or(0), body.to_owned())
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.0.kill().unwrap_or_default();
        drop(self.0.wait());
    }
}

/// Puts the files of the map where they are mounted, as a kubelet does: a name for every file
/// that leads through one link, which is replaced at once.
fn mount(map: &Value, folder: &Path, generation: &str) {
    let data = folder.join(generation);
    std::fs::create_dir_all(&data).expect("a folder");
    for (name, text) in map["data"].as_object().expect("files") {
        std::fs::write(data.join(name), text.as_str().expect("text")).expect("a file");
        let link = folder.join(name);
        if !link.exists() {
            symlink(Path::new("..data").join(name), link).expect("a link");
        }
    }
    symlink(generation, folder.join("..data_tmp")).expect("a link");
    std::fs::rename(folder.join("..data_tmp"), folder.join("..data")).expect("replaced");
}

#[tokio::test]
async fn a_pod_answers_its_probes_where_a_kubelet_asks_and_takes_a_changed_map_over() {
    let Some(all) = manifest() else {
        return skip("python3-yaml is not installed");
    };
    let container = &kind(&all, "Deployment")["spec"]["template"]["spec"]["containers"][0];
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("config");
    let mut map = kind(&all, "ConfigMap").clone();
    mount(&map, &config, "..1");

    // What the image says holds in the pod; only the files are elsewhere on this machine.
    let mounts = container["volumeMounts"].as_array().expect("mounts");
    let mounted = mounts.iter().find(|it| it["name"] == "config");
    let mut variables = image();
    for (name, value) in &mut variables {
        if name == "SLUICE_CONFIG" {
            assert_eq!(mounted.expect("a mount")["mountPath"], value.as_str());
            *value = config.display().to_string();
        }
    }
    let args = container["args"].as_array().expect("arguments");
    let args: Vec<_> = args
        .iter()
        .map(|it| it.as_str().expect("text").to_owned())
        .collect();
    let Some(pod) = Pod::start(&args, &variables, folder.path()) else {
        return skip("this machine gives no network namespace");
    };

    let ports = container["ports"].as_array().expect("ports");
    let port = |name: &Value| {
        let found = ports.iter().find(|it| it["name"] == *name);
        found
            .and_then(|it| it["containerPort"].as_u64())
            .expect("a number")
    };
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        let get = &container[probe]["httpGet"];
        let path = get["path"].as_str().expect("a path");
        becomes(probe, 200, || pod.ask(port(&get["port"]), path).0).await;
    }
    let notes = &kind(&all, "Deployment")["spec"]["template"]["metadata"]["annotations"];
    let scraped = notes["prometheus.io/port"]
        .as_str()
        .and_then(|it| it.parse().ok());
    let (status, metrics) = pod.ask(scraped.expect("a port"), "/metrics");
    assert_eq!(status, 200);
    assert!(metrics.contains("sluice_build_info"), "{metrics}");
    // Nobody has such a host, but somebody answers.
    let http = kind(&all, "Service")["spec"]["ports"][0]["targetPort"].clone();
    assert_eq!(pod.ask(port(&http), "/").0, 404);

    let text = map["data"]["sluice.toml"].as_str().expect("TOML");
    map["data"]["sluice.toml"] =
        format!("{text}\n[routes.new]\nrespond = {{ body = \"new\" }}\n").into();
    mount(&map, &config, "..2");
    let answer = || pod.ask(port(&http), "/");
    let answer = eventually("the new map is taken over", || {
        Some(answer()).filter(|(status, _)| *status == 200)
    });
    assert_eq!(answer.await.1, "new");
}

#[test]
fn the_kubernetes_manifest_fits_together_and_its_configuration_is_fine() {
    let Some(all) = manifest() else {
        return skip("python3-yaml is not installed");
    };
    let kind = |name: &str| kind(&all, name);
    let text = kind("ConfigMap")["data"]["sluice.toml"].as_str();
    let sources = Sources::from_text("sluice.toml", text.expect("TOML"));
    let report = sluice_config::check(&sources, None);
    assert!(report.problems.is_empty(), "{:#?}", report.problems);

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
