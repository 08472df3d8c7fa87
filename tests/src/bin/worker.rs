//! A worker process of the chaos run: it sells or handles, and keeps a journal.
//!
//! `worker JOB`, with a `Job` as JSON; orders come on standard input.

use final_tests::chaos::work::{AnyError, work};

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<(), AnyError> {
    tracing_subscriber::fmt()
        .with_env_filter("info,lapin=off")
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
    let job = std::env::args().nth(1).ok_or("JOB is missing")?;
    work(serde_json::from_str(&job)?).await
}
