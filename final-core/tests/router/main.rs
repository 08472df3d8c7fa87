//! The router: routes, layers, state, and what handlers may take and return.
//!
//! What the modules share is here, also so that its paths stay short: errors name handlers and types
//! by them.
#![allow(
    clippy::unwrap_used,
    reason = "tests say what they expect by unwrapping"
)]

mod extractors;
mod layers;
mod orders;
mod panics;
mod refused;
mod results;
mod services;
mod spans;
mod state;
mod subscribed;

use std::sync::{Arc, Mutex};

use final_core::{Message, payload::IntoPayload};

/// A message with a msgpack payload.
fn message<T: serde::Serialize>(topic: &str, payload: &T) -> Message {
    Message::new(topic, payload.into_payload().unwrap().bytes)
}

fn empty(topic: &str) -> Message {
    Message::new(topic, "")
}

async fn nothing() {}

#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Order {
    id: i64,
    items: Vec<String>,
}

/// What happened, in order.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn add(&self, line: impl Into<String>) {
        self.0.lock().unwrap().push(line.into());
    }

    fn take(&self) -> String {
        std::mem::take(&mut *self.0.lock().unwrap()).join(" ")
    }
}
