//! The benchmarks.

use std::process::ExitCode;

use final_tests::Result;

use crate::{
    cargo::{cargo, exec, target},
    install,
};

/// Builds the benchmarks and runs them. `--smoke` only shows that they run, so it builds without
/// optimisation.
pub(crate) fn run(args: &[&str]) -> Result<ExitCode> {
    install::servers()?;
    install::redis();
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
    let is_all = args.iter().all(|arg| arg.starts_with("--"));
    let is_wanted = profile == "release" && (is_all || args.contains(&"reconcile"));
    let data_diff = match is_wanted {
        true => install::comparers(&target()),
        false => None,
    };
    let env = data_diff.map(|program| ("FINAL_BENCH_DATA_DIFF", program.display().to_string()));
    let program = target().join(folder).join("final-benches");
    exec(program, args, env.as_slice())
}

/// Runs the comparison with other projects. They have their own workspace, so that no other command builds
/// them.
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
    // The target folder of the repository, whatever the current folder is.
    let build = target().display().to_string();
    let env = [
        ("CARGO_TARGET_DIR", build),
        // With `DATABASE_URL` set, one of the projects would check its queries against that database, which
        // has none of its tables.
        ("SQLX_OFFLINE", "true".to_owned()),
    ];
    exec(cargo(), &args, &env)
}
