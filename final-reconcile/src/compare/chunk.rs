//! Finds the rows of a chunk that differ.
//!
//! Input: a chunk. Output: suspects. Memory: the keys and hashes of the source's rows, which are bounded by the size of a
//! chunk, and of about as many rows of the target; or the texts of both.

use std::collections::HashMap;

use super::{sink::Sink, texts::unlike};
use crate::{
    error::Reconciled,
    form::{Row, RowHash},
    pair::Sides,
    side::{Chunk, Found, Of, Reader, page::PageSize},
};

/// Rows of a chunk whose texts are read at once.
const MOST: u64 = 50_000;

/// Rows of the largest page.
const PAGE: u64 = 5_000;

/// Rows up to this size cost less to fetch than to hash.
pub(super) const SMALL_ROW: u64 = 256;

/// How many rows of the target are held at once, beside those of the source.
const AHEAD: usize = 25_000;

/// What was found in a chunk.
#[derive(Clone, Copy, Debug)]
pub(super) struct InChunk {
    /// Rows of the source.
    pub(super) rows: u64,
    /// Rows that look different.
    pub(super) differing: u64,
}

/// Compares a chunk row by row. Both sides are read at the same time.
pub(super) async fn find(
    sides: &Sides,
    chunk: &Chunk,
    of: Of,
    sink: &mut dyn Sink,
) -> Reconciled<InChunk> {
    if of == Of::Rows
        && let Some(found) = by_texts(sides, chunk, sink).await?
    {
        return Ok(found);
    }
    let mut in_target = Pages::new(&*sides.target, chunk, of);
    let mut in_source = Pages::new(&*sides.source, chunk, of);
    let (source, mut page) = tokio::try_join!(in_source.rest(), in_target.some(AHEAD))?;
    let rows = source.len() as u64;
    let named = source.into_iter().map(|found| (found.key, found.hash));
    let mut source: HashMap<Row, RowHash> = named.collect();
    let mut differing = 0;
    while !page.is_empty() {
        for found in page {
            match source.remove(&found.key) {
                Some(hash) if hash == found.hash => {}
                hash => {
                    differing += 1;
                    sink.add(found.key, hash, Some(found.hash));
                }
            }
        }
        sink.make_room().await?;
        page = in_target.some(AHEAD).await?;
    }
    differing += source.len() as u64;
    for (key, hash) in source {
        sink.add(key, Some(hash), None);
    }
    sink.make_room().await?;
    Ok(InChunk { rows, differing })
}

/// Compares the texts of a chunk. None if there is too much of them, or if they are no rows, which reading page by page
/// says why.
async fn by_texts(
    sides: &Sides,
    chunk: &Chunk,
    sink: &mut dyn Sink,
) -> Reconciled<Option<InChunk>> {
    let texts = tokio::try_join!(
        sides.source.texts(chunk, MOST),
        sides.target.texts(chunk, MOST)
    );
    let (Some(source), Some(target)) = texts? else {
        return Ok(None);
    };
    let Some((rows, unlike)) = unlike(&source, &target, &sides.forms, sides.keys, sides.hash)
    else {
        return Ok(None);
    };
    let differing = unlike.len() as u64;
    for (key, in_source, in_target) in unlike {
        sink.add(key, in_source, in_target);
    }
    sink.make_room().await?;
    Ok(Some(InChunk { rows, differing }))
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

    /// All rows that are left.
    async fn rest(&mut self) -> Reconciled<Vec<Found>> {
        self.some(usize::MAX).await
    }

    /// About so many rows; none at the end.
    async fn some(&mut self, enough: usize) -> Reconciled<Vec<Found>> {
        let mut all = Vec::new();
        while let Some(mut rest) = self.rest.take() {
            let asked = self.size.rows();
            let mut page = self.reader.page(&rest, asked, self.of).await?;
            self.size.fit(&page);
            if page.len() as u64 >= asked {
                rest.go_on(page.last(), self.reader.shown())?;
                self.rest = Some(rest);
            }
            // The hash is enough.
            page.iter_mut().for_each(|found| found.row = None);
            all.append(&mut page);
            if all.len() >= enough {
                break;
            }
        }
        Ok(all)
    }
}
