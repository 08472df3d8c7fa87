//! To RabbitMQ, beside messages of the same size that are published and confirmed with lapin alone. And in the order of the
//! table, where one message is in flight at a time.

use std::time::{Duration, Instant};

use final_amqp::Amqp;
use final_capture::{format::Order, position::Positions, target::Target};

use super::{
    hands_over,
    log::message,
    source::{CaptureSource, TOPIC},
    streams,
};
use crate::{
    Result,
    bench::Bench,
    db::{Db, Place},
    hand::{self, publish_many, purge},
    row::{Must, Row},
    sides::{OURS, rounds},
};

const RAW: &str = "lapin alone";
const QUEUE: &str = "bench-capture";

pub(super) async fn run<DB: Db>(bench: &mut Bench, source: &CaptureSource) -> Result<()> {
    let place = DB::fresh().await?;
    let vhost = final_tests::amqp_vhost().await?;
    let connection = hand::connect(vhost.url()).await?;
    let channel = connection.create_channel().await?;
    // What the bus would declare: an exchange for the topic, and a quorum queue of a service that has subscribed it.
    hand::declare(&channel, TOPIC, QUEUE).await?;
    // RabbitMQ writes its files when it likes, so that a round of two seconds differs from the next by a third.
    let rows = bench.count(150_000);
    let mut number = 0;
    let series = rounds(bench.rounds(7), &[OURS, RAW], async |side| {
        number += 1;
        let took = match side {
            OURS => {
                let order = Order::Row;
                captured(source, &place, vhost.url(), (rows, order), number).await?
            }
            _ => publish_many(&connection, (TOPIC, ""), rows, &message()).await?,
        };
        purge(&channel, QUEUE).await?;
        Ok(rows as f64 / took.as_secs_f64())
    })
    .await?;
    let metric = "rows/s to RabbitMQ, confirmed";
    let must = Some(Must::RatioAtLeast(0.85));
    bench.add(series.rows("capture", source.label(), metric, must));

    let rows = bench.count(2_000);
    let mut speeds = Vec::new();
    for _ in 0..bench.rounds(3) {
        number += 1;
        let order = Order::Table;
        let took = captured(source, &place, vhost.url(), (rows, order), number).await?;
        speeds.push(rows as f64 / took.as_secs_f64());
        purge(&channel, QUEUE).await?;
    }
    let metric = "rows/s to RabbitMQ in the order of the table";
    bench.add([Row::alone("capture", OURS, source.label(), metric, &speeds)]);
    Ok(())
}

async fn captured<DB: Db>(
    source: &CaptureSource,
    place: &Place<DB>,
    amqp: &str,
    (rows, order): (u64, Order),
    number: u64,
) -> Result<Duration> {
    let name = format!("rabbit_{number}");
    let capture = || {
        let positions = Positions::database(place.pool.clone());
        let target = Target::broker(Amqp::new(amqp)?, positions);
        Ok::<_, crate::BoxError>(source.capture(&name)?.order(order).to(target))
    };
    let running = capture()?.start().await?;
    streams(&running).await?;
    running.shutdown().await;
    source.load(1, rows, 100).await?;
    let running = capture()?.start().await?;
    streams(&running).await?;
    let start = Instant::now();
    let took = hands_over(&running, rows, start).await?;
    running.shutdown().await;
    source.forget(&name).await?;
    source.clear().await?;
    Ok(took)
}
