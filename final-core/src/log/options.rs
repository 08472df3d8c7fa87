//! How a log behaves, each option with its reason.
//!
//! Input: the chained setters of [`SqlBroker`]. State: its tuning and its hooks. Output: the tuning, or one error
//! that names every value out of range.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{SqlBroker, tables::trim::Keep};
use crate::{
    Message, OutboxDatabase,
    broker::{BrokerError, BrokerErrorKind, DeadLetter},
};

/// Where a group starts with a topic that it subscribes for the first time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// With messages that are published from then on. If no group has ever subscribed the topic, its messages
    /// wait, and the group gets those as well. RabbitMQ behind an outbox does the same.
    #[default]
    New,
    /// With every message that is still in the log.
    Beginning,
    /// With messages that were published at that time or later, by the database's clock.
    At(SystemTime),
}

/// How a log behaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tuning {
    pub(crate) start: Start,
    pub(crate) key_order: bool,
    pub(crate) commit_after: usize,
    pub(crate) commit_within: Duration,
    pub(crate) lease: Duration,
    pub(crate) prefetch: usize,
    pub(crate) poll_interval: Duration,
    pub(crate) keep: Keep,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            start: Start::New,
            key_order: false,
            commit_after: 1_000,
            commit_within: Duration::from_millis(100),
            lease: Duration::from_secs(10),
            prefetch: 1_000,
            poll_interval: Duration::from_millis(2_500),
            keep: Keep {
                after_read: Duration::ZERO,
                unread: None,
            },
        }
    }
}

impl<DB: OutboxDatabase> SqlBroker<DB> {
    /// Sets where a service starts with a topic that it subscribes for the first time.
    ///
    /// Defaults to [`Start::New`].
    pub fn start_from(mut self, start: Start) -> Self {
        self.tuning.start = start;
        self
    }

    /// Sets whether messages of one key are handled one after the other, in the order of their
    /// commits, also across retries and crashes; other keys go on. Defaults to false.
    ///
    /// If two transactions overlap and have no lock on a common row, messages of one key may come in the order
    /// of their INSERTs. Every instance of a service must have the same setting.
    pub fn key_order(mut self, ordered: bool) -> Self {
        self.tuning.key_order = ordered;
        self
    }

    /// Sets after how many settled messages the progress is written. Defaults to 1,000.
    ///
    /// At most so many settled messages are repeated when a process dies.
    pub fn commit_after(mut self, messages: usize) -> Self {
        self.tuning.commit_after = messages;
        self
    }

    /// Sets after how long the progress is written if fewer messages were settled. Defaults to 100 ms.
    pub fn commit_within(mut self, time: Duration) -> Self {
        self.tuning.commit_within = time;
        self
    }

    /// Sets how long a process keeps its messages without renewing its lease.
    ///
    /// With a shorter lease others take over sooner from a dead process. With a longer one a live process may
    /// pause for longer. The lease is renewed at a third of its time. Defaults to 10 s.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.tuning.lease = lease;
        self
    }

    /// Sets how many messages are read ahead of the handlers. Defaults to 1,000.
    pub fn prefetch(mut self, messages: usize) -> Self {
        self.tuning.prefetch = messages;
        self
    }

    /// Sets the longest pause between two polls for messages of other processes. Defaults to 2.5 s.
    ///
    /// On a database without NOTIFY the first of them can be noticed so late. While they keep coming the log
    /// is polled every few milliseconds.
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.tuning.poll_interval = interval;
        self
    }

    /// Sets how long messages stay in the log after they were written, even if every group has them. A group
    /// that comes later can start with them. Defaults to zero.
    ///
    /// Any service of the database may be the one that removes them, so all should have the same setting.
    pub fn keep(mut self, time: Duration) -> Self {
        self.tuning.keep.after_read = time;
        self
    }

    /// Sets after how long messages are removed that some group has not read, or that no group has ever
    /// subscribed. By default they wait for ever, also for a group that never comes back, until it is
    /// [forgotten](Self::forget).
    ///
    /// The setting of one service removes messages for all services of the database.
    pub fn max_age(mut self, age: impl Into<Option<Duration>>) -> Self {
        self.tuning.keep.unread = age.into();
        self
    }

    /// Sets a function to be called when the log cannot be read. Reading is tried again.
    pub fn on_read_error(mut self, hook: impl Fn(&sqlx::Error) + Send + Sync + 'static) -> Self {
        self.hooks.on_read = Some(Arc::new(hook));
        self
    }

    /// Sets a function to be called when the progress cannot be written, or the database refuses a message.
    /// Writing is tried again.
    pub fn on_commit_error(mut self, hook: impl Fn(&sqlx::Error) + Send + Sync + 'static) -> Self {
        self.hooks.on_commit = Some(Arc::new(hook));
        self
    }

    /// Sets a function to be called when a message goes to the dead letters.
    pub fn on_handler_error(
        mut self,
        hook: impl Fn(&Message, &DeadLetter) + Send + Sync + 'static,
    ) -> Self {
        self.hooks.on_handler = Some(Arc::new(hook));
        self
    }

    /// One error for all values out of range.
    pub(crate) fn check(&self) -> Result<(), BrokerError> {
        let Tuning {
            commit_after,
            commit_within,
            lease,
            prefetch,
            poll_interval,
            ..
        } = self.tuning;
        let mut problems = Vec::new();
        let mut must = |ok: bool, problem: &'static str| {
            if !ok {
                problems.push(problem);
            }
        };
        must(commit_after >= 1, "`commit_after` must be at least 1");
        must(
            commit_within <= Duration::from_secs(60),
            "`commit_within` must be at most 60 s",
        );
        must(
            (Duration::from_millis(300)..=Duration::from_secs(3600)).contains(&lease),
            "`lease` must be 300 ms to 1 h",
        );
        must(
            (1..=65_535).contains(&prefetch),
            "`prefetch` must be 1 to 65535",
        );
        must(
            (Duration::from_millis(10)..=Duration::from_secs(3600)).contains(&poll_interval),
            "`poll_interval` must be 10 ms to 1 h",
        );
        if problems.is_empty() {
            return Ok(());
        }
        Err(BrokerError::new(
            BrokerErrorKind::Invalid,
            format!("invalid options of SqlBroker: {}", problems.join("; ")),
        ))
    }
}
