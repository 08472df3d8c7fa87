//! The long forms of the fault suites.

use std::process::ExitCode;

use final_tests::{Error, Result};

use crate::{
    cargo::{cargo, exec, target},
    install,
};

/// Builds the chaos run and its workers, and runs it. `gateway`, `capture` and `reconcile` name the runs of these crates.
pub(crate) fn run(args: &[&str]) -> Result<ExitCode> {
    install::servers()?;
    if let [name, rest @ ..] = args
        && let Some(run) = RUNS.iter().find(|run| run.name == *name)
    {
        return run.play(rest);
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

/// A run that is a test of its crate, which lasts longer than in CI.
struct Run {
    /// Its name, and that of the suite of its crate.
    name: &'static str,
    package: &'static str,
    /// How the names of its tests begin. The database follows.
    tests: &'static str,
    /// How the names of its variables begin.
    variables: &'static str,
    /// Its words beside `--database`, each with the variable of its number.
    numbers: &'static [(&'static str, &'static str)],
    /// Whether it is on the log or on RabbitMQ.
    has_brokers: bool,
}

const RUNS: [Run; 3] = [
    // Nothing that was acknowledged is lost.
    Run {
        name: "gateway",
        package: "final-gateway",
        tests: "chaos::nothing_acknowledged_is_lost_on_",
        variables: "FINAL_GATEWAY_CHAOS_",
        numbers: &[("--seed", "SEED")],
        has_brokers: false,
    },
    // Into the log, where each change comes once, or over RabbitMQ.
    Run {
        name: "capture",
        package: "final-capture",
        tests: "chaos::every_version_arrives_in_order_from_",
        variables: "FINAL_CAPTURE_CHAOS_",
        numbers: &[("--seed", "SEED")],
        has_brokers: true,
    },
    // Only what differs is repaired, and all of it.
    Run {
        name: "reconcile",
        package: "final-reconcile",
        tests: "chaos::only_what_differs_is_repaired_and_all_of_it_from_",
        variables: "FINAL_RECONCILE_CHAOS_",
        numbers: &[
            ("--seed", "SEED"),
            ("--updates", "UPDATES"),
            ("--lag", "LAG_SECONDS"),
            ("--heartbeat", "HEARTBEAT"),
        ],
        has_brokers: false,
    },
];

impl Run {
    fn play(&self, args: &[&str]) -> Result<ExitCode> {
        let (settings, database) = self.read(args)?;
        let tests = format!("{}{database}", self.tests);
        let test = [
            "test",
            "--package",
            self.package,
            "--all-features",
            "--test",
            self.name,
            &tests,
            "--",
            "--nocapture",
            "--test-threads=1",
        ];
        let named = settings
            .iter()
            .map(|(name, value)| (name.as_str(), value.clone()));
        let settings: Vec<(&str, String)> = named.collect();
        exec(cargo(), &test, &settings)
    }

    /// The command line, as the test reads it, and the database.
    fn read<'a>(&self, args: &[&'a str]) -> Result<(Vec<(String, String)>, &'a str)> {
        let (mut settings, mut database) = (Vec::new(), "");
        let mut args = args.iter();
        while let Some(word) = args.next() {
            let value = args.next().copied().unwrap_or_default();
            let number = value.parse::<u64>().ok();
            let named = self.numbers.iter().find(|(name, _)| name == word);
            let (variable, value) = match (*word, named, number) {
                ("--minutes", _, Some(minutes)) => ("SECONDS", (minutes * 60).to_string()),
                (_, Some((_, variable)), Some(number)) => (*variable, number.to_string()),
                ("--database", _, _) if ["postgres", "mariadb"].contains(&value) => {
                    database = value;
                    continue;
                }
                ("--broker", _, _) if self.has_brokers && ["log", "rabbitmq"].contains(&value) => {
                    ("BROKER", value.to_owned())
                }
                _ => {
                    return Err(Error::new(
                        format!("{word} {value} means nothing to this run"),
                        self.usage(),
                    ));
                }
            };
            settings.push((format!("{}{variable}", self.variables), value));
        }
        Ok((settings, database))
    }

    fn usage(&self) -> String {
        let numbers = self.numbers.iter();
        let numbers: String = numbers.map(|(name, _)| format!(" [{name} N]")).collect();
        let brokers = match self.has_brokers {
            true => " [--broker log|rabbitmq]",
            false => "",
        };
        format!(
            "say `cargo xtask chaos {} [--minutes N]{numbers} [--database postgres|mariadb]{brokers}`",
            self.name
        )
    }
}
