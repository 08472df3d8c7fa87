//! Held messages.

use final_core::{
    Hold,
    admin::{HeldMessage, HeldWish},
};
use serde::Serialize;

use super::{age_text, ms};
use crate::output::{Table, time::millis};

/// A held message.
#[derive(Debug, Serialize)]
pub(crate) struct HeldView {
    service: String,
    message_id: String,
    seq: i64,
    topic: String,
    key: Option<String>,
    hold: &'static str,
    age_ms: u64,
    reason: String,
    attempts: u32,
    retry_in_ms: Option<u64>,
    wish: Option<&'static str>,
}

impl From<&HeldMessage> for HeldView {
    fn from(held: &HeldMessage) -> Self {
        Self {
            service: held.service.clone(),
            message_id: held.id.to_string(),
            seq: held.seq,
            topic: held.topic.clone(),
            key: held.key.clone(),
            hold: match held.hold {
                Hold::Topic => "topic",
                _ => "key",
            },
            age_ms: millis(held.age),
            reason: held.reason.clone(),
            attempts: held.attempts,
            retry_in_ms: ms(held.retry_in),
            wish: held.wish.map(|wish| match wish {
                HeldWish::Skip => "skip",
                _ => "retry",
            }),
        }
    }
}

/// A list of held messages.
pub(crate) fn held_table(held: &[HeldMessage]) -> Table {
    let mut table = Table::new(&[
        "id",
        ">seq",
        "topic",
        "key",
        "holds",
        ">held for",
        ">attempts",
        ">retry in",
        "reason",
    ]);
    for message in held {
        let view = HeldView::from(message);
        let next = match (view.wish, message.retry_in) {
            (Some(wish), _) => wish.to_owned(),
            (None, None) => "never".to_owned(),
            (None, left) => age_text(left),
        };
        table.row([
            view.message_id.as_str().into(),
            view.seq.to_string().into(),
            view.topic.as_str().into(),
            view.key.as_deref().unwrap_or_default().into(),
            view.hold.into(),
            age_text(Some(message.age)).into(),
            view.attempts.to_string().into(),
            next.as_str().into(),
            view.reason.as_str().into(),
        ]);
    }
    table
}
