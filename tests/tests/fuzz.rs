//! Every fuzz target, for a while: what is kept, then mutations of it.

use sluice_tests::fuzz::{TARGETS, drive::drive, target};

fn fuzz(name: &str) {
    drive(target(name).expect("a target of that name"));
}

#[test]
fn config_parse() {
    fuzz("config_parse");
}

#[test]
fn config_substitute() {
    fuzz("config_substitute");
}

#[test]
fn normalize() {
    fuzz("normalize");
}

#[test]
fn authority() {
    fuzz("authority");
}

#[test]
fn egress_target() {
    fuzz("egress_target");
}

#[test]
fn proxy_protocol() {
    fuzz("proxy_protocol");
}

#[test]
fn route_find() {
    fuzz("route_find");
}

#[test]
fn client_hello() {
    fuzz("client_hello");
}

#[test]
fn sniff() {
    fuzz("sniff");
}

#[test]
fn every_target_has_a_test_and_a_wrapper() {
    let tests = include_str!("fuzz.rs");
    for target in TARGETS {
        assert!(
            tests.contains(&format!("fn {}()", target.name)),
            "{} has no test",
            target.name
        );
        let wrapper = format!(
            "{}/fuzz/fuzz_targets/{}.rs",
            env!("CARGO_MANIFEST_DIR"),
            target.name
        );
        assert!(
            std::path::Path::new(&wrapper).exists(),
            "{} has no wrapper",
            target.name
        );
    }
}
