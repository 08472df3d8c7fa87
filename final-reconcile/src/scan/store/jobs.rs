//! Who runs the scans of a unit, and how far they are.

use std::{sync::Arc, time::Duration};

use final_core::database::{DbResult, Driver, Leases, columns, read};
use serde::Serialize;
use uuid::Uuid;

use super::{
    lots::{LOT, Part},
    step::{Standing, Term},
};
use crate::{
    form::time::micros_of,
    scan::progress::{FreshIds, MirrorStand, SweepProgress, UpdateWindow},
    state::SqlState,
    unit::{UnitName, among},
};

/// The most of an error that is kept.
const MOST_TROUBLE: usize = 2_000;

columns! {
    struct KeyRow {
        key_text: Option<String>,
    }
}

columns! {
    struct StatusRow {
        unit: String,
        job: String,
        source: String,
        target: String,
        is_running: i64,
        paused: Option<String>,
        trouble: Option<String>,
        fresh: Option<String>,
        updated: Option<String>,
        sweep: Option<String>,
        mirror: Option<String>,
        suspects: i64,
        open_repairs: i64,
    }
}

/// How the scans of a job are, for one of its targets.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct JobStatus {
    /// The job.
    pub job: String,
    /// The source table and its database.
    pub source: String,
    /// The target table and its database.
    pub target: String,
    /// Whether the job has this source and this target. Otherwise it is what is left of an earlier configuration, or another
    /// configuration with the same state has a job of this name.
    pub is_of_job: bool,
    /// Whether a process runs the scans now, or the job if it has none.
    pub is_running: bool,
    /// Why nothing is scanned until somebody resumes the job.
    pub paused: Option<String>,
    /// Why a scan cannot run.
    pub trouble: Option<String>,
    /// The id up to which fresh ids were compared.
    pub fresh_id: Option<i64>,
    /// The time of the newest update that was compared, as the column has it.
    pub updated_until: Option<String>,
    /// Whether a sweep is under way.
    pub is_sweeping: bool,
    /// How many rows the sweep that is under way has compared, or the last one had.
    pub sweep_rows: Option<u64>,
    /// Where the mirror stands, in UTC: the time of its heartbeat. None without a heartbeat that can be read, and if no process
    /// runs the scans.
    pub mirror_at: Option<String>,
    /// How far it was behind the source, in milliseconds, when it was looked at last.
    pub mirror_lag_ms: Option<u64>,
    /// How many rows wait for a look.
    pub suspects: u64,
    /// How many repairs are open.
    pub open_repairs: u64,
}

impl<DB: Driver> SqlState<DB> {
    pub(super) async fn take_lease(
        &self,
        unit: &UnitName,
        owner: Uuid,
        length: Duration,
    ) -> DbResult<Option<i64>> {
        let templates = self.templates().await?;
        let leases = Leases::new(templates);
        let mut tx = DB::begin(&self.pool()).await?;
        let epoch = leases
            .take::<DB>(&mut tx, &unit.name, owner, length)
            .await?;
        if epoch.is_some() {
            let sql = templates.sql(
                "UPDATE {jobs} SET job = ?, source = ?, target = ?, ran_at = {now} WHERE name = ?",
            );
            let values = [
                unit.job.as_str().into(),
                unit.source.as_str().into(),
                unit.target.as_str().into(),
                unit.name.as_str().into(),
            ];
            DB::run_sql(&mut tx, &sql, &values).await?;
        }
        tx.commit().await?;
        Ok(epoch)
    }

    pub(super) async fn release_lease(&self, term: &Term) -> DbResult<()> {
        let leases = Leases::new(self.templates().await?);
        let mut conn = self.pool().acquire().await?;
        let (name, owner) = (&term.unit.name, term.owner);
        leases
            .release::<DB>(&mut conn, name, owner, term.epoch)
            .await?;
        Ok(())
    }

    pub(super) async fn read_standing(&self, unit: &UnitName) -> DbResult<Option<Standing>> {
        let sql = self.templates().await?.sql(
            "SELECT fresh, updated, sweep, asked_at, paused, {now} AS now_at FROM {jobs} WHERE name = ?",
        );
        let mut conn = self.pool().acquire().await?;
        let found = read::<DB, Standing>(&mut conn, &sql, &[unit.name.as_str().into()]).await?;
        Ok(found.into_iter().next())
    }

    pub(super) async fn ask_for_sweeps(&self, units: &[Arc<UnitName>]) -> DbResult<()> {
        let templates = self.templates().await?;
        let ask = templates.sql("UPDATE {jobs} SET asked_at = {now} WHERE name = ?");
        let mut conn = self.pool().acquire().await?;
        for unit in units {
            self.have_row(&mut conn, unit).await?;
            DB::run_sql(&mut conn, &ask, &[unit.name.as_str().into()]).await?;
        }
        Ok(())
    }

    pub(super) async fn write_watched(&self, unit: &UnitName, length: Duration) -> DbResult<()> {
        let sql = "UPDATE {jobs} SET ran_at = {now}, watched_until = {now} + ? WHERE name = ?";
        let sql = self.templates().await?.sql(sql);
        let mut conn = self.pool().acquire().await?;
        self.have_row(&mut conn, unit).await?;
        let values = [micros_of(length).into(), unit.name.as_str().into()];
        DB::run_sql(&mut conn, &sql, &values).await?;
        Ok(())
    }

    /// Makes the row of a unit if it is not there, so that what belongs to the unit can be listed. On MariaDB an INSERT of a
    /// name that is there would lock its row.
    pub(super) async fn have_row(
        &self,
        conn: &mut DB::Connection,
        unit: &UnitName,
    ) -> DbResult<()> {
        let templates = self.templates().await?;
        let name = unit.name.as_str();
        let known = templates.sql("SELECT name FROM {jobs} WHERE name = ?");
        let known = read::<DB, String>(conn, &known, &[name.into()]).await?;
        if known.is_empty() {
            let insert = templates.sql(
                "{insert} INTO {jobs} (name, owner, epoch, live_until, job, source, target, ran_at) \
                 VALUES (?, ?, 0, 0, ?, ?, ?, {now}) {nothing}",
            );
            let values = [
                name.into(),
                Uuid::nil().into(),
                unit.job.as_str().into(),
                unit.source.as_str().into(),
                unit.target.as_str().into(),
            ];
            DB::run_sql(conn, &insert, &values).await?;
        }
        Ok(())
    }

    pub(super) async fn write_trouble(&self, term: &Term, why: Option<&str>) -> DbResult<()> {
        let sql = match why {
            Some(_) => {
                "UPDATE {jobs} SET trouble = ?, trouble_at = COALESCE(trouble_at, {now}) \
                 WHERE name = ? AND owner = ? AND epoch = ?"
            }
            None => {
                "UPDATE {jobs} SET trouble = ?, trouble_at = NULL WHERE name = ? AND owner = ? AND epoch = ?"
            }
        };
        let why: Option<String> = why.map(|why| why.chars().take(MOST_TROUBLE).collect());
        let values = [
            why.into(),
            term.unit.name.as_str().into(),
            term.owner.into(),
            term.epoch.into(),
        ];
        self.run(sql, &values).await?;
        Ok(())
    }

    pub(super) async fn write_mirror(&self, term: &Term, stand: Option<&str>) -> DbResult<()> {
        let sql = "UPDATE {jobs} SET mirror = ? WHERE name = ? AND owner = ? AND epoch = ?";
        let values = [
            stand.map(str::to_owned).into(),
            term.unit.name.as_str().into(),
            term.owner.into(),
            term.epoch.into(),
        ];
        self.run(sql, &values).await?;
        Ok(())
    }

    /// The key of a row of the source is one of other columns from now on, so the old keys say nothing any more. They are
    /// removed in lots, and the new key is written down last: a process that ends before begins anew.
    pub(super) async fn write_key(&self, term: &Term, key: &str) -> DbResult<bool> {
        loop {
            if let Some(is_another) = self.in_time(self.write_key_lot(term, key)).await? {
                return Ok(is_another);
            }
        }
    }

    /// None if there are more keys to be removed.
    async fn write_key_lot(&self, term: &Term, key: &str) -> DbResult<Option<bool>> {
        let templates = self.templates().await?;
        let name = term.unit.name.as_str();
        let mut tx = DB::begin(&self.pool()).await?;
        let sql = templates
            .sql("SELECT key_text FROM {jobs} WHERE name = ? AND owner = ? AND epoch = ? {lock}");
        let values = [name.into(), term.owner.into(), term.epoch.into()];
        let found = read::<DB, KeyRow>(&mut tx, &sql, &values).await?;
        let before = match found.into_iter().next().map(|row| row.key_text) {
            // A process that has lost its lease finds out when it writes.
            None => return Ok(Some(false)),
            Some(before) if before.as_deref() == Some(key) => return Ok(Some(false)),
            Some(before) => before,
        };
        let (mut is_over, is_another) = (true, before.is_some());
        if is_another {
            let sql = templates.sql("UPDATE {jobs} SET asked_at = {now} WHERE name = ?");
            DB::run_sql(&mut tx, &sql, &[name.into()]).await?;
            is_over = self.remove_lot(&mut tx, Part::Suspects, name).await? < LOT;
        }
        if is_over {
            let sql = templates.sql("UPDATE {jobs} SET key_text = ? WHERE name = ?");
            DB::run_sql(&mut tx, &sql, &[key.into(), name.into()]).await?;
        }
        tx.commit().await?;
        Ok(is_over.then_some(is_another))
    }

    pub(super) async fn resume_units(&self, units: &[Arc<UnitName>]) -> DbResult<u64> {
        let (ours, names) = among("name", units);
        let sql = format!(
            "UPDATE {{jobs}} SET paused = NULL, paused_at = NULL, span_at = NULL, span_found = NULL \
             WHERE {ours} AND paused IS NOT NULL"
        );
        let sql = self.templates().await?.sql(&sql);
        let mut conn = self.pool().acquire().await?;
        DB::run_sql(&mut conn, &sql, &names).await
    }

    pub(super) async fn read_status(
        &self,
        job: &str,
        units: &[Arc<UnitName>],
    ) -> DbResult<Vec<JobStatus>> {
        let sql = self.templates().await?.sql(
            "SELECT j.name AS unit, j.job AS job, j.source AS source, j.target AS target, \
                 CAST(CASE WHEN j.live_until > {now} THEN 1 ELSE 0 END AS {int}) AS is_running, \
                 j.paused AS paused, j.trouble AS trouble, j.fresh AS fresh, j.updated AS updated, j.sweep AS sweep, \
                 j.mirror AS mirror, \
                 (SELECT COUNT(*) FROM {suspects} s WHERE s.unit = j.name) AS suspects, \
                 (SELECT COUNT(*) FROM {repairs} r WHERE r.unit = j.name) AS open_repairs \
             FROM {jobs} j WHERE j.job = ? ORDER BY j.name",
        );
        let mut conn = self.pool().acquire().await?;
        let rows = read::<DB, StatusRow>(&mut conn, &sql, &[job.into()]).await?;
        Ok(rows.into_iter().map(|row| row.shown(units)).collect())
    }
}

impl StatusRow {
    /// A position that cannot be read is shown as none. The scan itself tells of it.
    fn shown(self, units: &[Arc<UnitName>]) -> JobStatus {
        let fresh = self.fresh.and_then(|text| FreshIds::read(&text).ok());
        let updated = self.updated.and_then(|text| UpdateWindow::read(&text).ok());
        let sweep = self.sweep.and_then(|text| SweepProgress::read(&text).ok());
        let is_running = self.is_running != 0;
        // What a process has written that does not run any more says nothing about now.
        let mirror = self.mirror.filter(|_| is_running);
        let mirror = mirror.and_then(|text| MirrorStand::read(&text).ok());
        let mirror = mirror.unwrap_or_default();
        JobStatus {
            is_of_job: units.iter().any(|unit| unit.name == self.unit),
            job: self.job,
            source: self.source,
            target: self.target,
            is_running,
            paused: self.paused,
            trouble: self.trouble,
            // The smallest number stands for the place before all ids.
            fresh_id: fresh
                .map(|fresh| fresh.last)
                .filter(|last| *last > i64::MIN),
            updated_until: updated.map(|window| window.seen),
            is_sweeping: sweep.as_ref().is_some_and(|sweep| !sweep.is_over),
            sweep_rows: sweep.map(|sweep| sweep.rows),
            mirror_at: mirror.at,
            mirror_lag_ms: mirror.lag,
            suspects: u64::try_from(self.suspects).unwrap_or_default(),
            open_repairs: u64::try_from(self.open_repairs).unwrap_or_default(),
        }
    }
}
