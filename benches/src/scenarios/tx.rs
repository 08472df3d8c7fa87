//! The cost of a message inside the caller's transaction.

use final_core::Bus;
use sqlx::{MySql, Postgres, Sqlite};
use uuid::Uuid;

use super::ours;
use crate::{
    Result,
    bench::Bench,
    db::{Db, Place},
    load,
    payload::{Order, TOPIC},
    plot::Plot,
    row::Must,
    sides::{OURS, rounds},
};

/// Never connected to: the bus is not started.
pub(super) const NOWHERE: &str = "amqp://127.0.0.1:1";
const HAND: &str = "by hand";
const BARE: &str = "no message";

pub(super) async fn run(bench: &mut Bench) -> Result<()> {
    on::<Postgres>(bench).await?;
    on::<MySql>(bench).await?;
    on::<Sqlite>(bench).await
}

async fn on<DB: Db>(bench: &mut Bench) -> Result<()> {
    if !bench.wants::<DB>() {
        return Ok(());
    }
    let place = DB::fresh().await?;
    let bus = ours::bus(&place.pool, NOWHERE).await?;
    let mut plot = Plot::new(
        format!("tx-{}", DB::LABEL),
        format!("One row and one message in a transaction, {}", DB::LABEL),
        ("writers", "transactions/s"),
    );
    for writers in [1, 8, 32] {
        let sides = [OURS, HAND, BARE];
        let series = rounds(bench.rounds(31), &sides, async |side| {
            side_rate(bench, &place, &bus, side, writers).await
        })
        .await?;
        let metric = format!("tx/s, {writers} writers");
        bench.add(series.rows("tx", DB::LABEL, &metric, Some(Must::RatioAtLeast(0.97))));
        for side in sides {
            plot.point(side, writers as f64, series.of(side).median);
        }
    }
    bench.plots.push(plot);
    Ok(())
}

async fn side_rate<DB: Db>(
    bench: &Bench,
    place: &Place<DB>,
    bus: &Bus<DB>,
    side: &str,
    writers: usize,
) -> Result<f64> {
    // Short and many: what disturbs the machine then falls on both sides of a round alike.
    let time = bench.time(0.6);
    clear(place).await?;
    let done = match side {
        OURS => {
            let bus = bus.clone();
            load::writers(writers, time, move |n| ours::transaction(&bus, n, 1)).await?
        }
        _ => {
            let (pool, messages) = (place.pool.clone(), u64::from(side == HAND));
            load::writers(writers, time, move |n| {
                by_hand::<DB>(pool.clone(), n, messages)
            })
            .await?
        }
    };
    Ok(done.per_second())
}

/// Every round begins with empty tables.
pub(super) async fn clear<DB: Db>(place: &Place<DB>) -> Result<()> {
    for table in ["final_bench_outbox", "orders"] {
        let clear = if DB::LABEL == "sqlite" {
            "DELETE FROM"
        } else {
            "TRUNCATE TABLE"
        };
        DB::execute(&place.pool, &format!("{clear} {table}")).await?;
    }
    Ok(())
}

/// One business row and so many messages, each by an INSERT of its own.
pub(super) async fn by_hand<DB: Db>(pool: sqlx::Pool<DB>, n: u64, messages: u64) -> Result<()> {
    let mut tx = DB::open(&pool).await?;
    DB::insert_order(&mut tx, n).await?;
    for _ in 0..messages {
        let payload = Order::new(n).encode()?;
        DB::insert_record(&mut tx, Uuid::now_v7(), TOPIC, &payload, None).await?;
    }
    DB::commit(tx).await
}
