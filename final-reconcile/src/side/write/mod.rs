//! Writing a row of the source into the target.
//!
//! Input: the key of a row, and its whole values. State: a transaction that has locked the row. Output: the row as the
//! table has it after the change, so that it can be compared before it is committed.
//!
//! | part | has |
//! | --- | --- |
//! | `server` | PostgreSQL, MySQL and MariaDB: values go as texts, and SQL casts them |
//! | `sqlite` | SQLite: values have the class that they are stored with |
//!
//! A row that is there is updated by its key, and only in columns of the mapping. A row that is not there is inserted, so
//! a second unique index that has its values already is an error. No statement replaces a row.

#[cfg(any(feature = "postgres", feature = "mysql"))]
mod server;
#[cfg(feature = "sqlite")]
mod sqlite;

use std::time::Duration;

use final_core::database::{DbResult, Dialect, Driver};
use futures::future::BoxFuture;
use sqlx::Transaction;

use crate::{
    error::{ReconcileError, Reconciled},
    form::{Row, here::Cell},
    own::OwnPool,
    plan::SidePlan,
    side::{chunk::Found, refused::refused},
};

/// How long a statement about one row may take. It is longer than a session waits for a lock.
const ANSWER: Duration = Duration::from_secs(20);

/// Writes rows of one table.
pub(crate) trait Writer: Send + Sync {
    /// Begins a transaction for the row with this key.
    fn begin<'a>(&'a self, key: &'a Row) -> BoxFuture<'a, Reconciled<Box<dyn Writing + 'a>>>;
    /// The statements, with their names.
    fn statements(&self) -> Vec<(&'static str, String)>;
}

/// A transaction about one row. Dropped, it is rolled back.
pub(crate) trait Writing: Send {
    /// The row as the transaction sees it, locked from now on.
    fn row(&mut self) -> BoxFuture<'_, Reconciled<Option<Found>>>;
    /// Changes the row.
    fn write<'a>(&'a mut self, change: Change<'a>) -> BoxFuture<'a, Reconciled<()>>;
    /// Keeps the change.
    fn commit<'a>(self: Box<Self>) -> BoxFuture<'a, Reconciled<()>>
    where
        Self: 'a;
    /// Takes the change back. Its locks are gone then.
    fn undo<'a>(self: Box<Self>) -> BoxFuture<'a, ()>
    where
        Self: 'a;
}

/// What is done to a row.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change<'v> {
    Insert(&'v [Cell]),
    Update(&'v [Cell]),
    Delete,
}

impl<'v> Change<'v> {
    /// The values that are written, with their places among the columns.
    fn values(self, plan: &SidePlan) -> impl Iterator<Item = (usize, &'v Cell)> {
        let (values, skipped): (&[Cell], usize) = match self {
            Self::Insert(values) => (values, 0),
            Self::Update(values) => (values, plan.keys.len()),
            Self::Delete => (&[], 0),
        };
        values.iter().enumerate().skip(skipped)
    }

    /// The statement. `values` are the expressions of the columns that are written.
    fn sql(self, dialect: Dialect, plan: &SidePlan, values: &[String], condition: &str) -> String {
        let table = &plan.table.name;
        let names = plan.columns.iter();
        let mut names = names.map(|column| dialect.quoted(&column.name));
        match self {
            Self::Insert(_) => {
                // Values of GENERATED ALWAYS AS IDENTITY are the source's too.
                let overriding = match dialect {
                    Dialect::Postgres => " OVERRIDING SYSTEM VALUE",
                    Dialect::MySql | Dialect::Sqlite => "",
                };
                let names: Vec<String> = names.collect();
                let (names, values) = (names.join(", "), values.join(", "));
                format!("INSERT INTO {table} ({names}){overriding} VALUES ({values})")
            }
            Self::Update(_) => {
                let names = names.by_ref().skip(plan.keys.len());
                let set = names
                    .zip(values)
                    .map(|(name, value)| format!("{name} = {value}"));
                let set: Vec<String> = set.collect();
                format!("UPDATE {table} SET {} WHERE {condition}", set.join(", "))
            }
            Self::Delete => format!("DELETE FROM {table} WHERE {condition}"),
        }
    }
}

/// A table that can be written, in one database.
trait WrittenTable: Send + Sync {
    /// The database.
    type Db: Driver;
    fn pool(&self) -> &OwnPool<Self::Db>;
    fn plan(&self) -> &SidePlan;
    /// The expression of a value, in a statement that is only shown.
    fn shown_value(&self, at: usize) -> String;
    /// Rows that the database finds by a key. It locks them.
    fn find<'a>(
        &'a self,
        conn: &'a mut <Self::Db as sqlx::Database>::Connection,
        key: &'a Row,
    ) -> BoxFuture<'a, Reconciled<Vec<Found>>>;
    /// Runs a statement.
    fn run<'a>(
        &'a self,
        conn: &'a mut <Self::Db as sqlx::Database>::Connection,
        key: &'a Row,
        change: Change<'a>,
    ) -> BoxFuture<'a, Reconciled<DbResult<u64>>>;
}

impl<T: WrittenTable> Writer for T {
    fn begin<'a>(&'a self, key: &'a Row) -> BoxFuture<'a, Reconciled<Box<dyn Writing + 'a>>> {
        Box::pin(async move {
            let pool = self.pool().get();
            let tx = self.pool().in_time(ANSWER, T::Db::begin(&pool)).await;
            let tx = tx.map_err(|error| failed(self.plan(), &error))?;
            let writing: Box<dyn Writing + 'a> = Box::new(OneRow {
                table: self,
                key,
                tx,
            });
            Ok(writing)
        })
    }

    fn statements(&self) -> Vec<(&'static str, String)> {
        let plan = self.plan();
        let values: Vec<String> = (0..plan.columns.len())
            .map(|at| self.shown_value(at))
            .collect();
        let of_row = values.get(plan.keys.len()..).unwrap_or_default();
        let sql = |change: Change<'_>, values| {
            change.sql(<T::Db as Driver>::DIALECT, plan, values, "<the key>")
        };
        vec![
            ("repair of a missing row", sql(Change::Insert(&[]), &values)),
            (
                "repair of a different row",
                sql(Change::Update(&[]), of_row),
            ),
            ("repair of an extra row", sql(Change::Delete, &[])),
        ]
    }
}

struct OneRow<'w, T: WrittenTable> {
    table: &'w T,
    key: &'w Row,
    tx: Transaction<'static, T::Db>,
}

impl<T: WrittenTable> Writing for OneRow<'_, T> {
    fn row(&mut self) -> BoxFuture<'_, Reconciled<Option<Found>>> {
        Box::pin(async move {
            let found = self.table.find(&mut self.tx, self.key).await;
            let mut found = found.map_err(|error| match error {
                ReconcileError::Database { source, .. } => failed(self.table.plan(), &source),
                error => error,
            })?;
            // Its index may count several texts as one, and the key is one of them.
            found.retain(|found| found.key == *self.key);
            match found.len() {
                0 | 1 => Ok(found.pop()),
                rows => Err(ReconcileError::Write {
                    side: self.table.plan().table.shown.clone(),
                    problem: format!("{rows} rows have this key, written in several ways"),
                }),
            }
        })
    }

    fn write<'a>(&'a mut self, change: Change<'a>) -> BoxFuture<'a, Reconciled<()>> {
        Box::pin(async move {
            let plan = self.table.plan();
            let has_nothing = plan.columns.len() == plan.keys.len();
            if has_nothing && matches!(change, Change::Update(_)) {
                return Ok(());
            }
            let changed = self.table.run(&mut self.tx, self.key, change).await?;
            let changed = changed.map_err(|error| failed(plan, &error))?;
            match changed {
                0 | 1 => Ok(()),
                rows => Err(ReconcileError::Write {
                    side: plan.table.shown.clone(),
                    problem: format!("the statement would have changed {rows} rows"),
                }),
            }
        })
    }

    fn commit<'a>(self: Box<Self>) -> BoxFuture<'a, Reconciled<()>>
    where
        Self: 'a,
    {
        Box::pin(async move {
            let Self { table, tx, .. } = *self;
            let committed = table.pool().in_time(ANSWER, tx.commit()).await;
            committed.map_err(|error| failed(table.plan(), &error))
        })
    }

    fn undo<'a>(self: Box<Self>) -> BoxFuture<'a, ()>
    where
        Self: 'a,
    {
        Box::pin(async move {
            let Self { table, tx, .. } = *self;
            // A transaction that cannot be rolled back ends with its connection.
            let _ = table.pool().in_time(ANSWER, tx.rollback()).await;
        })
    }
}

fn failed(plan: &SidePlan, error: &sqlx::Error) -> ReconcileError {
    ReconcileError::Write {
        side: plan.table.shown.clone(),
        problem: refused(error, &plan.columns),
    }
}
