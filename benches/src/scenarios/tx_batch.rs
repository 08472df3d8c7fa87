//! Many messages in one transaction: one INSERT for all of them, beside one each.

use sqlx::{MySql, Postgres, Sqlite};

use super::{
    ours,
    tx::{NOWHERE, by_hand, clear},
};
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
    on::<Postgres>(bench, [2.0, 5.0]).await?;
    on::<MySql>(bench, [2.0, 5.0]).await?;
    on::<Sqlite>(bench, [1.3, 2.0]).await
}

async fn on<DB: Db>(bench: &mut Bench, musts: [f64; 2]) -> Result<()> {
    if !bench.wants::<DB>() {
        return Ok(());
    }
    let place = DB::fresh().await?;
    let bus = ours::bus(&place.pool, NOWHERE).await?;
    for (messages, must) in [10, 100].into_iter().zip(musts) {
        let series = rounds(bench.rounds(5), &[OURS, "an INSERT each"], async |side| {
            clear(&place).await?;
            let time = bench.time(2.0);
            let done = if side == OURS {
                let bus = bus.clone();
                load::writers(WRITERS, time, move |n| ours::transaction(&bus, n, messages)).await?
            } else {
                let pool = place.pool.clone();
                let work = move |n| by_hand::<DB>(pool.clone(), n, messages);
                load::writers(WRITERS, time, work).await?
            };
            Ok(done.per_second() * messages as f64)
        })
        .await?;
        let metric = format!("messages/s, {messages} in a transaction");
        let must = Some(Must::RatioAtLeast(must));
        bench.add(series.rows("tx-batch", DB::LABEL, &metric, must));
    }
    Ok(())
}
