//! What belongs to a source or target that a job has no more.
//!
//! It is found by the job's name. What a process of another configuration runs now is left alone.

use std::{collections::HashSet, sync::Arc};

use final_core::database::{DbResult, Driver, columns, read};
use serde::Serialize;

use crate::{
    repair::store::SqlRepairs,
    unit::{UnitName, lease_of_alerts},
};

columns! {
    struct LeftoverRow {
        unit: String,
        source: Option<String>,
        target: String,
        is_running: i64,
        positions: i64,
        suspects: i64,
        runs: i64,
        repairs: i64,
        alerts: i64,
    }
}

/// What the state has of a source or target that a job has no more.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Leftover {
    #[serde(skip)]
    pub(crate) unit: String,
    /// The job.
    pub job: String,
    /// The source table and its database. None if that is not known.
    pub source: Option<String>,
    /// The target table and its database.
    pub target: String,
    /// Whether a process runs its scans now, by another configuration. Then it is not forgotten.
    pub is_running: bool,
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

impl<DB: Driver> SqlRepairs<DB> {
    pub(super) async fn read_leftovers(
        &self,
        job: &str,
        units: &[Arc<UnitName>],
    ) -> DbResult<Vec<Leftover>> {
        let sql = self.templates().await?.sql(
            "SELECT u.unit AS unit, MAX(u.source) AS source, MAX(u.target) AS target, \
                 CAST(MAX(CASE WHEN u.live_until > {now} THEN 1 ELSE 0 END) AS {int}) AS is_running, \
                 (SELECT COUNT(*) FROM {jobs} j WHERE j.name = u.unit) AS positions, \
                 (SELECT COUNT(*) FROM {suspects} s WHERE s.unit = u.unit) AS suspects, \
                 (SELECT COUNT(*) FROM {runs} c WHERE c.unit = u.unit) AS runs, \
                 (SELECT COUNT(*) FROM {repairs} r WHERE r.unit = u.unit) AS repairs, \
                 (SELECT COUNT(*) FROM {alerts} a WHERE a.unit = u.unit) AS alerts \
             FROM (SELECT name AS unit, source, target, live_until FROM {jobs} WHERE job = ? \
                 UNION ALL SELECT unit, NULL, target, 0 FROM {runs} WHERE job = ? \
                 UNION ALL SELECT unit, NULL, target, 0 FROM {repairs} WHERE job = ? AND unit IS NOT NULL \
                 UNION ALL SELECT unit, NULL, target, 0 FROM {alerts} WHERE job = ? AND unit IS NOT NULL) u \
             GROUP BY u.unit ORDER BY u.unit",
        );
        let mut conn = self.pool().acquire().await?;
        let values = [job.into(), job.into(), job.into(), job.into()];
        let rows = read::<DB, LeftoverRow>(&mut conn, &sql, &values).await?;
        let ours: HashSet<&str> = units.iter().map(|unit| unit.name.as_str()).collect();
        let others = rows
            .into_iter()
            .filter(|row| !ours.contains(row.unit.as_str()));
        Ok(others.map(|row| row.shown(job)).collect())
    }

    pub(super) async fn remove_leftover(&self, leftover: &Leftover) -> DbResult<bool> {
        let templates = self.templates().await?;
        let unit = leftover.unit.as_str();
        let mut tx = DB::begin(&self.pool()).await?;
        let position = templates.sql("DELETE FROM {jobs} WHERE name = ? AND live_until <= {now}");
        let rest = templates.sql("SELECT name FROM {jobs} WHERE name = ?");
        if DB::run_sql(&mut tx, &position, &[unit.into()]).await? == 0
            && !read::<DB, String>(&mut tx, &rest, &[unit.into()])
                .await?
                .is_empty()
        {
            return Ok(false);
        }
        for table in ["{suspects}", "{runs}", "{repairs}", "{alerts}"] {
            let sql = templates.sql(&format!("DELETE FROM {table} WHERE unit = ?"));
            DB::run_sql(&mut tx, &sql, &[unit.into()]).await?;
        }
        if let Some(source) = &leftover.source {
            // A source that another target still has gets a lease again when its alerts are told.
            let lease = lease_of_alerts(&leftover.job, source);
            DB::run_sql(&mut tx, &position, &[lease.into()]).await?;
        }
        tx.commit().await?;
        Ok(true)
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
            positions: number(self.positions),
            suspects: number(self.suspects),
            runs: number(self.runs),
            repairs: number(self.repairs),
            alerts: number(self.alerts),
        }
    }
}
