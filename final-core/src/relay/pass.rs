//! A pass of the scanner through what is due: claim a batch, send it, claim the next.

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

/// How long claimed records wait for slots of a busy topic before they are given back for a second.
const PATIENCE: Duration = Duration::from_secs(1);

/// Claims batch after batch until nothing more is due.
pub(super) async fn pass<DB: OutboxDatabase>(relay: &Arc<Relay<DB>>) -> DbResult<()> {
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
pub(super) fn take_off<DB: OutboxDatabase>(
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
