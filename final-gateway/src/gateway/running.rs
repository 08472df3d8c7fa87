//! A gateway that runs, and its end.

use std::{fmt, sync::Arc};

use super::engine::Motor;
use crate::publish::{Committer, Publisher};

/// A gateway that runs. Call [`shutdown`](Self::shutdown) before the process ends. Dropped without it, the gateway stops
/// where it is: what was answered is committed, and what was not acked comes again.
#[must_use = "a dropped gateway stops"]
pub struct Running {
    publisher: Publisher,
    committer: Committer,
    motor: Arc<dyn Motor>,
}

impl Running {
    pub(super) fn new(publisher: Publisher, committer: Committer, motor: Arc<dyn Motor>) -> Self {
        Self {
            publisher,
            committer,
            motor,
        }
    }

    /// The way in for messages, for the service around the gateway.
    #[must_use]
    pub fn publisher(&self) -> &Publisher {
        &self.publisher
    }

    /// Ends the gateway: no new connections, sessions end, what clients have in hand goes back, messages that were
    /// taken are committed, links close. Each step has its limit.
    pub async fn shutdown(self) {
        let Self {
            publisher: _,
            committer,
            motor,
        } = self;
        committer.stop().await;
        motor.stop().await;
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("publisher", &self.publisher)
            .finish_non_exhaustive()
    }
}
