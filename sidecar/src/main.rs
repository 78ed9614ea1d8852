//! The sidecar of Sluice: the gateway's engine beside a workload.
//!
//! Empty for now: it says so and ends with exit code 1.

use std::process::ExitCode;

fn main() -> ExitCode {
    #[expect(
        clippy::print_stderr,
        reason = "the only thing this program can do is say so"
    )]
    {
        eprintln!(
            "sluice-sidecar: the mesh is not part of this version; use `sluice run` as an edge gateway"
        );
    }
    ExitCode::FAILURE
}
