//! The whole promise on a laptop: one SQLite file, and nothing to install.
//!
//! ```sh
//! cargo run --example quickstart
//! ```
//!
//! A first process takes orders and is killed while their messages wait. A second one starts on the
//! same file and finishes them. It exits with 0 only if everything it prints really happened.

use std::{path::Path, process::ExitCode, process::Stdio, time::Duration};

use final_core::{
    Attempt, BoxError, Bus, Error, HandlerError, Payload, Router, SqlBroker, SqliteBus, State,
    broker::DeadLetterFilter, subscribe,
};
use serde::{Deserialize, Serialize};
use sqlx::{SqlitePool, sqlite::SqliteConnectOptions};
use tokio::io::{AsyncBufReadExt, BufReader};

#[derive(Serialize, Deserialize)]
struct OrderPlaced {
    id: i64,
    total: i64,
}

/// Writes down what it has done, so that a message that comes twice does no harm.
#[subscribe("order.placed")]
async fn send_receipt(
    State(pool): State<SqlitePool>,
    Payload(order): Payload<OrderPlaced>,
) -> Result<(), sqlx::Error> {
    let insert = "INSERT INTO receipts VALUES (?) ON CONFLICT DO NOTHING";
    let inserted = sqlx::query(insert).bind(order.id).execute(&pool).await?;
    if inserted.rows_affected() == 1 {
        println!("  receipt for order {} ({})", order.id, order.total);
    } else {
        println!("  receipt for order {}: sent already", order.id);
    }
    // The mail server takes its time.
    tokio::time::sleep(Duration::from_millis(100)).await;
    Ok(())
}

/// Fails twice, then succeeds: the bus tries again.
#[subscribe("order.shipped")]
async fn book_carrier(
    State(pool): State<SqlitePool>,
    Attempt(attempt): Attempt,
) -> Result<(), BoxError> {
    if attempt < 3 {
        println!("  carrier, attempt {attempt}: busy");
        return Err("the carrier is busy".into());
    }
    println!("  carrier, attempt {attempt}: booked");
    let insert = "INSERT INTO bookings VALUES (1) ON CONFLICT DO NOTHING";
    sqlx::query(insert).execute(&pool).await?;
    Ok(())
}

/// Fails for good: no retry can help, so the message goes to the dead letters.
#[subscribe("order.refunded")]
async fn refund() -> Result<(), HandlerError> {
    println!("  refund: refused");
    Err(HandlerError::permanent("the account is closed"))
}

/// The service: a bus whose messages live in the same file as its orders.
async fn open(file: &Path) -> Result<(SqlitePool, SqlBroker<sqlx::Sqlite>, SqliteBus), AppError> {
    let options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true);
    let pool = SqlitePool::connect_with(options).await?;
    for table in [
        "orders (id INTEGER PRIMARY KEY, total INTEGER)",
        "receipts (id INTEGER PRIMARY KEY)",
        "bookings (id INTEGER PRIMARY KEY)",
    ] {
        let create = format!("CREATE TABLE IF NOT EXISTS {table}");
        sqlx::query(sqlx::AssertSqlSafe(create))
            .execute(&pool)
            .await?;
    }
    // What a killed process had in hand is free again after a second, and only that comes again.
    let broker = SqlBroker::new(pool.clone())
        .lease(Duration::from_secs(1))
        .commit_within(Duration::from_millis(20));
    let bus: SqliteBus = Bus::new("shop", pool.clone(), broker.clone())
        .with_options(final_core::Options::default().concurrency(1));
    let router = Router::new()
        .subscribe(send_receipt)
        .subscribe(book_carrier)
        .subscribe(refund)
        .with_state(pool.clone());
    bus.start(router).await?;
    Ok((pool, broker, bus))
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

/// The first process: takes orders until it is killed.
async fn take_orders(file: &Path) -> Result<(), AppError> {
    let (_, _, bus) = open(file).await?;
    for n in 1..=8 {
        place_order(&bus, n * 100).await?;
    }
    let refused = place_order(&bus, 0).await;
    println!(
        "8 orders are committed, one is rolled back: {}",
        refused.is_err()
    );
    std::future::pending().await
}

#[tokio::main]
async fn main() -> Result<ExitCode, AppError> {
    if let Some(file) = std::env::args().nth(1) {
        take_orders(Path::new(&file)).await?;
    }
    let file = std::env::temp_dir().join(format!("final-quickstart-{}.db", std::process::id()));
    let handled_before = kill_in_the_middle(&file).await?;

    println!("a new process on the same file:");
    let (pool, broker, bus) = open(&file).await?;
    let receipts = "SELECT count(*) FROM receipts";
    until(|| async { number(&pool, receipts).await == 8 }).await;

    println!("a handler that fails twice:");
    bus.publish("order.shipped", &1).await?;
    let bookings = "SELECT count(*) FROM bookings";
    until(|| async { number(&pool, bookings).await == 1 }).await;

    println!("a handler that can never succeed:");
    bus.publish("order.refunded", &1).await?;
    let dead = || broker.dead_letters("shop", DeadLetterFilter::all());
    until(|| async { dead().await.is_ok_and(|letters| !letters.is_empty()) }).await;
    let letters = dead().await?;
    for letter in &letters {
        println!(
            "  dead letter: {} after {} attempt(s): {}",
            letter.topic, letter.attempts, letter.reason
        );
    }
    bus.shutdown().await?;

    let orders = number(&pool, "SELECT count(*) FROM orders").await;
    let receipts = number(&pool, receipts).await;
    pool.close().await;
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{suffix}", file.display()));
    }
    let as_promised = (orders, receipts) == (8, 8) && handled_before < 8 && letters.len() == 1;
    println!("{orders} orders, {receipts} receipts");
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

/// Runs this program once more and kills it after its third receipt. Says how many there were.
async fn kill_in_the_middle(file: &Path) -> Result<u64, AppError> {
    println!("a first process:");
    let mut first = tokio::process::Command::new(std::env::current_exe()?)
        .arg(file)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut receipts = 0;
    if let Some(output) = first.stdout.take() {
        let mut lines = BufReader::new(output).lines();
        while receipts < 3
            && let Some(line) = lines.next_line().await?
        {
            println!("  {line}");
            receipts += u64::from(line.contains("receipt"));
        }
    }
    first.kill().await?;
    println!("killed, with messages waiting");
    Ok(receipts)
}

async fn number(pool: &SqlitePool, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(pool).await.unwrap_or(0)
}

/// Waits for a condition, twenty seconds at most; the check at the end tells if it came true.
async fn until<F: Future<Output = bool>>(condition: impl Fn() -> F) {
    for _ in 0..2000 {
        if condition().await {
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
    #[error(transparent)]
    Io(#[from] std::io::Error),
}
