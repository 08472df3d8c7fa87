//! The task that keeps the log short, and its sequence numbers sound.
//!
//! Input: commits of the engine, and time. Output: rows that every group has are removed; the newest watermark is
//! written for other processes; rows whose sequence numbers were used before are suspected.
//!
//! ```text
//!   a commit, or 10 s with `keep` or `max_age` ─▶ trim ─▶ write the watermark
//!   every 10 min ─▶ walk: does every row have its own sequence number?
//!   every 10 min ─▶ sweep: remove what trimming has passed over
//! ```

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::{sleep, sleep_until};

use super::Member;
use crate::{
    OutboxDatabase,
    database::DbResult,
    log::{progress::watermark::ReadState, tuning::Keep},
};

/// The pause between two rounds.
const PAUSE: Duration = Duration::from_millis(500);
/// How often messages that are kept for a time are trimmed.
const AGES: Duration = Duration::from_secs(10);
/// How often the log is walked through and swept.
const SWEEP: Duration = Duration::from_secs(600);
/// The pause before the first walk.
const FIRST_WALK: Duration = Duration::from_secs(1);

/// Works in rounds until the bus closes. A failure is tried again in a later round: rows that stay longer do no
/// harm.
pub(crate) async fn run<DB: OutboxDatabase>(member: Arc<Member<DB>>) {
    let keep = member.tuning.keep;
    let keeps = !keep.after_read.is_zero() || keep.unread.is_some();
    let mut rounds = Rounds::new(member);
    loop {
        tokio::select! {
            () = rounds.member.progress.notified() => {}
            () = sleep(AGES), if keeps => {}
            () = sleep_until(rounds.walk_at.into()) => {}
            () = rounds.member.close.cancelled() => return,
        }
        if !rounds.member.is_prepared() {
            rounds.walk_at = rounds.walk_at.max(Instant::now() + FIRST_WALK);
            continue;
        }
        if Instant::now() >= rounds.walk_at {
            rounds.walk().await;
        }
        rounds.trim(keep).await;
        rounds.write_watermark().await;
        if rounds.swept_at.elapsed() >= SWEEP {
            rounds.sweep(keep).await;
        }
        tokio::select! {
            () = sleep(PAUSE) => {}
            () = rounds.member.close.cancelled() => return,
        }
    }
}

/// How far each of the jobs has come.
struct Rounds<DB: OutboxDatabase> {
    member: Arc<Member<DB>>,
    /// When the walk goes on, or begins again.
    walk_at: Instant,
    /// The sequence number after which the walk goes on. 0 at its beginning.
    walk_from: i64,
    /// When the last sweep had come to its end.
    swept_at: Instant,
    /// The sequence number after which the sweep goes on. 0 at its beginning.
    sweep_from: i64,
    /// The sequence number of the watermark that was written last.
    written: i64,
}

impl<DB: OutboxDatabase> Rounds<DB> {
    fn new(member: Arc<Member<DB>>) -> Self {
        let now = Instant::now();
        Self {
            member,
            walk_at: now + FIRST_WALK,
            walk_from: 0,
            swept_at: now,
            sweep_from: 0,
            written: 0,
        }
    }

    /// Walks on through the log, and suspects the sequence if a number was used twice.
    async fn walk(&mut self) {
        match self.member.log.walk(self.walk_from).await {
            Ok((next, finds)) => {
                if finds {
                    self.member.suspect_numbers();
                }
                self.walk_at = Instant::now() + next.map_or(SWEEP, |_| PAUSE);
                self.walk_from = next.unwrap_or(0);
            }
            Err(error) => {
                tracing::debug!(
                    target: "final::log",
                    %error,
                    "the log was not walked through; trying again later"
                );
                self.walk_at = Instant::now() + AGES;
            }
        }
    }

    /// Removes rows that every group has, or that are too old.
    async fn trim(&self, keep: Keep) {
        if let Err(error) = self.trim_all(keep).await {
            tracing::debug!(
                target: "final::log",
                %error,
                "the log was not trimmed; trying again later"
            );
        }
    }

    /// Removes what every group has, batch after batch.
    async fn trim_all(&self, keep: Keep) -> DbResult<()> {
        let read_state = |seq, written_at| self.read_state(seq, written_at);
        while self.member.log.trim(keep, read_state).await? {
            if self.member.close.is_cancelled() {
                break;
            }
        }
        Ok(())
    }

    /// Tells other processes how far the log was read. Here and not where it is read: reading must not wait for
    /// another writer.
    async fn write_watermark(&mut self) {
        let last = self.member.watermarks().for_others().pop();
        let Some(last) = last.filter(|last| last.seq > self.written) else {
            return;
        };
        match self.member.log.write_watermark(last).await {
            Ok(()) => self.written = last.seq,
            Err(error) => {
                tracing::debug!(
                    target: "final::log",
                    %error,
                    "other processes were not told how far the log was read"
                );
            }
        }
    }

    /// Removes rows that trimming has passed over and that may go by now.
    async fn sweep(&mut self, keep: Keep) {
        let is_reused = |seq, written_at| self.read_state(seq, written_at) == ReadState::Reused;
        let swept = self
            .member
            .log
            .sweep(self.sweep_from, keep, is_reused)
            .await;
        match swept {
            Ok(Some(next)) => self.sweep_from = next,
            Ok(None) => (self.sweep_from, self.swept_at) = (0, Instant::now()),
            Err(error) => {
                tracing::debug!(
                    target: "final::log",
                    %error,
                    "the log was not swept; trying again later"
                );
            }
        }
    }

    /// What this process knows of a row. A sequence number that was used before is suspected.
    fn read_state(&self, seq: i64, written_at: i64) -> ReadState {
        let state = self.member.watermarks().read_state(seq, written_at);
        if state == ReadState::Reused {
            self.member.suspect_numbers();
        }
        state
    }
}
