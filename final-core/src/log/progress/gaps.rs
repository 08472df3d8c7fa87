//! Gaps: sequence numbers that are missing below one that was read.
//!
//! Input: ranges that are missing, and sequence numbers that have become visible. State: for each range when it is
//! looked for again, and when it is filled. Output: ranges to look for now, and sequence numbers to fill now.
//!
//! ```text
//!   missing ─ looked for after 4 ms, then ever more seldom up to 200 ms ─┬─ visible ───────▶ closed
//!      └───── filled after 3 s, then every 6 s … 30 s: an empty row ─────┘
//! ```
//!
//! A sequence number is allocated at the INSERT and becomes visible at the COMMIT, so later ones can become visible
//! before it. A gap is therefore looked for until its row is visible. The row of a transaction that was rolled
//! back never comes. So after a while the gap is filled with an empty row; the table's primary key refuses that
//! row where a transaction, open or committed, has one. Nothing here depends on what the server reports about
//! its transactions.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// How long a gap is only looked for, before it is filled for the first time.
const GRACE: Duration = Duration::from_secs(3);
/// The first pause before a gap is looked for again, and the longest.
const FIRST: Duration = Duration::from_millis(4);
const LAST: Duration = Duration::from_millis(200);
/// The longest pause between two attempts to fill.
const LAST_FILL: Duration = Duration::from_secs(30);

/// The open gaps of one stream, by their first sequence number.
///
/// ```text
///   1 2 3 · · · 7 8     4-6 is a gap
///   1 2 3 · 5 · 7 8     5 has become visible: 4 and 6 are gaps, each with the times of the old one
/// ```
#[derive(Clone, Debug, Default)]
pub(crate) struct Gaps(BTreeMap<i64, MissingRange>);

/// One gap, from the sequence number that is its key.
#[derive(Clone, Debug)]
struct MissingRange {
    /// The last sequence number.
    end: i64,
    /// The pause before it is looked for once more. It doubles each time.
    pause: Duration,
    /// When it is looked for next.
    look_at: Instant,
    /// The pause before it is filled once more, if that does no good.
    fill_pause: Duration,
    /// When it is filled next.
    fill_at: Instant,
    /// A range that is longer than one round fills is filled piece by piece. This is the last sequence number
    /// of the last piece, and when it was tried. Once that row is visible, the next piece is due at once.
    piece: Option<(i64, Instant)>,
}

impl Gaps {
    /// How many ranges there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The parts of a range that are missing.
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
    pub(crate) fn cover(&self, start: i64, end: i64) -> bool {
        let missing: i64 = self
            .within(start, end)
            .map(|(from, to)| to - from + 1)
            .sum();
        missing == end - start + 1
    }

    /// Whether a sequence number is missing.
    pub(crate) fn contains(&self, seq: i64) -> bool {
        self.0
            .range(..=seq)
            .next_back()
            .is_some_and(|(_, gap)| gap.end >= seq)
    }

    /// Adds a range. Parts of it that are gaps already stay as they are.
    pub(crate) fn add(&mut self, start: i64, end: i64, now: Instant) {
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

    /// A sequence number is not missing: its row is visible, or is not needed.
    pub(crate) fn close(&mut self, seq: i64) {
        let Some((&start, gap)) = self.0.range(..=seq).next_back() else {
            return;
        };
        if gap.end < seq {
            return;
        }
        let gap = gap.clone();
        self.0.remove(&start);
        if seq < gap.end {
            let mut rest = gap.clone();
            // This piece is filled, so the next one is filled at once.
            if let Some((_, tried_at)) = gap.piece.filter(|(last, _)| *last == seq) {
                rest.fill_at = tried_at;
            }
            self.0.insert(seq + 1, rest);
        }
        if start < seq {
            let end = seq - 1;
            self.0.insert(start, MissingRange { end, ..gap });
        }
    }

    /// Nothing up to a sequence number is missing.
    pub(crate) fn close_up_to(&mut self, most: i64) {
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

    /// When the next gap is to be looked for or filled.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.0
            .values()
            .map(|gap| gap.look_at.min(gap.fill_at))
            .min()
    }

    /// Up to `most` ranges to look for now. Each is then left alone for its pause.
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

    /// Whether any range is to be looked for now. If so the caller looks for all of them, and each is then
    /// left alone for its pause.
    pub(crate) fn take_all_if_due(&mut self, now: Instant) -> bool {
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

    /// Up to `most` sequence numbers to fill now. Each range is then left alone for its pause.
    ///
    /// If a range has more numbers than are left of `most`, only its beginning is taken. Its pause does not
    /// grow then, because the rest was not tried.
    pub(crate) fn take_overdue(&mut self, now: Instant, most: usize) -> Vec<i64> {
        let mut seqs = Vec::new();
        for (start, gap) in self.0.iter_mut().filter(|(_, gap)| gap.fill_at <= now) {
            let room = i64::try_from(most - seqs.len()).unwrap_or(i64::MAX);
            seqs.extend((*start..=gap.end).take(usize::try_from(room).unwrap_or(0)));
            gap.fill_at = now + gap.fill_pause;
            if gap.end - start < room {
                gap.fill_pause = (gap.fill_pause * 2).min(LAST_FILL);
            } else {
                gap.piece = Some((start + room - 1, now));
            }
            // The filled rows are visible at once.
            gap.look_at = now;
            if seqs.len() >= most {
                break;
            }
        }
        seqs
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
                        gaps.add(start, start + more, Instant::now());
                        set.extend(start..=start + more);
                    }
                    1 => {
                        gaps.close(start);
                        set.remove(&start);
                    }
                    _ => {
                        gaps.close_up_to(start);
                        set.retain(|seq| *seq > start);
                    }
                }
                for seq in 0..70 {
                    prop_assert_eq!(gaps.contains(seq), set.contains(&seq));
                }
            }
            let all: BTreeSet<_> = gaps.within(0, 100).flat_map(|(start, end)| start..=end).collect();
            prop_assert_eq!(all, set);
        }
    }

    #[test]
    fn a_gap_is_looked_at_ever_more_seldom() {
        let (mut gaps, mut now) = (Gaps::default(), Instant::now());
        gaps.add(5, 6, now);
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
        gaps.add(5, 6, now);
        gaps.add(8, 8, now + Duration::from_millis(3));
        let mut looks = 0;
        let end = now + Duration::from_secs(1);
        while let Some(next) = gaps.next().filter(|next| *next < end) {
            now = now.max(next);
            assert!(gaps.take_all_if_due(now) && !gaps.take_all_if_due(now));
            looks += 1;
        }

        assert!((8..20).contains(&looks), "{looks}");
    }

    #[test]
    fn a_gap_is_filled_only_after_its_grace() {
        let (mut gaps, now) = (Gaps::default(), Instant::now());
        gaps.add(5, 6, now);

        assert!(gaps.take_overdue(now + GRACE / 2, 9).is_empty());
        assert_eq!(gaps.take_overdue(now + GRACE, 9), [5, 6]);
        assert!(gaps.take_overdue(now + GRACE, 9).is_empty());
    }

    #[test]
    fn a_large_gap_is_filled_in_pieces() {
        let (mut gaps, now) = (Gaps::default(), Instant::now());
        gaps.add(1, 250, now);
        let mut filled = 0;
        for _ in 0..3 {
            let seqs = gaps.take_overdue(now + GRACE, 100);
            filled += seqs.len();
            seqs.into_iter().for_each(|seq| gaps.close(seq));
        }

        assert_eq!(filled, 250);
        assert_eq!(gaps.len(), 0);
    }

    #[test]
    fn a_large_gap_that_a_transaction_keeps_open_is_not_tried_all_the_time() {
        let (mut gaps, now) = (Gaps::default(), Instant::now());
        gaps.add(1, 1_000, now);

        assert_eq!(gaps.take_overdue(now + GRACE, 500).len(), 500);
        assert!(gaps.take_overdue(now + GRACE, 500).is_empty());
    }
}
