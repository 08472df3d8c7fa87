//! A pass of the scanner through the due records: batch after batch is claimed and sent.
//!
//! Input: the free slots of the window, and the due records that the table gives. State: how far the pass has
//! come in the order of what is due, the batch claimed ahead, and the topics that found no slot. Output:
//! batches, which `batch.rs` sends; and whether there may be more to claim.
//!
//! ```text
//!   step 1:  claim A ─▶ send A ───────────────┐
//!                        └ few left ▶ claim B ┴▶ step 2:  send B ───────────────┐
//!                                                          └ few left ▶ claim C ┴▶ …
//! ```
//!
//! A claim takes about as long as the broker needs for half a batch, so the next batch is claimed while the
//! present one is being sent. Otherwise the broker would be idle during each claim.
//!
//! Each claim begins behind the last record of the one before. Records that were sent are deleted and leave dead
//! index entries at the front, and stepping over them at each claim would make a long drain quadratic.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::{
    Relay,
    batch::{ClaimedBatch, send_batch},
};
use crate::{OutboxDatabase, database::DbResult, outbox::Position};

/// How many claims a pass finishes in one statement. Waiting for so many does no harm: a finished claim
/// only hides what was committed late between its records.
const FINISH: usize = 8;

/// The pause before the next claim if nothing of a batch could be sent and no slot comes free.
const STANDSTILL: Duration = Duration::from_millis(100);

/// A pass under way.
///
/// ```text
///   at the front ── claim ──▶ behind the last claimed record ── claim, not full ──▶ over
///        ▲                         │  ▲ claim, full │
///        └── once in a lease ──────┘  └─────────────┘
/// ```
#[derive(Default)]
pub(super) struct Pass {
    cursor: PassCursor,
    /// Topics whose records have waited for a slot in vain during this pass.
    stalled: HashSet<Arc<str>>,
    /// The batch that was claimed while the one before it was being sent.
    ahead: Option<ClaimedBatch>,
}

/// How far a pass has come in the order of the due records.
struct PassCursor {
    /// When the pass last began at the front.
    since: Instant,
    /// The last record that was claimed. The next claim begins behind it.
    after: Option<Position>,
    has_claimed: bool,
}

impl Default for PassCursor {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            after: None,
            has_claimed: false,
        }
    }
}

impl Pass {
    /// Whether anything was claimed so far.
    pub(super) fn has_claimed(&self) -> bool {
        self.cursor.has_claimed
    }

    /// Sends a batch. False if nothing more is due, or the broker takes no messages.
    ///
    /// After an error the pass can go on. Records of the batch that were not sent are claimed again when
    /// the pass begins at the front, or by the next pass.
    pub(super) async fn step<DB: OutboxDatabase>(
        &mut self,
        relay: &Arc<Relay<DB>>,
    ) -> DbResult<bool> {
        let batch = match self.ahead.take() {
            Some(batch) => batch,
            None => match relay.room().await {
                Some(room) => claim(relay, &mut self.cursor, room).await?,
                None => return Ok(false),
            },
        };
        // Carries how many records still wait for a slot. It closes when the batch is done.
        let (left, waiting) = watch::channel(usize::MAX);
        if !batch.is_full {
            send_batch(relay, batch, &mut self.stalled, left).await?;
            return Ok(false);
        }
        let freed = relay.window.freed();
        let (sent, next) = tokio::join!(
            send_batch(relay, batch, &mut self.stalled, left),
            claim_ahead(relay, &mut self.cursor, waiting),
        );
        let claimed = next.map(|next| self.ahead = next);
        if !sent? {
            tokio::select! {
                () = freed => {}
                () = tokio::time::sleep(STANDSTILL) => {}
                () = relay.stopping.taking.cancelled() => {}
            }
        }
        claimed.map(|()| true)
    }
}

/// Claims due records behind the cursor, as many as there is room for, and reads its payloads.
///
/// It also tells the window whether a backlog is left, which decides how many slots hand-over may take.
async fn claim<DB: OutboxDatabase>(
    relay: &Relay<DB>,
    cursor: &mut PassCursor,
    room: usize,
) -> DbResult<ClaimedBatch> {
    relay.finish_claims(FINISH).await?;
    // Records that a dead process had claimed, or that were committed late, lie behind the cursor. Once in a
    // lease the pass begins at the front, so that a long backlog does not hide them.
    if cursor.since.elapsed() >= relay.outbox.lease() {
        (cursor.after, cursor.since) = (None, Instant::now());
    }
    let limit = u32::try_from(room)
        .unwrap_or(u32::MAX)
        .min(relay.options.scan_batch);
    let table = relay.outbox.table()?;
    let asked = &relay.counters.statements;
    let (_, lease_end) = relay.outbox.new_lease();
    let claim = table.claim(cursor.after, limit, asked);
    let Some(claim) = claim.await? else {
        relay.window.set_backlog(false);
        return Ok(ClaimedBatch {
            claimed: Vec::new(),
            claim: None,
            lease_end,
            is_full: false,
        });
    };
    let open = relay.claims.open(claim.number);
    relay.window.set_backlog(claim.is_full);
    cursor.after = Some(claim.last());
    cursor.has_claimed = true;
    asked.add(1);
    Ok(ClaimedBatch {
        claimed: table.read(&claim).await?,
        claim: Some(open),
        lease_end,
        is_full: claim.is_full,
    })
}

/// Claims the next batch as soon as few records of the present one still wait for a slot.
///
/// `None` if the present batch ends before: it was sent at once, or released. Then the next step looks first
/// whether there is room. So at most one batch too many is claimed of a topic that stands still.
async fn claim_ahead<DB: OutboxDatabase>(
    relay: &Relay<DB>,
    cursor: &mut PassCursor,
    mut waiting: watch::Receiver<usize>,
) -> DbResult<Option<ClaimedBatch>> {
    let few = relay
        .window
        .worth_a_claim(relay.options.scan_batch as usize);
    let is_moving = waiting.wait_for(|left| *left <= few).await.is_ok();
    if !is_moving || !relay.gate.is_open() {
        return Ok(None);
    }
    claim(relay, cursor, relay.window.most_for_scanner())
        .await
        .map(Some)
}

impl<DB: OutboxDatabase> Relay<DB> {
    /// Waits until there is room for a claim that is worth its statement, and says for how many records.
    /// `None` if the broker takes no messages.
    async fn room(&self) -> Option<usize> {
        let worth = self.window.worth_a_claim(self.options.scan_batch as usize);
        loop {
            let freed = self.window.freed();
            if !self.gate.is_open() {
                return None;
            }
            let free = self.window.free_for_scanner();
            if free >= worth {
                return Some(free);
            }
            self.window.set_backlog(true);
            tokio::select! {
                () = freed => {}
                () = self.gate.closed() => {}
            }
        }
    }
}
