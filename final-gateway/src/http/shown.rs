//! A message as JSON: a payload in JSON stands in the answer as it is, byte for byte, any other one in base64.
//!
//! Input: messages. Output: types that serde writes.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use final_core::Message;
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::value::RawValue;

use super::{json, records::JSON};

/// The fields of a message.
#[derive(Debug, Serialize)]
pub(super) struct ShownMessage<'a> {
    id: String,
    topic: &'a str,
    key: Option<&'a str>,
    #[serde(serialize_with = "headers")]
    headers: &'a Message,
    content_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_encoding: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
}

impl<'a> ShownMessage<'a> {
    pub(super) fn of(message: &'a Message) -> Self {
        let payload = plain(message);
        Self {
            id: message.id().to_string(),
            topic: message.topic(),
            key: message.key(),
            headers: message,
            content_type: message.content_type(),
            content_encoding: message.content_encoding(),
            payload,
            payload_base64: match payload {
                Some(_) => None,
                None => Some(STANDARD.encode(message.payload())),
            },
        }
    }
}

/// The payload, if it is JSON that no reader stumbles over.
fn plain(message: &Message) -> Option<&RawValue> {
    let essence = message.content_type().split(';').next()?.trim();
    if !essence.eq_ignore_ascii_case(JSON) || message.content_encoding().is_some() {
        return None;
    }
    json::check(message.payload()).ok()?;
    serde_json::from_slice(message.payload()).ok()
}

fn headers<S: Serializer>(message: &Message, writer: S) -> Result<S::Ok, S::Error> {
    let headers = message.headers();
    let mut map = writer.serialize_map(Some(headers.len()))?;
    for (name, value) in headers.iter() {
        map.serialize_entry(name, value)?;
    }
    map.end()
}
