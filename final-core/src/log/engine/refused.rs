//! Side effects that the database refuses: given a simpler form, or set aside, so that the progress of all other
//! messages is written.
//!
//! Input: a refused commit. State: [`SetAside`](crate::log::progress::set_aside::SetAside). Output: side effects
//! that the database takes.
//!
//! ```text
//!   to write ─ refused ─▶ tried alone ─┬─ taken in a simpler form ──▶ to write
//!                                      └─ refused in every form ─▶ set aside, open in its lane
//!                                            ▲     │ due after 1 s … 60 s
//!                                            └─────┴─ dead letter: tried ─ taken ─▶ to write
//!                                                     requeue ─▶ a handler here gets it again
//! ```

use std::sync::Arc;

use super::Engine;
use crate::{
    OutboxDatabase,
    database::DbResult,
    log::progress::{
        rows::LaneId,
        set_aside::{MOST_ASIDE, RefusedEffect},
        side_effect::SideEffect,
    },
};

impl<DB: OutboxDatabase> Engine<DB> {
    /// Finds out which of the side effects is refused. It takes a form that the database takes, or is set
    /// aside.
    pub(super) async fn sort_out(&mut self, error: &sqlx::Error) -> DbResult<()> {
        let member = Arc::clone(&self.member);
        let mut effects: Vec<SideEffect> =
            self.side_effects.iter().map(|(_, e)| e.clone()).collect();
        let tried = self.session.try_out(&member.group, &mut effects).await?;
        if tried.refused.is_empty() && tried.untried.is_none() && !tried.changed {
            // Each side effect alone is taken. Only together they are refused.
            self.set_all_aside(error);
            return Ok(());
        }
        let lanes: Vec<LaneId> = self.side_effects.drain(..).map(|(lane, _)| lane).collect();
        let mut refused = tried.refused.into_iter().peekable();
        for (at, (lane, effect)) in lanes.into_iter().zip(effects).enumerate() {
            if let Some((_, error)) = refused.next_if(|(place, _)| *place == at) {
                self.set_aside(RefusedEffect::new(lane, effect), &error);
            } else if tried.untried.is_some_and(|from| at >= from) {
                self.streams.reopen(lane, effect.seq());
                self.deliveries.held.keep_row(effect.seq());
                self.set_aside.untried(RefusedEffect::new(lane, effect));
            } else {
                self.side_effects.push((lane, effect));
            }
        }
        Ok(())
    }

    /// Sets every side effect aside: together they are refused, and it cannot be told which one is to blame.
    pub(super) fn set_all_aside(&mut self, error: &sqlx::Error) {
        for (lane, effect) in std::mem::take(&mut self.side_effects) {
            self.set_aside(RefusedEffect::new(lane, effect), error);
        }
    }

    /// Sets a side effect aside. Its message stays open in its lane, so the lane's next owner gets it again, and
    /// learns by its row if an operator has skipped it.
    fn set_aside(&mut self, mut refused: RefusedEffect, error: &sqlx::Error) {
        let (service, seq) = (&*self.member.group, refused.effect.seq());
        if refused.is_new() {
            tracing::error!(
                target: "final::log",
                service, seq, %error,
                "the database refuses a dead letter or a requeued message; the message stays open, and \
                 is tried again. Look at the triggers, constraints, privileges and columns of \
                 final_log_dead and final_log"
            );
        }
        self.member.hooks.commit(error);
        self.streams.reopen(refused.lane, seq);
        self.deliveries.held.keep_row(seq);
        if let SideEffect::DeadLetter(_, letter) = &mut refused.effect {
            letter.be_whole();
        }
        self.set_aside.refused(refused);
        if self.set_aside.len() == MOST_ASIDE {
            tracing::error!(
                target: "final::log",
                service,
                waiting = MOST_ASIDE,
                "the database refuses too many dead letters: nothing further is read until it takes them"
            );
        }
    }

    /// Leaves messages that are set aside to the next owners of lanes that are given away: they would keep the
    /// lanes from ever being idle.
    pub(super) fn leave_aside(&mut self, release: bool) {
        let streams = &mut self.streams;
        let leaves = |lane: LaneId| release || streams.is_leaving(lane);
        for RefusedEffect { lane, effect, .. } in self.set_aside.take_if(leaves) {
            if let Some(lane) = streams.lane_mut(lane) {
                lane.release(effect.seq());
            }
            self.deliveries.held.leave_row(effect.seq());
        }
    }

    /// Tries side effects again that are set aside and due. A letter is tried in its simplest form, in a
    /// transaction that is rolled back. If the database takes it, the next commit writes the letter in the
    /// first form that is taken, the whole one included.
    pub(super) async fn bring_back(&mut self) -> DbResult<()> {
        let member = Arc::clone(&self.member);
        let mut due = self.set_aside.take_due().into_iter();
        while let Some(refused) = due.next() {
            let (lane, seq) = (refused.lane, refused.effect.seq());
            if let SideEffect::Requeue(..) | SideEffect::Postpone(..) = &refused.effect {
                // It cannot be given to another instance, or kept for later, so a handler here gets it again.
                self.streams.put_back(lane, seq);
                self.deliveries.held.end_row(seq);
                continue;
            }
            match self
                .session
                .would_take(&member.group, &refused.effect)
                .await
            {
                Ok(None) => {
                    self.streams.settle(lane, seq);
                    self.deliveries.held.end_row(seq);
                    self.side_effects.push((lane, refused.effect));
                }
                Ok(Some(error)) => self.set_aside(refused, &error),
                Err(error) => {
                    self.set_aside.untried(refused);
                    due.for_each(|refused| self.set_aside.untried(refused));
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}
