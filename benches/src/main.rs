//! What the bus costs, beside what a user would write by hand: `cargo xtask bench`.
//!
//! Each scenario plays its sides in turns within one run, on servers of its own, and compares them
//! pair by pair: machines are noisy, and what is noise to one side is noise to the other.
//!
//! ```text
//! run         the scenarios that are asked for, one after the other
//! scenarios   one file each: what is played, and which ratio it must reach
//! bench       what a scenario is given
//! db, hand    the same work written by hand with sqlx, and with lapin
//! sides, row  rounds in turns; medians, spread and ratios of them
//! wire        counts what goes over a connection: statements, round trips, frames
//! report      the table, `docs/benchmarks/results.md` and its plots
//! ```

mod args;
mod bench;
mod db;
mod hand;
mod load;
mod machine;
mod payload;
mod plot;
mod process;
mod report;
mod row;
mod run;
mod scenarios;
mod sides;
mod wire;

use std::process::ExitCode;

use final_core::BoxError;

/// Whatever goes wrong ends the run, with its cause.
type Result<T, E = BoxError> = std::result::Result<T, E>;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    match runtime
        .map_err(BoxError::from)
        .and_then(|runtime| runtime.block_on(play(&words)))
    {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Everything, or the part of another process.
async fn play(words: &[String]) -> Result<bool> {
    match words {
        [first, rest @ ..] if first == scenarios::PUBLISHER => {
            scenarios::publish(rest).await.map(|()| true)
        }
        [first, rest @ ..] if first == scenarios::SERVER => {
            scenarios::serve(rest).await.map(|()| true)
        }
        [first, rest @ ..] if first == scenarios::READER => {
            scenarios::read(rest).await.map(|()| true)
        }
        [first, rest @ ..] if first == scenarios::COMPARER => {
            scenarios::compare(rest).await.map(|()| true)
        }
        _ => {
            let known = scenarios::ALL.iter().map(|it| it.name).collect();
            let args = args::Args::parse(words.iter().cloned(), known)?;
            run::run(args, scenarios::ALL).await
        }
    }
}
