//! The detour: how a message waits outside of its service's queue, and comes back to that service alone.
//!
//! Input: a delivered message that has to wait for long, or a dead letter that cannot be stored yet. State: none
//! here; the message stands in the outbox or in the broker's tables. Output: the message again, later, with the
//! attempts that were made so far.
//!
//! ```text
//!   Delivery ── Postponing::Settlement ─▶ Settlement::Postpone ─▶ the broker's tables ── due ─▶ Delivery
//!       └────── Postponing::Outbox ─▶ INSERT, COMMIT ─▶ Settlement::Moved
//!                                         └─ due ─▶ Outgoing with a Detoured ─▶ the service's queue ─▶ Delivery
//! ```
//!
//! A process that dies between the COMMIT and the ack repeats the message, with the same id.

use std::{fmt, time::Duration};

use bytes::Bytes;

use super::Cause;
use crate::Message;

/// How a message can wait outside of the service's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Postponing {
    /// Not at all. It waits in memory, as a delivery in flight.
    Never,
    /// The settler takes [`Settlement::Postpone`](super::Settlement::Postpone).
    Settlement,
    /// The bus writes it into its outbox. The link sends it back by what [`Outgoing`](super::Outgoing) has as its
    /// [`Detoured`], and makes its [envelope](crate::received::Origin::envelope).
    Outbox,
}

/// What a broker is told about a message that it is to deliver again later, to this service alone.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Postponement {
    /// How long until it is due.
    pub delay: Duration,
    /// How often the handler was tried. The next delivery has this with
    /// [`Message::with_attempt`], plus one.
    pub attempts: u32,
    /// How long it has waited for a handler, the delay included. The next delivery has this with
    /// [`Message::with_waited`].
    pub waited: Duration,
}

impl Postponement {
    /// A message that is due after `delay`, was tried so often, and has waited for a handler so long, the delay included.
    pub fn new(delay: Duration, attempts: u32, waited: Duration) -> Self {
        Self {
            delay,
            attempts,
            waited,
        }
    }
}

/// A message that has left the service's queue, as it stands in the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Detoured {
    /// Everything but the payload, as its broker has written it.
    pub envelope: String,
    /// The payload as it came.
    pub payload: Bytes,
    /// Where it goes.
    pub to: DetourTo,
}

/// Where a message goes after its detour.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DetourTo {
    /// Back to the service's queue.
    #[non_exhaustive]
    Queue {
        /// How often the handler was tried.
        attempts: u32,
        /// How long the message has waited for a handler.
        waited: Duration,
    },
    /// To the service's dead letters, for this reason.
    DeadLetters(Cause),
}

/// The topics of the records. Each kind has its own, so that one of them can be parked while the other goes on.
/// An older release, which does not know detours, finds no queue for them and parks them.
pub(crate) const TO_QUEUE: &str = "x-final-detour";
const TO_DEAD_LETTERS: &str = "x-final-detour-dead";

/// The headers of the records. No user can publish headers with such names.
const ENVELOPE: &str = "x-final-envelope";
const ATTEMPTS: &str = "x-final-tried";
const WAITED: &str = "x-final-waited";
const REASON: &str = "x-final-reason";

/// The headers of the record that gives a dead letter back to its service: these two texts with the envelope between
/// them. The attempts begin anew.
pub(crate) const REPLAYED: (&str, &str) = (
    r#"{"x-final-envelope":""#,
    r#"","x-final-tried":"0","x-final-waited":"0"}"#,
);

impl Detoured {
    /// Puts the parts together.
    pub fn new(envelope: String, payload: Bytes, to: DetourTo) -> Self {
        Self {
            envelope,
            payload,
            to,
        }
    }

    pub(crate) fn to_queue(envelope: String, payload: Bytes, why: &Postponement) -> Self {
        let (attempts, waited) = (why.attempts, why.waited);
        Self::new(envelope, payload, DetourTo::Queue { attempts, waited })
    }

    /// The message of its record. It has an id of its own, because the outbox may have a record with the id of
    /// the message: a service can receive what it has published.
    pub(crate) fn into_message(self) -> Message {
        let (topic, attempts) = match &self.to {
            DetourTo::Queue { attempts, .. } => (TO_QUEUE, *attempts),
            DetourTo::DeadLetters(cause) => (TO_DEAD_LETTERS, cause.attempts),
        };
        let message = Message::new(topic, self.payload)
            .with_header(ENVELOPE, self.envelope)
            .with_header(ATTEMPTS, attempts.to_string());
        match self.to {
            DetourTo::Queue { waited, .. } => {
                message.with_header(WAITED, waited.as_millis().to_string())
            }
            // PostgreSQL stores no NUL, and JSON writes it as an escape.
            DetourTo::DeadLetters(cause) => message.with_header(REASON, cause.reason),
        }
    }

    /// Whether a message is the record of a detour.
    pub(crate) fn is_in(message: &Message) -> bool {
        message.headers().get(ENVELOPE).is_some()
    }

    /// Whether a message is the record of a dead letter.
    pub(crate) fn is_dead_letter(message: &Message) -> bool {
        Self::is_in(message) && message.headers().get(REASON).is_some()
    }

    /// Reads what [`into_message`](Self::into_message) wrote.
    pub(crate) fn read(message: &Message) -> Option<Self> {
        let headers = message.headers();
        let envelope = headers.get(ENVELOPE)?.to_owned();
        let (attempts, waited) = progress(headers);
        let to = match headers.get(REASON) {
            Some(reason) => DetourTo::DeadLetters(Cause::new(reason, attempts)),
            None => DetourTo::Queue { attempts, waited },
        };
        Some(Self::new(envelope, message.payload().clone(), to))
    }
}

/// The attempts and the wait that headers tell of. What is missing or unreadable counts as none.
fn progress(headers: &crate::Headers) -> (u32, Duration) {
    let number = |name| headers.get(name).and_then(|text| text.parse::<u64>().ok());
    let attempts = number(ATTEMPTS).and_then(|attempts| u32::try_from(attempts).ok());
    let waited = number(WAITED).map(Duration::from_millis);
    (attempts.unwrap_or_default(), waited.unwrap_or_default())
}

/// Notes beside a message's own headers how far it is, for a broker that stores them as they are.
pub(crate) fn note(headers: &crate::Headers, why: &Postponement) -> crate::Headers {
    let mut noted = headers.clone();
    noted.insert(ATTEMPTS, why.attempts.to_string());
    noted.insert(WAITED, why.waited.as_millis().to_string());
    noted
}

/// Takes those notes out of a message again.
pub(crate) fn read_note(message: Message) -> Message {
    let headers = message.headers();
    if headers.get(ATTEMPTS).is_none() && headers.get(WAITED).is_none() {
        return message;
    }
    let (attempts, waited) = progress(headers);
    let own = headers
        .iter()
        .filter(|(name, _)| ![ATTEMPTS, WAITED].contains(name));
    let own = own.collect();
    message
        .with_headers(own)
        .with_attempt(attempts.saturating_add(1))
        .with_waited(waited)
}

/// Where a link puts dead letters that it cannot store now. They leave the queue, and the link gets them again as
/// [`Outgoing`](super::Outgoing) messages.
pub trait Detour: Send + Sync + 'static {
    /// Takes a message. `answer` is called once it is stored, or with `false` if it cannot be stored; it is
    /// dropped if the bus ends before. Never blocks.
    fn put(&self, detoured: Detoured, answer: Box<dyn FnOnce(bool) + Send + Sync>);
}

impl fmt::Debug for dyn Detour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Detour")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Headers, MessageId};

    fn both() -> [Detoured; 2] {
        let why = Postponement::new(Duration::ZERO, 7, Duration::from_millis(1_500));
        let (envelope, payload) = ("AAEC".to_owned(), Bytes::from_static(b"\0payload\xff"));
        let letter = DetourTo::DeadLetters(Cause::new("out of\0stock ✓", 4));
        [
            Detoured::to_queue(envelope.clone(), payload.clone(), &why),
            Detoured::new(envelope, payload, letter),
        ]
    }

    #[test]
    fn a_record_tells_again_what_was_written() {
        for detoured in both() {
            let message = detoured.clone().into_message();

            assert!(Detoured::is_in(&message));
            assert_eq!(Detoured::read(&message), Some(detoured));
        }
    }

    #[test]
    fn the_headers_of_a_replayed_letter_are_those_of_a_message_that_was_not_tried() {
        let (before, after) = REPLAYED;
        let headers = Headers::from_json(Some(&format!("{before}AA+/=={after}"))).unwrap();
        let record = Message::new(TO_QUEUE, "payload").with_headers(headers);

        let why = Postponement::new(Duration::ZERO, 0, Duration::ZERO);
        let expected = Detoured::to_queue("AA+/==".to_owned(), "payload".into(), &why);
        assert_eq!(Detoured::read(&record), Some(expected));
    }

    #[test]
    fn a_message_of_a_user_is_no_detour() {
        let message = Message::new(TO_QUEUE, "payload").with_header("tenant", "acme");

        assert!(!Detoured::is_in(&message));
        assert_eq!(Detoured::read(&message), None);
    }

    #[test]
    fn notes_beside_headers_are_taken_out_again() {
        let why = Postponement::new(Duration::ZERO, 3, Duration::from_secs(9));
        let headers = Headers::from_iter([("tenant", "acme")]);
        let noted = Message::identified(MessageId::new(), "topic", "payload")
            .with_headers(note(&headers, &why));

        let message = read_note(noted);
        assert_eq!(message.headers(), &headers);
        assert_eq!((message.attempt(), message.waited()), (4, why.waited));
    }
}
