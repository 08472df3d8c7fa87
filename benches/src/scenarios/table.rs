//! Whether what is kept in the table costs those who write into it.

use sqlx::{MySql, Postgres, Sqlite};

use super::ours;
use crate::{
    Result,
    bench::Bench,
    db::Db,
    load,
    row::Must,
    sides::{OURS, rounds},
};

const WRITERS: usize = 8;

pub(super) async fn run(bench: &mut Bench) -> Result<()> {
    on::<Postgres>(bench).await?;
    on::<MySql>(bench).await?;
    on::<Sqlite>(bench).await
}

async fn on<DB: Db>(bench: &mut Bench) -> Result<()> {
    if !bench.wants::<DB>() {
        return Ok(());
    }
    // Two outboxes side by side, so that the machine's moods meet both.
    let (full, empty) = (DB::fresh().await?, DB::fresh().await?);
    let kept = ours::bus(&full.pool, super::tx::NOWHERE).await?;
    let fresh = ours::bus(&empty.pool, super::tx::NOWHERE).await?;
    for _ in 0..bench.kept_steps() {
        DB::execute(&full.pool, DB::KEEP).await?;
    }
    if DB::LABEL == "postgres" {
        DB::execute(&full.pool, "VACUUM ANALYZE final_bench_outbox").await?;
    }
    let time = bench.time(2.0);
    let series = rounds(bench.rounds(9), &[OURS, "empty table"], async |side| {
        let bus = if side == OURS {
            kept.clone()
        } else {
            fresh.clone()
        };
        let done = load::writers(WRITERS, time, move |n| ours::transaction(&bus, n, 1)).await?;
        Ok(done.per_second())
    })
    .await?;
    let must = Some(Must::RatioAtLeast(0.95));
    let metric = "tx/s, 8 writers, 5,000,000 acked kept";
    bench.add(series.rows("table", DB::LABEL, metric, must));
    Ok(())
}
