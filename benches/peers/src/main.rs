//! The bus beside its peers: `cargo xtask bench peers`.
//!
//! Each peer plays against us job by job, in turns and pair by pair, on the same private servers and
//! in a fresh database and vhost of its own each time. A play that does less than its job is an
//! error: all is counted, what was committed, what RabbitMQ has, what was handled and settled.
//!
//! ```text
//! peers      one file each: how a peer does the jobs, as its documentation says
//! contest    a job, a peer, and how it went
//! play       the rounds that they play
//! place      a fresh database; rabbit: a fresh vhost, filled and looked into by hand
//! report     the table in docs/benchmarks/peers.md
//! ```

mod args;
mod contest;
// These are the other benchmarks', so that all measure in the same way.
#[allow(dead_code, reason = "the other benchmarks need more of it")]
#[path = "../../src/load.rs"]
mod load;
#[allow(dead_code, reason = "the other benchmarks need more of it")]
#[path = "../../src/payload.rs"]
mod payload;
mod peers;
mod place;
mod play;
mod rabbit;
mod report;
#[allow(dead_code, reason = "the other benchmarks need more of it")]
#[path = "../../src/row.rs"]
mod row;

use std::process::ExitCode;

use final_core::BoxError;

/// Whatever goes wrong ends the run, with its cause.
type Result<T, E = BoxError> = std::result::Result<T, E>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let contests = peers::contests();
    let args = args::Args::parse(std::env::args().skip(1), &contests)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let outcomes = runtime.block_on(play::play(&args, &contests, peers::ours::play))?;
    // Part of it is not the table.
    if !args.smoke && args.only.is_empty() {
        report::write(&outcomes)?;
    }
    Ok(())
}
