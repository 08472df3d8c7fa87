//! All changes of a message, for captures that keep transactions whole.

use final_core::{FromMessage, HandlerError, Hold, Message, OnFailure};
use serde::de::DeserializeOwned;

use super::{Change, ChangeError, ChangeInfo, TransactionPart, read, wire};

/// All changes of a message, as an argument of a handler: for captures whose messages are transactions.
///
/// A message of a single change is a list of one. A transaction that is too large for one message comes in several
/// messages, one after the other. The last one says that it is the last.
///
/// A transaction can change several tables. `Changes` without a type has the rows as JSON, and
/// [`Change::read`] gives them a type once the table is known:
///
/// ```
/// use final_capture::change::{ChangeError, Changes};
/// # #[derive(serde::Deserialize)] struct Hole { id: i64 }
/// # #[derive(serde::Deserialize)] struct Reply { id: i64 }
///
/// async fn on_transaction(changes: Changes) -> Result<(), ChangeError> {
///     for (info, change) in changes {
///         match info.table.as_str() {
///             "holes" => drop(change.read::<Hole>()?),
///             "replies" => drop(change.read::<Reply>()?),
///             _ => {}
///         }
///     }
///     Ok(())
/// }
/// # let _: final_core::Router = final_core::Router::new().route("cdc.transactions", on_transaction);
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Changes<T = serde_json::Value> {
    /// When the transaction was committed, by the source's clock: RFC 3339 in UTC.
    pub at: Option<String>,
    /// The point of the source after which the transaction begins.
    pub position: Option<String>,
    /// The transaction. Its index is that of the first change of this message.
    pub transaction: Option<TransactionPart>,
    /// The changes in their order.
    pub list: Vec<(ChangeInfo, Change<T>)>,
}

impl<T: DeserializeOwned> Changes<T> {
    /// Reads the changes from the payload of a message, where there is no handler.
    ///
    /// # Errors
    ///
    /// The payload has no changes, or a row is no `T`.
    pub fn from_json(payload: &[u8]) -> Result<Self, ChangeError> {
        Self::new(payload, wire::Encoding::default())
    }

    fn new(payload: &[u8], encoding: wire::Encoding) -> Result<Self, ChangeError> {
        let (envelope, all) = read::all(payload, encoding)?;
        let list = all.into_iter().map(|(info, rows)| Ok((info, rows.read()?)));
        Ok(Self {
            at: envelope.at,
            position: envelope.position,
            transaction: envelope.tx,
            list: list.collect::<Result<_, ChangeError>>()?,
        })
    }
}

impl<T> IntoIterator for Changes<T> {
    type Item = (ChangeInfo, Change<T>);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.into_iter()
    }
}

impl<S: Sync, T: DeserializeOwned> FromMessage<S> for Changes<T> {
    const ON_FAILURE: Option<OnFailure> = Some(OnFailure::Hold(Hold::Key));

    async fn from_message(message: &Message, state: &S) -> Result<Self, HandlerError> {
        let payload = wire::payload(message, state).await?;
        let changes = Self::new(payload.bytes(), payload.encoding());
        changes.map_err(|error| HandlerError::permanent(error.of(message)))
    }
}
