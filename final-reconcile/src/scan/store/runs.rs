//! What was compared: a row for each sweep, and one for each hour of the other scans.

use std::sync::Arc;

use final_core::database::{DbResult, Driver, columns, read};
use serde::Serialize;

use super::step::{ScanKind, Tally};
use crate::{
    state::SqlState,
    unit::{UnitName, among},
};

/// Runs of a unit that are kept.
const MOST: u32 = 1_000;

/// How long a run of a scan lasts that has no end of its own.
const HOUR: i64 = 3_600_000_000;

columns! {
    struct RunRow {
        job: String,
        target: String,
        scan: String,
        since_begun: i64,
        since_last: i64,
        row_count: i64,
        found: i64,
        healed: i64,
        unsettled: i64,
    }
}

/// What a scan has compared: in one sweep, or in an hour of another scan.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Run {
    /// The job.
    pub job: String,
    /// The target table and its database.
    pub target: String,
    /// Which scan: `fresh`, `updated`, `sweep` or `watch`.
    pub scan: String,
    /// How long ago it began, in milliseconds.
    pub begun_ms_ago: u64,
    /// How long ago something was counted last, in milliseconds.
    pub last_ms_ago: u64,
    /// Rows that were compared.
    pub rows: u64,
    /// Rows that differ.
    pub found: u64,
    /// Rows that looked different at first, and were equal once the copy had had its time.
    pub healed: u64,
    /// Rows that changed too often to say.
    pub unsettled: u64,
}

impl<DB: Driver> SqlState<DB> {
    /// Adds to the run that is under way. Looks at the suspects of a sweep count for the last sweep.
    pub(super) async fn count(
        &self,
        conn: &mut DB::Connection,
        unit: &UnitName,
        scan: ScanKind,
        begun: Option<i64>,
        now: i64,
        tally: &Tally,
    ) -> DbResult<()> {
        let templates = self.templates().await?;
        let name = unit.name.as_str();
        let begun = match begun {
            Some(begun) => begun,
            None if scan == ScanKind::Sweep => {
                let sql = "SELECT begun_at FROM {runs} WHERE unit = ? AND scan = ? ORDER BY begun_at DESC LIMIT 1";
                let values = [name.into(), scan.name().into()];
                let last = read::<DB, i64>(conn, &templates.sql(sql), &values).await?;
                last.first().copied().unwrap_or(now)
            }
            None => now - now.rem_euclid(HOUR),
        };
        let id = format!("{name}:{}:{begun}", scan.name());
        let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let add = templates.sql(
            "UPDATE {runs} SET last_at = {now}, row_count = row_count + ?, found = found + ?, healed = healed + ?, \
             unsettled = unsettled + ? WHERE id = ?",
        );
        let values = [
            number(tally.rows).into(),
            number(tally.found).into(),
            number(tally.healed).into(),
            number(tally.unsettled).into(),
            id.as_str().into(),
        ];
        if DB::run_sql(conn, &add, &values).await? > 0 {
            return Ok(());
        }
        let insert = templates.sql(
            "INSERT INTO {runs} (id, unit, job, target, scan, begun_at, last_at, row_count, found, healed, unsettled) \
             VALUES (?, ?, ?, ?, ?, ?, {now}, ?, ?, ?, ?)",
        );
        let values = [
            id.as_str().into(),
            name.into(),
            unit.job.as_str().into(),
            unit.target.as_str().into(),
            scan.name().into(),
            begun.into(),
            number(tally.rows).into(),
            number(tally.found).into(),
            number(tally.healed).into(),
            number(tally.unsettled).into(),
        ];
        DB::run_sql(conn, &insert, &values).await?;
        self.remove_old_runs(conn, name).await
    }

    async fn remove_old_runs(&self, conn: &mut DB::Connection, name: &str) -> DbResult<()> {
        let templates = self.templates().await?;
        let sql = format!(
            "SELECT begun_at FROM {{runs}} WHERE unit = ? ORDER BY begun_at DESC LIMIT 1 OFFSET {MOST}"
        );
        let old = read::<DB, i64>(conn, &templates.sql(&sql), &[name.into()]).await?;
        if let Some(old) = old.first() {
            let sql = templates.sql("DELETE FROM {runs} WHERE unit = ? AND begun_at <= ?");
            DB::run_sql(conn, &sql, &[name.into(), (*old).into()]).await?;
        }
        Ok(())
    }

    pub(super) async fn read_runs(&self, units: &[Arc<UnitName>], most: u32) -> DbResult<Vec<Run>> {
        let (ours, names) = among("unit", units);
        let sql = format!(
            "SELECT job, target, scan, {{now}} - begun_at AS since_begun, {{now}} - last_at AS since_last, row_count, found, \
             healed, unsettled FROM {{runs}} WHERE {ours} ORDER BY begun_at DESC, id LIMIT {most}"
        );
        let sql = self.templates().await?.sql(&sql);
        let mut conn = self.pool().acquire().await?;
        let rows = read::<DB, RunRow>(&mut conn, &sql, &names).await?;
        Ok(rows.into_iter().map(RunRow::shown).collect())
    }
}

impl RunRow {
    fn shown(self) -> Run {
        let number = |count: i64| u64::try_from(count).unwrap_or_default();
        Run {
            job: self.job,
            target: self.target,
            scan: self.scan,
            begun_ms_ago: number(self.since_begun / 1_000),
            last_ms_ago: number(self.since_last / 1_000),
            rows: number(self.row_count),
            found: number(self.found),
            healed: number(self.healed),
            unsettled: number(self.unsettled),
        }
    }
}
