//! Which groups and topics are open on this node.
//!
//! Input: clients that ask for a group and topic. State: a slot for each, and the task that opens it, watches over it
//! and closes it. Output: open pairs.
//!
//! ```text
//!   none ─ asked for ─▶ opening ─▶ open ─ no client for a while, broken, shutdown ─▶ closing ─▶ none
//!                          └── refused: everybody who waits gets the reason ─────────────────────▲
//! ```

use std::{
    collections::HashMap,
    error::Error as _,
    fmt,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use final_core::broker::{Broker, BrokerError, BrokerErrorKind, Setup};
use futures::FutureExt;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    GroupError, GroupOptions,
    attempts::Attempts,
    counts::{GroupCounts, GroupStats},
    open::{OpenPair, Presence},
    quota::{AppQuota, PairUse, PairUses},
    stock::Stock,
};
use crate::names::Pair;

/// How often an idle pair looks whether messages wait.
const LOOK: Duration = Duration::from_secs(1);
/// How often a pair looks for messages that connections have had in hand for too long.
const RECLAIM: Duration = Duration::from_secs(10);
/// The most messages that may be in hand: brokers send no more ahead.
const MOST_IN_HAND: usize = 65_535;

/// The slots of a node.
pub(super) struct Slots {
    broker: Arc<dyn Broker>,
    options: GroupOptions,
    attempts: Arc<Attempts>,
    counts: Arc<GroupCounts>,
    slots: Mutex<HashMap<Pair, PairSlot>>,
    uses: Arc<PairUses>,
    next_slot: AtomicU64,
    /// A slot was given up.
    freed: Notify,
    tasks: TaskTracker,
    /// Connections end because the gateway stops.
    expects_shutdown: AtomicBool,
    /// Nothing is given out any more.
    stop: CancellationToken,
}

/// A group and topic that is open, or on its way there or back.
#[derive(Clone, Debug)]
struct PairSlot {
    /// No other slot of this node has or had it.
    number: u64,
    state: watch::Receiver<SlotState>,
    /// Asks an idle pair to close, because others need its place.
    make_room: Arc<Notify>,
}

#[derive(Clone, Debug)]
enum SlotState {
    Opening,
    Open(Arc<OpenPair>),
    Failed(GroupError),
    Closed,
}

/// What comes of asking for a slot.
enum Asked {
    /// The slot, which is used from now on.
    Slot(PairSlot, PairUse),
    /// One without clients makes room. If it does not in time, that is why there is no slot.
    Wait(GroupError),
}

impl Slots {
    pub(super) fn new(broker: Arc<dyn Broker>, mut options: GroupOptions) -> Self {
        options.in_hand = options.in_hand.clamp(1, MOST_IN_HAND);
        Self {
            broker,
            options,
            attempts: Arc::default(),
            counts: Arc::default(),
            slots: Mutex::default(),
            uses: Arc::default(),
            next_slot: AtomicU64::new(0),
            freed: Notify::new(),
            tasks: TaskTracker::new(),
            expects_shutdown: AtomicBool::new(false),
            stop: CancellationToken::new(),
        }
    }

    pub(super) fn options(&self) -> &GroupOptions {
        &self.options
    }

    /// Cancelled when the gateway stops.
    pub(super) fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// From now on connections end because the gateway stops.
    pub(super) fn expect_shutdown(&self) {
        self.expects_shutdown.store(true, Ordering::Relaxed);
    }

    /// Whether connections end because the gateway stops.
    pub(super) fn expects_shutdown(&self) -> bool {
        self.expects_shutdown.load(Ordering::Relaxed)
    }

    /// A pair, if it is open.
    pub(super) fn get(&self, pair: &Pair) -> Option<Arc<OpenPair>> {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        match &*slots.get(pair)?.state.borrow() {
            SlotState::Open(open) => Some(Arc::clone(open)),
            _ => None,
        }
    }

    /// A pair, if it is open and the app may use it.
    pub(super) fn get_for(
        &self,
        pair: &Pair,
        quota: Option<&AppQuota>,
    ) -> Option<(Arc<OpenPair>, Arc<PairUse>)> {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = slots.get(pair)?;
        let SlotState::Open(open) = &*slot.state.borrow() else {
            return None;
        };
        let used = self.uses.begin(quota, slot.number).ok()?;
        Some((Arc::clone(open), Arc::new(used)))
    }

    /// The numbers of all pairs.
    pub(super) fn stats(&self) -> GroupStats {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let in_hand = slots.values().map(|slot| match &*slot.state.borrow() {
            SlotState::Open(open) => open.with(|stock| stock.in_hand().messages),
            _ => 0,
        });
        GroupStats {
            open: slots.len(),
            in_hand: in_hand.sum(),
            given_out: self.counts.given_out.get(),
            settled: self.counts.settled.get(),
            came_back: self.counts.came_back.get(),
            dead_lettered: self.counts.dead_lettered.get(),
        }
    }

    /// Opens a pair, or finds it open, and enters it.
    pub(super) async fn enter(
        self: &Arc<Self>,
        pair: &Pair,
        quota: Option<&AppQuota>,
        until: Instant,
    ) -> Result<Presence, GroupError> {
        loop {
            let freed = self.freed.notified();
            let (slot, used) = match self.slot(pair, quota)? {
                Asked::Slot(slot, used) => (slot, Arc::new(used)),
                Asked::Wait(full) => {
                    if timeout_at(until, freed).await.is_err() {
                        return Err(full);
                    }
                    continue;
                }
            };
            let mut state = slot.state;
            let is_known = |state: &SlotState| match state {
                SlotState::Opening => false,
                // A pair that closes lets nobody in. Afterwards it is opened again.
                SlotState::Open(open) => !open.ended.is_cancelled(),
                SlotState::Failed(_) | SlotState::Closed => true,
            };
            let known = match timeout_at(until, state.wait_for(is_known)).await {
                Ok(Ok(state)) => state.clone(),
                // The task has panicked.
                Ok(Err(_)) => SlotState::Closed,
                Err(_) => {
                    let text = format!(
                        "the database or the broker has not answered in time to open {pair}"
                    );
                    return Err(GroupError::Away(text));
                }
            };
            match known {
                SlotState::Open(open) => match open.enter(&used) {
                    Some(presence) => return Ok(presence),
                    None => {
                        let closed = state.wait_for(|state| matches!(state, SlotState::Closed));
                        let _ = timeout_at(until, closed).await;
                    }
                },
                SlotState::Failed(error) => return Err(error),
                SlotState::Opening | SlotState::Closed => {}
            }
            if self.stop.is_cancelled() {
                return Err(GroupError::Stopping);
            }
        }
    }

    /// The slot of a pair, which is made if there is none, and a use of it.
    fn slot(self: &Arc<Self>, pair: &Pair, quota: Option<&AppQuota>) -> Result<Asked, GroupError> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if self.stop.is_cancelled() {
            return Err(GroupError::Stopping);
        }
        let known = slots.get(pair);
        let number = known.map_or_else(
            || self.next_slot.fetch_add(1, Ordering::Relaxed),
            |slot| slot.number,
        );
        let used = match self.uses.begin(quota, number) {
            Ok(used) => used,
            Err(full) => {
                let is_of_app = |slot: &&PairSlot| {
                    quota.is_some_and(|quota| self.uses.has(&quota.app, slot.number))
                };
                return wait_for_room(slots.values().filter(is_of_app), full);
            }
        };
        if let Some(slot) = known {
            return Ok(Asked::Slot(slot.clone(), used));
        }
        if slots.len() >= self.options.most_open {
            let full = GroupError::TooMany(self.options.most_open);
            return wait_for_room(slots.values(), full);
        }
        let (sender, state) = watch::channel(SlotState::Opening);
        let slot = PairSlot {
            number,
            state,
            make_room: Arc::new(Notify::new()),
        };
        slots.insert(pair.clone(), slot.clone());
        let life = Life {
            slots: Arc::clone(self),
            pair: pair.clone(),
            number,
            make_room: Arc::clone(&slot.make_room),
        };
        self.tasks.spawn(life.run(sender));
        Ok(Asked::Slot(slot, used))
    }

    /// Gives nothing out any more, gives everything back, and closes all pairs, each step within its limit.
    pub(super) async fn shutdown(&self) {
        self.expect_shutdown();
        {
            // Under the lock, so that no slot is made afterwards.
            let _slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            self.stop.cancel();
            self.tasks.close();
        }
        self.tasks.wait().await;
    }
}

/// Asks the slot that has been without clients for the longest time to make room. Without such a one there is none.
fn wait_for_room<'a>(
    slots: impl Iterator<Item = &'a PairSlot>,
    full: GroupError,
) -> Result<Asked, GroupError> {
    let now = Instant::now();
    let idle = slots.filter_map(|slot| match &*slot.state.borrow() {
        SlotState::Open(open) => {
            let since = open.with(|stock| stock.idle_since(now))?;
            Some((since, Arc::clone(&slot.make_room)))
        }
        _ => None,
    });
    match idle.min_by_key(|(since, _)| *since) {
        Some((_, make_room)) => {
            make_room.notify_one();
            Ok(Asked::Wait(full))
        }
        None => Err(full),
    }
}

impl fmt::Debug for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slots")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// The task of one slot.
struct Life {
    slots: Arc<Slots>,
    pair: Pair,
    number: u64,
    make_room: Arc<Notify>,
}

impl Life {
    async fn run(self, state: watch::Sender<SlotState>) {
        let lived = AssertUnwindSafe(self.live(&state)).catch_unwind().await;
        let end = match lived {
            Ok(Ok(())) => SlotState::Closed,
            Ok(Err(error)) => SlotState::Failed(error),
            Err(_) => {
                tracing::error!(
                    target: "final::gateway",
                    group = self.pair.group(), topic = self.pair.topic(),
                    "the task of a group and topic panicked; it is opened again when a client asks"
                );
                if let SlotState::Open(open) = &*state.borrow() {
                    open.ended.cancel();
                }
                SlotState::Closed
            }
        };
        // The place is free before anybody hears of it.
        let mut slots = self
            .slots
            .slots
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        slots.remove(&self.pair);
        self.slots.uses.end_all(self.number);
        drop(slots);
        state.send_replace(end);
        self.slots.freed.notify_waiters();
    }

    async fn live(&self, state: &watch::Sender<SlotState>) -> Result<(), GroupError> {
        let Slots {
            broker,
            options,
            stop,
            ..
        } = &*self.slots;
        let group = self.pair.broker_group();
        let mut setup = Setup::new(Arc::clone(&group), [self.pair.shared_topic()]);
        // RabbitMQ sends about as many messages ahead.
        setup.concurrency = options.in_hand;
        let opened = tokio::select! {
            () = stop.cancelled() => return Err(GroupError::Stopping),
            opened = broker.open(setup) => opened,
        };
        let opened = opened.map_err(|error| {
            let error = refusal(&error);
            tracing::warn!(
                target: "final::gateway",
                group = self.pair.group(), topic = self.pair.topic(), %error,
                "a group and topic cannot be opened"
            );
            error
        })?;
        tracing::debug!(
            target: "final::gateway",
            group = self.pair.group(), topic = self.pair.topic(),
            "a group and topic is open"
        );
        let (attempts, counts) = (&self.slots.attempts, &self.slots.counts);
        let (attempts, counts) = (Arc::clone(attempts), Arc::clone(counts));
        let stock = Stock::new(group, options, attempts, counts, Instant::now());
        let open = Arc::new(OpenPair::new(
            self.pair.clone(),
            opened,
            stock,
            stop.clone(),
        ));
        state.send_replace(SlotState::Open(Arc::clone(&open)));
        self.watch(&open).await;
        open.close(options.stop_within).await;
        tracing::debug!(
            target: "final::gateway",
            group = self.pair.group(), topic = self.pair.topic(),
            "a group and topic is closed"
        );
        Ok(())
    }

    /// Does what is due in a pair, until it is to be closed.
    async fn watch(&self, open: &OpenPair) {
        let stop = &self.slots.stop;
        let hold = self.slots.options.hold;
        let mut reclaim_at = Instant::now() + RECLAIM;
        loop {
            let now = Instant::now();
            if now >= reclaim_at {
                reclaim_at = now + RECLAIM;
                if let Some(since) = now.checked_sub(hold) {
                    open.with(|stock| stock.reclaim(since));
                }
            }
            let (due, idle_since) = open.with(|stock| (stock.tick(now), stock.idle_since(now)));
            if let Some(since) = idle_since
                && self.is_over(open, since)
                && open.with(|stock| stock.close(true, Instant::now()))
            {
                return;
            }
            let look = idle_since.map(|_| Instant::now() + LOOK);
            let times = [due, look, Some(reclaim_at)];
            let until = times.into_iter().flatten().min();
            tokio::select! {
                () = stop.cancelled() => return,
                () = open.ended.cancelled() => return,
                () = open.timer.notified() => {}
                () = self.make_room.notified() => {
                    if open.with(|stock| stock.close(true, Instant::now())) {
                        return;
                    }
                }
                () = sleep(until) => {}
            }
        }
    }

    /// Whether a pair without clients has been open for long enough.
    fn is_over(&self, open: &OpenPair, idle_since: Instant) -> bool {
        let GroupOptions {
            linger, unclaimed, ..
        } = self.slots.options;
        let idle = idle_since.elapsed();
        idle >= linger || (idle >= unclaimed && open.has_waiting())
    }
}

async fn sleep(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => std::future::pending().await,
    }
}

/// What a client is told about a broker that cannot be opened.
fn refusal(error: &BrokerError) -> GroupError {
    let text = match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    };
    match error.kind() {
        BrokerErrorKind::Unreachable => GroupError::Away(text),
        _ => GroupError::Refused(text),
    }
}
