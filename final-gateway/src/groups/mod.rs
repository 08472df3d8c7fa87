//! Consuming: what the broker delivers to a group, and which client has it in hand.
//!
//! Input: pairs of group and topic that clients ask for; deliveries of the broker. State: for each pair an open broker
//! while somebody consumes; the messages in hand, each with its holder or its deadline. Output: messages to clients,
//! settlements to the broker.
//!
//! ```text
//!   delivery ─▶ waiting ─ take, pull ─▶ in hand ─ ack, commit ─▶ settled
//!                  ▲                      │  └─ nack, or given out too often ─▶ dead letter
//!                  └── connection ended, deadline passed, nack with delay ─┘
//! ```

use std::time::Duration;

use final_core::{
    Message,
    broker::{DeadLetter, DeadLetterFilter, LinkBacklog},
};

use crate::names::Pair;

/// The groups that are open on this node. Clones share them.
#[derive(Clone, Debug)]
pub struct Groups {}

/// How much one answer may have.
#[derive(Clone, Copy, Debug)]
pub struct Lot {
    /// So many messages at most.
    pub messages: usize,
    /// So many bytes of payload at most; the first message comes whatever its size.
    pub bytes: usize,
    /// How long to wait for the first message.
    pub wait: Duration,
    /// How long to gather more, once the first is there.
    pub gather: Duration,
}

/// A message that a connection has in hand.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Taken {
    /// The message.
    pub message: Message,
    /// The partition: the lane of the log, 0 for a broker without lanes.
    pub partition: i32,
    /// Counts what was given out: it rises over connections, restarts and nodes. `SET partition offset` means it.
    pub offset: i64,
    /// The number of the message in the log.
    pub seq: Option<i64>,
    /// How often the message was given out, this time included.
    pub attempt: u32,
}

/// A message that was pulled and has a deadline.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Pulled {
    /// What acks, nacks or extends it: signed, and without anything of the message.
    pub receipt: String,
    /// The message.
    pub message: Message,
    /// The partition: the lane of the log, 0 for a broker without lanes.
    pub partition: i32,
    /// The number of the message in the log.
    pub seq: Option<i64>,
    /// How often the message was given out, this time included.
    pub attempt: u32,
}

/// Why a group cannot be consumed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GroupError {
    /// The broker refuses the group.
    #[error("the group cannot be opened: {0}")]
    Refused(String),
    /// The database or the broker is away.
    #[error("the broker is away: {0}")]
    Away(String),
    /// So many groups and topics are open on this node that no other may be.
    #[error("too many groups and topics are open on this node ({0})")]
    TooMany(usize),
    /// The gateway is being stopped.
    #[error("the gateway is being stopped")]
    Stopping,
}

/// Why an offset cannot be committed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// There is no such partition.
    #[error("there is no partition {0}")]
    Partition(i64),
    /// No message with this offset was given to this connection, or to any.
    #[error("offset {0} was not given to this connection")]
    Offset(i64),
}

/// Why a receipt settles nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiptError {
    /// It is no receipt of this gateway, or of another group.
    #[error("this is no receipt of this group")]
    Foreign,
    /// Its message is not in hand any longer: its deadline has passed, or it was settled. It will be delivered again
    /// unless it was settled.
    #[error("the message is not in hand any longer: its time is over, or it is settled")]
    Gone,
    /// Another node gave the message out.
    #[error("node {0} gave the message out; send the receipt there")]
    OtherNode(String),
}

/// A connection's share of a group: what it takes is in its hand until it commits, and goes back when this is dropped.
#[derive(Debug)]
pub struct Holder {}

impl Groups {
    /// Opens a pair for a connection that takes messages one lot after the other.
    ///
    /// # Errors
    ///
    /// Says why the group cannot be consumed.
    pub async fn hold(&self, pair: &Pair) -> Result<Holder, GroupError> {
        let _ = pair;
        Err(GroupError::Stopping)
    }

    /// Takes messages of one or more pairs. Each is in hand until it is acked or nacked, or for `visibility`.
    ///
    /// # Errors
    ///
    /// Says why the group cannot be consumed.
    pub async fn pull(
        &self,
        pairs: &[Pair],
        lot: Lot,
        visibility: Duration,
    ) -> Result<Vec<Pulled>, GroupError> {
        let _ = (pairs, lot, visibility);
        Err(GroupError::Stopping)
    }

    /// Settles messages: they are handled. One result for each receipt.
    pub async fn ack(&self, group: &str, receipts: &[String]) -> Vec<Result<(), ReceiptError>> {
        let _ = (group, receipts);
        Vec::new()
    }

    /// Gives messages back, to be delivered again after `delay`. With `reason` and after the last attempt the message
    /// is dead-lettered.
    pub async fn nack(
        &self,
        group: &str,
        receipts: &[String],
        delay: Duration,
        reason: Option<&str>,
    ) -> Vec<Result<(), ReceiptError>> {
        let _ = (group, receipts, delay, reason);
        Vec::new()
    }

    /// Gives messages a new deadline, so long from now.
    pub async fn extend(
        &self,
        group: &str,
        receipts: &[String],
        visibility: Duration,
    ) -> Vec<Result<(), ReceiptError>> {
        let _ = (group, receipts, visibility);
        Vec::new()
    }

    /// What waits for a pair.
    ///
    /// # Errors
    ///
    /// Fails if the database is away, or the broker cannot tell.
    pub async fn backlog(&self, pair: &Pair) -> Result<LinkBacklog, GroupError> {
        let _ = pair;
        Err(GroupError::Stopping)
    }

    /// Dead letters of a pair, the oldest first.
    ///
    /// # Errors
    ///
    /// Fails if the database is away, or the broker cannot list them.
    pub async fn dead_letters(
        &self,
        pair: &Pair,
        filter: &DeadLetterFilter,
    ) -> Result<Vec<DeadLetter>, GroupError> {
        let _ = (pair, filter);
        Err(GroupError::Stopping)
    }

    /// Puts dead letters of a pair back. Returns how many.
    ///
    /// # Errors
    ///
    /// Fails if the database is away, or the broker cannot put them back.
    pub async fn replay(&self, pair: &Pair, filter: &DeadLetterFilter) -> Result<u64, GroupError> {
        let _ = (pair, filter);
        Err(GroupError::Stopping)
    }
}

impl Holder {
    /// Takes the next messages, in their order. Empty if none came in time.
    ///
    /// # Errors
    ///
    /// Fails if the gateway is being stopped.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it has taken nothing.
    pub async fn take(&mut self, lot: Lot) -> Result<Vec<Taken>, GroupError> {
        let _ = lot;
        Err(GroupError::Stopping)
    }

    /// Settles everything of a partition that this connection was given up to an offset. An offset of an earlier
    /// connection is void, and no error: its messages have gone back.
    ///
    /// # Errors
    ///
    /// Fails for a partition or an offset that was never given out.
    pub fn commit(&mut self, partition: i64, offset: i64) -> Result<(), CommitError> {
        let _ = (partition, offset);
        Err(CommitError::Partition(partition))
    }
}
