//! The consuming side of one bus: reads the log, hands out what is for its lanes, and writes down how
//! far it has come.
//!
//! ```text
//!   bell, poll ─▶ look ─▶ lanes taken or given away
//!       └───────▶ read ─▶ offer ─▶ hand ─▶ deliveries ─▶ handlers
//!                                    ▲                      │ settle
//!                     commit ◀───────┴────── inbox ◀────────┘
//! ```

mod commit;
mod deliver;
mod gaps;
mod key_order;
mod numbers;
mod read;
mod reconnect;
mod refresh;
mod refused;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, watch};

use super::{
    member::{Member, wakeups::Rung},
    progress::{aside::Aside, in_flight::Hand, stream::Stream},
    tables::{extras::Extra, lanes::LaneId, session::Session, transfer::Moved},
};
use crate::{
    OutboxDatabase,
    broker::{Delivery, LinkState},
    database::DbResult,
    runtime::backoff::Backoff,
};

/// Rows of one page.
const PAGE: usize = 500;
/// How often a member looks that has fewer lanes than it should.
const UNSETTLED: Duration = Duration::from_millis(250);
/// How long lanes that stand still are left behind the stream.
const LAG: Duration = Duration::from_secs(1);
/// Scheduled messages of one transaction.
const PROMOTE: usize = 500;
/// The pause before messages that are due are looked for again, where somebody else has them in hand, and
/// where they could not be had.
const PROMOTE_AGAIN: Duration = Duration::from_millis(100);
const PROMOTE_FAILED: Duration = Duration::from_secs(1);
/// The pause after a failure.
const AGAIN: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));

/// One run of the consuming side. It owns what it knows, so that a panic forgets it all together.
pub(crate) struct Engine<DB: OutboxDatabase> {
    member: Arc<Member<DB>>,
    session: Session<DB>,
    deliveries: Option<mpsc::Sender<Delivery>>,
    bell: watch::Receiver<Rung>,
    rung: Rung,
    streams: BTreeMap<i64, Stream>,
    version: i64,
    members: usize,
    trimmed: i64,
    /// Whether the connection is to the server that what was read came from.
    is_same_server: bool,
    hand: Hand,
    extras: Vec<(LaneId, Extra)>,
    aside: Aside,
    settled: usize,
    /// Since when something is to be written.
    changed: Option<Instant>,
    full_commit: Instant,
    look_at: Instant,
    read_at: Instant,
    poll_at: Instant,
    poll_pause: Duration,
    /// Whether this process has announced messages since the last page.
    rang: bool,
    due_at: Option<Instant>,
    /// Not before: what was due could not be had.
    promote_at: Instant,
    failures: u32,
    commit_failures: u32,
    commit_again: Instant,
}

impl<DB: OutboxDatabase> Engine<DB> {
    pub(super) fn new(member: Arc<Member<DB>>, deliveries: Option<mpsc::Sender<Delivery>>) -> Self {
        let now = Instant::now();
        let mut bell = member.hub.bell();
        let rung = *bell.borrow_and_update();
        Self {
            session: Session::new(Arc::clone(&member.log)),
            hand: Hand::new(member.tuning.key_order, member.inbox.first_tag()),
            poll_pause: member.tuning.poll_interval,
            member,
            deliveries,
            bell,
            rung,
            streams: BTreeMap::new(),
            version: -1,
            members: 1,
            trimmed: 0,
            is_same_server: false,
            extras: Vec::new(),
            aside: Aside::default(),
            settled: 0,
            changed: None,
            full_commit: now,
            look_at: now,
            read_at: now,
            poll_at: now,
            rang: false,
            due_at: None,
            promote_at: now,
            failures: 0,
            commit_failures: 0,
            commit_again: now,
        }
    }

    /// Works until it is told to finish, and then gives everything back.
    pub(super) async fn run(mut self) {
        loop {
            if self.member.stop.is_cancelled() && self.deliveries.take().is_some() {
                self.freeze_all();
            }
            if self.member.finish.is_cancelled() {
                return self.finish().await;
            }
            self.take_settlements();
            match self.step().await {
                Ok(()) => {
                    if self.failures > 0 {
                        tracing::info!(service = &*self.member.group, "the log can be read again");
                    }
                    self.failures = 0;
                    self.member.set_state(LinkState::Ready);
                    self.wait().await;
                }
                Err(error) => self.failed(error).await,
            }
        }
    }

    async fn failed(&mut self, error: sqlx::Error) {
        self.failures = self.failures.saturating_add(1);
        self.member.reading_failed(&error, self.failures);
        self.member.set_state(LinkState::Away);
        self.look_at = Instant::now();
        tokio::select! {
            () = tokio::time::sleep(AGAIN.pause(self.failures)) => {}
            () = self.member.finish.cancelled() => {}
        }
    }

    async fn step(&mut self) -> DbResult<()> {
        self.member.prepare().await?;
        self.meet().await?;
        let rung = *self.bell.borrow_and_update();
        if rung.messages != self.rung.messages {
            self.rang = true;
            self.streams
                .values_mut()
                .for_each(|stream| stream.is_hungry = true);
        }
        let now = Instant::now();
        if rung.members != self.rung.members || now >= self.look_at {
            self.look().await?;
        }
        self.rung = rung;
        if self.due_at.is_some_and(|at| at <= now) | self.member.hub.take_alarm(now) {
            self.promote().await;
        }
        self.commit_if_due().await;
        if self.deliveries.is_some() && self.member.is_alive() {
            self.fetch_wanted().await?;
            self.watch_gaps().await?;
            self.read().await?;
        }
        Ok(())
    }

    /// Sleeps until there is something to do.
    async fn wait(&mut self) {
        // The first one starts the clock of the next commit; the others can wait for it.
        let is_first = self.changed.is_none();
        let wake_at = if is_first || self.member.tuning.key_order || self.deliveries.is_none() {
            1
        } else if self.hand.room(self.member.tuning.prefetch) == 0 {
            self.member.tuning.prefetch / 4
        } else {
            self.member.tuning.commit_after
        };
        self.member.inbox.set_wake_at(wake_at);
        let mut until = self.look_at.min(self.next_commit());
        if self.deliveries.is_some() && self.member.is_alive() {
            let has_room = self.hand.room(self.member.tuning.prefetch) > 0;
            for stream in self.streams.values().filter(|_| has_room) {
                until = stream.gaps.next().map_or(until, |at| until.min(at));
                if stream.can_read() {
                    until = until.min(self.read_at);
                }
            }
            if has_room && self.polls() {
                until = until.min(self.poll_at);
            }
        }
        for at in [self.due_at, self.member.hub.alarm()].into_iter().flatten() {
            until = until.min(at);
        }
        if until <= Instant::now() {
            return tokio::task::yield_now().await;
        }
        let stopping = self.deliveries.is_none();
        tokio::select! {
            () = tokio::time::sleep_until(until.into()) => {}
            _ = self.bell.changed() => self.bell.mark_changed(),
            () = self.member.inbox.filled() => {}
            () = self.member.stop.cancelled(), if !stopping => {}
            () = self.member.finish.cancelled() => {}
        }
    }

    /// Puts what is due into the log. If that fails, reading and committing go on.
    async fn promote(&mut self) {
        let service = &*self.member.group;
        let pause = match self.member.log.promote(PROMOTE).await {
            Ok(Moved { moved, refused, .. }) => {
                for (seq, error) in &refused {
                    tracing::error!(
                        service, seq, %error,
                        "the log does not take a scheduled message; it is tried again every minute. Look at \
                         the triggers, constraints and columns of final_log"
                    );
                    self.member.hooks.commit(error);
                }
                if moved > 0 {
                    self.member.hub.committed();
                    Duration::ZERO
                } else {
                    PROMOTE_AGAIN
                }
            }
            Err(error) => {
                tracing::warn!(service, %error, "scheduled messages wait; they are tried again");
                PROMOTE_FAILED
            }
        };
        // Looks what is due next.
        self.look_at = Instant::now();
        self.promote_at = self.look_at + pause;
        self.due_at = None;
    }

    fn changed_for(&self, time: Duration) -> bool {
        self.changed.is_some_and(|since| since.elapsed() >= time)
    }
}
