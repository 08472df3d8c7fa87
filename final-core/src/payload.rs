//! Payloads on their way out: what may be published, and how it is encoded.

use bytes::Bytes;
use serde::Serialize;

use crate::{BoxError, message::MSGPACK};

/// What may be published.
///
/// | Published | is sent as |
/// | --- | --- |
/// | `&order`, of any type that is [`Serialize`] | msgpack with field names, so that other languages read it too |
/// | [`Json(&order)`](crate::Json) | JSON |
/// | [`Bytes`](crate::Bytes) | themselves |
///
/// ```
/// use final_core::IntoPayload;
///
/// #[derive(serde::Serialize)]
/// struct OrderPlaced {
///     id: i64,
/// }
///
/// let payload = (&OrderPlaced { id: 7 }).into_payload()?;
/// assert_eq!(&payload.bytes[..], b"\x81\xa2id\x07");
/// assert_eq!(payload.content_type, "application/msgpack");
/// # Ok::<_, final_core::BoxError>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be published",
    label = "not a payload",
    note = "publish a reference to something that is `Serialize` (`&order`), `Json(&order)`, or `Bytes`"
)]
pub trait IntoPayload {
    /// Encodes it.
    fn into_payload(self) -> Result<EncodedPayload, BoxError>;
}

/// A payload as it is stored and sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedPayload {
    /// The bytes.
    pub bytes: Bytes,
    /// What they are, `application/msgpack` for example.
    pub content_type: &'static str,
}

impl<T: Serialize + ?Sized> IntoPayload for &T {
    fn into_payload(self) -> Result<EncodedPayload, BoxError> {
        Ok(EncodedPayload {
            bytes: rmp_serde::to_vec_named(self)?.into(),
            content_type: MSGPACK,
        })
    }
}

impl IntoPayload for Bytes {
    fn into_payload(self) -> Result<EncodedPayload, BoxError> {
        Ok(EncodedPayload {
            bytes: self,
            content_type: "application/octet-stream",
        })
    }
}
