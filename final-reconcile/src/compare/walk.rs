//! Goes through both tables chunk by chunk.
//!
//! Input: both tables. State: the key up to which they were compared, and the size of the next chunk. Output: suspects,
//! and how far the walk is.
//!
//! The source says where a chunk ends; the target is asked for the same range. Each row of either side is in at least one
//! range, whatever order its index has. So equal digests of all ranges prove that the tables agree; an order that is not
//! the same only costs time. A chunk that is too large for a server is halved.
//!
//! Behind a chunk with many rows that differ stands most likely another one. Its rows are read at once: a digest would
//! make the servers put all of them together twice.

use std::time::{Duration, Instant};

use super::{
    chunk,
    report::{Comparison, Walked},
    sink::Sink,
};
use crate::{
    error::Reconciled,
    form::Row,
    pair::Sides,
    side::{Bucket, CHUNKS, Chunk, Digest, Of, Stretch, moved},
};

/// Rows of the first chunk.
const FIRST: u64 = 1_000;

/// Rows of the largest chunk, and its bytes.
const MOST: u64 = 20_000;
const MOST_BYTES: u64 = 4 * 1024 * 1024;

/// How many rows of a chunk have to differ, so that the next chunk most likely differs too.
const MANY: u64 = 3;

/// How long a statement should take that makes digests.
const TIME: Duration = Duration::from_millis(250);

/// Rows of a group of buckets that is read at once, and how many buckets a group has at most.
const GROUP: u64 = 50_000;
const MOST_BUCKETS: usize = 500;

/// The walk through two tables.
pub(crate) struct Walk<'w> {
    sides: &'w Sides,
    estimate: Option<u64>,
    from: Option<Row>,
    size: u64,
    most: u64,
    /// How the rows of the next chunk are read, if it most likely differs.
    by_rows: Option<Of>,
}

impl<'w> Walk<'w> {
    pub(crate) fn new(sides: &'w Sides, estimate: Option<u64>) -> Self {
        Self {
            sides,
            estimate,
            from: None,
            size: FIRST,
            most: MOST,
            by_rows: None,
        }
    }

    /// Goes on behind this key, in steps of at most so many rows.
    pub(crate) fn go_on(mut self, from: Option<Row>, most: u64) -> Self {
        self.from = from;
        self.most = (most / CHUNKS as u64).clamp(1, MOST);
        self.size = self.size.min(self.most);
        self
    }

    /// Range by range of the key.
    pub(crate) async fn ranges(
        &mut self,
        sink: &mut dyn Sink,
        comparison: &mut Comparison,
    ) -> Reconciled<()> {
        let from = self.from.take();
        let mut stretch = self.stretch(from).await?;
        loop {
            let next = match self.by_rows {
                Some(of) => {
                    for chunk in stretch.chunks() {
                        let differing = self.rows(&chunk, of, sink, comparison).await?;
                        comparison.differing_chunks += u64::from(differing);
                    }
                    None
                }
                None => {
                    let next = self.digests(&stretch, sink, comparison).await?;
                    if next.is_none() {
                        self.size /= 2;
                        stretch = self.stretch(stretch.after).await?;
                        continue;
                    }
                    next
                }
            };
            let walked = self.walked(comparison);
            sink.after_chunk(stretch.end(), walked).await?;
            let Some(end) = stretch.end().cloned() else {
                return Ok(());
            };
            stretch = match next {
                Some(next) => self.checked(Some(end), next)?,
                None => self.stretch(Some(end)).await?,
            };
        }
    }

    /// Compares chunks by their digests. Returns where the next ones end; none if a chunk is too large for its server.
    async fn digests(
        &mut self,
        stretch: &Stretch,
        sink: &mut dyn Sink,
        comparison: &mut Comparison,
    ) -> Reconciled<Option<Vec<Row>>> {
        let begun = Instant::now();
        // The target may have any number of rows in the range.
        let most = 2 * self.size + FIRST;
        let (source, target) = tokio::try_join!(
            self.sides.source.digests(stretch, most, Some(self.size)),
            self.sides.target.digests(stretch, most, None),
        )?;
        let took = begun.elapsed();
        let mut all = source.digests.iter().chain(&target.digests);
        if self.size > 1 && all.any(|digest| digest.is_too_large(most)) {
            return Ok(None);
        }
        self.fit(took, &source.digests, &target.digests);
        let pairs = source.digests.iter().zip(&target.digests);
        for (chunk, (source, target)) in stretch.chunks().zip(pairs) {
            if source.proves(target) {
                comparison.chunks += 1;
                comparison.rows += source.rows;
                self.by_rows = None;
                continue;
            }
            comparison.differing_chunks += 1;
            let of = match source.bytes <= source.rows.saturating_mul(chunk::SMALL_ROW) {
                true => Of::Rows,
                false => Of::Hashes,
            };
            self.rows(&chunk, of, sink, comparison).await?;
        }
        Ok(Some(source.next))
    }

    /// Compares a chunk by its rows. Returns whether any differs.
    async fn rows(
        &mut self,
        chunk: &Chunk,
        of: Of,
        sink: &mut dyn Sink,
        comparison: &mut Comparison,
    ) -> Reconciled<bool> {
        let found = chunk::find(self.sides, chunk, of, sink).await?;
        comparison.chunks += 1;
        comparison.rows += found.rows;
        self.by_rows = (found.differing >= MANY).then_some(of);
        Ok(found.differing > 0)
    }

    /// By buckets of hashed keys: both tables are read once for digests, and again for each group of buckets that differ.
    pub(crate) async fn buckets(
        &mut self,
        sink: &mut dyn Sink,
        comparison: &mut Comparison,
    ) -> Reconciled<()> {
        let (source, target) =
            tokio::try_join!(self.sides.source.buckets(), self.sides.target.buckets())?;
        comparison.chunks += source.len() as u64;
        comparison.rows = source.iter().map(|bucket| bucket.rows).sum();
        let mut group = (0, Vec::new());
        for (name, rows) in differing(source, target) {
            group.0 += rows;
            group.1.push(name);
            if group.0 >= GROUP || group.1.len() >= MOST_BUCKETS {
                self.group(std::mem::take(&mut group).1, sink, comparison)
                    .await?;
            }
        }
        self.group(group.1, sink, comparison).await?;
        sink.after_chunk(None, self.walked(comparison)).await
    }

    async fn group(
        &mut self,
        buckets: Vec<String>,
        sink: &mut dyn Sink,
        comparison: &mut Comparison,
    ) -> Reconciled<()> {
        if buckets.is_empty() {
            return Ok(());
        }
        comparison.differing_chunks += buckets.len() as u64;
        let chunk = Chunk {
            buckets: Some(buckets),
            ..Chunk::default()
        };
        chunk::find(self.sides, &chunk, Of::Hashes, sink).await?;
        sink.after_chunk(None, self.walked(comparison)).await
    }

    /// The next chunks behind a key.
    async fn stretch(&self, after: Option<Row>) -> Reconciled<Stretch> {
        let ends = self.sides.source.ends(after.as_ref(), self.size).await?;
        self.checked(after, ends)
    }

    fn checked(&self, after: Option<Row>, ends: Vec<Row>) -> Reconciled<Stretch> {
        let stretch = Stretch::new(after, ends);
        for chunk in stretch.chunks() {
            let shown = self.sides.source.shown();
            moved(chunk.after.as_ref(), chunk.until.as_ref(), shown)?;
        }
        Ok(stretch)
    }

    /// The size of the next chunks, by the time and the bytes of the last ones.
    fn fit(&mut self, took: Duration, source: &[Digest], target: &[Digest]) {
        let bytes = source.iter().chain(target).map(|digest| digest.bytes).max();
        let bytes = bytes.unwrap_or_default();
        let is_cut = source.iter().any(|digest| digest.is_cut);
        if is_cut || bytes > MOST_BYTES || took > 2 * TIME {
            self.size = (self.size / 2).max(1);
        } else if took < TIME && bytes < MOST_BYTES / 2 {
            self.size = (self.size * 2).min(self.most);
        }
    }

    /// How far the walk is. The sink adds what it knows.
    fn walked(&self, comparison: &Comparison) -> Walked {
        Walked {
            rows: comparison.rows,
            of: self.estimate,
            chunks: comparison.chunks,
            ..Walked::default()
        }
    }
}

/// The buckets that are not the same, and how many rows they have.
fn differing(source: Vec<Bucket>, target: Vec<Bucket>) -> Vec<(String, u64)> {
    let mut target: std::collections::HashMap<String, Bucket> = target
        .into_iter()
        .map(|bucket| (bucket.name.clone(), bucket))
        .collect();
    let mut differing = Vec::new();
    for bucket in source {
        match target.remove(&bucket.name) {
            Some(other) if other == bucket => {}
            other => {
                let rows = bucket.rows.max(other.map_or(0, |other| other.rows));
                differing.push((bucket.name, rows));
            }
        }
    }
    differing.extend(
        target
            .into_values()
            .map(|bucket| (bucket.name, bucket.rows)),
    );
    differing
}
