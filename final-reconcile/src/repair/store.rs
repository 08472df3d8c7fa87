//! Open repairs in a table, on each of the three databases.
//!
//! Input: differences, and what came of tries. State: a pool of its own. Output: repairs that are due, each for one
//! process at a time; lists for an operator.

use std::{fmt, sync::Arc, time::Duration};

use final_core::database::{DbResult, Driver, Value, read};
use futures::future::BoxFuture;
use uuid::Uuid;

use super::row::RepairRow;
use crate::{
    form::time::micros_of,
    mirror::Due,
    pair::difference::{DifferenceKind, RowDifference},
    state::SqlState,
    unit::{UnitName, among},
};

/// Repairs that are opened in one transaction.
const LOT: usize = 100;

/// How soon it is looked first whether the mirror has passed a repair.
const LOOK: Duration = Duration::from_millis(500);

const OPEN: &str = "{insert} INTO {repairs} (slot, id, unit, job, source, target, key_form, row_key, key_text, kind, \
    columns_text, attempts, due_at, opened_at, found_again, is_ours, claimed_until) \
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, {now}, {now}, 0, 0, 0) {nothing}";

/// A try that is under way may have read the row before it changed. While the mirror is waited for, the row may look as it did
/// before the repair.
const FOUND_AGAIN: &str = "UPDATE {repairs} SET found_again = 1 \
    WHERE slot = ? AND (claimed_until > {now} OR passes_at IS NOT NULL) AND found_again <> 1";

/// The most of an error that is kept.
const MOST_ERROR: usize = 1_000;

/// What came of a try.
#[derive(Debug)]
pub(crate) enum Tried {
    /// It is removed. If its row was found to differ meanwhile, it becomes a new repair, due after this time.
    Over { settle: Duration },
    /// It becomes a new repair, due at once.
    Anew,
    /// It is done as far as is known. Both rows are looked at once more, after a time or when the mirror has passed it.
    Rests { until: Due, is_ours: bool },
    /// It is tried again after a while. Without an error it has not failed.
    Later {
        after: Duration,
        error: Option<String>,
        counts: bool,
    },
}

/// The table, whatever the database.
pub(crate) trait RepairStore: fmt::Debug + fmt::Display + Send + Sync {
    /// Makes all tables. False if those that are there are of an earlier state of the release; then they stay as they are.
    fn migrate(&self) -> BoxFuture<'_, DbResult<bool>>;
    /// Opens repairs. A row that has one already keeps it, and it is looked at once more if it is under way.
    fn open<'a>(
        &'a self,
        unit: &'a UnitName,
        rows: &'a [RowDifference],
    ) -> BoxFuture<'a, DbResult<()>>;
    /// Takes repairs that are due, for so long: of the first unit, and of each other one as long as there is room.
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
    /// The repairs of a job, those of these units first, and the oldest first.
    fn list<'a>(
        &'a self,
        job: &'a str,
        units: &'a [Arc<UnitName>],
        most: u32,
    ) -> BoxFuture<'a, DbResult<Vec<RepairRow>>>;
    /// Makes a repair of a job due at once.
    fn retry<'a>(&'a self, job: &'a str, id: Uuid) -> BoxFuture<'a, DbResult<u64>>;
    /// Makes all repairs of these units due at once.
    fn retry_all<'a>(&'a self, units: &'a [Arc<UnitName>]) -> BoxFuture<'a, DbResult<u64>>;
    /// Removes a repair that is not done.
    fn close<'a>(&'a self, job: &'a str, id: Uuid) -> BoxFuture<'a, DbResult<u64>>;
}

const FIELDS: &str = "slot, id, unit, source, target, key_form, row_key, key_text, kind, columns_text, attempts, last_error, is_ours, \
    passes_at, found_again, due_at - {now} AS waits, {now} - opened_at AS age";

impl<DB: Driver> SqlState<DB> {
    /// Opens a repair in a transaction. A row that has one already keeps it, and it is looked at once more if it is under way.
    pub(crate) async fn open_one(
        &self,
        conn: &mut DB::Connection,
        unit: &UnitName,
        row: &RowDifference,
    ) -> DbResult<u64> {
        let columns = serde_json::json!(row.columns).to_string();
        let slot = unit.repair(&row.key_form, &row.key.0);
        let values = [
            slot.as_str().into(),
            Uuid::now_v7().into(),
            unit.name.as_str().into(),
            unit.job.as_str().into(),
            unit.source.as_str().into(),
            unit.target.as_str().into(),
            (&*row.key_form).into(),
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

impl<DB: Driver> SqlState<DB> {
    /// Makes a new repair of one that the owner still has.
    async fn renew(&self, repair: &RepairRow, owner: Uuid, after: Duration) -> DbResult<()> {
        let sql = "UPDATE {repairs} SET id = ?, attempts = 0, last_error = NULL, failed_at = NULL, is_ours = 0, \
            passes_at = NULL, opened_at = {now}, due_at = {now} + ?, claimed_until = 0 \
            WHERE slot = ? AND claimed_by = ? AND id = ?";
        let values = [
            Uuid::now_v7().into(),
            micros_of(after).into(),
            repair.slot.as_str().into(),
            owner.into(),
            repair.id.into(),
        ];
        self.run(sql, &values).await?;
        Ok(())
    }
}

impl<DB: Driver> RepairStore for SqlState<DB> {
    fn migrate(&self) -> BoxFuture<'_, DbResult<bool>> {
        Box::pin(self.make_tables())
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
                    let mut tx = DB::begin(&self.pool()).await?;
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
            let claim = "UPDATE {repairs} SET claimed_by = ?, claimed_until = {now} + ?, \
                found_again = CASE WHEN passes_at IS NOT NULL AND found_again > 0 THEN 2 ELSE 0 END WHERE slot = ?";
            let claim = templates.sql(claim);
            let mut tx = DB::begin(&self.pool()).await?;
            let mut found = Vec::new();
            // One after the other, so that each is read in the order of its index.
            for unit in units {
                let rest = (most as usize).saturating_sub(found.len());
                if rest == 0 {
                    break;
                }
                let select = format!(
                    "SELECT {FIELDS} FROM {{repairs}} WHERE unit = ? AND due_at <= {{now}} AND claimed_until <= {{now}} \
                     ORDER BY due_at LIMIT {rest} {{skip_locked}}"
                );
                let name = [unit.name.as_str().into()];
                found.extend(read::<DB, RepairRow>(&mut tx, &templates.sql(&select), &name).await?);
            }
            for repair in &found {
                let values = [
                    owner.into(),
                    micros_of(length).into(),
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
                    let sql = "DELETE FROM {repairs} WHERE slot = ? AND claimed_by = ? AND id = ? AND found_again <> 1";
                    let values = [slot.into(), owner.into(), repair.id.into()];
                    if self.run(sql, &values).await? == 0 {
                        self.renew(repair, owner, *settle).await?;
                    }
                }
                Tried::Anew => self.renew(repair, owner, Duration::ZERO).await?,
                Tried::Rests { until, is_ours } => {
                    let sql = "UPDATE {repairs} SET is_ours = ?, attempts = 0, last_error = NULL, failed_at = NULL, passes_at = ?, \
                        due_at = {now} + ?, claimed_until = 0 WHERE slot = ? AND claimed_by = ? AND id = ?";
                    let (passes_at, after) = match until {
                        Due::After(after) => (None, *after),
                        Due::Passed(time) => (Some(*time), LOOK),
                    };
                    let values = [
                        i64::from(*is_ours).into(),
                        passes_at.into(),
                        micros_of(after).into(),
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
                        micros_of(*after).into(),
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

    fn list<'a>(
        &'a self,
        job: &'a str,
        units: &'a [Arc<UnitName>],
        most: u32,
    ) -> BoxFuture<'a, DbResult<Vec<RepairRow>>> {
        let work = async move {
            let templates = self.templates().await?;
            let (ours, names) = among("unit", units);
            let mut conn = self.pool().acquire().await?;
            let mut all = Vec::new();
            for which in [ours.clone(), format!("NOT ({ours})")] {
                let rest = (most as usize).saturating_sub(all.len());
                let sql = format!(
                    "SELECT {FIELDS} FROM {{repairs}} WHERE job = ? AND {which} ORDER BY opened_at, slot LIMIT {rest}"
                );
                let names = names.iter().cloned();
                let values: Vec<Value<'_>> = [job.into()].into_iter().chain(names).collect();
                all.extend(read::<DB, RepairRow>(&mut conn, &templates.sql(&sql), &values).await?);
            }
            Ok(all)
        };
        Box::pin(self.in_time(work))
    }

    fn retry<'a>(&'a self, job: &'a str, id: Uuid) -> BoxFuture<'a, DbResult<u64>> {
        let sql = "UPDATE {repairs} SET due_at = {now}, passes_at = NULL WHERE job = ? AND id = ?";
        let work = async move { self.run(sql, &[job.into(), id.into()]).await };
        Box::pin(self.in_time(work))
    }

    fn retry_all<'a>(&'a self, units: &'a [Arc<UnitName>]) -> BoxFuture<'a, DbResult<u64>> {
        let work = async move {
            let (ours, names) = among("unit", units);
            let sql =
                format!("UPDATE {{repairs}} SET due_at = {{now}}, passes_at = NULL WHERE {ours}");
            let sql = self.templates().await?.sql(&sql);
            let mut conn = self.pool().acquire().await?;
            DB::run_sql(&mut conn, &sql, &names).await
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

fn number(kind: DifferenceKind) -> i64 {
    match kind {
        DifferenceKind::Missing => 1,
        DifferenceKind::Different => 2,
        DifferenceKind::Extra => 3,
    }
}
