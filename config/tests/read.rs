//! Files, directories, links and bytes that are no configuration.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{fs, os::unix::fs::symlink, path::PathBuf};

use sluice_config::{Report, Sources, check, read};

const ROUTE: &str = "[routes.app]\nto = \"10.0.0.1:80\"\n";

fn nothing(_: &str) -> Option<String> {
    None
}

fn of(paths: &[PathBuf]) -> (Sources, Report) {
    let sources = read(paths, &nothing);
    let report = check(&sources, None);
    (sources, report)
}

/// The codes of what is wrong with one file of these bytes.
fn codes(bytes: &[u8]) -> Vec<&'static str> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sluice.toml");
    fs::write(&path, bytes).unwrap();
    let (_, report) = of(&[path]);
    assert_eq!(report.snapshot.is_some(), report.problems.is_empty());
    report.problems.iter().map(|problem| problem.code).collect()
}

#[test]
fn a_directory_is_its_visible_toml_files_in_byte_order() {
    let folder = tempfile::tempdir().unwrap();
    for name in [
        "b.toml",
        "a.toml",
        "B.toml",
        ".hidden.toml",
        "~a.toml",
        "c.toml~",
        "d.txt",
    ] {
        fs::write(folder.path().join(name), "# nothing\n").unwrap();
    }
    fs::create_dir(folder.path().join("e.toml")).unwrap();
    let (sources, report) = of(&[folder.path().to_path_buf()]);
    assert_eq!(report.problems, []);
    let names: Vec<_> = sources
        .files
        .iter()
        .map(|file| file.path.file_name().unwrap())
        .collect();
    assert_eq!(names, ["B.toml", "a.toml", "b.toml"]);
    assert!(sources.watch.contains(&folder.path().to_path_buf()));
}

#[test]
fn links_are_watched_where_they_stand_and_where_they_lead() {
    let folder = tempfile::tempdir().unwrap();
    let mount = folder.path().join("mount");
    fs::create_dir_all(mount.join("..2024")).unwrap();
    fs::write(mount.join("..2024/sluice.toml"), ROUTE).unwrap();
    symlink("..2024", mount.join("..data")).unwrap();
    symlink("..data/sluice.toml", mount.join("sluice.toml")).unwrap();
    let (sources, report) = of(&[mount.join("sluice.toml")]);
    assert_eq!(report.problems, []);
    for directory in [mount.clone(), mount.join("..data")] {
        assert!(
            sources.watch.contains(&directory),
            "{directory:?} in {:?}",
            sources.watch
        );
    }
}

#[test]
fn links_far_above_a_file_are_watched_and_so_is_where_one_may_come() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::create_dir_all(path("releases/one/etc")).unwrap();
    fs::create_dir(path("links")).unwrap();
    symlink("../releases/one", path("links/current")).unwrap();
    fs::write(path("links/current/etc/sluice.toml"), ROUTE).unwrap();
    let files = [
        path("links/current/etc/sluice.toml"),
        path("later/sluice.toml"),
    ];
    let (sources, _) = of(&files);
    for directory in [
        path("links/current/etc"),
        path("links"),
        path("links/../releases"),
        path("later"),
        folder.path().to_path_buf(),
    ] {
        assert!(
            sources.watch.contains(&directory),
            "{directory:?} in {:?}",
            sources.watch
        );
    }
}

#[test]
fn links_that_go_in_circles_end() {
    let folder = tempfile::tempdir().unwrap();
    symlink("b/x", folder.path().join("a")).unwrap();
    symlink("a/y", folder.path().join("b")).unwrap();
    let (_, report) = of(&[folder.path().join("a/sluice.toml")]);
    assert_eq!(report.problems[0].code, "unreadable");
}

#[test]
fn what_cannot_be_read_is_a_problem_and_hides_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.toml");
    fs::write(&path, "[routes.app]\nto = \"elsewhere\"\ntimout = \"1s\"\n").unwrap();
    let (_, report) = of(&[folder.path().join("missing.toml"), path]);
    let codes: Vec<_> = report.problems.iter().map(|problem| problem.code).collect();
    // Whether there is an upstream "elsewhere" cannot be said: it may stand in the missing file.
    assert_eq!(codes, ["unknown_key", "unreadable"]);
}

#[test]
fn odd_bytes_are_problems_or_nothing() {
    let huge = vec![b'#'; (10 << 20) + 1];
    let nested = format!("a = {}{}", "[".repeat(10_000), "]".repeat(10_000));
    let dotted = format!("{}a = 1", "a.".repeat(10_000));
    for (bytes, expected) in [
        (ROUTE.as_bytes(), &[][..]),
        (format!("\u{feff}{ROUTE}").as_bytes(), &[]),
        (ROUTE.replace('\n', "\r\n").as_bytes(), &[]),
        (b"", &["empty"]),
        (b" \n\t\r\n", &["empty"]),
        (b"# nothing", &[]),
        (b"[routes.app]\nto = \"\xff\"", &["encoding"]),
        (b"\xff\xfe[\0r\0", &["encoding"]),
        (b"a = \"\0\"", &["syntax"]),
        (&huge, &["too_large"]),
        (nested.as_bytes(), &["syntax"]),
        (dotted.as_bytes(), &["syntax"]),
    ] {
        assert_eq!(
            codes(bytes),
            expected,
            "{:?}",
            &bytes[..bytes.len().min(40)]
        );
    }
}

#[test]
fn places_count_lines_and_characters_also_after_a_byte_order_mark() {
    let text = "\u{feff}[routes.app]\r\nto = \"10.0.0.1:80\"\r\n# ü\r\nrespond = { body = \"ü\", nonsense = 1 }\r\n";
    let report = check(&Sources::from_text("a.toml", text), None);
    let places = report.problems.iter().map(|problem| {
        let place = problem.place.as_ref().unwrap();
        (
            problem.code,
            place.line,
            place.column,
            &text[place.bytes.clone()],
        )
    });
    assert_eq!(
        places.collect::<Vec<_>>(),
        [
            ("conflict", 1, 10, "app"),
            ("unknown_key", 4, 25, "nonsense")
        ]
    );
}

#[test]
fn only_the_variables_that_files_name_are_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sluice.toml");
    fs::write(
        &path,
        "# ${COMMENTED}\n[routes.app]\nto = \"${HOST:-a}:80\"\n",
    )
    .unwrap();
    let env = |name: &str| Some(format!("{name}.example").to_lowercase());
    let sources = read(std::slice::from_ref(&path), &env);
    assert_eq!(
        sources.environment.keys().collect::<Vec<_>>(),
        ["COMMENTED", "HOST"]
    );
    let hash = sources.hash();
    assert_eq!(hash, read(std::slice::from_ref(&path), &env).hash());
    assert_ne!(hash, read(&[path], &nothing).hash());
}
