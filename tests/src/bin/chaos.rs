//! Breaks everything on purpose, and shows whether every message was handled.
//!
//! `cargo xtask chaos [--minutes N] [--seed S] [--database postgres|mariadb] [--transport rabbitmq|log]`

use std::{process::ExitCode, time::Duration};

use final_tests::{
    Error,
    chaos::{DatabaseKind, Plan, Transport, run},
};

const USAGE: &str = "chaos [--minutes N] [--seed S] [--database postgres|mariadb] \
                     [--transport rabbitmq|log]";

/// New messages have to flow again within this time after a fault.
const RECOVERY: Duration = Duration::from_secs(10);

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    match plan() {
        Ok(plan) => play(plan).await,
        Err(error) => failed(&error),
    }
}

async fn play(plan: Plan) -> ExitCode {
    let here = std::env::current_exe().unwrap_or_default();
    match run(&plan, &here.with_file_name("worker")).await {
        Ok(report) => {
            println!("{report}");
            if report.problems().is_empty() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => failed(&error),
    }
}

fn failed(error: &Error) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::FAILURE
}

fn plan() -> Result<Plan, Error> {
    let mut seed = fastrand::u64(..1_000_000);
    let mut minutes = None;
    let mut database = None;
    let mut transport = Transport::RabbitMq;
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let value = args.next().unwrap_or_default();
        let number = || {
            let wrong = |_| Error::new(format!("{arg} needs a number, not {value:?}"), USAGE);
            value.parse::<u64>().map_err(wrong)
        };
        match (arg.as_str(), value.as_str()) {
            ("--minutes", _) => minutes = Some(number()?),
            ("--seed", _) => seed = number()?,
            ("--database", "postgres") => database = Some(DatabaseKind::Postgres),
            ("--database", "mariadb") => database = Some(DatabaseKind::MariaDb),
            ("--transport", "rabbitmq") => transport = Transport::RabbitMq,
            ("--transport", "log") => transport = Transport::Log,
            _ => {
                return Err(Error::new(
                    format!("{arg} {value} is not understood"),
                    USAGE,
                ));
            }
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
