//! The database as the transport: `SqlBroker`, no RabbitMQ anywhere.

use std::{
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

use sqlx::{MySql, Pool, Postgres, Sqlite};
use uuid::Uuid;

use super::{
    log_latency,
    ours::{self, log_bus},
    tx::by_hand,
};
use crate::{
    Result,
    bench::Bench,
    db::{Db, Place},
    load::{self, until},
    payload::{Order, TOPIC},
    row::{Must, Row, Spread},
    sides::{OURS, rounds},
};

pub(super) async fn run(bench: &mut Bench) -> Result<()> {
    on::<Postgres>(bench).await?;
    on::<MySql>(bench).await?;
    on::<Sqlite>(bench).await
}

async fn on<DB: Db>(bench: &mut Bench) -> Result<()> {
    if !bench.wants::<DB>() {
        return Ok(());
    }
    // A database each: what one part leaves to be vacuumed must not fall to the next.
    transactions(bench, &DB::fresh().await?).await?;
    let place = DB::fresh().await?;
    end_to_end(bench, &place).await?;
    if let Some(relaxed) = DB::relaxed(&place).await? {
        relaxed_end_to_end(bench, &relaxed).await?;
    }
    log_latency::run(bench, &DB::fresh().await?).await?;
    drain(bench, &DB::fresh().await?).await
}

/// The cost in the caller's transaction.
async fn transactions<DB: Db>(bench: &mut Bench, place: &Place<DB>) -> Result<()> {
    let bus = log_bus(&place.pool).await?;
    for writers in [1, 8, 32] {
        let series = rounds(bench.rounds(5), &[OURS, "by hand"], async |side| {
            DB::execute(&place.pool, "DELETE FROM final_log").await?;
            let time = bench.time(2.0);
            let done = if side == OURS {
                let bus = bus.clone();
                load::writers(writers, time, move |n| ours::transaction(&bus, n, 1)).await?
            } else {
                let pool = place.pool.clone();
                load::writers(writers, time, move |n| written::<DB>(pool.clone(), n)).await?
            };
            Ok(done.per_second())
        })
        .await?;
        let metric = format!("tx/s, {writers} writers");
        bench.add(series.rows("log", DB::LABEL, &metric, Some(Must::RatioAtLeast(0.9))));
    }
    DB::execute(&place.pool, "DELETE FROM final_log").await?;
    Ok(())
}

/// One business row and one row of the log.
async fn written<DB: Db>(pool: Pool<DB>, n: u64) -> Result<()> {
    let mut tx = DB::open(&pool).await?;
    DB::insert_order(&mut tx, n).await?;
    let payload = Order::new(n).encode()?;
    DB::insert_log(&mut tx, Uuid::now_v7(), TOPIC, &payload).await?;
    DB::commit(tx).await
}

/// A backlog, handled and settled, by one process; ten times, so that a million messages have gone
/// through the same tables at the end.
async fn drain<DB: Db>(bench: &mut Bench, place: &Place<DB>) -> Result<()> {
    let records = bench.count(100_000);
    let mut rates = Vec::new();
    for _ in 0..bench.rounds(10) {
        ours::fill(&log_bus(&place.pool).await?, records).await?;
        rates.push(records as f64 / drained(&place.pool, records).await?.as_secs_f64());
    }
    let some = rates.len().div_ceil(3);
    let first = Spread::of(rates.get(..some).unwrap_or_default());
    let last = Spread::of(rates.get(rates.len() - some..).unwrap_or_default());
    let row = |metric: &str, values: &[f64]| Row::alone("log", OURS, DB::LABEL, metric, values);
    bench.add([
        row("messages/s, backlog of 100,000", &rates).must(Must::AtLeast(15_000.0)),
        row(
            "rate after a million over that at the start",
            &[last.median / first.median],
        )
        .must(Must::AtLeast(0.9)),
    ]);
    Ok(())
}

/// How long it takes to handle so many messages that wait.
async fn drained<DB: Db>(pool: &Pool<DB>, records: u64) -> Result<Duration> {
    let bus = log_bus(pool).await?;
    let (router, handled) = ours::counting(|_| ());
    let start = Instant::now();
    bus.start(router).await?;
    let all = async || Ok(handled.load(Relaxed) >= records);
    until("for all messages to be handled", all).await?;
    let took = start.elapsed();
    bus.shutdown().await?;
    Ok(took)
}

/// Sustained, beside the same transactions by hand that nobody reads, and those without a message.
async fn end_to_end<DB: Db>(bench: &mut Bench, place: &Place<DB>) -> Result<()> {
    log_bus(&place.pool).await?;
    let sides = [OURS, "by hand, not read", "no message"];
    let series = rounds(bench.rounds(5), &sides, async |side| {
        let (time, pool) = (bench.time(4.0), place.pool.clone());
        let done = match side {
            OURS => return sustained(&pool, time).await,
            "no message" => {
                let work = move |n| by_hand::<DB>(pool.clone(), n, 0);
                load::writers(32, time, work).await?
            }
            _ => {
                let work = move |n| written::<DB>(pool.clone(), n);
                let done = load::writers(32, time, work).await?;
                // Off the clock: rows that vanish unread would be gaps to the next reader.
                drained(&place.pool, done.count).await?;
                done
            }
        };
        Ok(done.per_second())
    })
    .await?;
    let metric = "messages/s, 32 writers, end to end";
    bench.add(series.rows("log", DB::LABEL, metric, Some(Must::RatioAtLeast(0.75))));
    Ok(())
}

/// Messages per second, from the first transaction until the last message is handled.
async fn sustained<DB: Db>(pool: &Pool<DB>, time: Duration) -> Result<f64> {
    let bus = log_bus(pool).await?;
    let (router, handled) = ours::counting(|_| ());
    bus.start(router).await?;
    let (start, writer) = (Instant::now(), bus.clone());
    let done = load::writers(32, time, move |n| ours::transaction(&writer, n, 1)).await?;
    let all = async || Ok(handled.load(Relaxed) >= done.count);
    until("for all messages to be handled", all).await?;
    let took = start.elapsed();
    bus.shutdown().await?;
    Ok(done.count as f64 / took.as_secs_f64())
}

/// The same where a commit does not wait for the disk.
async fn relaxed_end_to_end<DB: Db>(bench: &mut Bench, pool: &Pool<DB>) -> Result<()> {
    let mut rates = Vec::new();
    for _ in 0..bench.rounds(5) {
        rates.push(sustained(pool, bench.time(4.0)).await?);
    }
    let metric = "messages/s, 32 writers, end to end, synchronous = NORMAL";
    bench.add([Row::alone("log", OURS, DB::LABEL, metric, &rates).must(Must::AtLeast(3_000.0))]);
    Ok(())
}
