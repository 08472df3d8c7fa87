//! Letters that the database does not take: given a simpler form, or set aside, so that the progress of all
//! others is written.

use std::sync::Arc;

use super::Engine;
use crate::{
    OutboxDatabase,
    database::DbResult,
    log::progress::{
        in_flight::MOST_ASIDE, rows::LaneId, set_aside::RefusedEffect, side_effect::SideEffect,
    },
};

impl<DB: OutboxDatabase> Engine<DB> {
    /// Finds out which of the extras is refused. What has another form takes it, and what has none is set
    /// aside.
    pub(super) async fn sort_out(&mut self, error: &sqlx::Error) -> DbResult<()> {
        let member = Arc::clone(&self.member);
        let mut side_effects: Vec<SideEffect> = self
            .side_effects
            .iter()
            .map(|(_, extra)| extra.clone())
            .collect();
        let tried = self
            .session
            .try_out(&member.group, &mut side_effects)
            .await?;
        if tried.refused.is_empty() && tried.untried.is_none() && !tried.changed {
            // Alone each of them is taken.
            self.set_all_aside(error);
            return Ok(());
        }
        let lanes: Vec<LaneId> = self.side_effects.drain(..).map(|(lane, _)| lane).collect();
        let mut refused = tried.refused.into_iter().peekable();
        for (at, (lane, extra)) in lanes.into_iter().zip(side_effects).enumerate() {
            if let Some((_, error)) = refused.next_if(|(place, _)| *place == at) {
                self.set_aside(RefusedEffect::new(lane, extra), &error);
            } else if tried.untried.is_some_and(|from| at >= from) {
                self.open_again(lane, extra.seq());
                self.aside.untried(RefusedEffect::new(lane, extra));
            } else {
                self.side_effects.push((lane, extra));
            }
        }
        self.in_flight.aside = self.aside.len();
        Ok(())
    }

    pub(super) fn set_all_aside(&mut self, error: &sqlx::Error) {
        for (lane, extra) in std::mem::take(&mut self.side_effects) {
            self.set_aside(RefusedEffect::new(lane, extra), error);
        }
    }

    /// The message stays open in its lane, so that the next owner of the lane gets it again.
    fn set_aside(&mut self, mut waiting: RefusedEffect, error: &sqlx::Error) {
        let member = Arc::clone(&self.member);
        let (service, seq) = (&*member.group, waiting.extra.seq());
        if waiting.is_new() {
            tracing::error!(
                service, seq, %error,
                "the database does not take a dead letter, or a message that is handed on; the message \
                 stays open, and is tried again. Look at the triggers, constraints, privileges and columns \
                 of final_log_dead and final_log"
            );
        }
        member.hooks.commit(error);
        self.open_again(waiting.lane, seq);
        if let SideEffect::DeadLetter(_, letter) = &mut waiting.extra {
            letter.be_whole();
        }
        self.aside.refused(waiting);
        if self.aside.len() == MOST_ASIDE {
            tracing::error!(
                service,
                waiting = MOST_ASIDE,
                "too many messages wait to be put away: nothing further is read until the database takes them"
            );
        }
        self.in_flight.aside = self.aside.len();
    }

    fn open_again(&mut self, lane: LaneId, seq: i64) {
        if let Some(lane) = self
            .streams
            .get_mut(&lane.stream)
            .and_then(|stream| stream.lane_mut(lane.lane))
        {
            lane.hold(seq);
        }
    }

    /// Lets go of messages that are set aside in lanes that are given away: the next owner gets them again.
    pub(super) fn leave_aside(&mut self, release: bool) {
        let streams = &mut self.streams;
        let leaves = |lane: LaneId| {
            let stream = streams.get(&lane.stream);
            release || stream.is_none_or(|stream| stream.is_draining(lane.lane))
        };
        for RefusedEffect { lane, extra, .. } in self.aside.take_if(leaves) {
            if let Some(lane) = streams
                .get_mut(&lane.stream)
                .and_then(|stream| stream.lane_mut(lane.lane))
            {
                lane.leave(extra.seq());
            }
        }
        self.in_flight.aside = self.aside.len();
    }

    /// Tries again what is set aside and due.
    pub(super) async fn bring_back(&mut self) -> DbResult<()> {
        let member = Arc::clone(&self.member);
        let mut due = self.aside.take_due().into_iter();
        while let Some(waiting) = due.next() {
            let (lane, seq) = (waiting.lane, waiting.extra.seq());
            let SideEffect::DeadLetter(..) = &waiting.extra else {
                // A handler gets it again here, since it cannot be handed to another instance.
                if let Some(stream) = self.streams.get_mut(&lane.stream) {
                    stream.put_back(lane.lane, seq);
                }
                continue;
            };
            let taken = self.session.would_take(&member.group, &waiting.extra).await;
            match taken {
                Ok(None) => {
                    if let Some(lane) = self
                        .streams
                        .get_mut(&lane.stream)
                        .and_then(|stream| stream.lane_mut(lane.lane))
                    {
                        lane.settle(seq);
                    }
                    self.side_effects.push((lane, waiting.extra));
                }
                Ok(Some(error)) => self.set_aside(waiting, &error),
                Err(error) => {
                    self.aside.untried(waiting);
                    due.for_each(|waiting| self.aside.untried(waiting));
                    self.in_flight.aside = self.aside.len();
                    return Err(error);
                }
            }
        }
        self.in_flight.aside = self.aside.len();
        Ok(())
    }
}
