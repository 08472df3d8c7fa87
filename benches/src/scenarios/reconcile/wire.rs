//! How many bytes a chunk of equal rows costs on the wire of each side.

use super::{
    NAME, ours,
    tables::{TABLE, Table, side_at},
};
use crate::{
    Result,
    bench::Bench,
    row::{Must, Row},
    sides::OURS,
    wire::{Protocol, Wire},
};

/// Rows of the table in which many chunks are.
const MANY: u64 = 1_000_000;

/// Rows of the other, whose bytes are those of everything else: catalogs, and the beginning of a walk.
const FEW: u64 = 10;

pub(super) async fn run(bench: &mut Bench) -> Result<()> {
    let mut carried = Vec::new();
    for rows in [bench.count(MANY), FEW] {
        let tables = [Table::postgres(rows).await?, Table::mariadb(rows).await?];
        let [postgres, mariadb] = [&tables[0], &tables[1]].map(Table::url);
        let wires = [
            Wire::to(postgres, Protocol::Postgres).await?,
            Wire::to(mariadb, Protocol::MySql).await?,
        ];
        let source = side_at(&wires[0].url(postgres)?, TABLE)?;
        let target = side_at(&wires[1].url(mariadb)?, TABLE)?;
        // Each connection prepares a statement once for each size of a chunk, so the least of some runs is without that.
        let mut runs = Vec::new();
        for _ in 0..bench.rounds(8) {
            let before = [&wires[0], &wires[1]].map(|wire| wire.counts().bytes);
            let comparison = ours::compared(source.clone(), target.clone()).await?;
            let after = [&wires[0], &wires[1]].map(|wire| wire.counts().bytes);
            runs.push((
                comparison.chunks,
                [after[0] - before[0], after[1] - before[1]],
            ));
        }
        carried.push(runs);
    }
    let [many, few] = carried.as_slice() else {
        return Ok(());
    };
    for (at, db) in ["postgres", "mariadb"].into_iter().enumerate() {
        let once = few
            .iter()
            .map(|(_, bytes)| bytes[at])
            .min()
            .unwrap_or_default();
        let of_chunk = |(chunks, bytes): &(u64, [u64; 2])| {
            bytes[at].saturating_sub(once) as f64 / chunks.saturating_sub(1).max(1) as f64
        };
        let bytes = many.iter().map(of_chunk).fold(f64::INFINITY, f64::min);
        let row = Row::alone(NAME, OURS, db, "bytes on the wire for a chunk", &[bytes]);
        bench.add([row.must(Must::Below(100.0))]);
    }
    Ok(())
}
