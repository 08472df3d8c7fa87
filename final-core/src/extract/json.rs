//! The payload, from and to JSON.

use std::borrow::Cow;

use serde::{Serialize, de::DeserializeOwned};

use super::{encoding, rejection::Undecodable};
use crate::{
    BoxError, FromMessage, HandlerError, Message,
    payload::{EncodedPayload, IntoPayload, to_json},
};

/// JSON in place of msgpack: for a handler, an extractor of the payload; for publishing, around what
/// is published.
///
/// ```
/// use final_core::{Bytes, Json, payload::IntoPayload};
///
/// async fn on_click(Json(position): Json<(u32, u32)>) {
///     println!("{position:?}");
/// }
/// # let _: final_core::Router = final_core::Router::new().route("click", on_click);
///
/// let payload = Json((3, 4)).into_payload()?;
/// assert_eq!(payload.bytes, Bytes::from("[3,4]"));
/// assert_eq!(payload.content_type, "application/json");
/// # Ok::<_, final_core::BoxError>(())
/// ```
///
/// JSON of others may have a byte order mark or be UTF-16, and may be [compressed](crate::Payload#compressed-payloads).
///
/// A payload that is not JSON, or not a `T`, is a permanent failure that tells why. What cannot be
/// published is told at [`IntoPayload`]: NaN, for example.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Json<T>(pub T);

impl<S: Sync, T: DeserializeOwned> FromMessage<S> for Json<T> {
    async fn from_message(message: &Message, _: &S) -> Result<Self, HandlerError> {
        encoding::decoded(message, decode)
            .map(Self)
            .map_err(|reason| Undecodable::reject::<T>(message, "JSON", &reason))
    }
}

/// Decodes JSON, in UTF-8 as the standard asks for, or else as other producers write it.
fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    // serde_json has its own limit of 128 levels.
    serde_json::from_slice(bytes).or_else(|error| {
        let other = plain(bytes).map(|text| serde_json::from_slice(&text));
        let decoded = other.unwrap_or(Err(error));
        decoded.map_err(|error| error.to_string())
    })
}

/// JSON without a byte order mark, in UTF-8. `None` if it is that already, or nothing known.
///
/// JSON has no NUL, and begins with a character of ASCII. So one NUL among the first two bytes means UTF-16.
fn plain(bytes: &[u8]) -> Option<Cow<'_, [u8]>> {
    let (units, convert): (_, fn([u8; 2]) -> u16) = match bytes {
        [0xef, 0xbb, 0xbf, rest @ ..] => return Some(Cow::Borrowed(rest)),
        [0xff, 0xfe, rest @ ..] => (rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => (rest, u16::from_be_bytes),
        [first, 0, ..] if *first != 0 => (bytes, u16::from_le_bytes),
        [0, second, ..] if *second != 0 => (bytes, u16::from_be_bytes),
        _ => return None,
    };
    let (units, []) = units.as_chunks() else {
        return None;
    };
    let text: Result<String, _> =
        char::decode_utf16(units.iter().map(|unit| convert(*unit))).collect();
    Some(Cow::Owned(text.ok()?.into_bytes()))
}

impl<T: Serialize> IntoPayload for Json<T> {
    fn into_payload(self) -> Result<EncodedPayload, BoxError> {
        Ok(EncodedPayload {
            bytes: to_json(&self.0)?.into(),
            content_type: "application/json",
        })
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn a_float_arrives_as_it_was_published() {
        for float in [1.111_111_111_111_111_1e21, 0.1 + 0.2, 5e-324, f64::MAX] {
            let payload = Json(float).into_payload().unwrap();
            let message = Message::new("topic", payload.bytes);

            let arrived = Json::<f64>::from_message(&message, &()).now_or_never();

            assert_eq!(arrived.unwrap().unwrap(), Json(float));
        }
    }
}
