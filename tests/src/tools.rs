//! Programs of other people: whether they are there, and what they say.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use tokio::{process::Command, time::timeout};

use crate::PATIENCE;

/// Where programs are that an account without rights does not look for.
const SYSTEM: &str = "/usr/local/sbin:/usr/sbin:/sbin";

/// Whether these programs are there. Where one is missing the test is skipped, loudly; with `CI` set it
/// fails.
pub fn are_there(names: &[&str]) -> bool {
    let missing: Vec<_> = names.iter().filter(|name| find(name).is_none()).collect();
    if missing.is_empty() {
        return true;
    }
    skip(&format!("{missing:?}: missing; tests/setup installs them"));
    false
}

/// Says that something was not tried; where it must be, that is a failure.
pub fn skip(why: &str) {
    let must = std::env::var_os("CI").is_some_and(|it| !it.is_empty());
    assert!(!must, "not tried, and must be where CI is set: {why}");
    eprintln!("SKIPPED: {why}");
}

/// Where a program is.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<_> = std::env::split_paths(&path).collect();
    folders.extend(std::env::split_paths(SYSTEM));
    let mut places = folders.into_iter().map(|folder| folder.join(name));
    places.find(|place| place.is_file())
}

/// A program without any of this machine's own settings, that ends with the test.
pub fn program(name: &str, home: &Path) -> Command {
    let mut command = Command::new(name);
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", home)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// Runs it to its end.
pub async fn run(command: Command) -> Output {
    run_for(PATIENCE, command).await
}

/// Runs it to its end, for at most so long.
pub async fn run_for(limit: Duration, mut command: Command) -> Output {
    let name = OsStr::to_owned(command.as_std().get_program());
    let ended = timeout(limit, command.output()).await;
    let ended = ended.unwrap_or_else(|_| panic!("{} does not end", name.display()));
    ended.unwrap_or_else(|error| panic!("{} does not run: {error}", name.display()))
}

/// What a finished program wrote, standard output first.
pub fn said(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    String::from_utf8_lossy(out).into_owned() + &String::from_utf8_lossy(err)
}
