//! Ackers: they take the broker's answers and bring the records to where the answers say.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use uuid::Uuid;

use super::{
    Relay,
    change::{Change, Changing, LATER},
    flight::{Answer, Held},
};
use crate::outbox::PutBack;
use crate::{
    OutboxDatabase,
    broker::{Confirm, Lane},
    failpoint::{Failpoint, pass},
    runtime::backoff::Backoff,
};

/// The pause after a database error. Shorter than the scanner's, so that after an outage what was
/// confirmed is settled before anybody claims it again.
const PAUSE: Duration = Duration::from_millis(100);

/// How often a record may close the channel it was alone on before it is failed.
const MAX_FAULTS: u32 = 3;

/// The waits after a refusal, for ever: a full queue is no fault of the record.
const REFUSED: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(60));

/// The waits of a record that was sent and that the table does not let go.
const KEPT: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));

/// Settles answers until it is told to stop and there is none left.
pub(crate) async fn run<DB: OutboxDatabase>(relay: Arc<Relay<DB>>) {
    loop {
        // One acker gathers while another is at the database.
        let mut inbox = relay.inbox.lock().await;
        let answers = inbox.gather(&relay.stop_scanner, &relay.stop_ackers).await;
        drop(inbox);
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
        for Answer { held, confirm, .. } in answers {
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
        let keep = relay.options.retention.is_some();
        // Proof first: whatever else is late only waits, but a proof that is late repeats.
        if !stored.is_empty() {
            pass(Failpoint::AfterConfirm);
            let acked = proven(relay, stored, &Change::Ack { keep }, &Confirm::Stored).await;
            relay.counters.acked.add(acked);
        }
        if !expired.is_empty() {
            let removed = proven(relay, expired, &Change::Expire, &Confirm::Expired).await;
            relay.counters.expired.add(removed);
        }
        for (reason, records) in parked {
            unproven(relay, records, &Change::Park(reason)).await;
        }
        for (reason, records) in failed {
            tracing::error!(
                service = relay.service.as_str(), ids = ?ids(&records), reason,
                "messages cannot be sent as they are; see `Bus::failed`"
            );
            unproven(relay, records, &Change::Fail(reason)).await;
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
            let wait = REFUSED.pause(attempts.saturating_add(1));
            let how = PutBack { wait, error, fault };
            unproven(relay, records, &Change::PutBack(how)).await;
            relay.due_in(wait);
        }
        if !lost.is_empty() {
            // Whoever claims them again must not find them in flight.
            unproven(relay, lost, &Change::Release).await;
            relay.ring();
        }
    }
}

fn ids(records: &[Box<Held>]) -> Vec<Uuid> {
    records.iter().map(|held| held.id()).collect()
}

/// Takes records out of the table for good, and says how many it has let go.
///
/// A record that the table keeps has reached the broker: released, it would be sent again and again. So it
/// stays in flight with its slot, its lease is renewed, and its answer comes again later. A shutdown does not
/// wait for it.
#[expect(clippy::vec_box, reason = "a record stays in the box it came in")]
async fn proven<DB: OutboxDatabase>(
    relay: &Relay<DB>,
    records: Vec<Box<Held>>,
    change: &Change,
    confirm: &Confirm,
) -> usize {
    let all = records.len();
    let Some(refused) = until_done(relay, records, change).await else {
        return 0;
    };
    let done = all - refused.len();
    for held in refused {
        let pause = KEPT.pause(held.refusals);
        settle_later(relay, held, confirm.clone(), pause);
    }
    done
}

/// Brings records that the broker has not proven to hold to where they belong.
///
/// A record that the table does not let go there is due again later, and goes the same way again.
#[expect(clippy::vec_box, reason = "a record stays in the box it came in")]
async fn unproven<DB: OutboxDatabase>(relay: &Relay<DB>, records: Vec<Box<Held>>, change: &Change) {
    for held in until_done(relay, records, change).await.unwrap_or_default() {
        if relay.release_later(held.id()).await.is_err() {
            // In flight nobody here sends it meanwhile.
            settle_later(relay, held, Confirm::Lost, LATER);
        }
    }
}

fn settle_later<DB: OutboxDatabase>(
    relay: &Relay<DB>,
    held: Box<Held>,
    confirm: Confirm,
    pause: Duration,
) {
    // Once the relay stops, this was the last try: the record stays in the table, and its lease runs out.
    if !relay.stop_scanner.is_cancelled() {
        held.settle_at(confirm, Instant::now() + pause);
    }
}

/// Repeats a statement until the database takes it. `None` if shutdown gave up before, and otherwise the
/// records that the table does not take, whatever the others do.
///
/// The records stay in flight meanwhile and keep their slots, so an outage of the database fills the
/// window and then holds back the way out.
#[expect(clippy::vec_box, reason = "a record stays in the box it came in")]
async fn until_done<DB: OutboxDatabase>(
    relay: &Relay<DB>,
    records: Vec<Box<Held>>,
    change: &Change,
) -> Option<Vec<Box<Held>>> {
    let mut failures = 0_u32;
    let mut changing = Changing::new(ids(&records));
    loop {
        let Err(error) = changing.run(relay, change).await else {
            break;
        };
        relay.database_failed(change.doing(), &error, failures);
        failures = failures.saturating_add(1);
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = relay.give_up.cancelled() => return None,
        }
    }
    let mut refused = Vec::new();
    for mut held in records {
        let found = changing.refused.iter().find(|(id, _)| *id == held.id());
        let Some((id, error)) = found else { continue };
        if held.refusals == 0 {
            relay.refused(change, *id, error);
        }
        held.refusals = held.refusals.saturating_add(1);
        refused.push(held);
    }
    Some(refused)
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
