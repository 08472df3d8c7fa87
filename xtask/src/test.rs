//! All tests, or those whose name contains a word, on servers that start once.

mod summary;

use std::{
    io::{self, BufRead, BufReader, Write},
    process::{Command, ExitCode},
    time::Instant,
};

use final_tests::{Error, Result, process::Lifetime, servers::Set};

use self::summary::{Summary, suite};
use crate::{
    cargo::{cargo, exec, forget_package, root},
    install,
};

const TEST: [&str; 3] = ["test", "--workspace", "--all-features"];

/// Suites that need no servers, by the beginnings of their names. All others get them.
const WITHOUT_SERVERS: [&str; 5] = ["final_macros ", "xtask ", "router ", "compile ", "docs "];

/// Builds the tests, starts the servers, runs the tests to the end, stops the servers, and prints a
/// summary. `args` are for `cargo test`.
pub(crate) fn run(filter: Option<&str>, args: &[&str]) -> Result<ExitCode> {
    install::servers()?;
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

/// Runs cargo and gives each line that it or its children print, in the order of printing. Whether it
/// ended well.
fn each_line(args: &[&str], env: &[(&str, String)], mut each: impl FnMut(&str)) -> Result<bool> {
    let failed = |cause: io::Error| {
        Error::new(
            format!("cannot run `cargo {}`: {cause}", args.join(" ")),
            "check that cargo is installed and executable",
        )
    };
    eprintln!("+ cargo {}", args.join(" "));
    // One pipe for both: cargo names a suite on stderr, and the suite names its tests on stdout.
    let (output, input) = io::pipe().map_err(failed)?;
    let mut command = Command::new(cargo());
    forget_package(&mut command)
        .args(args)
        .envs(env.iter().map(|(name, value)| (name, value)))
        .current_dir(root())
        .stderr(input.try_clone().map_err(failed)?)
        .stdout(input);
    let mut child = command.spawn().map_err(failed)?;
    // It holds our ends of the pipe, which would never end for us.
    drop(command);
    for line in BufReader::new(output).split(b'\n') {
        each(&String::from_utf8_lossy(&line.map_err(failed)?));
    }
    Ok(child.wait().map_err(failed)?.success())
}
