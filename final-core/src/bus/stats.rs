//! Stats: what is in the outbox, and what the bus has done.
//!
//! Input: one statement on the outbox, the state of the link, and the counters of relay and consuming. Output:
//! [`Stats`].

use std::time::Duration;

use super::Bus;
use crate::{Error, OutboxDatabase, broker::Settled};

/// Where the messages are. Made by [`Bus::stats`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Records not yet proven to be with the broker, unroutable ones included.
    pub pending: u64,
    /// How many of the pending records have a topic without a queue.
    pub unroutable: u64,
    /// Records that can never be sent as they are; see [`Bus::failed`].
    pub failed: u64,
    /// How long the oldest pending record has been due. Alert on this.
    pub oldest_pending: Option<Duration>,
    /// Whether the broker takes messages now.
    pub connected: bool,
    /// Whether the database takes no writes: the bus's connections reached a standby, or the old server of a
    /// switch-over. The bus then connects again every second.
    ///
    /// A running bus finds out with each statement, and at least every
    /// [`scan_interval`](crate::Options::scan_interval).
    pub read_only: bool,
    /// Messages of this process between their COMMIT or claim and their settlement.
    pub in_flight: u64,
    /// Topics this process has parked, because nothing can be sent to them now.
    pub parked_topics: u64,
    /// Records acked since the bus started.
    pub acked: u64,
    /// Records whose time to live was over before they were sent, since the bus started.
    pub expired: u64,
    /// Statements the relay has sent to the database since the bus started.
    pub relay_statements: u64,
    /// Messages handled since the bus started, and acked. A message whose ack was lost with its connection does not
    /// count; it comes again.
    pub handled: u64,
    /// Retries of handlers since the bus started.
    pub retried: u64,
    /// Messages dead-lettered since the bus started, and stored as dead letters.
    pub dead_lettered: u64,
    /// Messages that this process holds now, because their handlers have failed and their routes
    /// [hold](crate::OnFailure::Hold) such messages. Alert on this.
    pub held: u64,
    /// Messages requeued since the bus started: without a route yet, or in flight at shutdown.
    pub requeued: u64,
    /// Messages that have left the queue since the bus started, to come back later: for a retry, or until an instance
    /// has their handler. Until then they are among the pending records, or wait in the log's tables.
    pub postponed: u64,
    /// Dead letters that this bus has taken out of the broker since it started, and stored in the database; see
    /// [`collect_dead_letters`](crate::Options::collect_dead_letters).
    pub collected: u64,
}

impl<DB: OutboxDatabase> Bus<DB> {
    /// [`Stats::acked`] alone, without asking the database. For this project's benchmarks, which a count of a
    /// million records would disturb.
    #[doc(hidden)]
    pub fn acked(&self) -> u64 {
        let running = self.inner.running.get();
        running.map_or(0, |running| running.relay.counters.acked.get())
    }

    /// Counts what is in the outbox and tells what the bus has done.
    ///
    /// Asks the database with one statement; meant for a health check every few seconds.
    ///
    /// # Errors
    ///
    /// Fails if the database does, or the table is missing.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn stats(&self) -> Result<Stats, Error> {
        let outbox = &self.inner.outbox;
        let backlog = self.inner.table().await?.backlog().await;
        let backlog = backlog.map_err(|error| outbox.explain(error, "counting the outbox"))?;
        let mut stats = Stats {
            pending: backlog.pending() + backlog.unroutable(),
            unroutable: backlog.unroutable(),
            failed: backlog.failed(),
            oldest_pending: backlog.oldest(),
            read_only: outbox.is_read_only(),
            ..Stats::default()
        };
        if let Some(running) = self.inner.running.get() {
            let relay = &running.relay;
            let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
            stats.connected = relay.is_ready();
            stats.in_flight = count(relay.window.in_flight());
            stats.parked_topics = count(relay.parking.len());
            stats.acked = relay.counters.acked.get();
            stats.expired = relay.counters.expired.get();
            stats.relay_statements = relay.counters.statements.get();
            let consumed = running.subscriber.stats();
            // What a link has not carried out yet does not count.
            let settled = running
                .link
                .settled()
                .unwrap_or_else(|| Settled::new(consumed.handled, consumed.dead_lettered));
            stats.handled = settled.handled;
            stats.dead_lettered = settled.dead_lettered;
            stats.retried = consumed.retried;
            stats.requeued = consumed.requeued;
            stats.postponed = consumed.postponed;
            stats.held = running.link.counts().held.unwrap_or(0);
            stats.collected = running.collected();
        }
        Ok(stats)
    }
}
