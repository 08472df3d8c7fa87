//! Ctrl-C with work in hand: handlers finish, what they acked is acked, the rest stays safe.
//!
//! ```sh
//! cargo run --example graceful_shutdown            # ends by itself
//! cargo run --example graceful_shutdown -- --wait  # ends with Ctrl-C
//! ```

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use final_core::{Bus, MemoryBroker, Options, Router, SqliteBus, State};

#[derive(Clone, Default)]
struct Work {
    begun: Arc<AtomicU32>,
    finished: Arc<AtomicU32>,
}

async fn takes_a_while(State(work): State<Work>) {
    work.begun.fetch_add(1, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(300)).await;
    work.finished.fetch_add(1, Ordering::Relaxed);
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pool = sqlx::SqlitePool::connect("sqlite::memory:").await?;
    let broker = MemoryBroker::new();
    let bus: SqliteBus = Bus::new("shop", pool, broker.clone()).with_options(
        Options::default()
            .concurrency(4)
            .shutdown_timeout(Duration::from_secs(5)),
    );
    let work = Work::default();
    bus.start(
        Router::new()
            .route("job", takes_a_while)
            .with_state(work.clone()),
    )
    .await?;

    for n in 0..20 {
        bus.publish("job", &n).await?;
    }
    if std::env::args().any(|arg| arg == "--wait") {
        println!("press Ctrl-C");
        tokio::signal::ctrl_c().await?;
    } else {
        while work.begun.load(Ordering::Relaxed) < 4 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    // Handlers that are still at work shortly before `shutdown_timeout` are cut off.
    bus.shutdown().await?;
    let (begun, finished) = (
        work.begun.load(Ordering::Relaxed),
        work.finished.load(Ordering::Relaxed),
    );
    println!("{begun} handlers had begun, {finished} finished");
    println!(
        "{} messages wait in the queue for the next start",
        broker.queue_len("shop")
    );
    if begun == finished {
        Ok(())
    } else {
        Err("a handler was cut off".into())
    }
}
