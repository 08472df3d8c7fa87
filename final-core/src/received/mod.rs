//! What came with a delivery besides payload, topic, key and headers.
//!
//! Input: an [`Origin`], which a broker gives to each message that it delivers. Output: a [`Received`], made
//! only when a handler asks for it. A message without an origin tells what the message itself knows.

mod owner;
mod value;

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, SystemTime},
};

pub use self::{owner::HeaderOwner, value::HeaderValue};
use crate::{FromMessage, HandlerError, Message};

/// Extracts what came with the delivery: the producer's properties, where the message was published, whether
/// it was delivered before, and all headers with their types.
///
/// What a broker does not know is `None`, `false` or empty. Over RabbitMQ all of it can be there. The log and
/// the in-process broker know the id, the content type, the headers (as texts); the in-process broker also
/// counts deliveries.
///
/// A text that is not UTF-8 is left out. Making this costs some allocations, so take it only where it is used.
///
/// ```
/// use final_core::received::{HeaderValue, Received};
///
/// async fn on_reply(received: Received) {
///     if let Some(id) = &received.correlation_id {
///         println!("the answer to {id}");
///     }
///     if let Some(HeaderValue::List(deaths)) = received.headers.get("x-death") {
///         println!("dead-lettered {} times", deaths.len());
///     }
/// }
/// # let _: final_core::Router = final_core::Router::new().route("reply", on_reply);
/// ```
///
/// In a test, give the message what it came with:
///
/// ```
/// # use std::sync::Arc;
/// # use final_core::{Message, received::Received};
/// let mut received = Received::default();
/// received.correlation_id = Some("42".to_owned());
/// let message = Message::new("reply", "payload").with_origin(Arc::new(received));
///
/// assert_eq!(message.received().correlation_id.as_deref(), Some("42"));
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Received {
    /// The id as the producer wrote it, which need not be a UUID.
    pub message_id: Option<String>,
    /// Which request this message answers.
    pub correlation_id: Option<String>,
    /// Where an answer is expected. A bus writes the name of its service here.
    pub reply_to: Option<String>,
    /// The property `type`.
    pub kind: Option<String>,
    /// The content type as the producer wrote it.
    pub content_type: Option<String>,
    /// The content encoding: `gzip`, `utf-8`, …
    pub content_encoding: Option<String>,
    /// When the producer made the message, by its own clock, to the second.
    pub timestamp: Option<SystemTime>,
    /// The priority.
    pub priority: Option<u8>,
    /// How long the message may wait in a queue.
    pub expiration: Option<Duration>,
    /// The application that made the message.
    pub app_id: Option<String>,
    /// The user that published the message. RabbitMQ has checked it. Not known after the message has left the queue for
    /// a later retry.
    pub user_id: Option<String>,
    /// The exchange to which the message was published; empty for the default exchange.
    pub exchange: Option<String>,
    /// The routing key with which it was published.
    pub routing_key: Option<String>,
    /// Whether the message may have been delivered before, to this process or to another one.
    ///
    /// A message that was delivered may have waited in a buffer, so this does not say that a handler has
    /// seen it. The log does not know it.
    pub redelivered: bool,
    /// How often the message was given back before: `x-delivery-count` of a quorum queue. A classic queue
    /// does not count.
    pub delivery_count: Option<u64>,
    /// All headers with their types, also those of the broker (`x-death`), and without those of the
    /// bus (`x-final-…`). A name that is not UTF-8 is left out.
    pub headers: BTreeMap<String, HeaderValue>,
}

/// Where a message comes from. A broker gives one to a message with
/// [`Message::with_origin`](crate::Message::with_origin).
///
/// A [`Received`] is one. A broker for which a `Received` costs something implements it for what the broker
/// has in memory anyway.
pub trait Origin: Send + Sync + 'static {
    /// Makes the description. Called each time that a handler asks.
    fn received(&self) -> Received;

    /// A text from which the broker can make this message again, together with the payload. `None` if there is no such
    /// text, as by default. See
    /// [`Postponing::Outbox`](crate::broker::Postponing::Outbox).
    fn envelope(&self, _message: &Message) -> Option<String> {
        None
    }
}

impl Origin for Received {
    fn received(&self) -> Received {
        self.clone()
    }
}

impl fmt::Debug for dyn Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Origin")
    }
}

impl Received {
    /// What a message without an origin knows.
    pub(crate) fn of(message: &Message) -> Self {
        let headers = message.headers().iter();
        Self {
            message_id: message.is_identified().then(|| message.id().to_string()),
            content_type: Some(message.content_type().to_owned()),
            content_encoding: message.content_encoding().map(str::to_owned),
            headers: headers
                .map(|(name, value)| (name.to_owned(), HeaderValue::Text(value.to_owned())))
                .collect(),
            ..Self::default()
        }
    }
}

impl<S: Sync> FromMessage<S> for Received {
    async fn from_message(message: &Message, _: &S) -> Result<Self, HandlerError> {
        Ok(message.received())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_message_without_an_origin_tells_what_it_knows() {
        let message = Message::identified(crate::MessageId::new(), "topic", "")
            .with_header("tenant", "acme")
            .with_content_encoding("gzip");

        let received = message.received();

        assert_eq!(received.message_id, Some(message.id().to_string()));
        assert_eq!(
            received.content_type.as_deref(),
            Some("application/msgpack")
        );
        assert_eq!(received.content_encoding.as_deref(), Some("gzip"));
        assert_eq!(
            received.headers.get("tenant"),
            Some(&HeaderValue::Text("acme".to_owned()))
        );
        assert!(!received.redelivered && received.exchange.is_none());
    }

    #[test]
    fn an_origin_stays_with_the_message_through_its_attempts() {
        let received = Received {
            redelivered: true,
            ..Received::default()
        };
        let message = Message::new("topic", "").with_origin(Arc::new(received));

        let tried = message
            .clone()
            .with_attempt(3)
            .with_id(crate::MessageId::new());

        assert!(message.received().redelivered && tried.received().redelivered);
    }
}
