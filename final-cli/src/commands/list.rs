//! Lists that are read page by page.

use final_core::admin::{AdminError, Page};

use crate::{
    exit::{Exit, Failure},
    output::{Output, Table, text::harmless},
};

/// The rows of one question to the database at most.
const PAGE: u32 = 1_000;

/// Reads pages until `limit` rows are written. Says on the standard error where the list goes on.
pub(super) async fn pages<T, C: std::fmt::Display>(
    limit: u32,
    after: Option<C>,
    mut page: impl AsyncFnMut(u32, Option<&C>) -> Result<Page<T, C>, AdminError>,
    table: impl Fn(&[T]) -> Table,
    json: impl Fn(&T, &mut Output) -> Result<(), Failure>,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let (mut left, mut next) = (limit, after);
    let mut rows = Vec::new();
    let mut found = 0_usize;
    loop {
        let read = page(left.min(PAGE), next.as_ref()).await?;
        left = left.saturating_sub(u32::try_from(read.items.len()).unwrap_or(u32::MAX));
        found += read.items.len();
        next = read.next;
        match out.is_json() {
            true => read.items.iter().try_for_each(|row| json(row, out))?,
            // A table is as wide as its widest row, so it has to know all of them.
            false => rows.extend(read.items),
        }
        if left == 0 || next.is_none() {
            break;
        }
    }
    if found == 0 {
        eprintln!("nothing matches");
        return Ok(Exit::NothingMatched);
    }
    if !rows.is_empty() {
        out.table(&table(&rows))?;
    }
    out.flush()?;
    if let Some(next) = next {
        eprintln!(
            "there may be more: --after '{}'",
            harmless(&next.to_string())
        );
    }
    Ok(Exit::Done)
}
