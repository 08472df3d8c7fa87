//! Writing the progress: the lanes, and the side effects that belong to it, in one transaction.
//!
//! Input: lanes that have changed, side effects, and the schedule that says when. Output: committed rows; lanes
//! that are released, or lost to another member.
//!
//! Each lane is written only with the epoch under which this member owns it, and all of them only with the version
//! of the subscriptions under which they were read. If either has changed, nothing is written at all: the side
//! effects of a lost lane belong to its new owner.
//!
//! ```text
//!   write ─▶ all written
//!     ├─▶ nothing: lanes are lost, or topics have changed ─▶ the next round writes again
//!     └─▶ a side effect is refused ─▶ sort out ─▶ write ─▶ refused again ─▶ set all aside ─▶ write
//! ```

use std::{sync::Arc, time::Instant};

use super::{Engine, schedule::PAUSES};
use crate::{
    OutboxDatabase,
    database::DbResult,
    log::{
        progress::{
            rows::{Advance, LaneId},
            side_effect::SideEffect,
        },
        tables::{lanes::Committed, session::Proof},
    },
};

/// How often a stopping engine tries to give everything back before it leaves the rest to its lease.
const TRIES: u32 = 20;

/// The result of one attempt to write everything.
enum WriteOutcome {
    /// Everything is written.
    All,
    /// The lanes or the topics have changed.
    Nothing,
    /// The database refuses one of the side effects.
    Refused(sqlx::Error),
}

impl<DB: OutboxDatabase> Engine<DB> {
    /// Writes the progress if the schedule says so. After a failure it is tried again; reading goes on.
    pub(super) async fn commit_if_due(&mut self) {
        let (commits, retry_at) = (&self.schedule.commits, self.set_aside.next());
        if commits.is_due(Instant::now(), retry_at, || self.streams.lag())
            && let Err(error) = self.commit(false).await
        {
            let failures = self.schedule.commits.failed(Instant::now());
            self.member.committing_failed(&error, failures);
        }
    }

    /// Writes everything there is to write. With `release` all lanes are given away. False if the lanes or the
    /// topics have changed, so that nothing was written.
    ///
    /// A side effect that the database refuses keeps nothing else back: it is written in a simpler form, or set
    /// aside.
    async fn commit(&mut self, release: bool) -> DbResult<bool> {
        self.reconnect().await?;
        self.bring_back().await?;
        let mut outcome = self.write(release).await?;
        for is_sorted in [false, true] {
            match outcome {
                WriteOutcome::All => return Ok(true),
                WriteOutcome::Nothing => return Ok(false),
                WriteOutcome::Refused(error) if is_sorted => self.set_all_aside(&error),
                WriteOutcome::Refused(error) => self.sort_out(&error).await?,
            }
            outcome = self.write(release).await?;
        }
        match outcome {
            WriteOutcome::Refused(error) => Err(error),
            other => Ok(matches!(other, WriteOutcome::All)),
        }
    }

    /// Makes one attempt, in one transaction. A full one also includes lanes that only lag behind their stream.
    async fn write(&mut self, release: bool) -> DbResult<WriteOutcome> {
        self.reconnect().await?;
        self.leave_aside(release);
        let full = release || self.schedule.commits.full_is_due(Instant::now());
        let advances = self.streams.advances(release, full);
        if full {
            self.schedule.commits.begin_full(Instant::now());
        }
        if advances.is_empty() && self.side_effects.is_empty() {
            self.schedule.commits.committed();
            return Ok(WriteOutcome::All);
        }
        let member = Arc::clone(&self.member);
        let effects: Vec<SideEffect> = self.side_effects.iter().map(|(_, e)| e.clone()).collect();
        let version = self.group.version;
        let committed = self
            .session
            .advance(&member.group, member.id, version, &advances, &effects)
            .await?;
        self.schedule.commits.answered();
        match committed {
            Committed::Refused(error) => return Ok(WriteOutcome::Refused(error)),
            Committed::Done => {
                if let Some(proof) = proof(&advances) {
                    self.session.committed(proof);
                }
                self.committed(advances).await;
            }
            Committed::Lost(lost) => {
                tracing::warn!(
                    target: "final::log",
                    service = &*member.group,
                    lanes = lost.len(),
                    "other members have taken lanes over, because our lease had ended; they get what was \
                     in flight"
                );
                lost.into_iter().for_each(|id| self.lose(id));
                return Ok(WriteOutcome::Nothing);
            }
            Committed::Changed => {
                self.load_topics().await?;
                return Ok(WriteOutcome::Nothing);
            }
        }
        Ok(WriteOutcome::All)
    }

    /// Everything was written: takes that over into memory, and wakes the tasks and members that wait for it.
    async fn committed(&mut self, advances: Vec<Advance>) {
        let mut has_released = false;
        for advance in advances {
            let acked = self.acked.remove(&advance.id).unwrap_or_default();
            self.member.handled.add(acked);
            if advance.release || advance.remove {
                self.streams.remove(advance.id);
                has_released |= advance.release;
            } else if let Some(lane) = self.streams.lane_mut(advance.id) {
                lane.committed(advance.progress);
            }
        }
        let (mut requeued, mut dead) = (false, 0);
        for (_, effect) in self.side_effects.drain(..) {
            match effect {
                SideEffect::DeadLetter(..) => dead += 1,
                SideEffect::Requeue(..) => requeued = true,
                SideEffect::Postpone(..) => {}
            }
        }
        self.member.dead_lettered.add(dead);
        self.deliveries.held.committed();
        self.schedule.commits.committed();
        self.member.progress.notify_one();
        if requeued {
            self.member.wakeups.committed();
        }
        if has_released {
            self.member.announce_members().await;
        }
    }

    /// Forgets a lane that another member has now: its messages in flight are that member's. Handlers that have
    /// such a message go on, but its tag is unknown from now on, so its settlement changes nothing here.
    pub(super) fn lose(&mut self, id: LaneId) {
        for (seq, _) in self.deliveries.held.forget(id, true) {
            self.deliveries.in_flight.gates().leave(seq);
        }
        let (lost, next) = self.deliveries.in_flight.lose(id);
        self.member.settlements.lose(&lost);
        for next in next {
            self.deliveries.deliver_next(next);
        }
        self.side_effects.retain(|(lane, _)| *lane != id);
        self.acked.remove(&id);
        self.set_aside.take_if(|lane| lane == id);
        self.streams.remove(id);
        self.count_held();
        self.schedule.refresh_now(Instant::now());
    }

    /// Begins to give all lanes away: the bus stops.
    pub(super) fn drain_all(&mut self) {
        self.streams.drain_all();
        self.schedule.commits.changed(Instant::now);
    }

    /// Writes what was settled, and gives all lanes and the membership back. If the database does not answer, the
    /// rest is left to the lease.
    pub(super) async fn finish(mut self) {
        self.deliveries.stop();
        let gaps = self.gaps();
        for tries in 1..=TRIES {
            self.take_settlements();
            match self.commit(true).await {
                Ok(true) => {
                    if let Err(error) = self.leave_watermarks(gaps).await {
                        tracing::debug!(
                            target: "final::log",
                            %error,
                            "other processes were not told how far the log was read"
                        );
                    }
                    // What operators see is brought up to date; the next owner of a lane would do it otherwise.
                    let _ = self.write_held().await;
                    break;
                }
                Ok(false) => {}
                Err(error) => {
                    self.member.committing_failed(&error, tries);
                    tokio::time::sleep(PAUSES.pause(tries)).await;
                }
            }
        }
        self.session.close().await;
        if let Err(error) = self.member.log.leave(self.member.id).await {
            tracing::debug!(
                target: "final::log",
                %error,
                "the membership was not given back; it ends with its lease"
            );
        }
        self.member.announce_members().await;
    }
}

/// What this commit proves later about the server: it still has the last of these rows, and so everything
/// before. `None` if the commit has taken no lane further.
fn proof(advances: &[Advance]) -> Option<Proof> {
    let last = advances.iter().rev().find(|advance| advance.is_proof)?;
    Some(Proof {
        lane: last.id,
        epoch: last.epoch,
        read_to: last.progress.read_to,
    })
}
