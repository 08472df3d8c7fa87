//! One table on a server, and its statements.
//!
//! Input: a [`SidePlan`]. State: a pool, and the parts of the statements. Output: what a statement gives, or why not.

use std::{sync::Arc, time::Duration};

use final_core::database::{Dialect, Driver, FromRow, columns, read};
use sqlx::{AssertSqlSafe, SqlSafeStr};

use super::{
    asked::{Asked, SEARCHING},
    odd::OddKeys,
    parts::Parts,
};
use crate::{
    error::{ReconcileError, Reconciled},
    form::{Row, here::Cell},
    own::OwnPool,
    plan::SidePlan,
    side::{
        chunk::{CHUNKS, Chunk, Found},
        refused::refused,
    },
    sql::keys::{Condition, Search},
};

/// How long a statement may take. A chunk takes less than a second, but a server may have to read all of a table for a
/// key without a common order.
const ANSWER: Duration = Duration::from_secs(30 * 60);

/// How long looking rows up may take, and what it is called.
const SHORT: Duration = Duration::from_secs(60);
pub(crate) const LOOKING_UP: &str = "looking rows up in";
pub(crate) const ASKING_CLOCK: &str = "asking for the time at the database of";

columns! {
    struct GivenRow {
        row_key: Vec<u8>,
        row_text: Option<Vec<u8>>,
    }
}

/// One table. Its pool says whether it may be written as well.
pub(crate) struct ServerTable<DB: Driver> {
    pub(crate) pool: Arc<OwnPool<DB>>,
    pub(crate) plan: SidePlan,
    pub(crate) parts: Parts,
    odd: OddKeys,
}

impl<DB: Driver> ServerTable<DB> {
    pub(crate) fn new(pool: Arc<OwnPool<DB>>, plan: SidePlan) -> Self {
        let parts = Parts::new(DB::DIALECT, &plan, pool.mark());
        let odd = OddKeys::default();
        Self {
            pool,
            plan,
            parts,
            odd,
        }
    }

    /// The condition of a chunk.
    pub(crate) fn within(&self, chunk: &Chunk) -> Reconciled<Condition<'_>> {
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
    pub(crate) fn ends_behind(
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
    pub(crate) async fn answer(
        &self,
        doing: &'static str,
        sql: String,
        condition: Condition<'_>,
    ) -> Reconciled<Vec<u8>> {
        let answer: Vec<Vec<u8>> = self.ask(doing, sql, condition).await?;
        Ok(answer.into_iter().next().unwrap_or_default())
    }

    /// Keys that stand one behind the other.
    pub(crate) fn keys(&self, bytes: Vec<u8>) -> Reconciled<Vec<Row>> {
        let forms = self.plan.forms.get(..self.plan.keys.len());
        let keys = forms.and_then(|forms| Row(bytes).each(forms));
        keys.ok_or_else(|| self.wrong("a key cannot be taken apart"))
    }

    /// Rows that are looked up by their keys are a hundred at most.
    fn patience(&self, doing: &'static str) -> Duration {
        match doing {
            LOOKING_UP | ASKING_CLOCK => SHORT,
            _ => ANSWER,
        }
    }

    /// A row that the server cannot make the canonical text of.
    pub(crate) fn too_large(&self) -> ReconcileError {
        self.wrong(
            "in the form that is compared it is larger than the server's max_allowed_packet (bytes count twice there); \
             raise max_allowed_packet, or leave the large column out",
        )
    }

    pub(crate) async fn ask<T: FromRow>(
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
    pub(crate) async fn read_rows(
        &self,
        doing: &'static str,
        condition: Condition<'_>,
        limit: Option<u64>,
    ) -> Reconciled<Vec<Found>> {
        let sql = self.parts.rows(&condition.sql, limit);
        let rows: Vec<Option<Vec<u8>>> = self.ask(doing, sql, condition).await?;
        self.all_found(rows)
    }

    /// The row with this key, read and locked by a transaction.
    pub(crate) async fn locked(
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
        self.all_found(rows.map_err(|source| self.failed(LOOKING_UP, source))?)
    }

    fn all_found(&self, rows: Vec<Option<Vec<u8>>>) -> Reconciled<Vec<Found>> {
        let found = rows.into_iter().map(|row| {
            let row = row.ok_or_else(|| self.too_large())?;
            Asked::found(self, Row(row))
        });
        found.collect()
    }
}

impl<DB: Driver> Asked for ServerTable<DB> {
    const DIALECT: Dialect = DB::DIALECT;

    fn plan(&self) -> &SidePlan {
        &self.plan
    }

    fn odd(&self) -> &OddKeys {
        &self.odd
    }

    async fn is_there(&self, doing: &'static str, sql: String) -> Reconciled<bool> {
        let found: Vec<i64> = self.ask(doing, sql, self.condition()).await?;
        Ok(!found.is_empty())
    }

    async fn rows_by(&self, keys: &[Row], search: Search) -> Reconciled<Vec<Found>> {
        let condition = self.of_keys(keys, search)?;
        self.read_rows(looking_up(search), condition, None).await
    }

    async fn values_by(&self, key: &Row, search: Search) -> Reconciled<Option<Vec<Cell>>> {
        let condition = self.of_keys(std::slice::from_ref(key), search)?;
        let sql = self.parts.values(&condition.sql);
        let rows: Vec<GivenRow> = self.ask(looking_up(search), sql, condition).await?;
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
}

/// What it is called.
fn looking_up(search: Search) -> &'static str {
    match search {
        Search::ByIndex => LOOKING_UP,
        Search::ByDigits => SEARCHING,
    }
}
