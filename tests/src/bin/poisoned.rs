//! A process that a message takes down: it handles numbers, and a negative one aborts it.
//!
//! `poisoned SERVICE FILE AMQP_URL KIND JOURNAL`; KIND is `quorum` or `classic`. Each number is a line of the journal
//! when its handler begins, and `done` and the number when it ends. Ends in good order when its standard input
//! does.

use std::{fs::File, io::Write, sync::Arc, time::Duration};

use final_amqp::{Amqp, QueueKind};
use final_core::{Bus, Options, Payload, Router, SqliteBus};
use sqlx::{SqlitePool, sqlite::SqliteConnectOptions};
use tokio::io::AsyncReadExt;

type AnyError = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<(), AnyError> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let [service, file, url, kind, journal] = args.as_slice() else {
        return Err("poisoned SERVICE FILE AMQP_URL KIND JOURNAL".into());
    };
    let pool = SqlitePool::connect_with(SqliteConnectOptions::new().filename(file)).await?;
    let kind = match kind.as_str() {
        "classic" => QueueKind::Classic,
        _ => QueueKind::Quorum,
    };
    let journal = Arc::new(File::options().append(true).create(true).open(journal)?);
    let amqp = Amqp::new(url)?.queue_kind(kind);
    let options = Options::default().shutdown_timeout(Duration::from_secs(10));
    let bus: SqliteBus = Bus::new(service, pool, amqp).with_options(options);
    let topic = format!("{service}.job");
    let router = Router::new().route(&topic, move |Payload(number): Payload<i64>| {
        let journal = Arc::clone(&journal);
        async move {
            (&*journal).write_all(format!("{number}\n").as_bytes())?;
            if number < 0 {
                std::process::abort();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
            (&*journal).write_all(format!("done {number}\n").as_bytes())
        }
    });
    bus.start(router).await?;
    tokio::io::stdin().read_to_end(&mut Vec::new()).await?;
    Ok(bus.shutdown().await?)
}
