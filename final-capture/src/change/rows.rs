//! From the rows of a message, as JSON, to [`Change`].

use std::borrow::Cow;

use serde::de::DeserializeOwned;

use super::{Change, ChangeError, ChangeInfo, ChangeOp, ChangedColumns};

/// The rows of a change, still as JSON.
pub(super) struct WireRows<'a> {
    pub(super) op: ChangeOp,
    pub(super) before: Option<Cow<'a, str>>,
    pub(super) after: Option<Cow<'a, str>>,
    pub(super) changed: ChangedColumns,
    /// Whether the row before is only a part of it.
    pub(super) partial: bool,
}

impl WireRows<'_> {
    /// Reads the rows.
    pub(super) fn read<T: DeserializeOwned>(self) -> Result<Change<T>, ChangeError> {
        let row = |row: Option<Cow<'_, str>>, incomplete: bool, which: &str| {
            let row = row.ok_or_else(|| {
                ChangeError::new(format!(
                    "its `{which}` is missing, which each {} has",
                    name(self.op)
                ))
            })?;
            serde_json::from_str(&row)
                .map_err(|error| ChangeError::row(&error, incomplete).row_of::<T>())
        };
        let left_out = !self.changed.left_out().is_empty();
        Ok(match self.op {
            ChangeOp::Insert => Change::Insert {
                after: row(self.after, left_out, "after")?,
            },
            ChangeOp::Read => Change::Read {
                after: row(self.after, left_out, "after")?,
            },
            ChangeOp::Delete => Change::Delete {
                before: row(self.before, self.partial, "before")?,
            },
            ChangeOp::Update => Change::Update {
                before: match (self.before, self.partial) {
                    (None, _) => None,
                    // A handler can do without what was only a part.
                    (Some(before), true) => serde_json::from_str(&before).ok(),
                    (before, false) => Some(row(before, false, "before")?),
                },
                after: row(self.after, left_out, "after")?,
                changed: self.changed,
            },
            ChangeOp::Truncate => Change::Truncate,
        })
    }
}

fn name(op: ChangeOp) -> &'static str {
    match op {
        ChangeOp::Insert => "insert",
        ChangeOp::Update => "update",
        ChangeOp::Delete => "delete",
        ChangeOp::Read => "read",
        ChangeOp::Truncate => "truncate",
    }
}

/// A change with what is known beside it.
pub(super) type WithInfo<'a> = (ChangeInfo, WireRows<'a>);
