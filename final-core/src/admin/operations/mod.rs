//! Operations: bulk actions as they are written down.
//!
//! Input: the rows of `final_operations`. Output: [`Operation`]s.
//!
//! ```text
//!   plan ─▶ planned ─ carry_out ─▶ running ─┬─ all done ──────────────▶ done
//!              │                    ▲   ▲   ├─ stop ─▶ stopped ─┐
//!              │                    │   └───┼─ carry_out ◀──────┤
//!              │                    └───────┼─ carry_out ◀─ interrupted ◀─ its process is gone, its lease over
//!              └─ stop ─▶ stopped           └
//! ```

mod rows;
mod schema;

use std::{fmt, time::SystemTime};

pub(super) use self::rows::{NewOperation, OperationRow};
use self::schema::OPERATIONS;
pub(crate) use self::schema::{make_operations, operations_script};

use super::{Action, Count};

/// Where an operation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OperationState {
    /// It was planned, and nothing is done yet.
    Planned,
    /// A program carries it out.
    Running,
    /// The program that carried it out is gone. It can be carried on.
    Interrupted,
    /// It was stopped. It can be carried on.
    Stopped,
    /// All of it is done.
    Done,
}

/// `planned`, `running`, `interrupted`, `stopped` or `done`.
impl fmt::Display for OperationState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Planned => "planned",
            Self::Running => "running",
            Self::Interrupted => "interrupted",
            Self::Stopped => "stopped",
            Self::Done => "done",
        })
    }
}

/// A bulk action, as it is written down.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Operation {
    /// Its number.
    pub id: i64,
    /// The service.
    pub service: String,
    /// The person or program that planned it.
    pub who: String,
    /// The action.
    pub action: Action,
    /// Whether it is about dead letters; otherwise it is about records.
    pub on_letters: bool,
    /// The filter, as a person reads it.
    pub filter: String,
    /// What died or failed after this moment of the database's clock is not touched.
    pub cut_off: SystemTime,
    /// How many letters or records were meant when it was planned.
    pub total: Count,
    /// How many are done.
    pub done: u64,
    /// How many the database did not let go, or not take. They stay as they are.
    pub refused: u64,
    /// Why the last of those was refused.
    pub refusal: Option<String>,
    /// Where it stands.
    pub state: OperationState,
    /// When it was planned.
    pub planned_at: SystemTime,
    /// When it was begun.
    pub started_at: Option<SystemTime>,
    /// When it was stopped, or done.
    pub ended_at: Option<SystemTime>,
}

/// How far an operation is, told after each batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OperationProgress {
    /// How many are done.
    pub done: u64,
    /// How many were refused.
    pub refused: u64,
    /// How many were meant.
    pub total: Count,
}

/// Which operations are listed: the latest 100 of all services, unless narrowed.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct OperationFilter {
    pub(super) service: Option<String>,
    pub(super) unfinished: bool,
    pub(super) limit: Option<u32>,
    pub(super) before: Option<i64>,
}

impl OperationFilter {
    /// The latest operations of all services.
    pub fn all() -> Self {
        Self::default()
    }

    /// Only those of a service.
    pub fn service(mut self, service: impl Into<String>) -> Self {
        self.service = Some(service.into());
        self
    }

    /// Only those that are not done.
    pub fn unfinished(mut self) -> Self {
        self.unfinished = true;
        self
    }

    /// This many at most.
    pub fn limit(mut self, operations: u32) -> Self {
        self.limit = Some(operations);
        self
    }

    /// Only those with a lower number, for the next page.
    pub fn before(mut self, id: i64) -> Self {
        self.before = Some(id);
        self
    }
}
