//! A message as a row of the log.
//!
//! Input: a staged message. Output: its columns, with the lane that its key has.

use uuid::Uuid;

use crate::log::progress::rows::LANES;
use crate::{
    Message,
    broker::Staged,
    database::limits::{by_size, micros},
    message::MSGPACK,
    names::fnv,
};

/// A message as the columns of a row. Times are in microseconds from now, by the database's clock.
#[derive(Debug)]
pub(crate) struct NewRow<'a> {
    pub(crate) id: Uuid,
    pub(crate) topic: &'a str,
    pub(crate) key: Option<&'a str>,
    pub(crate) headers: Option<String>,
    pub(crate) payload: &'a [u8],
    pub(crate) content_type: &'a str,
    pub(crate) durable: i64,
    /// The same for all messages of a key.
    pub(crate) lane: i64,
    /// The bytes of the message, so that a reader knows them without its payload.
    pub(crate) weight: i64,
    /// When its time to live is over, its delay included.
    pub(crate) expires_in: Option<i64>,
    /// Its delay. 0 for a message that goes into the log at once.
    pub(crate) due_in: i64,
}

impl<'a> From<&'a Message> for NewRow<'a> {
    /// A message that is due at once and has no limit of time.
    fn from(message: &'a Message) -> Self {
        Self {
            id: message.id().0,
            topic: message.topic(),
            key: message.key(),
            headers: message.headers().to_json(),
            payload: message.payload(),
            content_type: message.content_type(),
            durable: message.is_durable().into(),
            lane: lane(message),
            weight: i64::try_from(message.weight()).unwrap_or(i64::MAX),
            expires_in: None,
            due_in: 0,
        }
    }
}

impl<'a> From<&'a Staged> for NewRow<'a> {
    fn from(staged: &'a Staged) -> Self {
        Self {
            expires_in: staged
                .ttl
                .map(|ttl| micros(staged.delay.saturating_add(ttl))),
            due_in: micros(staged.delay),
            ..Self::from(&staged.message)
        }
    }
}

impl NewRow<'_> {
    /// Whether the columns of a plain message are enough.
    pub(crate) fn is_plain(&self) -> bool {
        self.key.is_none()
            && self.headers.is_none()
            && self.expires_in.is_none()
            && self.durable == 1
            && self.content_type == MSGPACK
    }
}

/// The rows, in lots of as many as one INSERT can take.
pub(crate) fn entries<'a>(staged: &[&'a Staged]) -> impl Iterator<Item = Vec<NewRow<'a>>> + Send {
    by_size(staged, |staged| staged.message.weight())
        .map(|lot| lot.iter().map(|staged| NewRow::from(*staged)).collect())
}

/// The lane of a message: the same for every message of a key, any for a message without one.
///
/// It must never be changed. Two releases that work at the same time have to agree, or messages of one key
/// would be in two lanes, at two members.
fn lane(message: &Message) -> i64 {
    match message.key() {
        Some(key) => lane_of(key.as_bytes()),
        None => lane_of(message.id().0.as_bytes()),
    }
}

/// Messages as rows, in lots of as many as one INSERT can take.
pub(crate) fn rows(messages: &[Message]) -> impl Iterator<Item = Vec<NewRow<'_>>> + Send {
    by_size(messages, Message::weight).map(|lot| lot.iter().map(NewRow::from).collect())
}

/// FNV-1a of 64 bits, finished like MurmurHash3. By itself FNV hardly carries the last bytes into its upper bits, and
/// the upper bits of a byte into its lower ones. Keys often differ in these alone.
fn lane_of(bytes: &[u8]) -> i64 {
    let mut hash = fnv(bytes);
    for factor in [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53] {
        hash = (hash ^ (hash >> 33)).wrapping_mul(factor);
    }
    i64::try_from((hash ^ (hash >> 33)) % LANES as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fullest and the emptiest lane.
    fn spread(keys: impl Iterator<Item = String>) -> (usize, usize) {
        let mut lanes = [0; LANES];
        keys.for_each(|key| lanes[lane_of(key.as_bytes()) as usize] += 1);
        let (least, most) = (lanes.iter().min(), lanes.iter().max());
        (*least.unwrap(), *most.unwrap())
    }

    #[test]
    fn keys_that_differ_only_at_their_end_are_in_all_lanes() {
        for name in ["", "k", "customer-", "tenant/a/order/"] {
            let (least, most) = spread((0..1_600).map(|n| format!("{name}{n}")));
            assert!(least > 60 && most < 140, "{name}: {least} to {most}");
        }
    }

    #[test]
    fn keys_that_differ_only_at_their_beginning_are_in_all_lanes() {
        let (least, most) = spread((0..1_600).map(|n| format!("{n}-customer")));
        assert!(least > 60 && most < 140, "{least} to {most}");
    }

    #[test]
    fn the_lane_of_a_key_stays_what_it_is() {
        let lanes = ["", "a", "customer-1", "customer-2"].map(|key| lane_of(key.as_bytes()));
        assert_eq!(lanes, [6, 11, 10, 3]);
    }
}
