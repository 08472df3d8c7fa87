//! Dead letters: messages that a service could not handle, and what can be done with them.
//!
//! Input: a [`Cause`], by which the bus says why a message is dead; later a [`DeadLetterFilter`]. State: the
//! broker keeps each dead message as a [`DeadLetter`]. Output: [`DeadLetters`] lists, replays and discards
//! them, in the same way for every broker that implements it.

use std::time::Duration;

use futures::future::BoxFuture;

use crate::{Error, Message, MessageId};

/// Why a message goes to the dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cause {
    /// What went wrong: the last error of the handler, `expired`, or why no handler got the message.
    /// At most [`MAX_REASON`](Self::MAX_REASON) bytes.
    pub reason: String,
    /// How often the handler was tried.
    pub attempts: u32,
}

impl Cause {
    /// The longest reason that travels with a dead letter, in bytes.
    pub const MAX_REASON: usize = 1024;

    /// Makes a cause. A longer reason is cut to the limit, at the border of a character.
    pub fn new(reason: impl Into<String>, attempts: u32) -> Self {
        let mut reason = reason.into();
        if reason.len() > Self::MAX_REASON {
            let end = (0..=Self::MAX_REASON)
                .rev()
                .find(|at| reason.is_char_boundary(*at))
                .unwrap_or(0);
            reason.truncate(end);
        }
        Self { reason, attempts }
    }
}

/// A message that a service could not handle, as its broker keeps it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DeadLetter {
    /// The service that could not handle it.
    pub service: String,
    /// The message's id.
    pub id: MessageId,
    /// The topic it was published to.
    pub topic: String,
    /// The message as it was published; or why what is stored cannot be read as one.
    pub message: Result<Message, String>,
    /// What went wrong: the last error of the handler, `expired`, or why no handler got the message.
    pub reason: String,
    /// How often the handler was tried.
    pub attempts: u32,
    /// How long it has been dead.
    pub age: Duration,
}

impl DeadLetter {
    /// Makes the dead letter of a message, for brokers.
    pub fn new(service: impl Into<String>, message: Message, cause: Cause, age: Duration) -> Self {
        Self {
            service: service.into(),
            id: message.id(),
            topic: message.topic().to_owned(),
            message: Ok(message),
            reason: cause.reason,
            attempts: cause.attempts,
            age,
        }
    }

    /// Replaces the message by the reason why what is stored cannot be read as one, for brokers.
    pub fn unreadable(mut self, why: impl Into<String>) -> Self {
        self.message = Err(why.into());
        self
    }
}

/// Which dead letters are meant: all of a service, unless narrowed.
///
/// ```
/// # use final_core::broker::DeadLetterFilter;
/// let timeouts = DeadLetterFilter::all().topic("order.placed").reason("timed out").limit(100);
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct DeadLetterFilter {
    pub(crate) topic: Option<String>,
    pub(crate) reason: Option<String>,
    pub(crate) ids: Option<Vec<MessageId>>,
    pub(crate) older_than: Option<Duration>,
    pub(crate) limit: Option<u32>,
}

impl DeadLetterFilter {
    /// All dead letters.
    pub fn all() -> Self {
        Self::default()
    }

    /// Only dead letters of a topic.
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.topic = Some(topic.into());
        self
    }

    /// Only dead letters whose reason contains this text, as it is written.
    pub fn reason(mut self, part: impl Into<String>) -> Self {
        self.reason = Some(part.into());
        self
    }

    /// Only that message.
    pub fn id(self, id: MessageId) -> Self {
        self.ids([id])
    }

    /// Only those messages. The first 512 ids count; further ones are ignored.
    pub fn ids(mut self, ids: impl IntoIterator<Item = MessageId>) -> Self {
        self.ids = Some(ids.into_iter().take(512).collect());
        self
    }

    /// Only dead letters that have been dead for at least this long.
    pub fn older_than(mut self, age: Duration) -> Self {
        self.older_than = Some(age);
        self
    }

    /// This many at most, the oldest first.
    pub fn limit(mut self, letters: u32) -> Self {
        self.limit = Some(letters);
        self
    }

    /// How many are meant at most; for brokers.
    pub fn at_most(&self) -> u64 {
        self.limit.map_or(u64::MAX, u64::from)
    }

    /// Whether a dead letter is meant, the limit aside; for brokers.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use final_core::{Message, broker::{Cause, DeadLetter, DeadLetterFilter}};
    /// # let message = Message::new("order.placed", "payload");
    /// let letter = DeadLetter::new("shop", message, Cause::new("timed out", 4), Duration::ZERO);
    ///
    /// assert!(DeadLetterFilter::all().reason("timed").matches(&letter));
    /// assert!(!DeadLetterFilter::all().topic("order.cancelled").matches(&letter));
    /// ```
    pub fn matches(&self, letter: &DeadLetter) -> bool {
        let Self {
            topic,
            reason,
            ids,
            older_than,
            limit: _,
        } = self;
        topic.as_ref().is_none_or(|topic| *topic == letter.topic)
            && reason
                .as_ref()
                .is_none_or(|part| letter.reason.contains(part))
            && ids.as_ref().is_none_or(|ids| ids.contains(&letter.id))
            && older_than.is_none_or(|age| letter.age >= age)
    }
}

/// The dead letters of a broker's services.
///
/// [`SqlBroker`](crate::SqlBroker) and [`MemoryBroker`](crate::MemoryBroker) implement it, so that a
/// tool that works on dead letters need not know the broker.
///
/// ```
/// use final_core::{Error, MemoryBroker, broker::{DeadLetterFilter, DeadLetters}};
///
/// async fn retry_timeouts(dead_letters: &dyn DeadLetters) -> Result<u64, Error> {
///     let timeouts = DeadLetterFilter::all().reason("timed out");
///     for letter in dead_letters.list("shop", &timeouts).await? {
///         println!("{} {}: {}", letter.topic, letter.id, letter.reason);
///     }
///     dead_letters.replay("shop", &timeouts).await
/// }
///
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// assert_eq!(retry_timeouts(&MemoryBroker::new()).await?, 0);
/// # Ok::<_, Error>(())
/// # })?;
/// # Ok::<_, final_core::BoxError>(())
/// ```
///
/// # Cancel safety
///
/// Dropping the future of [`list`](Self::list) has no effect. Dropping one of the others may leave some
/// of the dead letters done and some not.
pub trait DeadLetters: Send + Sync {
    /// Lists dead letters of a service, oldest first. A broker may give 1,000 at most.
    ///
    /// # Errors
    ///
    /// Fails if the broker cannot be asked.
    fn list<'a>(
        &'a self,
        service: &'a str,
        filter: &'a DeadLetterFilter,
    ) -> BoxFuture<'a, Result<Vec<DeadLetter>, Error>>;

    /// Gives dead letters back to their service, which alone gets them again, with the same ids.
    /// Returns how many there were.
    ///
    /// # Errors
    ///
    /// Fails if the broker cannot be asked; those already given back stay so.
    fn replay<'a>(
        &'a self,
        service: &'a str,
        filter: &'a DeadLetterFilter,
    ) -> BoxFuture<'a, Result<u64, Error>>;

    /// Deletes dead letters of a service. Returns how many there were.
    ///
    /// # Errors
    ///
    /// Fails if the broker cannot be asked; those already deleted stay so.
    fn discard<'a>(
        &'a self,
        service: &'a str,
        filter: &'a DeadLetterFilter,
    ) -> BoxFuture<'a, Result<u64, Error>>;
}
