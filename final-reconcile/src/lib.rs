//! Compare and repair: proves that two tables agree, and mends what does not.
//!
//! ```text
//!  Job: source, targets, mapping
//!    │ describe
//!    ▼
//!  Plan: a canonical form for each pair of columns ─ explain
//!    │
//!    ▼                       equal ─▶ next chunk
//!  chunk ─ digest, both sides ┤
//!                            different ─▶ rows of the chunk ─▶ suspects ─ settle, look again ─▶ difference
//! ```
//!
//! Equal rows stay in their databases: of a chunk only a count and a digest come over the wire. A difference counts
//! only if it is still there after the copy has had its time: a fixed one, or until the mirror says that it has passed it.
//!
//! docs/reconcile.md has the table of canonical forms.

#![cfg_attr(
    not(all(feature = "postgres", feature = "mysql", feature = "sqlite")),
    allow(dead_code, reason = "each database uses another part of it")
)]

mod alert;
mod compare;
mod error;
mod form;
mod heartbeat;
mod job;
mod mirror;
mod operate;
mod own;
mod pace;
mod pair;
mod plan;
mod reconciler;
mod repair;
mod running;
mod scan;
mod side;
mod sql;
mod state;
mod table;
mod unit;

pub use compare::{Comparison, Walked};
pub use error::{NoForm, ReconcileError};
pub use heartbeat::Heartbeat;
pub use job::{
    Job,
    explain::{ExplainedColumn, ExplainedTarget, Explanation},
    repair::{CallbackBody, Repair},
    sweep::Sweep,
};
pub use pair::difference::{Difference, DifferenceKind, DifferentColumn};
pub use plan::mapping::{Mapped, Mapping};
pub use reconciler::Reconciler;
pub use repair::row::OpenRepair;
pub use running::RunningReconciler;
pub use scan::{
    store::{JobStatus, Leftover, Run},
    vitals::ReconcilerHealth,
};
pub use side::Side;
