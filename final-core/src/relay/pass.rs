//! A pass of the scanner through what is due: batch after batch is claimed and sent.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::{Relay, change::Change, flight::OpenClaim, waiting::Waiting, window::Side};
use crate::{
    Message, OutboxDatabase,
    broker::Lane,
    database::DbResult,
    outbox::{Claimed, Position, Record},
};

/// How long claimed records wait for a slot while none comes free for any of them. Then they are given
/// back for as long.
const PATIENCE: Duration = Duration::from_secs(1);

/// How many claims a pass ends in one statement. They hide only what commits late in the midst of them.
const FINISH: usize = 8;

/// The pause before the next claim if nothing of a batch could be sent and no slot comes free.
const STILL: Duration = Duration::from_millis(100);

/// Records that were due and are leased to this process now.
struct Batch {
    claimed: Vec<Claimed>,
    /// Kept until each of them is in flight or where it belongs instead.
    claim: Option<Arc<OpenClaim>>,
    lease_end: Instant,
    /// Whether there may be more.
    is_full: bool,
}

/// Where a pass is.
struct Place {
    /// Since when it goes on without beginning anew.
    since: Instant,
    /// The last record that was claimed.
    after: Option<Position>,
    has_claimed: bool,
}

impl Default for Place {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            after: None,
            has_claimed: false,
        }
    }
}

/// A pass under way.
#[derive(Default)]
pub(super) struct Pass {
    place: Place,
    /// The topics that were waited for in vain.
    stalled: HashSet<Arc<str>>,
    ahead: Option<Batch>,
}

impl Pass {
    /// Whether anything was claimed so far.
    pub(super) fn has_claimed(&self) -> bool {
        self.place.has_claimed
    }

    /// Sends a batch, and says whether there may be more.
    ///
    /// While it is being sent the next is claimed: a claim takes about as long as the broker needs for
    /// half a batch, and would find it idle. After an error the pass can go on; what was not sent of
    /// the batch is found again when the pass begins anew, or with the next.
    pub(super) async fn step<DB: OutboxDatabase>(
        &mut self,
        relay: &Arc<Relay<DB>>,
    ) -> DbResult<bool> {
        let batch = match self.ahead.take() {
            Some(batch) => batch,
            None => match relay.room().await {
                Some(room) => claim(relay, &mut self.place, room).await?,
                None => return Ok(false),
            },
        };
        // Says how many still wait for a slot, and by its end that none does.
        let (left, waiting) = watch::channel(usize::MAX);
        if !batch.is_full {
            place(relay, batch, &mut self.stalled, left).await?;
            return Ok(false);
        }
        let freed = relay.window.freed();
        let (placed, next) = tokio::join!(
            place(relay, batch, &mut self.stalled, left),
            claim_ahead(relay, &mut self.place, waiting),
        );
        let claimed = next.map(|next| self.ahead = next);
        if !placed? {
            tokio::select! {
                () = freed => {}
                () = tokio::time::sleep(STILL) => {}
                () = relay.stop_scanner.cancelled() => {}
            }
        }
        claimed.map(|()| true)
    }
}

async fn claim<DB: OutboxDatabase>(
    relay: &Relay<DB>,
    place: &mut Place,
    room: usize,
) -> DbResult<Batch> {
    relay.finish_claims(FINISH).await?;
    // What a dead process had claimed, or committed late, lies behind: a long backlog must not hide it.
    if place.since.elapsed() >= relay.store.lease() {
        (place.after, place.since) = (None, Instant::now());
    }
    let limit = u32::try_from(room)
        .unwrap_or(u32::MAX)
        .min(relay.options.scan_batch);
    let table = relay.store.table()?;
    let asked = &relay.counters.statements;
    let (_, lease_end) = relay.store.new_lease();
    let claim = table.claim(place.after, limit, asked);
    let Some(claim) = claim.await? else {
        relay.window.set_backlog(false);
        return Ok(Batch {
            claimed: Vec::new(),
            claim: None,
            lease_end,
            is_full: false,
        });
    };
    let open = relay.flight.open(claim.number);
    relay.window.set_backlog(claim.is_full);
    place.after = Some(claim.last());
    place.has_claimed = true;
    asked.add(1);
    Ok(Batch {
        claimed: table.read(&claim).await?,
        claim: Some(open),
        lease_end,
        is_full: claim.is_full,
    })
}

/// Claims the next batch once so little is left of the present one that it will be gone by then.
///
/// Nothing, if that comes to its end before: it was sent at once or given back, and whether there is
/// room for more is to be seen. So of a topic that stands still one batch too many is claimed at most.
async fn claim_ahead<DB: OutboxDatabase>(
    relay: &Relay<DB>,
    place: &mut Place,
    mut waiting: watch::Receiver<usize>,
) -> DbResult<Option<Batch>> {
    let few = relay
        .window
        .worth_a_claim(relay.options.scan_batch as usize);
    let is_moving = waiting.wait_for(|left| *left <= few).await.is_ok();
    if !is_moving || !relay.is_ready() {
        return Ok(None);
    }
    claim(relay, place, relay.window.most_for_scanner())
        .await
        .map(Some)
}

/// Sends claimed records, or puts them where they belong instead. False if there were some to be sent
/// and none was.
///
/// `stalled` are the topics that were waited for in vain in this pass. Their records are given back
/// at once, so that those behind them are reached.
async fn place<DB: OutboxDatabase>(
    relay: &Arc<Relay<DB>>,
    batch: Batch,
    stalled: &mut HashSet<Arc<str>>,
    left: watch::Sender<usize>,
) -> DbResult<bool> {
    let table = relay.store.table()?;
    let (lease_end, claim) = (batch.lease_end, batch.claim);
    let send = |record| take_off(relay, record, lease_end, claim.as_ref());
    // It may have been claimed while the broker went away or the relay was told to stop.
    let is_ready = relay.is_ready();
    let (mut parked, mut expired, mut given_back) = (Vec::new(), Vec::new(), Vec::new());
    let mut unreadable = Vec::new();
    let mut to_send = 0;
    let mut waiting = Waiting::new();
    for Claimed { record, .. } in batch.claimed {
        match &record.message {
            Err(reason) => {
                unreadable.push((record.id, format!("the record cannot be read: {reason}")));
            }
            Ok(_) if record.expires_in == Some(Duration::ZERO) => expired.push(record.id.0),
            Ok(message) if relay.parking.is_parked(message.topic()) => parked.push(record.id.0),
            Ok(message) => {
                to_send += 1;
                let topic = message.shared_topic();
                if !is_ready || waiting.holds(&topic) {
                    waiting.push(topic, record);
                } else if let Some(record) = send(record) {
                    if stalled.contains(&topic) {
                        given_back.push(record);
                    } else {
                        waiting.push(topic, record);
                    }
                } else {
                    stalled.remove(&topic);
                }
            }
        }
    }
    for (id, reason) in unreadable {
        tracing::error!(service = relay.service.as_str(), %id, reason, "record failed");
        relay.change(&[id.0], &Change::Fail(reason)).await?;
    }
    if !expired.is_empty() {
        let removed = relay.change(&expired, &Change::Expire).await?;
        relay.counters.expired.add(removed);
    }
    if !parked.is_empty() {
        let park = Change::Park("the topic is parked".to_owned());
        relay.change(&parked, &park).await?;
    }

    // Its topic has its share in flight. If that moves, slots come free soon; if not, the records
    // must not be claimed over and over. What is sent at last needs some of its lease.
    let latest = lease_end - relay.store.lease() / 2;
    let patience = || (Instant::now() + PATIENCE.min(relay.store.lease() / 4)).min(latest);
    let mut until = patience();
    while !waiting.is_empty() && Instant::now() < until && relay.is_ready() {
        let freed = relay.window.freed();
        let before = waiting.len();
        waiting.offer(send);
        if waiting.len() < before {
            until = patience();
        }
        if !waiting.is_empty() {
            left.send_replace(waiting.len());
            tokio::select! {
                () = freed => {}
                () = tokio::time::sleep_until(until.into()) => {}
                () = relay.state_changed() => {}
                () = relay.stop_scanner.cancelled() => {}
            }
        }
    }
    let topic = |record: &Record| record.message.as_ref().ok().map(Message::shared_topic);
    let stand_still = relay.is_ready();
    for record in waiting.into_records() {
        stalled.extend(topic(&record).filter(|_| stand_still));
        given_back.push(record);
    }
    let any_sent = to_send == 0 || given_back.len() < to_send;
    if !given_back.is_empty() {
        let ids: Vec<_> = given_back.iter().map(|record| record.id.0).collect();
        let wait = if relay.is_ready() {
            PATIENCE
        } else {
            Duration::ZERO
        };
        table.release(&ids, wait).await?;
        relay.due_in(wait);
    }
    Ok(any_sent)
}

/// Sends a claimed record, or gives it back if there is no slot for it. One that was claimed alone, and
/// not with others, is the probe of its topic.
pub(super) fn take_off<DB: OutboxDatabase>(
    relay: &Arc<Relay<DB>>,
    record: Record,
    lease_end: Instant,
    claim: Option<&Arc<OpenClaim>>,
) -> Option<Record> {
    let Ok(message) = &record.message else {
        return None;
    };
    let topic = message.shared_topic();
    let probe = claim.is_none();
    // A pass has the scanner's share; a probe must not wait for its end.
    let side = if probe { Side::HandOver } else { Side::Scanner };
    let Some(slot) = relay.window.try_take(&topic, message.weight(), side) else {
        return Some(record);
    };
    // What was left at the claim, from then on.
    let claimed_at = lease_end - relay.store.lease();
    let expires = record.expires_in.map(|left| claimed_at + left);
    let Some(mut held) = relay
        .flight
        .enter(message.clone(), slot, lease_end, expires, claim)
    else {
        // It stays with whoever has it, and is leased again.
        if probe {
            relay.parking.probe_again(&topic);
        }
        return None;
    };
    held.attempts = record.attempts;
    held.faults = record.faults;
    held.probe = probe;
    // One that has closed a channel before gets one for itself.
    let lane = if probe || record.faults > 0 {
        Lane::Alone
    } else {
        Lane::Shared
    };
    relay.send(held, lane);
    None
}
