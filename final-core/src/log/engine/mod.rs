//! The consuming side of one bus: one task that reads the log, delivers, and writes the progress.
//!
//! Input: wakeups, rows of the log, settlements of the handlers. State: the streams with their lanes, what is in
//! flight, side effects to write, and the schedule. Output: deliveries, and the group's progress in the database.
//!
//! ```text
//!   wakeup, timer ─▶ refresh ─▶ lanes claimed or drained
//!        └─────────▶ read ─▶ Stream ─ offer ─▶ Deliveries ─▶ handlers
//!                              ▲                                │ Settlements
//!        commit ◀── Schedule ◀─┴──────────── settle ◀───────────┘
//! ```
//!
//! One round of the loop does each of these in turn, as far as it is due, and then sleeps until the schedule's
//! next time or an event:
//!
//! | part | does |
//! | --- | --- |
//! | [`reconnect`] | takes a connection, and keeps only state that its server confirms |
//! | [`refresh`], [`sequence`] | asks for members, topics and lanes; notices sequence numbers that went back |
//! | [`promote`] | moves scheduled messages that are due into the log |
//! | [`commit`], [`refused`] | writes the progress, with the side effects that the database takes |
//! | [`key_order`], [`gaps`], [`read`] | finds rows: left out before, missing before, new |
//! | [`held`] | delivers held messages that are due; hears what operators wish |
//! | [`deliver`], [`settle`] | sends rows to the handlers; takes their settlements |
//! | [`schedule`] | says what is due, and until when to sleep |
//!
//! A row goes forward only: a [`StreamReader`] works on one stream and gives the rows that its lanes take to
//! [`Deliveries`]. Of all this only [`Member`] is shared with other tasks.
//!
//! An error of the database ends a round. What is in memory stays, the next round begins after a pause, and the
//! link counts as away meanwhile. A panic ends the engine, and a new one starts with what is committed.

mod commit;
pub(crate) mod deliver;
mod gaps;
mod held;
mod key_order;
mod promote;
mod read;
mod reconnect;
mod refresh;
mod refused;
mod schedule;
mod sequence;
mod settle;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use tokio::sync::mpsc;
use uuid::Uuid;

use self::{
    deliver::Deliveries,
    held::HeldState,
    read::StreamReader,
    schedule::{OtherTimes, Reading, Schedule},
};
use super::{
    member::{Member, wakeups::Listener},
    progress::{rows::LaneId, set_aside::SetAside, side_effect::SideEffect, streams::Streams},
    tables::{scheduled::Promotion, session::Session},
};
use crate::{
    OutboxDatabase,
    broker::{Delivery, LinkState},
    database::DbResult,
};

/// Rows of one page.
const PAGE: usize = 500;
/// One run of the consuming side. It owns what it knows, so a panic forgets all of it together, and the next
/// run starts with what is committed.
///
/// ```text
///   running ── stop ──▶ stopping: delivers nothing, lanes drain ── finish ──▶ progress written, lanes given back
///    │   ▲                │   ▲
///    └───┘                └───┘  an error: the link is away until a round succeeds
/// ```
pub(crate) struct Engine<DB: OutboxDatabase> {
    /// What the tasks of this bus share: options, lease, settlements, watermarks.
    member: Arc<Member<DB>>,
    /// The connection that everything is read on.
    session: Session<DB>,
    /// Hears of new messages and of members that come or go.
    listener: Listener,
    /// What the last refresh has told.
    group: Group,
    /// The lanes of this member, with their position and gaps.
    streams: Streams,
    /// Lanes that are claimed and not adopted, and whose owner before did not give them back: that owner.
    abandoned: BTreeMap<LaneId, Uuid>,
    /// Messages in flight, and the channel to the handlers.
    deliveries: Deliveries,
    /// Dead letters and requeued messages that the next commit writes, each with the lane of its message.
    side_effects: Vec<(LaneId, SideEffect)>,
    /// How many messages are acked whose progress is not written, by their lanes.
    acked: HashMap<LaneId, usize>,
    /// Side effects that the database has refused in every form.
    set_aside: SetAside,
    /// What is known about held messages beside the messages.
    held: HeldState,
    /// How many scheduled messages move into the log at once.
    promotion: Promotion,
    /// When each of the jobs is due.
    schedule: Schedule,
}

/// What the last refresh has told.
#[derive(Debug)]
struct Group {
    /// The version of the subscriptions the streams were made with.
    version: i64,
    /// Live members, this one included.
    members: usize,
    /// Up to this sequence number nothing is missing that was not removed.
    trimmed: i64,
    /// Whether the connection is to the server that everything read so far came from.
    is_same_server: bool,
}

impl<DB: OutboxDatabase> Engine<DB> {
    /// An engine that knows nothing yet. Its first round connects, refreshes and claims lanes. Without a channel
    /// for deliveries it promotes scheduled messages and watches the sequence, and reads nothing.
    pub(super) fn new(member: Arc<Member<DB>>, deliveries: Option<mpsc::Sender<Delivery>>) -> Self {
        let tuning = &member.tuning;
        Self {
            session: Session::new(Arc::clone(&member.log)),
            listener: member.wakeups.listen(),
            group: Group {
                version: -1,
                members: 1,
                trimmed: 0,
                is_same_server: false,
            },
            streams: Streams::default(),
            abandoned: BTreeMap::new(),
            deliveries: Deliveries::new(
                tuning,
                &member.holds,
                Arc::clone(&member.settlements),
                deliveries,
            ),
            side_effects: Vec::new(),
            acked: HashMap::new(),
            set_aside: SetAside::default(),
            held: HeldState::new(),
            promotion: Promotion::new(),
            schedule: Schedule::new(tuning, Instant::now()),
            member,
        }
    }

    /// Works until it is told to finish, then gives everything back.
    pub(super) async fn run(mut self) {
        loop {
            if self.member.stop.is_cancelled() && self.deliveries.stop() {
                self.drain_all();
            }
            if self.member.finish.is_cancelled() {
                let member = Arc::clone(&self.member);
                self.finish().await;
                return member.lanes.store(0, Ordering::Relaxed);
            }
            self.take_settlements();
            let step = self.step().await;
            let lanes = self.streams.lanes().count() as u64;
            self.member.lanes.store(lanes, Ordering::Relaxed);
            match step {
                Ok(()) => {
                    if self.schedule.step_succeeded() {
                        tracing::info!(
                            target: "final::log",
                            service = &*self.member.group,
                            "the log can be read again"
                        );
                    }
                    self.member.set_state(LinkState::Ready);
                    self.wait().await;
                }
                Err(error) => self.failed(error).await,
            }
        }
    }

    /// A round has failed: reports it, and waits before the next one.
    async fn failed(&mut self, error: sqlx::Error) {
        let (failures, pause) = self.schedule.step_failed(Instant::now());
        self.member.reading_failed(&error, failures);
        self.member.set_state(LinkState::Away);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = self.member.finish.cancelled() => {}
        }
    }

    /// One round: everything that is due, in turn.
    async fn step(&mut self) -> DbResult<()> {
        self.member.prepare().await?;
        self.reconnect().await?;
        let now = Instant::now();
        let news = self.listener.news();
        if news.messages {
            self.schedule.reads.announced();
            self.streams.mark_more();
        }
        if news.members {
            self.schedule.refresh_now(now);
        }
        if self.schedule.refresh_is_due(now) {
            self.refresh().await?;
        }
        if self.schedule.promotion_is_due(now) | self.member.wakeups.take_alarm(now) {
            self.promote().await;
        }
        self.commit_if_due().await;
        self.write_held().await?;
        if self.reads() {
            self.keep_held().await?;
            self.read_waiting().await?;
            self.watch_gaps().await?;
            self.read().await?;
            self.warn_if_full();
        }
        Ok(())
    }

    /// Whether this member may take messages: it is not stopping, and surely still has its lease.
    fn reads(&self) -> bool {
        self.deliveries.are_open() && self.member.is_alive()
    }

    /// How many more messages may be taken.
    fn room(&self) -> usize {
        if self.set_aside.is_full() {
            return 0;
        }
        self.deliveries.in_flight.room()
    }

    /// The parts of the engine that a stream is read with, and the streams.
    fn reader(&mut self) -> (StreamReader<'_, DB>, &mut Streams) {
        let reader = StreamReader {
            is_held_up: self.set_aside.is_full(),
            member: &self.member,
            session: &mut self.session,
            deliveries: &mut self.deliveries,
            schedule: &mut self.schedule,
            trimmed: &mut self.group.trimmed,
        };
        (reader, &mut self.streams)
    }

    /// Sleeps until there is something to do: the schedule's next time, a wakeup, enough settlements, or the
    /// signal to stop.
    async fn wait(&mut self) {
        self.member
            .settlements
            .set_wake_at(self.enough_settlements());
        let until = self.schedule.wake_at(&self.other_times());
        if until <= Instant::now() {
            return tokio::task::yield_now().await;
        }
        let stopping = !self.deliveries.are_open();
        tokio::select! {
            () = tokio::time::sleep_until(until.into()) => {}
            () = self.listener.changed() => {}
            () = self.member.settlements.filled() => {}
            () = self.member.stop.cancelled(), if !stopping => {}
            () = self.member.finish.cancelled() => {}
        }
    }

    /// How many waiting settlements wake the engine.
    fn enough_settlements(&self) -> usize {
        let tuning = &self.member.tuning;
        // The first one starts the clock of the next commit. In key order, and while messages wait for room, each makes
        // way for the next message.
        if !self.schedule.commits.has_changed()
            || tuning.key_order
            || self.deliveries.in_flight.has_to_read()
            || !self.deliveries.are_open()
        {
            1
        } else if self.room() == 0 {
            tuning.prefetch / 4
        } else {
            tuning.commit_after
        }
    }

    /// The times that other parts know.
    fn other_times(&self) -> OtherTimes {
        let has_room = self.reads() && self.room() > 0;
        OtherTimes {
            held_at: self.reads().then(|| self.held_at()).flatten(),
            lags: self.streams.lag(),
            retry_at: self.set_aside.next(),
            alarm: self.member.wakeups.alarm(),
            reading: has_room.then(|| Reading {
                gap_at: self
                    .streams
                    .iter()
                    .filter_map(|stream| stream.gaps.next())
                    .min(),
                can_read: self.streams.iter().any(|stream| stream.can_read()),
                is_listening: self.member.is_listening(),
            }),
        }
    }
}
