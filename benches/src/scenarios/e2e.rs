//! The whole way, sustained: writers, relay, RabbitMQ, handlers, and an empty outbox at the end.

use std::{
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

use sqlx::{MySql, Postgres};

use super::ours;
use crate::{
    Result,
    bench::Bench,
    db::{Db, Place},
    hand::Twin,
    load::{self, until},
    row::Must,
    sides::{OURS, rounds},
};

const WRITERS: usize = 32;

pub(super) async fn run(bench: &mut Bench) -> Result<()> {
    on::<Postgres>(bench).await?;
    on::<MySql>(bench).await
}

async fn on<DB: Db>(bench: &mut Bench) -> Result<()> {
    if !bench.wants::<DB>() {
        return Ok(());
    }
    let place = DB::fresh().await?;
    let vhost = final_tests::amqp_vhost().await?;
    let time = bench.time(5.0);
    ours::bus(&place.pool, vhost.url()).await?;
    let series = rounds(bench.rounds(7), &[OURS, "the twin by hand"], async |side| {
        super::tx::clear(&place).await?;
        match side {
            OURS => our_rate(&place, vhost.url(), time).await,
            _ => twin_rate(&place, vhost.url(), time).await,
        }
    })
    .await?;
    let must = Some(Must::RatioAtLeast(0.95));
    bench.add(series.rows("e2e", DB::LABEL, "messages/s, 32 writers", must));
    Ok(())
}

pub(super) async fn our_rate<DB: Db>(place: &Place<DB>, amqp: &str, time: Duration) -> Result<f64> {
    let bus = ours::bus(&place.pool, amqp).await?;
    let (router, handled) = ours::counting(|_| ());
    bus.start(router).await?;
    let start = Instant::now();
    let writer = bus.clone();
    let done = load::writers(WRITERS, time, move |n| ours::transaction(&writer, n, 1)).await?;
    let all = async || Ok(handled.load(Relaxed) >= done.count);
    until("for all messages to be handled", all).await?;
    ours::emptied(&place.pool).await?;
    let took = start.elapsed();
    bus.shutdown().await?;
    Ok(done.count as f64 / took.as_secs_f64())
}

async fn twin_rate<DB: Db>(place: &Place<DB>, amqp: &str, time: Duration) -> Result<f64> {
    let twin = std::sync::Arc::new(Twin::start(&place.pool, amqp, |_| ()).await?);
    let start = Instant::now();
    let writer = std::sync::Arc::clone(&twin);
    let done = load::writers(WRITERS, time, move |n| writer.transaction(n, 1)).await?;
    let all = async || Ok(twin.handled() >= done.count);
    until("for all messages to be handled", all).await?;
    ours::emptied(&place.pool).await?;
    let took = start.elapsed();
    if let Some(twin) = std::sync::Arc::into_inner(twin) {
        twin.stop().await;
    }
    Ok(done.count as f64 / took.as_secs_f64())
}
