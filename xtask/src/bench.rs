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
    if args.contains(&"peers") {
        return peers(args);
    }
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

/// Beside other projects, in a workspace of their own: nobody else builds them.
fn peers(args: &[&str]) -> Result<ExitCode> {
    let program = [
        "run",
        "--quiet",
        "--locked",
        "--release",
        "--manifest-path",
        "benches/peers/Cargo.toml",
        "--",
    ];
    let others = args.iter().filter(|arg| **arg != "peers").copied();
    let args: Vec<_> = program.into_iter().chain(others).collect();
    // The same folder as everything else that is built, wherever we are called.
    let build = target().display().to_string();
    let env = [
        ("CARGO_TARGET_DIR", build),
        // A peer checks its queries against `DATABASE_URL` where there is one, and ours has none of
        // its tables.
        ("SQLX_OFFLINE", "true".to_owned()),
    ];
    exec(cargo(), &args, &env)
}
