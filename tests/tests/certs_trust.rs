//! `sluice certs trust`, in stores of the test's own: nothing of this machine is changed.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use sluice_certs::{
    authority::local::{Local, Root},
    testing::Authority,
};
use sluice_tests::process::{program, stderr, stdout};
use tempfile::TempDir;
use time::OffsetDateTime;

/// A machine that is a folder: stores below `root`, a user at home, a gateway's state.
struct Machine {
    folder: TempDir,
    ca: Root,
    path: String,
}

impl Machine {
    /// With these folders in its root.
    fn new(folders: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for below in folders {
            fs::create_dir_all(folder.path().join("root").join(below)).expect("a folder");
        }
        fs::create_dir_all(folder.path().join("home")).expect("a folder");
        let place = folder.path().join("state/local");
        Local::open(&place, "test", OffsetDateTime::now_utc()).expect("a CA");
        Self {
            ca: Local::published(&place).expect("readable").expect("a root"),
            path: std::env::var("PATH").expect("a PATH"),
            folder,
        }
    }

    fn debian() -> Self {
        let machine = Self::new(&[
            "usr/local/share/ca-certificates",
            "usr/share/ca-certificates",
            "etc/ssl/certs",
            "etc/ca-certificates/update.d",
        ]);
        // Without any other the program leaves the bundle as it is.
        let other = Authority::new("Somebody else");
        fs::write(
            machine.root("usr/share/ca-certificates/else.crt"),
            other.pem(),
        )
        .expect("a file");
        fs::write(machine.root("etc/ca-certificates.conf"), "else.crt\n").expect("a file");
        machine
    }

    fn root(&self, path: &str) -> PathBuf {
        self.folder.path().join("root").join(path)
    }

    fn home(&self, path: &str) -> PathBuf {
        self.folder.path().join("home").join(path)
    }

    /// Only these programs exist, each a script of this text.
    fn has_only(&mut self, programs: &[(&str, &str)]) {
        let bin = self.folder.path().join("bin");
        fs::create_dir_all(&bin).expect("a folder");
        for (name, text) in programs {
            let path = bin.join(name);
            fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("a script");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("rights");
        }
        self.path = bin.display().to_string();
    }

    fn trust(&self, more: &[&str]) -> Output {
        let mut command = Command::new(program());
        command
            .current_dir(self.folder.path())
            .args(["certs", "trust", "--state-directory", "state"])
            .args(more)
            .env_clear()
            .env("PATH", &self.path)
            .env("HOME", self.home(""))
            .stdin(Stdio::null());
        command.output().expect("it runs")
    }

    /// The name of its root in stores.
    fn named(&self) -> String {
        let fingerprint = self.ca.facts.fingerprint_hex();
        format!("sluice-{}.crt", &fingerprint[..12])
    }
}

fn is_there(name: &str) -> bool {
    let paths = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let there = paths
        .split(':')
        .any(|folder| Path::new(folder).join(name).exists());
    if !there {
        assert!(std::env::var_os("CI").is_none(), "{name} is missing");
        println!("SKIPPED: there is no {name}: tests/setup installs it");
    }
    there
}

/// What a database of NSS says of the root.
fn listed(database: &Path) -> String {
    let place = format!("sql:{}", database.display());
    let output = Command::new("certutil").args(["-L", "-d", &place]).output();
    stdout(&output.expect("certutil runs"))
}

#[test]
fn the_system_and_browsers_trust_the_root_and_forget_it_again() {
    if !is_there("update-ca-certificates") || !is_there("certutil") {
        return;
    }
    let machine = Machine::debian();
    let databases = [".pki/nssdb", ".mozilla/firefox/x.default"].map(|it| machine.home(it));
    for database in &databases {
        fs::create_dir_all(database).expect("a folder");
        let place = format!("sql:{}", database.display());
        let made = Command::new("certutil")
            .args(["-N", "--empty-password", "-d", &place])
            .status();
        assert!(made.expect("certutil runs").success());
    }
    let root = machine.root("").display().to_string();
    let bundle = machine.root("etc/ssl/certs/ca-certificates.crt");

    for _ in 0..2 {
        // The second time there is nothing to do, and nothing goes wrong.
        let output = machine.trust(&["--root", &root]);
        let said = stdout(&output);
        assert!(output.status.success(), "{said}{}", stderr(&output));
        assert_eq!(said.matches("trusted by").count(), 3, "{said}");
        assert!(said.contains(&machine.ca.facts.fingerprint_hex()), "{said}");
        let text = fs::read_to_string(&bundle).expect("a bundle");
        assert_eq!(text.matches(machine.ca.pem.trim()).count(), 1, "{text}");
        let own = machine
            .root("usr/local/share/ca-certificates")
            .join(machine.named());
        assert_eq!(fs::read_to_string(own).expect("a file"), machine.ca.pem);
        for database in &databases {
            let listed = listed(database);
            assert!(
                listed.contains("Sluice local development CA test"),
                "{listed}"
            );
            assert!(listed.contains("C,,"), "{listed}");
        }
    }

    let output = machine.trust(&["--remove", "--root", &root]);
    let said = stdout(&output);
    assert!(output.status.success(), "{said}{}", stderr(&output));
    assert_eq!(said.matches("gone from").count(), 3, "{said}");
    let text = fs::read_to_string(&bundle).expect("a bundle");
    assert!(!text.contains(machine.ca.pem.trim()), "{text}");
    for database in &databases {
        assert!(!listed(database).contains("Sluice"), "{}", listed(database));
    }
    let again = machine.trust(&["--remove", "--root", &root]);
    assert!(again.status.success(), "{}", stderr(&again));
    assert_eq!(
        stdout(&again).matches("not known to").count(),
        3,
        "{}",
        stdout(&again)
    );
}

#[test]
fn red_hat_is_told_in_its_own_way() {
    let mut machine = Machine::new(&["etc/pki/ca-trust/source/anchors"]);
    machine.has_only(&[("update-ca-trust", "echo \"$@\" >> \"$HOME/called\"")]);
    let root = machine.root("").display().to_string();
    let anchor = machine
        .root("etc/pki/ca-trust/source/anchors")
        .join(machine.named());
    let output = machine.trust(&["--root", &root]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(fs::read_to_string(&anchor).expect("a file"), machine.ca.pem);
    assert!(
        machine
            .trust(&["--remove", "--root", &root])
            .status
            .success()
    );
    assert!(!anchor.exists());
    let called = fs::read_to_string(machine.home("called")).expect("it was called");
    assert_eq!(called.matches("extract --output").count(), 2, "{called}");
}

#[test]
fn what_could_not_be_done_is_said_and_is_a_failure() {
    let mut machine = Machine::debian();
    machine.has_only(&[(
        "update-ca-certificates",
        "echo 'the disk is full' >&2; exit 1",
    )]);
    let database = machine.home(".pki/nssdb");
    fs::create_dir_all(&database).expect("a folder");
    fs::write(database.join("cert9.db"), "").expect("a file");
    let root = machine.root("").display().to_string();
    let output = machine.trust(&["--root", &root]);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    for part in [
        "usr/local/share/ca-certificates",
        "the disk is full",
        ".pki/nssdb",
        "install libnss3-tools",
        "--print",
    ] {
        assert!(said.contains(part), "no {part:?} in:\n{said}");
    }

    let bare = Machine::new(&[]);
    let root = bare.root("").display().to_string();
    let output = bare.trust(&["--root", &root]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("no store took it"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn printing_changes_nothing_and_without_a_ca_it_says_how_to_get_one() {
    let machine = Machine::debian();
    let output = machine.trust(&["--print"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stdout(&output), machine.ca.pem);
    assert!(!stdout(&output).contains("KEY"));
    let folder = machine.root("usr/local/share/ca-certificates");
    assert_eq!(fs::read_dir(folder).expect("a folder").count(), 0);

    let output = machine.trust(&["--print", "--state-directory", "elsewhere"]);
    assert_eq!(
        output.status.code(),
        Some(2),
        "one state directory: {}",
        stderr(&output)
    );
    fs::remove_dir_all(machine.folder.path().join("state")).expect("it was there");
    let output = machine.trust(&["--print"]);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(
        said.contains("auto = \"local\"") && said.contains("--state-directory"),
        "{said}"
    );
}
