//! A selection as it is written down: once for the program that carries it out, once for a person.
//!
//! Input: a [`Selection`]. Output: its terms as JSON, which another process reads again; and a sentence.
//!
//! An age is a moment there. Otherwise more letters would be old enough each time that somebody looks.

use std::{
    fmt::Write as _,
    time::{Duration, SystemTime},
};

use serde_json::{Map, Value as Json, json};

use super::{RecordFilter, RecordState, Selection};
use crate::{
    MessageId,
    broker::DeadLetterFilter,
    database::limits::{duration, moment, since_1970},
    timestamp::Timestamp,
};

impl Selection {
    /// The same with moments in place of ages, by the database's clock.
    pub(super) fn fixed_at(self, clock: i64) -> Self {
        let moment_of = |age: Option<Duration>, before: Option<SystemTime>| {
            let by_age = age.map(|age| moment(clock).checked_sub(age).unwrap_or(moment(0)));
            match (by_age, before) {
                (Some(age), Some(before)) => Some(age.min(before)),
                (age, before) => age.or(before),
            }
        };
        match self {
            Self::Letters(mut filter) => {
                filter.before = moment_of(filter.older_than.take(), filter.before);
                Self::Letters(filter)
            }
            Self::Records(mut filter) => {
                filter.before = moment_of(filter.older_than.take(), filter.before);
                Self::Records(filter)
            }
        }
    }

    /// How many are meant at most.
    pub(super) fn limit(&self) -> Option<u32> {
        match self {
            Self::Letters(filter) => filter.limit,
            Self::Records(filter) => filter.limit,
        }
    }

    /// The terms, for another process.
    pub(super) fn terms(&self) -> String {
        let mut terms = Map::new();
        let mut put = |name: &str, value: Option<Json>| {
            if let Some(value) = value {
                terms.insert(name.to_owned(), value);
            }
        };
        let text = |text: &Option<String>| text.clone().map(Json::String);
        let ids = |ids: &Option<Vec<MessageId>>| {
            let ids = ids.as_ref()?.iter();
            Some(ids.map(|id| Json::String(id.to_string())).collect())
        };
        let micros = |moment: Option<SystemTime>| moment.map(|moment| json!(since_1970(moment)));
        match self {
            Self::Letters(filter) => {
                put("topic", text(&filter.topic));
                put("key", text(&filter.key));
                put("reason", text(&filter.reason));
                put("ids", ids(&filter.ids));
                put("before", micros(filter.before));
                put("limit", filter.limit.map(|limit| json!(limit)));
            }
            Self::Records(filter) => {
                let states = filter.states.iter();
                let states: Vec<Json> = states.map(|state| json!(state.status())).collect();
                put("states", Some(Json::Array(states)));
                put("topic", text(&filter.topic));
                put("key", text(&filter.key));
                put("reason", text(&filter.reason));
                put("ids", ids(&filter.ids));
                put("before", micros(filter.before));
                put("limit", filter.limit.map(|limit| json!(limit)));
            }
        }
        Json::Object(terms).to_string()
    }

    /// Reads the terms again. `None` if they are something else, or of a release that knows more.
    pub(super) fn of_terms(on_letters: bool, terms: &str) -> Option<Self> {
        let Json::Object(terms) = serde_json::from_str(terms).ok()? else {
            return None;
        };
        let (mut letters, mut records) = (DeadLetterFilter::all(), RecordFilter::all());
        for (name, value) in &terms {
            let text = || value.as_str().map(str::to_owned);
            let moment = || value.as_i64().map(moment);
            let limit = || u32::try_from(value.as_u64()?).ok();
            match (name.as_str(), on_letters) {
                ("topic", true) => letters.topic = Some(text()?),
                ("topic", false) => records.topic = Some(text()?),
                ("key", true) => letters.key = Some(text()?),
                ("key", false) => records.key = Some(text()?),
                ("reason", true) => letters.reason = Some(text()?),
                ("reason", false) => records.reason = Some(text()?),
                ("ids", true) => letters.ids = Some(ids_of(value)?),
                ("ids", false) => records.ids = Some(ids_of(value)?),
                ("before", true) => letters.before = Some(moment()?),
                ("before", false) => records.before = Some(moment()?),
                ("limit", true) => letters.limit = Some(limit()?),
                ("limit", false) => records.limit = Some(limit()?),
                ("states", false) => {
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
            true => Self::Letters(letters),
            false => Self::Records(records),
        })
    }

    /// The selection as a person reads it.
    pub(super) fn sentence(&self) -> String {
        let mut parts = Vec::new();
        let mut narrowed =
            |topic: &Option<String>, key: &Option<String>, reason: &Option<String>| {
                parts.extend(topic.as_ref().map(|topic| format!("topic {topic:?}")));
                parts.extend(key.as_ref().map(|key| format!("key {key:?}")));
                parts.extend(
                    reason
                        .as_ref()
                        .map(|reason| format!("reason contains {reason:?}")),
                );
            };
        let (before, ids, limit) = match self {
            Self::Letters(filter) => {
                narrowed(&filter.topic, &filter.key, &filter.reason);
                let before = filter.before.map(|before| ("died", before));
                (before, &filter.ids, filter.limit)
            }
            Self::Records(filter) => {
                narrowed(&filter.topic, &filter.key, &filter.reason);
                let before = filter.before.map(|before| ("written", before));
                (before, &filter.ids, filter.limit)
            }
        };
        if let Some(ids) = ids {
            let named: Vec<String> = ids.iter().take(3).map(MessageId::to_string).collect();
            let mut text = format!("id {}", named.join(" or "));
            if ids.len() > named.len() {
                let _ = write!(text, " or {} more", ids.len() - named.len());
            }
            parts.push(text);
        }
        parts.extend(before.map(|(doing, before)| format!("{doing} up to {}", rfc3339(before))));
        parts.extend(limit.map(|limit| format!("at most {limit}")));
        let what = match self {
            Self::Letters(_) => "dead letters".to_owned(),
            Self::Records(filter) => {
                let states: Vec<&str> = filter.states.iter().map(|state| state.word()).collect();
                format!("{} records", states.join(" and "))
            }
        };
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
    use proptest::prelude::*;

    use super::*;

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
            let filter = DeadLetterFilter {
                topic, key, reason, limit,
                ids: ids.map(|ids| ids.into_iter().map(|id| MessageId(uuid::Uuid::from_u128(id))).collect()),
                older_than: None,
                before: before.map(moment),
                after: None,
            };
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
            (filter.topic, filter.reason, filter.before) = (topic, reason, before.map(moment));

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
