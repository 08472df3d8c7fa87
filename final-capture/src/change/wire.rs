//! The JSON of a capture, as it is parsed.
//!
//! Input: the payload of a message. Output: its fields, the rows still as text.

use std::borrow::Cow;

use final_core::{FromMessage, HandlerError, Json, Message};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::{
    distinct::Distinct,
    info::{ChangeOp, TransactionPart},
};

/// The header of dbsync's messages whose TEXT and JSON columns are text, and not base64.
pub(crate) const READABLE: &str = "dbsync-readable";

/// A message: one change, or several of a transaction, or a message of dbsync. It is parsed once, whichever it is.
#[derive(Deserialize)]
pub(super) struct WireMessage<'a> {
    #[serde(default)]
    pub(super) op: Option<ChangeOp>,
    #[serde(default)]
    pub(super) schema: Option<String>,
    #[serde(default)]
    pub(super) table: Option<String>,
    #[serde(default, borrow)]
    pub(super) key: Option<Distinct<'a, Value>>,
    #[serde(default, borrow)]
    pub(super) before: Option<&'a RawValue>,
    #[serde(default, borrow)]
    pub(super) after: Option<&'a RawValue>,
    #[serde(default)]
    pub(super) changed: Option<Vec<String>>,
    #[serde(default)]
    pub(super) unchanged: Vec<String>,
    #[serde(default)]
    pub(super) partial: bool,
    #[serde(default, borrow)]
    pub(super) invalid: WireInvalid<'a>,
    #[serde(default, borrow)]
    pub(super) moved_to: Option<Distinct<'a, Value>>,
    #[serde(default, borrow)]
    pub(super) moved_from: Option<Distinct<'a, Value>>,
    #[serde(default)]
    pub(super) at: Option<String>,
    #[serde(default)]
    pub(super) position: Option<String>,
    #[serde(default)]
    pub(super) tx: Option<TransactionPart>,
    /// In a change of a transaction: which one it is.
    #[serde(default)]
    pub(super) index: Option<u64>,
    /// Those of a transaction.
    #[serde(default, borrow)]
    pub(super) changes: Option<Vec<&'a RawValue>>,
    /// Only messages of dbsync have it.
    #[serde(default, borrow, rename = "Action")]
    pub(super) action: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
pub(super) struct WireInvalid<'a> {
    #[serde(default, borrow)]
    pub(super) after: Distinct<'a, String>,
}

/// How the rows are written, as far as the message tells it beside its payload.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Encoding {
    /// dbsync's TEXT and JSON columns are text.
    pub(super) readable: bool,
}

/// The payload of a message, without its compression.
pub(super) struct WirePayload<'a> {
    bytes: Cow<'a, [u8]>,
    encoding: Encoding,
}

impl WirePayload<'_> {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn encoding(&self) -> Encoding {
        self.encoding
    }
}

/// The payload of a message.
pub(super) async fn payload<'a, S: Sync>(
    message: &'a Message,
    state: &S,
) -> Result<WirePayload<'a>, HandlerError> {
    let bytes = match message.content_encoding() {
        None => Cow::Borrowed(&message.payload()[..]),
        // The core undoes it.
        Some(_) => {
            let Json(text) = Json::<Box<RawValue>>::from_message(message, state).await?;
            Cow::Owned(text.get().as_bytes().to_vec())
        }
    };
    let readable = message.headers().get(READABLE).is_some();
    Ok(WirePayload {
        bytes,
        encoding: Encoding { readable },
    })
}
