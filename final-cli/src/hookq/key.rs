//! The key of a copied message.
//!
//! Input: what the command line says, and a payload of msgpack. Output: a key, or why there is none. hookq has no keys;
//! its one consumer takes everything in order. With a key of the payload's, messages of one key stay in order and
//! others go on.

use std::fmt;

use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, Visitor};

/// The longest key of a message, in bytes.
const LONGEST: usize = 1_024;

/// A payload that is nested more deeply is no message of a person's.
const DEEPEST: usize = 128;

/// Where the key of a message comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KeyFrom {
    /// There is none.
    Nowhere,
    /// The same for all messages.
    Text(String),
    /// A field of the payload.
    Field(String),
}

impl KeyFrom {
    /// The key of a payload.
    pub(super) fn of(&self, payload: &[u8]) -> Result<Option<String>, String> {
        let key = match self {
            Self::Nowhere => return Ok(None),
            Self::Text(text) => text.clone(),
            Self::Field(field) => {
                let mut payload = rmp_serde::Deserializer::from_read_ref(payload);
                payload.set_max_depth(DEEPEST);
                payload
                    .deserialize_map(FieldOf(field))
                    .map_err(|error| error.to_string())?
            }
        };
        match key.len() <= LONGEST && !key.contains('\0') {
            true => Ok(Some(key)),
            false => Err("it is longer than 1,024 bytes, or has a byte of zero".to_owned()),
        }
    }
}

/// Looks for a field of a map.
struct FieldOf<'a>(&'a str);

impl<'de> Visitor<'de> for FieldOf<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map with names")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<String, A::Error> {
        let mut found = None;
        while let Some(name) = map.next_key::<Name>()? {
            if name.0.as_deref() == Some(self.0) {
                found = Some(map.next_value::<Name>()?.0.ok_or_else(|| {
                    A::Error::custom(format_args!(
                        "the field {:?} is neither a text nor a whole number",
                        self.0
                    ))
                })?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        found.ok_or_else(|| A::Error::custom(format_args!("there is no field {:?}", self.0)))
    }
}

/// A text or a whole number, as text. `None` for anything else.
struct Name(Option<String>);

impl<'de> serde::Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NameVisitor).map(Self)
    }
}

struct NameVisitor;

impl<'de> Visitor<'de> for NameVisitor {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a whole number")
    }

    fn visit_str<E>(self, text: &str) -> Result<Option<String>, E> {
        Ok(Some(text.to_owned()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Option<String>, E> {
        Ok(Some(number.to_string()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Option<String>, E> {
        Ok(Some(number.to_string()))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Option<String>, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Option<String>, E> {
        Ok(None)
    }

    fn visit_bytes<E>(self, _: &[u8]) -> Result<Option<String>, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Option<String>, E> {
        Ok(None)
    }

    fn visit_none<E>(self) -> Result<Option<String>, E> {
        Ok(None)
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(
        self,
        mut seq: A,
    ) -> Result<Option<String>, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Option<String>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(
        self,
        inner: D,
    ) -> Result<Option<String>, D::Error> {
        inner.deserialize_any(IgnoredAny).map(|_| None)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `{ID: 7, State: "new", At: <a time of Go>, Tags: [1], Sum: 1.5}` as vmihailenco/msgpack writes it: numbers with
    /// their whole width, times as an extension.
    const GO: &[u8] =
        b"\x85\xa2ID\xd3\0\0\0\0\0\0\0\x07\xa5State\xa3new\xa2At\xd7\xff\0\0\0\0\x65\x92\x00\x80\
        \xa4Tags\x91\xd3\0\0\0\0\0\0\0\x01\xa3Sum\xcb\x3f\xf8\0\0\0\0\0\0";

    fn key(field: &str, payload: &[u8]) -> Result<Option<String>, String> {
        KeyFrom::Field(field.to_owned()).of(payload)
    }

    #[test]
    fn a_text_and_a_whole_number_can_be_keys() {
        assert_eq!(key("ID", GO), Ok(Some("7".to_owned())));
        assert_eq!(key("State", GO), Ok(Some("new".to_owned())));
        assert_eq!(key("ID", b"\x81\xa2ID\xd0\xff"), Ok(Some("-1".to_owned())));
        let text = KeyFrom::Text("all".to_owned());
        assert_eq!(text.of(b"anything"), Ok(Some("all".to_owned())));
        assert_eq!(KeyFrom::Nowhere.of(b"anything"), Ok(None));
    }

    #[test]
    fn anything_else_is_an_error_that_says_why() {
        for field in ["At", "Tags", "Sum"] {
            let why = key(field, GO).unwrap_err();
            assert!(why.contains("neither a text nor a whole number"), "{why}");
        }
        assert!(
            key("id", GO)
                .unwrap_err()
                .contains("there is no field \"id\"")
        );
        for payload in [
            &b""[..],
            b"\xc0",
            b"\x91\x01",
            b"\x81\xa2ID",
            &[0x91; 10_000],
            &[0x81; 10_000],
        ] {
            key("ID", payload).unwrap_err();
        }
        let long = [&b"\x81\xa2ID\xda\x08\x00"[..], &[b'x'; 2_048]].concat();
        assert!(
            key("ID", &long)
                .unwrap_err()
                .contains("longer than 1,024 bytes")
        );
    }

    proptest! {
        #[test]
        fn no_payload_makes_it_panic(payload in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = key("ID", &payload);
        }
    }
}
