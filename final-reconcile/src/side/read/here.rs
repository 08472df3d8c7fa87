//! Digests of rows that were read into this process, the same as a server makes.
//!
//! Input: pages of a [`Reader`]. Output: digests. Memory: one page, and two sums for each bucket.

use std::collections::HashMap;

use crate::{
    error::Reconciled,
    form::here,
    plan::SidePlan,
    side::{
        chunk::{Chunk, MOST_TEXT, Stretch},
        digest::{Bucket, Digest, Digests},
        page::PageSize,
        reader::{Of, Reader},
    },
};

/// Rows of the largest page.
const PAGE: u64 = 2_000;

/// The digests of chunks, and where the next ones end.
pub(super) async fn digests_here(
    reader: &dyn Reader,
    plan: &SidePlan,
    stretch: &Stretch,
    most: u64,
    next: Option<u64>,
) -> Reconciled<Digests> {
    let mut digests = Vec::with_capacity(stretch.ends.len());
    for chunk in stretch.chunks() {
        digests.push(digest_here(reader, plan, &chunk, most).await?);
    }
    let next = match (stretch.end(), next) {
        (Some(end), Some(rows)) => reader.ends(Some(end), rows).await?,
        _ => Vec::new(),
    };
    Ok(Digests { digests, next })
}

async fn digest_here(
    reader: &dyn Reader,
    plan: &SidePlan,
    chunk: &Chunk,
    most: u64,
) -> Reconciled<Digest> {
    let mut digest = Digest::default();
    let mut hash = plan.hash.begin();
    let mut rest = chunk.clone();
    let mut size = PageSize::new(PAGE);
    loop {
        let asked = size.rows();
        let page = reader.page(&rest, asked, Of::Rows).await?;
        size.fit(&page);
        for row in page.iter().filter_map(|found| found.row.as_ref()) {
            digest.rows += 1;
            digest.bytes += row.0.len() as u64;
            hash.add(&row.0);
        }
        digest.is_cut = digest.rows > most;
        if digest.is_cut || (page.len() as u64) < asked {
            digest.hash = hash.end();
            return Ok(digest);
        }
        rest.go_on(page.last(), reader.shown())?;
    }
}

/// The rows of a chunk, one behind the other. None if there are too many.
pub(super) async fn texts_here(
    reader: &dyn Reader,
    chunk: &Chunk,
    most: u64,
) -> Reconciled<Option<Vec<u8>>> {
    let (mut text, mut rows) = (Vec::new(), 0);
    let mut rest = chunk.clone();
    let mut size = PageSize::new(PAGE);
    loop {
        let asked = size.rows();
        let page = reader.page(&rest, asked, Of::Rows).await?;
        size.fit(&page);
        for row in page.iter().filter_map(|found| found.row.as_ref()) {
            text.extend_from_slice(&row.0);
        }
        let read = page.len() as u64;
        rows += read;
        if rows > most || text.len() > MOST_TEXT {
            return Ok(None);
        }
        if read < asked {
            return Ok(Some(text));
        }
        rest.go_on(page.last(), reader.shown())?;
    }
}

/// The digests of all buckets.
pub(super) async fn buckets_here(reader: &dyn Reader, plan: &SidePlan) -> Reconciled<Vec<Bucket>> {
    let mut sums: HashMap<String, (u64, u128, u128)> = HashMap::new();
    let mut rest = Chunk::default();
    let mut size = PageSize::new(PAGE);
    loop {
        let asked = size.rows();
        let page = reader.page(&rest, asked, Of::Hashes).await?;
        size.fit(&page);
        for found in &page {
            let sum = sums.entry(plan.bucket(&found.key)).or_default();
            let digits = here::hex(&found.hash.0);
            let part = |from: usize| {
                let part = digits.get(from..from + 15).unwrap_or_default();
                u128::from_str_radix(part, 16).unwrap_or_default()
            };
            *sum = (sum.0 + 1, sum.1 + part(0), sum.2 + part(15));
        }
        if (page.len() as u64) < asked {
            break;
        }
        rest.go_on(page.last(), reader.shown())?;
    }
    let bucket = |(name, (rows, first, second))| Bucket {
        name,
        rows,
        sums: format!("{first} {second}"),
    };
    Ok(sums.into_iter().map(bucket).collect())
}
