//! The long forms of the fault suites.

use std::process::ExitCode;

use final_tests::{Error, Result};

use crate::{
    cargo::{cargo, exec, target},
    install,
};

/// Builds the chaos run and its workers, and runs it. `gateway` and `capture` name the runs of the gateway and of change
/// capture.
pub(crate) fn run(args: &[&str]) -> Result<ExitCode> {
    install::servers()?;
    if let ["gateway", rest @ ..] = args {
        return gateway(rest);
    }
    if let ["capture", rest @ ..] = args {
        return capture(rest);
    }
    let built = exec(
        cargo(),
        &["build", "--package", "final-tests", "--bins"],
        &[],
    )?;
    if built != ExitCode::SUCCESS {
        return Ok(built);
    }
    exec(target().join("debug/chaos"), args, &[])
}

/// Runs the gateway's tests of the same name for longer than in CI.
fn gateway(args: &[&str]) -> Result<ExitCode> {
    let usage =
        "say `cargo xtask chaos gateway [--minutes N] [--seed N] [--database postgres|mariadb]`";
    let words = Words::read(args, "GATEWAY", false, usage)?;
    let filter = match words.database {
        "" => "chaos::".to_owned(),
        name => format!("chaos::nothing_acknowledged_is_lost_on_{name}"),
    };
    let test = [
        "test",
        "--package",
        "final-gateway",
        "--all-features",
        "--test",
        "gateway",
        &filter,
        "--",
        "--nocapture",
        "--test-threads=1",
    ];
    exec(cargo(), &test, &words.settings)
}

/// The same for change capture: into the log, where each change comes once, or over RabbitMQ.
fn capture(args: &[&str]) -> Result<ExitCode> {
    let usage = "say `cargo xtask chaos capture [--minutes N] [--seed N] [--database postgres|mariadb] \
         [--broker log|rabbitmq]`";
    let words = Words::read(args, "CAPTURE", true, usage)?;
    let filter = match words.database {
        "" => "chaos::every_version_arrives".to_owned(),
        name => format!("chaos::every_version_arrives_in_order_from_{name}"),
    };
    let test = [
        "test",
        "--package",
        "final-capture",
        "--all-features",
        "--test",
        "capture",
        &filter,
        "--",
        "--nocapture",
        "--test-threads=1",
    ];
    exec(cargo(), &test, &words.settings)
}

/// The command line of a run that is a test: as the test reads it.
struct Words<'a> {
    settings: Vec<(&'static str, String)>,
    database: &'a str,
}

impl<'a> Words<'a> {
    fn read(args: &[&'a str], run: &str, has_brokers: bool, usage: &str) -> Result<Self> {
        let (seconds, seed) = match run {
            "CAPTURE" => ("FINAL_CAPTURE_CHAOS_SECONDS", "FINAL_CAPTURE_CHAOS_SEED"),
            _ => ("FINAL_GATEWAY_CHAOS_SECONDS", "FINAL_GATEWAY_CHAOS_SEED"),
        };
        let mut words = Self {
            settings: Vec::new(),
            database: "",
        };
        let mut args = args.iter();
        while let Some(word) = args.next() {
            let value = args.next().copied().unwrap_or_default();
            let number = value.parse::<u64>().ok();
            match (*word, number) {
                ("--minutes", Some(minutes)) => {
                    words.settings.push((seconds, (minutes * 60).to_string()));
                }
                ("--seed", Some(number)) => words.settings.push((seed, number.to_string())),
                ("--database", _) if ["postgres", "mariadb"].contains(&value) => {
                    words.database = value;
                }
                ("--broker", _) if has_brokers && ["log", "rabbitmq"].contains(&value) => {
                    let broker = ("FINAL_CAPTURE_CHAOS_BROKER", value.to_owned());
                    words.settings.push(broker);
                }
                _ => {
                    return Err(Error::new(
                        format!("{word} {value} means nothing to this run"),
                        usage,
                    ));
                }
            }
        }
        Ok(words)
    }
}
