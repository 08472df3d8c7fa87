//! How groups behave: the values of their options, each with its reason.

use std::time::Duration;

/// How groups behave on one node.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct GroupOptions {
    /// How many messages of a group and topic clients may have in hand on this node. The broker sends no more than its
    /// own prefetch, so a larger number needs a larger [`SqlBroker::prefetch`](final_core::SqlBroker::prefetch).
    /// Defaults to 1,000.
    pub in_hand: usize,
    /// How many bytes of payload they may have in hand. Defaults to 32 MiB.
    pub in_hand_bytes: usize,
    /// How often a message is given out before it goes to the dead letters. Each node counts by itself, because a client
    /// settles with the node that gave the message out. Defaults to 5.
    pub max_deliveries: u32,
    /// How long a group and topic stay open after the last client has left. Opening takes some 100 ms and a dozen
    /// statements, so clients that ask again and again should find them open. Defaults to 60 s.
    pub linger: Duration,
    /// How long messages of the log wait for a client on a node that no client asks, until they go to other nodes. Over
    /// RabbitMQ that is [`linger`](Self::linger): it counts a delivery for each message that a node returns, and a quorum
    /// queue of RabbitMQ 4 gives a message up after 20. Defaults to 2 s.
    pub unclaimed: Duration,
    /// How many groups and topics may be open on this node. Each takes a connection to the database, and on PostgreSQL
    /// a second one; over RabbitMQ each takes two connections to it. Defaults to 64.
    pub most_open: usize,
    /// How many of them one app may use at once, unless its rights say otherwise: so one app cannot take all of them.
    /// Defaults to 16.
    pub most_open_of_app: usize,
    /// How long a connection may keep a message without a commit. Then the message goes back, because a lane of the log
    /// cannot move to another node before. Defaults to 10 min.
    pub hold: Duration,
    /// How long a pulled message can be in hand, with all its extensions. Defaults to 12 h; over another broker than the log
    /// it is 10 min at most, see [`fresh`](Self::fresh).
    pub most_visibility: Duration,
    /// The longest delay of a message that is given back. Defaults to a year; over another broker than the log it is 10 min
    /// at most, see [`fresh`](Self::fresh).
    pub most_delay: Duration,
    /// So long a message may have been on this node when it is given out. An older one goes back to the broker first. Over
    /// the log any time will do. Over another broker it is 5 min at most: RabbitMQ ends a consumer that leaves a message
    /// unsettled for half an hour, with everything that its other clients have in hand.
    pub fresh: Duration,
    /// How long each step of a shutdown may take. Defaults to 10 s.
    pub stop_within: Duration,
}

/// How long another broker than the log may wait for the settlement of a message, in three parts: until it is given out,
/// in hand, and given back with a delay. Together they are less than RabbitMQ's half an hour.
const FRESH: Duration = Duration::from_secs(5 * 60);
const IN_HAND: Duration = Duration::from_secs(10 * 60);
const DELAYED: Duration = Duration::from_secs(10 * 60);

impl GroupOptions {
    /// The options over another broker than the log.
    pub(super) fn over_broker(mut self) -> Self {
        self.unclaimed = self.linger;
        self.most_visibility = self.most_visibility.min(IN_HAND);
        self.hold = self.hold.min(IN_HAND);
        self.most_delay = self.most_delay.min(DELAYED);
        self.fresh = self.fresh.min(FRESH);
        self
    }
}

impl Default for GroupOptions {
    fn default() -> Self {
        Self {
            in_hand: 1_000,
            in_hand_bytes: 32 * 1024 * 1024,
            max_deliveries: 5,
            linger: Duration::from_secs(60),
            unclaimed: Duration::from_secs(2),
            most_open: 64,
            most_open_of_app: 16,
            hold: Duration::from_secs(600),
            most_visibility: Duration::from_secs(12 * 3600),
            most_delay: Duration::from_secs(365 * 24 * 3600),
            fresh: Duration::MAX,
            stop_within: Duration::from_secs(10),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RabbitMQ's `consumer_timeout`.
    const CONSUMER_TIMEOUT: Duration = Duration::from_secs(30 * 60);

    #[test]
    fn another_broker_waits_for_a_settlement_for_less_than_half_an_hour_whatever_is_set() {
        let hours = Duration::from_secs(100 * 3600);
        let mut long = GroupOptions::default();
        for option in [
            &mut long.most_visibility,
            &mut long.hold,
            &mut long.most_delay,
            &mut long.fresh,
        ] {
            *option = hours;
        }
        for options in [GroupOptions::default(), long] {
            let options = options.over_broker();
            let in_hand = options.most_visibility.max(options.hold);
            let longest = options.fresh + in_hand + options.most_delay;
            // A look at what is overdue every ten seconds, and a margin.
            assert!(longest + Duration::from_secs(120) < CONSUMER_TIMEOUT);
        }
    }

    #[test]
    fn over_another_broker_shorter_limits_stay() {
        let short = GroupOptions {
            most_visibility: Duration::from_secs(60),
            ..GroupOptions::default()
        };

        assert_eq!(short.over_broker().most_visibility.as_secs(), 60);
    }
}
