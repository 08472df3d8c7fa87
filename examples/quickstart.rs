//! The whole promise on a laptop: one SQLite file, an in-process broker, nothing to install.
//!
//! ```sh
//! cargo run --example quickstart
//! ```
//!
//! It exits with 0 only if everything it prints really happened.

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use final_core::{
    Attempt, Bus, Error, HandlerError, MemoryBroker, Options, Payload, Router, SqliteBus, State,
    subscribe,
};
use serde::{Deserialize, Serialize};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};

#[derive(Serialize, Deserialize)]
struct OrderPlaced {
    id: i64,
    total: i64,
}

/// What the handlers did, for the check at the end.
#[derive(Clone, Default)]
struct Seen {
    receipts: Arc<AtomicU32>,
    refused: Arc<AtomicU32>,
    shipped_at_attempt: Arc<AtomicU32>,
}

/// Handled once for each order that was committed, never for one that was rolled back.
#[subscribe("order.placed")]
async fn send_receipt(State(seen): State<Seen>, Payload(order): Payload<OrderPlaced>) {
    println!("  receipt for order {} ({})", order.id, order.total);
    seen.receipts.fetch_add(1, Ordering::Relaxed);
}

/// Fails twice, then succeeds: the bus tries again.
#[subscribe("order.shipped")]
async fn book_carrier(
    State(seen): State<Seen>,
    Attempt(attempt): Attempt,
) -> Result<(), &'static str> {
    if attempt < 3 {
        println!("  carrier, attempt {attempt}: busy");
        return Err("the carrier is busy");
    }
    println!("  carrier, attempt {attempt}: booked");
    seen.shipped_at_attempt.store(attempt, Ordering::Relaxed);
    Ok(())
}

/// Fails for good: no retry can help, so the message goes to the dead letters.
#[subscribe("order.refunded")]
async fn refund(State(seen): State<Seen>) -> Result<(), HandlerError> {
    println!("  refund: refused");
    seen.refused.fetch_add(1, Ordering::Relaxed);
    Err(HandlerError::permanent("the account is closed"))
}

/// Writes an order and its message in one transaction.
async fn place_order(bus: &SqliteBus, total: i64) -> Result<i64, AppError> {
    let tx = bus.begin().await?;
    bus.transaction(tx, async |mut txbus| {
        let id = sqlx::query_scalar("INSERT INTO orders (total) VALUES (?) RETURNING id")
            .bind(total)
            .fetch_one(txbus.conn())
            .await?;
        txbus
            .publish("order.placed", &OrderPlaced { id, total })
            .await?;
        if total <= 0 {
            return Err(AppError::WorthNothing); // rolls both back
        }
        Ok(id)
    })
    .await
}

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let file = std::env::temp_dir().join(format!("final-quickstart-{}.db", std::process::id()));
    let options = SqliteConnectOptions::new()
        .filename(&file)
        .create_if_missing(true);
    let pool = SqlitePoolOptions::new().connect_with(options).await?;
    sqlx::query("CREATE TABLE orders (id INTEGER PRIMARY KEY, total INTEGER NOT NULL)")
        .execute(&pool)
        .await?;

    let broker = MemoryBroker::new();
    let bus: SqliteBus = Bus::new("shop", pool.clone(), broker.clone())
        .with_options(Options::default().retry_count(3));
    let seen = Seen::default();
    let router = Router::new()
        .subscribe(send_receipt)
        .subscribe(book_carrier)
        .subscribe(refund)
        .with_state(seen.clone());
    bus.start(router).await?;

    println!("one order is committed, one rolled back:");
    let placed = place_order(&bus, 100).await?;
    let refused = place_order(&bus, 0).await.is_err();
    until(|| seen.receipts.load(Ordering::Relaxed) == 1).await;

    println!("a handler that fails twice:");
    bus.publish("order.shipped", &placed).await?;
    until(|| seen.shipped_at_attempt.load(Ordering::Relaxed) == 3).await;

    println!("a handler that can never succeed:");
    bus.publish("order.refunded", &placed).await?;
    until(|| !broker.dead_letters("shop").is_empty()).await;
    let dead = broker.dead_letters("shop");
    for letter in &dead {
        println!(
            "  dead letter: {} after {} attempt(s): {}",
            letter.topic(),
            letter.attempts,
            letter.reason
        );
    }

    let mut stats = bus.stats().await?;
    for _ in 0..500 {
        if stats.pending == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        stats = bus.stats().await?;
    }
    println!(
        "in the outbox: {} pending, {} failed",
        stats.pending, stats.failed
    );
    bus.shutdown().await?;

    let orders: i64 = sqlx::query_scalar("SELECT count(*) FROM orders")
        .fetch_one(&pool)
        .await?;
    pool.close().await;
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{suffix}", file.display()));
    }

    let as_promised = orders == 1
        && refused
        && seen.receipts.load(Ordering::Relaxed) == 1
        && seen.shipped_at_attempt.load(Ordering::Relaxed) == 3
        && seen.refused.load(Ordering::Relaxed) == 1
        && dead.len() == 1
        && stats.pending == 0
        && stats.failed == 0;
    println!(
        "{}",
        if as_promised {
            "all as promised"
        } else {
            "NOT as promised"
        }
    );
    Ok(if as_promised {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Waits for a condition, ten seconds at most; the check at the end tells if it came true.
async fn until(condition: impl Fn() -> bool) {
    for _ in 0..1000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[derive(Debug, thiserror::Error)]
enum AppError {
    #[error("an order must be worth something")]
    WorthNothing,
    #[error(transparent)]
    Bus(#[from] Error),
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
}
