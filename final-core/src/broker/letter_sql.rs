//! A filter of dead letters as SQL.
//!
//! Input: a [`DeadLetterFilter`]. Output: conditions on the columns that every table of dead letters has, as
//! templates, and their values. The limit and the place in the list are not among them.

use super::DeadLetterFilter;
use crate::database::{
    Value,
    limits::{micros, since_1970},
    lists::{list, padded},
};

impl DeadLetterFilter {
    /// The conditions, each behind an `AND`, and their values.
    pub(crate) fn conditions(&self) -> (String, Vec<Value<'_>>) {
        let (mut text, mut values) = (String::new(), Vec::new());
        if let Some(topic) = &self.topic {
            // MySQL compares without the blanks at the end.
            text.push_str(" AND topic = ? AND LENGTH(topic) = LENGTH(?)");
            values.extend([topic.as_str().into(), topic.as_str().into()]);
        }
        if let Some(key) = &self.key {
            text.push_str(" AND message_key = ? AND LENGTH(message_key) = LENGTH(?)");
            values.extend([key.as_str().into(), key.as_str().into()]);
        }
        if let Some(reason) = &self.reason {
            text.push_str(" AND {position}(reason, ?) > 0");
            values.push(reason.as_str().into());
        }
        if let Some(ids) = &self.ids {
            if ids.is_empty() {
                text.push_str(" AND 1 = 0");
            } else {
                let ids = padded(ids);
                text.push_str(&format!(" AND message_id IN ({})", list(ids.len())));
                values.extend(ids.into_iter().map(|id| Value::from(id.0)));
            }
        }
        if let Some(age) = self.older_than {
            text.push_str(" AND died_at <= {now} - ?");
            values.push(micros(age).into());
        }
        if let Some(moment) = self.before {
            text.push_str(" AND died_at <= ?");
            values.push(since_1970(moment).into());
        }
        (text, values)
    }
}
