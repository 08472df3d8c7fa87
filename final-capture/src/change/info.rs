//! What is known of a change beside its rows.

use std::collections::BTreeMap;

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::ChangeError;

/// What happened to a row or a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ChangeOp {
    /// A row was inserted.
    Insert,
    /// A row was changed.
    Update,
    /// A row was deleted.
    Delete,
    /// A row was there when the capture began.
    Read,
    /// A table was emptied.
    Truncate,
}

/// What is known of a change beside its rows, as an argument of a handler.
///
/// ```
/// use final_capture::{Change, change::ChangeInfo};
/// # #[derive(serde::Deserialize)] struct Hole { id: i64 }
///
/// async fn on_hole(change: Change<Hole>, info: ChangeInfo) {
///     println!("{:?} in {} at {:?}", change.op(), info.table, info.at);
/// }
/// # let _: final_core::Router = final_core::Router::new().route("cdc.shop.holes", on_hole);
/// ```
///
/// A message of dbsync has no more than the table and what happened.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ChangeInfo {
    /// What happened.
    pub op: ChangeOp,
    /// The schema of the table, on MariaDB its database.
    pub schema: Option<String>,
    /// The table.
    pub table: String,
    /// The key of the row, by its columns. None if the table has none.
    pub key: Option<Map<String, Value>>,
    /// When the transaction was committed, by the source's clock: RFC 3339 in UTC.
    pub at: Option<String>,
    /// The point of the source after which the transaction begins.
    pub position: Option<String>,
    /// The transaction.
    pub transaction: Option<TransactionPart>,
    /// Columns that the new row has no value for, because they have not changed.
    pub unchanged: Vec<String>,
    /// Columns of the new row that are null in JSON, because they hold no date or no JSON, with the text that the source
    /// prints.
    pub invalid: BTreeMap<String, String>,
    /// The other key, if this is one half of a change of the key.
    pub moved: Option<MovedKey>,
}

impl ChangeInfo {
    /// The key as a type of one's own.
    ///
    /// # Errors
    ///
    /// The table has no key, or it is no `K`.
    pub fn key<K: DeserializeOwned>(&self) -> Result<K, ChangeError> {
        let key = self
            .key
            .clone()
            .ok_or_else(|| ChangeError::new("the table has no key"))?;
        let key = serde_json::from_value(Value::Object(key));
        key.map_err(|error| ChangeError::row(&error, false).row_of::<K>())
    }
}

/// The transaction that a change belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct TransactionPart {
    /// Its id at the source.
    pub id: String,
    /// Which change of the transaction this is, counted over everything that the source sent of it.
    pub index: u64,
    /// Whether no change of the transaction follows. False as well where the last one could not be handed over.
    #[serde(default)]
    pub last: bool,
}

/// The other key of a row whose key was changed: its two halves come as a delete and an insert.
#[derive(Clone, Debug, PartialEq)]
pub enum MovedKey {
    /// This is the delete, and the row has this key now.
    To(Map<String, Value>),
    /// This is the insert, and the row had this key before.
    From(Map<String, Value>),
}
