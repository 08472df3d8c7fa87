//! The gate to the broker: whether messages may be sent now, and sending them.
//!
//! Input: the state that the link reports, and the beginning of a shutdown. Output: open or shut, at once
//! or as a wait for a change. The gate keeps no messages. What may not be sent now stays in the outbox.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::broker::{Link, LinkState, Outgoing};

/// The link to the broker as the relay sees it.
///
/// ```text
///   shut ── link is ready ──────────────▶ open
///    ▲  ◀── link is away or blocked ───────┘
///    └───── link is closed, or the relay stops taking: shut for good
/// ```
pub(super) struct BrokerGate {
    link: Arc<dyn Link>,
    state: watch::Receiver<LinkState>,
    /// Cancelled when the relay stops taking messages and claims.
    stop: CancellationToken,
}

impl BrokerGate {
    pub(super) fn new(link: Arc<dyn Link>, stop: CancellationToken) -> Self {
        Self {
            state: link.state(),
            link,
            stop,
        }
    }

    /// Gives a message to the broker. Its ticket gets the answer.
    pub(super) fn send(&self, outgoing: Outgoing) {
        self.link.send(outgoing);
    }

    /// Whether messages can be sent now.
    pub(super) fn is_open(&self) -> bool {
        *self.state.borrow() == LinkState::Ready && !self.stop.is_cancelled()
    }

    /// Waits until messages can be sent. False if that never happens again.
    pub(super) async fn opened(&self) -> bool {
        let mut state = self.state.clone();
        tokio::select! {
            ready = state.wait_for(|state| matches!(state, LinkState::Ready | LinkState::Closed)) => {
                ready.is_ok_and(|state| *state == LinkState::Ready) && !self.stop.is_cancelled()
            }
            () = self.stop.cancelled() => false,
        }
    }

    /// Waits until messages can no longer be sent.
    pub(super) async fn closed(&self) {
        let mut state = self.state.clone();
        tokio::select! {
            _ = state.wait_for(|state| *state != LinkState::Ready) => {}
            () = self.stop.cancelled() => {}
        }
    }
}
