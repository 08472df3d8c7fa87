//! SQLite: its catalog, and its rows, which are brought to canonical form in this process.
//!
//! Input: a [`SidePlan`]. State: a pool. Output: keys, digests and rows.
//!
//! Columns have no fixed types here, so each value is read with the class that it is stored with.

use std::sync::Arc;

use final_core::database::{DbResult, Dialect, Value, columns, read};
use futures::future::BoxFuture;
use sqlx::{
    AssertSqlSafe, Row as _, SqlSafeStr, SqlStr, Sqlite, SqliteConnection, SqlitePool, TypeInfo,
    ValueRef,
    pool::PoolConnection,
    query::Query,
    sqlite::{SqliteArguments, SqliteRow},
};

use super::{
    Bucket, CHUNKS, Chunk, Clock, Digests, Found, Of, Reader, SideDatabase, Stretch, WITHIN,
    Writer, described,
    here::{buckets_here, digests_here, found_here, misplaced_keys, null_keys, texts_here},
    odd::{OddKeys, lacking, odd_keys},
    page::PageSize,
};
use crate::{
    error::{ReconcileError, Reconciled},
    form::{
        Row,
        here::{Cell, canonical, strict},
    },
    own::OwnPool,
    plan::SidePlan,
    sql::{
        key_column::KeyColumn,
        keys::{Condition, Search},
    },
    table::{ColumnClass, Family, KeyOrder, SideColumn, SideTable, UniqueIndex},
};

const COLUMNS: &str = "
    SELECT name, type AS declared, [notnull] AS not_null, pk AS place, hidden > 1 AS is_generated
    FROM pragma_table_xinfo(?1)
    WHERE hidden <> 1 ORDER BY cid";

const INDEXES: &str = "
    SELECT l.name AS index_name, l.origin = 'pk' AS is_primary, coalesce(i.name, '') AS name,
        coalesce(i.coll, '') AS collation
    FROM pragma_index_list(?1) l JOIN pragma_index_xinfo(l.name) i
    WHERE l.[unique] AND NOT l.partial AND i.key
    ORDER BY is_primary DESC, l.name, i.seqno";

const CLOCK: &str = "
    SELECT strftime('%Y-%m-%d %H:%M:%f000', 'now') AS in_utc,
        strftime('%Y-%m-%d %H:%M:%f000', 'now', 'localtime') AS in_zone";

columns! {
    struct ColumnRow {
        name: String,
        declared: String,
        not_null: i64,
        place: i64,
        is_generated: i64,
    }
}

columns! {
    struct IndexRow {
        index_name: String,
        is_primary: i64,
        name: String,
        collation: String,
    }
}

/// A SQLite database.
pub(super) struct OnSqlite {
    pool: Arc<OwnPool<Sqlite>>,
}

impl OnSqlite {
    pub(super) fn new(caller: &SqlitePool) -> Self {
        Self {
            pool: Arc::new(OwnPool::new(caller, &[])),
        }
    }

    async fn read_table(&self, table: &str) -> DbResult<Option<SideTable>> {
        let mut conn = self.pool.get().acquire().await?;
        let asked = [table.into()];
        let rows: Vec<ColumnRow> =
            read::<Sqlite, _>(&mut conn, &sql(COLUMNS.into()), &asked).await?;
        if rows.is_empty() {
            return Ok(None);
        }
        let indexes: Vec<IndexRow> =
            read::<Sqlite, _>(&mut conn, &sql(INDEXES.into()), &asked).await?;
        let mut unique: Vec<UniqueIndex> = Vec::new();
        let mut collations: Vec<(String, String)> = Vec::new();
        for row in indexes {
            collations.push((row.name.clone(), row.collation));
            match unique.last_mut().filter(|last| last.name == row.index_name) {
                Some(last) => last.columns.push(row.name),
                None => unique.push(UniqueIndex {
                    name: row.index_name,
                    columns: vec![row.name],
                    is_primary: row.is_primary != 0,
                }),
            }
        }
        // An expression has no name.
        unique.retain(|index| index.columns.iter().all(|name| !name.is_empty()));
        let mut key: Vec<&ColumnRow> = rows.iter().filter(|row| row.place > 0).collect();
        key.sort_by_key(|row| row.place);
        if !key.is_empty() && !unique.iter().any(|index| index.is_primary) {
            // An INTEGER PRIMARY KEY is the table itself, and a table WITHOUT ROWID may be too.
            unique.insert(
                0,
                UniqueIndex {
                    name: "PRIMARY KEY".into(),
                    columns: key.iter().map(|row| row.name.clone()).collect(),
                    is_primary: true,
                },
            );
        }
        let columns = rows.iter().map(|row| {
            let collation = collations.iter().find(|(name, _)| *name == row.name);
            let collation = collation.map_or("BINARY", |(_, collation)| collation.as_str());
            // The key of rows is never NULL, whatever the column says.
            let is_row_id =
                key.len() == 1 && row.place == 1 && row.declared.eq_ignore_ascii_case("INTEGER");
            column(row, collation, is_row_id)
        });
        Ok(Some(SideTable {
            family: Family::Sqlite,
            shown: self.shown(table),
            name: Dialect::Sqlite.quoted(table),
            columns: columns.collect(),
            unique,
            rows: None,
            has_md5: true,
            is_utf8: true,
            unsafe_engine: None,
            is_clustered: false,
        }))
    }

    fn shown(&self, table: &str) -> String {
        format!("`{table}` in {}", self.place())
    }

    fn table(&self, plan: SidePlan) -> SqliteReader {
        SqliteReader {
            pool: Arc::clone(&self.pool),
            plan,
            odd: OddKeys::default(),
        }
    }
}

impl SideDatabase for OnSqlite {
    fn place(&self) -> String {
        format!("SQLite {}", self.pool.place())
    }

    fn describe<'a>(&'a self, table: &'a str) -> BoxFuture<'a, Reconciled<SideTable>> {
        let side = self.shown(table);
        Box::pin(described(&self.pool, side, self.read_table(table)))
    }

    fn reader(&self, plan: SidePlan) -> Arc<dyn Reader> {
        Arc::new(self.table(plan))
    }

    fn writer(&self, plan: SidePlan) -> Arc<dyn Writer> {
        Arc::new(self.table(plan))
    }
}

fn column(row: &ColumnRow, collation: &str, is_row_id: bool) -> SideColumn {
    use ColumnClass::*;
    let class = class(&row.declared);
    SideColumn {
        name: row.name.clone(),
        declared: match row.declared.as_str() {
            "" => "without a type".into(),
            declared => declared.into(),
        },
        cast: String::new(),
        is_utf8: false,
        nullable: row.not_null == 0 && !is_row_id,
        is_generated: row.is_generated != 0,
        is_invisible: false,
        order: match class {
            Bool | Integer { .. } | Decimal { .. } | Float { .. } | Bits { .. } => KeyOrder::Number,
            _ if collation == "BINARY" => KeyOrder::Bytes,
            _ => KeyOrder::Own(format!("sqlite {collation}")),
        },
        class,
    }
}

/// By the words in a type, as SQLite itself looks at them, and by those that others use.
fn class(declared: &str) -> ColumnClass {
    use ColumnClass::*;
    let declared = declared.to_ascii_uppercase();
    let has = |word: &str| declared.contains(word);
    match () {
        () if has("INT") => Integer {
            unsigned: false,
            zerofill: false,
        },
        () if has("BOOL") => Bool,
        () if has("JSON") => Json,
        () if has("UUID") => Uuid,
        () if has("CHAR") || has("CLOB") || has("TEXT") => Text { padded: false },
        () if has("BLOB") || has("BINARY") || has("BYTEA") => Bytes { length: None },
        () if has("REAL") || has("FLOA") || has("DOUB") => Float { single: false },
        () if has("DEC") || has("NUM") => Decimal { scale: None },
        () if has("DATETIME") || has("TIMESTAMP") => DateTime { precision: 6 },
        () if has("DATE") => Date,
        () if has("TIME") => Time { precision: 6 },
        () => Other,
    }
}

/// Rows that are read at once to look for those of some buckets.
const MOST_READ: u64 = 5_000;

/// Reads one table, and writes it.
pub(super) struct SqliteReader {
    pub(super) pool: Arc<OwnPool<Sqlite>>,
    pub(super) plan: SidePlan,
    odd: OddKeys,
}

impl SqliteReader {
    fn condition(&self, chunk: &Chunk) -> Reconciled<Condition<'_>> {
        let mut condition = Condition::new(Dialect::Sqlite, &self.plan.keys);
        let is_read = chunk
            .after
            .as_ref()
            .is_none_or(|key| condition.bound(key, ">"))
            && chunk
                .until
                .as_ref()
                .is_none_or(|key| condition.bound(key, "<="));
        match is_read {
            true => Ok(condition),
            false => Err(self.wrong("a key cannot be taken apart")),
        }
    }

    pub(super) fn wrong(&self, problem: impl Into<String>) -> ReconcileError {
        ReconcileError::Row {
            side: self.plan.table.shown.clone(),
            problem: problem.into(),
        }
    }

    /// Whether a statement finds a row.
    async fn is_there(&self, doing: &'static str, text: Option<String>) -> Reconciled<bool> {
        let Some(text) = text else {
            return Ok(false);
        };
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

    fn order(&self) -> String {
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
    async fn read(
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

    async fn connection(&self) -> Reconciled<PoolConnection<Sqlite>> {
        let conn = self.pool.get().acquire().await;
        conn.map_err(|source| self.failed(source))
    }

    /// The row with this key, read by a transaction.
    pub(super) async fn found_on(
        &self,
        conn: &mut SqliteConnection,
        key: &Row,
    ) -> Reconciled<Vec<Found>> {
        let condition = self.of_keys(std::slice::from_ref(key), Search::ByIndex)?;
        let rows = self.read(conn, self.plan.columns.len(), condition, "");
        self.all_found(rows.await?)
    }

    /// The condition of these keys.
    fn of_keys(&self, keys: &[Row], search: Search) -> Reconciled<Condition<'_>> {
        let mut condition = Condition::new(Dialect::Sqlite, &self.plan.keys);
        match condition.one_of(keys, search) {
            true => Ok(condition),
            false => Err(self.wrong("a key cannot be taken apart")),
        }
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

    /// Whether a UUID of the key is written in a way that the index is not asked for.
    async fn has_odd_key(&self) -> Reconciled<bool> {
        if let Some(known) = self.odd.known() {
            return Ok(known);
        }
        let has = self.is_there("searching all keys of", odd_keys(&self.plan));
        let has = has.await?;
        self.odd.learn(has);
        Ok(has)
    }

    /// The whole values of the row with this key.
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

    async fn found(&self, condition: Condition<'_>, rest: &str) -> Reconciled<Vec<Found>> {
        let mut conn = self.connection().await?;
        let rows = self.read(&mut conn, self.plan.columns.len(), condition, rest);
        self.all_found(rows.await?)
    }

    fn all_found(&self, rows: Vec<Row>) -> Reconciled<Vec<Found>> {
        let found: Option<Vec<Found>> = rows
            .into_iter()
            .map(|row| found_here(&self.plan, row))
            .collect();
        found.ok_or_else(|| self.wrong("its fields are not those of the plan"))
    }
}

impl Reader for SqliteReader {
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
                let condition = self.condition(&chunk)?;
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
                let condition = self.condition(&rest)?;
                let tail = format!(" ORDER BY {} LIMIT {asked}", self.order());
                let mut found = self.found(condition, &tail).await?;
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
        Box::pin(async move {
            if keys.is_empty() {
                return Ok(Vec::new());
            }
            let mut found = self.found(self.of_keys(keys, Search::ByIndex)?, "").await?;
            let lacking = lacking(&self.plan, keys, &found);
            if !lacking.is_empty() && self.has_odd_key().await? {
                let condition = self.of_keys(&lacking, Search::ByDigits)?;
                found.extend(self.found(condition, "").await?);
            }
            Ok(found)
        })
    }

    fn values<'a>(&'a self, key: &'a Row) -> BoxFuture<'a, Reconciled<Option<Vec<Cell>>>> {
        Box::pin(async move {
            let found = self.values_by(key, Search::ByIndex).await?;
            if found.is_some() || odd_keys(&self.plan).is_none() {
                return Ok(found);
            }
            self.values_by(key, Search::ByDigits).await
        })
    }

    fn last_key(&self) -> BoxFuture<'_, Reconciled<Option<Row>>> {
        Box::pin(async move {
            let first = self.plan.keys.first().map_or("1", KeyColumn::order);
            let mut condition = Condition::new(Dialect::Sqlite, &self.plan.keys);
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
        Box::pin(self.is_there("looking for rows without a key in", null_keys(&self.plan)))
    }

    fn has_misplaced_key(&self) -> BoxFuture<'_, Reconciled<bool>> {
        Box::pin(self.is_there("reading keys of", misplaced_keys(&self.plan)))
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

pub(super) fn sql(text: String) -> SqlStr {
    AssertSqlSafe(text).into_sql_str()
}

pub(super) fn bound<'q>(
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
