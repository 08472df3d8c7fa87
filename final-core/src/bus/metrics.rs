//! Metrics: everything that is counted, at one moment.
//!
//! Input: the counters of the parts of the bus, and two questions to the database, for the outbox and for what the
//! broker keeps there. Output: [`Metrics`]. The counters of the process are there whatever the database does.

use std::{sync::Arc, time::Duration};

use super::{Bus, Inner, Phase};
use crate::{
    Error, OutboxDatabase,
    broker::LinkBacklog,
    error::with_causes,
    metrics::{Metrics, OutboxCounts},
    outbox::Outbox,
    runtime::asked::Asked,
};

/// How long an answer of the database is given again. Prometheus asks every 15 s or so, from each of its servers.
const FRESH: Duration = Duration::from_secs(5);

/// How long a scrape waits for the database. Prometheus itself gives up after 10 s.
const LIMIT: Duration = Duration::from_secs(3);

/// How long the text of an error may be.
const ENOUGH: usize = 500;

/// What the database counts, as far as it has answered.
#[derive(Debug, Default)]
pub(super) struct Counted {
    outbox: Option<OutboxCounts>,
    link: Option<LinkBacklog>,
    /// Dead letters beside the outbox.
    letters: Option<u64>,
    /// Why something was not answered.
    error: Option<String>,
}

/// The question for them, with its last answer.
pub(super) fn question() -> Asked<Counted> {
    Asked::new("metrics", FRESH, LIMIT)
}

impl<DB: OutboxDatabase> Bus<DB> {
    /// Reads what this bus has counted, and asks the database what waits there.
    ///
    /// The answer of the database is kept for 5 s, and only one question is under way, however many ask. If it does
    /// not come within 3 s, or if the database fails, the counters of the process are there all the same, and
    /// [`Metrics::database_answers`] is false. After a shutdown the database is not asked.
    ///
    /// [`Metrics::write_prometheus`] makes a text of it for a route like `/metrics`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect. A question to the database goes on, and its answer is kept.
    pub async fn metrics(&self) -> Metrics {
        let counted = self.inner.counted().await;
        let mut metrics = self.inner.process_metrics();
        let Some(counted) = counted else {
            return metrics;
        };
        metrics.database_answers = Some(counted.error.is_none());
        metrics.database_error.clone_from(&counted.error);
        metrics.outbox = counted.outbox;
        metrics.dead_letters = counted.letters;
        if let Some(link) = counted.link {
            metrics.log_waiting = Some(link.waiting);
            metrics.log_oldest = link.oldest;
            *metrics.dead_letters.get_or_insert_default() += link.dead_letters;
        }
        metrics
    }
}

impl<DB: OutboxDatabase> Inner<DB> {
    /// What the database counts. `None` if it is not asked, because the bus has been shut down.
    async fn counted(self: &Arc<Self>) -> Option<Arc<Counted>> {
        if self.phase() == Phase::Stopped {
            return None;
        }
        // Without the bus itself: a question under way must not keep a bus that is dropped.
        let outbox = Arc::clone(&self.outbox);
        let link = self.running.get().map(|running| Arc::clone(&running.link));
        let ask = || async move {
            let mut counted = Counted::default();
            match count_outbox(&outbox).await {
                Ok(counts) => counted.outbox = Some(counts),
                Err(error) => counted.error = Some(with_causes(&error, ENOUGH)),
            }
            // The log may be in another database.
            let backlog = match link {
                Some(link) => link.backlog().await,
                None => Ok(None),
            };
            match backlog {
                Ok(backlog) => counted.link = backlog,
                Err(error) => counted.error = Some(with_causes(&error, ENOUGH)),
            }
            // Where the service's role may not read the table, because it was given no right to it, the letters are
            // not known and all else is.
            if counted.error.is_none() {
                counted.letters = outbox.count_letters().await.ok();
            }
            counted
        };
        let counted = self.counts_of_database.get(&self.crew, ask).await;
        let silent = || {
            Arc::new(Counted {
                error: Some(format!("the database did not answer within {LIMIT:?}")),
                ..Counted::default()
            })
        };
        Some(counted.unwrap_or_else(silent))
    }

    /// The numbers of this process.
    fn process_metrics(&self) -> Metrics {
        let mut metrics = Metrics {
            service: self.name.clone(),
            read_only: self.outbox.is_read_only(),
            database_give_ups: self.outbox.give_ups(),
            panics: self.crew.panics().get(),
            ..Metrics::default()
        };
        let Some(running) = self.running.get() else {
            return metrics;
        };
        let relay = &running.relay;
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        metrics.connected = relay.is_ready();
        metrics.in_flight = count(relay.window.in_flight());
        metrics.parked_topics = count(relay.parking.len());
        metrics.expired = relay.counters.expired.get();
        metrics.relay_statements = relay.counters.statements.get();
        let link = running.link.counts();
        metrics.reconnects = link.reconnects;
        metrics.database_give_ups += link.give_ups;
        metrics.panics += link.panics;
        metrics.lanes_held = link.lanes;
        metrics.messages_held = link.held;
        metrics.sent = relay.sent.read();
        metrics.consumed = running.subscriber.topics();
        metrics
    }
}

async fn count_outbox<DB: OutboxDatabase>(outbox: &Outbox<DB>) -> Result<OutboxCounts, Error> {
    let backlog = outbox.located().await?.backlog().await;
    let backlog = backlog.map_err(|error| outbox.explain(error, "counting the outbox"))?;
    Ok(OutboxCounts {
        pending: backlog.pending(),
        unroutable: backlog.unroutable(),
        failed: backlog.failed(),
        oldest_due: backlog.oldest(),
    })
}
