//! All tests, on servers that start once.

use std::{process::ExitCode, time::Instant};

use final_tests::{Result, process::Lifetime, servers::Set};

use crate::{
    cargo::{cargo, exec},
    install,
};

const TEST: [&str; 3] = ["test", "--workspace", "--all-features"];

/// Builds, starts the servers, runs `cargo test` with `args`, stops the servers.
pub(crate) fn run(args: &[&str]) -> Result<ExitCode> {
    install::servers()?;
    // Before the servers start: a build is long and wants the machine for itself.
    let built = exec(
        cargo(),
        &[&TEST[..], &["--no-run"], build_args(args)].concat(),
        &[],
    )?;
    if built != ExitCode::SUCCESS {
        return Ok(built);
    }
    let start = Instant::now();
    let servers = Set::start(Lifetime::Tests)?;
    eprintln!("servers started in {:.1?}", start.elapsed());
    exec(cargo(), &[&TEST, args].concat(), &servers.env())
}

/// What comes before a `--` is for cargo, what comes after it is for the tests.
fn build_args<'a>(args: &'a [&'a str]) -> &'a [&'a str] {
    args.split(|&arg| arg == "--").next().unwrap_or(&[])
}
