//! All tests, or those whose name contains a word, on servers that start once.

use std::{
    io::{self, Write},
    process::ExitCode,
    time::Instant,
};

use final_tests::{Error, Result, process::Lifetime, servers::Set};

use crate::{
    cargo::{cargo, each_line, exec},
    install,
    summary::{Summary, suite},
};

const TEST: [&str; 3] = ["test", "--workspace", "--all-features"];

/// Suites that need no servers, by the beginnings of their names. All others get them.
const WITHOUT_SERVERS: [&str; 5] = ["final_macros ", "xtask ", "router ", "compile ", "docs "];

/// Builds the tests, starts the servers, runs the tests to the end, stops the servers, and prints a
/// summary. `args` are for `cargo test`.
pub(crate) fn run(filter: Option<&str>, args: &[&str]) -> Result<ExitCode> {
    install::servers()?;
    install::clients();
    // Before the servers start: a build is long and wants the machine for itself.
    let build = [&TEST[..], &["--no-run"], build_args(args)].concat();
    let built = exec(cargo(), &build, &[])?;
    if built != ExitCode::SUCCESS {
        return Ok(built);
    }
    let servers = match filter {
        Some(filter) if !needs_servers(filter, args)? => None,
        _ => Some(start()?),
    };
    let env = servers.as_ref().map(|servers| servers.env().to_vec());
    let begin = Instant::now();
    let mut summary = Summary::default();
    let run = [&TEST[..], &["--no-fail-fast"], filter.as_slice(), args].concat();
    let has_passed = each_line(&run, &env.unwrap_or_default(), |line| {
        summary.read(line);
        // If the output cannot be written, the tests go on all the same.
        let _ = writeln!(io::stdout(), "{line}");
    })?;
    let minutes = begin.elapsed().as_secs_f64() / 60.0;
    println!("\n{summary}\nin {minutes:.1} min");
    Ok(if has_passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What comes before a `--` is for cargo, what comes after it is for the tests.
fn build_args<'a>(args: &'a [&'a str]) -> &'a [&'a str] {
    args.split(|&arg| arg == "--").next().unwrap_or(&[])
}

fn start() -> Result<Set> {
    let begin = Instant::now();
    let servers = Set::start(Lifetime::Tests)?;
    eprintln!("servers started in {:.1?}", begin.elapsed());
    Ok(servers)
}

/// Whether a test whose name contains `filter` may need the servers.
///
/// Fails where no test has such a name.
fn needs_servers(filter: &str, args: &[&str]) -> Result<bool> {
    let list = [&TEST[..], build_args(args), &[filter, "--", "--list"]].concat();
    let (mut current, mut suites) = (String::new(), Vec::new());
    each_line(&list, &[], |line| {
        if let Some(suite) = suite(line) {
            current = suite;
        } else if line.ends_with(": test") {
            suites.push(current.clone());
        }
    })?;
    if suites.is_empty() {
        return Err(Error::new(
            format!("there is no test with `{filter}` in its name"),
            "the tests of a suite are shown by `cargo test -p PACKAGE --all-features -- --list`",
        ));
    }
    let is_alone = |suite: &String| WITHOUT_SERVERS.iter().any(|name| suite.starts_with(name));
    Ok(!suites.iter().all(is_alone))
}
