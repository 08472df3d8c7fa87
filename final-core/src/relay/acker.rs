//! Ackers: they bring each record to where the broker's answer says.
//!
//! Input: batches of answered records (`answers.rs`). Output: one statement per kind of answer, and freed
//! slots. A record stays in flight until its statement has succeeded, so no scan sends it again meanwhile.
//!
//! | answer | what happens to the record |
//! | --- | --- |
//! | stored | deleted, or marked as acked where records are retained |
//! | expired | deleted, and counted |
//! | lost | released: due at once, attempts unchanged |
//! | lease over | dropped: another claim finds it |
//! | suspect | sent again alone |
//! | unroutable, no answer, denied | parked with its topic |
//! | refused | put back: due later, with a growing pause, for ever |
//! | faulty | put back; after three faults marked as failed |
//!
//! The statements are repeated until the database has done them (`settle.rs`). Ackers work side by side: while
//! one waits for the database, another gathers and settles the next batch. So a slow statement delays the
//! settlement of other records no longer than it takes to gather them.

use std::{collections::HashMap, sync::Arc, time::Duration};

use super::{
    Relay,
    change::RecordChange,
    flight::{AnsweredRecord, FlightRecord},
    settle::{proven, unproven},
};
use crate::outbox::PutBack;
use crate::{
    OutboxDatabase,
    broker::{Confirm, Isolation},
    failpoint::{Failpoint, pass},
    runtime::backoff::Backoff,
};

/// How often a record may close the channel on which it was alone before it is marked as failed.
const MAX_FAULTS: u32 = 3;

/// The waits after a refusal by the broker, for ever: a full queue is no fault of the record.
const REFUSED: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(60));

/// Settles answers until it is told to stop and none is left.
pub(crate) async fn run<DB: OutboxDatabase>(relay: Arc<Relay<DB>>) {
    loop {
        // One acker gathers while another is at the database.
        let mut queue = relay.answers.lock().await;
        let (hurry, stop) = (&relay.stopping.taking, &relay.stopping.settling);
        let answers = queue.gather(hurry, stop).await;
        drop(queue);
        if answers.is_empty() {
            return;
        }
        SortedAnswers::sort(&relay, answers).settle(&relay).await;
        if relay.claims.finished() > 0 {
            // The scanner finishes the claims in the table. Records that they hid are due then.
            relay.bell.due_in(Duration::ZERO);
        }
    }
}

/// What a batch of answers asks of the table.
#[derive(Default)]
#[expect(clippy::vec_box, reason = "a record stays in the box it came in")]
struct SortedAnswers {
    stored: Vec<Box<FlightRecord>>,
    expired: Vec<Box<FlightRecord>>,
    lost: Vec<Box<FlightRecord>>,
    /// By the reason.
    parked: HashMap<String, Vec<Box<FlightRecord>>>,
    /// By the reason.
    failed: HashMap<String, Vec<Box<FlightRecord>>>,
    put_back: HashMap<Setback, Vec<Box<FlightRecord>>>,
}

/// What records have in common that one statement puts back.
#[derive(PartialEq, Eq, Hash)]
struct Setback {
    attempts: u32,
    fault: bool,
    error: String,
}

impl SortedAnswers {
    /// Sorts answers by the change that the table needs. This match is the list of what a confirm can mean.
    fn sort<DB: OutboxDatabase>(relay: &Arc<Relay<DB>>, answers: Vec<AnsweredRecord>) -> Self {
        let mut sorted = Self::default();
        let mut counting = relay.sent.counting();
        for answer in answers {
            let AnsweredRecord {
                record,
                confirm,
                took,
                due,
            } = answer;
            if due.is_none() {
                counting.add(&record.message.shared_topic(), &confirm, took);
            }
            if record.probe {
                relay.probed(&record.message.shared_topic(), &confirm);
            }
            match confirm {
                Confirm::Stored => sorted.stored.push(record),
                Confirm::Expired => sorted.expired.push(record),
                Confirm::Lost => sorted.lost.push(record),
                Confirm::LeaseOver => drop(record),
                Confirm::Suspect => relay.send(record, Isolation::Alone),
                Confirm::Unroutable => {
                    sorted.park(relay, record, "no queue is bound to the topic".into())
                }
                Confirm::NoAnswer => {
                    sorted.park(relay, record, "the broker gave no confirm in time".into())
                }
                Confirm::Denied(reason) => sorted.park(relay, record, reason),
                Confirm::Refused => {
                    let error = "the broker refused it (nack): a queue is full, for example".into();
                    sorted.put_back(record, error, false);
                }
                Confirm::Faulty(reason) if record.faults + 1 >= MAX_FAULTS => {
                    sorted.failed.entry(reason).or_default().push(record);
                }
                Confirm::Faulty(reason) => sorted.put_back(record, reason, true),
            }
        }
        sorted
    }

    fn park<DB: OutboxDatabase>(
        &mut self,
        relay: &Relay<DB>,
        record: Box<FlightRecord>,
        reason: String,
    ) {
        let topic = record.message.shared_topic();
        if relay.parking.park(&topic) {
            tracing::warn!(
                target: "final::relay",
                service = relay.service.as_str(), %topic, reason,
                "a topic is parked; it is probed every second"
            );
        }
        relay.bell.nudge();
        self.parked.entry(reason).or_default().push(record);
    }

    fn put_back(&mut self, record: Box<FlightRecord>, error: String, fault: bool) {
        let setback = Setback {
            attempts: record.attempts,
            fault,
            error,
        };
        self.put_back.entry(setback).or_default().push(record);
    }

    /// Changes the table as the answers say. The records stay in flight until that is done.
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
        // Stored records first: a late proof can become a repeat, and any other late answer only waits.
        if !stored.is_empty() {
            pass(Failpoint::AfterConfirm);
            let acked = proven(relay, stored, &RecordChange::Ack { keep }, &Confirm::Stored).await;
            relay.counters.acked.add(acked);
        }
        if !expired.is_empty() {
            let removed = proven(relay, expired, &RecordChange::Expire, &Confirm::Expired).await;
            relay.counters.expired.add(removed);
        }
        for (reason, records) in parked {
            unproven(relay, records, &RecordChange::Park(reason)).await;
        }
        for (reason, records) in failed {
            let ids: Vec<_> = records.iter().map(|one| one.message.id().0).collect();
            tracing::error!(
                target: "final::relay",
                service = relay.service.as_str(), ?ids, reason,
                "messages cannot be sent as they are; see `Bus::failed`"
            );
            unproven(relay, records, &RecordChange::Fail(reason)).await;
        }
        for (setback, records) in put_back {
            let Setback {
                attempts,
                fault,
                error,
            } = setback;
            let wait = REFUSED.pause(attempts.saturating_add(1));
            let how = PutBack { wait, error, fault };
            unproven(relay, records, &RecordChange::PutBack(how)).await;
            relay.bell.due_in(wait);
        }
        if !lost.is_empty() {
            // The ring comes after the records have left the flight, because a claim that finds a record in
            // flight does not send it.
            unproven(relay, lost, &RecordChange::Release).await;
            relay.bell.ring();
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
