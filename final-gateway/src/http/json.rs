//! JSON from outside: read with the place of its mistake, and checked whether every reader can read it.
//!
//! Input: bytes. Output: a value, or a [`Flaw`].

use std::fmt;

use serde::{
    Deserialize,
    de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor},
};

/// The deepest nesting of a payload. The answer of a pull adds three levels, and many readers stop at 128.
pub(super) const MAX_DEPTH: usize = 100;

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
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let checked = Level(0)
        .deserialize(&mut reader)
        .and_then(|()| reader.end());
    checked.map_err(|error| Flaw::of(&error))
}

/// Visits a value and keeps nothing of it.
#[derive(Clone, Copy)]
struct Level(usize);

impl Level {
    fn down<E: de::Error>(self) -> Result<Self, E> {
        match self.0 < MAX_DEPTH {
            true => Ok(Self(self.0 + 1)),
            false => Err(E::custom(format_args!(
                "it is nested more than {MAX_DEPTH} levels deep; publish it as application/octet-stream"
            ))),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Level {
    type Value = ();

    fn deserialize<D: de::Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let below = self.down()?;
        while items.next_element_seed(below)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let below = self.down()?;
        while items.next_key_seed(Level(0))?.is_some() {
            items.next_value_seed(below)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
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
