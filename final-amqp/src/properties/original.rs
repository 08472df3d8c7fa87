//! A delivery as it arrived.
//!
//! Input: a delivery, and the topics of the service. Output: its topic; and, if a handler asks, what came with
//! it. The message and the channel share one [`Original`]: the channel needs it for a dead letter.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use final_core::{
    Message,
    received::{HeaderOwner, HeaderValue, Origin, Received},
};
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, ShortString},
};

use super::{
    detour::{DetourProgress, restore},
    envelope, text,
};
use crate::{inbound::SUBSTITUTE, names};

/// A delivery as it arrived; after a detour, as it first arrived.
#[derive(Clone, Debug)]
pub(crate) struct Original {
    pub(crate) properties: BasicProperties,
    pub(crate) exchange: ShortString,
    pub(crate) routing_key: ShortString,
    pub(crate) redelivered: bool,
    pub(crate) payload: Bytes,
    /// How far it is, if it has made a detour.
    pub(crate) progress: DetourProgress,
    /// Where the topic stands, if no header has it.
    named_by: NamedBy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NamedBy {
    RoutingKey,
    Exchange,
}

impl Original {
    /// Notes a delivery to a service with these topics.
    pub(crate) fn new(
        properties: BasicProperties,
        exchange: ShortString,
        routing_key: ShortString,
        redelivered: bool,
        payload: Bytes,
        topics: &[Arc<str>],
    ) -> Self {
        let mut this = Self {
            properties,
            exchange,
            routing_key,
            redelivered,
            payload,
            progress: DetourProgress::default(),
            named_by: NamedBy::RoutingKey,
        };
        restore(&mut this);
        remove_tag(&mut this.properties);
        this.named_by = named_by(this.exchange.as_str(), this.routing_key.as_str(), topics);
        this
    }

    /// A delivery of this crate's tests.
    #[cfg(any(test, feature = "__fuzzing"))]
    pub(crate) fn for_test(
        properties: BasicProperties,
        routing_key: impl Into<ShortString>,
        payload: Bytes,
    ) -> Self {
        let exchange = ShortString::from("");
        Self::new(
            properties,
            exchange,
            routing_key.into(),
            false,
            payload,
            &[],
        )
    }

    /// How often the message was delivered, this time included. A classic queue only says whether it was before.
    pub(crate) fn times(&self) -> u32 {
        if !self.redelivered {
            return 1;
        }
        let count = self
            .delivery_count()
            .and_then(|count| u32::try_from(count).ok());
        count.map_or(2, |count| count.saturating_add(1).max(2))
    }

    /// How often a quorum queue has had the message back.
    fn delivery_count(&self) -> Option<u64> {
        let headers = self.properties.headers().as_ref()?;
        match value(headers.inner().get("x-delivery-count")?) {
            HeaderValue::Int(count) => u64::try_from(count).ok(),
            _ => None,
        }
    }

    /// The topic without the header, and where it stands.
    pub(crate) fn routed_topic(&self) -> (&str, &'static str) {
        match self.named_by {
            NamedBy::RoutingKey => (self.routing_key.as_str(), "the routing key"),
            NamedBy::Exchange => (self.exchange.as_str(), "the name of the exchange"),
        }
    }
}

/// Removes what told the message from others while it was published. It says nothing about the message: after a detour
/// the same message would have another one.
fn remove_tag(properties: &mut BasicProperties) {
    let Some(headers) = properties.headers() else {
        return;
    };
    if !headers.contains_key(names::TAG) {
        return;
    }
    let mut others = FieldTable::default();
    for (name, value) in headers.inner() {
        if name.as_str() != names::TAG {
            others.insert(name.clone(), value.clone());
        }
    }
    *properties = std::mem::take(properties).with_headers(others);
}

/// Which of the two is the topic. A topic of the service goes first, because the queue is bound to the exchange
/// of each topic: a producer may publish there with an empty key, or with a key of its own.
fn named_by(exchange: &str, routing_key: &str, topics: &[Arc<str>]) -> NamedBy {
    let is_topic = |name: &str| topics.iter().any(|topic| **topic == *name);
    if exchange == routing_key || is_topic(routing_key) {
        NamedBy::RoutingKey
    } else if is_topic(exchange) || routing_key.trim().is_empty() && !exchange.is_empty() {
        NamedBy::Exchange
    } else {
        NamedBy::RoutingKey
    }
}

impl Origin for Original {
    fn received(&self) -> Received {
        let properties = &self.properties;
        let headers = properties.headers().as_ref();
        let mut received = Received::default();
        let id = properties.message_id().as_ref();
        received.message_id = known(id.filter(|_| !self.progress.is_id_ours));
        received.correlation_id = known(properties.correlation_id().as_ref());
        received.reply_to = known(properties.reply_to().as_ref());
        received.kind = known(properties.kind().as_ref());
        received.content_type = known(properties.content_type().as_ref());
        received.content_encoding = known(properties.content_encoding().as_ref());
        received.app_id = known(properties.app_id().as_ref());
        received.user_id = known(properties.user_id().as_ref());
        received.exchange = known(Some(&self.exchange));
        received.routing_key = known(Some(&self.routing_key));
        received.timestamp = properties.timestamp().and_then(time);
        received.priority = *properties.priority();
        received.expiration = properties
            .expiration()
            .as_ref()
            .and_then(|text| text.as_str().parse().ok())
            .map(Duration::from_millis);
        received.redelivered = self.redelivered;
        received.delivery_count = self.delivery_count();
        received.headers = headers
            .into_iter()
            .flat_map(entries)
            .filter(|(name, _)| HeaderOwner::of(name) != HeaderOwner::Bus)
            .map(|(name, of)| (name.to_owned(), value(of)))
            .collect();
        received
    }

    fn envelope(&self, message: &Message) -> Option<String> {
        let written = self.properties.message_id().as_ref();
        let is_identified = message.is_identified();
        let is_ours = !is_identified || self.progress.is_id_ours;
        match written.filter(|_| is_identified) {
            Some(id) => envelope(self, id.as_str(), is_ours),
            None => envelope(self, &message.id().to_string(), is_ours),
        }
    }
}

/// The headers whose names are as the producer wrote them. What was not UTF-8 has a substitute now.
pub(super) fn entries(table: &FieldTable) -> impl Iterator<Item = (&str, &AMQPValue)> {
    let entries = table.inner().iter();
    entries
        .map(|(name, value)| (name.as_str(), value))
        .filter(|(name, _)| !name.contains(SUBSTITUTE))
}

/// A text, unless it was not UTF-8.
fn known(text: Option<&ShortString>) -> Option<String> {
    let text = text?.as_str();
    (!text.contains(SUBSTITUTE)).then(|| text.to_owned())
}

/// Seconds since 1970. Producers in Java write times before 1970 as negative numbers.
fn time(seconds: u64) -> Option<SystemTime> {
    let seconds = seconds.cast_signed();
    let apart = Duration::from_secs(seconds.unsigned_abs());
    match seconds {
        0.. => UNIX_EPOCH.checked_add(apart),
        _ => UNIX_EPOCH.checked_sub(apart),
    }
}

/// A header's value. The depth of tables is limited when a frame is read.
pub(super) fn value(value: &AMQPValue) -> HeaderValue {
    match value {
        AMQPValue::Boolean(value) => HeaderValue::Bool(*value),
        AMQPValue::ShortShortInt(value) => HeaderValue::Int((*value).into()),
        AMQPValue::ShortShortUInt(value) => HeaderValue::Int((*value).into()),
        AMQPValue::ShortInt(value) => HeaderValue::Int((*value).into()),
        AMQPValue::ShortUInt(value) => HeaderValue::Int((*value).into()),
        AMQPValue::LongInt(value) => HeaderValue::Int((*value).into()),
        AMQPValue::LongUInt(value) => HeaderValue::Int((*value).into()),
        AMQPValue::LongLongInt(value) => HeaderValue::Int(*value),
        AMQPValue::Float(value) => {
            // By its text: 0.1 stays 0.1, and does not become 0.10000000149011612.
            let written = value.to_string().parse();
            HeaderValue::Float(written.unwrap_or_else(|_| (*value).into()))
        }
        AMQPValue::Double(value) => HeaderValue::Float(*value),
        // RabbitMQ's clients write a signed number, and lapin reads an unsigned one.
        AMQPValue::DecimalValue(decimal) => HeaderValue::Decimal {
            value: decimal.value.cast_signed().into(),
            scale: decimal.scale,
        },
        AMQPValue::Timestamp(seconds) => match time(*seconds) {
            Some(time) => HeaderValue::Time(time),
            None => HeaderValue::Int(seconds.cast_signed()),
        },
        AMQPValue::LongString(bytes) => match text(value) {
            Some(text) => HeaderValue::Text(text.to_owned()),
            None => HeaderValue::Bytes(bytes.as_bytes().to_vec()),
        },
        AMQPValue::ShortString(text) => HeaderValue::Text(text.to_string()),
        AMQPValue::ByteArray(bytes) => HeaderValue::Bytes(bytes.as_slice().to_vec()),
        AMQPValue::FieldArray(array) => {
            HeaderValue::List(array.as_slice().iter().map(self::value).collect())
        }
        AMQPValue::FieldTable(table) => HeaderValue::Table(
            entries(table)
                .map(|(name, of)| (name.to_owned(), self::value(of)))
                .collect(),
        ),
        AMQPValue::Void => HeaderValue::Nil,
    }
}
