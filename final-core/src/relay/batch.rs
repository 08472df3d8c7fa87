//! A claimed batch: each of its records is sent, settled without being sent, or released.
//!
//! Input: the records of one claim. State: the records that wait for a slot, by topic. Output: messages for
//! the broker; changes of the records that cannot be sent; released records, which are due again soon.
//!
//! ```text
//!   sort ─ unreadable ───────────▶ failed
//!     ├─── time to live is over ─▶ removed
//!     ├─── topic is parked ──────▶ parked
//!     ├─── a slot is free ───────▶ sent
//!     ├─── no slot, and its topic has waited in vain in this pass ──▶ released
//!     └─── no slot ─▶ wait_for_slots ─ a slot came free ──▶ sent
//!                          └ patience ends, or the gate shuts ─▶ released
//! ```

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::watch;

use super::{
    Relay, change::RecordChange, claims::OpenClaim, waiting::WaitingRecords, window::Side,
};
use crate::{
    Message, MessageId, OutboxDatabase,
    broker::Isolation,
    database::DbResult,
    outbox::{Claimed, Record, RecordId},
};

/// How long claimed records wait for a slot while none comes free for any of them. Records released after
/// that are due again after the same time.
const PATIENCE: Duration = Duration::from_secs(1);

/// Records that were due and are leased to this process now.
pub(super) struct ClaimedBatch {
    pub(super) claimed: Vec<Claimed>,
    /// Held until each record is in flight, settled or released.
    pub(super) claim: Option<Arc<OpenClaim>>,
    pub(super) lease_end: Instant,
    /// Whether more records may be due behind these.
    pub(super) is_full: bool,
}

/// Sends a batch. False if it had records to send and none was sent.
///
/// `stalled` are the topics that have waited for a slot in vain in this pass. Their records are released at
/// once, so that the pass reaches the records behind them. `left` tells how many records still wait.
pub(super) async fn send_batch<DB: OutboxDatabase>(
    relay: &Arc<Relay<DB>>,
    batch: ClaimedBatch,
    stalled: &mut HashSet<Arc<str>>,
    left: watch::Sender<usize>,
) -> DbResult<bool> {
    let mut sender = BatchSender {
        relay,
        claim: batch.claim,
        lease_end: batch.lease_end,
        to_send: 0,
        waiting: WaitingRecords::new(),
        to_release: Vec::new(),
    };
    let unsendable = sender.sort(batch.claimed, stalled);
    unsendable.settle(relay).await?;
    sender.wait_for_slots(&left).await;
    sender.release_rest(stalled).await
}

/// A batch that is being sent.
///
/// It holds the claim until the end. So the claim is finished when the last record that was sent is settled,
/// and not before the others are settled or released.
struct BatchSender<'a, DB: OutboxDatabase> {
    relay: &'a Arc<Relay<DB>>,
    /// `None` if nothing was due.
    claim: Option<Arc<OpenClaim>>,
    lease_end: Instant,
    /// How many of the records are fit to be sent.
    to_send: usize,
    /// Records that wait for a slot.
    waiting: WaitingRecords,
    /// Records that found no slot and are due again soon.
    to_release: Vec<RecordId>,
}

impl<DB: OutboxDatabase> BatchSender<'_, DB> {
    /// Sends the records that have a slot, and sorts the others by the change that they need.
    ///
    /// Once a record waits, the later records of its topic wait behind it, so that none overtakes it.
    fn sort(&mut self, claimed: Vec<Claimed>, stalled: &mut HashSet<Arc<str>>) -> Unsendable {
        let mut unsendable = Unsendable::default();
        // The broker may have gone away, or the relay may have been stopped, since the claim was sent.
        let is_open = self.relay.gate.is_open();
        for Claimed { record, .. } in claimed {
            let message = match &record.message {
                Ok(message) => message,
                Err(reason) => {
                    unsendable
                        .unreadable
                        .push((record.id, record.message_id, reason.clone()));
                    continue;
                }
            };
            if record.expires_in == Some(Duration::ZERO) {
                unsendable.expired.push(record.id);
            } else if self.relay.parking.is_parked(message.topic()) {
                unsendable.parked.push(record.id);
            } else {
                self.to_send += 1;
                let topic = message.shared_topic();
                if !is_open || self.waiting.holds(&topic) {
                    self.waiting.push(topic, record);
                } else if let Some(record) = self.send(record) {
                    if stalled.contains(&topic) {
                        self.to_release.push(record.id);
                    } else {
                        self.waiting.push(topic, record);
                    }
                } else {
                    stalled.remove(&topic);
                }
            }
        }
        unsendable
    }

    /// Sends waiting records as slots come free, until all are sent, patience ends or the gate shuts.
    ///
    /// A record waits because its topic has its share in flight. If the topic moves, a slot comes free soon.
    /// If it does not, the record is released for a while, so that it is not claimed over and over.
    async fn wait_for_slots(&mut self, left: &watch::Sender<usize>) {
        let lease = self.relay.outbox.lease();
        // A record that is sent at the end of the wait still needs some of its lease.
        let latest = self.lease_end - lease / 2;
        let patience = || (Instant::now() + PATIENCE.min(lease / 4)).min(latest);
        let mut until = patience();
        while !self.waiting.is_empty() && Instant::now() < until && self.relay.gate.is_open() {
            let freed = self.relay.window.freed();
            let before = self.waiting.len();
            let (relay, lease_end, claim) = (self.relay, self.lease_end, self.claim.as_ref());
            self.waiting
                .offer(|record| send_claimed(relay, record, lease_end, claim));
            if self.waiting.len() < before {
                until = patience();
            }
            if !self.waiting.is_empty() {
                left.send_replace(self.waiting.len());
                tokio::select! {
                    () = freed => {}
                    () = tokio::time::sleep_until(until.into()) => {}
                    () = self.relay.gate.closed() => {}
                }
            }
        }
    }

    /// Releases the records that found no slot. False if there were records to send and none was sent.
    async fn release_rest(mut self, stalled: &mut HashSet<Arc<str>>) -> DbResult<bool> {
        let relay = self.relay;
        let topic = |record: &Record| record.message.as_ref().ok().map(Message::shared_topic);
        // Behind a shut gate the topics are not to blame.
        let is_stalled = relay.gate.is_open();
        for record in self.waiting.into_records() {
            stalled.extend(topic(&record).filter(|_| is_stalled));
            self.to_release.push(record.id);
        }
        let any_sent = self.to_send == 0 || self.to_release.len() < self.to_send;
        if !self.to_release.is_empty() {
            let wait = match relay.gate.is_open() {
                true => PATIENCE,
                false => Duration::ZERO,
            };
            relay
                .outbox
                .table()?
                .release(&self.to_release, wait)
                .await?;
            relay.bell.due_in(wait);
        }
        Ok(any_sent)
    }

    /// Sends a record of the batch, or returns it if there is no slot for it.
    fn send(&self, record: Record) -> Option<Record> {
        send_claimed(self.relay, record, self.lease_end, self.claim.as_ref())
    }
}

/// Records that are settled without being sent.
#[derive(Default)]
struct Unsendable {
    unreadable: Vec<(RecordId, MessageId, String)>,
    expired: Vec<RecordId>,
    parked: Vec<RecordId>,
}

impl Unsendable {
    /// Settles them in the table, each kind by one statement.
    async fn settle<DB: OutboxDatabase>(self, relay: &Relay<DB>) -> DbResult<()> {
        for (record, id, reason) in self.unreadable {
            let reason = format!("the record cannot be read: {reason}");
            tracing::error!(
                target: "final::relay",
                service = relay.service.as_str(), %id, reason,
                "a record cannot be read and is marked as failed; see `Bus::failed`"
            );
            relay.change(&[record], &RecordChange::Fail(reason)).await?;
        }
        if !self.expired.is_empty() {
            let removed = relay.change(&self.expired, &RecordChange::Expire).await?;
            relay.counters.expired.add(removed);
        }
        if !self.parked.is_empty() {
            let park = RecordChange::Park("the topic is parked".to_owned());
            relay.change(&self.parked, &park).await?;
        }
        Ok(())
    }
}

/// Sends a claimed record, or returns it if there is no slot for it.
///
/// A record that was claimed alone, and so without a `claim`, is the probe of its topic.
pub(super) fn send_claimed<DB: OutboxDatabase>(
    relay: &Relay<DB>,
    record: Record,
    lease_end: Instant,
    claim: Option<&Arc<OpenClaim>>,
) -> Option<Record> {
    let Ok(message) = &record.message else {
        return None;
    };
    let topic = message.shared_topic();
    let probe = claim.is_none();
    // A pass can hold the scanner's whole share, and a probe must not wait for its end.
    let side = if probe { Side::HandOver } else { Side::Scanner };
    let Some(slot) = relay.window.try_take(&topic, message.weight(), side) else {
        return Some(record);
    };
    // The table said what was left of the time to live when the record was claimed.
    let claimed_at = lease_end - relay.outbox.lease();
    let expires = record.expires_in.map(|left| claimed_at + left);
    let Some(mut flying) =
        relay
            .flight
            .enter(record.id, message.clone(), slot, lease_end, expires, claim)
    else {
        // The record is in flight already, and has the new lease.
        if probe {
            relay.parking.probe_again(&topic);
        }
        return None;
    };
    flying.waited = record.due_for(SystemTime::now());
    flying.attempts = record.attempts;
    flying.faults = record.faults;
    flying.probe = probe;
    // A message that has closed a channel before gets a channel for itself.
    let lane = if probe || record.faults > 0 {
        Isolation::Alone
    } else {
        Isolation::Shared
    };
    relay.send(flying, lane);
    None
}
