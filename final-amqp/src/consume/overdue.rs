//! Messages that were in flight for longer than RabbitMQ allows.
//!
//! Input: why a channel ended, and its oldest delivery in flight. Output: a warning that names the topic, and says what
//! to do.
//!
//! RabbitMQ closes the channel of a delivery that is not settled within `consumer_timeout` (30 min by default), and
//! delivers everything in flight on it again.

use final_core::MessageId;
use tokio::time::Instant;

use crate::properties::{Original, topic};

/// Part of RabbitMQ's reason.
const REASON: &str = "delivery acknowledgement on channel";

/// Whether a channel ended because a delivery was not settled in time.
pub(super) fn is_reason(why: &str) -> bool {
    why.contains(REASON)
}

/// Tells of the delivery that was not settled in time.
pub(super) fn warn(
    service: &str,
    original: &Original,
    id: Option<(MessageId, bool)>,
    since: Instant,
    reason: &str,
) {
    tracing::warn!(
        target: "final::amqp",
        service,
        topic = topic(original).unwrap_or_default(),
        id = id.map(|(id, _)| tracing::field::display(id)),
        in_flight = ?since.elapsed(),
        reason,
        "RabbitMQ waited for a message longer than its consumer_timeout and delivers it again; a handler that runs goes on, and no second one begins beside it; make the handler shorter, split its work, or raise consumer_timeout"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_rabbitmq_is_known() {
        let told = "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value used: \
            1800000 ms. This timeout value can be configured, see consumers doc guide to learn more";
        assert!(is_reason(told));
        assert!(!is_reason("the connection was lost"));
    }
}
