//! Scans that go on: how rows that differ are found while both tables change.
//!
//! ```text
//!  fresh ids ─┐
//!  updated ───┼─ look different ─▶ suspects (a table) ─ wait, look again ─┬ equal: gone
//!  sweep ─────┤                        ▲                                  └ as before: repair, or report
//!  watch ─────┴─ key of a change ──────┘
//! ```
//!
//! Each job has one unit for each target. A unit is scanned by the process that has its lease; what it writes is fenced by
//! the epoch of the lease. A position is written in one transaction with the suspects before it, so a process that dies
//! leaves nothing out.
//!
//! | part | has |
//! | --- | --- |
//! | [`schema`], [`store`] | the tables, and their statements |
//! | [`term`] | takes the lease of a unit, and runs its scans |
//! | [`context`] | what the scans of a unit share |
//! | [`fresh`], [`gaps`] | rows with new ids, also those that become visible late |
//! | [`updated`] | rows whose column of the last update is new |
//! | [`sweep`], [`schedule`] | the whole table, from time to time, not too fast |
//! | [`watch`] | keys of changes, as messages have them |
//! | [`look`] | looks at suspects, until they are equal or really different |
//! | [`basis`] | what judgements rest on, for alerts |
//! | [`beat`] | where the mirror stands, and what is told of it |
//! | [`progress`] | how far a scan is, as it is stored |
//! | [`vitals`] | what a health check and a monitoring system see |

pub(crate) mod basis;
mod beat;
mod column;
mod context;
mod fresh;
mod gaps;
mod look;
mod pauses;
mod progress;
pub(crate) mod schedule;
pub(crate) mod schema;
pub(crate) mod store;
mod sweep;
pub(crate) mod term;
mod updated;
pub(crate) mod vitals;
pub(crate) mod watch;

use std::time::Duration;

use self::{context::Tables, schedule::Sweep};
use crate::{error::Reconciled, plan::Plan, side::Side};

/// How the rows of a job that differ are found.
#[derive(Clone, Debug)]
pub(crate) struct Scans {
    pub(crate) fresh: Option<FreshScan>,
    pub(crate) look_back: Duration,
    pub(crate) updated: Option<UpdatedScan>,
    pub(crate) sweep: Option<Sweep>,
    pub(crate) topics: Vec<String>,
}

impl Default for Scans {
    fn default() -> Self {
        Self {
            fresh: None,
            look_back: Duration::from_secs(10 * 60),
            updated: None,
            sweep: None,
            topics: Vec::new(),
        }
    }
}

impl Scans {
    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.fresh.is_none()
            && self.updated.is_none()
            && self.sweep.is_none()
            && self.topics.is_empty()
    }

    /// Whether they fit the tables.
    ///
    /// # Errors
    ///
    /// Fails if ids are no numbers, or if the column of the last update has no times.
    pub(crate) fn fit(&self, source: &Side, target: &Side, plan: &Plan) -> Reconciled<()> {
        let tables = Tables::new(source.clone(), target.clone(), plan.clone(), None);
        if let Some(fresh) = &self.fresh {
            fresh::reader(&tables, fresh.column.as_deref())?;
        }
        if let Some(updated) = &self.updated {
            updated::reader(&tables, &updated.column)?;
        }
        Ok(())
    }
}

/// Rows with new ids.
#[derive(Clone, Debug)]
pub(crate) struct FreshScan {
    pub(crate) every: Duration,
    /// The source's column with the ids. Without one it is the key.
    pub(crate) column: Option<String>,
    /// Where a scan without a stored position begins.
    pub(crate) first: Option<i64>,
}

/// Rows that were updated.
#[derive(Clone, Debug)]
pub(crate) struct UpdatedScan {
    pub(crate) column: String,
    pub(crate) every: Duration,
    pub(crate) overlap: Duration,
}
