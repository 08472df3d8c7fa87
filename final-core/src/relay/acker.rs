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
//! If the database fails, the statement is repeated until it succeeds, so an outage fills the window and then
//! holds back the way out. If the table refuses single records, the others go on: a refused record that the
//! broker holds keeps its answer and is tried again later, and any other is released for a minute.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use uuid::Uuid;

use super::{
    Relay,
    change::{Change, Changing, LATER},
    flight::{AnsweredRecord, FlightRecord},
};
use crate::outbox::PutBack;
use crate::{
    OutboxDatabase,
    broker::{Confirm, Lane},
    failpoint::{Failpoint, pass},
    runtime::backoff::Backoff,
};

/// The pause after a database error. It is shorter than the scanner's, so that after an outage the ackers
/// settle what was confirmed before a scanner claims it again.
const RETRY: Duration = Duration::from_millis(100);

/// How often a record may close the channel on which it was alone before it is marked as failed.
const MAX_FAULTS: u32 = 3;

/// The waits after a refusal by the broker, for ever: a full queue is no fault of the record.
const REFUSED: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(60));

/// The waits of a record that the broker holds and that the table refuses to settle.
const KEPT: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));

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
    /// Sorts answers by what is to be done. This match is the list of what a confirm can mean.
    fn sort<DB: OutboxDatabase>(relay: &Arc<Relay<DB>>, answers: Vec<AnsweredRecord>) -> Self {
        let mut sorted = Self::default();
        for AnsweredRecord {
            record, confirm, ..
        } in answers
        {
            if record.probe {
                relay.probed(&record.message.shared_topic(), &confirm);
            }
            match confirm {
                Confirm::Stored => sorted.stored.push(record),
                Confirm::Expired => sorted.expired.push(record),
                Confirm::Lost => sorted.lost.push(record),
                Confirm::LeaseOver => drop(record),
                Confirm::Suspect => relay.send(record, Lane::Alone),
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
        // Stored records first: a late proof can become a repeat, and any other late answer only waits.
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
                target: "final::relay",
                service = relay.service.as_str(), ids = ?ids(&records), reason,
                "messages cannot be sent as they are; see `Bus::failed`"
            );
            unproven(relay, records, &Change::Fail(reason)).await;
        }
        for (setback, records) in put_back {
            let Setback {
                attempts,
                fault,
                error,
            } = setback;
            let wait = REFUSED.pause(attempts.saturating_add(1));
            let how = PutBack { wait, error, fault };
            unproven(relay, records, &Change::PutBack(how)).await;
            relay.bell.due_in(wait);
        }
        if !lost.is_empty() {
            // The ring comes after the records have left the flight, because a claim that finds a record in
            // flight does not send it.
            unproven(relay, lost, &Change::Release).await;
            relay.bell.ring();
        }
    }
}

fn ids(records: &[Box<FlightRecord>]) -> Vec<Uuid> {
    records.iter().map(|record| record.id()).collect()
}

/// Takes records out of the table for good. Returns how many are out.
///
/// A record that the table refuses to remove has reached the broker. Released, it would be sent again and
/// again. So it stays in flight with its slot, its lease is renewed, and its answer comes again later. A
/// shutdown does not wait for it.
#[expect(clippy::vec_box, reason = "a record stays in the box it came in")]
async fn proven<DB: OutboxDatabase>(
    relay: &Relay<DB>,
    records: Vec<Box<FlightRecord>>,
    change: &Change,
    confirm: &Confirm,
) -> usize {
    let all = records.len();
    let Some(refused) = until_done(relay, records, change).await else {
        return 0;
    };
    let done = all - refused.len();
    for record in refused {
        let pause = KEPT.pause(record.refusals);
        settle_later(relay, record, confirm.clone(), pause);
    }
    done
}

/// Changes records for which there is no proof that the broker holds them.
///
/// A record whose change the table refuses is released for a while, and is sent again then.
#[expect(clippy::vec_box, reason = "a record stays in the box it came in")]
async fn unproven<DB: OutboxDatabase>(
    relay: &Relay<DB>,
    records: Vec<Box<FlightRecord>>,
    change: &Change,
) {
    for record in until_done(relay, records, change).await.unwrap_or_default() {
        if relay.release_later(record.id()).await.is_err() {
            // As long as the record is in flight, this process does not claim and send it.
            settle_later(relay, record, Confirm::Lost, LATER);
        }
    }
}

fn settle_later<DB: OutboxDatabase>(
    relay: &Relay<DB>,
    record: Box<FlightRecord>,
    confirm: Confirm,
    pause: Duration,
) {
    // After the relay has stopped taking, this was the last try. The record is dropped and its lease runs out.
    if !relay.stopping.taking.is_cancelled() {
        record.settle_at(confirm, Instant::now() + pause);
    }
}

/// Repeats a statement until the database has done it. Returns the records whose change the table refuses,
/// or `None` if a shutdown ended the tries.
///
/// The records stay in flight and keep their slots meanwhile. So an outage of the database fills the window
/// and then holds back the way out.
#[expect(clippy::vec_box, reason = "a record stays in the box it came in")]
async fn until_done<DB: OutboxDatabase>(
    relay: &Relay<DB>,
    records: Vec<Box<FlightRecord>>,
    change: &Change,
) -> Option<Vec<Box<FlightRecord>>> {
    let mut failures = 0_u32;
    let mut changing = Changing::new(ids(&records));
    loop {
        let Err(error) = changing.run(relay, change).await else {
            break;
        };
        relay.database_failed(change.doing(), &error, failures);
        failures = failures.saturating_add(1);
        tokio::select! {
            () = tokio::time::sleep(RETRY) => {}
            () = relay.stopping.retries.cancelled() => return None,
        }
    }
    let mut refused = Vec::new();
    for mut record in records {
        let found = changing.refused.iter().find(|(id, _)| *id == record.id());
        let Some((id, error)) = found else { continue };
        if record.refusals == 0 {
            relay.refused(change, *id, error);
        }
        record.refusals = record.refusals.saturating_add(1);
        refused.push(record);
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
