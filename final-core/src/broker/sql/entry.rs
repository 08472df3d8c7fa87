//! A message as a row of the log.

use uuid::Uuid;

use super::LANES;
use crate::{
    Message,
    broker::Staged,
    outbox::limits::{by_size, micros},
};

/// The columns of a row, times in microseconds from the database's clock on.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    pub(super) id: Uuid,
    pub(super) topic: &'a str,
    pub(super) key: Option<&'a str>,
    pub(super) headers: Option<String>,
    pub(super) payload: &'a [u8],
    pub(super) content_type: &'a str,
    pub(super) durable: i64,
    pub(super) lane: i64,
    pub(super) weight: i64,
    pub(super) expires_in: Option<i64>,
    pub(super) due_in: i64,
}

impl<'a> From<&'a Staged> for Entry<'a> {
    fn from(staged: &'a Staged) -> Self {
        let message = &staged.message;
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
            expires_in: staged
                .ttl
                .map(|ttl| micros(staged.delay.saturating_add(ttl))),
            due_in: micros(staged.delay),
        }
    }
}

/// The rows, in as many lots as one INSERT each can take.
pub(super) fn entries<'a>(staged: &[&'a Staged]) -> impl Iterator<Item = Vec<Entry<'a>>> + Send {
    by_size(staged, |staged| staged.message.weight())
        .map(|lot| lot.iter().map(|staged| Entry::from(*staged)).collect())
}

/// The lane of a message: the same for the same key, any for none (FNV-1a, 64 bits, of the key or the
/// id).
fn lane(message: &Message) -> i64 {
    let id;
    let bytes = match message.key() {
        Some(key) => key.as_bytes(),
        None => {
            id = message.id().0;
            id.as_bytes().as_slice()
        }
    };
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    // The low bits of FNV-1a depend on few of the input's; the high ones on all.
    i64::try_from((hash >> 32) % LANES as u64).unwrap_or(0)
}
