//! Goes through both tables chunk by chunk.
//!
//! Input: both tables. State: the key up to which they were compared, and the size of the next chunk. Output: suspects,
//! and how far the walk is.
//!
//! The source says where a chunk ends; the target is asked for the same range. Each row of either side is in at least one
//! range, whatever order its index has. A chunk that is too large for a server is halved. So equal digests of all ranges
//! prove that the tables agree; an order that is not the same only costs time.

use std::time::{Duration, Instant};

use super::{Comparison, Sides, Sink, Walked, chunk};
use crate::{
    error::Reconciled,
    form::Row,
    side::{Bucket, Chunk, Digest, Of, moved},
};

/// Rows of the first chunk.
const FIRST: u64 = 1_000;

/// Rows of the largest chunk, and its bytes.
const MOST: u64 = 20_000;
const MOST_BYTES: u64 = 4 * 1024 * 1024;

/// How long the digest of a chunk should take.
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
}

impl<'w> Walk<'w> {
    pub(crate) fn new(sides: &'w Sides, estimate: Option<u64>) -> Self {
        Self {
            sides,
            estimate,
            from: None,
            size: FIRST,
            most: MOST,
        }
    }

    /// Goes on behind this key, in chunks of at most so many rows.
    pub(crate) fn go_on(mut self, from: Option<Row>, most: u64) -> Self {
        self.from = from;
        self.most = most.clamp(1, MOST);
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
        let mut chunk = Chunk {
            until: self.end_of_chunk(from.as_ref()).await?,
            after: from,
            buckets: None,
        };
        loop {
            let begun = Instant::now();
            // The target may have any number of rows in the range.
            let most = 2 * self.size + FIRST;
            let (source, target, next) = tokio::try_join!(
                self.sides.source.digest(&chunk, most),
                self.sides.target.digest(&chunk, most),
                self.boundary(chunk.until.as_ref()),
            )?;
            let is_too_large = source.is_too_large(most) || target.is_too_large(most);
            if is_too_large && self.size > 1 {
                self.size /= 2;
                let after = chunk.after.as_ref();
                chunk.until = self.end_of_chunk(after).await?;
                continue;
            }
            self.fit(begun.elapsed(), &source, &target);
            comparison.chunks += 1;
            comparison.rows += match source.proves(&target) {
                true => source.rows,
                false => self.differs(&chunk, &source, sink, comparison).await?,
            };
            let walked = self.walked(comparison);
            sink.after_chunk(chunk.until.as_ref(), walked).await?;
            if chunk.until.is_none() {
                return Ok(());
            }
            chunk = Chunk {
                after: chunk.until,
                until: next,
                buckets: None,
            };
        }
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

    async fn boundary(&self, after: Option<&Row>) -> Reconciled<Option<Row>> {
        match after {
            Some(after) => self.end_of_chunk(Some(after)).await,
            None => Ok(None),
        }
    }

    async fn end_of_chunk(&self, after: Option<&Row>) -> Reconciled<Option<Row>> {
        let source = &self.sides.source;
        let next = source.boundary(after, self.size).await?;
        moved(after, next.as_ref(), source.shown())?;
        Ok(next)
    }

    /// The rows of a chunk whose digests were not the same.
    async fn differs(
        &mut self,
        chunk: &Chunk,
        source: &Digest,
        sink: &mut dyn Sink,
        comparison: &mut Comparison,
    ) -> Reconciled<u64> {
        comparison.differing_chunks += 1;
        let of = match source.bytes <= source.rows.saturating_mul(chunk::SMALL_ROW) {
            true => Of::Rows,
            false => Of::Hashes,
        };
        chunk::find(self.sides, chunk, of, sink).await
    }

    /// The size of the next chunk, by the time and the bytes of the last one.
    fn fit(&mut self, took: Duration, source: &Digest, target: &Digest) {
        let bytes = source.bytes.max(target.bytes);
        if source.is_cut || bytes > MOST_BYTES || took > 2 * TIME {
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
