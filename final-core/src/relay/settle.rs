//! Settling: a change of records in flight, repeated until the database has done it.
//!
//! Input: records whose answers ask for the same change. Output: records out of flight, their slots free.
//!
//! ```text
//!   change ─ done ─────────────────────▶ out of flight
//!    ├────── the database failed ───────▶ pause, then again; a shutdown ends the tries
//!    └────── the table refuses a record
//!               ├─ the broker holds it ──▶ its answer comes again later
//!               └─ otherwise ────────────▶ released for a while, then sent again
//! ```
//!
//! The records stay in flight and keep their slots until they are settled. So an outage of the database fills
//! the window and then holds back the way out, and memory stays bounded. One refused record does not hold up
//! the others.

use std::time::{Duration, Instant};

use super::{
    Relay,
    change::{Changing, LATER, RecordChange},
    flight::FlightRecord,
};
use crate::{OutboxDatabase, broker::Confirm, outbox::RecordId, runtime::backoff::Backoff};

/// The pause after a database error. It is shorter than the scanner's, so that after an outage the ackers
/// settle what was confirmed before a scanner claims it again.
const RETRY: Duration = Duration::from_millis(100);

/// The waits of a record that the broker holds and that the table refuses to settle.
const KEPT: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));

/// The keys of records, for a statement.
fn ids(records: &[Box<FlightRecord>]) -> Vec<RecordId> {
    records.iter().map(|record| record.id).collect()
}

/// Takes records out of the table for good. Returns how many are out.
///
/// A record that the table refuses to remove has reached the broker. Released, it would be sent again and
/// again. So it stays in flight with its slot, its lease is renewed, and its answer comes again later. A
/// shutdown does not wait for it.
#[expect(clippy::vec_box, reason = "a record stays in the box it came in")]
pub(super) async fn proven<DB: OutboxDatabase>(
    relay: &Relay<DB>,
    records: Vec<Box<FlightRecord>>,
    change: &RecordChange,
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
pub(super) async fn unproven<DB: OutboxDatabase>(
    relay: &Relay<DB>,
    records: Vec<Box<FlightRecord>>,
    change: &RecordChange,
) {
    for record in until_done(relay, records, change).await.unwrap_or_default() {
        if relay.release_later(record.id).await.is_err() {
            // As long as the record is in flight, this process does not claim and send it.
            settle_later(relay, record, Confirm::Lost, LATER);
        }
    }
}

/// Has the answer of a refused record come again after a pause.
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
#[expect(clippy::vec_box, reason = "a record stays in the box it came in")]
async fn until_done<DB: OutboxDatabase>(
    relay: &Relay<DB>,
    records: Vec<Box<FlightRecord>>,
    change: &RecordChange,
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
        let found = changing.refused.iter().find(|(id, _)| *id == record.id);
        let Some((id, error)) = found else { continue };
        if record.refusals == 0 {
            relay.refused(change, *id, error);
        }
        record.refusals = record.refusals.saturating_add(1);
        refused.push(record);
    }
    Some(refused)
}
