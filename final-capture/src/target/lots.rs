//! Writes lots to a target that takes many messages in one transaction: the log.
//!
//! Input: lots in order. State: keys that wait behind a refused message; the number of the last save. Output: messages
//! and positions in the target, refused messages in the store.
//!
//! ```text
//!   lot ─ without what waits behind a refused message ─▶ write ─┬─ written ─▶ next
//!    ▲                                                          ├─ away ─▶ pause, the same again
//!    └── halves of it ◀─ refused, more than one change ─────────┤
//!                        parked, or the end ◀─ refused, alone ──┘
//! ```

use std::collections::VecDeque;

use final_core::Message;
use futures::future::BoxFuture;
use tokio::time::sleep_until;

use super::{
    Content, Item, Job, Lot, Mark, OnPoison, TargetEnd,
    desk::{Desk, PutBack},
    parked::entry,
};
use crate::{
    capture::StopReason,
    position::{ParkedChange, PositionError, Standing, Term},
};

/// Why something was not written.
#[derive(Debug)]
pub(crate) enum WriteError {
    /// One of the messages is refused for what it is. Nothing was written.
    Refused(String),
    /// The database failed. Whether it was written is found out by the next try.
    Away(String),
    /// It cannot be handed over at this moment. The operator's marks stay, and it is tried at the next look.
    NotNow,
    /// Another reader has taken over. Nothing was written.
    Deposed,
    /// It will never be written as the target is set up.
    Stopped(String),
}

impl From<PositionError> for WriteError {
    fn from(error: PositionError) -> Self {
        match error {
            PositionError::Deposed => Self::Deposed,
            PositionError::CannotPark
            | PositionError::Unreadable(_)
            | PositionError::TooLargeToPark { .. } => Self::Stopped(error.to_string()),
            error => Self::Away(causes(&error)),
        }
    }
}

/// An error with its causes in one line.
pub(crate) fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    // The bus names a limit of its own, which is not the one of a capture.
    if let Some(final_core::Error::MessageTooLarge { size, limit, .. }) = error.downcast_ref() {
        return format!(
            "the message has {size} bytes, and the limit is {limit}; raise `target.max_message` of the capture \
             (`Capture::max_message_bytes`), or leave columns out of its messages"
        );
    }
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        next = cause.source();
    }
    text
}

/// A target that takes many messages at once.
pub(crate) trait LotSink: PutBack {
    /// Writes messages, refused messages and the position. All in one transaction, or the position last. A standing with
    /// a number that is saved already is done.
    fn write<'a>(
        &'a self,
        term: &'a Term,
        messages: &'a [Message],
        parked: &'a [ParkedChange],
        standing: &'a Standing,
    ) -> BoxFuture<'a, Result<(), WriteError>>;
}

/// Writes lots until there are no more.
pub(crate) async fn run(sink: &dyn LotSink, job: Job) -> Result<(), TargetEnd> {
    let mut writer = Writer {
        desk: Desk::open(sink.store(), &job).await?,
        sink,
        number: job.number,
        job,
    };
    loop {
        let lot = if writer.desk.parked.count() == 0 {
            writer.job.lots.recv().await
        } else {
            writer.desk.put_back(sink).await?;
            tokio::select! {
                lot = writer.job.lots.recv(), if writer.desk.may_take() => lot,
                () = sleep_until(writer.desk.look_at) => continue,
            }
        };
        match lot {
            Some(lot) => writer.write(lot).await?,
            None => return Ok(()),
        }
    }
}

struct Writer<'s> {
    sink: &'s dyn LotSink,
    job: Job,
    desk: Desk,
    /// The number of the last save.
    number: i64,
}

impl Writer<'_> {
    async fn write(&mut self, lot: Lot) -> Result<(), TargetEnd> {
        let mut rest = VecDeque::from([lot]);
        while let Some(lot) = rest.pop_front() {
            if let Err(refused) = self.try_write(&lot).await? {
                match halves(lot) {
                    Ok([first, second]) => {
                        rest.push_front(second);
                        rest.push_front(first);
                    }
                    Err(lot) => self.park(lot, refused).await?,
                }
            }
        }
        Ok(())
    }

    /// Writes a lot, however long the database is away. The inner error is the words with which a message was refused.
    async fn try_write(&mut self, lot: &Lot) -> Result<Result<(), String>, TargetEnd> {
        let number = self.number + 1;
        let (mut messages, mut behind) = (Vec::with_capacity(lot.items.len()), Vec::new());
        let mut refused = None;
        for (place, Item { content, mark, .. }) in lot.items.iter().enumerate() {
            if self.desk.parked.holds(content) {
                behind.push(entry(content, None, shown(mark), number, place));
                continue;
            }
            match content {
                Content::Message(message) => {
                    if let Err(error) = message.check(self.job.max_message_bytes) {
                        refused.get_or_insert_with(|| causes(&error));
                    }
                    messages.push(message.clone());
                }
                Content::Unwritable { why, .. } => {
                    refused.get_or_insert_with(|| why.clone());
                }
            }
        }
        if let Some(refused) = refused {
            return Ok(Err(refused));
        }
        self.desk.check_room(behind.len())?;
        let done = self.save(&messages, &behind, &lot.end, number, lot.items.len());
        done.await
    }

    /// Writes a lot whose one change is refused into the store.
    async fn park(&mut self, lot: Lot, reason: String) -> Result<(), TargetEnd> {
        let number = self.number + 1;
        if self.job.on_poison == OnPoison::Stop || !self.sink.store().can_park() {
            return Err(TargetEnd::Stopped(StopReason::Poison(format!(
                "the target refuses a message after {}: {reason}",
                lot.items
                    .first()
                    .map_or_else(String::new, |item| item.mark.point.to_string()),
            ))));
        }
        // A change of several messages is refused as a whole: one of them without the others would be another change.
        let entries: Vec<ParkedChange> = lot
            .items
            .iter()
            .enumerate()
            .map(|(place, item)| {
                let reason = Some(reason.clone());
                entry(&item.content, reason, shown(&item.mark), number, place)
            })
            .collect();
        self.desk.check_room(entries.len())?;
        for parked in &entries {
            tracing::warn!(
                target: "final::capture",
                capture = &*self.job.term.name, topic = &*parked.topic, position = parked.position, reason,
                "the target refuses a change for good; it is parked, and later changes of its key wait behind it"
            );
        }
        match self
            .save(&[], &entries, &lot.end, number, lot.items.len())
            .await?
        {
            Ok(()) => Ok(()),
            Err(refused) => Err(TargetEnd::Stopped(StopReason::Poison(format!(
                "a message that the target refuses cannot be parked: {refused}"
            )))),
        }
    }

    async fn save(
        &mut self,
        messages: &[Message],
        parked: &[ParkedChange],
        end: &Mark,
        number: i64,
        items: usize,
    ) -> Result<Result<(), String>, TargetEnd> {
        let standing = end.standing(&self.job.identity, number);
        loop {
            self.desk.check_lease()?;
            let written = self
                .sink
                .write(&self.job.term, messages, parked, &standing)
                .await;
            match written {
                Ok(()) => break,
                Err(WriteError::Refused(why)) => return Ok(Err(why)),
                Err(error) => self.desk.endure(error).await?,
            }
        }
        self.desk.recovered();
        self.number = number;
        parked
            .iter()
            .for_each(|change| self.desk.parked.add(&change.topic, change.key.as_ref()));
        let parked = parked.len() as u64;
        self.job.vitals.done(items as u64, end);
        self.job
            .vitals
            .change(|numbers| numbers.parked_total += parked);
        self.desk.tell_parked();
        self.job.vitals.set_position(Some(standing.position));
        Ok(Ok(()))
    }
}

pub(crate) fn shown(mark: &Mark) -> String {
    match &mark.partial {
        Some(partial) => format!(
            "{} and {} changes of {}",
            mark.point, partial.changes, partial.transaction
        ),
        None => mark.point.to_string(),
    }
}

/// Two lots of one, each of whole changes. The lot itself if it has one change only.
pub(crate) fn halves(lot: Lot) -> Result<[Lot; 2], Lot> {
    let ends: Vec<usize> = lot
        .items
        .iter()
        .enumerate()
        .filter(|(_, item)| item.ends_change)
        .map(|(place, _)| place + 1)
        .filter(|end| *end < lot.items.len())
        .collect();
    let Some(middle) = ends.get(ends.len() / 2).copied() else {
        return Err(lot);
    };
    let Lot {
        mut items,
        end,
        rows,
    } = lot;
    let second = items.split_off(middle);
    let Some(last) = items.last() else {
        return Err(Lot {
            items: second,
            end,
            rows,
        });
    };
    let first_end = last.mark.clone();
    Ok([
        Lot {
            items,
            end: first_end,
            rows: 0,
        },
        Lot {
            items: second,
            end,
            rows,
        },
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::SourcePoint;

    fn lot(ends_change: &[bool]) -> Lot {
        let mark = |place| Mark {
            point: SourcePoint::Lsn(place),
            partial: None,
            at: None,
        };
        let item = |(place, ends_change): (u64, &bool)| Item {
            content: Content::Message(Message::new("cdc.shop.holes", "1")),
            mark: mark(place),
            ends_change: *ends_change,
        };
        Lot {
            items: (0..).zip(ends_change).map(item).collect(),
            end: mark(100),
            rows: 1,
        }
    }

    #[test]
    fn halves_have_whole_changes_and_the_first_ends_with_its_own_mark() {
        let [first, second] = halves(lot(&[true, false, false, true, true])).unwrap();
        let ends = |lot: &Lot| -> Vec<bool> { lot.items.iter().map(|it| it.ends_change).collect() };
        assert_eq!(ends(&first), [true, false, false, true]);
        assert_eq!(first.end, first.items[3].mark);
        assert_eq!(ends(&second), [true]);
        assert_eq!(second.end.point, SourcePoint::Lsn(100));
    }

    #[test]
    fn a_change_of_several_messages_has_no_halves() {
        assert!(halves(lot(&[false, false, true])).is_err());
    }
}
