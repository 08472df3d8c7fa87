//! Looking who is there, what has been subscribed, and which lanes are ours.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use super::{Engine, UNSETTLED};
use crate::{
    OutboxDatabase,
    database::DbResult,
    log::{
        LANES,
        progress::{rebalance::Share, stream::Stream},
        tables::{
            lanes::{LaneId, LaneRow},
            members::Look,
        },
    },
};

impl<DB: OutboxDatabase> Engine<DB> {
    pub(super) async fn look(&mut self) -> DbResult<()> {
        let member = Arc::clone(&self.member);
        let marks = member.watermarks().list();
        let Look {
            last,
            due_at,
            version,
            members,
            free_lanes,
            own_lanes,
            others,
            trimmed,
            numbers,
        } = self
            .session
            .look(&member.group, member.id, member.hub.process, &marks)
            .await?;
        self.check_numbers(&numbers, marks, self.gaps()).await?;
        member.hub.set_others(others);
        self.due_at = due_at.map(|at| at.max(self.promote_at));
        self.trimmed = trimmed;
        self.members = usize::try_from(members).unwrap_or(1).max(1);
        let mut look_again = member.tuning.poll_interval;
        if member.consumes() {
            if version != self.version && self.deliveries.is_some() {
                self.load_topics().await?;
            }
            for stream in self.streams.values_mut() {
                stream.is_hungry |= last > stream.read;
            }
            let fair = LANES.div_ceil(self.members);
            let has_too_many = self
                .streams
                .values()
                .any(|stream| stream.lanes().count() > fair);
            // A claim whose answer was lost was made all the same, and a release that a server
            // has forgotten in its crash was not.
            let known: usize = self
                .streams
                .values()
                .map(|stream| stream.lanes().count())
                .sum();
            let is_off = usize::try_from(own_lanes).unwrap_or(0) != known;
            if (free_lanes > 0 || has_too_many || is_off) && self.deliveries.is_some() {
                self.balance().await?;
            }
            let main = self.streams.get(&0);
            let mine = main.map_or(0, |stream| stream.lanes().count());
            if !Share::is_content(self.members, mine) {
                look_again = UNSETTLED.min(look_again);
            }
        }
        self.look_at = Instant::now() + look_again;
        Ok(())
    }

    pub(super) async fn load_topics(&mut self) -> DbResult<()> {
        let member = Arc::clone(&self.member);
        let mut known = member.log.subscriptions(&member.group).await?;
        if known.streams.is_empty() {
            // Somebody has had the group forgotten while we are at work for it.
            member.subscribe().await?;
            known = member.log.subscriptions(&member.group).await?;
        }
        for (id, topics) in known.streams {
            if let Some(stream) = self.streams.get_mut(&id)
                && stream.topics != topics
            {
                stream.set_topics(topics);
                stream.read_again();
            }
        }
        self.version = known.version;
        Ok(())
    }

    /// Takes lanes nobody has, and begins to give away what we have too many of.
    pub(super) async fn balance(&mut self) -> DbResult<()> {
        let member = Arc::clone(&self.member);
        let rows = self.session.lanes(&member.group).await?;
        let mut shares: BTreeMap<i64, Share> = BTreeMap::new();
        for row in rows.iter().filter(|row| row.id.lane < LANES) {
            let share = shares.entry(row.id.stream).or_default();
            share.members = self.members;
            if row.member == Some(member.id) {
                share.mine.push(row.id.lane);
            } else if !row.is_held {
                share.free.push(row.id.lane);
            }
        }
        let mut claimed = false;
        for (id, share) in shares {
            let moves = share.moves();
            for row in &rows {
                if row.id.stream == id && moves.take.contains(&row.id.lane) {
                    claimed |= member.log.claim(&member.group, row, member.id).await?;
                }
            }
            for lane in moves.give {
                let lane_id = LaneId { stream: id, lane };
                if let Some(lane) = self
                    .streams
                    .get_mut(&id)
                    .and_then(|stream| stream.lane_mut(lane))
                    && !lane.is_frozen()
                {
                    lane.freeze();
                    // A long row of one key would keep all others of the lane waiting.
                    for number in self.hand.dismiss(lane_id) {
                        lane.leave(number);
                    }
                    self.changed.get_or_insert_with(Instant::now);
                }
            }
        }
        // Read after the claim: until then the owner before us may have written.
        let rows = if claimed {
            self.session.lanes(&member.group).await?
        } else {
            rows
        };
        self.keep_only(&rows);
        let mut is_new = |row: &LaneRow| {
            let stream = self.streams.get_mut(&row.id.stream);
            row.member == Some(member.id)
                && stream.is_none_or(|stream| stream.lane_mut(row.id.lane).is_none())
        };
        let new: Vec<LaneRow> = rows.into_iter().filter(|row| is_new(row)).collect();
        if new.is_empty() {
            return Ok(());
        }
        let known = member.log.subscriptions(&member.group).await?;
        for row in new {
            let id = row.id.stream;
            let of_stream = || known.streams.get(&id).cloned().unwrap_or_default();
            self.streams
                .entry(id)
                .or_insert_with(|| Stream::new(id, row.ends_at, of_stream()))
                .adopt(row);
        }
        if let Some(own) = self.streams.get(&0) {
            // The members before us may have read rows that were written after our look, and the lanes' rows
            // were read before this clock.
            let mut watermarks = member.watermarks();
            watermarks.passed_until(known.now);
            watermarks.reached(own.read);
        }
        if self.version != known.version {
            self.load_topics().await?;
        }
        Ok(())
    }

    /// Forgets the lanes that are not ours by these rows.
    pub(super) fn keep_only(&mut self, rows: &[LaneRow]) {
        let member = self.member.id;
        let is_ours = |id: LaneId, epoch: i64| {
            rows.iter()
                .any(|row| row.id == id && row.epoch == epoch && row.member == Some(member))
        };
        let known = self.streams.values().flat_map(Stream::lanes);
        let lost: Vec<LaneId> = known
            .filter(|(id, lane)| !is_ours(*id, lane.epoch))
            .map(|(id, _)| id)
            .collect();
        lost.into_iter().for_each(|id| self.lose(id));
    }
}
