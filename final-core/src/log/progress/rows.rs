//! Rows of the log's tables, as the state machines of this folder take and give them.
//!
//! Input: rows that [`tables`](crate::log::tables) has read: a [`LogRow`] is one message, and a [`LaneRow`] is
//! the progress of one lane. Output: an [`Advance`], which is what is written about a lane next.

use std::{collections::HashMap, sync::Arc};

use uuid::Uuid;

use super::{lane::Progress, spans::Spans};
use crate::{Message, MessageId, broker::read_note, database::stored::Stored};

/// Lanes of a group. Each has one owner, so at most sixteen members of a group work at a time.
pub(crate) const LANES: usize = 16;

/// The bit mask of all lanes.
pub(crate) const ALL_LANES: i64 = (1 << LANES) - 1;

/// A payload up to this weight is read together with its row. A heavier one is read when a handler gets it.
pub(crate) const INLINE: i64 = 16 * 1024;

/// The group's own stream. Other streams bring topics that were added later.
pub(crate) const MAIN: i64 = 0;

/// The subscriptions of a group in one stream: each topic, and the sequence number after which it starts.
pub(crate) type Topics = HashMap<Arc<str>, i64>;

/// Which lane of a group, in which of its streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct LaneId {
    /// [`MAIN`], or a stream that brings a topic that was added later.
    pub(crate) stream: i64,
    /// From 0 to 15.
    pub(crate) lane: usize,
}

/// A lane's row: its owner, its fence, and the progress that was committed.
#[derive(Debug)]
pub(crate) struct LaneRow {
    pub(crate) id: LaneId,
    /// The owner. `None` after it was given back.
    pub(crate) member: Option<Uuid>,
    /// Whether that member's lease is still running.
    pub(crate) is_held: bool,
    /// The fence: it grows with each claim.
    pub(crate) epoch: i64,
    /// How far the lane was read. Everything up to there is settled, except what is open.
    pub(crate) read_to: i64,
    /// The group needs neither this sequence number nor one below it.
    pub(crate) settled_to: i64,
    /// `None` if the column holds something other than a list of sequence numbers.
    pub(crate) open: Option<Spans>,
    /// Where the stream of the lane ends, if it does. The row is removed then.
    pub(crate) ends_at: Option<i64>,
}

/// The change of one lane's row that is to be written.
#[derive(Debug)]
pub(crate) struct Advance {
    /// The lane.
    pub(crate) id: LaneId,
    /// The epoch under which this member owns it. With another one in the table nothing is written.
    pub(crate) epoch: i64,
    pub(crate) progress: Progress,
    /// Whether the lane is given away.
    pub(crate) release: bool,
    /// Whether its stream ends here, so that the row is no longer needed.
    pub(crate) remove: bool,
    /// Whether the row stays with this member and is taken further: such a commit proves later that the
    /// server still has everything from before it.
    pub(crate) is_proof: bool,
}

/// A row of the log.
#[derive(Debug)]
pub(crate) struct LogRow {
    /// Its sequence number.
    pub(crate) seq: i64,
    /// Its lane: by the key, without a key by the id, and for a requeued message as it was requeued.
    pub(crate) lane: usize,
    /// Its topic. Empty in the row of a filled gap, which is no message.
    pub(crate) topic: Arc<str>,
    /// The only group that gets the message. `None` if every group does.
    pub(crate) recipient: Option<String>,
    /// The bytes of the message, known without its payload.
    pub(crate) weight: i64,
    /// Microseconds since 1970, by the database's clock.
    pub(crate) written_at: i64,
    /// Microseconds from the moment of reading. Negative if the time is over.
    pub(crate) expires_in: Option<i64>,
    /// `None` for a heavy payload that is still to be read, and for rows outside the [`RowFilter`].
    pub(crate) payload: Option<Vec<u8>>,
    /// The other columns of the message.
    pub(crate) rest: RowDetails,
}

/// Columns of a row that only its message needs.
#[derive(Debug)]
pub(crate) struct RowDetails {
    pub(crate) id: MessageId,
    pub(crate) key: Option<String>,
    pub(crate) headers: Option<String>,
    pub(crate) content_type: String,
    pub(crate) durable: bool,
}

/// Rows whose headers and payload are read. Every row moves the position on, but of rows outside the filter the
/// sequence number is enough, so their payloads do not travel.
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

    /// The message, or the reason why the row is not a message.
    pub(crate) fn into_message(self) -> Result<Message, String> {
        let stored = Stored {
            topic: self.topic.as_ref().to_owned(),
            key: self.rest.key,
            headers: self.rest.headers,
            payload: self.payload.unwrap_or_default(),
            content_type: self.rest.content_type,
            durable: self.rest.durable,
        };
        stored.into_message(self.rest.id).map(read_note)
    }
}
