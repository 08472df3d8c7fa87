//! The benchmarks.

use std::process::ExitCode;

use final_tests::Result;

use crate::{
    cargo::{cargo, exec, target},
    install,
};

/// Builds them and runs them: optimised, or as fast as can be built where it is only to be seen that
/// they run.
pub(crate) fn run(args: &[&str]) -> Result<ExitCode> {
    install::servers()?;
    let profile = if args.contains(&"--smoke") {
        "dev"
    } else {
        "release"
    };
    let build = [
        "build",
        "--quiet",
        "--package",
        "final-benches",
        "--profile",
        profile,
    ];
    let built = exec(cargo(), &build, &[])?;
    if built != ExitCode::SUCCESS {
        return Ok(built);
    }
    let folder = if profile == "dev" { "debug" } else { profile };
    exec(target().join(folder).join("final-benches"), args, &[])
}
