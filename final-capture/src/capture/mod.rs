//! The face: a capture, its options, and what runs.
//!
//! Input: a source, a selection, a target. State: none until it is started. Output: a [`RunningCapture`], with its
//! condition and its end.

mod builder;
mod error;
mod health;
mod metrics;
mod running;
mod state;
mod stats;
#[cfg(test)]
mod tests;

pub use self::{
    builder::{Capture, OnGap, SchemaChange},
    error::CaptureError,
    health::CaptureHealth,
    running::RunningCapture,
    state::{CaptureState, StopReason},
    stats::CaptureStats,
};
