//! Msgpack as JSON.
//!
//! Input: bytes. Output: one line of JSON; `None` where the bytes are not exactly one value. JSON has no words for
//! some values: bytes become `{"$base64": ".."}`, an extension `{"$ext": [type, ".."]}`, a number that is none a
//! string, and a key that is no string its JSON in a string.

use std::fmt;

use rmp_serde::Deserializer;
use serde::{
    Deserialize,
    de::{DeserializeSeed, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor},
};

use super::base64;

/// Values in values, at most. Deeper ones are shown as bytes.
const DEEPEST: usize = 128;

pub(super) fn to_json(bytes: &[u8]) -> Option<String> {
    let mut rest = bytes;
    let mut reader = Deserializer::new(&mut rest);
    let mut json = String::new();
    let writer = Writer {
        json: &mut json,
        depth: DEEPEST,
    };
    writer.deserialize(&mut reader).ok()?;
    drop(reader);
    rest.is_empty().then_some(json)
}

/// Writes the next value.
struct Writer<'a> {
    json: &'a mut String,
    depth: usize,
}

impl Writer<'_> {
    fn put(self, text: impl fmt::Display) {
        self.json.push_str(&text.to_string());
    }

    fn quoted<E: Error>(self, text: &str) -> Result<(), E> {
        self.json
            .push_str(&serde_json::to_string(text).map_err(E::custom)?);
        Ok(())
    }

    fn deeper<E: Error>(&mut self) -> Result<Writer<'_>, E> {
        let depth = self
            .depth
            .checked_sub(1)
            .ok_or_else(|| E::custom("too deep"))?;
        Ok(Writer {
            json: self.json,
            depth,
        })
    }
}

impl<'de> DeserializeSeed<'de> for Writer<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Writer<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.put(value);
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.put(value);
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.put(value);
        Ok(())
    }

    fn visit_f32<E: Error>(self, value: f32) -> Result<(), E> {
        match value.is_finite() {
            true => self.put(serde_json::to_string(&value).map_err(E::custom)?),
            false => self.quoted(&value.to_string())?,
        }
        Ok(())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        match value.is_finite() {
            true => self.put(serde_json::to_string(&value).map_err(E::custom)?),
            false => self.quoted(&value.to_string())?,
        }
        Ok(())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.quoted(value)
    }

    fn visit_bytes<E>(self, value: &[u8]) -> Result<(), E> {
        self.put(format_args!("{{\"$base64\":\"{}\"}}", base64(value)));
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.put("null");
        Ok(())
    }

    fn visit_none<E: Error>(self) -> Result<(), E> {
        self.visit_unit()
    }

    fn visit_some<D: serde::Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        self.json.push('[');
        let empty = self.json.len();
        loop {
            let end = self.json.len();
            if end > empty {
                self.json.push(',');
            }
            if items.next_element_seed(self.deeper()?)?.is_none() {
                self.json.truncate(end);
                self.json.push(']');
                return Ok(());
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        self.json.push('{');
        let empty = self.json.len();
        loop {
            let mut key = String::new();
            let mut writer = self.deeper()?;
            let depth = writer.depth;
            writer.json = &mut key;
            if items.next_key_seed(writer)?.is_none() {
                self.json.push('}');
                return Ok(());
            }
            if self.json.len() > empty {
                self.json.push(',');
            }
            match key.starts_with('"') {
                true => self.json.push_str(&key),
                false => Writer {
                    json: self.json,
                    depth,
                }
                .quoted(&key)?,
            }
            self.json.push(':');
            items.next_value_seed(self.deeper()?)?;
        }
    }

    /// An extension, which the reader gives as a newtype of type and bytes.
    fn visit_newtype_struct<D: serde::Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        let (kind, bytes) = <(i8, Bytes)>::deserialize(reader)?;
        self.put(format_args!(
            "{{\"$ext\":[{kind},\"{}\"]}}",
            base64(&bytes.0)
        ));
        Ok(())
    }

    fn visit_enum<A: EnumAccess<'de>>(mut self, data: A) -> Result<(), A::Error> {
        let ((), variant) = data.variant_seed(self.deeper()?)?;
        variant.unit_variant()
    }
}

struct Bytes(Vec<u8>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: serde::Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct Read;
        impl Visitor<'_> for Read {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E>(self, value: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(value.to_vec()))
            }
        }
        reader.deserialize_bytes(Read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_json_has_no_word_for_are_shown_all_the_same() {
        let shown: [(&[u8], Option<&str>); 9] = [
            (b"\xc4\x02\x01\x02", Some("{\"$base64\":\"AQI=\"}")),
            (b"\xd4\x05\x09", Some("{\"$ext\":[5,\"CQ==\"]}")),
            (b"\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00", Some("\"inf\"")),
            (b"\x82\x01\xc0\xa1a\xc3", Some("{\"1\":null,\"a\":true}")),
            (b"\x93\x01\x02\x90", Some("[1,2,[]]")),
            (b"\x80", Some("{}")),
            (b"\x01\x01", None),
            (b"", None),
            (b"\x92\x01", None),
        ];
        for (bytes, json) in shown {
            assert_eq!(to_json(bytes).as_deref(), json, "{bytes:?}");
            if let Some(json) = json {
                assert!(
                    serde_json::from_str::<serde_json::Value>(json).is_ok(),
                    "{json}"
                );
            }
        }
    }

    #[test]
    fn a_value_that_is_too_deep_does_not_end_the_program() {
        assert_eq!(to_json(&vec![0x91; 100_000]), None);
    }
}
