//! What becomes of messages on a real broker.

#![allow(
    clippy::unwrap_used,
    reason = "tests say what they expect by unwrapping"
)]

mod alone;
mod answers;
mod arrival;
mod outages;
mod own_fault;
#[path = "../support/mod.rs"]
mod support;
mod tracked;

use final_core::Message;

fn message(topic: &str) -> Message {
    Message::new(topic, vec![7; 100])
}
