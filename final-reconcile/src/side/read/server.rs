//! Reading on PostgreSQL, MySQL and MariaDB: the server makes canonical texts and digests of them.
//!
//! Where a form can only be made in this process (JSON as a value), rows are read in pages and hashed here.

use final_core::database::{Dialect, Driver, columns};
use futures::future::BoxFuture;

use super::here::{buckets_here, digests_here, texts_here};
use crate::{
    error::{ReconcileError, Reconciled},
    form::{Form, Row, RowHash, here::Cell},
    side::{
        ask::{
            asked::Asked,
            server::{ASKING_CLOCK, LOOKING_UP, ServerTable},
        },
        chunk::{CHUNKS, Chunk, Found, Stretch},
        digest::{Bucket, Digest, Digests},
        reader::{Clock, Of, Reader, WITHIN},
    },
};

columns! {
    struct ClockRow {
        in_utc: String,
        in_zone: String,
    }
}

columns! {
    struct BucketRow {
        bucket: String,
        row_count: i64,
        lost: i64,
        sums: String,
    }
}

columns! {
    struct HashedRow {
        row_key: Vec<u8>,
        row_hash: Option<Vec<u8>>,
    }
}

impl<DB: Driver> Reader for ServerTable<DB> {
    fn shown(&self) -> &str {
        &self.plan.table.shown
    }

    fn ends<'a>(
        &'a self,
        after: Option<&'a Row>,
        rows: u64,
    ) -> BoxFuture<'a, Reconciled<Vec<Row>>> {
        Box::pin(async move {
            let mut condition = self.condition();
            let ends = self.ends_behind(&mut condition, after, rows)?;
            let sql = self.parts.answer(&ends);
            let answer = self.answer("reading keys of", sql, condition).await?;
            self.keys(answer)
        })
    }

    fn digests<'a>(
        &'a self,
        stretch: &'a Stretch,
        most: u64,
        next: Option<u64>,
    ) -> BoxFuture<'a, Reconciled<Digests>> {
        Box::pin(async move {
            if !self.plan.is_made_by_servers() {
                return digests_here(self, &self.plan, stretch, most, next).await;
            }
            let mut condition = self.condition();
            let mut answers = Vec::with_capacity(2 * CHUNKS);
            for chunk in stretch.chunks() {
                self.bound(&mut condition, &chunk)?;
                answers.push(self.parts.digest(&condition.another(), most));
            }
            if let (Some(end), Some(rows)) = (stretch.end(), next) {
                answers.extend(self.ends_behind(&mut condition, Some(end), rows)?);
            }
            let sql = self.parts.answer(&answers);
            let mut rest = match self.answer("hashing rows of", sql, condition).await {
                Err(error) if is_too_much(&error) => return Ok(too_much(stretch)),
                rest => rest?,
            };
            let mut digests = Vec::with_capacity(stretch.ends.len());
            for _ in &stretch.ends {
                let digest = self.parts.read_digest(&mut rest, most);
                digests.push(digest.ok_or_else(|| self.wrong("there is no digest"))?);
            }
            let next = self.keys(rest)?;
            Ok(Digests { digests, next })
        })
    }

    fn texts<'a>(
        &'a self,
        chunk: &'a Chunk,
        most: u64,
    ) -> BoxFuture<'a, Reconciled<Option<Vec<u8>>>> {
        Box::pin(async move {
            let is_json = |form: &Form| matches!(form, Form::Json { .. });
            if self.plan.forms.iter().any(is_json) || chunk.buckets.is_some() {
                return texts_here(self, chunk, most).await;
            }
            let condition = self.within(chunk)?;
            let sql = self.parts.texts(&condition.sql, most);
            let answer: Vec<Option<Vec<u8>>> =
                match self.ask("reading rows of", sql, condition).await {
                    Err(error) if is_too_much(&error) => return Ok(None),
                    answer => answer?,
                };
            Ok(answer.into_iter().next().flatten())
        })
    }

    fn buckets(&self) -> BoxFuture<'_, Reconciled<Vec<Bucket>>> {
        Box::pin(async move {
            if !self.plan.is_made_by_servers() {
                return buckets_here(self, &self.plan).await;
            }
            let sql = self.parts.buckets();
            let rows: Vec<BucketRow> = self.ask("hashing rows of", sql, self.condition()).await?;
            if rows.iter().any(|row| row.lost > 0) {
                return Err(self.too_large());
            }
            let bucket = |row: BucketRow| Bucket {
                name: row.bucket,
                rows: u64::try_from(row.row_count).unwrap_or_default(),
                sums: row.sums,
            };
            Ok(rows.into_iter().map(bucket).collect())
        })
    }

    fn page<'a>(
        &'a self,
        chunk: &'a Chunk,
        most: u64,
        of: Of,
    ) -> BoxFuture<'a, Reconciled<Vec<Found>>> {
        Box::pin(async move {
            let condition = self.within(chunk)?;
            if of == Of::Hashes && self.plan.is_made_by_servers() {
                let sql = self.parts.hashes(&condition.sql, most);
                let rows: Vec<HashedRow> = self.ask("hashing rows of", sql, condition).await?;
                let found = |row: HashedRow| {
                    let hash = row.row_hash.ok_or_else(|| self.too_large())?;
                    Ok(Found {
                        bytes: (row.row_key.len() + hash.len()) as u64,
                        key: Row(row.row_key),
                        hash: RowHash(hash),
                        row: None,
                    })
                };
                return rows.into_iter().map(found).collect();
            }
            let mut found = self
                .read_rows("reading rows of", condition, Some(most))
                .await?;
            if of == Of::Hashes {
                found.iter_mut().for_each(|found| found.row = None);
            }
            Ok(found)
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
            let sql = self.parts.last_key(&self.plan.keys);
            let keys: Vec<Vec<u8>> = self.ask(LOOKING_UP, sql, self.condition()).await?;
            Ok(keys.into_iter().next().map(Row))
        })
    }

    fn clock(&self) -> BoxFuture<'_, Reconciled<Clock>> {
        Box::pin(async move {
            let sql = clock_sql(DB::DIALECT).to_owned();
            let now: Vec<ClockRow> = self.ask(ASKING_CLOCK, sql, self.condition()).await?;
            let now = now.into_iter().next();
            let now = now.ok_or_else(|| self.wrong("the clock says nothing"))?;
            Ok(Clock {
                utc: now.in_utc,
                local: now.in_zone,
            })
        })
    }

    fn has_null_key(&self) -> BoxFuture<'_, Reconciled<bool>> {
        Box::pin(self.has_null())
    }

    fn has_misplaced_key(&self) -> BoxFuture<'_, Reconciled<bool>> {
        Box::pin(self.has_misplaced())
    }

    fn statements(&self) -> Vec<(&'static str, String)> {
        let after = "<after the last chunk>";
        let within = WITHIN;
        let mut all = match self.plan.is_in_ranges {
            true => vec![(
                "end of a chunk",
                self.parts.answer(&[self.parts.end(after, 1_000)]),
            )],
            false => vec![("digests", self.parts.buckets())],
        };
        if self.plan.is_made_by_servers() {
            all.push((
                "rows of a chunk that differs",
                self.parts.texts(within, 1_000),
            ));
            if self.plan.is_in_ranges {
                all.push((
                    "digest of a chunk",
                    self.parts.answer(&[self.parts.digest(within, 1_000)]),
                ));
            }
            all.push((
                "hashes of a chunk that differs",
                self.parts.hashes(within, 1_000),
            ));
        }
        all.push(("rows", self.parts.rows(within, Some(1_000))));
        all
    }
}

/// Whether PostgreSQL has no room for what it has to put together: a gigabyte at most, or less if memory is short.
fn is_too_much(error: &ReconcileError) -> bool {
    const LIMIT_EXCEEDED: &str = "54000";
    const OUT_OF_MEMORY: &str = "53200";
    let ReconcileError::Database { source, .. } = error else {
        return false;
    };
    let code = source.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| code == LIMIT_EXCEEDED || code == OUT_OF_MEMORY)
}

/// A session of ours has UTC, so the zone of others is asked for.
fn clock_sql(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Postgres => {
            "SELECT to_char(n AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') AS in_utc, \
             to_char(n AT TIME ZONE z, 'YYYY-MM-DD HH24:MI:SS.US') AS in_zone \
             FROM (SELECT clock_timestamp() AS n, \
             coalesce((SELECT reset_val FROM pg_catalog.pg_settings WHERE name = 'TimeZone'), 'UTC') AS z) s"
        }
        _ => {
            "SELECT CONVERT(DATE_FORMAT(n, '%Y-%m-%d %H:%i:%s.%f') USING utf8mb4) AS in_utc, \
             CONVERT(DATE_FORMAT(COALESCE(CONVERT_TZ(n, '+00:00', @@global.time_zone), n), '%Y-%m-%d %H:%i:%s.%f') \
             USING utf8mb4) AS in_zone FROM (SELECT UTC_TIMESTAMP(6) AS n) s"
        }
    }
}

/// The digests of chunks that a server has no room for.
fn too_much(stretch: &Stretch) -> Digests {
    let digest = Digest {
        is_cut: true,
        ..Digest::default()
    };
    Digests {
        digests: vec![digest; stretch.ends.len()],
        next: Vec::new(),
    }
}
