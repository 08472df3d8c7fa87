//! What is published comes back, whatever type it is of and in whatever form of serde it lies.

mod forms;
mod limits;
mod wire;

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::{Duration, SystemTime},
};

use futures::FutureExt;
use proptest::prelude::*;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use self::forms::in_every_form;
use crate::{FromMessage, Json, Message, Payload, payload::IntoPayload};

/// What the caller of `publish`, or the handler, gets.
type Answer<T> = Result<T, String>;

fn chain(error: &dyn std::error::Error) -> String {
    error.to_string()
}

fn msgpack<T: Serialize>(value: &T) -> Answer<Message> {
    let payload = value.into_payload().map_err(|error| chain(&*error))?;
    Ok(Message::new("topic", payload.bytes))
}

fn json<T: Serialize>(value: &T) -> Answer<Message> {
    let payload = Json(value).into_payload().map_err(|error| chain(&*error))?;
    Ok(Message::new("topic", payload.bytes))
}

fn from_msgpack<T: DeserializeOwned>(message: &Message) -> Answer<T> {
    let taken = Payload::<T>::from_message(message, &()).now_or_never();
    let taken = taken.expect("decoding waits for nothing");
    taken.map(|Payload(value)| value).map_err(|e| e.to_string())
}

fn from_json<T: DeserializeOwned>(message: &Message) -> Answer<T> {
    let taken = Json::<T>::from_message(message, &()).now_or_never();
    let taken = taken.expect("decoding waits for nothing");
    taken.map(|Json(value)| value).map_err(|e| e.to_string())
}

/// As the `Uuid` of the crate of that name, whose own needs a feature that we do not ask for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Id([u8; 16]);

impl Serialize for Id {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(&uuid::Uuid::from_bytes(self.0))
        } else {
            serializer.serialize_bytes(&self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor {
            text: bool,
        }

        impl serde::de::Visitor<'_> for Visitor {
            type Value = Id;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a UUID")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Id, E> {
                if !self.text {
                    return Err(E::invalid_type(serde::de::Unexpected::Str(text), &self));
                }
                let id = uuid::Uuid::parse_str(text).map_err(E::custom)?;
                Ok(Id(id.into_bytes()))
            }

            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Id, E> {
                bytes.try_into().map(Id).map_err(E::custom)
            }
        }

        if deserializer.is_human_readable() {
            deserializer.deserialize_str(Visitor { text: true })
        } else {
            deserializer.deserialize_bytes(Visitor { text: false })
        }
    }
}

/// Looks like a UUID, and is read from its text only, or from two numbers.
#[derive(Clone, Debug, PartialEq)]
struct TextId(uuid::Uuid);

impl Serialize for TextId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(&self.0)
        } else {
            self.0.as_u64_pair().serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for TextId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            text.parse().map(Self).map_err(serde::de::Error::custom)
        } else {
            let (high, low) = Deserialize::deserialize(deserializer)?;
            Ok(Self(uuid::Uuid::from_u64_pair(high, low)))
        }
    }
}

/// Bytes that are bytes, as those of `serde_bytes`.
#[derive(Clone, Debug, PartialEq)]
struct Blob(Vec<u8>);

impl Serialize for Blob {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Blob;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Blob, E> {
                Ok(Blob(bytes.to_vec()))
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Blob, A::Error> {
                let mut bytes = Vec::new();
                while let Some(byte) = seq.next_element()? {
                    bytes.push(byte);
                }
                Ok(Blob(bytes))
            }
        }

        deserializer.deserialize_byte_buf(Visitor)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Unit,
    Newtype(u64),
    Tuple(i8, String),
    Struct { ip: IpAddr },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Unit;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Wrapper(Id);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
struct Transparent {
    id: Id,
}

#[test]
fn values_at_the_edges_come_back_from_every_form() {
    let v6: Ipv6Addr = "fe80::1:2".parse().unwrap();
    for ip in [IpAddr::V4(Ipv4Addr::LOCALHOST), v6.into()] {
        in_every_form(ip);
        in_every_form(SocketAddr::new(ip, 65_535));
    }
    in_every_form(Ipv4Addr::new(10, 200, 0, 1));
    in_every_form(v6);
    in_every_form(HashMap::from([(IpAddr::V6(v6), 1_u8)]));
    in_every_form(Id([0xa7; 16]));
    in_every_form(Wrapper(Id([1; 16])));
    in_every_form(Transparent { id: Id([2; 16]) });
    in_every_form((Id([3; 16]), IpAddr::V6(v6), [200_u8; 16]));
    let text = TextId(uuid::Uuid::from_u128(u128::MAX / 3));
    in_every_form(text.clone());
    in_every_form((text, Id([3; 16]), IpAddr::V6(v6), [200_u8; 16]));
    in_every_form("a7a7a7a7-a7a7-a7a7-a7a7-a7a7a7a7a7a7".to_owned());
    for number in [0, 127, 128, u64::from(u32::MAX), u64::MAX] {
        in_every_form(number);
    }
    for number in [i64::MIN, -33, -32, -1] {
        in_every_form(number);
    }
    for float in [-0.0_f64, f64::MIN_POSITIVE, f64::MAX, 1.0, 0.1] {
        in_every_form(float);
    }
    in_every_form(f32::MAX);
    for text in ["", "\0", "🦀", "null"] {
        in_every_form(text.to_owned());
    }
    in_every_form('\u{10ffff}');
    in_every_form([0_u8, 127, 128, 255]);
    in_every_form([255_u8; 32]);
    in_every_form((255_u8, 1_u8));
    in_every_form(Blob(vec![]));
    in_every_form(Blob(vec![255; 300]));
    in_every_form(Duration::MAX);
    in_every_form(SystemTime::UNIX_EPOCH + Duration::from_nanos(1));
    for shape in [
        Shape::Unit,
        Shape::Newtype(u64::MAX),
        Shape::Tuple(-1, String::new()),
        Shape::Struct { ip: v6.into() },
    ] {
        in_every_form(shape);
    }
    in_every_form(Unit);
    in_every_form(std::num::NonZeroU8::MAX);
    in_every_form(Ok::<IpAddr, Id>(v6.into()));
    in_every_form(serde_json::json!({"a": [null, 1.5, {}], "b": u64::MAX}));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_value_comes_back_from_every_form(
        ip: IpAddr,
        port: u16,
        id: [u8; 16],
        text: String,
        numbers: (u64, i64, Option<u8>),
        keyed: BTreeMap<String, char>,
    ) {
        in_every_form((ip, Id(id), text, numbers));
        // Text has no flow information, nor had the form before it.
        in_every_form((vec![SocketAddr::new(ip, port)], keyed, Blob(id.to_vec())));
    }
}
