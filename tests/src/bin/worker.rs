//! A worker process of the chaos runs: it sells or handles, and keeps a journal.
//!
//! `worker JOB`, with a `Job` as JSON, or `worker victim JOB`, with a `VictimJob`; orders come on standard input.

use final_tests::chaos::{
    be_victim,
    work::{AnyError, work},
};

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<(), AnyError> {
    tracing_subscriber::fmt()
        .with_env_filter("info,lapin=off")
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
    let args: Vec<_> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["victim", job] => be_victim(serde_json::from_str(job)?).await,
        [job] => work(serde_json::from_str(job)?).await,
        _ => Err("JOB is missing".into()),
    }
}
