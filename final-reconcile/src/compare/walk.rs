//! Goes through both tables chunk by chunk.
//!
//! Input: both tables. State: the key up to which they were compared, and the size of the next chunk. Output: suspects,
//! and how far the walk is.
//!
//! The source says where a chunk ends; the target is asked for the same range. Each row of either side is in at least one
//! range, whatever order its index has. A chunk that is too large for a server is halved. So equal digests of all ranges prove that the tables agree; an order that is not
//! the same only costs time.

use std::time::{Duration, Instant};

use super::{Comparison, Sides, Walked, chunk, suspects::Suspects};
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
pub(super) struct Walk<'w> {
    sides: &'w Sides,
    walked: Walked,
    tell: &'w mut (dyn FnMut(&Walked) + Send),
    size: u64,
}

impl<'w> Walk<'w> {
    pub(super) fn new(
        sides: &'w Sides,
        estimate: Option<u64>,
        tell: &'w mut (dyn FnMut(&Walked) + Send),
    ) -> Self {
        let walked = Walked {
            of: estimate,
            ..Walked::default()
        };
        Self {
            sides,
            walked,
            tell,
            size: FIRST,
        }
    }

    /// Range by range of the key.
    pub(super) async fn ranges(
        &mut self,
        suspects: &mut Suspects<'_>,
        comparison: &mut Comparison,
    ) -> Reconciled<()> {
        let mut chunk = Chunk {
            until: self.sides.source.boundary(None, self.size).await?,
            ..Chunk::default()
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
                false => self.differs(&chunk, &source, suspects, comparison).await?,
            };
            self.tell(suspects, comparison).await?;
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
    pub(super) async fn buckets(
        &mut self,
        suspects: &mut Suspects<'_>,
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
                self.group(std::mem::take(&mut group).1, suspects, comparison)
                    .await?;
            }
        }
        self.group(group.1, suspects, comparison).await?;
        self.tell(suspects, comparison).await
    }

    async fn group(
        &mut self,
        buckets: Vec<String>,
        suspects: &mut Suspects<'_>,
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
        chunk::find(self.sides, &chunk, Of::Hashes, suspects).await?;
        self.tell(suspects, comparison).await
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
        suspects: &mut Suspects<'_>,
        comparison: &mut Comparison,
    ) -> Reconciled<u64> {
        comparison.differing_chunks += 1;
        let of = match source.bytes <= source.rows.saturating_mul(chunk::SMALL_ROW) {
            true => Of::Rows,
            false => Of::Hashes,
        };
        chunk::find(self.sides, chunk, of, suspects).await
    }

    /// The size of the next chunk, by the time and the bytes of the last one.
    fn fit(&mut self, took: Duration, source: &Digest, target: &Digest) {
        let bytes = source.bytes.max(target.bytes);
        if source.is_cut || bytes > MOST_BYTES || took > 2 * TIME {
            self.size = (self.size / 2).max(1);
        } else if took < TIME && bytes < MOST_BYTES / 2 {
            self.size = (self.size * 2).min(MOST);
        }
    }

    async fn tell(
        &mut self,
        suspects: &mut Suspects<'_>,
        comparison: &mut Comparison,
    ) -> Reconciled<()> {
        suspects.look().await?;
        self.walked = Walked {
            rows: comparison.rows,
            of: self.walked.of,
            chunks: comparison.chunks,
            suspects: suspects.len() as u64,
            differences: suspects.differences(),
        };
        (self.tell)(&self.walked);
        Ok(())
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
