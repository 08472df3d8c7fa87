//! `cargo xtask`: the chores of this repository.

mod bench;
mod cargo;
mod chaos;
mod deny;
mod fuzz;
mod install;
mod matrix;
mod services;
mod summary;
mod test;

use std::process::ExitCode;

use final_tests::{Error, Result};

const USAGE: &str = "\
cargo xtask test [FILTER] [-- ARGS]
                             start the servers once, run all tests to the end and list what failed;
                             or only the tests whose name contains FILTER; ARGS go to `cargo test`
cargo xtask chaos [ARGS]     break everything on purpose for a while and show what became of the messages:
                             --minutes N, --seed S, --database postgres|mariadb|sqlite,
                             --transport rabbitmq|log
cargo xtask chaos killers [ARGS]
                             handlers that kill their process: --minutes N, --seed S,
                             --database postgres|mariadb|sqlite, --queue quorum|classic
cargo xtask chaos gateway [ARGS]
                             the gateway and its database: --minutes N, --seed S, --database postgres|mariadb
cargo xtask chaos capture [ARGS]
                             change capture, its source and its target: --minutes N, --seed S,
                             --database postgres|mariadb, --broker log|rabbitmq
cargo xtask chaos reconcile [ARGS]
                             reconcilers, both databases and the endpoint while rows change: --minutes N,
                             --updates N, --lag SECONDS, --seed S, --database postgres|mariadb
cargo xtask bench [--json] [--smoke] [--db NAME]... [SCENARIO...]
                             measure it beside what a user would write by hand, and write docs/benchmarks/;
                             --smoke only shows that it runs, and checks what is counted
cargo xtask bench peers [--json] [--smoke] [JOB...] [PEER...]
                             measure it beside other projects, which are built for this alone;
                             JOB is tx, relay, consume or queue
cargo xtask matrix [--set NAME]... [--suite NAME]... [--rebuild] [FILTER]
                             run the tests on newer servers, each set in a Debian of its own that is made
                             once, as root: trixie, sid; suites: core, amqp, bus, faults; whole suites
                             are written into docs/servers.md
cargo xtask matrix [--set NAME]... chaos [ARGS]
                             the chaos run on newer servers
cargo xtask services up      start PostgreSQL, MariaDB and RabbitMQ and leave them running
cargo xtask services status  say whether they run, and where
cargo xtask services down    stop them and remove their data
cargo xtask fuzz [--seconds N] [TARGET...]
                             run the fuzz targets with new inputs, each for N seconds (60)
cargo xtask deny             check the licences, sources and advisories of what we depend on
cargo xtask install          install what is missing for the tests, as root on Debian: servers, and
                             clients in other languages, promtool
cargo xtask ci               everything a change has to pass: .ci/run";

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<_> = args.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Result<ExitCode> {
    match words {
        ["test"] => test::run(None, &[]),
        ["test", "--", args @ ..] => test::run(None, args),
        ["test", filter, "--", args @ ..] if !filter.starts_with('-') => {
            test::run(Some(filter), args)
        }
        ["test", filter] if !filter.starts_with('-') => test::run(Some(filter), &[]),
        ["test", args @ ..] => test::run(None, args),
        ["chaos", args @ ..] => chaos::run(args),
        ["matrix", args @ ..] => matrix::run(args),
        [matrix::INSIDE, args @ ..] => matrix::inside(args),
        ["services", "up"] => services::up(),
        ["services", "status"] => services::status(),
        ["services", "down"] => services::down(),
        ["bench", args @ ..] => bench::run(args),
        ["fuzz", args @ ..] => fuzz::run(args),
        ["deny"] => deny::run(),
        ["install"] => {
            install::servers()?;
            install::clients();
            Ok(ExitCode::SUCCESS)
        }
        ["ci"] => cargo::exec(cargo::root().join(".ci/run"), &[], &[]),
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
        other => Err(Error::new(
            format!("there is no `cargo xtask {}`", other.join(" ")),
            format!("use one of these:\n{USAGE}"),
        )),
    }
}
