//! The numbers of a bus at one moment. They are read once and do not change. See [`Metrics`].

use std::time::Duration;

use super::DurationCounts;

/// What a bus has done and what waits for it. Made by [`Bus::metrics`](crate::Bus::metrics).
///
/// Counts begin with zero when the bus is made. They are those of this process; what the database answers is the
/// same for all instances of the service.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Metrics {
    /// The name of the service.
    pub service: String,
    /// Whether the database has answered when it was asked last. `None` if it was not asked, because the bus has
    /// been shut down.
    pub database_answers: Option<bool>,
    /// Why the database did not answer.
    pub database_error: Option<String>,
    /// Whether the database takes no writes: see [`Stats::read_only`](crate::Stats::read_only).
    pub read_only: bool,
    /// What is in the outbox. `None` if the database did not answer.
    pub outbox: Option<OutboxCounts>,
    /// Messages in the log that no instance of the service has read. `None` without a log, or without an answer.
    pub log_waiting: Option<u64>,
    /// The age of the oldest message of the log that the service has not settled.
    pub log_oldest: Option<Duration>,
    /// The service's dead letters in the database: of the log, and collected ones. `None` if it did not answer.
    pub dead_letters: Option<u64>,
    /// How many lanes of the log this process has. `None` without a log.
    pub lanes_held: Option<u64>,
    /// How many messages this process holds: see [`Stats::held`](crate::Stats::held). `None` without a log.
    pub messages_held: Option<u64>,
    /// Whether the broker takes messages now.
    pub connected: bool,
    /// Messages of this process between their COMMIT or claim and their settlement.
    pub in_flight: u64,
    /// Topics this process has parked.
    pub parked_topics: u64,
    /// Records whose time to live was over before they were sent.
    pub expired: u64,
    /// Statements the relay has sent to the database.
    pub relay_statements: u64,
    /// Statements that the database did not answer in time, on the bus's own connections.
    pub database_give_ups: u64,
    /// Connections to the broker that were made anew after one was lost.
    pub reconnects: u64,
    /// Panics that were caught: of handlers, layers, hooks and tasks.
    pub panics: u64,
    /// The way out, by topic; the topic of the last one is `None`, for all others together.
    pub sent: Vec<SentTopic>,
    /// The way in, by topic; the topic of the last one is `None`, for all others together.
    pub consumed: Vec<ConsumedTopic>,
}

/// What is in the outbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutboxCounts {
    /// Records not yet proven to be with the broker, and that have a queue as far as is known.
    pub pending: u64,
    /// Records whose topic has no queue, or cannot be sent to for another reason.
    pub unroutable: u64,
    /// Records that can never be sent as they are.
    pub failed: u64,
    /// How long the oldest pending or unroutable record has been due.
    pub oldest_due: Option<Duration>,
}

/// What became of the messages of one topic on their way out.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct SentTopic {
    /// The topic. `None` stands for all topics that are not counted by themselves.
    pub topic: Option<String>,
    /// How often the broker gave each answer. The names are those of the label `answer`.
    pub answers: Vec<(&'static str, u64)>,
    /// From the COMMIT to the answer that the message is stored. For a record that the scanner has found: from when
    /// it was due last.
    pub commit_to_confirm: DurationCounts,
}

/// What became of the messages of one topic on their way in.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ConsumedTopic {
    /// The topic. `None` stands for all topics without a handler here.
    pub topic: Option<String>,
    /// How often each thing happened to a delivery. The names are those of the label `outcome`.
    pub outcomes: Vec<(&'static str, u64)>,
    /// How long attempts took: all layers and the handler, once.
    pub process: DurationCounts,
    /// The age of messages when they were handled, by the time in their id.
    pub age: DurationCounts,
}
