//! A network of a test's own, where nobody else's packets are counted and settings are for nobody else.

use std::{panic::resume_unwind, process::Command, thread};

use nix::sched::{CloneFlags, unshare};
use sluice_tests::tools::skip;
use tokio::runtime::Builder;

/// Runs `test` in a network that has nothing but loopback. What is begun there stays there: threads, those
/// of a gateway among them, and programs. Skipped, loudly, where this machine gives none.
pub(crate) fn apart<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let thread = thread::spawn(move || {
        if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
            return skip(&format!("a network of its own: {error}"));
        }
        run("ip", &["link", "set", "lo", "up"]);
        let runtime = Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(test());
    });
    if let Err(panic) = thread.join() {
        resume_unwind(panic);
    }
}

/// Runs a program to its end, and gives what it said.
pub(crate) fn run(name: &str, arguments: &[&str]) -> String {
    let output = Command::new(name).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{name} does not run: {error}"));
    let failed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {arguments:?}: {failed}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
