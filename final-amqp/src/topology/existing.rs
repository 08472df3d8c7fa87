//! Whether a queue that exists with other arguments is a stream.
//!
//! Input: how the queue was declared, and RabbitMQ's refusal, which names one argument that differs. Output: the
//! answer, or how to declare the queue to learn more: with the value that it has.
//!
//! A stream gives its messages to each consumer anew, and takes none back.

use lapin::types::{AMQPValue, FieldTable, ShortString};

use super::wanted::Wanted;
use crate::{names, refusal::is_inequivalent};

/// What a refusal tells of a queue.
#[derive(Debug, PartialEq)]
pub(super) enum Existing {
    Stream,
    /// It is no stream.
    Queue,
    /// Not known. To declare it in this way tells more.
    Unknown(FieldTable),
}

/// Reads the refusal of a queue that was declared with these arguments.
pub(super) fn existing(arguments: &FieldTable, refusal: &str) -> Existing {
    if is_stream(refusal) {
        return Existing::Stream;
    }
    let Some(name) = between(refusal, "inequivalent arg '", "'") else {
        return Existing::Queue;
    };
    let current = refusal.rsplit_once("but current is ").map(|(_, end)| end);
    let mut arguments = arguments.inner().clone();
    // Only these are arguments of a stream, or of ours, and are compared before the type.
    match (name, current) {
        ("x-max-length-bytes", Some(current)) => {
            let Some(Ok(value)) = between(current, "value '", "'").map(str::parse) else {
                return Existing::Queue;
            };
            arguments.insert(ShortString::from(name), AMQPValue::LongLongInt(value));
        }
        ("x-max-age", Some(current)) => {
            let Some(value) = between(current, "'", "'") else {
                return Existing::Queue;
            };
            arguments.insert(ShortString::from(name), AMQPValue::LongString(value.into()));
        }
        (names::DEAD_LETTER_ARGUMENT, Some(current)) if current.starts_with("none") => {
            arguments.remove(name);
        }
        _ => return Existing::Queue,
    }
    Existing::Unknown(arguments.into())
}

/// Whether this refusal says that the queue is a stream.
pub(super) fn is_stream(refusal: &str) -> bool {
    is_inequivalent(refusal)
        && between(refusal, "inequivalent arg '", "'") == Some(names::QUEUE_TYPE_ARGUMENT)
        && refusal
            .rsplit_once("but current is ")
            .is_some_and(|(_, current)| current.contains("'stream'"))
}

impl Wanted {
    /// The same queue with other arguments.
    pub(super) fn with(&self, arguments: FieldTable) -> Self {
        match self {
            Self::Queue { name, .. } => Self::Queue {
                name: name.clone(),
                arguments,
            },
            Self::Exchange { .. } | Self::Binding { .. } => self.clone(),
        }
    }
}

fn between<'t>(text: &'t str, before: &str, after: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(before)?;
    Some(rest.split_once(after)?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(arguments: &[(&str, AMQPValue)]) -> FieldTable {
        let mut table = FieldTable::default();
        for (name, value) in arguments {
            table.insert((*name).into(), value.clone());
        }
        table
    }

    /// The texts are RabbitMQ's.
    #[test]
    fn a_stream_is_known_by_its_refusal_and_other_queues_are_not_taken_for_one() {
        let quorum = ("x-queue-type", AMQPValue::LongString("quorum".into()));
        let letters = (
            "x-dead-letter-exchange",
            AMQPValue::LongString("shop_exchange_dlx".into()),
        );
        let ours = table(&[letters.clone(), quorum.clone()]);
        let refused = |argument: &str, and: &str| {
            let text = format!(
                "PRECONDITION_FAILED - inequivalent arg '{argument}' for queue 'stream' in vhost '/': {and}"
            );
            existing(&ours, &text)
        };

        assert_eq!(
            refused("x-queue-type", "received 'quorum' but current is 'stream'"),
            Existing::Stream
        );
        assert_eq!(
            refused(
                "x-queue-type",
                "received none but current is the value 'stream' of type 'longstr'"
            ),
            Existing::Stream
        );
        for (argument, and) in [
            ("x-queue-type", "received 'quorum' but current is 'classic'"),
            (
                "x-max-priority",
                "received none but current is the value '5' of type 'long'",
            ),
            ("durable", "received 'true' but current is 'false'"),
            (
                "x-dead-letter-exchange",
                "received the value 'a' of type 'longstr' but current is the value 'stream' of type 'longstr'",
            ),
        ] {
            assert_eq!(refused(argument, and), Existing::Queue, "{argument}");
        }
        let size = "received none but current is the value '1000' of type 'long'";
        let with_size = table(&[
            letters,
            quorum.clone(),
            ("x-max-length-bytes", AMQPValue::LongLongInt(1000)),
        ]);
        assert_eq!(
            refused("x-max-length-bytes", size),
            Existing::Unknown(with_size)
        );
        let none = "received the value 'a' of type 'longstr' but current is none";
        assert_eq!(
            refused("x-dead-letter-exchange", none),
            Existing::Unknown(table(&[quorum]))
        );
    }
}
