//! Which rows a person means: the words that the filters of dead letters and of records share.
//!
//! Input: words such as a topic or an age. Output: conditions on the columns of a table, as templates, and their values.

use std::time::{Duration, SystemTime};

use crate::{
    MessageId,
    database::{
        Value,
        limits::{micros, since_1970},
        lists::{list, padded},
    },
};

/// The most ids that a filter takes.
pub(crate) const MOST_IDS: usize = 512;

/// The words that every filter has: all rows, unless a word narrows them. A filter is made
/// [`from`](crate::broker::DeadLetterFilter#impl-From<FilterWords>-for-DeadLetterFilter) them.
///
/// ```
/// # use final_core::{admin::{FilterWords, RecordFilter}, broker::DeadLetterFilter};
/// let mut words = FilterWords::default();
/// words.topic = Some("order.placed".to_owned());
///
/// assert_eq!(DeadLetterFilter::from(words.clone()), DeadLetterFilter::all().topic("order.placed"));
/// assert_eq!(RecordFilter::from(words), RecordFilter::all().topic("order.placed"));
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct FilterWords {
    /// Only rows of this topic.
    pub topic: Option<String>,
    /// Only rows whose message has this key.
    pub key: Option<String>,
    /// Only rows whose reason, or last error, contains this text.
    pub reason: Option<String>,
    /// Only rows of these messages. The first 512 count.
    pub ids: Option<Vec<MessageId>>,
    /// Only rows that are at least this old.
    pub older_than: Option<Duration>,
    /// Only rows that are from this moment at the latest.
    pub before: Option<SystemTime>,
    /// This many at most.
    pub limit: Option<u32>,
}

/// What a table calls the things that words name.
pub(crate) struct FilterColumns<'a> {
    /// The column of the reason.
    pub(crate) reason: &'static str,
    /// The column of the time from which a row's age counts.
    pub(crate) time: &'static str,
    /// Makes microseconds since 1970 a time of that column.
    pub(crate) of_micros: &'a dyn Fn(&str) -> String,
}

impl FilterWords {
    /// The same with no more ids than count.
    pub(crate) fn limited(mut self) -> Self {
        if let Some(ids) = &mut self.ids {
            ids.truncate(MOST_IDS);
        }
        self
    }

    /// The conditions of all words but the ids and the limit, and their values.
    pub(crate) fn conditions(&self, columns: &FilterColumns<'_>) -> (Vec<String>, Vec<Value<'_>>) {
        let FilterColumns {
            reason: reason_column,
            time,
            of_micros,
        } = columns;
        let (mut parts, mut values) = (Vec::new(), Vec::new());
        for (column, text) in [("topic", &self.topic), ("message_key", &self.key)] {
            if let Some(text) = text {
                // MySQL compares without the blanks at the end.
                parts.push(format!("{column} = ? AND LENGTH({column}) = LENGTH(?)"));
                values.extend([text.as_str().into(), text.as_str().into()]);
            }
        }
        if let Some(reason) = &self.reason {
            parts.push(format!("{{position}}({reason_column}, ?) > 0"));
            values.push(reason.as_str().into());
        }
        if let Some(age) = self.older_than {
            parts.push(format!("{time} <= {}", of_micros("({now} - ?)")));
            values.push(micros(age).into());
        }
        if let Some(moment) = self.before {
            parts.push(format!("{time} <= {}", of_micros("?")));
            values.push(since_1970(moment).into());
        }
        (parts, values)
    }
}

/// The condition that a column has one of these ids, and its values. Its second half is for an index that leaves out
/// rows without an id.
pub(crate) fn has_id(column: &str, ids: &[MessageId]) -> (String, Vec<Value<'static>>) {
    if ids.is_empty() {
        return ("1 = 0".to_owned(), Vec::new());
    }
    let ids = padded(ids);
    (
        format!(
            "({column} IN ({}) AND {column} IS NOT NULL)",
            list(ids.len())
        ),
        ids.into_iter().map(|id| Value::from(id.0)).collect(),
    )
}

/// The methods of a filter that set its words.
macro_rules! word_methods {
    ($rows:literal, reason: $reason:literal, time: $time:literal, clock: $clock:literal) => {
        #[doc = concat!("Only ", $rows, " of a topic.")]
        pub fn topic(mut self, topic: impl Into<String>) -> Self {
            self.words.topic = Some(topic.into());
            self
        }

        #[doc = concat!("Only ", $rows, " whose message has this key.")]
        pub fn key(mut self, key: impl Into<String>) -> Self {
            self.words.key = Some(key.into());
            self
        }

        #[doc = concat!("Only ", $rows, " whose ", $reason, " contains this text, as it is written.")]
        pub fn reason(mut self, part: impl Into<String>) -> Self {
            self.words.reason = Some(part.into());
            self
        }

        #[doc = concat!("Only ", $rows, " of that message. Several can have its id.")]
        pub fn id(self, id: MessageId) -> Self {
            self.ids([id])
        }

        #[doc = concat!("Only ", $rows, " of those messages. The first 512 ids count; further ones are ignored.")]
        pub fn ids(mut self, ids: impl IntoIterator<Item = MessageId>) -> Self {
            let ids = ids.into_iter().take($crate::filter::MOST_IDS);
            self.words.ids = Some(ids.collect());
            self
        }

        #[doc = concat!("Only ", $rows, " that ", $time, " at least this long ago.")]
        pub fn older_than(mut self, age: Duration) -> Self {
            self.words.older_than = Some(age);
            self
        }

        #[doc = concat!("Only ", $rows, " that ", $time, " up to this moment, by the clock of the ", $clock, ".")]
        #[doc = "What comes later is not meant, however late it is looked for: a cut-off."]
        pub fn before(mut self, moment: SystemTime) -> Self {
            self.words.before = Some(moment);
            self
        }

        /// This many at most.
        pub fn limit(mut self, most: u32) -> Self {
            self.words.limit = Some(most);
            self
        }
    };
}
pub(crate) use word_methods;
