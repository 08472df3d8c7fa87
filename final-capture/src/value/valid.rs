//! Whether a JSON document of a source can be read by all readers of the message.
//!
//! Input: a text. Output: whether it is JSON that a reader takes: not nested too deep, without numbers beyond a double and
//! without halves of characters. A database may hold all of these.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// How deep a document may be nested. serde_json reads 128 levels, and other readers fewer; the message adds its own.
const DEEPEST: u8 = 100;

/// Whether the text can be put into a message.
pub(super) fn is_readable(json: &str) -> bool {
    let mut reader = serde_json::Deserializer::from_str(json);
    Level(DEEPEST).deserialize(&mut reader).is_ok() && reader.end().is_ok()
}

/// So many levels may follow.
#[derive(Clone, Copy)]
struct Level(u8);

impl Level {
    fn next<E: Error>(self) -> Result<Self, E> {
        let left = self.0.checked_sub(1);
        left.map(Self).ok_or_else(|| E::custom("too deep"))
    }
}

impl<'de> DeserializeSeed<'de> for Level {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
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

    fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<(), A::Error> {
        let level = self.next()?;
        while all.next_element_seed(level)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut all: A) -> Result<(), A::Error> {
        let level = self.next()?;
        while all.next_key_seed(level)?.is_some() {
            all.next_value_seed(level)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_database_holds_and_no_reader_takes_is_not_readable() {
        let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        for readable in [
            "1",
            "null",
            r#"{"a":[1,-2.5e10,"\u00e4",true,{}]}"#,
            &nested(100),
        ] {
            assert!(is_readable(readable), "{readable}");
            assert!(serde_json::from_str::<serde_json::Value>(readable).is_ok());
        }
        for refused in [
            "1e400",
            r#""\ud800""#,
            r#"{"\ud800":1}"#,
            "{",
            "1 2",
            "",
            &nested(101),
            &nested(100_000),
        ] {
            assert!(!is_readable(refused), "{refused:.50}");
        }
    }
}
