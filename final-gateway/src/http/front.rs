//! What the HTTP side is made of, and its limits.
//!
//! Input: publisher, groups, rights. Output: a [`Front`], which the routes are made of.

use std::{sync::Arc, time::Duration};

use super::{
    rooms::{Longest, Real, Rooms},
    vitals::Vitals,
};
use crate::{ends, groups::Groups, memory::Budget, publish::Publisher, rights::Rights};

/// The limits of HTTP.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct HttpLimits {
    /// The largest payload of a message, in bytes. 1,000,000 by default, as the publisher's.
    pub max_message_bytes: usize,
    /// The largest body of a request, in bytes: a batch has many messages. 4 MiB by default.
    pub max_body_bytes: usize,
    /// How many bytes of bodies may be in memory at once, of all requests and answers together. 128 MiB by default.
    /// An app has at most half of what the others leave. What does not fit is answered by 503, before anything is done.
    pub memory: usize,
    /// How long a pulled message stays in hand, if the client does not say. 30 s by default.
    pub visibility: Duration,
    /// The longest time in hand that a client may ask for. 12 h by default, or what the broker has if that is less.
    pub most_visibility: Duration,
    /// The longest delay of a nack. 24 h by default, or what the broker has if that is less.
    pub most_delay: Duration,
    /// How long a connection may be without a request, and how long the head of a request may take. 60 s by default.
    pub idle: Duration,
    /// How long the next piece of a body may take, in either direction. 15 s by default.
    pub stall: Duration,
    /// How long a whole body may take to arrive. 60 s by default.
    pub body: Duration,
    /// How long the publisher's queue may be full, before the answer is 503. 5 s by default.
    pub patience: Duration,
    /// How long requests may go on after the stop. 20 s by default: more than a database has for a COMMIT.
    pub goodbye: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            max_message_bytes: 1_000_000,
            max_body_bytes: 4 << 20,
            memory: 128 << 20,
            visibility: Duration::from_secs(30),
            most_visibility: Duration::from_secs(12 * 3600),
            most_delay: Duration::from_secs(24 * 3600),
            idle: Duration::from_secs(60),
            stall: Duration::from_secs(15),
            body: Duration::from_secs(60),
            patience: Duration::from_secs(5),
            goodbye: ends::REQUEST,
        }
    }
}

/// The HTTP side of a gateway: what it needs, and what it allows. Clones share everything.
#[derive(Clone)]
pub struct Front {
    pub(super) rooms: Arc<dyn Rooms>,
    pub(super) vitals: Option<Arc<dyn Vitals>>,
    pub(super) limits: HttpLimits,
    pub(super) budget: Budget,
}

impl Front {
    /// Puts it together.
    pub fn new(publisher: Publisher, groups: Groups, rights: Rights, limits: HttpLimits) -> Self {
        Self::over(Arc::new(Real::new(publisher, groups, rights)), limits)
    }

    pub(super) fn over(rooms: Arc<dyn Rooms>, mut limits: HttpLimits) -> Self {
        let Longest { visibility, delay } = rooms.longest();
        limits.most_visibility = limits.most_visibility.min(visibility);
        limits.most_delay = limits.most_delay.min(delay);
        limits.visibility = limits.visibility.min(limits.most_visibility);
        Self {
            rooms,
            vitals: None,
            limits,
            budget: Budget::new(limits.memory),
        }
    }

    /// Answers `/livez`, `/readyz` and `/metrics` as well. Anybody who reaches the port may ask these.
    #[must_use]
    pub fn with_vitals(mut self, vitals: Arc<dyn Vitals>) -> Self {
        self.vitals = Some(vitals);
        self
    }
}

impl std::fmt::Debug for Front {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Front")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
