//! Every name on the wire, in one place. The Go predecessor uses the same names.
//!
//! Input: a service's queue, or a text. Output: names of headers, arguments, exchanges and queues, and short
//! strings of AMQP.

use lapin::types::{ShortString, ShortStringError};

/// Header: the topic, by which the receiver routes.
pub(crate) const TOPIC: &str = "x-final-msg-topic";
/// Header: the message's key.
pub(crate) const KEY: &str = "x-final-key";
/// Header: what tells the message from all others in flight, where its id does not.
pub(crate) const TAG: &str = "x-final-tag";
/// Header of a dead letter: why it is one.
pub(crate) const REASON: &str = "x-final-reason";
/// In a copy that has taken the place of a dead letter: the exchange that the letter came by.
pub(crate) const CAME_BY: &str = "x-final-came-by";
/// In such a copy: the routing key that the letter came with.
pub(crate) const CAME_WITH: &str = "x-final-came-with";
/// Header of a dead letter: how often the handler was tried.
pub(crate) const ATTEMPTS: &str = "x-final-attempts";
/// Header of a dead letter: which service dead-lettered it.
pub(crate) const SERVICE: &str = "x-final-service";
/// Header of a dead letter: when, in seconds since 1970.
pub(crate) const TIME: &str = "x-final-time";

/// Queue argument: the exchange for messages that the broker itself drops from the queue.
pub(crate) const DEAD_LETTER_ARGUMENT: &str = "x-dead-letter-exchange";
/// Queue argument: the kind of queue.
pub(crate) const QUEUE_TYPE_ARGUMENT: &str = "x-queue-type";

/// The longest topic, in bytes. A topic is the name of an exchange.
pub(crate) const MAX_TOPIC: usize = 255;

/// The longest name of a service's queue. The names of its dead letters are longer and must fit too.
pub(crate) const MAX_QUEUE: usize = 255 - "_exchange_dlx".len();

/// The exchange for the dead letters of a service's queue.
pub(crate) fn dead_letter_exchange(queue: &str) -> String {
    format!("{queue}_exchange_dlx")
}

/// The queue that keeps those dead letters.
pub(crate) fn dead_letter_queue(queue: &str) -> String {
    format!("{queue}_dlx")
}

/// A text as a short string of AMQP, of at most 255 bytes. The `From` of lapin panics above that.
pub(crate) fn short(text: &str) -> Result<ShortString, ShortStringError> {
    ShortString::try_new(text)
}
