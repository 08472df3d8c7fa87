//! The message: what is published, stored, sent and handled.

mod headers;
mod id;

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use bytes::Bytes;
use uuid::Uuid;

pub use self::{headers::Headers, id::MessageId};
use crate::{
    outbox::RecordId,
    received::{Origin, Received},
};

/// What travels: an id, a topic, a payload, and a key and headers that describe them.
///
/// Cloning is cheap: the parts are shared.
#[derive(Clone, Debug)]
pub struct Message {
    parts: Arc<Parts>,
    attempt: u32,
}

#[derive(Clone)]
struct Parts {
    id: MessageId,
    /// Whether it came with its id.
    is_identified: bool,
    topic: Arc<str>,
    key: Option<Arc<str>>,
    headers: Headers,
    payload: Bytes,
    content_type: Arc<str>,
    content_encoding: Option<Arc<str>>,
    durable: bool,
    /// How long it has waited for a handler before this delivery.
    waited: Duration,
    /// What the broker knows besides, for handlers that ask.
    origin: Option<Arc<dyn Origin>>,
}

/// By hand: a payload must not end up in a log by accident.
impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts")
            .field("id", &self.id)
            .field("topic", &self.topic)
            .field("payload_bytes", &self.payload.len())
            .finish_non_exhaustive()
    }
}

/// The content type of msgpack payloads.
pub(crate) const MSGPACK: &str = "application/msgpack";

impl Message {
    /// Makes a durable msgpack message with a new id, no key and no headers.
    ///
    /// Services publish with [`Bus::publish`](crate::Bus::publish); this is for tests of layers and
    /// handlers, and for brokers.
    ///
    /// ```
    /// # use final_core::Message;
    /// let message = Message::new("order.placed", "payload").with_key("42").with_header("tenant", "acme");
    ///
    /// assert_eq!(message.topic(), "order.placed");
    /// assert_eq!(message.key(), Some("42"));
    /// assert_eq!(message.headers().get("tenant"), Some("acme"));
    /// ```
    pub fn new(topic: impl Into<Arc<str>>, payload: impl Into<Bytes>) -> Self {
        Self::with_parts(MessageId::new(), false, topic, payload)
    }

    /// The same for a message that has an id already.
    pub fn identified(
        id: MessageId,
        topic: impl Into<Arc<str>>,
        payload: impl Into<Bytes>,
    ) -> Self {
        Self::with_parts(id, true, topic, payload)
    }

    fn with_parts(
        id: MessageId,
        is_identified: bool,
        topic: impl Into<Arc<str>>,
        payload: impl Into<Bytes>,
    ) -> Self {
        // Nearly every message is msgpack; they share the text.
        static SHARED: LazyLock<Arc<str>> = LazyLock::new(|| MSGPACK.into());
        Self {
            parts: Arc::new(Parts {
                id,
                is_identified,
                topic: topic.into(),
                key: None,
                headers: Headers::default(),
                payload: payload.into(),
                content_type: Arc::clone(&SHARED),
                content_encoding: None,
                durable: true,
                waited: Duration::ZERO,
                origin: None,
            }),
            attempt: 1,
        }
    }

    /// Replaces the id.
    pub fn with_id(mut self, id: MessageId) -> Self {
        let parts = Arc::make_mut(&mut self.parts);
        (parts.id, parts.is_identified) = (id, true);
        self
    }

    /// Replaces the id by one that the producer did not give, for brokers.
    pub fn with_id_of_ours(mut self, id: MessageId) -> Self {
        let parts = Arc::make_mut(&mut self.parts);
        (parts.id, parts.is_identified) = (id, false);
        self
    }

    /// Sets the key.
    pub fn with_key(mut self, key: impl Into<Arc<str>>) -> Self {
        Arc::make_mut(&mut self.parts).key = Some(key.into());
        self
    }

    /// Adds a header, replacing one of the same name.
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.parts).headers.insert(name, value);
        self
    }

    /// Replaces all headers.
    pub fn with_headers(mut self, headers: Headers) -> Self {
        Arc::make_mut(&mut self.parts).headers = headers;
        self
    }

    /// Sets the content type; `application/msgpack` otherwise.
    pub fn with_content_type(mut self, content_type: impl AsRef<str>) -> Self {
        let content_type = content_type.as_ref();
        if content_type != self.content_type() {
            Arc::make_mut(&mut self.parts).content_type = content_type.into();
        }
        self
    }

    /// Sets the content encoding: `gzip` for example. None otherwise.
    pub fn with_content_encoding(mut self, content_encoding: impl Into<Arc<str>>) -> Self {
        Arc::make_mut(&mut self.parts).content_encoding = Some(content_encoding.into());
        self
    }

    /// Sets what came with the message, for brokers and for tests: see [`Received`].
    pub fn with_origin(mut self, origin: Arc<dyn Origin>) -> Self {
        Arc::make_mut(&mut self.parts).origin = Some(origin);
        self
    }

    /// Sets whether the broker should keep the message on disk; true otherwise.
    pub fn with_durable(mut self, durable: bool) -> Self {
        Arc::make_mut(&mut self.parts).durable = durable;
        self
    }

    /// Sets how long the message has waited for a handler before this delivery, for brokers.
    pub fn with_waited(mut self, waited: Duration) -> Self {
        if waited != self.parts.waited {
            Arc::make_mut(&mut self.parts).waited = waited;
        }
        self
    }

    /// Sets which attempt of the handler this is, counted from 1.
    pub fn with_attempt(mut self, attempt: u32) -> Self {
        self.attempt = attempt;
        self
    }

    /// The id, the same for every repeat of the message.
    pub fn id(&self) -> MessageId {
        self.parts.id
    }

    /// Whether the producer gave the id. Always so for messages that a bus published.
    ///
    /// If it did not, another process that receives the message makes another id for it.
    pub fn is_identified(&self) -> bool {
        self.parts.is_identified
    }

    /// What is the same each time the message comes: its id, or its content if it has no id of its own.
    pub(crate) fn identity(&self) -> MessageId {
        if self.parts.is_identified {
            return self.id();
        }
        let said = [self.topic().as_bytes(), &[0], self.payload()].concat();
        MessageId::derived(Uuid::NAMESPACE_OID, said)
    }

    /// The topic it was published to.
    pub fn topic(&self) -> &str {
        &self.parts.topic
    }

    /// The topic, shared.
    pub fn shared_topic(&self) -> Arc<str> {
        Arc::clone(&self.parts.topic)
    }

    /// The key, if it has one.
    pub fn key(&self) -> Option<&str> {
        self.parts.key.as_deref()
    }

    /// The key, shared.
    pub(crate) fn shared_key(&self) -> Option<Arc<str>> {
        self.parts.key.clone()
    }

    /// The producer's headers, each with the text of its value.
    ///
    /// Headers of the bus (`x-final-…`) and of the broker (`x-death`, `x-delivery-count`, …) are not among
    /// them, and neither are values that have no text: nil, lists, tables, and bytes that are not UTF-8.
    /// [`received`](Self::received) has all of them.
    pub fn headers(&self) -> &Headers {
        &self.parts.headers
    }

    /// The payload as it was sent.
    pub fn payload(&self) -> &Bytes {
        &self.parts.payload
    }

    /// Whether it is as `publish(topic, &value)` makes it, with nothing asked for besides.
    pub(crate) fn is_plain(&self) -> bool {
        self.key().is_none()
            && self.headers().is_empty()
            && self.is_durable()
            && self.content_type() == MSGPACK
    }

    /// What the payload is, `application/msgpack` for example.
    pub fn content_type(&self) -> &str {
        &self.parts.content_type
    }

    /// In which encoding the payload is, `gzip` for example, if the producer named one.
    ///
    /// [`Payload`](crate::Payload) and [`Json`](crate::Json) undo it; [`payload`](Self::payload) does not.
    pub fn content_encoding(&self) -> Option<&str> {
        self.parts.content_encoding.as_deref()
    }

    /// What came with the delivery besides. Made anew by each call.
    pub fn received(&self) -> Received {
        match &self.parts.origin {
            Some(origin) => origin.received(),
            None => Received::of(self),
        }
    }

    /// Whether the broker is asked to keep the message on disk.
    pub fn is_durable(&self) -> bool {
        self.parts.durable
    }

    /// Which attempt of the handler this is, counted from 1.
    ///
    /// The count goes on where a message has left the queue for a later retry. It starts again after any other
    /// redelivery.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// How long it has waited before this delivery for an instance that has a handler.
    pub(crate) fn waited(&self) -> Duration {
        self.parts.waited
    }

    /// Everything but the payload, as the broker writes it for a detour. `None` if it cannot.
    pub(crate) fn envelope(&self) -> Option<String> {
        self.parts.origin.as_ref()?.envelope(self)
    }

    /// Rough size in memory, in bytes: what the window of the relay counts.
    pub(crate) fn weight(&self) -> usize {
        const FIXED: usize = 512;
        self.parts.payload.len() + self.parts.headers.bytes() + FIXED
    }
}

/// A message on its way into the outbox or a broker's tables, with what only the way out needs to know.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Staged {
    /// What to publish.
    pub message: Message,
    /// How long it may wait, counted from when it is due; `None` for ever.
    pub ttl: Option<Duration>,
    /// How long after the insert it becomes due.
    pub delay: Duration,
    /// The key of its record, if it gets one.
    pub(crate) record: RecordId,
}

impl Staged {
    /// A message that is due at once and has no limit of time.
    #[must_use]
    pub fn new(message: Message) -> Self {
        Self {
            record: RecordId::new(),
            message,
            ttl: None,
            delay: Duration::ZERO,
        }
    }
}
