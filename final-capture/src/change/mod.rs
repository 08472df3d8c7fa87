//! A change as a handler takes it.
//!
//! Input: a message of a capture, in JSON of ours or of dbsync. Output: [`Change`], with the rows as types of the
//! handler's own, and [`ChangeInfo`] beside it. It keeps no state, and needs no feature of this crate.
//!
//! ```text
//!   message ─▶ wire: JSON of ours ─┐
//!           └▶ dbsync's JSON ──────┴▶ wire change ─▶ rows read as T ─▶ Change<T>, Changes<T>
//! ```

mod changed;
mod changes;
mod column;
mod dbsync;
mod distinct;
mod error;
mod extract;
mod info;
mod read;
mod rows;
mod wire;

#[cfg(feature = "capture")]
pub(crate) use self::wire::READABLE;
pub use self::{
    changed::ChangedColumns,
    changes::Changes,
    column::{Base64, Exact, Flag},
    error::ChangeError,
    info::{ChangeInfo, ChangeOp, MovedKey, TransactionPart},
};

use serde::de::DeserializeOwned;

/// A change of a row of type `T`, as an argument of a handler.
///
/// It reads what a capture writes in its own JSON and in that of dbsync. `T` is a type with the columns that the handler
/// wants, by their names; columns that it does not name are passed over.
///
/// ```
/// use final_capture::{Change, change::Flag};
/// use final_core::Router;
///
/// #[derive(serde::Deserialize)]
/// struct Hole {
///     hole_id: i64,
///     content: String,
///     forest_id: Option<i64>,
///     is_deleted: Flag,
/// }
///
/// async fn on_hole(change: Change<Hole>) {
///     match change {
///         Change::Insert { after } | Change::Read { after } => println!("new: {}", after.content),
///         Change::Update { after, changed, .. } if changed.contains("content") => {
///             println!("now: {}", after.content);
///         }
///         Change::Update { .. } => {}
///         Change::Delete { before } => println!("gone: {}", before.hole_id),
///         Change::Truncate => println!("all gone"),
///     }
/// }
///
/// let router: Router = Router::new().route("cdc.shop.holes", on_hole);
/// # let _ = router;
/// ```
///
/// # Rows that came in part
///
/// A database does not always send whole rows. PostgreSQL sends of an old row only the key unless the table has
/// `REPLICA IDENTITY FULL`, and leaves large values out that an UPDATE did not touch. Such columns are missing in `T`: a
/// field that is an `Option` or has `#[serde(default)]` takes it, and any other one makes the message fail for good, with
/// the way out in the error. [`ChangedColumns`] tells a column that was left out from one that became NULL.
///
/// # What happens to a change that cannot be handled
///
/// It is [held](final_core::OnFailure::Hold) unless the route says otherwise: the log delivers it again and again, with growing
/// pauses, and later changes of its row wait behind it, because a row must not run past a gap. An operator who skips it
/// decides about the gap. So it is where the payload is no change, or its row is no `T`.
///
/// Only the log can hold. A service that takes changes from RabbitMQ says
/// `.on_failure(OnFailure::DeadLetter)` for the route, or does not start.
#[derive(Clone, Debug, PartialEq)]
pub enum Change<T> {
    /// A row was inserted.
    Insert {
        /// The row.
        after: T,
    },
    /// A row was changed.
    Update {
        /// The row before. None if the source did not send it, or only a part of it that is no `T`.
        before: Option<T>,
        /// The row after.
        after: T,
        /// Which columns have changed.
        changed: ChangedColumns,
    },
    /// A row was deleted.
    Delete {
        /// The row before: at least its key.
        before: T,
    },
    /// A row was there when the capture began.
    Read {
        /// The row.
        after: T,
    },
    /// The table was emptied.
    Truncate,
}

impl<T> Change<T> {
    /// What happened.
    #[must_use]
    pub fn op(&self) -> ChangeOp {
        match self {
            Self::Insert { .. } => ChangeOp::Insert,
            Self::Update { .. } => ChangeOp::Update,
            Self::Delete { .. } => ChangeOp::Delete,
            Self::Read { .. } => ChangeOp::Read,
            Self::Truncate => ChangeOp::Truncate,
        }
    }

    /// The row after the change, if there is one.
    #[must_use]
    pub fn after(&self) -> Option<&T> {
        match self {
            Self::Insert { after } | Self::Update { after, .. } | Self::Read { after } => {
                Some(after)
            }
            Self::Delete { .. } | Self::Truncate => None,
        }
    }

    /// The row before the change, if there was one and the source sent it.
    #[must_use]
    pub fn before(&self) -> Option<&T> {
        match self {
            Self::Update { before, .. } => before.as_ref(),
            Self::Delete { before } => Some(before),
            Self::Insert { .. } | Self::Read { .. } | Self::Truncate => None,
        }
    }
}

impl<T: DeserializeOwned> Change<T> {
    /// Reads a change from the payload of a message, where there is no handler.
    ///
    /// # Errors
    ///
    /// The payload is no change, has several changes, or its row is no `T`.
    pub fn from_json(payload: &[u8]) -> Result<Self, ChangeError> {
        read::one(payload, wire::Encoding::default()).and_then(|(_, change)| change.read())
    }
}

impl Change<serde_json::Value> {
    /// The same change with another type of rows: for changes of several tables.
    ///
    /// # Errors
    ///
    /// A row is no `U`.
    pub fn read<U: DeserializeOwned>(self) -> Result<Change<U>, ChangeError> {
        let of = |row| serde_json::from_value(row).map_err(|error| ChangeError::row(&error, false));
        Ok(match self {
            Self::Insert { after } => Change::Insert { after: of(after)? },
            Self::Update {
                before,
                after,
                changed,
            } => Change::Update {
                before: before.map(of).transpose()?,
                after: of(after)?,
                changed,
            },
            Self::Delete { before } => Change::Delete {
                before: of(before)?,
            },
            Self::Read { after } => Change::Read { after: of(after)? },
            Self::Truncate => Change::Truncate,
        })
    }
}

#[cfg(test)]
mod tests;
