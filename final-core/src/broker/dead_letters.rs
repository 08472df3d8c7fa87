//! Dead letters: messages that a service could not handle, and what can be done with them.
//!
//! Input: a [`Cause`], by which the bus says why a message is dead; later a [`DeadLetterFilter`]. State: the
//! broker keeps each dead message as a [`DeadLetter`]. Output: [`DeadLetters`] lists, replays and discards
//! them, in the same way for every broker that implements it.

use std::{
    fmt,
    str::FromStr,
    time::{Duration, SystemTime},
};

use futures::future::BoxFuture;

use crate::{
    Error, Message, MessageId,
    filter::{FilterWords, word_methods},
};

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
    /// Its place in the list, to go on after it; `None` if its broker gives none.
    pub cursor: Option<LetterCursor>,
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
            cursor: None,
        }
    }

    /// Gives it its place in the list, for brokers.
    pub fn with_cursor(mut self, cursor: LetterCursor) -> Self {
        self.cursor = Some(cursor);
        self
    }

    /// Replaces the message by the reason why what is stored cannot be read as one, for brokers.
    pub fn unreadable(mut self, why: impl Into<String>) -> Self {
        self.message = Err(why.into());
        self
    }
}

/// A place in a list of dead letters, as text for a program that goes on later.
///
/// ```
/// # use final_core::broker::LetterCursor;
/// let cursor = LetterCursor::own(17);
/// assert_eq!(cursor.to_string().parse(), Ok(cursor));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LetterCursor {
    /// Letters of the broker itself come before those that were collected from it.
    pub(crate) is_collected: bool,
    pub(crate) number: i64,
}

impl LetterCursor {
    /// The place of a letter that the broker itself keeps under this number. Later letters have higher numbers.
    #[must_use]
    pub fn own(number: i64) -> Self {
        Self {
            is_collected: false,
            number,
        }
    }

    /// The place of a letter that was collected from the broker, by the number of its row.
    #[must_use]
    pub fn collected(number: i64) -> Self {
        Self {
            is_collected: true,
            number,
        }
    }
}

impl fmt::Display for LetterCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = if self.is_collected { "c" } else { "o" };
        write!(f, "{source}{}", self.number)
    }
}

impl FromStr for LetterCursor {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |text: &str| text.parse().ok();
        let own = text.strip_prefix('o').and_then(number).map(Self::own);
        let collected = || text.strip_prefix('c').and_then(number);
        own.or_else(|| collected().map(Self::collected))
            .ok_or("this is no cursor of a list of dead letters; take one from a page before")
    }
}

/// Which dead letters are meant: all of a service, unless narrowed.
///
/// ```
/// # use final_core::broker::DeadLetterFilter;
/// let timeouts = DeadLetterFilter::all().topic("order.placed").reason("timed out").limit(100);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use]
pub struct DeadLetterFilter {
    pub(crate) words: FilterWords,
    pub(crate) after: Option<LetterCursor>,
}

impl From<FilterWords> for DeadLetterFilter {
    fn from(words: FilterWords) -> Self {
        Self {
            words: words.limited(),
            after: None,
        }
    }
}

impl DeadLetterFilter {
    /// All dead letters, the oldest first.
    pub fn all() -> Self {
        Self::default()
    }

    word_methods!("dead letters", reason: "reason", time: "died", clock: "broker");

    /// Only dead letters after this place of the list, for the next page.
    pub fn after(mut self, cursor: LetterCursor) -> Self {
        self.after = Some(cursor);
        self
    }

    /// How many are meant at most; for brokers.
    pub fn at_most(&self) -> u64 {
        self.words.limit.map_or(u64::MAX, u64::from)
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
        let FilterWords {
            topic,
            key,
            reason,
            ids,
            older_than,
            before,
            limit: _,
        } = &self.words;
        let message_key = || letter.message.as_ref().ok().and_then(Message::key);
        let died_at = || SystemTime::now().checked_sub(letter.age);
        topic.as_ref().is_none_or(|topic| *topic == letter.topic)
            && reason
                .as_ref()
                .is_none_or(|part| letter.reason.contains(part))
            && ids.as_ref().is_none_or(|ids| ids.contains(&letter.id))
            && older_than.is_none_or(|age| letter.age >= age)
            && key
                .as_ref()
                .is_none_or(|key| message_key() == Some(key.as_str()))
            && before.is_none_or(|moment| died_at().is_none_or(|died_at| died_at <= moment))
            && self
                .after
                .is_none_or(|after| letter.cursor.is_none_or(|cursor| cursor > after))
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
    /// Lists dead letters of a service, oldest first. A broker may give fewer than are meant: those whose messages are
    /// in a database give 1,000 at most, and as many as have 16 MiB together. The list goes on
    /// [`after`](DeadLetterFilter::after) its last letter's cursor, until it is empty.
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
