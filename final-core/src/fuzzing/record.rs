//! A row of the outbox, read as a message.

use super::check_error;
use crate::{MessageId, database::stored::Stored};

/// A byte of flags (1 durable, 2 a key, 4 headers), then topic, key, headers, content type and
/// payload, each ended by `\xff`.
pub fn record(bytes: &[u8]) {
    let Some((flags, rest)) = bytes.split_first() else {
        return;
    };
    let mut parts = rest.splitn(5, |byte| *byte == 0xff);
    let mut part = || parts.next().unwrap_or_default();
    let [topic, key, headers, content_type] =
        std::array::from_fn(|_| String::from_utf8_lossy(part()).into_owned());
    let payload = part().to_vec();
    let stored = Stored {
        topic: topic.clone(),
        key: (flags & 2 != 0).then(|| key.clone()),
        headers: (flags & 4 != 0).then(|| headers.clone()),
        payload: payload.clone(),
        content_type: content_type.clone(),
        durable: flags & 1 != 0,
    };
    let id = MessageId::from_text(&key);
    let message = match stored.into_message(id) {
        Ok(message) => message,
        // A topic is no secret, and is shown.
        Err(reason) if reason.starts_with("topic ") => return assert!(reason.len() < 1024),
        Err(reason) => return check_error(&reason, 256),
    };

    assert_eq!(message.id(), id);
    assert_eq!(message.topic(), topic);
    assert!(!topic.trim().is_empty() && topic.len() <= 255);
    assert_eq!(message.key(), (flags & 2 != 0).then_some(key.as_str()));
    assert_eq!(message.payload().as_ref(), payload);
    assert_eq!(message.content_type(), content_type);
    assert_eq!(message.is_durable(), flags & 1 != 0);
    assert!(message.weight() >= payload.len());
    let shown = format!("{message:?}");
    assert!(shown.len() < 8 * 1024, "{} bytes of Debug", shown.len());
}
