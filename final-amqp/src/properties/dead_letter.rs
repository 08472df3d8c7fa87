//! Makes a dead letter of a delivery: what it was, and why the service dead-lettered it.
//!
//! Input: a delivery as it came, the reason, and the largest frame. Output: a message to write that fits
//! into one frame. A header that does not fit is left out, and the reason names it.

use final_core::{broker::Cause, received::HeaderOwner};
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, ShortString},
};

use super::{BROKER_ROOM, Original, WireMessage, encode::long, entry_size, frame_size, now, text};
use crate::{
    inbound::LEFT_OUT,
    names,
    text::{cut, listed},
};

/// The longest part of a reason that says what the dead letter lacks.
const MAX_NOTE: usize = 400;

/// In which form a dead letter is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WireForm {
    /// With the original's headers and properties.
    Whole,
    /// Without them, because the broker refuses them with this text.
    Bare(String),
}

/// Makes the dead letter: the original payload, properties and headers, with our own added.
///
/// The user's headers keep their types. Where they do not all fit into one frame, the smallest ones stay.
pub(crate) fn dead_letter(
    original: &Original,
    id: &str,
    cause: &Cause,
    (service, queue): (&str, &str),
    frame_max: u32,
    form: &WireForm,
) -> Result<WireMessage, String> {
    let short = |text: &str| names::short(text).map_err(|error| error.to_string());
    let had = original.properties.headers().as_ref();
    let topic = had
        .and_then(|headers| text(headers.inner().get(names::TOPIC)?))
        .filter(|topic| topic.len() <= names::MAX_TOPIC)
        .unwrap_or(original.routed_topic().0);

    let mut ours = FieldTable::default();
    ours.insert(
        short(names::ATTEMPTS)?,
        AMQPValue::LongLongInt(cause.attempts.into()),
    );
    ours.insert(short(names::SERVICE)?, long(service));
    ours.insert(short(names::TIME)?, AMQPValue::Timestamp(now()));
    ours.insert(short(names::TOPIC)?, long(topic));
    // The reason is added last, because it names what was left out. Here it counts with its greatest length.
    let reason = short(names::REASON)?;
    let for_reason = entry_size(&reason, &long("")) + Cause::MAX_REASON;

    let bare = matches!(form, WireForm::Bare(_));
    let without_users = properties(&original.properties, ours.clone(), short(id)?, bare);
    let taken = frame_size(&without_users) + for_reason + BROKER_ROOM;
    let room = (frame_max as usize).saturating_sub(taken);
    let (mut headers, left_out) = match bare {
        true => (FieldTable::default(), Vec::new()),
        false => fitting(&users(had), room),
    };
    for (name, value) in ours.inner() {
        // A header that is too long for a topic is kept as it came, if there is room for it.
        if !headers.contains_key(name.as_str()) {
            headers.insert(name.clone(), value.clone());
        }
    }
    let note = match form {
        WireForm::Bare(refusal) => Some(format!(
            "sent without its headers and properties, which the broker refuses: {refusal}"
        )),
        WireForm::Whole if !left_out.is_empty() => Some(format!(
            "without what does not fit into a frame of {frame_max} bytes: {}",
            listed(&left_out)
        )),
        WireForm::Whole => None,
    };
    headers.insert(reason, long(&noted(&cause.reason, note)));
    let properties = without_users.with_headers(headers);
    if frame_size(&properties) > frame_max as usize {
        return Err(format!(
            "a dead letter does not fit into one frame of the broker ({frame_max} bytes)"
        ));
    }
    Ok(WireMessage {
        exchange: short(&names::dead_letter_exchange(queue))?,
        routing_key: original.routing_key.clone(),
        properties,
        payload: original.payload.clone(),
        mandatory: true,
    })
}

/// The reason and then the note. Both are cut, so that together they are not longer than a reason may be.
fn noted(reason: &str, note: Option<String>) -> String {
    let Some(note) = note else {
        return cut(reason, Cause::MAX_REASON).to_owned();
    };
    let note = format!(" [{}]", cut(&note, MAX_NOTE));
    let room = Cause::MAX_REASON.saturating_sub(note.len());
    format!("{}{note}", cut(reason, room))
}

/// The original's headers that a dead letter has too: all but the broker's own and those of a dead letter.
fn users(headers: Option<&FieldTable>) -> FieldTable {
    let mut users = FieldTable::default();
    for (name, value) in kept(headers).inner() {
        let is_ours = match name.as_str() {
            names::REASON | names::ATTEMPTS | names::SERVICE | names::TIME => true,
            names::TOPIC => text(value).is_none_or(|topic| topic.len() <= names::MAX_TOPIC),
            _ => false,
        };
        if !is_ours {
            users.insert(name.clone(), value.clone());
        }
    }
    users
}

/// The headers that fit into the room, and the names and sizes of the others. The message's key comes first,
/// because a dead letter that is replayed needs it. Then come the smallest.
fn fitting(headers: &FieldTable, room: usize) -> (FieldTable, Vec<(String, usize)>) {
    let mut entries: Vec<_> = headers.inner().iter().collect();
    entries.sort_by_key(|(name, value)| (name.as_str() != names::KEY, entry_size(name, value)));
    let (mut fitting, mut left_out, mut taken) = (FieldTable::default(), Vec::new(), 0);
    for (name, value) in entries {
        let size = entry_size(name, value);
        if taken + size <= room {
            taken += size;
            fitting.insert(name.clone(), value.clone());
        } else {
            left_out.push((name.to_string(), size));
        }
    }
    (fitting, left_out)
}

/// The original's headers without the broker's own, and without those that would route it elsewhere.
pub(super) fn kept(headers: Option<&FieldTable>) -> FieldTable {
    let mut kept = FieldTable::default();
    let all = headers.into_iter().flat_map(|headers| headers.inner());
    for (name, value) in all {
        let brokers = HeaderOwner::of(name.as_str()) == HeaderOwner::Broker
            || name.as_str().eq_ignore_ascii_case(LEFT_OUT);
        if !brokers {
            kept.insert(name.clone(), value.clone());
        }
    }
    kept
}

/// The original's properties without the expiration, and without the user id, because RabbitMQ accepts a user
/// id only from that user.
pub(super) fn properties(
    original: &BasicProperties,
    headers: FieldTable,
    id: ShortString,
    bare: bool,
) -> BasicProperties {
    let mut kept = BasicProperties::default()
        .with_headers(headers)
        .with_message_id(id)
        .with_delivery_mode(original.delivery_mode().unwrap_or(1));
    if bare {
        return kept;
    }
    if let Some(value) = original.content_type() {
        kept = kept.with_content_type(value.clone());
    }
    if let Some(value) = original.content_encoding() {
        kept = kept.with_content_encoding(value.clone());
    }
    if let Some(value) = original.priority() {
        kept = kept.with_priority(*value);
    }
    if let Some(value) = original.correlation_id() {
        kept = kept.with_correlation_id(value.clone());
    }
    if let Some(value) = original.reply_to() {
        kept = kept.with_reply_to(value.clone());
    }
    if let Some(value) = original.timestamp() {
        kept = kept.with_timestamp(*value);
    }
    if let Some(value) = original.kind() {
        kept = kept.with_type(value.clone());
    }
    if let Some(value) = original.app_id() {
        kept = kept.with_app_id(value.clone());
    }
    kept
}
