//! Breaks everything on purpose, and shows whether every message was handled.
//!
//! `cargo xtask chaos [--minutes N] [--seed S] [--database postgres|mariadb|sqlite] [--transport rabbitmq|log]`
//!
//! `cargo xtask chaos killers [--minutes N] [--seed S] [--database postgres|mariadb|sqlite] [--queue quorum|classic]`

use std::{path::Path, process::ExitCode, time::Duration};

use final_tests::{
    Error,
    chaos::{DatabaseKind, KillerPlan, Plan, Transport, run, run_killers},
};

const USAGE: &str = "chaos [--minutes N] [--seed S] [--database postgres|mariadb|sqlite] \
                     [--transport rabbitmq|log], or chaos killers [--minutes N] [--seed S] \
                     [--database postgres|mariadb|sqlite] [--queue quorum|classic]";

/// New messages have to flow again within this time after a fault.
const RECOVERY: Duration = Duration::from_secs(10);

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let here = std::env::current_exe().unwrap_or_default();
    let worker = here.with_file_name("worker");
    let args: Vec<_> = std::env::args().skip(1).collect();
    let is_kept = match args.split_first() {
        Some((first, args)) if first == "killers" => killers(args, &worker).await,
        _ => everything(&args, &worker).await,
    };
    match is_kept {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every promise was kept, whatever was broken.
async fn everything(args: &[String], worker: &Path) -> Result<bool, Error> {
    let report = run(&plan(args)?, worker).await?;
    println!("{report}");
    Ok(report.problems().is_empty())
}

/// Whether every promise was kept with handlers that kill their process.
async fn killers(args: &[String], worker: &Path) -> Result<bool, Error> {
    let plan = killer_plan(args)?;
    println!(
        "chaos with killers on {}, seed {}\n",
        plan.database, plan.seed
    );
    let verdict = run_killers(&plan, worker).await?;
    println!("{verdict}");
    Ok(verdict.problems().is_empty())
}

fn plan(args: &[String]) -> Result<Plan, Error> {
    let mut seed = fastrand::u64(..1_000_000);
    let mut minutes = None;
    let mut database = None;
    let mut transport = Transport::RabbitMq;
    for (name, value) in pairs(args) {
        match (name, value) {
            ("--minutes", _) => minutes = Some(number(name, value)?),
            ("--seed", _) => seed = number(name, value)?,
            ("--database", _) => database = Some(database_named(value)?),
            ("--transport", "rabbitmq") => transport = Transport::RabbitMq,
            ("--transport", "log") => transport = Transport::Log,
            _ => return Err(not_understood(name, value)),
        }
    }
    let mut plan = match transport {
        Transport::RabbitMq => Plan::short(seed),
        Transport::Log => Plan::short_on_log(seed),
    };
    plan.recovers_within = RECOVERY;
    if let Some(minutes) = minutes {
        plan.time = Duration::from_secs(60 * minutes);
        plan.long_outages = true;
    }
    if let Some(database) = database {
        plan.database = database;
    }
    Ok(plan)
}

fn killer_plan(args: &[String]) -> Result<KillerPlan, Error> {
    let mut plan = KillerPlan::short(fastrand::u64(..1_000_000));
    plan.time = Duration::from_secs(60);
    for (name, value) in pairs(args) {
        match (name, value) {
            ("--minutes", _) => plan.time = Duration::from_secs(60 * number(name, value)?),
            ("--seed", _) => plan.seed = number(name, value)?,
            ("--database", _) => plan.database = database_named(value)?,
            ("--queue", "quorum") => plan.is_classic = false,
            ("--queue", "classic") => plan.is_classic = true,
            _ => return Err(not_understood(name, value)),
        }
    }
    Ok(plan)
}

/// The arguments, each with its value.
fn pairs(args: &[String]) -> impl Iterator<Item = (&str, &str)> {
    let mut words = args.iter().map(String::as_str);
    std::iter::from_fn(move || Some((words.next()?, words.next().unwrap_or_default())))
}

fn number(name: &str, value: &str) -> Result<u64, Error> {
    let wrong = |_| Error::new(format!("{name} needs a number, not {value:?}"), USAGE);
    value.parse().map_err(wrong)
}

fn database_named(value: &str) -> Result<DatabaseKind, Error> {
    match value {
        "postgres" => Ok(DatabaseKind::Postgres),
        "mariadb" => Ok(DatabaseKind::MariaDb),
        "sqlite" => Ok(DatabaseKind::Sqlite),
        _ => Err(not_understood("--database", value)),
    }
}

fn not_understood(name: &str, value: &str) -> Error {
    Error::new(format!("{name} {value} is not understood"), USAGE)
}
