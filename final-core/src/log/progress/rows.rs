//! Rows of the log's tables, as the reader's state machines take them.

use std::{collections::HashMap, sync::Arc};

use uuid::Uuid;

use super::spans::Spans;
use crate::{Message, MessageId, database::stored::Stored};

/// The shares of a group's messages: no more of its members can work at a time.
pub(crate) const LANES: usize = 16;

/// The numbers of all lanes, as a mask.
pub(crate) const ALL_LANES: i64 = (1 << LANES) - 1;

/// Up to this weight a payload is read together with its row; a heavier one when it is its turn.
pub(crate) const INLINE: i64 = 16 * 1024;

/// The subscriptions of a group in one stream: each topic, and the number it begins after.
pub(crate) type Topics = HashMap<Arc<str>, i64>;

/// Which lane of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct LaneId {
    pub(crate) stream: i64,
    pub(crate) lane: usize,
}

/// A lane's row.
#[derive(Debug)]
pub(crate) struct LaneRow {
    pub(crate) id: LaneId,
    pub(crate) member: Option<Uuid>,
    /// Whether that member's lease is not over.
    pub(crate) is_held: bool,
    pub(crate) epoch: i64,
    pub(crate) read_to: i64,
    pub(crate) settled_to: i64,
    /// `None` if the row says something that is no list of numbers.
    pub(crate) open: Option<Spans>,
    pub(crate) ends_at: Option<i64>,
}

/// A row of the log.
#[derive(Debug)]
pub(crate) struct LogRow {
    pub(crate) seq: i64,
    pub(crate) lane: usize,
    pub(crate) topic: Arc<str>,
    /// The only group it is for, if it is not for all.
    pub(crate) recipient: Option<String>,
    pub(crate) weight: i64,
    /// By the database's clock, in microseconds since 1970.
    pub(crate) written_at: i64,
    /// Microseconds; negative if it is over.
    pub(crate) expires_in: Option<i64>,
    /// `None` for a payload that is still to be read, and for what is not ours.
    pub(crate) payload: Option<Vec<u8>>,
    pub(crate) rest: RowDetails,
}

#[derive(Debug)]
pub(crate) struct RowDetails {
    pub(crate) id: MessageId,
    pub(crate) key: Option<String>,
    pub(crate) headers: Option<String>,
    pub(crate) content_type: String,
    pub(crate) durable: bool,
}

/// Whose rows are wanted with all they have: of the others the number is enough.
#[derive(Debug, Default)]
pub(crate) struct RowFilter<'a> {
    pub(crate) topics: &'a [Arc<str>],
    /// A bit for each lane.
    pub(crate) lanes: i64,
}

impl LogRow {
    /// Whether the payload was left out for its weight.
    pub(crate) fn is_heavy(&self) -> bool {
        self.payload.is_none() && self.weight > INLINE
    }

    pub(crate) fn id(&self) -> Uuid {
        self.rest.id.0
    }

    pub(crate) fn key(&self) -> Option<&str> {
        self.rest.key.as_deref()
    }

    #[cfg(test)]
    pub(crate) fn plain(seq: i64, lane: usize, topic: Arc<str>, key: Option<&str>) -> Self {
        let rest = RowDetails {
            id: MessageId(Uuid::nil()),
            key: key.map(str::to_owned),
            headers: None,
            content_type: String::new(),
            durable: true,
        };
        Self {
            seq,
            lane,
            topic,
            recipient: None,
            weight: 0,
            written_at: 0,
            expires_in: None,
            payload: Some(Vec::new()),
            rest,
        }
    }

    /// The message, or why the row is none.
    pub(crate) fn into_message(self) -> Result<Message, String> {
        let stored = Stored {
            topic: self.topic.as_ref().to_owned(),
            key: self.rest.key,
            headers: self.rest.headers,
            payload: self.payload.unwrap_or_default(),
            content_type: self.rest.content_type,
            durable: self.rest.durable,
        };
        stored.into_message(self.rest.id)
    }
}
