//! Records: messages as rows of the outbox.
//!
//! Input: a message with its policy, to be inserted; or a row of the table. State: the [`Status`] of a record.
//! Output: the values of its row, in the order of the INSERTs; or a [`Record`] to be sent, with its
//! [`Position`].
//!
//! A row is not trusted, because rows can be written by hand. If it cannot be read as a message, the record has
//! the reason in place of the message, and is marked as failed.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use uuid::Uuid;

use crate::{
    Message, MessageId,
    database::{
        Value, columns,
        limits::{count, duration, micros},
        stored::Stored,
    },
};

/// Where a record stands on its way out.
///
/// ```text
///            INSERT               claim, hand-over          proof of the broker
///  (nothing) ──────▶ pending ─────────────────▶ pending, ─────────────────────▶ (deleted), or
///                     ▲  ▲                       leased                         acked for a while
///   topic released    │  │ nack, lost, lease over  │ │ │
///   (its probe was    │  └────────────────────────┘ │ │ its own fault, too often
///    stored)          └───────── unroutable ◀───────┘ └────────▶ failed ─ retry_failed ─▶ pending
/// ```
///
/// `pending, leased` is not a status of its own. A record is leased while `available_at` of its row lies ahead
/// and `claimed_by` is set, or while a live claim covers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i16)]
#[allow(dead_code, reason = "what only SQL writes stands there as its number")]
pub(crate) enum Status {
    /// Waits to be sent, or is being sent.
    Pending = 0,
    /// Waits until a probe of its topic is stored. The scanner passes over it.
    Unroutable = 1,
    /// The broker has it, and it is kept for `Options::retention`.
    Acked = 2,
    /// Can never be sent as it is. It stays until a person has looked at it, see `Bus::failed`.
    Failed = 3,
}

/// The key of a record: what claims, leases and changes go by.
///
/// A message that is published with an id of its publisher's choice can have the same id as another one. Its record
/// has a key of its own, and keeps the id of the message beside it. The record of any other message has the id of its
/// message as its key, because that id was made for this record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RecordId(pub(crate) Uuid);

impl RecordId {
    /// A new key. The keys of one process are in the order in which they were made.
    pub(crate) fn new() -> Self {
        Self(Uuid::now_v7())
    }

    /// The key for a message whose id was made for this one record.
    pub(crate) fn of(id: MessageId) -> Self {
        Self(id.0)
    }

    /// The id that the row keeps beside its key. `None` if the message has the key as its id.
    fn sent_as(self, id: MessageId) -> Option<Uuid> {
        (id.0 != self.0).then_some(id.0)
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A record to be inserted. The database counts all times from its clock at the INSERT.
///
/// | the message | `status` | `due_at` | `available_at` | `claimed_by` |
/// | --- | --- | --- | --- | --- |
/// | has a slot, so this process sends it after the COMMIT | pending | now | now + lease | this bus |
/// | has no slot, or the broker is away | pending | now | now | none |
/// | has a delay | pending | now + delay | now + delay | none |
/// | has a parked topic | unroutable | now + delay | now + delay | none |
#[derive(Debug)]
pub(crate) struct NewRecord<'a> {
    pub(crate) id: RecordId,
    /// The message, which is already checked.
    pub(crate) message: &'a Message,
    /// How long it may wait once it is due. The database keeps the moment: its clock + `delay` + `ttl`.
    pub(crate) ttl: Option<Duration>,
    /// How long until it is due, by the caller's wish.
    pub(crate) delay: Duration,
    /// Owner and length of the lease, if this process will send it at once. `available_at` is then
    /// the end of the lease, otherwise the end of the delay.
    pub(crate) lease: Option<(Uuid, Duration)>,
    /// Whether its topic is parked: it then starts as unroutable.
    pub(crate) parked: bool,
}

/// The record as the statements take it. Lengths of time are in microseconds, and are counted from the
/// database's clock at the INSERT.
impl<'a> NewRecord<'a> {
    /// Whether the short INSERT is enough: the record has only what `publish(topic, &value)` gives it.
    pub(super) fn is_plain(&self) -> bool {
        self.message.is_plain()
            && self.sent_as().is_none()
            && self.ttl.is_none()
            && self.delay.is_zero()
            && !self.parked
    }

    fn sent_as(&self) -> Option<Uuid> {
        self.id.sent_as(self.message.id())
    }

    /// Adds the values of its row in the order of the parameters: 5 for a plain record, 13 for any other one.
    /// The columns are those of `PLAIN` and `ANY` in [`statements`](super::statements).
    pub(super) fn add_to(&self, values: &mut Vec<Value<'a>>, is_plain: bool) {
        let message = self.message;
        let id = self.id.0.into();
        let payload = message.payload().as_ref().into();
        let due_in = micros(self.delay);
        let available_in = self.lease.map_or(due_in, |(_, lease)| micros(lease));
        let owner = self.lease.map(|(owner, _)| owner);
        if is_plain {
            values.extend([
                id,
                message.topic().into(),
                payload,
                available_in.into(),
                owner.into(),
            ]);
            return;
        }
        let status = match self.parked {
            true => Status::Unroutable,
            false => Status::Pending,
        };
        let expires_in = self.ttl.map(|ttl| micros(self.delay.saturating_add(ttl)));
        values.extend([
            id,
            message.topic().into(),
            message.key().into(),
            message.headers().to_json().into(),
            payload,
            self.sent_as().into(),
            message.content_type().into(),
            message.is_durable().into(),
            expires_in.into(),
            i64::from(status as i16).into(),
            due_in.into(),
            available_in.into(),
            owner.into(),
        ]);
    }
}

#[cfg(test)]
impl<'a> NewRecord<'a> {
    /// Due at once and for ever, unclaimed.
    pub(crate) fn plain(message: &'a Message) -> Self {
        Self {
            id: RecordId::of(message.id()),
            message,
            ttl: None,
            delay: Duration::ZERO,
            lease: None,
            parked: false,
        }
    }
}

/// A record read from the table, to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) id: RecordId,
    /// The id of its message.
    pub(crate) message_id: MessageId,
    /// The message, or why the row cannot be read as one.
    pub(crate) message: Result<Message, String>,
    /// How often the broker has answered and not stored it.
    pub(crate) attempts: u32,
    /// In how many of these answers the message itself was at fault.
    pub(crate) faults: u32,
    /// What is left of its time to live; zero if it is over.
    pub(crate) expires_in: Option<Duration>,
    /// Since when it was due, in microseconds since 1970, by the database's clock; 0 if that is not known.
    pub(super) due_at: i64,
}

impl Record {
    /// How long it has been due, by this machine's clock. Nothing, if the database's clock is ahead.
    pub(crate) fn due_for(&self, now: SystemTime) -> Duration {
        let due_at = SystemTime::UNIX_EPOCH.checked_add(duration(self.due_at));
        let due_at = due_at.filter(|_| self.due_at > 0);
        due_at.map_or(Duration::ZERO, |due_at| {
            now.duration_since(due_at).unwrap_or_default()
        })
    }
}

/// A claimed record and where it stood in the order of what is due.
#[derive(Clone, Debug)]
pub(crate) struct Claimed {
    pub(crate) record: Record,
    pub(crate) position: Position,
}

/// A place in the order of what is due: by `available_at`, and by the key among records of the same time.
///
/// A claim goes on behind the last position that its pass saw. Deleted records leave dead index entries at the
/// front; stepping over them at each claim would make a long drain quadratic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    /// Microseconds since 1970, UTC, by the database's clock (its resolution may be lower).
    pub(crate) available_at: i64,
    pub(crate) id: Uuid,
}

impl Position {
    /// Before everything.
    pub(super) const START: Self = Self {
        available_at: 0,
        id: Uuid::nil(),
    };
    /// After everything that is due before the year 2250.
    pub(super) const END: Self = Self {
        available_at: 280 * 365 * 24 * 3600 * 1_000_000,
        id: Uuid::max(),
    };

    /// The place right behind it.
    pub(super) fn next(self) -> Self {
        match self.id.as_u128().checked_add(1) {
            Some(id) => Self {
                id: Uuid::from_u128(id),
                ..self
            },
            None => Self {
                available_at: self.available_at.saturating_add(1),
                id: Uuid::nil(),
            },
        }
    }
}

columns! {
    /// A claimed record as a row. Only the ids and the numbers must be readable: a row that is no message
    /// becomes a record that says why, so that it does not hold up the others.
    pub(super) struct RecordRow {
        message_id: Uuid,
        sent_as: Option<Uuid>,
        topic: Result<String, String>,
        message_key: Result<Option<String>, String>,
        headers: Result<Option<String>, String>,
        payload: Result<Vec<u8>, String>,
        content_type: Result<String, String>,
        durable: Result<bool, String>,
        attempts: i64,
        faults: i64,
        expires_in: Option<i64>,
        position: i64,
    }
}

impl RecordRow {
    /// Reads the row. Numbers that cannot be are read as 0. A row that cannot be read as a message keeps its
    /// key, so that it can be marked as failed.
    pub(super) fn claimed(self) -> Claimed {
        let number = |number| u32::try_from(number).unwrap_or(0);
        let id = RecordId(self.message_id);
        let message_id = MessageId(self.sent_as.unwrap_or(self.message_id));
        let (attempts, faults) = (number(self.attempts), number(self.faults));
        let expires_in = self.expires_in.map(duration);
        let position = Position {
            available_at: self.position,
            id: self.message_id,
        };
        let stored = self.stored();
        let stored = stored.map_err(|why| format!("the row cannot be read: {why}"));
        Claimed {
            record: Record {
                id,
                message_id,
                message: stored.and_then(|stored| stored.into_message(message_id)),
                attempts,
                faults,
                expires_in,
                due_at: position.available_at,
            },
            position,
        }
    }

    /// The columns of the message, or the first reason why a column cannot be read.
    fn stored(self) -> Result<Stored, String> {
        Ok(Stored {
            topic: self.topic?,
            key: self.message_key?,
            headers: self.headers?,
            payload: self.payload?,
            content_type: self.content_type?,
            durable: self.durable?,
        })
    }
}

columns! {
    /// How many records have each status, and the age of the oldest that is due.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub(crate) struct Backlog {
        pending: i64,
        unroutable: i64,
        failed: i64,
        oldest: Option<i64>,
    }
}

impl Backlog {
    /// Records that wait to be sent, or are being sent.
    pub(crate) fn pending(&self) -> u64 {
        count(self.pending)
    }

    /// Records that wait until their topic can be sent to again.
    pub(crate) fn unroutable(&self) -> u64 {
        count(self.unroutable)
    }

    /// Records that can never be sent as they are.
    pub(crate) fn failed(&self) -> u64 {
        count(self.failed)
    }

    /// How long the oldest pending or unroutable record has been due. A delay that its publisher asked for does
    /// not count.
    pub(crate) fn oldest(&self) -> Option<Duration> {
        self.oldest.map(duration)
    }
}

columns! {
    /// A failed record as a row.
    pub(super) struct FailedRow {
        message_id: Uuid,
        sent_as: Option<Uuid>,
        topic: String,
        attempts: i64,
        last_error: String,
        age: i64,
    }
}

impl From<FailedRow> for FailedRecord {
    fn from(row: FailedRow) -> Self {
        Self {
            id: MessageId(row.sent_as.unwrap_or(row.message_id)),
            topic: row.topic,
            attempts: u32::try_from(row.attempts).unwrap_or(0),
            error: row.last_error,
            age: duration(row.age),
        }
    }
}

/// A record that can never be sent as it is, as [`Bus::failed`](crate::Bus::failed) lists it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FailedRecord {
    /// The message's id.
    pub id: MessageId,
    /// Its topic.
    pub topic: String,
    /// How often the broker answered and did not store it.
    pub attempts: u32,
    /// The last answer of the broker, or the reason why the row is not a message.
    pub error: String,
    /// How old the record is.
    pub age: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behind_the_last_id_of_a_time_comes_the_first_of_the_next() {
        let at = |available_at, id| Position { available_at, id };

        assert_eq!(at(7, Uuid::nil()).next(), at(7, Uuid::from_u128(1)));
        assert_eq!(at(7, Uuid::max()).next(), at(8, Uuid::nil()));
    }
}
