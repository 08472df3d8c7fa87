//! What a message says of one change, whatever its format.

use crate::value::Value;

/// What a message says of one change.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece<'a> {
    pub(super) op: Op,
    pub(super) before: Option<&'a [Value]>,
    pub(super) after: Option<&'a [Value]>,
    /// The other half of a change of the key, which comes as two messages.
    pub(super) moved: Option<&'a [Value]>,
}

/// What a message says that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Insert,
    Update,
    Delete,
    Truncate,
}

impl Op {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Truncate => "truncate",
        }
    }
}

impl<'a> Piece<'a> {
    /// The value of a column of the key: that after the change, or that before it if the source sent it only there.
    pub(super) fn key_value(&self, at: usize) -> &'a Value {
        let of = |row: Option<&'a [Value]>| {
            row.and_then(|row| row.get(at))
                .filter(|value| **value != Value::Absent)
        };
        of(self.after).or(of(self.before)).unwrap_or(&Value::Absent)
    }
}
