//! Refreshing what this member knows of its group: members, subscriptions, lanes, and the sequence.
//!
//! Input: one statement that asks for all of it. Output: lanes that are claimed, drained or forgotten, streams
//! with the current topics, and the time of the next refresh.
//!
//! ```text
//!   refresh ─▶ sequence ─▶ topics, if their version has changed ─▶ rebalance, if the lanes are not shared well
//!                                                                    │ free ─▶ claim ─▶ adopt
//!                                                                    └ too many ─▶ drain
//! ```
//!
//! In a quiet group it is the only statement, every `poll_interval`. (If the lanes cannot be shared evenly, members
//! that have one more than others look at the lanes as well.) It also finds new messages that no wakeup has
//! announced.

use std::{collections::BTreeSet, sync::Arc, time::Instant};

use super::Engine;
use crate::{
    OutboxDatabase,
    database::DbResult,
    log::{
        progress::{
            rebalance::{self, LaneShare, Moves},
            rows::{LANES, LaneId, LaneRow},
        },
        tables::members::Refreshed,
    },
};

impl<DB: OutboxDatabase> Engine<DB> {
    /// Asks the database once, and acts on the answer.
    pub(super) async fn refresh(&mut self) -> DbResult<()> {
        let member = Arc::clone(&self.member);
        let marks = member.watermarks().list();
        let refreshed = self
            .session
            .refresh(&member.group, member.id, member.wakeups.process, &marks)
            .await?;
        self.check_sequence(&refreshed.sequence, marks, self.gaps())
            .await?;
        member.wakeups.set_others(refreshed.others);
        self.schedule.message_due_at(refreshed.due_at);
        self.group.trimmed = refreshed.trimmed;
        self.group.members = usize::try_from(refreshed.members).unwrap_or(1).max(1);
        self.drop_gone();
        self.learn_held_topics(refreshed.held_topics).await?;
        let is_content = !member.consumes() || self.refresh_lanes(&refreshed).await?;
        self.schedule.refreshed(Instant::now(), is_content);
        Ok(())
    }

    /// Brings topics and lanes up to date. Returns whether this member has its share of the lanes.
    async fn refresh_lanes(&mut self, refreshed: &Refreshed) -> DbResult<bool> {
        let is_open = self.deliveries.are_open();
        if refreshed.version != self.group.version && is_open {
            self.load_topics().await?;
        }
        for stream in self.streams.iter_mut() {
            stream.has_more |= refreshed.last > stream.position;
        }
        if is_open && self.must_rebalance(refreshed) {
            self.rebalance().await?;
        }
        let mine = self.streams.main().map_or(0, |main| main.lanes().count());
        Ok(LaneShare::is_content(self.group.members, mine))
    }

    /// Whether lanes are to be claimed, drained, or compared with the table.
    fn must_rebalance(&self, refreshed: &Refreshed) -> bool {
        // With more than that this member has one of the lanes that are left over, and another can have it due.
        let even = (LANES / self.group.members).max(1);
        let may_give = self
            .streams
            .iter()
            .any(|stream| stream.lanes().count() > even);
        // The table and this member can disagree: a claim whose answer was lost was made all the same, and a
        // release that the server has forgotten in a crash was not.
        let known = self.streams.lanes().count();
        let is_off = usize::try_from(refreshed.own_lanes).unwrap_or(0) != known;
        refreshed.free_lanes > 0 || may_give || is_off
    }

    /// Reads the group's subscriptions. Streams whose topics have changed are read again from their committed
    /// progress.
    pub(super) async fn load_topics(&mut self) -> DbResult<()> {
        let member = &self.member;
        let mut known = member.log.subscriptions(&member.group).await?;
        if known.streams.is_empty() {
            // The group was forgotten while this member works for it.
            member.subscribe().await?;
            known = member.log.subscriptions(&member.group).await?;
        }
        for stream in self.streams.iter_mut() {
            if let Some(topics) = known.streams.remove(&stream.id)
                && stream.topics != topics
            {
                stream.set_topics(topics);
                stream.reread();
            }
        }
        self.group.version = known.version;
        Ok(())
    }

    /// Claims free lanes up to this member's share, and drains lanes beyond it.
    async fn rebalance(&mut self) -> DbResult<()> {
        let member = Arc::clone(&self.member);
        let mut rows = self.session.lanes(&member.group).await?;
        let mut has_claimed = false;
        for (stream, share) in rebalance::shares(&rows, member.id, self.group.members) {
            let Moves { take, give } = share.moves();
            for row in &rows {
                if row.id.stream == stream && take.contains(&row.id.lane) {
                    // Noted before: the answer to a claim that was made can be lost.
                    if let Some(owner) = row.member {
                        self.abandoned.insert(row.id, owner);
                    } else {
                        self.abandoned.remove(&row.id);
                    }
                    match member.log.claim(&member.group, row, member.id).await? {
                        true => has_claimed = true,
                        false => drop(self.abandoned.remove(&row.id)),
                    }
                }
            }
            for lane in give {
                self.drain(LaneId { stream, lane });
            }
        }
        if has_claimed {
            // Read after the claim: until then the previous owner may have written.
            rows = self.session.lanes(&member.group).await?;
        }
        self.keep_only(&rows);
        self.adopt(rows).await
    }

    /// Begins to give a lane away: it takes nothing more, and is released by the first commit after its
    /// handlers are done.
    ///
    /// Messages that are held, or that wait for others of their key or topic, are left to the next owner at once. Many messages of one key
    /// would otherwise keep the lane, with all its other messages, for as long as it takes to handle them one
    /// by one.
    fn drain(&mut self, id: LaneId) {
        if let Some(lane) = self.streams.lane_mut(id)
            && !lane.is_draining()
        {
            lane.drain();
            let (waiting, next) = self.deliveries.in_flight.take_waiting(id);
            for seq in waiting {
                lane.release(seq);
            }
            for tag in next {
                self.deliveries.deliver_next(tag);
            }
            self.release_held(id);
            self.schedule.commits.changed(Instant::now);
        }
    }

    /// Takes in lanes that are this member's by the table and not known yet.
    async fn adopt(&mut self, rows: Vec<LaneRow>) -> DbResult<()> {
        let member = Arc::clone(&self.member);
        let is_new =
            |row: &LaneRow| row.member == Some(member.id) && !self.streams.has_lane(row.id);
        let new: Vec<LaneRow> = rows.into_iter().filter(is_new).collect();
        if new.is_empty() {
            return Ok(());
        }
        let known = member.log.subscriptions(&member.group).await?;
        let ids: Vec<LaneId> = new.iter().map(|row| row.id).collect();
        let up_to = self.read_before(&new).await?;
        self.learn_held(&new).await?;
        for row in new {
            let topics = known.streams.get(&row.id.stream);
            self.streams
                .adopt(row, || topics.cloned().unwrap_or_default());
        }
        self.doubt(&ids, up_to);
        if let Some(main) = self.streams.main() {
            // The members before this one may have read rows that were written after the refresh. The rows of the
            // lanes were read before this clock.
            let mut watermarks = member.watermarks();
            watermarks.passed_until(known.now);
            watermarks.reached(main.position);
        }
        if self.group.version != known.version {
            self.load_topics().await?;
        }
        Ok(())
    }

    /// Up to where the owners before may have read these lanes, if one of them ended without giving its lane back.
    ///
    /// The rows of the lanes tell what was open at the last commit. What was read after it stands nowhere, but it was
    /// visible before the lane was claimed.
    async fn read_before(&mut self, rows: &[LaneRow]) -> DbResult<i64> {
        match rows.iter().any(|row| self.abandoned.contains_key(&row.id)) {
            true => self.session.last().await,
            false => Ok(0),
        }
    }

    /// Makes suspects of the messages that may have been at a handler when the owners of these lanes ended: one of
    /// them may be the reason for that end.
    fn doubt(&mut self, ids: &[LaneId], up_to: i64) {
        let mut owners = BTreeSet::new();
        for id in ids {
            if let Some(owner) = self.abandoned.remove(id)
                && let Some(lane) = self.streams.lane_mut(*id)
            {
                lane.doubt(up_to);
                owners.insert(owner);
            }
        }
        let tuning = &self.member.tuning;
        let most = tuning.prefetch.saturating_add(tuning.commit_after);
        self.deliveries.suspect(most.saturating_mul(owners.len()));
    }

    /// Forgets lanes that are another member's by these rows.
    pub(super) fn keep_only(&mut self, rows: &[LaneRow]) {
        for id in self.streams.lost(rows, self.member.id) {
            self.lose(id);
        }
    }
}
