//! Whether every reader can read a JSON text.
//!
//! Input: bytes. Output: nothing, or what is wrong and where. No value is kept.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// The deepest nesting that [`check_json`] takes. What a message is put into adds its own levels, and many readers stop at 128.
pub const JSON_DEPTH: usize = 100;

/// Checks that a text is JSON that every reader can read: not deeper than [`JSON_DEPTH`], no half characters (`"\ud800"`), no
/// numbers beyond what a float holds. Databases and some writers have all of these. One such text would make a reader refuse
/// everything that it stands in.
///
/// # Errors
///
/// What is wrong, with its line and column.
///
/// ```
/// use final_core::payload::check_json;
///
/// assert!(check_json(br#"{"id": 7}"#).is_ok());
/// assert!(check_json(b"1e999").is_err());
/// ```
pub fn check_json(bytes: &[u8]) -> serde_json::Result<()> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    Level(0).deserialize(&mut reader)?;
    reader.end()
}

/// Visits a value below so many others, and keeps nothing of it.
#[derive(Clone, Copy)]
struct Level(usize);

impl Level {
    fn down<E: Error>(self) -> Result<Self, E> {
        match self.0 < JSON_DEPTH {
            true => Ok(Self(self.0 + 1)),
            false => Err(E::custom(format_args!(
                "it is nested more than {JSON_DEPTH} levels deep; publish it as application/octet-stream"
            ))),
        }
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
        while items.next_key_seed(Self(0))?.is_some() {
            items.next_value_seed(below)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_database_holds_and_some_reader_cannot_read_is_refused() {
        let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        for readable in [
            "1",
            "null",
            r#"{"a":[1,-2.5e10,"\u00e4",true,{}]}"#,
            &nested(JSON_DEPTH),
        ] {
            assert!(check_json(readable.as_bytes()).is_ok(), "{readable}");
            assert!(serde_json::from_str::<serde_json::Value>(readable).is_ok());
        }
        for refused in [
            "1e400",
            r#""\ud800""#,
            r#"{"\ud800":1}"#,
            "{",
            "1 2",
            "",
            &nested(JSON_DEPTH + 1),
            &nested(100_000),
        ] {
            assert!(check_json(refused.as_bytes()).is_err(), "{refused:.50}");
        }
    }
}
