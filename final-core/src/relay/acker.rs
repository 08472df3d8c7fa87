//! Ackers: they take the broker's answers and bring the records to where the answers say.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::{sync::mpsc, time::timeout_at};
use uuid::Uuid;

use super::{
    Relay,
    flight::{Answer, Held},
    store::PutBack,
};
use crate::{
    OutboxDatabase,
    backoff::Backoff,
    broker::{Confirm, Lane},
    failpoint::{Failpoint, pass},
    outbox::DbResult,
};

/// How many answers one round of statements settles at most.
const MAX_BATCH: usize = 500;

/// How long an answer waits for others to be settled with. At 5,000 messages a second this makes
/// one statement of a hundred.
const GATHER: Duration = Duration::from_millis(20);

/// The pause after a database error. Shorter than the scanner's, so that after an outage what was
/// confirmed is settled before anybody claims it again.
const PAUSE: Duration = Duration::from_millis(100);

/// How often a record may close the channel it was alone on before it is failed.
const MAX_FAULTS: u32 = 3;

/// The waits after a refusal, for ever: a full queue is no fault of the record.
const REFUSED: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(60));

/// Where the answers come from, shared by the pool of ackers.
pub(crate) type Answers = tokio::sync::Mutex<mpsc::UnboundedReceiver<Answer>>;

/// Settles answers until it is told to stop and there is none left.
pub(crate) async fn run<DB: OutboxDatabase>(relay: Arc<Relay<DB>>) {
    loop {
        let answers = gather(&relay).await;
        if answers.is_empty() {
            return;
        }
        let batch = Batch::sort(&relay, answers);
        batch.settle(&relay).await;
        if relay.flight.finished() > 0 {
            // The scanner ends them; what was committed late in the midst of them is due then.
            relay.due_in(Duration::ZERO);
        }
    }
}

/// Waits for an answer and takes those that follow closely. One acker gathers while another is at
/// the database. Nothing means: stopped, and nothing left.
async fn gather<DB: OutboxDatabase>(relay: &Relay<DB>) -> Vec<Answer> {
    let mut answers = relay.answers.lock().await;
    let mut batch = Vec::new();
    tokio::select! {
        biased;
        _ = answers.recv_many(&mut batch, MAX_BATCH) => {}
        () = relay.stop_ackers.cancelled() => return batch,
    }
    let end = tokio::time::Instant::now() + GATHER;
    while batch.len() < MAX_BATCH {
        let more = MAX_BATCH - batch.len();
        if timeout_at(end, answers.recv_many(&mut batch, more))
            .await
            .is_err()
        {
            break;
        }
    }
    batch
}

/// What a batch of answers asks of the table.
#[derive(Default)]
#[expect(clippy::vec_box, reason = "a record stays in the box it came in")]
struct Batch {
    stored: Vec<Box<Held>>,
    expired: Vec<Box<Held>>,
    lost: Vec<Box<Held>>,
    parked: HashMap<String, Vec<Box<Held>>>,
    failed: HashMap<String, Vec<Box<Held>>>,
    put_back: HashMap<Setback, Vec<Box<Held>>>,
}

/// Records set back together, so that one statement serves them all.
#[derive(PartialEq, Eq, Hash)]
struct Setback {
    attempts: u32,
    fault: bool,
    error: String,
}

impl Batch {
    /// Sorts answers by what is to be done. This match is the list of what a confirm can mean.
    fn sort<DB: OutboxDatabase>(relay: &Arc<Relay<DB>>, answers: Vec<Answer>) -> Self {
        let mut batch = Self::default();
        for Answer { held, confirm } in answers {
            if held.probe {
                relay.probed(&held.message.shared_topic(), &confirm);
            }
            match confirm {
                Confirm::Stored => batch.stored.push(held),
                Confirm::Expired => batch.expired.push(held),
                Confirm::Lost => batch.lost.push(held),
                // Its lease in the table is over or will be; another claim finds it.
                Confirm::LeaseOver => drop(held),
                Confirm::Suspect => relay.send(held, Lane::Alone),
                Confirm::Unroutable => {
                    batch.park(relay, held, "no queue is bound to the topic".into())
                }
                Confirm::NoAnswer => {
                    batch.park(relay, held, "the broker gave no confirm in time".into())
                }
                Confirm::Denied(reason) => batch.park(relay, held, reason),
                Confirm::Refused => {
                    let error = "the broker refused it (nack): a queue is full, for example".into();
                    batch.put_back(held, error, false);
                }
                Confirm::Faulty(reason) if held.faults + 1 >= MAX_FAULTS => {
                    batch.failed.entry(reason).or_default().push(held);
                }
                Confirm::Faulty(reason) => batch.put_back(held, reason, true),
            }
        }
        batch
    }

    fn park<DB: OutboxDatabase>(&mut self, relay: &Relay<DB>, held: Box<Held>, reason: String) {
        let topic = held.message.shared_topic();
        if relay.parking.park(&topic) {
            tracing::warn!(service = relay.service.as_str(), %topic, reason, "topic parked; it is probed every second");
        }
        relay.nudge();
        self.parked.entry(reason).or_default().push(held);
    }

    fn put_back(&mut self, held: Box<Held>, error: String, fault: bool) {
        let setback = Setback {
            attempts: held.attempts,
            fault,
            error,
        };
        self.put_back.entry(setback).or_default().push(held);
    }

    /// Brings the table to what was answered. The records stay in flight until that is done.
    async fn settle<DB: OutboxDatabase>(self, relay: &Relay<DB>) {
        let Self {
            stored,
            expired,
            lost,
            parked,
            failed,
            put_back,
        } = self;
        let Ok(table) = relay.store.table() else {
            return;
        };
        let keep = relay.options.retention.is_some();

        // Proof first: whatever else is late only waits, but a proof that is late repeats.
        if !stored.is_empty() {
            pass(Failpoint::AfterConfirm);
            let ids = ids(&stored);
            if until_done(relay, "acking records", || table.ack(&ids, keep)).await {
                relay.counters.acked.add(ids.len());
            }
        }
        if !expired.is_empty() {
            let ids = ids(&expired);
            if until_done(relay, "removing expired records", || table.ack(&ids, false)).await {
                relay.counters.expired.add(ids.len());
            }
        }
        for (reason, records) in parked {
            let ids = ids(&records);
            until_done(relay, "parking records", || table.park(&ids, &reason)).await;
        }
        for (reason, records) in &failed {
            let ids = ids(records);
            tracing::error!(
                service = relay.service.as_str(), ids = ?ids, reason,
                "messages cannot be sent as they are; see `Bus::failed`"
            );
            until_done(relay, "marking records as failed", || {
                table.fail(&ids, reason)
            })
            .await;
        }
        for (
            Setback {
                attempts,
                fault,
                error,
            },
            records,
        ) in put_back
        {
            let ids = ids(&records);
            let how = PutBack {
                wait: REFUSED.pause(attempts.saturating_add(1)),
                error,
                fault,
            };
            until_done(relay, "putting records back", || table.put_back(&ids, &how)).await;
            relay.due_in(how.wait);
        }
        if !lost.is_empty() {
            let ids = ids(&lost);
            until_done(relay, "releasing records", || {
                table.release(&ids, Duration::ZERO)
            })
            .await;
            // Whoever claims them again must not find them in flight.
            drop(lost);
            relay.ring();
        }
    }
}

fn ids(records: &[Box<Held>]) -> Vec<Uuid> {
    records.iter().map(|held| held.id()).collect()
}

/// Repeats a statement until the database takes it. False if shutdown gave up before.
///
/// The records stay in flight meanwhile and keep their slots, so an outage of the database fills the
/// window and then holds back the way out.
async fn until_done<DB: OutboxDatabase, F>(
    relay: &Relay<DB>,
    doing: &'static str,
    mut statement: impl FnMut() -> F,
) -> bool
where
    F: Future<Output = DbResult<u64>>,
{
    let mut failures = 0_u32;
    loop {
        relay.counters.statements.add(1);
        match statement().await {
            Ok(_) => return true,
            Err(error) => {
                relay.database_failed(doing, &error, failures);
                failures = failures.saturating_add(1);
            }
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = relay.give_up.cancelled() => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_after_a_refusal_grows_to_a_minute_and_not_beyond() {
        for attempt in 1..=100 {
            assert!(REFUSED.pause(attempt) <= Duration::from_secs(60));
        }
        assert!(REFUSED.pause(100) >= Duration::from_secs(30));
    }
}
