//! Reading on PostgreSQL, MySQL and MariaDB: the server makes canonical texts and digests of them.
//!
//! Input: a [`SidePlan`]. State: a pool, and the parts of its statements. Output: keys, digests and rows.
//!
//! Where a form can only be made in this process (JSON as a value), rows are read in pages and hashed here.

use std::{sync::Arc, time::Duration};

use final_core::database::{Dialect, Driver, FromRow, columns, read};
use futures::future::BoxFuture;
use sqlx::{AssertSqlSafe, SqlSafeStr};

use super::{
    Bucket, CHUNKS, Chunk, Clock, Digest, Digests, Found, Of, Reader, Stretch, WITHIN, parts::Parts,
};
use crate::{
    error::{ReconcileError, Reconciled},
    form::{Form, Row, RowHash, here::Cell},
    own::OwnPool,
    plan::SidePlan,
    side::here::{buckets_here, digests_here, found_here, misplaced_keys, null_keys, texts_here},
    side::odd::{OddKeys, lacking, odd_keys},
    side::write::refused,
    sql::keys::{Condition, Search},
};

/// How long a statement may take. A chunk takes less than a second, but a server may have to read all of a table for a
/// key without a common order.
const ANSWER: Duration = Duration::from_secs(30 * 60);

/// How long looking rows up may take, and what it is called.
const SHORT: Duration = Duration::from_secs(60);
const LOOKING_UP: &str = "looking rows up in";
const SEARCHING: &str = "searching all keys of";
const ASKING_CLOCK: &str = "asking for the time at the database of";

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

columns! {
    struct GivenRow {
        row_key: Vec<u8>,
        row_text: Option<Vec<u8>>,
    }
}

/// Reads one table. Its pool says whether it may write as well.
pub(super) struct Server<DB: Driver> {
    pub(super) pool: Arc<OwnPool<DB>>,
    pub(super) plan: SidePlan,
    parts: Parts,
    odd: OddKeys,
}

impl<DB: Driver> Server<DB> {
    pub(super) fn new(pool: Arc<OwnPool<DB>>, plan: SidePlan) -> Self {
        let parts = Parts::new(DB::DIALECT, &plan, pool.mark());
        let odd = OddKeys::default();
        Self {
            pool,
            plan,
            parts,
            odd,
        }
    }

    pub(super) fn condition(&self) -> Condition<'_> {
        Condition::new(DB::DIALECT, &self.plan.keys)
    }

    /// Adds the bounds of a chunk.
    fn bound(&self, condition: &mut Condition<'_>, chunk: &Chunk) -> Reconciled<()> {
        let bounds = [(&chunk.after, ">"), (&chunk.until, "<=")];
        let is_read = bounds.into_iter().all(|(key, sign)| {
            let mut bound = |key| condition.bound(key, sign);
            key.as_ref().is_none_or(&mut bound)
        });
        match is_read {
            true => Ok(()),
            false => Err(self.wrong("a key cannot be taken apart")),
        }
    }

    /// The condition of a chunk.
    fn within(&self, chunk: &Chunk) -> Reconciled<Condition<'_>> {
        let mut condition = self.condition();
        self.bound(&mut condition, chunk)?;
        if let Some(buckets) = &chunk.buckets {
            let bucket = self.parts.bucket.clone();
            let all: Vec<String> = buckets
                .iter()
                .map(|bucket| condition.text(bucket.clone()))
                .collect();
            condition
                .sql
                .push_str(&format!(" AND {bucket} IN ({})", all.join(", ")));
        }
        Ok(condition)
    }

    /// The expressions that give the ends of the next chunks. Each counts from the same key, because no server looks for
    /// a key behind one that it has only just found by an index.
    fn ends_behind(
        &self,
        condition: &mut Condition<'_>,
        after: Option<&Row>,
        rows: u64,
    ) -> Reconciled<Vec<String>> {
        let chunk = Chunk {
            after: after.cloned(),
            ..Chunk::default()
        };
        let mut ends = Vec::with_capacity(CHUNKS);
        for skipped in (1..)
            .take(CHUNKS)
            .map(|chunks: u64| chunks * rows.max(1) - 1)
        {
            self.bound(condition, &chunk)?;
            ends.push(self.parts.end(&condition.another(), skipped));
        }
        Ok(ends)
    }

    /// The one value that a statement gives.
    async fn answer(
        &self,
        doing: &'static str,
        sql: String,
        condition: Condition<'_>,
    ) -> Reconciled<Vec<u8>> {
        let answer: Vec<Vec<u8>> = self.ask(doing, sql, condition).await?;
        Ok(answer.into_iter().next().unwrap_or_default())
    }

    /// Keys that stand one behind the other.
    fn keys(&self, bytes: Vec<u8>) -> Reconciled<Vec<Row>> {
        let forms = self.plan.forms.get(..self.plan.keys.len());
        let keys = forms.and_then(|forms| Row(bytes).each(forms));
        keys.ok_or_else(|| self.wrong("a key cannot be taken apart"))
    }

    /// The condition of these keys.
    fn of_keys(&self, keys: &[Row], search: Search) -> Reconciled<Condition<'_>> {
        let mut condition = self.condition();
        match condition.one_of(keys, search) {
            true => Ok(condition),
            false => Err(self.wrong("a key cannot be taken apart")),
        }
    }

    /// Rows that are looked up by their keys are a hundred at most.
    fn patience(&self, doing: &'static str) -> Duration {
        match doing {
            LOOKING_UP | ASKING_CLOCK => SHORT,
            _ => ANSWER,
        }
    }

    pub(super) fn wrong(&self, problem: impl Into<String>) -> ReconcileError {
        ReconcileError::Row {
            side: self.plan.table.shown.clone(),
            problem: problem.into(),
        }
    }

    /// A row that the server cannot make the canonical text of.
    fn too_large(&self) -> ReconcileError {
        self.wrong(
            "in the form that is compared it is larger than the server's max_allowed_packet (bytes count twice there); \
             raise max_allowed_packet, or leave the large column out",
        )
    }

    async fn ask<T: FromRow>(
        &self,
        doing: &'static str,
        sql: String,
        condition: Condition<'_>,
    ) -> Reconciled<Vec<T>> {
        let sql = AssertSqlSafe(sql).into_sql_str();
        let asked = async {
            let mut conn = self.pool.get().acquire().await?;
            read::<DB, T>(&mut conn, &sql, &condition.values).await
        };
        let answer = self.pool.in_time(self.patience(doing), asked).await;
        answer.map_err(|source| self.failed(doing, source))
    }

    /// Data that a statement about some rows cannot take (SQLSTATE 22) is these rows' own trouble.
    fn failed(&self, doing: &'static str, source: sqlx::Error) -> ReconcileError {
        let code = source.as_database_error().and_then(|error| error.code());
        let is_of_rows = code.is_some_and(|code| code.starts_with("22"));
        if is_of_rows && matches!(doing, LOOKING_UP | SEARCHING) {
            return self.wrong(refused(&source, &self.plan.columns));
        }
        ReconcileError::Database {
            doing,
            side: self.plan.table.shown.clone(),
            source,
        }
    }

    /// Rows in the form that is compared.
    async fn read_rows(
        &self,
        doing: &'static str,
        condition: Condition<'_>,
        limit: Option<u64>,
    ) -> Reconciled<Vec<Found>> {
        let sql = self.parts.rows(&condition.sql, limit);
        let rows: Vec<Option<Vec<u8>>> = self.ask(doing, sql, condition).await?;
        self.found(rows)
    }

    /// Whether a UUID of the key is written in a way that the index is not asked for.
    async fn has_odd_key(&self) -> Reconciled<bool> {
        if let Some(known) = self.odd.known() {
            return Ok(known);
        }
        let has = match odd_keys(&self.plan) {
            None => false,
            Some(sql) => {
                let found: Vec<i64> = self.ask(SEARCHING, sql, self.condition()).await?;
                !found.is_empty()
            }
        };
        self.odd.learn(has);
        Ok(has)
    }

    /// The whole values of the row with this key.
    async fn values_by(
        &self,
        doing: &'static str,
        key: &Row,
        search: Search,
    ) -> Reconciled<Option<Vec<Cell>>> {
        let condition = self.of_keys(std::slice::from_ref(key), search)?;
        let sql = self.parts.values(&condition.sql);
        let rows: Vec<GivenRow> = self.ask(doing, sql, condition).await?;
        let row = rows.into_iter().find(|row| row.row_key == key.0);
        let Some(row) = row else {
            return Ok(None);
        };
        let row = Row(row.row_text.ok_or_else(|| self.too_large())?);
        let forms = self.plan.given.as_deref().unwrap_or_default();
        let fields = row.fields(forms);
        let fields = fields.ok_or_else(|| self.wrong("its fields are not those of the plan"))?;
        let cell =
            |field: Option<&[u8]>| field.map_or(Cell::Null, |field| Cell::Text(field.to_vec()));
        Ok(Some(fields.into_iter().map(cell).collect()))
    }

    /// The row with this key, read and locked by a transaction.
    pub(super) async fn locked(
        &self,
        conn: &mut DB::Connection,
        key: &Row,
    ) -> Reconciled<Vec<Found>> {
        let condition = self.of_keys(std::slice::from_ref(key), Search::ByIndex)?;
        let lock = DB::DIALECT.words().lock;
        let sql = format!("{} {lock}", self.parts.rows(&condition.sql, None));
        let sql = AssertSqlSafe(sql).into_sql_str();
        let asked = read::<DB, Option<Vec<u8>>>(conn, &sql, &condition.values);
        let rows = self.pool.in_time(SHORT, asked).await;
        self.found(rows.map_err(|source| self.failed(LOOKING_UP, source))?)
    }

    fn found(&self, rows: Vec<Option<Vec<u8>>>) -> Reconciled<Vec<Found>> {
        let found = rows.into_iter().map(|row| {
            let row = row.ok_or_else(|| self.too_large())?;
            found_here(&self.plan, Row(row))
                .ok_or_else(|| self.wrong("its fields are not those of the plan"))
        });
        found.collect()
    }
}

impl<DB: Driver> Reader for Server<DB> {
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
        Box::pin(async move {
            if keys.is_empty() {
                return Ok(Vec::new());
            }
            let condition = self.of_keys(keys, Search::ByIndex)?;
            let mut found = self.read_rows(LOOKING_UP, condition, None).await?;
            let lacking = lacking(&self.plan, keys, &found);
            if !lacking.is_empty() && self.has_odd_key().await? {
                let condition = self.of_keys(&lacking, Search::ByDigits)?;
                found.extend(self.read_rows(SEARCHING, condition, None).await?);
            }
            Ok(found)
        })
    }

    fn values<'a>(&'a self, key: &'a Row) -> BoxFuture<'a, Reconciled<Option<Vec<Cell>>>> {
        Box::pin(async move {
            let found = self.values_by(LOOKING_UP, key, Search::ByIndex).await?;
            if found.is_some() || odd_keys(&self.plan).is_none() {
                return Ok(found);
            }
            self.values_by(SEARCHING, key, Search::ByDigits).await
        })
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
        Box::pin(async move {
            let Some(sql) = null_keys(&self.plan) else {
                return Ok(false);
            };
            let found: Vec<i64> = self
                .ask("looking for rows without a key in", sql, self.condition())
                .await?;
            Ok(!found.is_empty())
        })
    }

    fn has_misplaced_key(&self) -> BoxFuture<'_, Reconciled<bool>> {
        Box::pin(async move {
            let Some(sql) = misplaced_keys(&self.plan) else {
                return Ok(false);
            };
            let found: Vec<i64> = self.ask("reading keys of", sql, self.condition()).await?;
            Ok(!found.is_empty())
        })
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
