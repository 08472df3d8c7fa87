//! The payload, from msgpack.

use serde::de::DeserializeOwned;

use super::{encoding, msgpack, rejection::Undecodable};
use crate::{FromMessage, HandlerError, Message};

/// Extracts the payload, decoded from msgpack as `Bus::publish` encodes it.
///
/// Types with two forms are read in both: an `IpAddr` from text, as `publish` writes it, and from the
/// bytes that earlier releases wrote; a `Uuid` from 16 bytes, and from text. What `publish` does not take is
/// told at [`IntoPayload`](crate::payload::IntoPayload). What other languages write otherwise is read where it
/// can mean one thing only: nil for an empty list, 12.0 for a whole number, a timestamp for a time in text.
/// `docs/payloads.md` of the repository has a table.
///
/// # Compressed payloads
///
/// With the feature `compression` of this crate, `Payload` and [`Json`](crate::Json) undo the content encodings
/// gzip, deflate and zstd of other producers, up to 64 MiB. Kombu and Celery name the compression in the header
/// `compression`, and that is read too. [`Bytes`](crate::Bytes) are as they were sent. A
/// broken stream, more than 64 MiB or an unknown encoding is a permanent failure that tells which.
///
/// # Errors
///
/// A payload that is not msgpack, or not a `T`, is a permanent failure that tells why: the message
/// goes to the dead letters at once. So does one nested deeper than 128 levels.
///
/// ```
/// use final_core::Payload;
///
/// #[derive(serde::Deserialize)]
/// struct OrderPlaced {
///     id: i64,
///     total: i64,
/// }
///
/// async fn send_receipt(Payload(order): Payload<OrderPlaced>) {
///     println!("order {} for {}", order.id, order.total);
/// }
/// # let _: final_core::Router = final_core::Router::new().route("order.placed", send_receipt);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Payload<T>(pub T);

impl<S: Sync, T: DeserializeOwned> FromMessage<S> for Payload<T> {
    async fn from_message(message: &Message, _: &S) -> Result<Self, HandlerError> {
        encoding::decoded(message, msgpack::decode)
            .map(Self)
            .map_err(|reason| Undecodable::reject::<T>(message, "msgpack", &reason))
    }
}
