//! Change capture: each committed row change of a database becomes a message, in order and without a gap.
//!
//! ```text
//!  PostgreSQL: slot ─┐                                     ┌─ the log: messages and position in one transaction
//!                    ├─ source ─▶ format ─▶ engine ─▶ target ┤
//!  MariaDB: binlog ──┘   events    messages   window       └─ RabbitMQ: confirms, then the position
//!                          ▲                                        │
//!                          └────────────── position ◀───────────────┘
//! ```
//!
//! Into the log each change comes exactly once. To another broker it comes at least once, with the same message id
//! each time.
//!
//! A service that only consumes changes depends on this crate without its default features. It gets [`Change`], and
//! compiles no client of a binary log.

#[cfg(feature = "capture")]
mod capture;
pub mod change;
#[cfg(feature = "capture")]
mod engine;
#[cfg(feature = "capture")]
pub mod format;
#[cfg(any(test, feature = "__fuzzing"))]
#[doc(hidden)]
#[allow(missing_docs)]
pub mod fuzzing;
#[cfg(feature = "capture")]
pub mod import;
#[cfg(feature = "capture")]
pub mod position;
#[cfg(feature = "capture")]
pub mod select;
#[cfg(feature = "capture")]
pub mod source;
#[cfg(feature = "capture")]
pub mod table;
#[cfg(feature = "capture")]
pub mod target;
#[cfg(feature = "capture")]
pub mod value;

#[cfg(feature = "capture")]
pub use capture::{
    Capture, CaptureError, CaptureHealth, CaptureState, CaptureStats, OnGap, RunningCapture,
    SchemaChange, StopReason,
};
pub use change::Change;
