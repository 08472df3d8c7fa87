//! What handlers get of messages, and what they are told of those that are none.

mod dbsync;
mod hostile;
mod ours;

use final_core::{FromMessage, Hold, Message, OnFailure};
use serde::Deserialize;
use serde_json::{Value, json};

use super::*;

/// As a handler would have it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Hole {
    id: i64,
    content: String,
    forest_id: Option<i64>,
}

fn hole(id: i64, content: &str) -> Hole {
    Hole {
        id,
        content: content.to_owned(),
        forest_id: None,
    }
}

/// What a capture writes, with some fields replaced.
fn update(fields: Value) -> Value {
    let mut message = json!({
        "op": "update", "schema": "shop", "table": "holes", "key": {"id": 7},
        "before": {"id": 7, "content": "a", "forest_id": null},
        "after": {"id": 7, "content": "b", "forest_id": null},
        "changed": ["content"],
        "at": "2024-02-29T12:00:00.000000Z", "position": "gtid:0-1-344",
        "tx": {"id": "0-1-345", "index": 3, "last": true},
    });
    for (name, value) in fields.as_object().unwrap() {
        message[name] = value.clone();
    }
    message
}

fn read(message: &Value) -> Result<Change<Hole>, ChangeError> {
    Change::from_json(message.to_string().as_bytes())
}

#[track_caller]
fn refused(message: &Value, words: &str) {
    let error = read(message).unwrap_err().to_string();
    assert!(error.contains(words), "{error}");
}

fn message(payload: &Value) -> Message {
    Message::new("cdc.shop.holes", payload.to_string())
}
