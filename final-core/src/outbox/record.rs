//! What stands in the outbox.

use std::time::Duration;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i16)]
#[allow(dead_code, reason = "what only SQL writes stands there as its number")]
pub(crate) enum Status {
    /// Waits to be sent, or is being sent.
    Pending = 0,
    /// Waits until its topic has a queue again.
    Unroutable = 1,
    /// The broker has it; kept for `Options::retention`.
    Acked = 2,
    /// Can never be sent as it is; see `Bus::failed`.
    Failed = 3,
}

/// A record to be inserted.
#[derive(Debug)]
pub(crate) struct NewRecord<'a> {
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

/// The record as the statements take it; times in microseconds from the database's clock on.
impl<'a> NewRecord<'a> {
    /// Whether it has nothing but what `publish(topic, &value)` gives it.
    pub(super) fn is_plain(&self) -> bool {
        self.message.is_plain() && self.ttl.is_none() && self.delay.is_zero() && !self.parked
    }

    /// Adds the values of its row, in the order in which the INSERTs take them.
    pub(super) fn add_to(&self, values: &mut Vec<Value<'a>>, is_plain: bool) {
        let message = self.message;
        let id = message.id().0.into();
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
    /// The message, or why the row cannot be read as one (its id is known all the same).
    pub(crate) message: Result<Message, String>,
    pub(crate) id: MessageId,
    /// How often the broker has answered and not stored it.
    pub(crate) attempts: u32,
    /// How often that was its own fault.
    pub(crate) faults: u32,
    /// What is left of its time to live; zero if it is over.
    pub(crate) expires_in: Option<Duration>,
}

/// A claimed record and where it stood in the order of what is due.
#[derive(Clone, Debug)]
pub(crate) struct Claimed {
    pub(crate) record: Record,
    pub(crate) position: Position,
}

/// A place in the order of what is due. A pass of the scanner goes on after the last one it saw:
/// deleted records leave dead index entries at the front, and stepping over them again and again
/// makes a drain quadratic.
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
    /// A claimed record as a row. Only the id and the numbers must be readable: a row that is no message
    /// becomes a record that says why, so that it does not hold up the others.
    pub(super) struct RecordRow {
        message_id: Uuid,
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
    pub(super) fn claimed(self) -> Claimed {
        let number = |number| u32::try_from(number).unwrap_or(0);
        let id = MessageId(self.message_id);
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
                message: stored.and_then(|stored| stored.into_message(id)),
                id,
                attempts,
                faults,
                expires_in,
            },
            position,
        }
    }

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
    /// Those that wait to be sent.
    pub(crate) fn pending(&self) -> u64 {
        count(self.pending)
    }

    /// Those that wait until their topic has a queue again.
    pub(crate) fn unroutable(&self) -> u64 {
        count(self.unroutable)
    }

    /// Those that can never be sent as they are.
    pub(crate) fn failed(&self) -> u64 {
        count(self.failed)
    }

    /// Age of the oldest record that is pending or unroutable and due by the caller's wish.
    pub(crate) fn oldest(&self) -> Option<Duration> {
        self.oldest.map(duration)
    }
}

columns! {
    /// A failed record as a row.
    pub(super) struct FailedRow {
        message_id: Uuid,
        topic: String,
        attempts: i64,
        last_error: String,
        age: i64,
    }
}

impl From<FailedRow> for FailedRecord {
    fn from(row: FailedRow) -> Self {
        Self {
            id: MessageId(row.message_id),
            topic: row.topic,
            attempts: u32::try_from(row.attempts).unwrap_or(0),
            error: row.last_error,
            age: duration(row.age),
        }
    }
}

/// A record that can never be sent as it is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FailedRecord {
    /// The message's id.
    pub id: MessageId,
    /// Its topic.
    pub topic: String,
    /// How often the broker answered and did not store it.
    pub attempts: u32,
    /// What it said last.
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
