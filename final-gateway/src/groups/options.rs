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
    /// How long a connection may keep a message without a commit. Then the message goes back, because a lane of the log
    /// cannot move to another node before. Defaults to 10 min.
    pub hold: Duration,
    /// How long each step of a shutdown may take. Defaults to 10 s.
    pub stop_within: Duration,
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
            hold: Duration::from_secs(600),
            stop_within: Duration::from_secs(10),
        }
    }
}
