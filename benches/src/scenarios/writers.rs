//! Many writers of one SQLite file: how long each waits to begin, and how many transactions they do together.

use std::{
    str::FromStr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use final_core::{BoxError, SqliteBus};
use sqlx::{
    Sqlite, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use uuid::Uuid;

use super::{
    ours,
    tx::{NOWHERE, clear},
};
use crate::{
    Result,
    bench::Bench,
    db::{Db, Place},
    load::{self, ms, quantile},
    payload::{Order, TOPIC},
    plot::Plot,
    row::{Must, Row},
    sides::{OURS, Series},
};

/// BEGIN IMMEDIATE on the pool: each writer asks SQLite until the lock is free.
const ALL_ASK: &str = "all ask SQLite";
const SIDES: [&str; 2] = [OURS, ALL_ASK];

/// What a side did in one round.
#[derive(Default)]
struct Seen {
    /// Milliseconds that each writer waited to begin, sorted.
    waits: Vec<f64>,
    /// How many were told that the database is locked.
    refused: u64,
}

pub(super) async fn run(bench: &mut Bench) -> Result<()> {
    if !bench.wants::<Sqlite>() {
        return Ok(());
    }
    let place = Sqlite::fresh().await?;
    // As a service makes it: 10 connections, which wait for a lock for 5 s.
    let options = SqliteConnectOptions::from_str(&place.url)?
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    let pool = SqlitePool::connect_with(options).await?;
    let bus = ours::bus(&pool, NOWHERE).await?;
    let mut plot = Plot::new(
        "writers".to_owned(),
        "Writers of one SQLite file".to_owned(),
        ("writers", "transactions/s"),
    );
    for writers in [1, 8, 32, 64] {
        let mut rates = Series::of_sides(&SIDES);
        let (mut waits, mut refused) = (Series::of_sides(&SIDES), Series::of_sides(&SIDES));
        let rounds = bench.rounds(5);
        for round in 0..rounds {
            for turn in 0..SIDES.len() {
                let side = SIDES[(round + turn) % SIDES.len()];
                let (rate, seen) = play(bench, &place, &pool, &bus, side, writers).await?;
                rates.push(side, rate);
                waits.push(side, quantile(&seen.waits, 990));
                refused.push(side, seen.refused as f64);
            }
        }
        let metric = |what: &str| format!("{what}, {writers} writers");
        let least = if writers == 1 { 0.95 } else { 1.0 };
        bench.add(rates.rows(
            "writers",
            Sqlite::LABEL,
            &metric("tx/s"),
            Some(Must::RatioAtLeast(least)),
        ));
        bench.add(waits.rows("writers", Sqlite::LABEL, &metric("p99 ms to begin"), None));
        let mut refused: Vec<Row> = refused.rows(
            "writers",
            Sqlite::LABEL,
            &metric("refused"),
            Some(Must::AtMost(0.0)),
        );
        for row in &mut refused {
            row.ratio = None;
            row.counted = row.side == OURS;
        }
        bench.add(refused);
        for side in SIDES {
            plot.point(side, writers as f64, rates.of(side).median);
        }
    }
    bench.plots.push(plot);
    Ok(())
}

async fn play(
    bench: &Bench,
    place: &Place<Sqlite>,
    pool: &SqlitePool,
    bus: &SqliteBus,
    side: &str,
    writers: usize,
) -> Result<(f64, Seen)> {
    clear(place).await?;
    let (waits, refused) = (
        Arc::new(Mutex::new(Vec::new())),
        Arc::new(AtomicU64::new(0)),
    );
    let (bus, pool, is_ours) = (bus.clone(), pool.clone(), side == OURS);
    let (seen, count) = (Arc::clone(&waits), Arc::clone(&refused));
    let done = load::writers(writers, bench.time(6.0), move |n| {
        let (bus, pool, seen, count) = (
            bus.clone(),
            pool.clone(),
            Arc::clone(&seen),
            Arc::clone(&count),
        );
        async move {
            let asked = Instant::now();
            let begun = match is_ours {
                true => bus.begin().await.map_err(BoxError::from),
                false => pool
                    .begin_with("BEGIN IMMEDIATE")
                    .await
                    .map_err(BoxError::from),
            };
            seen.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(ms(asked.elapsed()));
            let Ok(mut tx) = begun else {
                count.fetch_add(1, Relaxed);
                return Ok(());
            };
            Sqlite::insert_order(&mut tx, n).await?;
            let order = Order::new(n);
            if is_ours {
                let mut txbus = bus.with_tx(tx);
                txbus.publish(TOPIC, &order).await?;
                return Ok(txbus.commit().await?);
            }
            Sqlite::insert_record(&mut tx, Uuid::now_v7(), TOPIC, &order.encode()?, None).await?;
            Ok(tx.commit().await?)
        }
    })
    .await?;
    let mut waits = std::mem::take(&mut *waits.lock().unwrap_or_else(PoisonError::into_inner));
    waits.sort_by(f64::total_cmp);
    let refused = refused.load(Relaxed);
    let done = (done.count - refused) as f64 / done.took.as_secs_f64();
    Ok((done, Seen { waits, refused }))
}
