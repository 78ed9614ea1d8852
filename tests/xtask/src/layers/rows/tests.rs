use super::*;

fn violations(files: &[(&str, &str)]) -> Vec<String> {
    let sources: Vec<Source> = files
        .iter()
        .map(|(path, code)| {
            let path = format!("gateway/src/{path}");
            Source::new(Path::new(&path), (*code).to_owned())
        })
        .collect();
    check(&sources)
}

#[test]
fn an_import_from_a_row_below_is_fine() {
    let files = [
        ("lib.rs", "pub mod plan; pub mod error;"),
        ("plan.rs", "use crate::{route::Table, error::ProxyError};"),
        ("route.rs", "use crate::error::ProxyError;"),
        ("error.rs", ""),
    ];
    assert_eq!(violations(&files), [""; 0]);
}

#[test]
fn an_import_from_a_row_above_is_refused() {
    let files = [
        ("plan.rs", ""),
        ("route.rs", ""),
        ("route/host.rs", "fn f(plan: &crate::plan::Plan) {}"),
    ];
    assert_eq!(
        violations(&files),
        ["gateway/src/route/host.rs: imports crate::plan from a row above its own"]
    );
}

#[test]
fn what_a_test_module_imports_does_not_count() {
    let files = [
        ("plan.rs", ""),
        (
            "route.rs",
            "#[cfg(test)]\nmod tests {\n use crate::plan::Plan;\n}\n",
        ),
    ];
    assert_eq!(violations(&files), [""; 0]);
}

#[test]
fn sideways_is_fine_until_it_closes_a_circle() {
    let fine = [("engine.rs", "use crate::worker::X;"), ("worker.rs", "")];
    assert_eq!(violations(&fine), [""; 0]);
    let circle = [
        ("engine.rs", "use crate::worker::X;"),
        ("worker.rs", ""),
        ("worker/local.rs", "use crate::engine::Options;"),
    ];
    assert_eq!(
        violations(&circle),
        ["gateway/src: a circle of imports: engine → worker → engine"]
    );
}

#[test]
fn siblings_may_not_form_a_circle_but_a_part_may_know_its_whole() {
    let whole = [
        ("upstream.rs", "mod pool; use crate::upstream::pool::Pool;"),
        ("upstream/pool.rs", "use super::Upstream;"),
    ];
    assert_eq!(violations(&whole), [""; 0]);
    let circle = [
        ("upstream.rs", "mod pool;"),
        ("upstream/pool.rs", "use super::connect::X;"),
        ("upstream/connect.rs", "use crate::upstream::pool::Y;"),
    ];
    assert_eq!(
        violations(&circle),
        [
            "gateway/src: a circle of imports: upstream::connect → upstream::pool → upstream::connect"
        ]
    );
}

#[test]
fn a_file_without_a_row_is_refused() {
    assert_eq!(
        violations(&[("util.rs", "")]),
        ["gateway/src/util.rs: has no row in the layer table"]
    );
}

#[test]
fn an_import_through_the_root_of_the_library_is_refused() {
    let files = [("engine.rs", "use crate::Plan;"), ("plan.rs", "")];
    assert_eq!(violations(&files).len(), 1);
    assert_eq!(violations(&[("main.rs", "use crate::Thing;")]), [""; 0]);
}
