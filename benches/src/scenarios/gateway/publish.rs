//! 32 clients that publish and wait for the answer: one message each, or 16.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::Pool;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::{TOPIC, VALUE, gateway, publishers, set, xadd};
use crate::{
    Result,
    bench::Bench,
    db::{Db, Place},
    hand::{Redis, RespClient},
    load,
    row::Must,
    sides::{OURS, rounds},
};

const CLIENTS: usize = 32;
const BY_HAND: &str = "one COMMIT each";
const REDIS: &str = "Redis Streams";

pub(super) async fn one_at_a_time<DB: Db>(
    bench: &mut Bench,
    place: &Place<DB>,
    redis: Option<&Redis>,
) -> Result<()> {
    let must = Some(Must::RatioAtLeast(2.0));
    let metric = "messages/s, 32 clients, one at a time";
    run(bench, place, redis, 1, metric, must).await
}

pub(super) async fn pipelined<DB: Db>(
    bench: &mut Bench,
    place: &Place<DB>,
    redis: Option<&Redis>,
) -> Result<()> {
    let metric = "messages/s, 32 clients, 16 at a time";
    run(bench, place, redis, 16, metric, None).await
}

async fn run<DB: Db>(
    bench: &mut Bench,
    place: &Place<DB>,
    redis: Option<&Redis>,
    at_once: usize,
    metric: &str,
    must: Option<Must>,
) -> Result<()> {
    let (running, address) = gateway(&place.pool).await?;
    let mut sides = vec![OURS, BY_HAND];
    sides.extend(redis.map(|_| REDIS));
    let series = rounds(bench.rounds(5), &sides, async |side| {
        DB::execute(&place.pool, "DELETE FROM final_log").await?;
        let time = bench.time(3.0);
        match side {
            OURS => {
                let clients = publishers(address, CLIENTS).await?;
                pipelines(clients, set(), at_once, time).await
            }
            BY_HAND => {
                let pool = place.pool.clone();
                let work = move |_| alone::<DB>(pool.clone());
                Ok(load::writers(CLIENTS, time, work).await?.per_second())
            }
            _ => {
                let address = redis.ok_or("no Redis")?.address();
                let mut clients = Vec::new();
                for _ in 0..CLIENTS {
                    clients.push(RespClient::connect(address).await?);
                }
                pipelines(clients, xadd(), at_once, time).await
            }
        }
    })
    .await?;
    running.shutdown().await;
    let mut rows = series.rows("gateway", DB::LABEL, metric, must);
    if at_once > 1
        && DB::LABEL == "postgres"
        && let Some(ours) = rows.first_mut()
    {
        *ours = ours.clone().must(Must::AtLeast(30_000.0));
    }
    bench.add(rows);
    Ok(())
}

/// A message that its client commits by itself, on a connection of its own.
async fn alone<DB: Db>(pool: Pool<DB>) -> Result<()> {
    let mut conn = pool.acquire().await?;
    DB::insert_log(&mut conn, Uuid::now_v7(), TOPIC, VALUE).await
}

/// Each client writes so many commands, reads their answers, and begins again. Commands per second.
async fn pipelines(
    clients: Vec<RespClient>,
    command: Vec<u8>,
    at_once: usize,
    time: Duration,
) -> Result<f64> {
    let commands: Arc<[u8]> = command.repeat(at_once).into();
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for mut client in clients {
        let commands = Arc::clone(&commands);
        tasks.spawn(async move {
            let mut count = 0_u64;
            while start.elapsed() < time {
                client.send(&commands).await?;
                for _ in 0..at_once {
                    client.reply().await?;
                }
                count += at_once as u64;
            }
            Ok::<_, crate::BoxError>(count)
        });
    }
    let mut count = 0;
    while let Some(done) = tasks.join_next().await {
        count += done??;
    }
    Ok(count as f64 / start.elapsed().as_secs_f64())
}
