//! A set of sequence numbers, kept as ranges.
//!
//! Input: ranges, or the text of a lane's row, `3-5,9`. Output: the ranges in order, and the same text. A lane's
//! open list is such a set.

use std::{collections::BTreeMap, fmt};

/// Sequence numbers, as inclusive ranges that neither touch nor overlap. 3, 4, 5 and 9 are the ranges `3-5,9`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spans(BTreeMap<i64, i64>);

impl Spans {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn contains(&self, seq: i64) -> bool {
        self.0
            .range(..=seq)
            .next_back()
            .is_some_and(|(_, end)| *end >= seq)
    }

    /// The lowest sequence number.
    pub(crate) fn first(&self) -> Option<i64> {
        self.0.first_key_value().map(|(start, _)| *start)
    }

    /// How many bytes its text has, at most.
    pub(crate) fn text_bytes(&self) -> usize {
        const RANGE: usize = 40;
        self.0.len() * RANGE
    }

    /// The ranges in order, each with its first and its last sequence number.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (i64, i64)> {
        self.0.iter().map(|(start, end)| (*start, *end))
    }

    /// Adds a range, and joins it with those it touches. A range that ends before it begins is empty.
    pub(crate) fn insert(&mut self, start: i64, end: i64) {
        if end < start {
            return;
        }
        let (mut start, mut end) = (start, end);
        while let Some((&from, &to)) = self.0.range(..=end.saturating_add(1)).next_back()
            && to >= start.saturating_sub(1)
        {
            self.0.remove(&from);
            start = start.min(from);
            end = end.max(to);
        }
        self.0.insert(start, end);
    }

    /// Removes a sequence number. True if it was in the set.
    pub(crate) fn remove(&mut self, seq: i64) -> bool {
        let Some((&start, &end)) = self.0.range(..=seq).next_back() else {
            return false;
        };
        if end < seq {
            return false;
        }
        self.0.remove(&start);
        self.insert(start, seq - 1);
        self.insert(seq + 1, end);
        true
    }

    /// Reads the text that `Display` writes: `3-5,9`. `None` if it is something else. An empty text is the
    /// empty set.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut spans = Self::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (start, end) = part.split_once('-').unwrap_or((part, part));
            let (start, end): (i64, i64) = (start.parse().ok()?, end.parse().ok()?);
            if start < 0 || end < start || end == i64::MAX {
                return None;
            }
            spans.insert(start, end);
        }
        Some(spans)
    }
}

impl fmt::Display for Spans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (start, end)) in self.iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            if start == end {
                write!(f, "{comma}{start}")?;
            } else {
                write!(f, "{comma}{start}-{end}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn spans_hold_what_a_set_holds(
            steps in prop::collection::vec((any::<bool>(), 0_i64..60, 0_i64..9), 0..60)
        ) {
            let (mut spans, mut set) = (Spans::default(), BTreeSet::new());
            for (add, start, more) in steps {
                if add {
                    spans.insert(start, start + more);
                    set.extend(start..=start + more);
                } else {
                    prop_assert_eq!(spans.remove(start), set.remove(&start));
                }
                for seq in 0..70 {
                    prop_assert_eq!(spans.contains(seq), set.contains(&seq));
                }
                prop_assert_eq!(spans.first(), set.first().copied());
            }
            prop_assert_eq!(Spans::parse(&spans.to_string()), Some(spans));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[0-9,-]{0,40}|.{0,20}") {
            if let Some(spans) = Spans::parse(&text) {
                prop_assert_eq!(Spans::parse(&spans.to_string()), Some(spans));
            }
        }
    }
}
