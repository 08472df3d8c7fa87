//! Open repairs in a table, on each of the three databases.
//!
//! Input: differences, and what came of tries. State: a pool of its own. Output: repairs that are due, each for one
//! process at a time; lists for an operator.

use std::{fmt, sync::Arc, time::Duration};

use final_core::database::{DbResult, Driver, Tables, Templates, Value, columns, migrate, read};
use futures::future::BoxFuture;
use serde::{Serialize, Serializer};
use sqlx::Pool;
use tokio::sync::OnceCell;
use uuid::Uuid;

use super::schema;
use crate::{
    compare::{DifferenceKind, RowDifference},
    form::Row,
    own::OwnPool,
    unit::{UnitName, among},
};

/// How long the database may take to answer.
const ANSWER: Duration = Duration::from_secs(15);

/// Repairs that are opened in one transaction.
const LOT: usize = 100;

/// Connections for repairs, scans, and what an operator asks.
const CONNECTIONS: u32 = 4;

const OPEN: &str = "{insert} INTO {repairs} (slot, id, unit, job, target, row_key, key_text, kind, columns_text, attempts, \
    due_at, opened_at, found_again, is_ours, claimed_until) \
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0, {now}, {now}, 0, 0, 0) {nothing}";

/// A try that is under way may have read the row before it changed.
const FOUND_AGAIN: &str = "UPDATE {repairs} SET found_again = 1 WHERE slot = ? AND claimed_until > {now} AND found_again = 0";

/// The most of an error that is kept.
const MOST_ERROR: usize = 1_000;

columns! {
    /// A repair as the table has it.
    #[derive(Clone, Debug)]
    pub(crate) struct RepairRow {
        pub(crate) slot: String,
        pub(crate) id: Uuid,
        pub(crate) unit: Option<String>,
        pub(crate) target: String,
        pub(crate) row_key: Vec<u8>,
        pub(crate) key_text: Option<String>,
        pub(crate) kind: i64,
        pub(crate) columns_text: String,
        pub(crate) attempts: i64,
        pub(crate) last_error: Option<String>,
        pub(crate) is_ours: i64,
        pub(crate) waits: i64,
        pub(crate) age: i64,
    }
}

/// A repair that is not done.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct OpenRepair {
    /// Its id, with which the idempotency keys of its calls begin.
    #[serde(serialize_with = "as_text")]
    pub id: Uuid,
    /// The target table and its database.
    pub target: String,
    /// Whether the job still has the source and the target of the repair. Otherwise nobody tries it.
    pub is_of_job: bool,
    /// The row's key: the source's columns with their values in canonical form. None of a repair that a release before
    /// tables of version 3 has opened.
    pub key: Vec<(String, String)>,
    /// What is wrong with the row.
    pub kind: DifferenceKind,
    /// The columns that differ.
    pub columns: Vec<String>,
    /// How often it was tried.
    pub attempts: u64,
    /// Why it failed last.
    pub last_error: Option<String>,
    /// How long until it is tried again, in milliseconds.
    pub due_in_ms: u64,
    /// How long it is open, in milliseconds.
    pub age_ms: u64,
}

/// What came of a try.
#[derive(Debug)]
pub(crate) enum Tried {
    /// It is removed. If its row was found to differ meanwhile, it becomes a new repair, due after this time.
    Over { settle: Duration },
    /// The target's row was written. Both rows are looked at once more.
    Written { settle: Duration, is_new: bool },
    /// It is tried again after a while. Without an error it has not failed.
    Later {
        after: Duration,
        error: Option<String>,
        counts: bool,
    },
}

/// The table, whatever the database.
pub(crate) trait RepairStore: fmt::Debug + fmt::Display + Send + Sync {
    /// Makes all tables. Rows of version 2 become those of these units.
    fn migrate<'a>(&'a self, units: &'a [Arc<UnitName>]) -> BoxFuture<'a, DbResult<()>>;
    /// Opens repairs. A row that has one already keeps it, and it is looked at once more if it is under way.
    fn open<'a>(
        &'a self,
        unit: &'a UnitName,
        rows: &'a [RowDifference],
    ) -> BoxFuture<'a, DbResult<()>>;
    /// Takes repairs that are due, for so long.
    fn claim<'a>(
        &'a self,
        units: &'a [Arc<UnitName>],
        owner: Uuid,
        most: u32,
        length: Duration,
    ) -> BoxFuture<'a, DbResult<Vec<RepairRow>>>;
    /// Writes down what came of a try, if the owner still has the repair.
    fn tried<'a>(
        &'a self,
        repair: &'a RepairRow,
        owner: Uuid,
        tried: &'a Tried,
    ) -> BoxFuture<'a, DbResult<()>>;
    /// The repairs of a job, the oldest first, also those of a source or target that it has no more.
    fn list<'a>(&'a self, job: &'a str, most: u32) -> BoxFuture<'a, DbResult<Vec<RepairRow>>>;
    /// Makes repairs of a job due at once: one of them, or all.
    fn retry<'a>(&'a self, job: &'a str, id: Option<Uuid>) -> BoxFuture<'a, DbResult<u64>>;
    /// Removes a repair that is not done.
    fn close<'a>(&'a self, job: &'a str, id: Uuid) -> BoxFuture<'a, DbResult<u64>>;
}

const FIELDS: &str = "slot, id, unit, target, row_key, key_text, kind, columns_text, attempts, last_error, is_ours, \
    due_at - {now} AS waits, {now} - opened_at AS age";

/// The table in one database.
pub(crate) struct SqlRepairs<DB: Driver> {
    pool: OwnPool<DB>,
    templates: OnceCell<Templates>,
}

impl<DB: Driver> SqlRepairs<DB> {
    pub(crate) fn new(caller: &Pool<DB>) -> Self {
        Self {
            pool: OwnPool::new(caller, schema::session(DB::DIALECT)).of(CONNECTIONS),
            templates: OnceCell::new(),
        }
    }

    pub(crate) fn pool(&self) -> Pool<DB> {
        self.pool.get()
    }

    pub(crate) async fn templates(&self) -> DbResult<&Templates> {
        let ask = async {
            let server = DB::server(&mut *self.pool.get().acquire().await?).await?;
            Ok(schema::templates(DB::DIALECT, &server.schema))
        };
        self.templates.get_or_try_init(|| ask).await
    }

    pub(crate) async fn in_time<T>(&self, work: impl Future<Output = DbResult<T>>) -> DbResult<T> {
        self.pool.in_time(ANSWER, work).await
    }

    pub(crate) async fn run(&self, template: &'static str, values: &[Value<'_>]) -> DbResult<u64> {
        let sql = self.templates().await?.sql(template);
        let mut conn = self.pool.get().acquire().await?;
        DB::run_sql(&mut conn, &sql, values).await
    }
}

impl<DB: Driver> SqlRepairs<DB> {
    /// Columns of this version that tables lack which are there.
    async fn lacking(&self) -> DbResult<Vec<(&'static str, &'static str)>> {
        let mut conn = self.pool.get().acquire().await?;
        let mut lacking = Vec::new();
        for &(table, column) in schema::ADDED {
            let columns = DB::columns(&mut conn, table).await?;
            if !columns.is_empty() && !columns.iter().any(|name| name == column) {
                lacking.push((table, column));
            }
        }
        Ok(lacking)
    }

    /// Opens a repair in a transaction. A row that has one already keeps it, and it is looked at once more if it is under way.
    pub(crate) async fn open_one(
        &self,
        conn: &mut DB::Connection,
        unit: &UnitName,
        row: &RowDifference,
    ) -> DbResult<u64> {
        let columns = serde_json::json!(row.columns).to_string();
        let slot = unit.repair(&row.key.0);
        let values = [
            slot.as_str().into(),
            Uuid::now_v7().into(),
            unit.name.as_str().into(),
            unit.job.as_str().into(),
            unit.target.as_str().into(),
            row.key.0.as_slice().into(),
            serde_json::json!(row.named).to_string().into(),
            number(row.kind).into(),
            columns.into(),
        ];
        let templates = self.templates().await?;
        let opened = DB::run_sql(conn, &templates.sql(OPEN), &values).await?;
        if opened == 0 {
            let again = templates.sql(FOUND_AGAIN);
            DB::run_sql(conn, &again, &[slot.as_str().into()]).await?;
        }
        Ok(opened)
    }
}

impl<DB: Driver> RepairStore for SqlRepairs<DB> {
    fn migrate<'a>(&'a self, units: &'a [Arc<UnitName>]) -> BoxFuture<'a, DbResult<()>> {
        Box::pin(async move {
            // Another process may add them meanwhile, and has written the version down then, so that nothing is run here.
            let lacking = self.in_time(self.lacking()).await?;
            let statements = schema::statements(DB::DIALECT, &lacking);
            let tables = Tables {
                name: schema::REPAIRS,
                version: schema::VERSION,
                statements: &statements,
            };
            migrate(&self.pool.get(), &tables).await?;
            self.adopt(units).await
        })
    }

    fn open<'a>(
        &'a self,
        unit: &'a UnitName,
        rows: &'a [RowDifference],
    ) -> BoxFuture<'a, DbResult<()>> {
        let work = async move {
            self.templates().await?;
            // In lots, so that each transaction is short.
            for rows in rows.chunks(LOT) {
                let lot = async {
                    let mut tx = DB::begin(&self.pool.get()).await?;
                    for row in rows {
                        self.open_one(&mut tx, unit, row).await?;
                    }
                    tx.commit().await
                };
                self.in_time(lot).await?;
            }
            Ok(())
        };
        Box::pin(work)
    }

    fn claim<'a>(
        &'a self,
        units: &'a [Arc<UnitName>],
        owner: Uuid,
        most: u32,
        length: Duration,
    ) -> BoxFuture<'a, DbResult<Vec<RepairRow>>> {
        let work = async move {
            let templates = self.templates().await?;
            let (ours, names) = among("unit", units);
            let select = format!(
                "SELECT {FIELDS} FROM {{repairs}} WHERE {ours} AND due_at <= {{now}} AND claimed_until <= {{now}} \
                 ORDER BY due_at LIMIT {most} {{skip_locked}}"
            );
            let claim = "UPDATE {repairs} SET claimed_by = ?, claimed_until = {now} + ?, found_again = 0 WHERE slot = ?";
            let (select, claim) = (templates.sql(&select), templates.sql(claim));
            let mut tx = DB::begin(&self.pool.get()).await?;
            let found = read::<DB, RepairRow>(&mut tx, &select, &names).await?;
            for repair in &found {
                let values = [
                    owner.into(),
                    micros(length).into(),
                    repair.slot.as_str().into(),
                ];
                DB::run_sql(&mut tx, &claim, &values).await?;
            }
            tx.commit().await?;
            Ok(found)
        };
        Box::pin(self.in_time(work))
    }

    fn tried<'a>(
        &'a self,
        repair: &'a RepairRow,
        owner: Uuid,
        tried: &'a Tried,
    ) -> BoxFuture<'a, DbResult<()>> {
        let work = async move {
            let slot = repair.slot.as_str();
            match tried {
                Tried::Over { settle } => {
                    let sql = "DELETE FROM {repairs} WHERE slot = ? AND claimed_by = ? AND id = ? AND found_again = 0";
                    let values = [slot.into(), owner.into(), repair.id.into()];
                    if self.run(sql, &values).await? == 0 {
                        let sql = "UPDATE {repairs} SET id = ?, attempts = 0, last_error = NULL, failed_at = NULL, is_ours = 0, \
                            opened_at = {now}, due_at = {now} + ?, claimed_until = 0 \
                            WHERE slot = ? AND claimed_by = ? AND id = ?";
                        let values = [
                            Uuid::now_v7().into(),
                            micros(*settle).into(),
                            slot.into(),
                            owner.into(),
                            repair.id.into(),
                        ];
                        self.run(sql, &values).await?;
                    }
                }
                Tried::Written { settle, is_new } => {
                    let sql = "UPDATE {repairs} SET is_ours = ?, last_error = NULL, failed_at = NULL, due_at = {now} + ?, \
                        claimed_until = 0 WHERE slot = ? AND claimed_by = ? AND id = ?";
                    let values = [
                        i64::from(*is_new).into(),
                        micros(*settle).into(),
                        slot.into(),
                        owner.into(),
                        repair.id.into(),
                    ];
                    self.run(sql, &values).await?;
                }
                Tried::Later {
                    after,
                    error,
                    counts,
                } => {
                    let sql = "UPDATE {repairs} SET attempts = attempts + ?, due_at = {now} + ?, \
                        last_error = COALESCE(?, last_error), \
                        failed_at = CASE WHEN ? = 0 THEN failed_at ELSE COALESCE(failed_at, {now}) END, \
                        claimed_until = 0 WHERE slot = ? AND claimed_by = ? AND id = ?";
                    let fails = i64::from(error.is_some());
                    let error = error.as_deref();
                    let error: Option<String> =
                        error.map(|error| error.chars().take(MOST_ERROR).collect());
                    let values = [
                        i64::from(*counts).into(),
                        micros(*after).into(),
                        error.into(),
                        fails.into(),
                        slot.into(),
                        owner.into(),
                        repair.id.into(),
                    ];
                    self.run(sql, &values).await?;
                }
            }
            Ok(())
        };
        Box::pin(self.in_time(work))
    }

    fn list<'a>(&'a self, job: &'a str, most: u32) -> BoxFuture<'a, DbResult<Vec<RepairRow>>> {
        let work = async move {
            let sql = format!(
                "SELECT {FIELDS} FROM {{repairs}} WHERE job = ? ORDER BY opened_at, slot LIMIT {most}"
            );
            let sql = self.templates().await?.sql(&sql);
            let mut conn = self.pool.get().acquire().await?;
            read::<DB, RepairRow>(&mut conn, &sql, &[job.into()]).await
        };
        Box::pin(self.in_time(work))
    }

    fn retry<'a>(&'a self, job: &'a str, id: Option<Uuid>) -> BoxFuture<'a, DbResult<u64>> {
        let work = async move {
            match id {
                Some(id) => {
                    let sql = "UPDATE {repairs} SET due_at = {now} WHERE job = ? AND id = ?";
                    self.run(sql, &[job.into(), id.into()]).await
                }
                None => {
                    let sql = "UPDATE {repairs} SET due_at = {now} WHERE job = ?";
                    self.run(sql, &[job.into()]).await
                }
            }
        };
        Box::pin(self.in_time(work))
    }

    fn close<'a>(&'a self, job: &'a str, id: Uuid) -> BoxFuture<'a, DbResult<u64>> {
        let work = async move {
            let sql = "DELETE FROM {repairs} WHERE job = ? AND id = ?";
            self.run(sql, &[job.into(), id.into()]).await
        };
        Box::pin(self.in_time(work))
    }
}

impl<DB: Driver> fmt::Display for SqlRepairs<DB> {
    /// Where the database is, without a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.pool.place())
    }
}

impl<DB: Driver> fmt::Debug for SqlRepairs<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SqlRepairs")
            .field(&self.pool.place())
            .finish()
    }
}

impl RepairRow {
    /// The repair as it is shown. `units` are those of the job.
    pub(crate) fn shown(self, units: &[Arc<UnitName>]) -> OpenRepair {
        let ms = |micros: i64| u64::try_from(micros / 1_000).unwrap_or_default();
        let unit = self.unit.as_deref();
        OpenRepair {
            is_of_job: units.iter().any(|known| Some(known.name.as_str()) == unit),
            key: self.named(),
            kind: self.difference(),
            columns: self.columns(),
            id: self.id,
            attempts: u64::try_from(self.attempts).unwrap_or_default(),
            due_in_ms: ms(self.waits),
            age_ms: ms(self.age),
            target: self.target,
            last_error: self.last_error,
        }
    }

    pub(crate) fn difference(&self) -> DifferenceKind {
        match self.kind {
            1 => DifferenceKind::Missing,
            2 => DifferenceKind::Different,
            _ => DifferenceKind::Extra,
        }
    }

    pub(crate) fn columns(&self) -> Vec<String> {
        serde_json::from_str(&self.columns_text).unwrap_or_default()
    }

    pub(crate) fn key(&self) -> Row {
        Row(self.row_key.clone())
    }

    /// The columns of the key with their values.
    pub(crate) fn named(&self) -> Vec<(String, String)> {
        let text = self.key_text.as_deref();
        text.and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default()
    }
}

fn as_text<S: Serializer>(id: &Uuid, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

fn number(kind: DifferenceKind) -> i64 {
    match kind {
        DifferenceKind::Missing => 1,
        DifferenceKind::Different => 2,
        DifferenceKind::Extra => 3,
    }
}

pub(crate) fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX / 4)
}
