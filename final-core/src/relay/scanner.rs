//! The scanner: finds records that are due and nobody holds, and claims them.
//!
//! Most messages never meet it: they are handed over in memory after their COMMIT. It is there for
//! what was not: written while the broker was away or the window full, flushed early, delayed, put
//! back, or left behind by a process that died.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Relay, window::Side};
use crate::{
    Message, OutboxDatabase,
    broker::Lane,
    outbox::{Claimed, DbResult, Record},
};

/// The pause between two passes that were rung for. Under load one pass serves many rings.
const DEBOUNCE: Duration = Duration::from_millis(10);

/// The pause between the database's first answer after an outage and the next claim. The ackers
/// reach it in less, so they are done before anybody claims what they had the proof for.
const PAUSE: Duration = Duration::from_secs(1);

/// The pause before the database is tried again.
const RETRY: Duration = Duration::from_millis(300);

/// How long claimed records wait for slots of a busy topic before they are given back for a second.
const PATIENCE: Duration = Duration::from_secs(1);

/// How many topics are probed in one go.
const PROBES: usize = 64;

/// How many parked topics are looked up in the table.
const TOPICS: u32 = 1_000;

/// How many records one statement makes pending again when their topic is open.
const UNPARK_BATCH: u32 = 500;

/// Looks at the outbox whenever there is a reason to, until the relay stops.
pub(crate) async fn run<DB: OutboxDatabase>(relay: Arc<Relay<DB>>) {
    let mut look = Look {
        parked_at: Instant::now(),
        wake_at: Instant::now(),
        claim: true,
        failures: 0,
    };
    while relay.until_ready().await {
        match look.once(&relay).await {
            Ok(()) => look.sleep(&relay).await,
            Err(error) => {
                relay.database_failed("scanning the outbox", &error, look.failures);
                look.failures = look.failures.saturating_add(1);
                look.claim = true;
                // Whatever is due and rings meanwhile: none of it can be done.
                tokio::select! {
                    () = tokio::time::sleep(RETRY) => {}
                    () = relay.stop_scanner.cancelled() => {}
                }
            }
        }
    }
}

/// When to look next, and for what.
struct Look {
    /// When to look for parked topics again.
    parked_at: Instant,
    /// When to look for due records again.
    wake_at: Instant,
    /// Whether to claim without asking first if anything is due.
    claim: bool,
    /// How often in a row the database failed.
    failures: u32,
}

impl Look {
    /// Does what is due now.
    async fn once<DB: OutboxDatabase>(&mut self, relay: &Arc<Relay<DB>>) -> DbResult<()> {
        if self.failures > 0 {
            relay.counters.statements.add(1);
            relay.store.table()?.next_due().await?;
            // Ackers first: what was confirmed during the outage must not be claimed again.
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = relay.stop_scanner.cancelled() => return Ok(()),
            }
            self.failures = 0;
        }
        let now = Instant::now();
        if self.parked_at <= now {
            find_parked(relay).await?;
            self.parked_at = now + relay.options.scan_interval * 3;
        }
        release(relay).await?;
        for topic in relay.parking.to_probe(PROBES) {
            if let Err(error) = probe(relay, &topic).await {
                relay.parking.probe_again(&topic);
                return Err(error);
            }
        }
        if self.claim {
            self.claim = false;
            pass(relay).await?;
        } else if !relay.alarm_over() && self.wake_at > now {
            return Ok(());
        }
        relay.counters.statements.add(1);
        let next_due = relay.store.table()?.next_due().await?;
        self.claim = next_due == Some(Duration::ZERO);
        let wait = next_due.map_or(relay.options.scan_interval, |due| {
            // A little more, so that the record is due by the database's clock too.
            (due + Duration::from_millis(2)).min(relay.options.scan_interval)
        });
        self.wake_at = Instant::now() + wait;
        Ok(())
    }

    /// Sleeps until there is a reason to look.
    async fn sleep<DB: OutboxDatabase>(&mut self, relay: &Relay<DB>) {
        if self.claim && self.wake_at <= Instant::now() {
            tokio::time::sleep(DEBOUNCE).await;
            return;
        }
        let probe = relay
            .parking
            .next_probe()
            .map(tokio::time::Instant::into_std);
        let others = [relay.alarm(), probe];
        let wake_at = others
            .into_iter()
            .flatten()
            .fold(self.wake_at, Instant::min);
        tokio::select! {
            () = tokio::time::sleep_until(wake_at.into()) => {}
            () = relay.rung() => tokio::time::sleep(DEBOUNCE).await,
            () = relay.state_changed() => self.claim = true,
            () = relay.stop_scanner.cancelled() => {}
        }
        self.claim |= relay.take_ring();
    }
}

/// Claims batch after batch until nothing more is due.
async fn pass<DB: OutboxDatabase>(relay: &Arc<Relay<DB>>) -> DbResult<()> {
    let table = relay.store.table()?;
    let mut after = None;
    let mut stalled = HashSet::new();
    while let Some(room) = relay.room().await {
        let limit = u32::try_from(room)
            .unwrap_or(u32::MAX)
            .min(relay.options.scan_batch);
        let (_, lease_end) = relay.store.new_lease();
        relay.counters.statements.add(1);
        let claimed = table.claim(after, limit).await?;
        let is_full = claimed.len() >= limit as usize;
        relay.window.set_backlog(is_full);
        after = claimed.last().map(|claimed| claimed.position).or(after);
        place(relay, claimed, lease_end, &mut stalled).await?;
        if !is_full {
            break;
        }
    }
    Ok(())
}

/// Sends claimed records, or puts them where they belong instead.
///
/// `stalled` are the topics that were waited for in vain in this pass. Their records are given back
/// at once, so that those behind them are reached.
async fn place<DB: OutboxDatabase>(
    relay: &Arc<Relay<DB>>,
    claimed: Vec<Claimed>,
    lease_end: Instant,
    stalled: &mut HashSet<Arc<str>>,
) -> DbResult<()> {
    let table = relay.store.table()?;
    let (mut parked, mut expired) = (Vec::new(), Vec::new());
    let (mut waiting, mut given_back) = (Vec::new(), Vec::new());
    for Claimed { record, .. } in claimed {
        match &record.message {
            Err(reason) => {
                let reason = format!("the record cannot be read: {reason}");
                tracing::error!(service = relay.service.as_str(), id = %record.id, reason, "record failed");
                table.fail(&[record.id.0], &reason).await?;
            }
            Ok(_) if record.expires_in == Some(Duration::ZERO) => expired.push(record.id.0),
            Ok(message) if relay.parking.is_parked(message.topic()) => parked.push(record.id.0),
            Ok(message) => {
                let is_stalled = stalled.contains(message.topic());
                let left = if is_stalled {
                    &mut given_back
                } else {
                    &mut waiting
                };
                left.extend(take_off(relay, record, lease_end, false));
            }
        }
    }
    if !expired.is_empty() {
        table.ack(&expired, false).await?;
        relay.counters.expired.add(expired.len());
    }
    if !parked.is_empty() {
        table.park(&parked, "the topic is parked").await?;
    }

    // Its topic has its share in flight. If that moves, slots come free soon; if not, the records
    // must not be claimed over and over.
    let patience = Instant::now() + PATIENCE.min(relay.store.lease() / 4);
    while !waiting.is_empty() && Instant::now() < patience && relay.is_ready() {
        let freed = relay.window.freed();
        let still = waiting
            .into_iter()
            .filter_map(|record| take_off(relay, record, lease_end, false));
        waiting = still.collect();
        if !waiting.is_empty() {
            let _ = tokio::time::timeout_at(patience.into(), freed).await;
        }
    }
    let topic = |record: &Record| record.message.as_ref().ok().map(Message::shared_topic);
    stalled.extend(waiting.iter().filter_map(topic));
    given_back.append(&mut waiting);
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
    Ok(())
}

/// Sends a claimed record, or gives it back if there is no slot for it.
fn take_off<DB: OutboxDatabase>(
    relay: &Arc<Relay<DB>>,
    record: Record,
    lease_end: Instant,
    probe: bool,
) -> Option<Record> {
    let Ok(message) = &record.message else {
        return None;
    };
    let topic = message.shared_topic();
    let Some(slot) = relay
        .window
        .try_take(&topic, message.weight(), Side::Scanner)
    else {
        return Some(record);
    };
    let expires = record.expires_in.map(|left| Instant::now() + left);
    // One that is in flight already stays with whoever has it; the claim has renewed its lease.
    let mut held = relay
        .flight
        .enter(message.clone(), slot, lease_end, expires)?;
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

/// Remembers topics that another instance, or an earlier life of this one, has parked.
async fn find_parked<DB: OutboxDatabase>(relay: &Relay<DB>) -> DbResult<()> {
    relay.counters.statements.add(1);
    for topic in relay.store.table()?.parked_topics(TOPICS).await? {
        relay.parking.found(&topic);
    }
    Ok(())
}

/// Sends one record of a parked topic, to learn whether it has a queue again.
async fn probe<DB: OutboxDatabase>(relay: &Arc<Relay<DB>>, topic: &Arc<str>) -> DbResult<()> {
    let table = relay.store.table()?;
    let (_, lease_end) = relay.store.new_lease();
    relay.counters.statements.add(1);
    let Some(record) = table.claim_parked(topic).await? else {
        // Nothing waits; the next message published is the probe.
        relay.parking.open(topic);
        return Ok(());
    };
    let id = record.id.0;
    if let Err(reason) = &record.message {
        table.fail(&[id], reason).await?;
        relay.parking.probe_again(topic);
    } else if record.expires_in == Some(Duration::ZERO) {
        table.ack(&[id], false).await?;
        relay.counters.expired.add(1);
        relay.parking.probe_again(topic);
    } else if take_off(relay, record, lease_end, true).is_some() {
        table.park(&[id], "the topic is parked").await?;
        relay.parking.probe_again(topic);
    }
    Ok(())
}

/// Makes records of topics that are open again pending, a batch per topic and look.
async fn release<DB: OutboxDatabase>(relay: &Relay<DB>) -> DbResult<()> {
    for topic in relay.take_opened() {
        relay.counters.statements.add(1);
        let released = match relay.store.table()?.unpark(&topic, UNPARK_BATCH).await {
            Ok(released) => released,
            Err(error) => {
                relay.opened(topic);
                return Err(error);
            }
        };
        if released >= u64::from(UNPARK_BATCH) {
            relay.opened(topic);
        }
        relay.ring();
    }
    Ok(())
}
