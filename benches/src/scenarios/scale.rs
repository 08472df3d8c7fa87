//! Several relays on one outbox: they must not be in each other's way, nor send anything twice.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use sqlx::{MySql, Postgres};

use super::ours;
use crate::{
    Result,
    bench::Bench,
    db::{Db, SERVICE},
    hand,
    payload::Order,
    row::{Must, Row},
    sides::{OURS, rounds},
};

pub(super) async fn run(bench: &mut Bench) -> Result<()> {
    on::<Postgres>(bench).await?;
    on::<MySql>(bench).await
}

async fn on<DB: Db>(bench: &mut Bench) -> Result<()> {
    if !bench.wants::<DB>() {
        return Ok(());
    }
    let records = bench.count(100_000);
    let place = DB::fresh().await?;
    let vhost = final_tests::amqp_vhost().await?;
    ours::make_queue(&place.pool, vhost.url()).await?;
    let connection = hand::connect(vhost.url()).await?;
    for instances in [2, 4] {
        let mut repeats = Vec::new();
        let series = rounds(bench.rounds(5), &[OURS, "one instance"], async |side| {
            let instances = if side == OURS { instances } else { 1 };
            ours::fill(&ours::bus(&place.pool, vhost.url()).await?, records).await?;
            let mut buses = Vec::new();
            for _ in 0..instances {
                buses.push(ours::bus(&place.pool, vhost.url()).await?);
            }
            let start = Instant::now();
            for bus in &buses {
                bus.start(final_core::Router::new()).await?;
            }
            ours::relayed(&place.pool, &buses, records).await?;
            let took = start.elapsed();
            for bus in buses {
                bus.shutdown().await?;
            }
            let sent = sent(&connection, records).await?;
            repeats.push((sent.0 - sent.1) as f64);
            Ok(records as f64 / took.as_secs_f64())
        })
        .await?;
        let metric = format!("records/s, {instances} instances");
        bench.add(series.rows("scale", DB::LABEL, &metric, Some(Must::RatioAtLeast(0.95))));
        let metric = format!("repeats, {instances} instances");
        bench.add([
            Row::alone("scale", "ours", DB::LABEL, metric, &repeats).must(Must::AtMost(0.0))
        ]);
    }
    Ok(())
}

/// How many messages are in the queue, and how many different ones. Takes them.
async fn sent(connection: &lapin::Connection, records: u64) -> Result<(usize, usize)> {
    let seen = Arc::new(Mutex::new((0, HashSet::new())));
    let note = |order: Order| {
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.0 += 1;
        seen.1.insert(order.id);
        true
    };
    let consuming = hand::consume_forever(connection, SERVICE, note);
    let all = async {
        let different = || seen.lock().unwrap_or_else(PoisonError::into_inner).1.len() as u64;
        let here = async || Ok(different() >= records);
        crate::load::until("for all messages in the queue", here).await?;
        // Repeats may stand behind the last one.
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        Ok::<_, crate::BoxError>(())
    };
    tokio::select! {
        ended = consuming => ended?,
        all = all => all?,
    }
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    Ok((seen.0, seen.1.len()))
}
