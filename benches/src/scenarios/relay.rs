//! From the outbox to RabbitMQ, as fast as it goes.

use std::time::Instant;

use sqlx::{MySql, Postgres, Sqlite};

use super::ours;
use crate::{
    Result,
    bench::Bench,
    db::{Db, SERVICE},
    hand,
    payload::{Order, TOPIC},
    row::Must,
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
    let records = bench.count(100_000);
    let place = DB::fresh().await?;
    let vhost = final_tests::amqp_vhost().await?;
    ours::make_queue(&place.pool, vhost.url()).await?;
    let connection = hand::connect(vhost.url()).await?;
    let channel = connection.create_channel().await?;
    let payload = Order::new(1).encode()?;
    let series = rounds(bench.rounds(5), &[OURS, "lapin alone"], async |side| {
        let took = if side == OURS {
            let bus = ours::bus(&place.pool, vhost.url()).await?;
            ours::fill(&bus, records).await?;
            let start = Instant::now();
            // It starts with an empty router: nobody consumes on either side.
            bus.start(final_core::Router::new()).await?;
            ours::relayed(&place.pool, std::slice::from_ref(&bus), records).await?;
            let took = start.elapsed();
            bus.shutdown().await?;
            took
        } else {
            hand::publish_many(&connection, (TOPIC, TOPIC), records, &payload).await?
        };
        hand::purge(&channel, SERVICE).await?;
        Ok(records as f64 / took.as_secs_f64())
    })
    .await?;
    let must = Some(Must::RatioAtLeast(0.85));
    bench.add(series.rows("relay", DB::LABEL, "messages/s", must));
    Ok(())
}
