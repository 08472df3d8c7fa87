//! One table of SQLite, and its statements.
//!
//! Input: a [`SidePlan`]. State: a pool. Output: rows in canonical form, and whole values.
//!
//! Columns have no fixed types here, so each value is read with the class that it is stored with.

use std::sync::Arc;

use final_core::database::{DbResult, Dialect, Value, read};
use sqlx::{
    AssertSqlSafe, Row as _, SqlSafeStr, SqlStr, Sqlite, SqliteConnection, TypeInfo, ValueRef,
    pool::PoolConnection,
    query::Query,
    sqlite::{SqliteArguments, SqliteRow},
};

use super::{asked::Asked, odd::OddKeys};
use crate::{
    error::{ReconcileError, Reconciled},
    form::{
        Row,
        here::{Cell, canonical, strict},
    },
    own::OwnPool,
    plan::SidePlan,
    side::chunk::Found,
    sql::{
        key_column::KeyColumn,
        keys::{Condition, Search},
    },
};

/// One table.
pub(crate) struct SqliteTable {
    pub(crate) pool: Arc<OwnPool<Sqlite>>,
    pub(crate) plan: SidePlan,
    odd: OddKeys,
}

impl SqliteTable {
    pub(crate) fn new(pool: Arc<OwnPool<Sqlite>>, plan: SidePlan) -> Self {
        Self {
            pool,
            plan,
            odd: OddKeys::default(),
        }
    }

    pub(crate) fn order(&self) -> String {
        let names: Vec<&str> = self.plan.keys.iter().map(KeyColumn::order).collect();
        names.join(", ")
    }

    fn failed(&self, source: sqlx::Error) -> ReconcileError {
        ReconcileError::Database {
            doing: "reading rows of",
            side: self.plan.table.shown.clone(),
            source,
        }
    }

    /// The first columns of rows as they are stored.
    async fn stored(
        &self,
        conn: &mut SqliteConnection,
        columns: usize,
        condition: Condition<'_>,
        rest: &str,
    ) -> Reconciled<Vec<SqliteRow>> {
        let names: Vec<String> = self
            .plan
            .columns
            .iter()
            .take(columns)
            .map(|column| Dialect::Sqlite.quoted(&column.name))
            .collect();
        let text = format!(
            "SELECT {} FROM {} WHERE {}{rest}",
            names.join(", "),
            self.plan.table.name,
            condition.sql
        );
        let rows = bound(sql(text), &condition.values).fetch_all(conn);
        rows.await.map_err(|source| self.failed(source))
    }

    /// The first columns of a row in canonical form.
    fn made(&self, row: &SqliteRow, columns: usize) -> DbResult<Row> {
        let mut made = Row::default();
        for (at, form) in self.plan.forms.iter().take(columns).enumerate() {
            made.push(*form, canonical(&cell(row, at)?, *form).as_deref());
        }
        Ok(made)
    }

    /// The first columns of rows in canonical form, one row after the other.
    pub(crate) async fn read(
        &self,
        conn: &mut SqliteConnection,
        columns: usize,
        condition: Condition<'_>,
        rest: &str,
    ) -> Reconciled<Vec<Row>> {
        let rows = self.stored(conn, columns, condition, rest).await?;
        let made = rows.iter().map(|row| self.made(row, columns));
        made.collect::<DbResult<_>>()
            .map_err(|source| self.failed(source))
    }

    pub(crate) async fn connection(&self) -> Reconciled<PoolConnection<Sqlite>> {
        let conn = self.pool.get().acquire().await;
        conn.map_err(|source| self.failed(source))
    }

    /// The row with this key, read by a transaction.
    pub(crate) async fn found_on(
        &self,
        conn: &mut SqliteConnection,
        key: &Row,
    ) -> Reconciled<Vec<Found>> {
        let condition = self.of_keys(std::slice::from_ref(key), Search::ByIndex)?;
        let rows = self.read(conn, self.plan.columns.len(), condition, "");
        self.all_found(rows.await?)
    }

    /// A value as the target takes it.
    fn given(&self, row: &SqliteRow, at: usize) -> Reconciled<Cell> {
        let cell = cell(row, at).map_err(|source| self.failed(source))?;
        let form = self.plan.given.as_ref().and_then(|given| given.get(at));
        match form {
            Some(form) if cell != Cell::Null => match strict(&cell, *form) {
                Some(text) => Ok(Cell::Text(text)),
                None => {
                    let name = self.plan.columns.get(at).map(|column| column.name.as_str());
                    let name = name.unwrap_or_default();
                    Err(self.wrong(format!(
                        "`{name}` has a value of another class than its column, which the target cannot take; correct \
                         the value, or leave the column out"
                    )))
                }
            },
            _ => Ok(cell),
        }
    }

    pub(crate) async fn found_by(
        &self,
        condition: Condition<'_>,
        rest: &str,
    ) -> Reconciled<Vec<Found>> {
        let mut conn = self.connection().await?;
        let rows = self.read(&mut conn, self.plan.columns.len(), condition, rest);
        self.all_found(rows.await?)
    }

    fn all_found(&self, rows: Vec<Row>) -> Reconciled<Vec<Found>> {
        rows.into_iter().map(|row| self.found(row)).collect()
    }
}

impl Asked for SqliteTable {
    const DIALECT: Dialect = Dialect::Sqlite;

    fn plan(&self) -> &SidePlan {
        &self.plan
    }

    fn odd(&self) -> &OddKeys {
        &self.odd
    }

    async fn is_there(&self, doing: &'static str, text: String) -> Reconciled<bool> {
        let found = async {
            let mut conn = self.pool.get().acquire().await?;
            read::<Sqlite, i64>(&mut conn, &sql(text), &[]).await
        };
        let found = found.await.map_err(|source| ReconcileError::Database {
            doing,
            side: self.plan.table.shown.clone(),
            source,
        })?;
        Ok(!found.is_empty())
    }

    async fn rows_by(&self, keys: &[Row], search: Search) -> Reconciled<Vec<Found>> {
        self.found_by(self.of_keys(keys, search)?, "").await
    }

    async fn values_by(&self, key: &Row, search: Search) -> Reconciled<Option<Vec<Cell>>> {
        let condition = self.of_keys(std::slice::from_ref(key), search)?;
        let (columns, keys) = (self.plan.columns.len(), self.plan.keys.len());
        let mut conn = self.connection().await?;
        for row in self.stored(&mut conn, columns, condition, "").await? {
            let found = self.made(&row, keys);
            if found.map_err(|source| self.failed(source))? == *key {
                let cells = (0..columns).map(|at| self.given(&row, at));
                return cells.collect::<Reconciled<_>>().map(Some);
            }
        }
        Ok(None)
    }
}

pub(crate) fn sql(text: String) -> SqlStr {
    AssertSqlSafe(text).into_sql_str()
}

pub(crate) fn bound<'q>(
    sql: SqlStr,
    values: &'q [Value<'_>],
) -> Query<'q, Sqlite, SqliteArguments> {
    values
        .iter()
        .fold(sqlx::query(sql), |query, value| match value {
            Value::Text(value) => query.bind(value.as_deref()),
            Value::Int(value) => query.bind(value),
            _ => query.bind(None::<i64>),
        })
}

/// A value with the class that it is stored with.
fn cell(row: &SqliteRow, at: usize) -> DbResult<Cell> {
    let value = row.try_get_raw(at)?;
    if value.is_null() {
        return Ok(Cell::Null);
    }
    let class = value.type_info().name().to_owned();
    Ok(match class.as_str() {
        "INTEGER" => Cell::Integer(row.try_get_unchecked(at)?),
        "REAL" => Cell::Real(row.try_get_unchecked(at)?),
        "TEXT" => Cell::Text(row.try_get_unchecked::<Vec<u8>, _>(at)?),
        _ => Cell::Blob(row.try_get_unchecked(at)?),
    })
}
