//! Payloads with a content encoding, as handlers take them.

use futures::FutureExt;
use serde::de::IgnoredAny;

use super::check_error;
use crate::{FromMessage, Json, Message, Payload};

const ENCODINGS: [&str; 8] = [
    "gzip",
    "deflate",
    "zstd",
    "gzip, deflate",
    "zstd:gzip",
    "gzip,gzip,gzip,gzip",
    "br",
    "utf-8",
];

/// The first byte chooses the encoding; the others are the payload.
pub fn encoded(bytes: &[u8]) {
    let Some((choice, payload)) = bytes.split_first() else {
        return;
    };
    let encoding = ENCODINGS[usize::from(*choice) % ENCODINGS.len()];
    let message = Message::new("order.placed", payload.to_vec()).with_content_encoding(encoding);
    taken::<Payload<IgnoredAny>>(&message);
    taken::<Json<IgnoredAny>>(&message);
    taken::<Json<u8>>(&message);
}

fn taken<T: FromMessage<()>>(message: &Message) {
    let taken = T::from_message(message, &()).now_or_never();
    if let Err(error) = taken.expect("decoding waits for nothing") {
        assert!(error.is_permanent());
        check_error(&error.to_string(), 2048);
    }
}
