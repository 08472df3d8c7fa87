//! Numbers of the log that are missing below one that was read.
//!
//! A number is taken at the INSERT and shows at the COMMIT, so later ones can show before it. A gap
//! is therefore looked at again until its row shows. One whose transaction was rolled back would
//! stay for ever: after a while it is filled by an empty row, which the table's own key allows only
//! where no transaction, open or committed, has put one. Nothing here depends on what the server says
//! about its transactions.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// How long a transaction may keep us waiting before its number is tried to be filled.
const GRACE: Duration = Duration::from_secs(3);
/// The pause before a gap is looked at again, at first and at most.
const FIRST: Duration = Duration::from_millis(4);
const LAST: Duration = Duration::from_millis(200);
/// The longest pause between two tries to fill.
const LAST_FILL: Duration = Duration::from_secs(30);

/// The open gaps of one reader.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gaps(BTreeMap<i64, MissingRange>);

#[derive(Clone, Debug)]
struct MissingRange {
    end: i64,
    pause: Duration,
    look_at: Instant,
    fill_pause: Duration,
    fill_at: Instant,
    /// The last number of a piece that was tried to be filled, and when.
    piece: Option<(i64, Instant)>,
}

impl Gaps {
    /// How many ranges there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// What is missing within a range.
    pub(crate) fn within(&self, start: i64, end: i64) -> impl Iterator<Item = (i64, i64)> {
        let before = self.0.range(..start).next_back();
        let inside = if start <= end {
            self.0.range(start..=end)
        } else {
            self.0.range(start..start)
        };
        before
            .into_iter()
            .chain(inside)
            .map(move |(from, gap)| ((*from).max(start), gap.end.min(end)))
            .filter(|(from, to)| from <= to)
    }

    /// Whether all of a range is missing.
    pub(crate) fn misses_all(&self, start: i64, end: i64) -> bool {
        let missing: i64 = self
            .within(start, end)
            .map(|(from, to)| to - from + 1)
            .sum();
        missing == end - start + 1
    }

    /// Whether a number is missing.
    pub(crate) fn contains(&self, number: i64) -> bool {
        self.0
            .range(..=number)
            .next_back()
            .is_some_and(|(_, gap)| gap.end >= number)
    }

    /// Adds what of a range is not known yet.
    pub(crate) fn notice(&mut self, start: i64, end: i64, now: Instant) {
        let mut from = start;
        while from <= end {
            if let Some((_, gap)) = self.0.range(..=from).next_back()
                && gap.end >= from
            {
                from = gap.end + 1;
                continue;
            }
            let next = self.0.range(from..).next().map(|(start, _)| *start);
            let to = next.map_or(end, |next| end.min(next - 1));
            let gap = MissingRange {
                end: to,
                pause: FIRST,
                look_at: now,
                fill_pause: GRACE,
                fill_at: now + GRACE,
                piece: None,
            };
            self.0.insert(from, gap);
            from = to + 1;
        }
    }

    /// Ends a gap: its row shows, or it needs none.
    pub(crate) fn resolve(&mut self, number: i64) {
        let Some((&start, gap)) = self.0.range(..=number).next_back() else {
            return;
        };
        if gap.end < number {
            return;
        }
        let gap = gap.clone();
        self.0.remove(&start);
        if number < gap.end {
            let mut rest = gap.clone();
            // The piece is filled, and the next one's turn comes at once.
            if let Some((_, tried_at)) = gap.piece.filter(|(last, _)| *last == number) {
                rest.fill_at = tried_at;
            }
            self.0.insert(number + 1, rest);
        }
        if start < number {
            let end = number - 1;
            self.0.insert(start, MissingRange { end, ..gap });
        }
    }

    /// Ends all gaps up to a number.
    pub(crate) fn resolve_up_to(&mut self, most: i64) {
        while let Some((&start, gap)) = self.0.first_key_value() {
            if start > most {
                return;
            }
            let gap = gap.clone();
            self.0.remove(&start);
            if gap.end > most {
                self.0.insert(most + 1, gap);
            }
        }
    }

    /// When something is to be looked at or filled next.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.0
            .values()
            .map(|gap| gap.look_at.min(gap.fill_at))
            .min()
    }

    /// Up to `most` ranges to be looked at now. Each is then left alone for a while.
    pub(crate) fn take_due(&mut self, now: Instant, most: usize) -> Vec<(i64, i64)> {
        let due = self.0.iter_mut().filter(|(_, gap)| gap.look_at <= now);
        due.take(most)
            .map(|(start, gap)| {
                gap.look_at = now + gap.pause;
                gap.pause = (gap.pause * 2).min(LAST);
                (*start, gap.end)
            })
            .collect()
    }

    /// Whether any is to be looked at now. Then all are, and each is left alone for a while.
    pub(crate) fn all_are_due(&mut self, now: Instant) -> bool {
        if !self.0.values().any(|gap| gap.look_at <= now) {
            return false;
        }
        for gap in self.0.values_mut() {
            if gap.look_at <= now {
                gap.pause = (gap.pause * 2).min(LAST);
            }
            gap.look_at = now + gap.pause;
        }
        true
    }

    /// Up to `most` numbers that have been missing for long. Each is then left alone for a while.
    pub(crate) fn take_overdue(&mut self, now: Instant, most: usize) -> Vec<i64> {
        let mut numbers = Vec::new();
        for (start, gap) in self.0.iter_mut().filter(|(_, gap)| gap.fill_at <= now) {
            let room = i64::try_from(most - numbers.len()).unwrap_or(i64::MAX);
            numbers.extend((*start..=gap.end).take(usize::try_from(room).unwrap_or(0)));
            gap.fill_at = now + gap.fill_pause;
            if gap.end - start < room {
                gap.fill_pause = (gap.fill_pause * 2).min(LAST_FILL);
            } else {
                gap.piece = Some((start + room - 1, now));
            }
            // What was filled shows at the next look.
            gap.look_at = now;
            if numbers.len() >= most {
                break;
            }
        }
        numbers
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn gaps_hold_what_a_set_holds(
            steps in prop::collection::vec((0_u8..3, 0_i64..60, 0_i64..9), 0..60)
        ) {
            let (mut gaps, mut set) = (Gaps::default(), BTreeSet::new());
            for (step, start, more) in steps {
                match step {
                    0 => {
                        gaps.notice(start, start + more, Instant::now());
                        set.extend(start..=start + more);
                    }
                    1 => {
                        gaps.resolve(start);
                        set.remove(&start);
                    }
                    _ => {
                        gaps.resolve_up_to(start);
                        set.retain(|number| *number > start);
                    }
                }
                for number in 0..70 {
                    prop_assert_eq!(gaps.contains(number), set.contains(&number));
                }
            }
            let all: BTreeSet<_> = gaps.within(0, 100).flat_map(|(start, end)| start..=end).collect();
            prop_assert_eq!(all, set);
        }
    }

    #[test]
    fn a_gap_is_looked_at_ever_more_seldom() {
        let (mut gaps, mut now) = (Gaps::default(), Instant::now());
        gaps.notice(5, 6, now);
        let mut looks = 0;
        let end = now + Duration::from_secs(1);
        while let Some(next) = gaps.next().filter(|next| *next < end) {
            now = now.max(next);
            looks += gaps.take_due(now, 9).len();
        }

        assert!((8..16).contains(&looks), "{looks}");
    }

    #[test]
    fn gaps_that_are_looked_at_together_are_looked_at_ever_more_seldom() {
        let (mut gaps, mut now) = (Gaps::default(), Instant::now());
        gaps.notice(5, 6, now);
        gaps.notice(8, 8, now + Duration::from_millis(3));
        let mut looks = 0;
        let end = now + Duration::from_secs(1);
        while let Some(next) = gaps.next().filter(|next| *next < end) {
            now = now.max(next);
            assert!(gaps.all_are_due(now) && !gaps.all_are_due(now));
            looks += 1;
        }

        assert!((8..20).contains(&looks), "{looks}");
    }

    #[test]
    fn a_gap_is_filled_only_after_its_grace() {
        let (mut gaps, now) = (Gaps::default(), Instant::now());
        gaps.notice(5, 6, now);

        assert!(gaps.take_overdue(now + GRACE / 2, 9).is_empty());
        assert_eq!(gaps.take_overdue(now + GRACE, 9), [5, 6]);
        assert!(gaps.take_overdue(now + GRACE, 9).is_empty());
    }

    #[test]
    fn a_large_gap_is_filled_in_pieces() {
        let (mut gaps, now) = (Gaps::default(), Instant::now());
        gaps.notice(1, 250, now);
        let mut filled = 0;
        for _ in 0..3 {
            let numbers = gaps.take_overdue(now + GRACE, 100);
            filled += numbers.len();
            numbers.into_iter().for_each(|number| gaps.resolve(number));
        }

        assert_eq!(filled, 250);
        assert_eq!(gaps.len(), 0);
    }

    #[test]
    fn a_large_gap_that_a_transaction_keeps_open_is_not_tried_all_the_time() {
        let (mut gaps, now) = (Gaps::default(), Instant::now());
        gaps.notice(1, 1_000, now);

        assert_eq!(gaps.take_overdue(now + GRACE, 500).len(), 500);
        assert!(gaps.take_overdue(now + GRACE, 500).is_empty());
    }
}
