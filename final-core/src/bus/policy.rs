//! The policy of a message (key, headers, time to live, delay, durability), and the checks before its
//! INSERT.
//!
//! Input: a [`Draft`], as the caller built it. Output: a [`Staged`] message with an id, or the error that a
//! database or broker would otherwise give later.

use std::time::Duration;

use crate::{
    Error, Headers, Message, MessageId, Options,
    broker::Staged,
    names,
    outbox::RecordId,
    payload::{EncodedPayload, IntoPayload},
    telemetry::Hook,
};

/// RabbitMQ's largest `expiration`, in milliseconds.
const MAX_TTL: Duration = Duration::from_millis(u32::MAX as u64);

/// A year: a delay longer than that is a mistake in the unit.
const MAX_DELAY: Duration = Duration::from_secs(366 * 24 * 3600);

/// The longest key, in bytes.
const MAX_KEY: usize = 1024;

/// The policy of a message, not yet checked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Policy {
    pub(crate) id: Option<MessageId>,
    pub(crate) key: Option<String>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) ttl: Option<Duration>,
    pub(crate) delay: Option<Duration>,
    pub(crate) transient: bool,
    pub(crate) unconfirmed: bool,
}

/// A message as the caller gave it: topic and payload, encoded.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) topic: String,
    pub(crate) payload: Result<EncodedPayload, Error>,
    pub(crate) policy: Policy,
}

impl Draft {
    pub(crate) fn new(topic: impl AsRef<str>, payload: impl IntoPayload) -> Self {
        let topic = topic.as_ref().to_owned();
        let payload = payload.into_payload().map_err(|source| Error::Encode {
            topic: topic.clone(),
            source,
        });
        Self {
            topic,
            payload,
            policy: Policy::default(),
        }
    }

    /// Lets the hook of the bus put headers in. To be called in the task of the publisher.
    pub(crate) fn inject(&mut self, hook: &Hook) {
        let key = self.policy.key.as_ref().map_or(0, String::len);
        hook.inject(&self.topic, &mut self.policy.headers, key);
    }

    /// Checks everything that a database or broker would refuse later, and gives the message an id.
    pub(crate) fn check(self, options: &Options) -> Result<Staged, Error> {
        let Self {
            topic,
            payload,
            policy,
        } = self;
        let Policy {
            id,
            key,
            headers,
            ttl,
            delay,
            transient,
            unconfirmed,
        } = policy;
        names::check_topic(&topic)?;
        let EncodedPayload {
            bytes,
            content_type,
        } = payload?;
        check_size(&topic, bytes.len(), options.max_message_bytes)?;
        let refuse = |reason| {
            Err(Error::InvalidPolicy {
                topic: topic.clone(),
                reason,
            })
        };
        if let Some(id) = id {
            check_id(&topic, id)?;
        }
        if ttl.is_some_and(|ttl| ttl.is_zero()) {
            return refuse("a time to live of zero would expire it at once");
        }
        if ttl.is_some_and(|ttl| ttl > MAX_TTL) {
            return refuse(
                "the time to live is longer than RabbitMQ's limit of 2^32 - 1 ms (49 days)",
            );
        }
        if delay.is_some_and(|delay| delay > MAX_DELAY) {
            return refuse("the delay is longer than a year");
        }
        check_key(&topic, key.as_deref())?;
        if unconfirmed && delay.is_some_and(|delay| !delay.is_zero()) {
            return refuse("a delay needs the outbox, which `confirm(false)` goes past");
        }
        let named = headers.iter().map(|(name, value)| (&**name, &**value));
        check_headers(key.as_deref(), named)?;

        // Other messages may have the id that the publisher chose, so the record's key is another one.
        let (id, record) = match id {
            Some(id) => (id, RecordId::new()),
            None => {
                let id = MessageId::new();
                (id, RecordId::of(id))
            }
        };
        let mut message = Message::identified(id, topic, bytes)
            .with_content_type(content_type)
            .with_durable(!transient);
        if let Some(key) = key {
            message = message.with_key(key);
        }
        if !headers.is_empty() {
            message = message.with_headers(Headers::from_iter(headers));
        }
        Ok(Staged {
            record,
            message,
            ttl,
            delay: delay.unwrap_or_default(),
        })
    }
}

fn check_id(topic: &str, id: MessageId) -> Result<(), Error> {
    if !id.0.is_nil() && !id.0.is_max() {
        return Ok(());
    }
    Err(Error::InvalidPolicy {
        topic: topic.to_owned(),
        reason: "an id of zeros or of ones only tells no message from another",
    })
}

fn check_size(topic: &str, size: usize, limit: usize) -> Result<(), Error> {
    if size <= limit {
        return Ok(());
    }
    Err(Error::MessageTooLarge {
        topic: topic.to_owned(),
        size,
        limit,
    })
}

fn check_key(topic: &str, key: Option<&str>) -> Result<(), Error> {
    let reason = match key {
        Some(key) if key.len() > MAX_KEY => "the key is longer than 1,024 bytes",
        Some(key) if key.contains('\0') => {
            "the key contains a NUL character, which PostgreSQL cannot store"
        }
        _ => return Ok(()),
    };
    Err(Error::InvalidPolicy {
        topic: topic.to_owned(),
        reason,
    })
}

fn check_headers<'a>(
    key: Option<&str>,
    headers: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<(), Error> {
    let mut total = key.map_or(0, str::len);
    for (name, value) in headers {
        total += name.len() + value.len();
        names::check_header(name, total)?;
    }
    Ok(())
}

impl Message {
    /// Checks what a bus checks before it publishes: the topic, the key, the headers, and the size of the payload.
    /// A message that passes is refused by no broker and by no database for what it is, unless the database has
    /// rules of its own.
    ///
    /// For programs that publish messages of other programs.
    ///
    /// # Errors
    ///
    /// Says what is wrong, as the publish of a bus does.
    pub fn check(&self, max_message_bytes: usize) -> Result<(), Error> {
        names::check_topic(self.topic())?;
        check_id(self.topic(), self.id())?;
        check_size(self.topic(), self.payload().len(), max_message_bytes)?;
        check_key(self.topic(), self.key())?;
        check_headers(self.key(), self.headers().iter())?;
        names::check_content_type(self.topic(), self.content_type())
    }
}

/// Writes the setters that all publish builders have.
macro_rules! policy_setters {
    ($draft:ident) => {
        /// Sets the id, in place of a new one. Consumers that drop repeats by id handle messages of one id once.
        ///
        /// An id can be published any number of times, also in one transaction or in two that are open at once:
        /// each time is a message to be delivered. An id of zeros or of ones only is refused.
        pub fn id(mut self, id: $crate::MessageId) -> Self {
            self.$draft.policy.id = Some(id);
            self
        }

        /// Sets the key: what the message is about, an order number for example. At most 1,024 bytes.
        pub fn key(mut self, key: impl Into<String>) -> Self {
            self.$draft.policy.key = Some(key.into());
            self
        }

        /// Adds a header. Names starting with `x-`, and `CC` and `BCC`, are refused. Key and headers
        /// together have at most 64 KiB.
        pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
            self.$draft.policy.headers.push((name.into(), value.into()));
            self
        }

        /// Sets how long the message may wait, counted from when it is due (its delay does not
        /// count). A message that waited longer is not delivered. At most 49 days.
        pub fn ttl(mut self, ttl: std::time::Duration) -> Self {
            self.$draft.policy.ttl = Some(ttl);
            self
        }

        /// Sets how long after the insert the message becomes due: not earlier, and at most a second
        /// later while the broker is there. At most 366 days.
        pub fn delay(mut self, delay: std::time::Duration) -> Self {
            self.$draft.policy.delay = Some(delay);
            self
        }

        /// Sets whether the broker keeps the message on disk; true otherwise.
        ///
        /// With `false` a restart of the broker can lose it, unless its queue keeps everything on
        /// disk anyway, as quorum queues do.
        pub fn durable(mut self, durable: bool) -> Self {
            self.$draft.policy.transient = !durable;
            self
        }
    };
}
pub(crate) use policy_setters;
