//! Whether a capture does its work.

use super::{CaptureState, StopReason};
use crate::engine::vitals::Vitals;

/// The condition of a capture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CaptureHealth {
    /// Why only a restart helps. Empty if none is needed.
    pub not_live: Vec<String>,
    /// Why it does not do its work now. Empty if it does, or stands by for a reader that does.
    pub not_ready: Vec<String>,
}

impl CaptureHealth {
    /// Whether only a restart helps.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.not_live.is_empty()
    }

    /// Whether it does its work, or stands by.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.not_live.is_empty() && self.not_ready.is_empty()
    }
}

pub(super) fn of(vitals: &Vitals, is_stopping: bool) -> CaptureHealth {
    let mut health = CaptureHealth::default();
    let numbers = vitals.copy();
    match &*vitals.state().borrow() {
        CaptureState::Stopped(StopReason::Panicked(why)) => health.not_live.push(why.clone()),
        CaptureState::Stopped(reason) => {
            health.not_ready.push(format!(
                "the capture has stopped ({}): {reason}",
                reason.word()
            ));
        }
        CaptureState::Connecting => {
            health.not_ready.push(match &numbers.source_trouble {
                Some(trouble) => format!("the stream is being opened: {trouble}"),
                None => "the stream is being opened".to_owned(),
            });
        }
        CaptureState::Standby | CaptureState::Streaming | CaptureState::Stopping => {}
    }
    if let Some(trouble) = numbers.target_trouble {
        health
            .not_ready
            .push(format!("the target does not take messages: {trouble}"));
    }
    if is_stopping {
        health
            .not_ready
            .push("the capture is being stopped".to_owned());
    }
    health
}
