//! Which records are meant.
//!
//! Input: what a person asks for. Output: a [`RecordFilter`].

use std::{
    fmt,
    str::FromStr,
    time::{Duration, SystemTime},
};

use uuid::Uuid;

use super::RecordState;
use crate::{
    MessageId,
    admin::desk::time_of,
    database::{
        Dialect, Value,
        limits::{micros, since_1970},
    },
};

/// How many records a page has, unless the filter says something else, and how many at most.
const USUAL: u32 = 100;
const MOST: u32 = 1_000;

/// The most ids that a filter takes.
const MOST_IDS: usize = 512;

/// Which records are meant: all of an outbox, unless narrowed.
///
/// ```
/// # use final_core::admin::{RecordFilter, RecordState};
/// let refused = RecordFilter::all().state(RecordState::Failed).topic("order.placed").limit(50);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use]
pub struct RecordFilter {
    pub(in crate::admin) states: Vec<RecordState>,
    pub(in crate::admin) topic: Option<String>,
    pub(in crate::admin) key: Option<String>,
    pub(in crate::admin) reason: Option<String>,
    pub(in crate::admin) ids: Option<Vec<MessageId>>,
    pub(in crate::admin) older_than: Option<Duration>,
    pub(in crate::admin) before: Option<SystemTime>,
    pub(in crate::admin) limit: Option<u32>,
    pub(in crate::admin) after: Option<RecordCursor>,
}

impl RecordFilter {
    /// All records. They are listed by their state: failed, unroutable, in hand, pending, acked.
    pub fn all() -> Self {
        Self::default()
    }

    /// Only records of this state. A second call adds a state.
    pub fn state(mut self, state: RecordState) -> Self {
        if !self.states.contains(&state) {
            self.states.push(state);
        }
        self
    }

    /// Only records of a topic.
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.topic = Some(topic.into());
        self
    }

    /// Only records with this key.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Only records whose last error contains this text, as it is written.
    pub fn reason(mut self, part: impl Into<String>) -> Self {
        self.reason = Some(part.into());
        self
    }

    /// Only records of that message. Several have its id, if its publisher chose the id.
    pub fn id(self, id: MessageId) -> Self {
        self.ids([id])
    }

    /// Only records of those messages. The first 512 ids count; further ones are ignored.
    ///
    /// MySQL and MariaDB have no index of the ids that publishers chose, so a million records are looked at there.
    pub fn ids(mut self, ids: impl IntoIterator<Item = MessageId>) -> Self {
        self.ids = Some(ids.into_iter().take(MOST_IDS).collect());
        self
    }

    /// Only records that were written at least this long ago.
    pub fn older_than(mut self, age: Duration) -> Self {
        self.older_than = Some(age);
        self
    }

    /// Only records that were written up to this moment, by the clock of the database.
    pub fn before(mut self, moment: SystemTime) -> Self {
        self.before = Some(moment);
        self
    }

    /// This many at most.
    pub fn limit(mut self, records: u32) -> Self {
        self.limit = Some(records);
        self
    }

    /// Only records after this place of the list.
    pub fn after(mut self, cursor: RecordCursor) -> Self {
        self.after = Some(cursor);
        self
    }
}

impl RecordFilter {
    /// How many records a page has.
    pub(super) fn page(&self) -> usize {
        self.limit.unwrap_or(USUAL).clamp(1, MOST) as usize
    }

    /// Whether records of this state are meant.
    pub(super) fn means(&self, state: RecordState) -> bool {
        self.states.is_empty() || self.states.contains(&state)
    }

    /// The condition of everything but the state and the place. `has_sent_as` says whether the table keeps ids of
    /// messages beside its key.
    pub(in crate::admin) fn condition(
        &self,
        dialect: Dialect,
        has_sent_as: bool,
    ) -> (String, Vec<Value<'_>>) {
        let (mut parts, mut values) = self.conditions(dialect);
        if let Some(ids) = &self.ids {
            let mut columns = vec!["message_id"];
            columns.extend(has_sent_as.then_some("sent_as"));
            let any = columns.into_iter().map(|column| ids_in(column, ids));
            let (any, some): (Vec<_>, Vec<_>) = any.unzip();
            parts.push(format!("({})", any.join(" OR ")));
            values.extend(some.into_iter().flatten());
        }
        (parts.join(" AND "), values)
    }

    /// The same for records that have one of the ids of the filter in this column.
    pub(super) fn condition_on(&self, dialect: Dialect, column: &str) -> (String, Vec<Value<'_>>) {
        let (mut parts, mut values) = self.conditions(dialect);
        let (any, some) = ids_in(column, self.ids.as_deref().unwrap_or_default());
        parts.push(any);
        values.extend(some);
        (parts.join(" AND "), values)
    }

    /// The conditions of everything but the ids, the state and the place.
    fn conditions(&self, dialect: Dialect) -> (Vec<String>, Vec<Value<'_>>) {
        let (mut parts, mut values) = (Vec::new(), Vec::new());
        if let Some(topic) = &self.topic {
            // MySQL compares without the blanks at the end.
            parts.push("topic = ? AND LENGTH(topic) = LENGTH(?)".to_owned());
            values.extend([topic.as_str().into(), topic.as_str().into()]);
        }
        if let Some(key) = &self.key {
            parts.push("message_key = ? AND LENGTH(message_key) = LENGTH(?)".to_owned());
            values.extend([key.as_str().into(), key.as_str().into()]);
        }
        if let Some(reason) = &self.reason {
            parts.push("{position}(last_error, ?) > 0".to_owned());
            values.push(reason.as_str().into());
        }
        if let Some(age) = self.older_than {
            parts.push(format!("created_at <= {}", time_of(dialect, "({now} - ?)")));
            values.push(micros(age).into());
        }
        if let Some(before) = self.before {
            parts.push(format!("created_at <= {}", time_of(dialect, "?")));
            values.push(since_1970(before).into());
        }
        (parts, values)
    }
}

/// The condition that a column has one of these ids. The second part of it is for an index that leaves out rows without
/// an id.
fn ids_in(column: &str, ids: &[MessageId]) -> (String, Vec<Value<'static>>) {
    if ids.is_empty() {
        return ("1 = 0".to_owned(), Vec::new());
    }
    let list = vec!["?"; ids.len()].join(", ");
    let values = ids.iter().map(|id| Value::from(id.0)).collect();
    (
        format!("({column} IN ({list}) AND {column} IS NOT NULL)"),
        values,
    )
}

/// A place in a list of records, as text for a program that goes on later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordCursor {
    pub(in crate::admin) state: RecordState,
    pub(in crate::admin) number: i64,
    pub(in crate::admin) topic: String,
    pub(in crate::admin) id: Uuid,
}

impl fmt::Display for RecordCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            state,
            number,
            topic,
            id,
        } = self;
        write!(f, "{}.{number}.{}.{topic}", *state as u8, id.simple())
    }
}

impl FromStr for RecordCursor {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "this is no cursor of a list of records; take one from a page before";
        let mut parts = text.splitn(4, '.');
        let mut next = || parts.next().ok_or(WRONG);
        let state = match next()? {
            "0" => RecordState::Failed,
            "1" => RecordState::Unroutable,
            "2" => RecordState::InHand,
            "3" => RecordState::Pending,
            "4" => RecordState::Acked,
            _ => return Err(WRONG),
        };
        Ok(Self {
            state,
            number: next()?.parse().map_err(|_| WRONG)?,
            id: Uuid::try_parse(next()?).map_err(|_| WRONG)?,
            topic: next()?.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_from_its_text() {
        let cursor = RecordCursor {
            state: RecordState::Unroutable,
            number: -7,
            topic: "order.placed.é".to_owned(),
            id: Uuid::now_v7(),
        };

        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        assert!("7.1".parse::<RecordCursor>().is_err());
    }
}
