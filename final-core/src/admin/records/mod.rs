//! Records of an outbox, listed by a filter and shown one by one.
//!
//! Input: a [`RecordFilter`]. Output: a page of [`RecordInfo`]s, without payloads; or one [`WholeRecord`].

mod claims;
mod filter;
mod look;
mod row;

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use uuid::Uuid;

pub use self::filter::{RecordCursor, RecordFilter};
pub(super) use self::{
    claims::LiveClaim,
    row::{InfoRow, info_columns},
};
use crate::{Message, MessageId};

/// Where a record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum RecordState {
    /// It can never be sent as it is.
    Failed,
    /// Its topic has no queue, or is parked for another reason.
    Unroutable,
    /// A process has leased it: it is being sent, or will be at once.
    InHand,
    /// It waits to be sent, and no process has it.
    Pending,
    /// The broker has it, and it is kept for a while.
    Acked,
}

impl RecordState {
    /// Its name.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Unroutable => "unroutable",
            Self::InHand => "in hand",
            Self::Pending => "pending",
            Self::Acked => "acked",
        }
    }
}

/// `failed`, `unroutable`, `in hand`, `pending` or `acked`.
impl fmt::Display for RecordState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A record of an outbox, without its payload and headers.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RecordInfo {
    /// Its place in the list, to go on after it.
    pub cursor: RecordCursor,
    /// The message's id.
    pub id: MessageId,
    /// The key of the record: the message's id, unless its publisher chose that one.
    pub record_id: Uuid,
    /// Its topic.
    pub topic: String,
    /// Its key.
    pub key: Option<String>,
    /// Where it stands.
    pub state: RecordState,
    /// How often the broker answered and did not store it.
    pub attempts: u32,
    /// The last answer of the broker, or the reason why the row is no message.
    pub error: Option<String>,
    /// When it was written.
    pub written_at: SystemTime,
    /// How long ago that was, by the database's clock.
    pub age: Duration,
    /// When it is due by its publisher's wish.
    pub due_at: SystemTime,
    /// When it can be claimed next, or when its own lease ends.
    pub available_at: SystemTime,
    /// How long until then. `None` if that moment is over.
    pub available_in: Option<Duration>,
    /// When its time to live is over.
    pub expires_at: Option<SystemTime>,
    /// When the broker answered last.
    pub answered_at: Option<SystemTime>,
    /// When the broker had it.
    pub acked_at: Option<SystemTime>,
    /// The process that has leased it.
    pub owner: Option<Uuid>,
    /// How long that lease lasts.
    pub lease_left: Option<Duration>,
}

/// A record with its message.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WholeRecord {
    /// Everything but headers and payload.
    pub info: RecordInfo,
    /// The message, or the reason why the row is no message.
    pub message: Result<Message, String>,
}
