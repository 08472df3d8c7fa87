//! A message as the Go predecessor wrote it: its struct in msgpack, as a map.
//!
//! Input: the bytes of a row. Output: a message, or `None` if the bytes are no message that can be published.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, Visitor},
};

use crate::{
    Message, MessageId,
    extract::msgpack,
    names::{check_header, check_topic},
};

/// The fields that are read. Other fields are passed over.
#[derive(Deserialize)]
struct Written {
    #[serde(rename = "UUID")]
    uuid: String,
    #[serde(rename = "Topic")]
    topic: String,
    #[serde(rename = "Header", default)]
    header: Option<BTreeMap<String, GoValue>>,
    #[serde(rename = "Payload", default)]
    payload: GoBinary,
    #[serde(rename = "Policy", default)]
    policy: Option<GoPolicy>,
}

/// The one part of the policy that still has a meaning.
#[derive(Deserialize)]
struct GoPolicy {
    #[serde(rename = "Durable", default)]
    durable: Option<bool>,
}

/// The value of a header. Values that can be written as a text are kept, and others are left out.
#[derive(Deserialize)]
#[serde(untagged)]
enum GoValue {
    Text(String),
    Bool(bool),
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    Other(IgnoredAny),
}

impl GoValue {
    /// The value as a text. `None` for nil, bytes, lists and maps.
    fn into_text(self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text),
            Self::Bool(value) => Some(value.to_string()),
            Self::Signed(value) => Some(value.to_string()),
            Self::Unsigned(value) => Some(value.to_string()),
            Self::Float(value) => Some(value.to_string()),
            Self::Other(_) => None,
        }
    }
}

/// Reads the message, if the bytes are one.
///
/// The values of an untagged enum go through a buffer. rmp-serde alone would follow such a value 1,024 levels
/// deep, and that overflows the stack of a worker. So [`msgpack`] decodes the bytes: it refuses deep ones
/// before it reads them.
pub(crate) fn decode(bytes: &[u8]) -> Option<Message> {
    let written: Written = msgpack::decode(bytes).ok()?;
    check_topic(&written.topic).ok()?;
    // The predecessor never sent its headers. So a header that may not be sent is left out, and nothing is
    // lost.
    let mut total = 0;
    let headers = written
        .header
        .unwrap_or_default()
        .into_iter()
        .filter_map(|(name, value)| Some((name, value.into_text()?)))
        .filter(|(name, value)| {
            total += name.len() + value.len();
            check_header(name, total).is_ok()
        })
        .collect();
    let durable = written.policy.and_then(|policy| policy.durable);
    Some(
        Message::new(written.topic, written.payload.0)
            .with_id(MessageId::from_text(&written.uuid))
            .with_headers(headers)
            .with_durable(durable.unwrap_or(true)),
    )
}

/// A payload: bytes or a text. Nil is an empty payload.
#[derive(Default)]
struct GoBinary(Vec<u8>);

impl<'de> Deserialize<'de> for GoBinary {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;

        impl Visitor<'_> for Bytes {
            type Value = GoBinary;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes or nil")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<GoBinary, E> {
                Ok(GoBinary(bytes.to_vec()))
            }

            fn visit_str<E>(self, text: &str) -> Result<GoBinary, E> {
                Ok(GoBinary(text.as_bytes().to_vec()))
            }

            fn visit_unit<E>(self) -> Result<GoBinary, E> {
                Ok(GoBinary::default())
            }
        }

        deserializer.deserialize_any(Bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `{"UUID": "…", "Topic": "order.placed", "Handler": "", "SvcName": "shop", "Header": {"tenant":
    /// "acme", "tries": 3, "x-delivery-count": 5}, "Payload": bin 1 2 3, "Policy": {"Durable": false,
    /// "Confirm": true}}`, with the keys in the order of the struct.
    fn written() -> Vec<u8> {
        let mut bytes = vec![0x87];
        for (key, value) in [
            ("UUID", text("0198c5a0-0000-7000-8000-000000000001")),
            ("Topic", text("order.placed")),
            ("Handler", text("")),
            ("SvcName", text("shop")),
            ("Header", {
                let mut map = vec![0x83];
                map.extend([text("tenant"), text("acme"), text("tries"), vec![3]].concat());
                map.extend([text("x-delivery-count"), vec![5]].concat());
                map
            }),
            ("Payload", vec![0xc4, 3, 1, 2, 3]),
            ("Policy", {
                let mut map = vec![0x82];
                map.extend([text("Durable"), vec![0xc2]].concat());
                map.extend([text("Confirm"), vec![0xc3]].concat());
                map
            }),
        ] {
            bytes.extend(text(key));
            bytes.extend(value);
        }
        bytes
    }

    fn text(text: &str) -> Vec<u8> {
        let length = u8::try_from(text.len()).unwrap();
        [&[0xd9, length], text.as_bytes()].concat()
    }

    #[test]
    fn everything_that_can_be_sent_is_read() {
        let message = decode(&written()).unwrap();

        assert_eq!(
            message.id().to_string(),
            "0198c5a0-0000-7000-8000-000000000001"
        );
        assert_eq!(message.topic(), "order.placed");
        assert_eq!(message.payload().as_ref(), [1, 2, 3]);
        assert!(!message.is_durable());
        assert_eq!(
            message.headers().iter().collect::<Vec<_>>(),
            [("tenant", "acme"), ("tries", "3")]
        );
    }

    #[test]
    fn what_is_nil_or_missing_is_empty() {
        let mut bytes = vec![0x84];
        for (key, value) in [
            ("UUID", text("one")),
            ("Topic", text("order.placed")),
            ("Header", vec![0xc0]),
            ("Payload", vec![0xc0]),
        ] {
            bytes.extend([text(key), value].concat());
        }

        let message = decode(&bytes).unwrap();

        assert!(message.headers().is_empty() && message.payload().is_empty());
        assert!(message.is_durable());
    }

    #[test]
    fn garbage_is_refused() {
        assert!(decode(b"\x01garbage").is_none());
        assert!(decode(&[]).is_none());
        assert!(decode(&[written(), vec![0]].concat()).is_none());
    }

    /// On the stack of a worker of tokio: an overflow is no panic, it ends the process.
    #[test]
    fn a_header_nested_without_end_is_refused() {
        let nested = move || {
            let mut bytes = vec![0x83];
            let header = [&[0x81], &text("a")[..], &[0x91; 1_000], &[0xc0]].concat();
            for (key, value) in [
                ("UUID", text("one")),
                ("Topic", text("order.placed")),
                ("Header", header),
            ] {
                bytes.extend([text(key), value].concat());
            }
            decode(&bytes).is_none()
        };
        let worker = std::thread::Builder::new().stack_size(2 << 20);

        assert!(worker.spawn(nested).unwrap().join().unwrap());
    }

    #[test]
    fn a_topic_nobody_can_publish_to_is_refused() {
        let mut bytes = vec![0x82];
        bytes.extend([text("UUID"), text("one"), text("Topic"), text("")].concat());

        assert!(decode(&bytes).is_none());
    }
}
