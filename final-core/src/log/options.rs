//! The options of a log, each with its reason.
//!
//! Input: the chained setters of [`SqlBroker`]. Output: its [`tuning`](super::tuning) and its hooks.

use std::{sync::Arc, time::Duration};

use super::{SqlBroker, tuning::StartFrom};
use crate::{Message, OutboxDatabase, broker::Cause};

impl<DB: OutboxDatabase> SqlBroker<DB> {
    /// Sets where a service starts with a topic that it subscribes for the first time.
    ///
    /// Defaults to [`StartFrom::New`].
    pub fn start_from(mut self, start: StartFrom) -> Self {
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
    /// On a database without NOTIFY the first such message can be noticed so late. While more come, the log
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

    /// Sets a function to be called when the log cannot be read, or the lease that reading needs cannot be renewed
    /// twice in a row. It is tried again.
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
        hook: impl Fn(&Message, &Cause) + Send + Sync + 'static,
    ) -> Self {
        self.hooks.on_handler = Some(Arc::new(hook));
        self
    }

    /// Sets a function to be called each time a message is held, because its handler has failed and its route
    /// [holds](crate::OnFailure::Hold) such messages.
    pub fn on_held(mut self, hook: impl Fn(&Message, &Cause) + Send + Sync + 'static) -> Self {
        self.hooks.on_held = Some(Arc::new(hook));
        self
    }
}
