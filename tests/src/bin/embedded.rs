//! A process to be killed: publishes numbers and handles them, all in one SQLite file.
//!
//! `embedded FILE JOURNAL`; the file has a table `orders (id INTEGER PRIMARY KEY)`. Each handled
//! number is a line of the journal. Ends in good order when its standard input does.

use std::{fs::File, io::Write, sync::Arc, time::Duration};

use final_core::{Bus, Payload, Router, SqlBroker, SqliteBus};
use sqlx::{SqlitePool, sqlite::SqliteConnectOptions};
use tokio::io::AsyncReadExt;

type AnyError = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<(), AnyError> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let [file, journal] = args.as_slice() else {
        return Err("embedded FILE JOURNAL".into());
    };
    let pool = SqlitePool::connect_with(SqliteConnectOptions::new().filename(file)).await?;
    let journal = Arc::new(File::options().append(true).create(true).open(journal)?);
    let broker = SqlBroker::new(pool.clone()).lease(Duration::from_millis(500));
    let bus: SqliteBus = Bus::new("shop", pool, broker);
    let router = Router::new().route("placed", move |Payload(number): Payload<i64>| {
        let journal = Arc::clone(&journal);
        async move { (&*journal).write_all(format!("{number}\n").as_bytes()) }
    });
    bus.start(router).await?;

    let first = i64::from(std::process::id()) * 1_000_000_000;
    for writer in 0..4 {
        let bus = bus.clone();
        tokio::spawn(async move {
            for number in first + writer * 1_000_000.. {
                // A failed publish is the caller's concern; the table says whether the order exists.
                let _ = place(&bus, number).await;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
    }
    tokio::io::stdin().read_to_end(&mut Vec::new()).await?;
    bus.shutdown().await?;
    Ok(())
}

async fn place(bus: &SqliteBus, number: i64) -> Result<(), AnyError> {
    let delay = Duration::from_millis(if number % 10 == 3 { 300 } else { 0 });
    let tx = bus.begin().await?;
    bus.transaction(tx, async |mut txbus| {
        let insert = sqlx::query("INSERT INTO orders VALUES (?)").bind(number);
        insert.execute(txbus.conn()).await?;
        txbus.publish("placed", &number).delay(delay).await?;
        if number % 10 == 7 {
            return Err("not placed".into());
        }
        Ok::<_, AnyError>(())
    })
    .await
}
