//! A filter of dead letters as SQL.
//!
//! Input: a [`DeadLetterFilter`]. Output: conditions on the columns that every table of dead letters has, as
//! templates, and their values. The limit and the place in the list are not among them.

use super::DeadLetterFilter;
use crate::{
    database::Value,
    filter::{FilterColumns, has_id},
};

impl DeadLetterFilter {
    /// The conditions, each behind an `AND`, and their values.
    pub(crate) fn conditions(&self) -> (String, Vec<Value<'_>>) {
        let (mut parts, mut values) = self.words.conditions(&FilterColumns {
            reason: "reason",
            time: "died_at",
            of_micros: &str::to_owned,
        });
        if let Some(ids) = &self.words.ids {
            let (any, some) = has_id("message_id", ids);
            parts.push(any);
            values.extend(some);
        }
        let text = parts.iter().map(|part| format!(" AND {part}"));
        (text.collect(), values)
    }
}
