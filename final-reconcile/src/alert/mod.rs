//! Alerts: an endpoint is told that a job is in trouble, each hour while it lasts, and that it is over.
//!
//! Input: the tables of repairs and of jobs, which say what the trouble is. State: a row for each trouble. Output: calls.
//!
//! | part | has |
//! | --- | --- |
//! | [`row`], [`store`] | a row of the table of alerts, and its statements |
//! | [`steps`] | what changes, from what is in trouble now and what is written down |
//! | [`teller`] | the task of a job: looks, writes down, calls |
//!
//! ```text
//!            in trouble                    an hour later, still in trouble
//!   nothing ────────────▶ told: trouble ─────────────────────────────────▶ told: trouble
//!      ▲                        │ well again                                      │
//!      └────── told: over ◀─────┴─────────────────────────────────────────────────┘
//! ```
//!
//! Nothing is kept in memory, so a restart repeats nothing. Of several processes one has the lease of a job's alerts.

mod row;
mod steps;
pub(crate) mod store;
pub(crate) mod teller;

use std::sync::Arc;

use crate::unit::UnitName;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TroubleKind {
    /// Repairs have failed three times, or for a minute.
    Repairs,
    /// The job is paused, because more rows differ than it may repair.
    Paused,
    /// A scan cannot run.
    Scan,
}

impl TroubleKind {
    /// How it is told and written down.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Repairs => "repairs",
            Self::Paused => "paused",
            Self::Scan => "scan",
        }
    }
}

/// Something that is wrong now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) unit: Arc<UnitName>,
    pub(crate) kind: TroubleKind,
    pub(crate) error: String,
    /// Since when, in microseconds since 1970, where that is known.
    pub(crate) since: Option<i64>,
}
