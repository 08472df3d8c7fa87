//! Into the log: messages and position in one transaction, beside the same number of messages that are appended alone.

use std::time::{Duration, Instant};

use final_capture::target::Target;
use final_core::{Message, SqlBroker, broker::Broker as _};

use super::{
    hands_over,
    source::{CaptureSource, TOPIC},
    streams,
};
use crate::{
    Result,
    bench::Bench,
    db::{Db, Place},
    row::Must,
    sides::{OURS, rounds},
};

const APPENDED: &str = "messages appended alone";

pub(super) async fn run<DB: Db>(bench: &mut Bench, source: &CaptureSource) -> Result<()> {
    let place = DB::fresh().await?;
    SqlBroker::new(place.pool.clone()).migrate().await?;
    // A name each: the place of the positions stays.
    let mut number = 0;
    for (per_transaction, what) in [
        (u64::MAX, "one transaction of 200,000"),
        (100, "transactions of 100"),
    ] {
        let rows = bench.count(200_000) / 100 * 100;
        let rows = rows.max(100);
        let series = rounds(bench.rounds(5), &[OURS, APPENDED], async |side| {
            number += 1;
            let took = match side {
                OURS => captured(source, &place, rows, per_transaction, number).await?,
                _ => appended(&place, rows).await?,
            };
            DB::execute(&place.pool, "DELETE FROM final_log").await?;
            Ok(rows as f64 / took.as_secs_f64())
        })
        .await?;
        let metric = format!("rows/s into the log, {what}");
        let must = Some(Must::AtLeast(40_000.0));
        bench.add(series.rows("capture", source.label(), &metric, must));
    }
    Ok(())
}

/// Rows that are committed while nobody reads, from the open stream until all are in the log.
async fn captured<DB: Db>(
    source: &CaptureSource,
    place: &Place<DB>,
    rows: u64,
    per_transaction: u64,
    number: u64,
) -> Result<Duration> {
    let name = format!("log_{number}");
    let capture = || {
        let log = SqlBroker::new(place.pool.clone());
        Ok::<_, crate::BoxError>(
            source
                .capture(&name)?
                .to(Target::log(place.pool.clone(), log)),
        )
    };
    let running = capture()?.start().await?;
    streams(&running).await?;
    running.shutdown().await;
    source.load(1, rows, per_transaction).await?;
    let running = capture()?.start().await?;
    streams(&running).await?;
    let start = Instant::now();
    let took = hands_over(&running, rows, start).await?;
    running.shutdown().await;
    let there = DB::number(&place.pool, "SELECT count(*) FROM final_log").await?;
    if u64::try_from(there)? != rows {
        return Err(format!("{there} of {rows} rows are in the log").into());
    }
    source.forget(&name).await?;
    source.clear().await?;
    Ok(took)
}

/// The same number of messages of about the same size, appended in transactions of 1,000.
async fn appended<DB: Db>(place: &Place<DB>, rows: u64) -> Result<Duration> {
    let log = SqlBroker::new(place.pool.clone());
    let payload = message();
    let start = Instant::now();
    let mut left = rows;
    while left > 0 {
        let some = left.min(1_000);
        let messages: Vec<_> = (0..some)
            .map(|n| {
                Message::new(TOPIC, payload.clone())
                    .with_key(format!("shop.orders/{}", left - n))
                    .with_content_type("application/json")
            })
            .collect();
        log.publish(&messages, |_| false).await?;
        left -= some;
    }
    Ok(start.elapsed())
}

/// A payload as long as the message of an inserted row.
pub(super) fn message() -> Vec<u8> {
    let message = r#"{"op":"insert","schema":"shop","table":"orders","key":{"id":123456},"before":null,"after":{"id":123456,"customer":"a customer of the shop, whose name is not short","total":"34.56","placed":"2026-11-30T12:00:00.123456","note":"a note of the order 123456"},"tx":{"id":"0-1-123456","index":123456,"last":false},"at":"2026-11-30T12:00:00.000000Z","position":"gtid:0-1-123456"}"#;
    message.into()
}
