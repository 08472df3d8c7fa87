//! Why a payload could not be taken.

use std::any::type_name;

use crate::{HandlerError, Message};

/// A payload that is not what the handler expects.
///
/// It becomes a log line and a header of the dead letter, so its text is short whatever was sent, and
/// names no value of the payload.
#[derive(Debug, thiserror::Error)]
#[error("the payload ({size} bytes, {content_type:?}) is not {format} for `{wanted}`: {reason}")]
pub(super) struct Undecodable {
    size: usize,
    content_type: String,
    format: &'static str,
    wanted: &'static str,
    reason: String,
}

impl Undecodable {
    /// Refuses a message for good, as its payload is not a `T` in this format.
    pub(super) fn reject<T>(message: &Message, format: &'static str, reason: &str) -> HandlerError {
        HandlerError::permanent(Self {
            size: message.payload().len(),
            content_type: message.content_type().chars().take(64).collect(),
            format,
            wanted: type_name::<T>(),
            reason: without_value(reason).chars().take(256).collect(),
        })
    }
}

/// Takes out the value that serde repeats in its texts, which may be a secret and may be huge:
/// ``invalid type: string "4111…", expected u64`` says enough without it.
pub(super) fn without_value(text: &str) -> String {
    const BEFORE_VALUE: [&str; 4] = [
        "invalid type: ",
        "invalid value: ",
        "unknown variant ",
        "unknown field ",
    ];
    if !BEFORE_VALUE.iter().any(|start| text.starts_with(start)) {
        return text.to_owned();
    }
    let Some(quote) = text.find(['"', '`']) else {
        return text.to_owned();
    };
    // The value may contain the words as well, so only the text behind the last of them is serde's own.
    // Where serde expects nothing ("there are no fields"), all of them are in the value.
    let rest = text.rfind(", expected ").filter(|&at| at > quote);
    let rest = rest.filter(|_| !text.contains(", there are no "));
    let rest = rest.map_or("", |at| &text[at..]);
    format!("{}{rest}", text[..quote].trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reason_names_no_value() {
        #[track_caller]
        fn check(text: &str, told: &str) {
            assert_eq!(without_value(text), told);
        }

        check(
            "invalid type: string \"4111, expected 1\", expected u64",
            "invalid type: string, expected u64",
        );
        check(
            "invalid value: integer `300`, expected u8 at line 1 column 3",
            "invalid value: integer, expected u8 at line 1 column 3",
        );
        check(
            "unknown variant `x`, expected `A` or `B`",
            "unknown variant, expected `A` or `B`",
        );
        check(
            "unknown variant `x`, there are no variants",
            "unknown variant",
        );
        check(
            "unknown field `a, expected 4111`, there are no fields at line 1 column 9",
            "unknown field",
        );
        check(
            "invalid type: map, expected a string",
            "invalid type: map, expected a string",
        );
        check("missing field `id`", "missing field `id`");
    }
}
