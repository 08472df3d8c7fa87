//! Writing down how far the lanes have come, and giving them away.

use std::{sync::Arc, time::Instant};

use super::{AGAIN, Engine, LAG};
use crate::{
    OutboxDatabase,
    database::DbResult,
    log::{
        progress::{rows::LaneId, side_effect::SideEffect, stream::Stream},
        tables::{
            lanes::{Advance, Committed},
            session::Proof,
        },
    },
};

/// How often it is tried to give everything back before the rest is left to the lease.
const TRIES: u32 = 20;

/// What became of an attempt to write everything.
enum WriteOutcome {
    All,
    /// The lanes or the topics are not what they were.
    Nothing,
    /// The database does not take one of the extras.
    Refused(sqlx::Error),
}

impl<DB: OutboxDatabase> Engine<DB> {
    /// When something is to be written at the latest.
    pub(super) fn next_commit(&self) -> Instant {
        let far = Instant::now() + LAG * 3600;
        let within = self.member.tuning.commit_within;
        let changed = self.changed.map_or(far, |since| since + within);
        let lag = if self.lags() {
            self.full_commit + LAG
        } else {
            far
        };
        let aside = self.aside.next().unwrap_or(far);
        changed.min(lag).min(aside).max(self.commit_again)
    }

    /// Whether a lane stands behind its stream, or still lists what is missing no more.
    fn lags(&self) -> bool {
        let lags = |stream: &Stream| stream.lanes().any(|(_, lane)| lane.lags(&stream.gaps));
        self.streams.values().any(lags)
    }

    pub(super) async fn commit_if_due(&mut self) {
        let now = Instant::now();
        if now < self.commit_again {
            return;
        }
        let is_due = self.settled >= self.member.tuning.commit_after
            || self.changed_for(self.member.tuning.commit_within)
            || self.aside.next().is_some_and(|at| at <= now)
            || self.lags() && self.full_commit.elapsed() >= LAG;
        if is_due && let Err(error) = self.commit(false).await {
            self.commit_failures = self.commit_failures.saturating_add(1);
            self.commit_again = Instant::now() + AGAIN.pause(self.commit_failures);
            self.member.committing_failed(&error, self.commit_failures);
        }
    }

    /// Writes everything there is to write. With `release` all lanes are given away.
    ///
    /// What the database does not take keeps nothing else back: it is written in a simpler form, or set aside.
    async fn commit(&mut self, release: bool) -> DbResult<bool> {
        self.reconnect().await?;
        self.bring_back().await?;
        let mut written = self.write(release).await?;
        for is_sorted in [false, true] {
            match written {
                WriteOutcome::All => return Ok(true),
                WriteOutcome::Nothing => return Ok(false),
                WriteOutcome::Refused(error) if is_sorted => self.set_all_aside(&error),
                WriteOutcome::Refused(error) => self.sort_out(&error).await?,
            }
            written = self.write(release).await?;
        }
        match written {
            WriteOutcome::Refused(error) => Err(error),
            other => Ok(matches!(other, WriteOutcome::All)),
        }
    }

    async fn write(&mut self, release: bool) -> DbResult<WriteOutcome> {
        self.reconnect().await?;
        self.leave_aside(release);
        let is_full = release || self.full_commit.elapsed() >= LAG;
        let mut lanes = Vec::new();
        let mut further = None;
        for stream in self.streams.values() {
            for (id, lane) in stream.lanes() {
                let goes = release || lane.is_draining() && lane.is_idle();
                if goes || lane.has_changed() || is_full && lane.lags(&stream.gaps) {
                    let progress = if goes {
                        lane.handover(&stream.gaps)
                    } else {
                        lane.progress(&stream.gaps)
                    };
                    let is_at_end = stream.ends_at.is_some_and(|end| progress.is_done(end));
                    if !is_at_end && !goes && progress.read_to > lane.read_to() {
                        let (epoch, read_to) = (lane.epoch, progress.read_to);
                        further = Some(Proof {
                            lane: id,
                            epoch,
                            read_to,
                        });
                    }
                    lanes.push(Advance {
                        id,
                        epoch: lane.epoch,
                        release: goes,
                        remove: is_at_end,
                        progress,
                    });
                }
            }
        }
        if is_full {
            self.full_commit = Instant::now();
        }
        if lanes.is_empty() && self.side_effects.is_empty() {
            self.changed = None;
            return Ok(WriteOutcome::All);
        }
        let member = Arc::clone(&self.member);
        let side_effects: Vec<SideEffect> = self
            .side_effects
            .iter()
            .map(|(_, extra)| extra.clone())
            .collect();
        let committed = self
            .session
            .advance(
                &member.group,
                member.id,
                self.version,
                &lanes,
                &side_effects,
            )
            .await?;
        self.commit_failures = 0;
        match committed {
            Committed::Refused(error) => return Ok(WriteOutcome::Refused(error)),
            Committed::Done => {
                if let Some(proof) = further {
                    self.session.committed(proof);
                }
                self.committed(lanes).await;
            }
            Committed::Lost(lost) => {
                tracing::warn!(
                    service = &*member.group,
                    lanes = lost.len(),
                    "others have taken over, because our lease was over; what was in hand is theirs"
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

    async fn committed(&mut self, lanes: Vec<Advance>) {
        let mut gave = false;
        for Advance {
            id,
            release,
            remove,
            progress,
            ..
        } in lanes
        {
            let Some(stream) = self.streams.get_mut(&id.stream) else {
                continue;
            };
            if release || remove {
                stream.remove(id.lane);
                gave |= release;
            } else if let Some(lane) = stream.lane_mut(id.lane) {
                lane.committed(progress);
            }
        }
        self.streams.retain(|_, stream| stream.has_lanes());
        let again = self
            .side_effects
            .drain(..)
            .any(|(_, extra)| matches!(extra, SideEffect::Requeue(..)));
        (self.settled, self.changed) = (0, None);
        self.member.progress.notify_one();
        if again {
            self.member.wakeups.committed();
        }
        if gave {
            self.member.announce_members().await;
        }
    }

    /// Forgets a lane that others have now: what they do with its messages is theirs.
    pub(super) fn lose(&mut self, id: LaneId) {
        for next in self.in_flight.lose(id) {
            self.deliver_next(next);
        }
        self.side_effects.retain(|(lane, _)| *lane != id);
        self.aside.take_if(|lane| lane == id);
        self.in_flight.aside = self.aside.len();
        if let Some(stream) = self.streams.get_mut(&id.stream) {
            stream.remove(id.lane);
        }
        self.streams.retain(|_, stream| stream.has_lanes());
        self.look_at = Instant::now();
    }

    pub(super) fn drain_all(&mut self) {
        for stream in self.streams.values_mut() {
            stream.drain_all();
        }
        self.changed.get_or_insert_with(Instant::now);
    }

    /// Writes what was settled and gives the rest to the others.
    pub(super) async fn finish(mut self) {
        self.deliveries = None;
        let gaps = self.gaps();
        for tries in 1..=TRIES {
            self.take_settlements();
            match self.commit(true).await {
                Ok(true) => {
                    if let Err(error) = self.leave_numbers(gaps).await {
                        tracing::debug!(%error, "others were not told how far the log was read");
                    }
                    break;
                }
                Ok(false) => {}
                Err(error) => {
                    self.member.committing_failed(&error, tries);
                    tokio::time::sleep(AGAIN.pause(tries)).await;
                }
            }
        }
        self.session.close().await;
        if let Err(error) = self.member.log.leave(self.member.id).await {
            tracing::debug!(%error, "the log's membership ends with its lease");
        }
        self.member.announce_members().await;
    }
}
