//! The payload, from and to JSON.

use serde::{Serialize, de::DeserializeOwned};

use super::rejection::Undecodable;
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
/// A payload that is not JSON, or not a `T`, is a permanent failure that tells why. What cannot be
/// published is told at [`IntoPayload`]: NaN, for example.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Json<T>(pub T);

impl<S: Sync, T: DeserializeOwned> FromMessage<S> for Json<T> {
    async fn from_message(message: &Message, _: &S) -> Result<Self, HandlerError> {
        // serde_json has its own limit of 128 levels.
        serde_json::from_slice(message.payload())
            .map(Self)
            .map_err(|error| Undecodable::reject::<T>(message, "JSON", &error.to_string()))
    }
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
