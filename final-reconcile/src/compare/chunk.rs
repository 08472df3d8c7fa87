//! Finds the rows of a chunk that differ.
//!
//! Input: a chunk whose digests were not the same. Output: sink. Memory: the keys and hashes of the source's rows,
//! which are bounded by the size of a chunk, and one page of the target.

use std::collections::HashMap;

use super::{Sides, Sink};
use crate::{
    error::Reconciled,
    form::{Row, RowHash},
    side::{Chunk, Found, Of, Reader, page::PageSize},
};

/// Rows of the largest page.
const PAGE: u64 = 5_000;

/// Rows up to this size cost less to fetch than to hash.
pub(super) const SMALL_ROW: u64 = 256;

/// Compares a chunk row by row. Returns how many rows the source has in it.
pub(super) async fn find(
    sides: &Sides,
    chunk: &Chunk,
    of: Of,
    sink: &mut dyn Sink,
) -> Reconciled<u64> {
    let mut pages = Pages::new(&*sides.target, chunk, of);
    let (source, first) = tokio::join!(all(&*sides.source, chunk, of), pages.next());
    let mut source = source?;
    let rows = source.len() as u64;
    let mut page = first?;
    while let Some(found) = page {
        for found in found {
            match source.remove(&found.key) {
                Some(hash) if hash == found.hash => {}
                hash => sink.add(found.key, hash, Some(found.hash)),
            }
        }
        sink.make_room().await?;
        page = pages.next().await?;
    }
    for (key, hash) in source {
        sink.add(key, Some(hash), None);
    }
    sink.make_room().await?;
    Ok(rows)
}

async fn all(reader: &dyn Reader, chunk: &Chunk, of: Of) -> Reconciled<HashMap<Row, RowHash>> {
    let mut rows = HashMap::new();
    let mut pages = Pages::new(reader, chunk, of);
    while let Some(page) = pages.next().await? {
        rows.extend(page.into_iter().map(|found| (found.key, found.hash)));
    }
    Ok(rows)
}

/// The pages of a chunk, one after the other.
struct Pages<'r> {
    reader: &'r dyn Reader,
    rest: Option<Chunk>,
    of: Of,
    size: PageSize,
}

impl<'r> Pages<'r> {
    fn new(reader: &'r dyn Reader, chunk: &Chunk, of: Of) -> Self {
        Self {
            reader,
            rest: Some(chunk.clone()),
            of,
            size: PageSize::new(PAGE),
        }
    }

    async fn next(&mut self) -> Reconciled<Option<Vec<Found>>> {
        let Some(mut rest) = self.rest.take() else {
            return Ok(None);
        };
        let asked = self.size.rows();
        let page = self.reader.page(&rest, asked, self.of).await?;
        self.size.fit(&page);
        if page.len() as u64 >= asked {
            rest.go_on(page.last(), self.reader.shown())?;
            self.rest = Some(rest);
        }
        Ok(Some(page))
    }
}
