//! A selection as it is written down: once for the program that carries it out, once for a person.
//!
//! Input: a [`Selection`]. Output: its terms as JSON, which another process reads again; and a sentence.
//!
//! An age is a moment there. Otherwise more letters would be old enough each time that somebody looks.

use std::{fmt::Write as _, time::SystemTime};

use serde_json::{Map, Value as Json, json};

use super::{RecordFilter, RecordState, Selection};
use crate::{
    MessageId,
    database::limits::{duration, moment, since_1970},
    filter::FilterWords,
    timestamp::Timestamp,
};

impl Selection {
    pub(super) fn words(&self) -> &FilterWords {
        match self {
            Self::Letters(filter) => &filter.words,
            Self::Records(filter) => &filter.words,
        }
    }

    /// The same with moments in place of ages, by the database's clock.
    pub(super) fn fixed_at(mut self, clock: i64) -> Self {
        let words = match &mut self {
            Self::Letters(filter) => &mut filter.words,
            Self::Records(filter) => &mut filter.words,
        };
        let by_age = words
            .older_than
            .take()
            .map(|age| moment(clock).checked_sub(age).unwrap_or(moment(0)));
        words.before = match (by_age, words.before) {
            (Some(age), Some(before)) => Some(age.min(before)),
            (age, before) => age.or(before),
        };
        self
    }

    /// The terms, for another process.
    pub(super) fn terms(&self) -> String {
        let words = self.words();
        let mut terms = Map::new();
        let mut put = |name: &str, value: Option<Json>| {
            if let Some(value) = value {
                terms.insert(name.to_owned(), value);
            }
        };
        let text = |text: &Option<String>| text.clone().map(Json::String);
        let ids = words.ids.as_ref().map(|ids| {
            let ids = ids.iter();
            ids.map(|id| Json::String(id.to_string())).collect()
        });
        put("topic", text(&words.topic));
        put("key", text(&words.key));
        put("reason", text(&words.reason));
        put("ids", ids);
        put(
            "before",
            words.before.map(|moment| json!(since_1970(moment))),
        );
        put("limit", words.limit.map(|limit| json!(limit)));
        if let Self::Records(filter) = self {
            let states = filter.states.iter();
            let states: Vec<Json> = states.map(|state| json!(state.status())).collect();
            put("states", Some(Json::Array(states)));
        }
        Json::Object(terms).to_string()
    }

    /// Reads the terms again. `None` if they are something else, or of a release that knows more.
    pub(super) fn of_terms(on_letters: bool, terms: &str) -> Option<Self> {
        let Json::Object(terms) = serde_json::from_str(terms).ok()? else {
            return None;
        };
        let (mut words, mut records) = (FilterWords::default(), RecordFilter::all());
        for (name, value) in &terms {
            let text = || value.as_str().map(str::to_owned);
            match name.as_str() {
                "topic" => words.topic = Some(text()?),
                "key" => words.key = Some(text()?),
                "reason" => words.reason = Some(text()?),
                "ids" => words.ids = Some(ids_of(value)?),
                "before" => words.before = Some(moment(value.as_i64()?)),
                "limit" => words.limit = Some(u32::try_from(value.as_u64()?).ok()?),
                "states" if !on_letters => {
                    for state in value.as_array()? {
                        records = records.state(match state.as_i64()? {
                            1 => RecordState::Unroutable,
                            3 => RecordState::Failed,
                            _ => return None,
                        });
                    }
                }
                // What this release does not know could narrow the selection.
                _ => return None,
            }
        }
        Some(match on_letters {
            true => Self::Letters(words.into()),
            false => Self::Records(RecordFilter { words, ..records }),
        })
    }

    /// The selection as a person reads it.
    pub(super) fn sentence(&self) -> String {
        let words = self.words();
        let mut parts = Vec::new();
        for (text, value) in [
            ("topic", &words.topic),
            ("key", &words.key),
            ("reason contains", &words.reason),
        ] {
            parts.extend(value.as_ref().map(|value| format!("{text} {value:?}")));
        }
        if let Some(ids) = &words.ids {
            let named: Vec<String> = ids.iter().take(3).map(MessageId::to_string).collect();
            let mut text = format!("id {}", named.join(" or "));
            if ids.len() > named.len() {
                let _ = write!(text, " or {} more", ids.len() - named.len());
            }
            parts.push(text);
        }
        let (what, began) = match self {
            Self::Letters(_) => ("dead letters".to_owned(), "died"),
            Self::Records(filter) => {
                let states: Vec<&str> = filter.states.iter().map(|state| state.word()).collect();
                (format!("{} records", states.join(" and ")), "written")
            }
        };
        let before = words.before.map(rfc3339);
        parts.extend(before.map(|before| format!("{began} up to {before}")));
        parts.extend(words.limit.map(|limit| format!("at most {limit}")));
        match parts.is_empty() {
            true => format!("all {what}"),
            false => format!("{what}: {}", parts.join(", ")),
        }
    }
}

fn ids_of(value: &Json) -> Option<Vec<MessageId>> {
    let ids = value.as_array()?.iter();
    ids.map(|id| id.as_str()?.parse().ok()).collect()
}

/// A moment in UTC, to the second.
pub(super) fn rfc3339(moment: SystemTime) -> String {
    let micros = since_1970(moment);
    let time = Timestamp {
        seconds: i64::try_from(duration(micros).as_secs()).unwrap_or(i64::MAX),
        nanos: 0,
    };
    time.rfc3339()
        .unwrap_or_else(|| format!("{micros} µs after 1970"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::broker::DeadLetterFilter;

    fn some(text: &'static str) -> impl Strategy<Value = Option<String>> {
        prop::option::of(text)
    }

    proptest! {
        #[test]
        fn a_selection_of_letters_is_read_as_it_was_written(
            topic in some(".{0,9}"), key in some(".{0,9}"), reason in some(".{0,9}"),
            ids in prop::option::of(prop::collection::vec(any::<u128>(), 0..3)),
            before in prop::option::of(0..4_000_000_000_000_000_i64),
            limit in prop::option::of(any::<u32>()),
        ) {
            let filter = DeadLetterFilter::from(FilterWords {
                topic, key, reason, limit,
                ids: ids.map(|ids| ids.into_iter().map(|id| MessageId(uuid::Uuid::from_u128(id))).collect()),
                older_than: None,
                before: before.map(moment),
            });
            let selection = Selection::Letters(filter.clone());

            let read = Selection::of_terms(true, &selection.terms());

            let Some(Selection::Letters(read)) = read else { panic!("not read") };
            prop_assert_eq!(read, filter);
        }

        #[test]
        fn a_selection_of_records_is_read_as_it_was_written(
            topic in some(".{0,9}"), reason in some(".{0,9}"), unroutable: bool,
            before in prop::option::of(0..4_000_000_000_000_000_i64),
        ) {
            let mut filter = RecordFilter::all().state(RecordState::Failed);
            if unroutable {
                filter = filter.state(RecordState::Unroutable);
            }
            let words = &mut filter.words;
            (words.topic, words.reason, words.before) = (topic, reason, before.map(moment));

            let read = Selection::of_terms(false, &Selection::Records(filter.clone()).terms());

            let Some(Selection::Records(read)) = read else { panic!("not read") };
            prop_assert_eq!(read, filter);
        }
    }

    #[test]
    fn an_age_becomes_a_moment() {
        let hour = Duration::from_secs(3600);
        let filter = DeadLetterFilter::all()
            .older_than(hour)
            .before(moment(2 * 3_600_000_000));

        let fixed = Selection::from(filter).fixed_at(2 * 3_600_000_000);

        let Selection::Letters(fixed) = fixed else {
            panic!("letters")
        };
        assert_eq!(fixed, DeadLetterFilter::all().before(moment(3_600_000_000)));
        assert_eq!(
            Selection::Letters(fixed.topic("a").limit(7)).sentence(),
            "dead letters: topic \"a\", died up to 1970-01-01T01:00:00Z, at most 7"
        );
    }

    #[test]
    fn a_term_that_is_not_known_is_refused() {
        assert!(Selection::of_terms(true, r#"{"tenant":"acme"}"#).is_none());
        assert!(Selection::of_terms(true, "[]").is_none());
        assert!(Selection::of_terms(false, r#"{"states":[0]}"#).is_none());
    }
}
