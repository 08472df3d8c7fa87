//! The limits of a gateway, each with its value and its reason.

use std::time::Duration;

use crate::{groups::GroupOptions, http::HttpLimits, publish::QueueLimits, resp::SessionLimits};

/// The limits of a gateway. Start from the default, and set fields.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// The largest payload of a message, in bytes. 1,000,000 by default, as databus has it.
    pub max_message_bytes: usize,
    /// How many messages may wait for the database. 16,384 by default: half a second or so.
    pub queue_messages: usize,
    /// How many bytes of messages may wait for the database. 64 MiB by default.
    pub queue_bytes: usize,
    /// How many messages of a group and topic clients may have in hand on this node. 1,000 by default.
    pub in_hand: usize,
    /// How many bytes of them. 32 MiB by default.
    pub in_hand_bytes: usize,
    /// How long a message that was pulled by HTTP stays in hand, if the client does not say. 30 s by default.
    pub visibility: Duration,
    /// How often a message is given out before it is dead-lettered. 5 by default.
    pub max_deliveries: u32,
    /// How many groups and topics may be open on this node. 64 by default: each takes connections to the database or to
    /// RabbitMQ.
    pub open_pairs: usize,
    /// How many of them one app may use at once, unless `final gateway apps limit --open-pairs` says otherwise for it. By
    /// default a quarter of [`open_pairs`](Self::open_pairs), so one app cannot keep all others from consuming.
    pub open_pairs_of_app: Option<usize>,
    /// How long a group and topic stay open after the last client has left. 60 s by default.
    pub close_after: Duration,
    /// How long each step of a shutdown may take. 10 s by default. Connections have longer,
    /// [`ending`](crate::ListenLimits::ending), because they may wait for a COMMIT.
    pub shutdown_within: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let (queue, groups, http) = (
            QueueLimits::default(),
            GroupOptions::default(),
            HttpLimits::default(),
        );
        Self {
            max_message_bytes: queue.max_message_bytes,
            queue_messages: queue.messages,
            queue_bytes: queue.bytes,
            in_hand: groups.in_hand,
            in_hand_bytes: groups.in_hand_bytes,
            visibility: http.visibility,
            max_deliveries: groups.max_deliveries,
            open_pairs: groups.most_open,
            open_pairs_of_app: None,
            close_after: groups.linger,
            shutdown_within: Duration::from_secs(10),
        }
    }
}

impl Limits {
    pub(super) fn queue(&self) -> QueueLimits {
        QueueLimits {
            max_message_bytes: self.max_message_bytes,
            messages: self.queue_messages,
            bytes: self.queue_bytes,
        }
    }

    pub(super) fn groups(&self) -> GroupOptions {
        GroupOptions {
            in_hand: self.in_hand,
            in_hand_bytes: self.in_hand_bytes,
            max_deliveries: self.max_deliveries,
            most_open: self.open_pairs,
            most_open_of_app: self
                .open_pairs_of_app
                .unwrap_or_else(|| (self.open_pairs / 4).max(1)),
            linger: self.close_after,
            stop_within: self.shutdown_within,
            ..GroupOptions::default()
        }
    }

    pub(super) fn session(&self) -> SessionLimits {
        SessionLimits {
            max_message_bytes: self.max_message_bytes,
            ..SessionLimits::default()
        }
    }

    pub(super) fn http(&self) -> HttpLimits {
        let limits = HttpLimits::default();
        // One message of the largest size, and what is around it in a batch.
        let largest = self.max_message_bytes.saturating_mul(2);
        HttpLimits {
            max_message_bytes: self.max_message_bytes,
            max_body_bytes: limits.max_body_bytes.max(largest),
            visibility: self.visibility,
            ..limits
        }
    }
}
