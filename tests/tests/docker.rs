//! What ships: the image and its compose file on a real engine.
//!
//! What cannot be tried on this machine is skipped, loudly; where `CI` is set it must be tried.

use std::{fs, path::PathBuf, process::Command};

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

/// Also the example of `examples/egress`, with the same image, since that takes long to build.
#[test]
fn the_image_serves_two_services_takes_a_change_over_is_the_only_way_out_and_ends_cleanly() {
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

/// What the image may take up.
const IMAGE: u64 = 30_000_000;

#[test]
fn the_program_that_ships_leaves_the_image_below_thirty_megabytes() {
    // `docker/build` makes it; nothing else needs a build that takes so long.
    let program = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("../release/sluice");
    let roots = fs::metadata("/etc/ssl/certs/ca-certificates.crt").map_or(0, |it| it.len());
    if !program.exists() {
        eprintln!("SKIPPED: no release build is there to be looked at");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let stripped = folder.path().join("sluice");
    let done = Command::new("strip")
        .arg("-o")
        .args([&stripped, &program])
        .status()
        .expect("strip runs");
    assert!(done.success());
    let size = fs::metadata(&stripped).expect("a program").len() + roots;
    assert!(size < IMAGE, "{size} bytes");
}

#[test]
fn the_configurations_of_the_compose_files_are_fine() {
    for place in [
        "compose/gateway",
        "compose/details",
        "compose/reviews",
        "examples/egress/gateway",
        "examples/egress/outside",
    ] {
        let path = root().join(format!("docker/{place}/sluice.toml"));
        let text = fs::read_to_string(&path).expect("a configuration");
        assert_eq!(problems(&text), Vec::<String>::new(), "{place}");
    }
}
