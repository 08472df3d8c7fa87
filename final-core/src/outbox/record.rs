//! What stands in the outbox.

use std::time::Duration;

use uuid::Uuid;

#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
use crate::database::limits::micros;
use crate::{Message, MessageId};

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
pub enum Status {
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

/// The record as the databases take it; times in microseconds from their clock on.
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
impl NewRecord<'_> {
    /// Whether `inserts::PLAIN` are all its columns.
    pub(super) fn is_plain(&self) -> bool {
        self.message.is_plain() && self.ttl.is_none() && self.delay.is_zero() && !self.parked
    }

    pub(super) fn due_in(&self) -> i64 {
        micros(self.delay)
    }

    pub(super) fn available_in(&self) -> i64 {
        self.lease.map_or(self.due_in(), |(_, lease)| micros(lease))
    }

    pub(super) fn expires_in(&self) -> Option<i64> {
        self.ttl.map(|ttl| micros(self.delay.saturating_add(ttl)))
    }

    pub(super) fn owner(&self) -> Option<Uuid> {
        self.lease.map(|(owner, _)| owner)
    }

    pub(super) fn status(&self) -> i16 {
        let status = if self.parked {
            Status::Unroutable
        } else {
            Status::Pending
        };
        status as i16
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

/// What is in the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Backlog {
    pub(crate) pending: u64,
    pub(crate) unroutable: u64,
    pub(crate) failed: u64,
    /// Age of the oldest record that is pending or unroutable and due by the caller's wish.
    pub(crate) oldest: Option<Duration>,
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
