//! What belongs to a source or target that a job does not have any more.
//!
//! It is found by the job's name. What a process of another configuration runs now is left alone, and so is what one has
//! run a short time ago: that process may only be away for a restart.

use std::{collections::HashSet, sync::Arc, time::Duration};

use final_core::database::{DbResult, Driver, Leases, columns, read};
use serde::Serialize;
use uuid::Uuid;

use super::{
    jobs::JobStatus,
    lots::{LOT, Part},
};
use crate::{
    state::SqlState,
    unit::{UnitName, lease_of_alerts},
};

/// How long no scan of a unit begins after the last lot of it was removed.
const LEASE: Duration = Duration::from_secs(60);

columns! {
    struct LeftoverRow {
        unit: String,
        source: String,
        target: String,
        is_running: i64,
        since_run: i64,
        positions: i64,
        suspects: i64,
        runs: i64,
        repairs: i64,
        alerts: i64,
    }
}

/// What the state has of a source or target that a job does not have any more.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Leftover {
    #[serde(skip)]
    pub(crate) unit: String,
    /// The job.
    pub job: String,
    /// The source table and its database.
    pub source: String,
    /// The target table and its database.
    pub target: String,
    /// Whether a process runs it now, by another configuration: scans it, takes its changes, repairs it or tells its alerts. Then
    /// it is not forgotten. A process that only takes changes counts so for a minute after a change.
    pub is_running: bool,
    /// How long ago something ran, in milliseconds: a scan, a try of a repair, an alert.
    pub ran_ms_ago: u64,
    /// How many positions of scans there are: one, or none if it was never scanned.
    pub positions: u64,
    /// How many rows wait for a look.
    pub suspects: u64,
    /// How many runs of scans are remembered.
    pub runs: u64,
    /// How many repairs are open.
    pub repairs: u64,
    /// How many troubles are written down.
    pub alerts: u64,
}

impl<DB: Driver> SqlState<DB> {
    pub(super) async fn read_leftovers(
        &self,
        job: &str,
        units: &[Arc<UnitName>],
    ) -> DbResult<Vec<Leftover>> {
        // A repair that somebody tries is due soon, so its time is a sign of life.
        let sql = self.templates().await?.sql(
            "SELECT u.unit AS unit, MAX(u.source) AS source, MAX(u.target) AS target, \
                 CAST(MAX(CASE WHEN u.live_until > {now} THEN 1 ELSE 0 END) AS {int}) AS is_running, \
                 CAST({now} - MAX(u.ran_at) AS {int}) AS since_run, \
                 (SELECT COUNT(*) FROM {jobs} j WHERE j.name = u.unit) AS positions, \
                 (SELECT COUNT(*) FROM {suspects} s WHERE s.unit = u.unit) AS suspects, \
                 (SELECT COUNT(*) FROM {runs} c WHERE c.unit = u.unit) AS runs, \
                 (SELECT COUNT(*) FROM {repairs} r WHERE r.unit = u.unit) AS repairs, \
                 (SELECT COUNT(*) FROM {alerts} a WHERE a.unit = u.unit) AS alerts \
             FROM (SELECT name AS unit, source, target, \
                     CASE WHEN watched_until > live_until THEN watched_until ELSE live_until END AS live_until, \
                     COALESCE(ran_at, 0) AS ran_at FROM {jobs} WHERE job = ? \
                 UNION ALL SELECT unit, source, target, claimed_until, \
                     CASE WHEN due_at > opened_at THEN due_at ELSE opened_at END FROM {repairs} WHERE job = ? \
                 UNION ALL SELECT unit, source, target, 0, \
                     CASE WHEN told_at > first_seen THEN told_at ELSE first_seen END FROM {alerts} WHERE job = ?) u \
             GROUP BY u.unit ORDER BY u.unit",
        );
        let mut conn = self.pool().acquire().await?;
        let values = [job.into(), job.into(), job.into()];
        let rows = read::<DB, LeftoverRow>(&mut conn, &sql, &values).await?;
        let ours: HashSet<&str> = units.iter().map(|unit| unit.name.as_str()).collect();
        let others = rows
            .into_iter()
            .filter(|row| !ours.contains(row.unit.as_str()));
        Ok(others.map(|row| row.shown(job)).collect())
    }

    pub(super) async fn read_names(&self) -> DbResult<Vec<String>> {
        let sql = self.templates().await?.sql(
            "SELECT job FROM {jobs} WHERE job IS NOT NULL UNION SELECT job FROM {repairs} \
             UNION SELECT job FROM {alerts} ORDER BY job",
        );
        let mut conn = self.pool().acquire().await?;
        read::<DB, String>(&mut conn, &sql, &[]).await
    }

    /// The lease of the unit is ours meanwhile, so no scan begins. Each lot renews it.
    pub(super) async fn remove_leftover(
        &self,
        leftover: &Leftover,
        idle: Duration,
    ) -> DbResult<bool> {
        let unit = leftover.unit.as_str();
        let now = self
            .in_time(self.read_leftovers(&leftover.job, &[]))
            .await?;
        let is_idle = |left: &Leftover| !left.is_running && !left.has_run_within(idle);
        if !now.iter().any(|left| left.unit == unit && is_idle(left)) {
            return Ok(false);
        }
        let owner = Uuid::now_v7();
        let Some(epoch) = self.in_time(self.hold(unit, owner)).await? else {
            return Ok(false);
        };
        for part in [Part::Repairs, Part::Suspects, Part::Runs, Part::Alerts] {
            loop {
                let lot = async {
                    if self.hold(unit, owner).await? != Some(epoch) {
                        return Ok(None);
                    }
                    let mut tx = DB::begin(&self.pool()).await?;
                    let count = self.remove_lot(&mut tx, part, unit).await?;
                    tx.commit().await?;
                    Ok(Some(count))
                };
                match self.in_time(lot).await? {
                    None => return Ok(false),
                    Some(LOT) => {}
                    Some(_) => break,
                }
            }
        }
        self.in_time(self.remove_last(unit, owner, epoch)).await
    }

    /// Takes the lease of a unit, or renews it.
    async fn hold(&self, unit: &str, owner: Uuid) -> DbResult<Option<i64>> {
        let leases = Leases::new(self.templates().await?);
        let mut conn = self.pool().acquire().await?;
        leases.take::<DB>(&mut conn, unit, owner, LEASE).await
    }

    /// Removes the position, with which the unit is gone. Not if a process has got one of its repairs.
    async fn remove_last(&self, unit: &str, owner: Uuid, epoch: i64) -> DbResult<bool> {
        let templates = self.templates().await?;
        let left = templates.sql("SELECT slot FROM {repairs} WHERE unit = ? LIMIT 1");
        let position =
            templates.sql("DELETE FROM {jobs} WHERE name = ? AND owner = ? AND epoch = ?");
        let alerts = templates.sql("DELETE FROM {jobs} WHERE name = ? AND live_until <= {now}");
        let mut tx = DB::begin(&self.pool()).await?;
        let left = read::<DB, String>(&mut tx, &left, &[unit.into()]).await?;
        if !left.is_empty() {
            Leases::new(templates)
                .release::<DB>(&mut tx, unit, owner, epoch)
                .await?;
            tx.commit().await?;
            return Ok(false);
        }
        let values = [unit.into(), owner.into(), epoch.into()];
        if DB::run_sql(&mut tx, &position, &values).await? == 0 {
            return Ok(false);
        }
        DB::run_sql(&mut tx, &alerts, &[lease_of_alerts(unit).into()]).await?;
        tx.commit().await?;
        Ok(true)
    }
}

impl Leftover {
    /// Whether something has run within this time.
    #[must_use]
    pub fn has_run_within(&self, time: Duration) -> bool {
        u128::from(self.ran_ms_ago) < time.as_millis()
    }

    /// The status of what was never scanned, and has repairs or alerts.
    pub(crate) fn status(self) -> JobStatus {
        JobStatus {
            job: self.job,
            source: self.source,
            target: self.target,
            is_of_job: false,
            is_running: self.is_running,
            paused: None,
            trouble: None,
            fresh_id: None,
            updated_until: None,
            is_sweeping: false,
            sweep_rows: None,
            mirror_at: None,
            mirror_lag_ms: None,
            suspects: self.suspects,
            open_repairs: self.repairs,
        }
    }
}

impl LeftoverRow {
    fn shown(self, job: &str) -> Leftover {
        let number = |count: i64| u64::try_from(count).unwrap_or_default();
        Leftover {
            unit: self.unit,
            job: job.to_owned(),
            source: self.source,
            target: self.target,
            is_running: self.is_running != 0,
            ran_ms_ago: number(self.since_run / 1_000),
            positions: number(self.positions),
            suspects: number(self.suspects),
            runs: number(self.runs),
            repairs: number(self.repairs),
            alerts: number(self.alerts),
        }
    }
}
