//! JSON from outside: read with the place of its mistake, and checked whether every reader can read it.
//!
//! Input: bytes. Output: a value, or a [`Flaw`].

use std::fmt;

use final_core::payload::check_json;
use serde::Deserialize;

/// The longest part of a parser's text: it may repeat what it has read.
const MAX_TEXT: usize = 200;

/// What is wrong with a text, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flaw {
    what: String,
    line: usize,
    column: usize,
}

impl Flaw {
    fn of(error: &serde_json::Error) -> Self {
        let (line, column) = (error.line(), error.column());
        let text = error.to_string();
        let place = format!(" at line {line} column {column}");
        let what = text.strip_suffix(&place).unwrap_or(&text);
        Self {
            what: what.chars().take(MAX_TEXT).collect(),
            line,
            column,
        }
    }

    /// The same flaw in the line of a larger text.
    pub(super) fn in_line(self, line: usize) -> Self {
        Self { line, ..self }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, line, column } = self;
        match line {
            0 => f.write_str(what),
            _ => write!(f, "line {line}, column {column}: {what}"),
        }
    }
}

/// Reads a value.
pub(super) fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Flaw> {
    serde_json::from_slice(bytes).map_err(|error| Flaw::of(&error))
}

/// Checks that a text is JSON that every reader can read: not too deep, no half characters (`"\ud800"`), no numbers
/// beyond what a float holds. One payload that a client's parser refuses would otherwise make it refuse a whole answer.
pub(crate) fn check(bytes: &[u8]) -> Result<(), Flaw> {
    check_json(bytes).map_err(|error| Flaw::of(&error))
}

#[cfg(test)]
mod tests {
    use final_core::payload::JSON_DEPTH as MAX_DEPTH;

    use super::*;

    #[test]
    fn what_every_reader_can_read_passes() {
        let deep = format!("{}1{}", "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH));
        for text in [
            "null",
            " {\"a\":1,\"a\":2} ",
            "123456789012345678901234567890",
            "\"\\ud83d\\ude00\"",
            "-0.5e3",
            &deep,
        ] {
            assert_eq!(check(text.as_bytes()), Ok(()), "{text}");
        }
    }

    #[test]
    fn what_some_reader_cannot_read_is_told_with_its_place() {
        let deep = "[".repeat(MAX_DEPTH + 1);
        let endless = "[".repeat(1_000_000);
        for text in [
            "",
            "{",
            "nul",
            "\"\\ud800\"",
            "1e999",
            "1 2",
            "{'a':1}",
            "\u{feff}1",
            "\"\u{1}\"",
            &deep,
            &endless,
        ] {
            let flaw = check(text.as_bytes()).unwrap_err();
            assert!(flaw.line >= 1, "{text:.20}: {flaw}");
            assert!(flaw.to_string().len() < 300, "{flaw}");
        }
        let flaw = check(b"{\n  \"a\": trx\n}").unwrap_err();
        assert_eq!(flaw.to_string(), "line 2, column 10: expected ident");
        assert!(check(b"\"\xff\"").is_err());
    }

    #[test]
    fn a_long_text_is_not_repeated_in_an_error() {
        let text = format!("{:?}", "x".repeat(100_000));
        let flaw = read::<u32>(text.as_bytes()).unwrap_err();
        assert!(flaw.to_string().len() < 300);
    }
}
