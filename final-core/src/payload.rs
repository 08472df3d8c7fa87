//! Payloads that are published: what may be one, and how it is encoded.
//!
//! Input: a value that is `Serialize`, or bytes. Output: an [`EncodedPayload`], or an error for a value that
//! the reader of the same type could not read back.

mod binary;
mod compound;
mod context;
mod readable;
mod serializer;
#[cfg(test)]
mod tests;
mod value;

use bytes::Bytes;
use serde::Serialize;

pub use self::readable::{JSON_DEPTH, check_json};
use self::{context::Context, value::ValueInContext};
use crate::{BoxError, message::MSGPACK};

/// What may be published.
///
/// | Published | is sent as |
/// | --- | --- |
/// | `&order`, of any type that is [`Serialize`] | msgpack with field names, so that other languages read it too |
/// | [`Json(&order)`](crate::Json) | JSON |
/// | [`Bytes`] | themselves |
///
/// A type with two forms, like `IpAddr`, is written as text. Only a `Uuid` is 16 bytes in msgpack, as
/// other languages have it.
///
/// # Errors
///
/// A value that a handler could not read is refused, with the name of the field:
///
/// - an `i128` or `u128` inside of `#[serde(tag = …)]` or `#[serde(flatten)]`;
/// - in JSON, keys that are numbers or `bool` inside of the same, and NaN and infinity anywhere;
/// - a field that is there twice, by `tag` or `flatten`;
/// - more than 128 levels, or 127 in JSON.
///
/// Inside of `#[serde(untagged)]` the first two cannot be detected: they are published, and then
/// dead-lettered. `Some(None)` arrives as `None`.
///
/// ```
/// use final_core::payload::IntoPayload;
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
            bytes: to_msgpack(self)?.into(),
            content_type: MSGPACK,
        })
    }
}

/// Encodes as msgpack, with what `Payload` can read back.
fn to_msgpack<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, rmp_serde::encode::Error> {
    let mut bytes = Vec::new();
    // `Checked` says that it is human-readable; with the same answer here no type can see two answers.
    let mut serializer = rmp_serde::Serializer::new(&mut bytes)
        .with_struct_map()
        .with_human_readable();
    ValueInContext::new(value, Context::root(false)).serialize(&mut serializer)?;
    Ok(bytes)
}

/// Encodes as JSON, with what `Json` can read back.
pub(crate) fn to_json<T: Serialize + ?Sized>(value: &T) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&ValueInContext::new(value, Context::root(true)))
}

impl IntoPayload for Bytes {
    fn into_payload(self) -> Result<EncodedPayload, BoxError> {
        Ok(EncodedPayload {
            bytes: self,
            content_type: "application/octet-stream",
        })
    }
}
