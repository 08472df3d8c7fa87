//! The broker's answer to a message.

/// What became of a message that was to be sent.
///
/// Only [`Stored`](Self::Stored) is proof; everything else keeps the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Confirm {
    /// At least one queue has it.
    Stored,
    /// The broker took it but no queue wanted it. The topic is parked.
    ///
    /// AMQP reports this as an *ack* that follows a return, so the two must be told apart before
    /// anybody believes the ack.
    Unroutable,
    /// The broker refused it (a nack): a queue is full, for example. Tried again, with backoff.
    Refused,
    /// The broker did not answer within its deadline. Due at once; the topic is parked.
    NoAnswer,
    /// The topic cannot be used now: its exchange is missing and may not be declared, or writing to
    /// it is not allowed. The topic is parked, with this reason.
    Denied(String),
    /// The server closed the channel and any of the messages in flight may be the culprit. Each is
    /// sent again [alone](super::Lane::Alone).
    Suspect,
    /// This very message made the server close the channel, or cannot be encoded. Counts towards
    /// `failed`.
    Faulty(String),
    /// The connection or channel was lost before an answer. Due at once.
    Lost,
    /// It was not sent, because its time to live was over. The record is removed and counted.
    Expired,
    /// It was not sent, because the lease on its record was over: another instance may have it.
    LeaseOver,
}
