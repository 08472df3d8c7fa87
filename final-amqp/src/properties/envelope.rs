//! The envelope of a delivery: everything but its payload, as a text that an outbox can store.
//!
//! Input: a delivery, and its id in this process. Output: a text; and the same delivery again. The properties are
//! written as AMQP writes them, so every header keeps its type.
//!
//! ```text
//! base64( version ─ 1 if the id is ours ─ id ─ exchange ─ routing key ─ properties )
//! ```

use bytes::Bytes;
use lapin::{
    BasicProperties,
    protocol::basic::{gen_properties, parse_properties},
    types::ShortString,
};

use super::{BROKER_ROOM, DEAD_LETTER_ROOM, Original, dead_letter::kept, frame_size};

/// The version of this form.
const VERSION: u8 = 1;

/// The largest frame of RabbitMQ by default. Properties that do not fit into one frame with room left cannot be sent
/// again.
const FRAME: usize = 128 * 1024;

/// A delivery that was read from an envelope.
#[derive(Debug)]
pub(crate) struct Enveloped {
    pub(crate) original: Original,
    /// The id that it is sent with.
    pub(crate) id: String,
    /// Whether this bus has made the id, because the producer gave none.
    pub(crate) is_id_ours: bool,
}

/// Writes the envelope. `None` if the message is too large to be sent again.
pub(crate) fn envelope(original: &Original, id: &str, is_id_ours: bool) -> Option<String> {
    if !fits_again(&original.properties) {
        return None;
    }
    write(original, id, is_id_ours)
}

/// Writes the envelope of a dead letter that is collected, whatever its size: RabbitMQ is about to forget it. If it is
/// too large to be sent again, it is without the broker's own headers, which only tell of its death.
pub(crate) fn letter_envelope(original: &Original, id: &str, is_id_ours: bool) -> String {
    let own = match fits_again(&original.properties) {
        true => None,
        false => {
            let headers = kept(original.properties.headers().as_ref());
            Some(original.properties.clone().with_headers(headers))
        }
    };
    let mut original = std::borrow::Cow::Borrowed(original);
    if let Some(own) = own {
        original.to_mut().properties = own;
    }
    // Each text and the properties came over the wire, so they can be written again.
    write(&original, id, is_id_ours).unwrap_or_default()
}

fn fits_again(properties: &BasicProperties) -> bool {
    frame_size(properties) + DEAD_LETTER_ROOM + BROKER_ROOM <= FRAME
}

/// `None` if a part of it cannot be written in AMQP.
fn write(original: &Original, id: &str, is_id_ours: bool) -> Option<String> {
    let properties = &original.properties;
    let mut bytes = vec![VERSION, is_id_ours.into()];
    for text in [
        id,
        original.exchange.as_str(),
        original.routing_key.as_str(),
    ] {
        bytes.push(u8::try_from(text.len()).ok()?);
        bytes.extend(text.as_bytes());
    }
    let written = gen_properties(properties)(Vec::new().into()).ok()?.write;
    bytes.extend(written);
    Some(base64(&bytes))
}

/// Reads an envelope, beside its payload. The error says why it cannot be read.
pub(crate) fn open(envelope: &str, payload: Bytes) -> Result<Enveloped, String> {
    let failed = |what: &str| format!("its envelope cannot be read: {what}");
    let bytes = from_base64(envelope).ok_or_else(|| failed("it is not base64"))?;
    let [VERSION, ours, rest @ ..] = &bytes[..] else {
        return Err(failed("it is of another version"));
    };
    let (mut rest, mut texts) = (rest, [const { String::new() }; 3]);
    for text in &mut texts {
        let part = rest.split_first();
        let part = part.and_then(|(length, rest)| rest.split_at_checked((*length).into()));
        let (part, after) = part.ok_or_else(|| failed("it is too short"))?;
        *text = String::from_utf8_lossy(part).into_owned();
        rest = after;
    }
    let (_, properties): (_, BasicProperties) =
        parse_properties(rest).map_err(|_| failed("its properties are not of AMQP"))?;
    let [id, exchange, routing_key] = texts;
    let short = |text| ShortString::try_new(text).map_err(|_| failed("a text is too long"));
    Ok(Enveloped {
        original: Original::new(
            properties,
            short(exchange)?,
            short(routing_key)?,
            false,
            payload,
            &[],
        ),
        id,
        is_id_ours: *ours != 0,
    })
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let byte = |at: usize| u32::from(three.get(at).copied().unwrap_or(0));
        let all = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..=three.len() {
            text.push(DIGITS[(all >> (18 - 6 * at)) as usize & 63].into());
        }
    }
    text
}

fn from_base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
    for four in text.as_bytes().chunks(4) {
        let mut all = 0;
        for at in 0..4 {
            let digit = match four.get(at) {
                Some(digit) => DIGITS.iter().position(|one| one == digit)?,
                None => 0,
            };
            all = all << 6 | u32::try_from(digit).ok()?;
        }
        let [_, three @ ..] = all.to_be_bytes();
        bytes.extend(three.get(..four.len().checked_sub(1)?)?);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn base64_gives_the_same_bytes_again(bytes: Vec<u8>) {
            prop_assert_eq!(from_base64(&base64(&bytes)), Some(bytes));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,200}", bytes: Vec<u8>) {
            let _ = open(&text, Bytes::new());
            let _ = open(&base64(&bytes), Bytes::new());
            let begun = [&[VERSION, 0, 0, 0, 0], &bytes[..]].concat();
            let _ = open(&base64(&begun), Bytes::new());
        }
    }
}
