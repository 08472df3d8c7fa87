//! Alerts in their table, on each of the three databases.

use std::{fmt, sync::Arc, time::Duration};

use final_core::database::{DbResult, Driver, Leases, Value, columns, read};
use futures::future::BoxFuture;
use sqlx::Pool;
use uuid::Uuid;

use super::{Trouble, TroubleKind, row::AlertRow, steps::Step};
use crate::{
    form::time::micros_of,
    own::OwnPool,
    pace::QUICK,
    state::SqlState,
    unit::{UnitName, among},
};

/// How long a repair may fail without a try that counts: its endpoint is paused, or its rows cannot be read.
const FAILING: Duration = Duration::from_secs(60);

/// How often a trouble that lasts is told.
const EVERY: Duration = Duration::from_secs(60 * 60);

columns! {
    struct StuckRow {
        unit: String,
        error: Option<String>,
    }
}

columns! {
    struct JobRow {
        unit: String,
        paused: Option<String>,
        paused_at: Option<i64>,
        trouble: Option<String>,
        trouble_at: Option<i64>,
    }
}

columns! {
    /// The open repairs of a unit: how many, and since when the oldest is open.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct OpenRow {
        pub(crate) open: i64,
        pub(crate) oldest: Option<i64>,
    }
}

/// The tables, whatever the database.
pub(crate) trait AlertStore: fmt::Debug + Send + Sync {
    /// Whether this process tells the alerts for which there is this lease, for so long.
    fn lead<'a>(
        &'a self,
        lease: &'a str,
        owner: Uuid,
        length: Duration,
    ) -> BoxFuture<'a, DbResult<Option<i64>>>;
    /// Lets another process tell them.
    fn leave<'a>(&'a self, lease: &'a str, owner: Uuid, epoch: i64) -> BoxFuture<'a, DbResult<()>>;
    /// What is in trouble now.
    fn troubles<'a>(&'a self, units: &'a [Arc<UnitName>]) -> BoxFuture<'a, DbResult<Vec<Trouble>>>;
    /// What is written down.
    fn alerts<'a>(&'a self, units: &'a [Arc<UnitName>]) -> BoxFuture<'a, DbResult<Vec<AlertRow>>>;
    /// Writes a change down.
    fn step<'a>(&'a self, step: Step<'a>) -> BoxFuture<'a, DbResult<()>>;
    /// The alert that is due for the longest time.
    fn due<'a>(&'a self, units: &'a [Arc<UnitName>]) -> BoxFuture<'a, DbResult<Option<AlertRow>>>;
    /// The open repairs of a unit.
    fn open<'a>(&'a self, unit: &'a str) -> BoxFuture<'a, DbResult<OpenRow>>;
    /// Writes down that an alert was told.
    fn told<'a>(&'a self, alert: &'a AlertRow) -> BoxFuture<'a, DbResult<()>>;
    /// Writes down that it is told later. `fails`: whether it was tried.
    fn later<'a>(
        &'a self,
        alert: &'a AlertRow,
        after: Duration,
        fails: bool,
    ) -> BoxFuture<'a, DbResult<()>>;
}

const FIELDS: &str =
    "slot, id, unit, source, target, kind, first_seen, last_error, is_over, told, attempts";

/// The tables in one database, with a pool of their own.
pub(crate) struct SqlAlerts<DB: Driver>(SqlState<DB>);

impl<DB: Driver> SqlAlerts<DB> {
    pub(crate) fn new(caller: &Pool<DB>) -> Self {
        Self(SqlState::on(OwnPool::new(caller, &[])))
    }

    async fn rows<T: final_core::database::FromRow>(
        &self,
        template: &str,
        values: &[Value<'_>],
    ) -> DbResult<Vec<T>> {
        let work = async {
            let sql = self.0.templates().await?.sql(template);
            let mut conn = self.0.pool().acquire().await?;
            read::<DB, T>(&mut conn, &sql, values).await
        };
        self.0.in_time(work).await
    }

    async fn run(&self, template: &str, values: &[Value<'_>]) -> DbResult<u64> {
        self.0.in_time(self.0.run(template, values)).await
    }
}

impl<DB: Driver> AlertStore for SqlAlerts<DB> {
    fn lead<'a>(
        &'a self,
        lease: &'a str,
        owner: Uuid,
        length: Duration,
    ) -> BoxFuture<'a, DbResult<Option<i64>>> {
        let work = async move {
            let leases = Leases::new(self.0.templates().await?);
            let mut conn = self.0.pool().acquire().await?;
            leases.take::<DB>(&mut conn, lease, owner, length).await
        };
        Box::pin(self.0.in_time(work))
    }

    fn leave<'a>(&'a self, lease: &'a str, owner: Uuid, epoch: i64) -> BoxFuture<'a, DbResult<()>> {
        let work = async move {
            let leases = Leases::new(self.0.templates().await?);
            let mut conn = self.0.pool().acquire().await?;
            let left = leases.release::<DB>(&mut conn, lease, owner, epoch);
            left.await.map(drop)
        };
        Box::pin(self.0.in_time(work))
    }

    fn troubles<'a>(&'a self, units: &'a [Arc<UnitName>]) -> BoxFuture<'a, DbResult<Vec<Trouble>>> {
        Box::pin(async move {
            let (ours, mut values) = among("unit", units);
            let stuck = format!(
                "SELECT unit, MAX(last_error) AS error FROM {{repairs}} WHERE {ours} \
                 AND (attempts >= ? OR failed_at <= {{now}} - ?) GROUP BY unit"
            );
            values.extend([QUICK.into(), micros_of(FAILING).into()]);
            let stuck: Vec<StuckRow> = self.rows(&stuck, &values).await?;
            let (ours, names) = among("name", units);
            let jobs = format!(
                "SELECT name AS unit, paused, paused_at, trouble, trouble_at FROM {{jobs}} \
                 WHERE {ours} AND (paused IS NOT NULL OR trouble IS NOT NULL)"
            );
            let jobs: Vec<JobRow> = self.rows(&jobs, &names).await?;
            let mut troubles = Vec::new();
            let mut add = |name: &str, kind, error: Option<String>, since| {
                let unit = units.iter().find(|unit| unit.name == name);
                if let (Some(unit), Some(error)) = (unit, error) {
                    troubles.push(Trouble {
                        unit: Arc::clone(unit),
                        kind,
                        error,
                        since,
                    });
                }
            };
            for row in stuck {
                let error = row.error.unwrap_or_default();
                add(&row.unit, TroubleKind::Repairs, Some(error), None);
            }
            for row in jobs {
                add(&row.unit, TroubleKind::Paused, row.paused, row.paused_at);
                add(&row.unit, TroubleKind::Scan, row.trouble, row.trouble_at);
            }
            Ok(troubles)
        })
    }

    fn alerts<'a>(&'a self, units: &'a [Arc<UnitName>]) -> BoxFuture<'a, DbResult<Vec<AlertRow>>> {
        Box::pin(async move {
            let (ours, names) = among("unit", units);
            let sql = format!("SELECT {FIELDS} FROM {{alerts}} WHERE {ours}");
            self.rows(&sql, &names).await
        })
    }

    fn step<'a>(&'a self, step: Step<'a>) -> BoxFuture<'a, DbResult<()>> {
        Box::pin(async move {
            match step {
                Step::Begin(trouble) => {
                    let sql = "{insert} INTO {alerts} (slot, id, unit, job, source, target, kind, first_seen, last_error, \
                        is_over, told, told_at, attempts, due_at) \
                        VALUES (?, ?, ?, ?, ?, ?, ?, COALESCE(?, {now}), ?, 0, 0, 0, 0, {now}) {nothing}";
                    let (unit, kind) = (&*trouble.unit, trouble.kind.name());
                    let values = [
                        unit.trouble(kind).into(),
                        Uuid::now_v7().into(),
                        unit.name.as_str().into(),
                        unit.job.as_str().into(),
                        unit.source.as_str().into(),
                        unit.target.as_str().into(),
                        kind.into(),
                        trouble.since.into(),
                        trouble.error.as_str().into(),
                    ];
                    self.run(sql, &values).await
                }
                Step::Again(alert) => {
                    let sql = "UPDATE {alerts} SET is_over = 0, attempts = 0, \
                        due_at = CASE WHEN told > 0 THEN told_at + ? ELSE {now} END WHERE slot = ?";
                    let values = [micros_of(EVERY).into(), alert.slot.as_str().into()];
                    self.run(sql, &values).await
                }
                Step::Because(alert, trouble) => {
                    let sql = "UPDATE {alerts} SET last_error = ? WHERE slot = ?";
                    let values = [trouble.error.as_str().into(), alert.slot.as_str().into()];
                    self.run(sql, &values).await
                }
                Step::Over(alert) => {
                    let sql =
                        "UPDATE {alerts} SET is_over = 1, attempts = 0, due_at = {now} WHERE slot = ?";
                    self.run(sql, &[alert.slot.as_str().into()]).await
                }
            }
            .map(drop)
        })
    }

    fn due<'a>(&'a self, units: &'a [Arc<UnitName>]) -> BoxFuture<'a, DbResult<Option<AlertRow>>> {
        Box::pin(async move {
            let (ours, names) = among("unit", units);
            let sql = format!(
                "SELECT {FIELDS} FROM {{alerts}} WHERE {ours} AND due_at <= {{now}} ORDER BY due_at LIMIT 1"
            );
            let rows: Vec<AlertRow> = self.rows(&sql, &names).await?;
            Ok(rows.into_iter().next())
        })
    }

    fn open<'a>(&'a self, unit: &'a str) -> BoxFuture<'a, DbResult<OpenRow>> {
        Box::pin(async move {
            let sql =
                "SELECT COUNT(*) AS open, MIN(opened_at) AS oldest FROM {repairs} WHERE unit = ?";
            let rows: Vec<OpenRow> = self.rows(sql, &[unit.into()]).await?;
            let none = OpenRow {
                open: 0,
                oldest: None,
            };
            Ok(rows.first().copied().unwrap_or(none))
        })
    }

    fn told<'a>(&'a self, alert: &'a AlertRow) -> BoxFuture<'a, DbResult<()>> {
        Box::pin(async move {
            let slot = alert.slot.as_str();
            if alert.is_over != 0 {
                let sql = "DELETE FROM {alerts} WHERE slot = ? AND id = ?";
                return self
                    .run(sql, &[slot.into(), alert.id.into()])
                    .await
                    .map(drop);
            }
            let sql = "UPDATE {alerts} SET told = told + 1, told_at = {now}, attempts = 0, due_at = {now} + ? \
                WHERE slot = ? AND id = ?";
            let values = [micros_of(EVERY).into(), slot.into(), alert.id.into()];
            self.run(sql, &values).await.map(drop)
        })
    }

    fn later<'a>(
        &'a self,
        alert: &'a AlertRow,
        after: Duration,
        fails: bool,
    ) -> BoxFuture<'a, DbResult<()>> {
        Box::pin(async move {
            let sql = "UPDATE {alerts} SET attempts = attempts + ?, due_at = {now} + ? WHERE slot = ? AND id = ?";
            let values = [
                i64::from(fails).into(),
                micros_of(after).into(),
                alert.slot.as_str().into(),
                alert.id.into(),
            ];
            self.run(sql, &values).await.map(drop)
        })
    }
}

impl<DB: Driver> fmt::Debug for SqlAlerts<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SqlAlerts").field(&self.0).finish()
    }
}
