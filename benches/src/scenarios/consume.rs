//! From RabbitMQ to handlers, as fast as it goes.

use std::{
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

use final_core::middleware::{CatchPanicLayer, TraceLayer};
use sqlx::Sqlite;
use tower::timeout::TimeoutLayer;

use super::ours;
use crate::{
    Result,
    bench::Bench,
    db::{Db, SERVICE},
    hand,
    load::until,
    payload::Order,
    row::Must,
    sides::{OURS, rounds},
};

pub(super) async fn run(bench: &mut Bench) -> Result<()> {
    let messages = bench.count(100_000);
    // The database has nothing to do with it.
    let place = Sqlite::fresh().await?;
    let vhost = final_tests::amqp_vhost().await?;
    ours::make_queue(&place.pool, vhost.url()).await?;
    let connection = hand::connect(vhost.url()).await?;
    let payload = Order::new(1).encode()?;
    let series = rounds(bench.rounds(15), &[OURS, "lapin alone"], async |side| {
        hand::publish_many(&connection, ("", SERVICE), messages, &payload).await?;
        let took = if side == OURS {
            let bus = ours::bus(&place.pool, vhost.url()).await?;
            let (router, handled) = ours::counting(|_| ());
            let router = router
                .layer(TimeoutLayer::new(Duration::from_secs(30)))
                .layer(CatchPanicLayer::new())
                .layer(TraceLayer::new());
            let start = Instant::now();
            bus.start(router).await?;
            let all = async || Ok(handled.load(Relaxed) >= messages);
            until("for all messages to be handled", all).await?;
            let took = start.elapsed();
            bus.shutdown().await?;
            took
        } else {
            hand::consume(&connection, SERVICE, messages).await?
        };
        Ok(messages as f64 / took.as_secs_f64())
    })
    .await?;
    let must = Some(Must::RatioAtLeast(0.9));
    bench.add(series.rows("consume", "-", "messages/s", must));
    Ok(())
}
