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
    database::{Dialect, Value},
    filter::{FilterColumns, FilterWords, has_id, word_methods},
};

/// How many records a page has, unless the filter says something else, and how many at most.
const USUAL: u32 = 100;
const MOST: u32 = 1_000;

/// Which records are meant: all of an outbox, unless narrowed.
///
/// MySQL and MariaDB have no index of the ids that publishers chose, so for ids a million records are looked at there.
///
/// ```
/// # use final_core::admin::{RecordFilter, RecordState};
/// let refused = RecordFilter::all().state(RecordState::Failed).topic("order.placed").limit(50);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use]
pub struct RecordFilter {
    pub(in crate::admin) states: Vec<RecordState>,
    pub(in crate::admin) words: FilterWords,
    pub(in crate::admin) after: Option<RecordCursor>,
}

impl From<FilterWords> for RecordFilter {
    fn from(words: FilterWords) -> Self {
        Self {
            words: words.limited(),
            ..Self::default()
        }
    }
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

    word_methods!("records", reason: "last error", time: "were written", clock: "database");

    /// Only records after this place of the list.
    pub fn after(mut self, cursor: RecordCursor) -> Self {
        self.after = Some(cursor);
        self
    }
}

impl RecordFilter {
    /// How many records a page has.
    pub(super) fn page(&self) -> usize {
        self.words.limit.unwrap_or(USUAL).clamp(1, MOST) as usize
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
        if let Some(ids) = &self.words.ids {
            let mut columns = vec!["message_id"];
            columns.extend(has_sent_as.then_some("sent_as"));
            let any = columns.into_iter().map(|column| has_id(column, ids));
            let (any, some): (Vec<_>, Vec<_>) = any.unzip();
            parts.push(format!("({})", any.join(" OR ")));
            values.extend(some.into_iter().flatten());
        }
        (parts.join(" AND "), values)
    }

    /// The same for records that have one of the ids of the filter in this column.
    pub(super) fn condition_on(&self, dialect: Dialect, column: &str) -> (String, Vec<Value<'_>>) {
        let (mut parts, mut values) = self.conditions(dialect);
        let (any, some) = has_id(column, self.words.ids.as_deref().unwrap_or_default());
        parts.push(any);
        values.extend(some);
        (parts.join(" AND "), values)
    }

    /// The conditions of everything but the ids, the state and the place.
    fn conditions(&self, dialect: Dialect) -> (Vec<String>, Vec<Value<'_>>) {
        self.words.conditions(&FilterColumns {
            reason: "last_error",
            time: "created_at",
            of_micros: &|micros| time_of(dialect, micros),
        })
    }
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
