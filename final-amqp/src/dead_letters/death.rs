//! What RabbitMQ says about a message that it has dead-lettered itself.
//!
//! Input: the headers of a dead letter. Output: the last death in the header `x-death`: why, when, from which queue,
//! and how the message came there.

use final_core::broker::Cause;
use lapin::types::{AMQPValue, FieldTable, ShortString};

use crate::{names, properties::text};

/// A death of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Death {
    reason: String,
    pub(super) queue: String,
    /// In seconds since 1970.
    pub(super) time: Option<u64>,
    /// How often the message died in that queue for that reason.
    count: i64,
    /// How the message came into that queue, if the header says that.
    pub(super) exchange: Option<ShortString>,
    pub(super) routing_key: Option<ShortString>,
}

impl Death {
    /// The last death, if RabbitMQ tells of one. The newest stands first.
    pub(super) fn last(headers: &FieldTable) -> Option<Self> {
        let AMQPValue::FieldArray(deaths) = headers.inner().get("x-death")? else {
            return None;
        };
        let AMQPValue::FieldTable(death) = deaths.as_slice().first()? else {
            return None;
        };
        let get = |name: &str| death.inner().get(name);
        let said = |name: &str| get(name).and_then(text);
        let keys = get("routing-keys").and_then(|keys| match keys {
            AMQPValue::FieldArray(keys) => keys.as_slice().first().and_then(text),
            _ => None,
        });
        Some(Self {
            reason: said("reason").unwrap_or("unknown").to_owned(),
            queue: said("queue").unwrap_or_default().to_owned(),
            time: get("time").and_then(seconds),
            count: get("count").and_then(whole).unwrap_or(1),
            exchange: said("exchange").and_then(|name| names::short(name).ok()),
            routing_key: keys.and_then(|key| names::short(key).ok()),
        })
    }

    /// Why it died, in words.
    pub(super) fn cause(&self, attempts: u32) -> Cause {
        let queue = &self.queue;
        let words = match &*self.reason {
            "rejected" => format!("rejected by a consumer of the queue {queue:?}"),
            "expired" => format!("expired in the queue {queue:?}"),
            "maxlen" => format!("dropped by the queue {queue:?}, which was full"),
            "delivery_limit" => format!(
                "delivered to the queue {queue:?} more often than its delivery limit allows"
            ),
            other => format!("dead-lettered by RabbitMQ from the queue {queue:?}: {other}"),
        };
        let often = match self.count {
            ..=1 => String::new(),
            count => format!(", {count} times"),
        };
        Cause::new(words + &often, attempts)
    }
}

/// The seconds of a time.
pub(super) fn seconds(value: &AMQPValue) -> Option<u64> {
    match value {
        AMQPValue::Timestamp(seconds) => Some(*seconds),
        _ => None,
    }
}

/// A whole number, whatever its width.
pub(super) fn whole(value: &AMQPValue) -> Option<i64> {
    match value {
        AMQPValue::ShortShortInt(value) => Some((*value).into()),
        AMQPValue::ShortShortUInt(value) => Some((*value).into()),
        AMQPValue::ShortInt(value) => Some((*value).into()),
        AMQPValue::ShortUInt(value) => Some((*value).into()),
        AMQPValue::LongInt(value) => Some((*value).into()),
        AMQPValue::LongUInt(value) => Some((*value).into()),
        AMQPValue::LongLongInt(value) => Some(*value),
        _ => None,
    }
}
