//! Reading and decoding alone: our reader beside the client library and the database's own tool.

use std::time::{Duration, Instant};

use final_capture::{
    format::{Encoder, EncoderOptions},
    select::Selection,
    source::Event,
};

use super::{
    bare,
    source::{CaptureSource, TABLE},
};
use crate::{
    Result,
    bench::Bench,
    row::Must,
    sides::{OURS, rounds},
};

const BARE: &str = "bare client loop";
const ENCODED: &str = "ours, made messages";
/// So many bytes of events may be taken at once, as the engine does.
const MOST: usize = 256 << 10;

pub(super) async fn run(bench: &mut Bench, source: &CaptureSource) -> Result<()> {
    let tool = bare::tool_name(source);
    let sides = [OURS, BARE, tool, ENCODED];
    for (rows, per_transaction, what) in [
        (bench.count(300_000), u64::MAX, "one transaction of 300,000"),
        (bench.count(50_000), 1, "transactions of one row"),
    ] {
        let mut number = 0;
        let series = rounds(bench.rounds(5), &sides, async |side| {
            number += 1;
            let took = match side {
                OURS => ours(source, rows, per_transaction, number, false).await?,
                ENCODED => ours(source, rows, per_transaction, number, true).await?,
                side => {
                    let mark = bare::mark(source).await?;
                    source.load(1, rows, per_transaction).await?;
                    let took = match side {
                        BARE => bare::read(source, &mark, rows).await?,
                        _ => bare::by_tool(source, &mark).await?,
                    };
                    bare::unmark(source).await?;
                    took
                }
            };
            source.clear().await?;
            Ok(rows as f64 / took.as_secs_f64())
        })
        .await?;
        let metric = format!("rows/s decoded, {what}");
        let must = Some(Must::RatioAtLeast(0.8));
        bench.add(series.rows("capture", source.label(), &metric, must));
    }
    Ok(())
}

/// Reads so many rows with our reader, and makes messages of them if that is wanted.
async fn ours(
    source: &CaptureSource,
    rows: u64,
    per_transaction: u64,
    number: u64,
    encodes: bool,
) -> Result<Duration> {
    let name = format!("ours_{number}");
    let reader = source.reader(&name)?;
    let position = source.our_position(&*reader).await?;
    source.load(1, rows, per_transaction).await?;
    let selection = Selection::tables([TABLE]);
    let start = Instant::now();
    let mut opened = reader.open(&selection, Some(&position)).await?;
    let mut encoder = Encoder::new(
        EncoderOptions::new(selection.clone()),
        opened.identity.clone(),
    );
    let (mut count, mut events, mut messages) = (0, Vec::new(), Vec::new());
    while count < rows {
        opened.reader.read(&mut events, MOST).await?;
        for event in events.drain(..) {
            match event {
                Event::Row(row) => {
                    count += 1;
                    if encodes {
                        encoder.row(row, &mut messages)?;
                    }
                }
                Event::Begin(transaction) if encodes => encoder.begin(transaction),
                Event::Commit(point) if encodes => encoder.commit(&point, &mut messages),
                _ => {}
            }
        }
        messages.clear();
    }
    let took = start.elapsed();
    opened.reader.close().await;
    source.forget(&name).await?;
    Ok(took)
}
