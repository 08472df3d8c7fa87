//! The task that tells the alerts of one job.
//!
//! Input: what the database says. Output: calls to the job's endpoint. A call that is repeated has the same idempotency
//! key, and each alert has another one.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use final_core::database::DbResult;
use final_webhook::{Call, CallOutcome, Caller, Endpoint, NotDone};
use serde_json::json;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{TroubleKind, row::AlertRow, steps::steps, store::AlertStore};
use crate::{
    form::time::of_micros,
    job::Job,
    pace::Pace,
    scan::basis::Bases,
    unit::{UnitName, lease_of_alerts},
};

/// How often the tables are looked at.
const POLL: Duration = Duration::from_secs(2);

/// How long to wait after the tables could not be read.
const TROUBLE: Duration = Duration::from_secs(5);

/// How long a process that stood still keeps the alerts. It is longer than a look and a call.
const LEASE: Duration = Duration::from_secs(60);

/// How soon a call that failed is repeated.
const PACE: Pace = Pace {
    quick: Duration::from_secs(10),
    slow: Duration::from_secs(10 * 60),
};

/// Tells the alerts of one job.
pub(crate) struct Teller {
    job: String,
    units: Vec<Arc<UnitName>>,
    bases: Bases,
    endpoint: Endpoint,
    store: Arc<dyn AlertStore>,
    caller: Caller,
    owner: Uuid,
    /// The leases that are ours, with their epochs. Each unit has one: another configuration may have some of them.
    leases: BTreeMap<String, i64>,
}

impl Teller {
    pub(crate) fn new(
        job: &str,
        units: Vec<Arc<UnitName>>,
        bases: Bases,
        endpoint: Endpoint,
        store: Arc<dyn AlertStore>,
        caller: Caller,
    ) -> Self {
        Self {
            job: job.to_owned(),
            units,
            bases,
            endpoint,
            store,
            caller,
            owner: Uuid::now_v7(),
            leases: BTreeMap::new(),
        }
    }

    /// Goes on until it is told to stop. A call that is under way ends first.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut in_trouble = false;
        while !stop.is_cancelled() {
            let pause = match self.look().await {
                Ok(true) => {
                    in_trouble = false;
                    continue;
                }
                Ok(false) => {
                    in_trouble = false;
                    POLL
                }
                Err(error) => {
                    if !in_trouble {
                        tracing::warn!(
                            target: "final::reconcile",
                            job = self.job,
                            %error,
                            "alerts cannot be read or written; they stay, and are told later"
                        );
                    }
                    in_trouble = true;
                    TROUBLE
                }
            };
            tokio::select! {
                () = sleep(pause) => {}
                () = stop.cancelled() => {}
            }
        }
        for (lease, epoch) in self.leases {
            // Otherwise the lease runs out by itself.
            let _ = self.store.leave(&lease, self.owner, epoch).await;
        }
    }

    /// Writes down what has changed, and tells one alert. Whether there may be more.
    async fn look(&mut self) -> DbResult<bool> {
        let units = self.lead().await?;
        if units.is_empty() {
            return Ok(false);
        }
        let troubles = self.store.troubles(&units).await?;
        let alerts = self.store.alerts(&units).await?;
        for step in steps(&troubles, &alerts) {
            self.store.step(step).await?;
        }
        let Some(alert) = self.store.due(&units).await? else {
            return Ok(false);
        };
        let is_paused = troubles
            .iter()
            .any(|trouble| trouble.kind == TroubleKind::Paused && trouble.unit.name == alert.unit);
        self.tell(&alert, is_paused).await?;
        Ok(true)
    }

    /// Takes the leases of the units, or renews them. Returns the units whose lease is ours.
    async fn lead(&mut self) -> DbResult<Vec<Arc<UnitName>>> {
        let mut ours = Vec::new();
        for unit in &self.units {
            let lease = lease_of_alerts(&unit.name);
            match self.store.lead(&lease, self.owner, LEASE).await? {
                Some(epoch) => {
                    self.leases.insert(lease, epoch);
                    ours.push(Arc::clone(unit));
                }
                None => {
                    self.leases.remove(&lease);
                }
            }
        }
        Ok(ours)
    }

    async fn tell(&self, alert: &AlertRow, is_paused: bool) -> DbResult<()> {
        let open = self.store.open(&alert.unit).await?;
        let body = json!({
            "job": self.job,
            "source": alert.source,
            "target": alert.target,
            "kind": alert.kind,
            "over": alert.is_over != 0,
            "open": open.open,
            "oldest": open.oldest.and_then(moment),
            "last_error": alert.last_error,
            "first_seen": moment(alert.first_seen),
            "paused": is_paused,
            "judged_by": self.bases.of(&alert.target).await?,
        });
        let number = match alert.is_over {
            0 => alert.told.to_string(),
            // The trouble may come back, and end once more.
            _ => format!("{}-over", alert.told),
        };
        let key = format!("{}-{number}", alert.id);
        let (error, asked) = match self.call(body.to_string(), &key).await {
            CallOutcome::Done(_) => return self.store.told(alert).await,
            CallOutcome::Gone => {
                tracing::warn!(
                    target: "final::reconcile",
                    job = self.job,
                    kind = alert.kind,
                    "the endpoint of alerts has answered 410, so it was not told of a trouble; name another endpoint"
                );
                return self.store.told(alert).await;
            }
            CallOutcome::Paused { until } => {
                let after = until.saturating_duration_since(Instant::now());
                return self.store.later(alert, after, false).await;
            }
            CallOutcome::Retry { after, why } => (why, after),
        };
        tracing::warn!(
            target: "final::reconcile",
            job = self.job,
            kind = alert.kind,
            %error,
            "an alert could not be delivered; it is tried again"
        );
        let random = Uuid::now_v7().as_u128() as u16;
        let chance = f64::from(random) / f64::from(u16::MAX);
        let own = PACE.after(alert.attempts + 1, chance);
        let after = asked.unwrap_or_default().max(own);
        self.store.later(alert, after, true).await
    }

    async fn call(&self, body: String, key: &str) -> CallOutcome {
        let broken = |error: String| CallOutcome::Retry {
            after: None,
            why: NotDone::Broken { error },
        };
        let call = match Call::new(body, "application/json;charset=UTF-8", key) {
            Ok(call) => call,
            Err(error) => return broken(error.to_string()),
        };
        let call = self.caller.call(&self.endpoint, &call);
        let called = timeout(Job::LONGEST_ALERT, call).await;
        called.unwrap_or_else(|_| {
            broken(format!(
                "the call was not over after {:?}",
                Job::LONGEST_ALERT
            ))
        })
    }
}

/// A moment in the form of RFC 3339.
fn moment(micros: i64) -> Option<String> {
    of_micros(micros).map(|text| format!("{}Z", text.replace(' ', "T")))
}
