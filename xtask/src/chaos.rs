//! The long forms of the fault suites.

use std::process::ExitCode;

use final_tests::{Error, Result};

use crate::{
    cargo::{cargo, exec, target},
    install,
};

/// Builds the chaos run and its workers, and runs it. `gateway` names the run of the gateway.
pub(crate) fn run(args: &[&str]) -> Result<ExitCode> {
    install::servers()?;
    if let ["gateway", rest @ ..] = args {
        return gateway(rest);
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
    let mut settings = Vec::new();
    let mut words = args.iter();
    let mut database = "";
    while let Some(word) = words.next() {
        let value = words.next().copied().unwrap_or_default();
        let number = value.parse::<u64>().ok();
        match (*word, number) {
            ("--minutes", Some(minutes)) => {
                settings.push(("FINAL_GATEWAY_CHAOS_SECONDS", (minutes * 60).to_string()));
            }
            ("--seed", Some(seed)) => settings.push(("FINAL_GATEWAY_CHAOS_SEED", seed.to_string())),
            ("--database", _) if ["postgres", "mariadb"].contains(&value) => database = value,
            _ => {
                return Err(Error::new(
                    format!("{word} {value} means nothing to the gateway's run"),
                    "say `cargo xtask chaos gateway [--minutes N] [--seed N] [--database postgres|mariadb]`",
                ));
            }
        }
    }
    let filter = match database {
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
    exec(cargo(), &test, &settings)
}
