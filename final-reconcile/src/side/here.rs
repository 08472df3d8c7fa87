//! Digests of rows that were read into this process, the same as a server makes.
//!
//! Input: pages of a [`Reader`]. Output: digests. Memory: one page, and two sums for each bucket.

use std::collections::HashMap;

use super::{
    Bucket, Chunk, Digest, Digests, Found, MOST_TEXT, Of, Reader, Stretch, page::PageSize,
};
use crate::{
    error::Reconciled,
    form::{Row, RowHash, here},
    plan::SidePlan,
    table::Family,
};

/// Rows of the largest page.
const PAGE: u64 = 2_000;

/// A row that a database gave, in the form that is compared. None if its fields are not those of the plan.
pub(super) fn found_here(plan: &SidePlan, row: Row) -> Option<Found> {
    let row = here::finished(row, &plan.forms)?;
    Some(Found {
        key: row.first(plan.forms.get(..plan.keys.len())?)?,
        hash: RowHash(plan.hash.of(&row.0)),
        bytes: row.0.len() as u64,
        row: Some(row),
    })
}

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

/// The statement that looks for a UUID that has another place in the index than its digits say. None where there can be
/// none.
pub(super) fn misplaced_keys(plan: &SidePlan) -> Option<String> {
    let family = plan.table.family;
    let conditions = plan.keys.iter().filter_map(|key| key.misplaced(family));
    one_where(plan, conditions.collect())
}

/// The statement that looks for a row without a key. None where the columns allow none.
pub(super) fn null_keys(plan: &SidePlan) -> Option<String> {
    let nullable = plan.keys.iter().filter(|key| key.column.nullable);
    let conditions = nullable.map(|key| format!("{} IS NULL", key.name));
    one_where(plan, conditions.collect())
}

pub(super) fn one_where(plan: &SidePlan, conditions: Vec<String>) -> Option<String> {
    let name = &plan.table.name;
    let one = match plan.table.family {
        Family::Postgres => "1::bigint",
        _ => "1",
    };
    (!conditions.is_empty()).then(|| {
        format!(
            "SELECT {one} AS found FROM {name} WHERE {} LIMIT 1",
            conditions.join(" OR ")
        )
    })
}
