//! What a target does beside its messages: it waits for a database that is away, keeps count of parked messages, and
//! puts these back.
//!
//! Input: errors of the store and the target; marks of an operator. State: how often something has failed in a row; the
//! keys that are parked. Output: pauses, ends, messages that are put back in order.
//!
//! ```text
//!   parked ─ an operator's mark ─▶ all of its key, in order: each is put back or skipped ─┬─ to the last ─▶ the key is free
//!                                                                                         └─ refused again ─▶ parked
//! ```

use std::{sync::Arc, time::Duration};

use final_core::Message;
use futures::future::BoxFuture;
use tokio::time::{Instant, sleep};

use super::{
    Job, LOT, TargetEnd,
    lots::{WriteError, causes},
    parked::ParkedKeys,
};
use crate::{
    capture::StopReason,
    engine::{pause::Pauses, vitals::Vitals},
    position::{ParkedHead, ParkedMark, PositionError, PositionStore, Term},
};

/// How often marks of an operator are looked for, while messages are parked.
const LOOK: Duration = Duration::from_secs(1);

/// How many entries are read at a time.
const PAGE: u32 = 1_000;

/// After so long the stream goes on, for as long, before the next key is put back.
const SPELL: Duration = Duration::from_millis(500);

/// Puts one message back.
pub(crate) trait PutBack: Send + Sync {
    fn store(&self) -> &dyn PositionStore;

    /// Hands over messages that were parked, and removes these from the store: in one transaction, or the removal last.
    fn put_back<'a>(
        &'a self,
        term: &'a Term,
        messages: &'a [Message],
        ids: &'a [i64],
    ) -> BoxFuture<'a, Result<(), WriteError>>;
}

/// How a message fared that was put back.
enum BackAgain {
    Done,
    /// The words of the target.
    Refused(String),
    Later,
}

pub(crate) struct Desk {
    pub(crate) term: Term,
    pub(crate) vitals: Arc<Vitals>,
    pub(crate) parked: ParkedKeys,
    most_parked: u64,
    max_message_bytes: usize,
    pauses: Pauses,
    /// When marks of an operator are looked for next.
    pub(crate) look_at: Instant,
    /// Whether there may be marks that are not carried out.
    may_be_marked: bool,
    /// Whether a recovery has cleared the trouble, that of others included.
    pub(crate) has_cleared: bool,
}

impl Desk {
    /// Reads which keys are parked.
    pub(crate) async fn open(store: &dyn PositionStore, job: &Job) -> Result<Self, TargetEnd> {
        let mut desk = Self {
            term: job.term.clone(),
            vitals: Arc::clone(&job.vitals),
            parked: ParkedKeys::default(),
            most_parked: job.most_parked,
            max_message_bytes: job.max_message_bytes,
            pauses: Pauses::new(),
            look_at: Instant::now(),
            may_be_marked: false,
            has_cleared: false,
        };
        loop {
            match ParkedKeys::load(store, &job.term.name).await {
                Ok(parked) => {
                    desk.may_be_marked = parked.count() > 0;
                    desk.parked = parked;
                    desk.tell_parked();
                    return Ok(desk);
                }
                Err(PositionError::Unreadable(text)) => {
                    return Err(TargetEnd::Stopped(StopReason::Position(text)));
                }
                Err(error) => desk.endure(error.into()).await?,
            }
        }
    }

    /// Waits until a database that failed may be tried again.
    pub(crate) async fn endure(&mut self, error: WriteError) -> Result<(), TargetEnd> {
        match error {
            WriteError::Deposed => Err(TargetEnd::Deposed),
            WriteError::Stopped(why) | WriteError::Refused(why) => {
                Err(TargetEnd::Stopped(StopReason::Target(why)))
            }
            WriteError::NotNow => {
                sleep(LOOK).await;
                Ok(())
            }
            WriteError::Away(error) => {
                if self.pauses.is_first() {
                    tracing::warn!(
                        target: "final::capture",
                        capture = &*self.term.name, error,
                        "the target cannot be written; trying again until it can"
                    );
                }
                self.vitals
                    .change(|numbers| numbers.target_trouble = Some(error));
                sleep(self.pauses.next()).await;
                Ok(())
            }
        }
    }

    pub(crate) fn recovered(&mut self) {
        if !self.pauses.is_first() {
            self.pauses = Pauses::new();
            self.vitals.change(|numbers| numbers.target_trouble = None);
            self.has_cleared = true;
            tracing::info!(
                target: "final::capture",
                capture = &*self.term.name,
                "the target is written again"
            );
        }
    }

    /// Whether so many more messages may be parked.
    pub(crate) fn check_room(&self, more: usize) -> Result<(), TargetEnd> {
        let most = self.most_parked;
        match more > 0 && self.parked.count() + more as u64 > most {
            true => Err(TargetEnd::Stopped(StopReason::TooManyParked(most))),
            false => Ok(()),
        }
    }

    /// Whether a lot may be taken. What an operator has marked makes room for one first: a capture that has stopped
    /// because too many messages are parked would stop again.
    pub(crate) fn may_take(&self) -> bool {
        let parked = self.parked.count();
        !self.may_be_marked || parked == 0 || parked + LOT as u64 <= self.most_parked
    }

    /// Asks whether the lease is surely ours, right before something is written that no epoch guards: the next reader may
    /// have written newer messages of the key.
    pub(crate) fn check_lease(&self) -> Result<(), TargetEnd> {
        match self.vitals.is_leased() {
            true => Ok(()),
            false => Err(TargetEnd::Deposed),
        }
    }

    pub(crate) fn tell_parked(&self) {
        let count = self.parked.count();
        self.vitals.change(|numbers| numbers.parked = count);
    }

    /// Puts back what an operator has marked, key by key and in order. Keys that are left after a while are put back at
    /// the next look.
    pub(crate) async fn put_back(&mut self, sink: &dyn PutBack) -> Result<(), TargetEnd> {
        let begun = Instant::now();
        if begun < self.look_at {
            return Ok(());
        }
        self.may_be_marked = true;
        loop {
            let store = sink.store();
            let marked = match store.parked(&self.term.name, true, -1, 1).await {
                Ok(marked) => marked,
                Err(error) => {
                    self.endure(error.into()).await?;
                    continue;
                }
            };
            self.recovered();
            let Some(first) = marked.first().cloned() else {
                self.may_be_marked = false;
                self.look_at = Instant::now() + LOOK;
                return Ok(());
            };
            if let Some(pause) = self.put_back_key(sink, &first, begun).await? {
                self.look_at = Instant::now() + pause;
                return Ok(());
            }
        }
    }

    /// Puts back what waits with this change: everything of its key. Returns a pause, if there has to be
    /// one before the next message.
    async fn put_back_key(
        &mut self,
        sink: &dyn PutBack,
        first: &ParkedHead,
        begun: Instant,
    ) -> Result<Option<Duration>, TargetEnd> {
        let waiting = self.waiting_with(sink, first).await?;
        self.mark_rest(sink, &waiting).await?;
        for change in &waiting {
            let done = match change.mark == Some(ParkedMark::Skip) {
                true => self.put_back_one(sink, &[], change).await?,
                false => self.send_back(sink, change).await?,
            };
            let refused = match done {
                BackAgain::Done if begun.elapsed() > SPELL => return Ok(Some(SPELL)),
                BackAgain::Done => continue,
                BackAgain::Later => return Ok(Some(LOOK)),
                BackAgain::Refused(refused) => refused,
            };
            // What was refused again waits for its operator again, with everything behind it.
            let ids: Vec<i64> = waiting
                .iter()
                .filter(|other| other.id >= change.id)
                .map(|other| other.id)
                .collect();
            loop {
                let unmarked = sink.store().unmark(&self.term, &ids, &refused);
                match unmarked.await {
                    Ok(()) => break,
                    Err(error) => self.endure(error.into()).await?,
                }
            }
            tracing::warn!(
                target: "final::capture",
                capture = &*self.term.name, topic = &*change.topic, reason = refused,
                "the target refuses a parked change again; it stays parked"
            );
            return Ok(match begun.elapsed() > SPELL {
                true => Some(SPELL),
                false => None,
            });
        }
        Ok(None)
    }

    /// Puts the message of a change back.
    async fn send_back(
        &mut self,
        sink: &dyn PutBack,
        change: &ParkedHead,
    ) -> Result<BackAgain, TargetEnd> {
        if change.message_id.is_none() {
            let why = "the change cannot be written in this format".to_owned();
            return Ok(BackAgain::Refused(why));
        }
        // One at a time: nothing bounds how large all of a key are.
        let message = loop {
            let message = sink.store().parked_message(&self.term.name, change.id);
            match message.await {
                Ok(message) => break message,
                Err(error) => self.endure(error.into()).await?,
            }
        };
        match &message {
            Some(message) => match message.check(self.max_message_bytes) {
                Ok(()) => {
                    self.put_back_one(sink, std::slice::from_ref(message), change)
                        .await
                }
                Err(error) => Ok(BackAgain::Refused(causes(&error))),
            },
            // Somebody has removed it.
            None => self.put_back_one(sink, &[], change).await,
        }
    }

    /// Marks all of the key before the first one goes: with its mark, the rest would lose its own.
    async fn mark_rest(
        &mut self,
        sink: &dyn PutBack,
        waiting: &[ParkedHead],
    ) -> Result<(), TargetEnd> {
        let unmarked = waiting.iter().filter(|change| change.mark.is_none());
        let unmarked: Vec<i64> = unmarked.map(|change| change.id).collect();
        while let Err(error) = sink.store().mark_rest(&self.term, &unmarked).await {
            self.endure(error.into()).await?;
        }
        Ok(())
    }

    async fn put_back_one(
        &mut self,
        sink: &dyn PutBack,
        messages: &[Message],
        change: &ParkedHead,
    ) -> Result<BackAgain, TargetEnd> {
        loop {
            self.check_lease()?;
            let done = sink.put_back(&self.term, messages, &[change.id]).await;
            match done {
                Ok(()) => break,
                Err(WriteError::Refused(why)) => return Ok(BackAgain::Refused(why)),
                Err(WriteError::NotNow) => return Ok(BackAgain::Later),
                Err(error) => self.endure(error).await?,
            }
        }
        self.recovered();
        self.parked.remove(change);
        self.tell_parked();
        Ok(BackAgain::Done)
    }

    /// Everything that is parked of the change's key, in order; itself alone if it has no key.
    async fn waiting_with(
        &mut self,
        sink: &dyn PutBack,
        first: &ParkedHead,
    ) -> Result<Vec<ParkedHead>, TargetEnd> {
        if first.key.is_none() {
            return Ok(vec![first.clone()]);
        }
        let (mut all, mut after) = (Vec::new(), -1);
        loop {
            let page = sink
                .store()
                .parked(&self.term.name, false, after, PAGE)
                .await;
            match page {
                Ok(page) => {
                    let is_last = page.len() < PAGE as usize;
                    after = page.last().map_or(after, |change| change.id);
                    let same = |change: &ParkedHead| {
                        change.topic == first.topic && change.key == first.key
                    };
                    all.extend(page.into_iter().filter(same));
                    if is_last {
                        return Ok(all);
                    }
                }
                Err(error) => self.endure(error.into()).await?,
            }
        }
    }
}

#[cfg(test)]
mod tests;
