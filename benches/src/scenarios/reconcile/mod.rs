//! Comparing two tables: beside the same digests asked for by hand, beside reading all rows, and beside other programs.
//!
//! Both tables have the same rows, in databases of one server of each kind. This process and both servers share the
//! machine.

mod bare;
mod ours;
mod peers;
mod tables;
mod wire;

use std::time::Instant;

use sqlx::{MySql, Postgres};

pub(crate) use self::ours::{COMPARER, compare};
use self::tables::Table;
use crate::{
    Result,
    bench::Bench,
    row::{Must, Row, Spread, ratios},
    sides::{OURS, rounds},
};

const NAME: &str = "reconcile";
const BARE: &str = "bare statements";
const ALL_ROWS: &str = "all rows read";

/// Rows of each table, if the caller says nothing else.
const ROWS: u64 = 10_000_000;

pub(super) async fn run(bench: &mut Bench) -> Result<()> {
    let rows = bench.rows(ROWS);
    let with_postgres = bench.wants::<Postgres>();
    let with_mariadb = bench.wants::<MySql>();
    let mut postgres = Vec::new();
    let mut mariadb = Vec::new();
    for _ in 0..2 {
        if with_postgres {
            postgres.push(Table::postgres(rows).await?);
        }
        if with_mariadb {
            mariadb.push(Table::mariadb(rows).await?);
        }
    }
    if let ([source, ..], [target, ..]) = (postgres.as_slice(), mariadb.as_slice()) {
        pair(bench, "both", source, target).await?;
        wire::run(bench).await?;
    }
    if let [source, target] = postgres.as_slice() {
        pair(bench, "postgres", source, target).await?;
    }
    if let [source, target] = mariadb.as_slice() {
        pair(bench, "mariadb", source, target).await?;
    }
    peers::run(bench, &postgres, &mariadb).await
}

/// One pair of tables: equal, and with one row in a thousand different.
async fn pair(bench: &mut Bench, db: &'static str, source: &Table, target: &Table) -> Result<()> {
    let rows = source.rows as f64;
    let sides = [OURS, BARE, ALL_ROWS];
    let mut took = Vec::new();
    let series = rounds(bench.rounds(3), &sides, async |side| {
        let begun = Instant::now();
        match side {
            OURS => ours::equal(source, target).await?,
            BARE => bare::digests(source, target).await?,
            _ => bare::all_rows(source, target).await?,
        }
        let seconds = begun.elapsed().as_secs_f64();
        if side == OURS {
            took.push(seconds);
        }
        Ok(rows / seconds)
    })
    .await?;
    let metric = format!("rows/s, {} equal", source.rows);
    bench.add(series.rows(NAME, db, &metric, Some(Must::RatioAtLeast(0.85))));
    let metric = format!("seconds, {} equal", source.rows);
    let mut row = Row::alone(NAME, OURS, db, metric, &took);
    if source.rows == ROWS {
        row = row.must(Must::Below(60.0));
    }
    bench.add([row]);

    let equal = ours::in_child(source, target)?;
    target.change_one_in_a_thousand().await?;
    let different = ours::in_child(source, target)?;
    target.change_back().await?;
    if different.differences == 0 || equal.differences != 0 {
        return Err(format!("{} differences were found", different.differences).into());
    }
    let took = [different.seconds];
    let row = Row {
        ratio: Some(ratios(&took, &[equal.seconds])),
        ..Row::alone(
            NAME,
            OURS,
            db,
            "seconds, 1 in 1,000 different, with equal",
            &took,
        )
    };
    bench.add([
        row.must(Must::RatioAtMost(2.0)),
        Row {
            ratio: Some(Spread::of(&[different.peak_mib / equal.peak_mib])),
            ..Row::alone(
                NAME,
                OURS,
                db,
                "MiB at most, 1 in 1,000 different",
                &[different.peak_mib],
            )
        },
        Row::alone(NAME, OURS, db, "MiB at most, equal", &[equal.peak_mib])
            .must(Must::Below(100.0)),
    ]);
    Ok(())
}
