//! Reads a delivery of the dead-letter queue.
//!
//! Input: a delivery as it came, and the service's queue. Output: a [`CollectedLetter`]. Nothing in it is trusted: this
//! bus, another release, RabbitMQ itself, or any program may have put it there.
//!
//! | who made it | reason | time of death | where the message came from |
//! | --- | --- | --- | --- |
//! | a bus | `x-final-reason` | `x-final-time` | the topic's exchange, with the letter's routing key |
//! | RabbitMQ | the words of `x-death` | its time | its exchange and routing key |
//! | another program | unknown | unknown | as the letter came |
//!
//! Its identity is a hash of all bytes that RabbitMQ keeps of it. The id of a message is not enough: a message can die
//! twice, and some have none. Ids and times of death are among these bytes, where they are known.

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use bytes::Bytes;
use final_core::{
    MessageId,
    broker::{Cause, CollectedLetter},
};
use lapin::{
    BasicProperties,
    protocol::basic::gen_properties,
    types::{FieldTable, ShortString},
};
use uuid::Uuid;

use super::death::{Death, seconds, whole};
use crate::{
    inbound::LEFT_OUT,
    names,
    properties::{Original, decode, letter_envelope, text, topic},
};

/// The headers by which RabbitMQ counts deliveries. They are not the letter's.
pub(super) const COUNTS: [&str; 2] = ["x-delivery-count", "x-acquired-count"];

/// A delivery of the dead-letter queue.
#[derive(Debug)]
pub(crate) struct RawLetter {
    pub(crate) properties: BasicProperties,
    pub(crate) exchange: ShortString,
    pub(crate) routing_key: ShortString,
    pub(crate) payload: Bytes,
}

impl RawLetter {
    /// The letter that it is a copy of, if it has taken the place of one: the copy came straight into the queue, and its
    /// headers tell how the letter had come.
    pub(crate) fn restored(mut self, queue: &str) -> Self {
        let letters = names::dead_letter_queue(queue);
        let Some(headers) = self.properties.headers().clone() else {
            return self;
        };
        let came = |name: &str| {
            let text = headers.inner().get(name).and_then(text)?;
            names::short(text).ok()
        };
        let is_copy = self.exchange.as_str().is_empty() && self.routing_key.as_str() == letters;
        if is_copy
            && let (Some(exchange), Some(key)) = (came(names::CAME_BY), came(names::CAME_WITH))
        {
            (self.exchange, self.routing_key) = (exchange, key);
            let headers = without(headers, &[names::CAME_BY, names::CAME_WITH]);
            self.properties = self.properties.with_headers(headers);
        }
        self
    }

    /// What makes it the same when it is delivered again.
    pub(crate) fn identity(&self) -> Uuid {
        let headers = self.properties.headers().clone().unwrap_or_default();
        let kept = without(headers, &COUNTS);
        let kept = self.properties.clone().with_headers(kept);
        // Properties that cannot be written count as empty; the payload still tells letters apart.
        let written = gen_properties(&kept)(Vec::new().into());
        let written = written.map(|written| written.write).unwrap_or_default();
        let (exchange, key) = (self.exchange.as_str(), self.routing_key.as_str());
        let mut looks = Vec::with_capacity(self.payload.len() + written.len() + 64);
        for part in [exchange.as_bytes(), key.as_bytes(), &written] {
            looks.extend((part.len() as u64).to_be_bytes());
            looks.extend(part);
        }
        looks.extend(&self.payload);
        Uuid::new_v5(&Uuid::NAMESPACE_OID, &looks)
    }

    /// Whether headers are missing, because they do not fit into a frame.
    pub(super) fn is_cut(&self) -> bool {
        let headers = self.properties.headers().as_ref();
        headers.is_some_and(|headers| headers.contains_key(LEFT_OUT))
    }

    /// Reads it, as the letter of a service with this queue and these topics.
    pub(crate) fn read(self, queue: &str, topics: &[Arc<str>]) -> CollectedLetter {
        let identity = self.identity();
        let mut own = OwnHeaders::take(&self.properties);
        let death = own.death.take();
        let death = death.filter(|death| own.is_before(death, queue));
        let (exchange, routing_key) = match &death {
            Some(death) => (
                death.exchange.clone().unwrap_or(self.exchange),
                death.routing_key.clone().unwrap_or(self.routing_key),
            ),
            None => match &own.reason {
                // A program that sent it straight into the queue needed no exchange.
                Some(_) if self.routing_key.as_str() == queue => ("".into(), self.routing_key),
                Some(_) => (own.topic.unwrap_or(self.exchange), self.routing_key),
                None => (self.exchange, self.routing_key),
            },
        };
        let original = Original::new(
            self.properties.with_headers(own.others),
            exchange,
            routing_key,
            false,
            self.payload,
            topics,
        );
        let tried = original.progress.attempts;
        let cause = match (&death, own.reason) {
            (Some(death), _) => death.cause(tried),
            (None, Some(reason)) => Cause::new(reason, own.attempts),
            (None, None) => Cause::new("unknown: the letter does not tell why it is one", tried),
        };
        let died_at = death.map_or(own.time, |death| death.time);
        let mut letter = read_original(Arc::new(original), identity, cause, topics);
        letter.died_at = died_at.and_then(|at| UNIX_EPOCH.checked_add(Duration::from_secs(at)));
        letter.queue = names::dead_letter_queue(queue);
        letter
    }
}

fn read_original(
    original: Arc<Original>,
    identity: Uuid,
    cause: Cause,
    topics: &[Arc<str>],
) -> CollectedLetter {
    let decoded = decode(&original, topics).map(|message| match message.is_identified() {
        true => message,
        false => message.with_id_of_ours(MessageId(identity)),
    });
    let written = original.properties.message_id().as_ref();
    let is_ours = match &decoded {
        Ok(message) => !message.is_identified() || original.progress.is_id_ours,
        Err(_) => written.is_none(),
    };
    let id = match &decoded {
        Ok(message) => message.id(),
        Err(_) => MessageId(identity),
    };
    let sent_as = match written.filter(|_| !is_ours || original.progress.is_id_ours) {
        Some(id) => id.as_str().to_owned(),
        None => id.to_string(),
    };
    let envelope = letter_envelope(&original, &sent_as, is_ours);
    match decoded {
        Ok(message) => CollectedLetter::new(identity, message, cause, envelope),
        Err(why) => {
            let named = topic(&original).unwrap_or_else(|_| original.routed_topic().0);
            let payload = original.payload.clone();
            CollectedLetter::unreadable((identity, id), named, payload, why, cause, envelope)
        }
    }
}

/// The headers of a dead letter, taken apart.
struct OwnHeaders {
    /// Why a bus has dead-lettered it, if a bus has.
    reason: Option<String>,
    attempts: u32,
    /// In seconds since 1970.
    time: Option<u64>,
    topic: Option<ShortString>,
    /// What RabbitMQ tells.
    death: Option<Death>,
    /// All headers but those of a dead letter.
    others: FieldTable,
}

impl OwnHeaders {
    fn take(properties: &BasicProperties) -> Self {
        let headers = properties.headers().clone().unwrap_or_default();
        let get = |name: &str| headers.inner().get(name);
        let attempts = get(names::ATTEMPTS).and_then(whole).unwrap_or(0);
        let of_a_letter = [
            names::REASON,
            names::ATTEMPTS,
            names::SERVICE,
            names::TIME,
            COUNTS[0],
            COUNTS[1],
        ];
        Self {
            reason: get(names::REASON).and_then(text).map(str::to_owned),
            attempts: u32::try_from(attempts).unwrap_or(0),
            time: get(names::TIME).and_then(seconds),
            topic: get(names::TOPIC)
                .and_then(text)
                .and_then(|topic| names::short(topic).ok()),
            death: Death::last(&headers),
            others: without(headers.clone(), &of_a_letter),
        }
    }

    /// Whether RabbitMQ's is the last death. A message that was put back by hand still has the headers of the letter
    /// that it was; and a letter can die in the queue of the dead letters.
    fn is_before(&self, death: &Death, queue: &str) -> bool {
        self.reason.is_none() || death.queue == queue && death.time >= self.time
    }
}

/// The headers without some of them.
pub(super) fn without(headers: FieldTable, names: &[&str]) -> FieldTable {
    let mut kept = FieldTable::default();
    for (name, value) in headers.inner() {
        let is_one = names
            .iter()
            .any(|one| name.as_str().eq_ignore_ascii_case(one));
        if !is_one {
            kept.insert(name.clone(), value.clone());
        }
    }
    kept
}

/// How often RabbitMQ has taken the letter back, where it counts that.
pub(super) fn returns(properties: &BasicProperties) -> u64 {
    let headers = properties.headers().as_ref();
    let count = headers.and_then(|headers| headers.inner().get(COUNTS[0]));
    let count = count
        .and_then(whole)
        .and_then(|count| u64::try_from(count).ok());
    count.unwrap_or(0)
}
