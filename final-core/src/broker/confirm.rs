//! The broker's answer to a message.
//!
//! Input: what the broker says about a message, or that it says nothing. Output: a [`Confirm`], by which the
//! record is settled.

/// The broker's answer to one message that was handed to it.
///
/// Only [`Stored`](Self::Stored) proves that the broker has the message. Every other answer keeps the
/// record, except [`Expired`](Self::Expired).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Confirm {
    /// At least one queue has the message.
    Stored,
    /// The broker took the message, and no queue is bound to its topic. The topic is parked.
    ///
    /// AMQP reports this as a return followed by an *ack*, so an ack alone does not prove
    /// [`Stored`](Self::Stored).
    Unroutable,
    /// The broker refused the message (a nack): a queue is full, for example. It is sent again, with
    /// backoff.
    Refused,
    /// The broker did not answer within its deadline. Due at once; the topic is parked.
    NoAnswer,
    /// The topic cannot be used now: its exchange is missing and may not be declared, or writing to
    /// it is not allowed. The topic is parked, with this reason.
    Denied(String),
    /// The server closed the channel, and any message in flight may be the cause. Each is sent again
    /// [alone](super::Isolation::Alone).
    Suspect,
    /// This message itself made the server close the channel, or it cannot be encoded. Counts towards
    /// `failed`.
    Faulty(String),
    /// The connection or channel was lost before an answer. Due at once.
    Lost,
    /// It was not sent, because its time to live was over. The record is removed and counted.
    Expired,
    /// It was not sent, because the lease on its record was over: another instance may have it.
    LeaseOver,
}
