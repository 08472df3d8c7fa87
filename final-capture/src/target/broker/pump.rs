//! Sends messages and takes confirms, many in flight.
//!
//! Input: lots, confirms, the state of the link. State: the [`Window`], the [`Flight`], messages that are sent again later, a
//! save that is under way. Output: messages to the link; positions to the store, ten times in a second at most, each below every
//! message that is not proven.
//!
//! ```text
//!   Stored ─▶ done                  Lost ─▶ again when the link is ready
//!   Refused, NoAnswer, Unroutable, Denied ─▶ again after a second, for ever; its key waits, the others go on
//!   Suspect ─▶ again, alone         Faulty three times, or refused by a check ─▶ parked with what waits of its key
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use final_core::{
    broker::{Confirm, Isolation, LinkState, Outgoing},
    failpoint::{Failpoint, pass},
};
use futures::future::BoxFuture;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until},
};

use super::{AGAIN, Flight, Lane, Window, hindrance};
use crate::{
    capture::StopReason,
    position::{ParkedChange, Position, PositionError},
    target::{
        Content, Job, Lot, Mark, OnPoison, TargetEnd,
        desk::Desk,
        lots::{causes, shown},
        parked::entry,
    },
};

/// After so many faults of one message it is refused for good.
pub(super) const FAULTS: u32 = 3;

/// How often the position is saved.
const SAVE: Duration = Duration::from_millis(100);

/// When a message that was lost is sent again.
const SOON: Duration = Duration::from_millis(20);

/// How often it is asked whether more lots come, while none may be taken.
const LAST: Duration = Duration::from_millis(100);

/// How many answers are taken at a time.
const ANSWERS: usize = 1_024;

/// The number of a message, its topic, and the answer.
type Answers = (u64, Arc<str>, Confirm);

pub(super) struct Pump {
    lane: Lane,
    job: Job,
    desk: Desk,
    window: Window,
    state: watch::Receiver<LinkState>,
    answer: mpsc::UnboundedSender<Answers>,
    answers: mpsc::UnboundedReceiver<Answers>,
    /// What the link has, and what waits for a place there.
    flight: Flight,
    /// What is sent again, and when.
    again: BTreeSet<(Instant, u64)>,
    /// What goes alone from now on.
    alone: BTreeSet<u64>,
    /// Topics to which nothing can be sent now, and why.
    stuck: BTreeMap<Arc<str>, String>,
    /// The number of the last save.
    number: i64,
    /// How many messages are done behind the last mark.
    passed: u64,
    /// What has to be saved next.
    unsaved: Option<Mark>,
    /// The save that is under way.
    saving: Option<(Mark, BoxFuture<'static, Result<Position, PositionError>>)>,
    save_due: Instant,
    /// What was told to be wrong last.
    told: Option<String>,
    is_last: bool,
}

impl Pump {
    pub(super) async fn open(lane: Lane, job: Job) -> Result<Self, TargetEnd> {
        let desk = Desk::open(&*lane.store, &job).await?;
        let (answer, answers) = mpsc::unbounded_channel();
        Ok(Self {
            state: lane.link.state(),
            number: job.number,
            lane,
            job,
            desk,
            window: Window::default(),
            answer,
            answers,
            flight: Flight::default(),
            again: BTreeSet::new(),
            alone: BTreeSet::new(),
            stuck: BTreeMap::new(),
            passed: 0,
            unsaved: None,
            saving: None,
            save_due: Instant::now(),
            told: None,
            is_last: false,
        })
    }

    pub(super) async fn run(mut self) -> Result<(), TargetEnd> {
        let mut confirms = Vec::with_capacity(ANSWERS);
        loop {
            if self.is_last && self.is_done() {
                return Ok(());
            }
            let is_ready = *self.state.borrow_and_update() == LinkState::Ready;
            self.tell_trouble(is_ready);
            let next = self
                .again
                .first()
                .map_or_else(Instant::now, |(due, _)| *due);
            let is_parked = self.desk.parked.count() > 0;
            // Before the marks are carried out, nothing is taken that might have to be parked. At a stop the lots that are
            // left stay where they are: the next reader has them again.
            let waits_for_marks = !self.desk.may_take() && !self.is_last;
            let may_take = self.window.has_room() && !waits_for_marks && !self.is_last;
            tokio::select! {
                biased;
                saved = wait_for(&mut self.saving), if self.saving.is_some() => self.saved(saved).await?,
                _ = self.answers.recv_many(&mut confirms, ANSWERS) => {
                    for (number, topic, confirm) in confirms.drain(..) {
                        self.flight.leave(&topic);
                        self.answered(number, confirm).await?;
                    }
                    self.send_waiting();
                    self.advance();
                }
                () = sleep_until(next), if is_ready && !self.again.is_empty() => self.send_again(),
                _ = self.state.changed() => {}
                () = sleep_until(self.save_due), if self.unsaved.is_some() && self.saving.is_none() => self.save(),
                // Before the lots, because of these there may always be another one.
                () = sleep_until(self.desk.look_at), if is_parked && is_ready => {
                    // A save holds the row of the capture, which the removal of a parked message needs as well.
                    self.finish_save().await?;
                    self.desk.put_back(&self.lane).await?;
                }
                lot = self.job.lots.recv(), if may_take => match lot {
                    Some(lot) => self.take(lot).await?,
                    None => self.end(),
                },
                () = sleep(LAST), if waits_for_marks => if self.job.lots.is_closed() {
                    self.end();
                },
            }
        }
    }

    /// No more lots are taken.
    fn end(&mut self) {
        self.is_last = true;
        self.save_due = Instant::now();
    }

    fn is_done(&self) -> bool {
        self.window.is_empty() && self.unsaved.is_none() && self.saving.is_none()
    }

    /// Takes a lot into the window, and sends what may be sent of it.
    async fn take(&mut self, lot: Lot) -> Result<(), TargetEnd> {
        if lot.items.is_empty() {
            self.window.push_point(lot.end);
            self.advance();
            return Ok(());
        }
        for item in lot.items {
            let (number, is_free) = self.window.push(item);
            if is_free {
                self.offer(number).await?;
            }
        }
        self.advance();
        Ok(())
    }

    /// Sends the message, which is the first of its key, or parks it with what is behind it.
    async fn offer(&mut self, number: u64) -> Result<(), TargetEnd> {
        let Some((content, _)) = self.window.content(number) else {
            return Ok(());
        };
        if self.desk.parked.holds(content) {
            return self.park(number, None).await;
        }
        let refused = match content {
            Content::Unwritable { why, .. } => Some(why.clone()),
            Content::Message(message) => message
                .check(self.job.max_message_bytes)
                .err()
                .map(|error| causes(&error)),
        };
        match refused {
            None => self.send(number),
            Some(why) => self.refuse(number, why).await?,
        }
        Ok(())
    }

    fn send(&mut self, number: u64) {
        if *self.state.borrow() != LinkState::Ready || !self.desk.vitals.is_leased() {
            self.again.insert((Instant::now() + SOON, number));
            return;
        }
        let isolation = match self.alone.contains(&number) {
            true => Isolation::Alone,
            false => Isolation::Shared,
        };
        let Some((Content::Message(message), _)) = self.window.content(number) else {
            return;
        };
        let topic = message.shared_topic();
        if !self.flight.enter(&topic, number) {
            return;
        }
        let message = message.clone();
        let answer = self.answer.clone();
        self.lane
            .link
            .send(Outgoing::tracked(message, isolation, move |confirm| {
                // The pump is gone with its term: what it had in flight is read again.
                let _ = answer.send((number, topic, confirm));
            }));
    }

    fn send_waiting(&mut self) {
        while let Some(number) = self.flight.next() {
            self.send(number);
        }
    }

    fn send_again(&mut self) {
        let now = Instant::now();
        while let Some((due, number)) = self.again.first().copied()
            && due <= now
        {
            self.again.pop_first();
            self.desk.vitals.change(|numbers| numbers.sent_again += 1);
            self.send(number);
        }
    }

    async fn answered(&mut self, number: u64, confirm: Confirm) -> Result<(), TargetEnd> {
        let reason = match confirm {
            Confirm::Stored => {
                self.alone.remove(&number);
                if !self.stuck.is_empty()
                    && let Some((content, _)) = self.window.content(number)
                {
                    self.stuck.remove(content.topic());
                }
                pass(Failpoint::AfterChanges);
                if let Some(next) = self.window.finish(number) {
                    self.offer(next).await?;
                }
                return Ok(());
            }
            Confirm::Suspect => {
                self.alone.insert(number);
                self.again.insert((Instant::now() + SOON, number));
                return Ok(());
            }
            Confirm::Faulty(why) => {
                self.alone.insert(number);
                if self.window.fault(number) < FAULTS {
                    self.again.insert((Instant::now() + SOON, number));
                } else {
                    self.refuse(number, why).await?;
                }
                return Ok(());
            }
            other => match hindrance(other) {
                Some((words, _)) => words,
                // Lost, and what cannot be: there is no lease and no time to live.
                None => {
                    self.again.insert((Instant::now() + SOON, number));
                    return Ok(());
                }
            },
        };
        self.again.insert((Instant::now() + AGAIN, number));
        if let Some((content, _)) = self.window.content(number) {
            let topic: Arc<str> = content.topic().into();
            if !self.stuck.contains_key(&topic) {
                tracing::warn!(
                    target: "final::capture",
                    capture = &*self.job.term.name, topic = &*topic, reason,
                    "messages of a topic cannot be sent now; trying again until they can"
                );
            }
            self.stuck.insert(topic, reason);
        }
        Ok(())
    }

    /// Parks a message that is refused for good.
    async fn refuse(&mut self, number: u64, why: String) -> Result<(), TargetEnd> {
        let can_park = self.job.on_poison == OnPoison::Park && self.lane.store.can_park();
        let Some((content, mark)) = self.window.content(number) else {
            return Ok(());
        };
        if !can_park {
            return Err(TargetEnd::Stopped(StopReason::Poison(format!(
                "the target refuses a message after {}: {why}",
                shown(mark)
            ))));
        }
        tracing::warn!(
            target: "final::capture",
            capture = &*self.job.term.name, topic = content.topic(), position = shown(mark), reason = why,
            "the target refuses a change for good; it is parked, and later changes of its key wait behind it"
        );
        self.park(number, Some(why)).await
    }

    /// Writes a message into the store, and what waits behind it in the window. Their places there are done then.
    async fn park(&mut self, number: u64, reason: Option<String>) -> Result<(), TargetEnd> {
        let numbers = self.window.with_key_of(number);
        self.desk.check_room(numbers.len())?;
        // A save that is under way has the number before.
        self.finish_save().await?;
        // A save needs a position: that of the last save, or what is done by now.
        let position = self.unsaved.take();
        let number = self.number + 1;
        let mut entries: Vec<ParkedChange> = Vec::with_capacity(numbers.len());
        for (place, of) in numbers.iter().enumerate() {
            if let Some((content, mark)) = self.window.content(*of) {
                let reason = reason.clone().filter(|_| place == 0);
                entries.push(entry(content, reason, shown(mark), number, place));
            }
        }
        let standing = match &position {
            Some(mark) => mark.standing(&self.job.identity, number),
            None => {
                let saved = self.desk.vitals.position().borrow().clone();
                let Some(position) = saved else {
                    return Ok(());
                };
                crate::position::Standing {
                    position,
                    at: None,
                    number,
                }
            }
        };
        loop {
            let saved = self
                .lane
                .store
                .save(&self.job.term, &standing, &entries)
                .await;
            match saved {
                Ok(()) => break,
                Err(error) => self.desk.endure(error.into()).await?,
            }
        }
        self.desk.recovered();
        self.number = number;
        self.desk.vitals.set_position(Some(standing.position));
        for entry in &entries {
            self.desk.parked.add(&entry.topic, entry.key.as_ref());
        }
        self.desk.tell_parked();
        self.desk
            .vitals
            .change(|numbers| numbers.parked_total += entries.len() as u64);
        for number in numbers {
            self.window.finish(number);
        }
        Ok(())
    }

    fn advance(&mut self) {
        // A change of several messages is done with the last of them.
        self.passed += self.window.advance();
        if let Some(mark) = self.window.take_done() {
            let messages = std::mem::take(&mut self.passed);
            self.desk.vitals.done(messages, &mark);
            self.unsaved = Some(mark);
        }
    }

    /// Waits for the save that is under way.
    async fn finish_save(&mut self) -> Result<(), TargetEnd> {
        while self.saving.is_some() {
            let saved = wait_for(&mut self.saving).await;
            self.saved(saved).await?;
        }
        Ok(())
    }

    fn save(&mut self) {
        let Some(mark) = self.unsaved.take() else {
            return;
        };
        let standing = mark.standing(&self.job.identity, self.number + 1);
        let (store, term) = (Arc::clone(&self.lane.store), self.job.term.clone());
        let save = async move {
            store.save(&term, &standing, &[]).await?;
            Ok(standing.position)
        };
        self.saving = Some((mark, Box::pin(save)));
    }

    async fn saved(&mut self, saved: Result<Position, PositionError>) -> Result<(), TargetEnd> {
        let mark = self.saving.take().map(|(mark, _)| mark);
        match saved {
            Ok(position) => {
                self.number += 1;
                self.desk.recovered();
                self.desk.vitals.set_position(Some(position));
                pass(Failpoint::AfterChangesSaved);
                self.save_due = match self.is_last {
                    true => Instant::now(),
                    false => Instant::now() + SAVE,
                };
            }
            Err(error) => {
                // The same number again, because this one may have been saved. Then the newer position comes next.
                let newer = self.unsaved.take();
                self.desk.endure(error.into()).await?;
                self.unsaved = mark;
                self.save();
                self.unsaved = newer;
            }
        }
        Ok(())
    }

    fn tell_trouble(&mut self, is_ready: bool) {
        let trouble = match self.stuck.first_key_value() {
            _ if !is_ready => Some("the broker takes no messages now".to_owned()),
            Some((topic, reason)) => Some(format!("{topic}: {reason}")),
            None => None,
        };
        // The store's recovery has cleared the broker's trouble as well.
        if trouble != self.told || std::mem::take(&mut self.desk.has_cleared) {
            self.told.clone_from(&trouble);
            self.desk
                .vitals
                .change(|numbers| numbers.target_trouble = trouble);
        }
    }
}

/// Waits for the save that is under way.
async fn wait_for(
    saving: &mut Option<(Mark, BoxFuture<'static, Result<Position, PositionError>>)>,
) -> Result<Position, PositionError> {
    match saving {
        Some((_, save)) => save.await,
        None => std::future::pending().await,
    }
}
