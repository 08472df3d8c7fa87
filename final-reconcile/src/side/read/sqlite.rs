//! Reading in SQLite: rows are brought to canonical form, and hashed, in this process.

use final_core::database::read;
use futures::future::BoxFuture;
use sqlx::Sqlite;

use super::here::{buckets_here, digests_here, texts_here};
use crate::{
    error::{ReconcileError, Reconciled},
    form::{Row, here::Cell},
    side::{
        ask::{
            asked::Asked,
            sqlite::{SqliteTable, sql},
        },
        chunk::{CHUNKS, Chunk, Found, Stretch},
        digest::{Bucket, Digests},
        page::PageSize,
        reader::{Clock, Of, Reader, WITHIN},
    },
    sql::key_column::KeyColumn,
};

const CLOCK: &str = "
    SELECT strftime('%Y-%m-%d %H:%M:%f000', 'now') AS in_utc,
        strftime('%Y-%m-%d %H:%M:%f000', 'now', 'localtime') AS in_zone";

/// Rows that are read at once to look for those of some buckets.
const MOST_READ: u64 = 5_000;

impl Reader for SqliteTable {
    fn shown(&self) -> &str {
        &self.plan.table.shown
    }

    fn ends<'a>(
        &'a self,
        after: Option<&'a Row>,
        rows: u64,
    ) -> BoxFuture<'a, Reconciled<Vec<Row>>> {
        Box::pin(async move {
            let mut conn = self.connection().await?;
            let mut ends = Vec::with_capacity(CHUNKS);
            while ends.len() < CHUNKS {
                let chunk = Chunk {
                    after: ends.last().or(after).cloned(),
                    ..Chunk::default()
                };
                let skipped = rows.saturating_sub(1);
                let rest = format!(" ORDER BY {} LIMIT 1 OFFSET {skipped}", self.order());
                let mut condition = self.condition();
                self.bound(&mut condition, &chunk)?;
                let keys = self
                    .read(&mut conn, self.plan.keys.len(), condition, &rest)
                    .await?;
                match keys.into_iter().next() {
                    Some(end) => ends.push(end),
                    None => break,
                }
            }
            Ok(ends)
        })
    }

    fn digests<'a>(
        &'a self,
        stretch: &'a Stretch,
        most: u64,
        next: Option<u64>,
    ) -> BoxFuture<'a, Reconciled<Digests>> {
        Box::pin(digests_here(self, &self.plan, stretch, most, next))
    }

    fn texts<'a>(
        &'a self,
        chunk: &'a Chunk,
        most: u64,
    ) -> BoxFuture<'a, Reconciled<Option<Vec<u8>>>> {
        Box::pin(texts_here(self, chunk, most))
    }

    fn buckets(&self) -> BoxFuture<'_, Reconciled<Vec<Bucket>>> {
        Box::pin(buckets_here(self, &self.plan))
    }

    fn page<'a>(
        &'a self,
        chunk: &'a Chunk,
        most: u64,
        of: Of,
    ) -> BoxFuture<'a, Reconciled<Vec<Found>>> {
        Box::pin(async move {
            let mut rest = chunk.clone();
            let mut kept = Vec::new();
            // Where few rows are in the buckets, many are read for each that is kept.
            let mut size = PageSize::new(MOST_READ.max(most));
            loop {
                let asked = match chunk.buckets {
                    Some(_) => size.rows(),
                    None => most,
                };
                let mut condition = self.condition();
                self.bound(&mut condition, &rest)?;
                let tail = format!(" ORDER BY {} LIMIT {asked}", self.order());
                let mut found = self.found_by(condition, &tail).await?;
                let is_last = (found.len() as u64) < asked;
                size.fit(&found);
                rest.go_on(found.last(), self.shown())?;
                if of == Of::Hashes {
                    found.iter_mut().for_each(|found| found.row = None);
                }
                let Some(buckets) = &chunk.buckets else {
                    return Ok(found);
                };
                // No function of SQLite knows the bucket of a row.
                found.retain(|found| buckets.contains(&self.plan.bucket(&found.key)));
                kept.append(&mut found);
                if is_last || kept.len() as u64 >= most {
                    return Ok(kept);
                }
            }
        })
    }

    fn rows<'a>(&'a self, keys: &'a [Row]) -> BoxFuture<'a, Reconciled<Vec<Found>>> {
        Box::pin(self.rows_of(keys))
    }

    fn values<'a>(&'a self, key: &'a Row) -> BoxFuture<'a, Reconciled<Option<Vec<Cell>>>> {
        Box::pin(self.values_of(key))
    }

    fn last_key(&self) -> BoxFuture<'_, Reconciled<Option<Row>>> {
        Box::pin(async move {
            let first = self.plan.keys.first().map_or("1", KeyColumn::order);
            let mut condition = self.condition();
            condition.sql = format!("{first} IS NOT NULL");
            let rest = format!(" ORDER BY {first} DESC LIMIT 1");
            let mut conn = self.connection().await?;
            let keys = self.read(&mut conn, self.plan.keys.len(), condition, &rest);
            let keys = keys.await?;
            Ok(keys.into_iter().next())
        })
    }

    fn clock(&self) -> BoxFuture<'_, Reconciled<Clock>> {
        Box::pin(async move {
            let now = async {
                let mut conn = self.pool.get().acquire().await?;
                read::<Sqlite, (String, String)>(&mut conn, &sql(CLOCK.into()), &[]).await
            };
            let now = now.await.map_err(|source| ReconcileError::Database {
                doing: "asking for the time at the database of",
                side: self.plan.table.shown.clone(),
                source,
            })?;
            let now = now.into_iter().next();
            let (utc, local) = now.ok_or_else(|| self.wrong("the clock says nothing"))?;
            Ok(Clock { utc, local })
        })
    }

    fn has_null_key(&self) -> BoxFuture<'_, Reconciled<bool>> {
        Box::pin(self.has_null())
    }

    fn has_misplaced_key(&self) -> BoxFuture<'_, Reconciled<bool>> {
        Box::pin(self.has_misplaced())
    }

    fn statements(&self) -> Vec<(&'static str, String)> {
        let names: Vec<&str> = self
            .plan
            .columns
            .iter()
            .map(|column| column.name.as_str())
            .collect();
        let text = format!(
            "SELECT {} FROM {} WHERE {WITHIN} ORDER BY {} LIMIT 2000",
            names.join(", "),
            self.plan.table.name,
            self.order()
        );
        vec![("rows, hashed here", text)]
    }
}
