//! Payloads, as handlers take them.

use std::collections::BTreeMap;

use futures::FutureExt;
use serde::{Deserialize, Serialize, de::DeserializeOwned, de::IgnoredAny};

use super::check_error;
use crate::{FromMessage, Json, Message, Payload, payload::IntoPayload};

/// Recursive through every form of enum, which is where depth is easily not counted.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Expression {
    Not(Box<Expression>),
    All(Vec<Expression>),
    Pair(Box<Expression>, u8),
    Named { of: Box<Expression> },
    Truth,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    id: u32,
    #[serde(default)]
    note: Option<String>,
    #[serde(default)]
    lines: Vec<(u8, i64)>,
    #[serde(default)]
    tags: BTreeMap<String, bool>,
    #[serde(default)]
    kind: Option<Tagged>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "of")]
enum Tagged {
    Plain,
    Scored { score: Score },
}

/// A number that is equal to itself also where it is not a number: what is asked here is whether
/// a value came back, and a NaN that comes back is still a NaN.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
struct Score(f64);

impl PartialEq for Score {
    fn eq(&self, other: &Self) -> bool {
        self.0.total_cmp(&other.0).is_eq() || (self.0.is_nan() && other.0.is_nan())
    }
}

/// Nothing fits it: serde has other words for that.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// Nor this.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Never {}

/// The bytes are a payload.
pub fn payload(bytes: &[u8]) {
    let message = Message::new("order.placed", bytes.to_vec());
    comes_back::<Expression>(&message);
    comes_back::<Order>(&message);
    comes_back::<Nothing>(&message);
    comes_back::<Never>(&message);
    comes_back::<(String, char, Option<u64>)>(&message);
    comes_back::<serde_json::Value>(&message);
    let _ = msgpack::<IgnoredAny>(&message);
    let _ = json::<IgnoredAny>(&message);
}

/// What was decoded and is published again is the same to the next handler.
fn comes_back<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(message: &Message) {
    if let Some(value) = msgpack::<T>(message) {
        let again = (&value).into_payload().expect("encodes what it decoded");
        let again = Message::new("order.placed", again.bytes);
        assert_eq!(msgpack::<T>(&again).as_ref(), Some(&value));
    }
    if let Some(value) = json::<T>(message) {
        let again = Json(&value)
            .into_payload()
            .expect("encodes what it decoded");
        let again = Message::new("order.placed", again.bytes);
        assert_eq!(json::<T>(&again).as_ref(), Some(&value));
    }
}

fn msgpack<T: DeserializeOwned>(message: &Message) -> Option<T> {
    taken::<Payload<T>>(message).map(|Payload(value)| value)
}

fn json<T: DeserializeOwned>(message: &Message) -> Option<T> {
    taken::<Json<T>>(message).map(|Json(value)| value)
}

fn taken<T: FromMessage<()>>(message: &Message) -> Option<T> {
    let taken = T::from_message(message, &()).now_or_never();
    match taken.expect("decoding waits for nothing") {
        Ok(taken) => Some(taken),
        Err(error) => {
            assert!(error.is_permanent());
            check_error(&error.to_string(), 2048);
            None
        }
    }
}
