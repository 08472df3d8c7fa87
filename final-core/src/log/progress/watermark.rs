//! When sequence numbers were allocated, as far as a reader of the log can tell.
//!
//! Input: rows that were read, each with its sequence number and the time it was written. State: some sixteen
//! watermarks, the younger the denser. Output: whether a row's sequence number was used before.
//!
//! Sequence numbers only grow. So a row at or below one that was read was written before that row was read. A row
//! that was written later has a sequence number that was allocated a second time: the sequence was restarted, the
//! table truncated, or another server took over that counts on its own.

use std::collections::BTreeMap;

/// How many watermarks a reader keeps.
pub(crate) const MOST: usize = 16;

/// How many watermarks of readers that have ended are kept.
pub(crate) const MOST_LEFT: usize = 3 * MOST;

/// How many late rows a reader remembers. Others that are still in the log may be delivered twice.
const MOST_LATE: usize = 1_000;

/// A row that becomes visible late may have been written by so many microseconds later than what was read
/// before it: an INSERT can be kept waiting between taking its sequence number and taking the time.
pub(crate) const MARGIN: i64 = 10_000;

/// Rows up to sequence number `seq` were written at `written_at` or before, in microseconds since 1970.
///
/// ```text
///   the watermark: rows up to 500 were written by 12:00:00
///   row 480, written at 11:59:58  ─▶ as it should be
///   row 480, written at 12:03:00  ─▶ its sequence number was allocated a second time
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Watermark {
    /// The highest sequence number that it covers.
    pub(crate) seq: i64,
    /// The latest time at which one of these rows can have been written.
    pub(crate) written_at: i64,
}

/// What a reader knows of a visible row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadState {
    /// At or below the highest watermark, and not reused: this reader has read it or passed over it.
    Read,
    /// Above the highest watermark.
    Unread,
    /// Its sequence number was allocated a second time.
    Reused,
}

impl Watermark {
    /// Whether a row's sequence number was allocated a second time.
    pub(crate) fn is_broken_by(self, seq: i64, written_at: i64) -> bool {
        seq <= self.seq && written_at > self.written_at
    }
}

/// The watermarks of one reader, by the rows it has read.
///
/// ```text
///   read up to   100    800    960   990   1000        the younger, the denser
///   written by   9:00  11:40  11:55  11:59  12:00
///
///   row 950, written at 11:57  ─▶ broken: rows up to 960 were written by 11:55
///   row 980, written at 11:57  ─▶ not broken: rows up to 990 were written by 11:59
/// ```
///
/// The times are those of the rows and not of this process's clock. A clock that is set makes no row look new.
#[derive(Debug, Default)]
pub(crate) struct Watermarks {
    /// From the lowest sequence number to the highest. The younger, the denser.
    marks: Vec<MadeMark>,
    /// The latest time of all rows that were read.
    latest: i64,
    /// Rows that became visible late, and when they were written: a moment after the rows read before them.
    /// They had taken their sequence numbers before, and their times after.
    late: BTreeMap<i64, i64>,
    /// How many marks were made so far.
    made: u64,
}

/// A watermark, and how old it is.
#[derive(Clone, Copy, Debug)]
struct MadeMark {
    mark: Watermark,
    /// How many marks were made up to it.
    made: u64,
}

impl Watermarks {
    /// Starts with the watermark of another reader. `now` is the time by the database's clock.
    pub(crate) fn learn(&mut self, mark: Watermark, now: i64) {
        self.forget();
        self.push(mark);
        self.passed_until(now);
    }

    /// Rows that are visible at a time are passed over without being read: other members have read them.
    pub(crate) fn passed_until(&mut self, now: i64) {
        self.latest = self.latest.max(now);
    }

    /// A row was read.
    pub(crate) fn saw(&mut self, seq: i64, written_at: i64) {
        if self.are_broken_by(seq, written_at) {
            self.late.insert(seq, written_at);
            if self.late.len() > MOST_LATE {
                self.late.pop_first();
            }
        }
        self.latest = self.latest.max(written_at);
    }

    /// The row of a filled gap was read. It was written after its sequence number was allocated, so it tells only
    /// that rows up to it were written by then.
    pub(crate) fn saw_filled_gap(&mut self, written_at: i64) {
        self.latest = self.latest.max(written_at);
    }

    /// Every visible row up to a sequence number was read.
    pub(crate) fn reached(&mut self, seq: i64) {
        if self.last().is_none_or(|last| last.seq < seq) {
            self.push(Watermark {
                seq,
                written_at: self.latest,
            });
        }
    }

    /// Adds the newest mark. If there are too many, one of them is dropped, so that young marks lie close
    /// together and old ones far apart.
    fn push(&mut self, mark: Watermark) {
        self.made += 1;
        let made = self.made;
        self.marks.push(MadeMark { mark, made });
        if self.marks.len() <= MOST {
            return;
        }
        // The mark whose neighbours are closest, for their age, is dropped. The first and the last bound all
        // sequence numbers, and stay.
        let distance = |at: usize| {
            let age = (self.made - self.marks[at].made) as f64;
            (self.marks[at + 1].made - self.marks[at - 1].made) as f64 / age
        };
        let inner = 1..self.marks.len() - 1;
        if let Some(closest) = inner.min_by(|a, b| distance(*a).total_cmp(&distance(*b))) {
            self.marks.remove(closest);
        }
    }

    /// Forgets everything: the server has lost some rows that were read, so it allocates their sequence numbers
    /// again.
    pub(crate) fn forget(&mut self) {
        self.marks.clear();
        self.late.clear();
    }

    /// Whether a row's sequence number was allocated a second time.
    pub(crate) fn are_broken_by(&self, seq: i64, written_at: i64) -> bool {
        let mut marks = self.marks.iter();
        self.late.get(&seq) != Some(&written_at)
            && marks.any(|made| made.mark.is_broken_by(seq, written_at))
    }

    /// What is known of a visible row, by its sequence number and the time at which it was written.
    pub(crate) fn read_state(&self, seq: i64, written_at: i64) -> ReadState {
        if self.are_broken_by(seq, written_at) {
            return ReadState::Reused;
        }
        match self.last() {
            Some(last) if seq <= last.seq => ReadState::Read,
            _ => ReadState::Unread,
        }
    }

    /// Rows that became visible late, and when they were written.
    pub(crate) fn late(&self) -> BTreeMap<i64, i64> {
        self.late.clone()
    }

    /// The watermark of the highest sequence number that was read.
    pub(crate) fn last(&self) -> Option<Watermark> {
        self.marks.last().map(|made| made.mark)
    }

    /// All watermarks, the lowest first.
    pub(crate) fn list(&self) -> Vec<Watermark> {
        self.marks.iter().map(|made| made.mark).collect()
    }

    /// The watermarks for readers that do not know the late rows, nor the gaps that will become late rows.
    ///
    /// ```text
    ///   mark: rows up to 15 were written by 12:00:00;  late: row 14, written at 12:00:08
    ///   ─▶ rows up to 13 were written by 12:00:00, rows up to 15 by 12:00:08
    /// ```
    pub(crate) fn for_others(&self) -> Vec<Watermark> {
        let mut marks = Vec::new();
        for Watermark { seq, written_at } in self.list() {
            let late = || self.late.range(..=seq).filter(|late| *late.1 > written_at);
            if let Some((first, _)) = late().next() {
                marks.push(Watermark {
                    seq: first - 1,
                    written_at,
                });
            }
            let written_at = late().map(|late| *late.1).fold(written_at, i64::max);
            marks.push(Watermark { seq, written_at });
        }
        for mark in &mut marks {
            mark.written_at = mark.written_at.saturating_add(MARGIN);
        }
        marks
    }
}

/// The watermarks that ended readers have left, together with those of a reader that ends now: at most
/// [`MOST_LEFT`], the lowest first.
///
/// Another reader's watermark may be the only one below a number that an open transaction has. A watermark that says
/// no more than a higher one with an earlier time is left out.
pub(crate) fn left_together(mut left: Vec<Watermark>, own: &[Watermark]) -> Vec<Watermark> {
    left.extend(own);
    left.sort_by_key(|mark| (mark.seq, std::cmp::Reverse(mark.written_at)));
    let mut kept: Vec<Watermark> = Vec::new();
    for mark in left.into_iter().rev() {
        let says_more = |higher: &Watermark| mark.written_at < higher.written_at;
        if kept.last().is_none_or(says_more) {
            kept.push(mark);
        }
    }
    kept.truncate(MOST_LEFT);
    kept.reverse();
    kept
}

/// When a sequence number had been allocated: by the lowest watermark at or above it, otherwise by the highest
/// one below.
pub(crate) fn written_by(marks: &[Watermark], seq: i64) -> Option<i64> {
    let above = marks.iter().filter(|mark| mark.seq >= seq);
    above
        .map(|mark| mark.written_at)
        .min()
        .or_else(|| marks.iter().map(|mark| mark.written_at).max())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn marks(watermarks: &Watermarks) -> Vec<(i64, i64)> {
        let pair = |mark: Watermark| (mark.seq, mark.written_at);
        watermarks.list().into_iter().map(pair).collect()
    }

    proptest! {
        /// Rows are read in the order of their numbers, some late; then the numbers begin again.
        #[test]
        fn what_was_read_breaks_nothing_and_what_is_given_out_again_does(
            rows in prop::collection::vec((0_i64..50, any::<bool>()), 1..80),
            again in 1_i64..80,
        ) {
            let mut watermarks = Watermarks::default();
            let mut late = Vec::new();
            for (at, (written, is_late)) in rows.iter().enumerate() {
                let seq = at as i64 + 1;
                if *is_late {
                    late.push((seq, *written));
                } else {
                    watermarks.saw(seq, *written);
                    watermarks.reached(seq);
                }
            }
            for (seq, written) in &late {
                watermarks.saw(*seq, *written);
            }

            for (at, (written, _)) in rows.iter().enumerate() {
                prop_assert!(!watermarks.are_broken_by(at as i64 + 1, *written));
            }
            let last = watermarks.last().map_or(0, |mark| mark.seq);
            prop_assert_eq!(watermarks.are_broken_by(again, 50), again <= last);
            for mark in watermarks.for_others() {
                for (at, (written, _)) in rows.iter().enumerate() {
                    prop_assert!(!mark.is_broken_by(at as i64 + 1, *written));
                }
            }
            prop_assert!(marks(&watermarks).len() <= MOST);
        }
    }

    #[test]
    fn what_a_reader_has_left_stays_when_another_one_ends() {
        let mark = |seq, written_at| Watermark { seq, written_at };
        let left = vec![mark(6, 10), mark(9, 50)];

        let together = left_together(left.clone(), &[mark(8, 20)]);
        assert_eq!(together, [mark(6, 10), mark(8, 20), mark(9, 50)]);
        // Rows up to 12 were written by 40: that is more than 9 by 50 says.
        let together = left_together(left, &[mark(12, 40)]);
        assert_eq!(together, [mark(6, 10), mark(12, 40)]);
        let many: Vec<_> = (0..500).map(|n| mark(n, n)).collect();
        assert_eq!(left_together(many.clone(), &[]), many[500 - MOST_LEFT..]);
    }

    #[test]
    fn a_number_that_is_given_out_again_is_noticed_after_the_numbers_have_passed_the_old_ones() {
        let mut watermarks = Watermarks::default();
        watermarks.saw(100, 1_000);
        watermarks.reached(100);
        // 1 to 250 are written at 2,000, and 101 to 250 are read.
        watermarks.saw(250, 2_000);
        watermarks.reached(250);

        assert!(watermarks.are_broken_by(1, 2_000) && watermarks.are_broken_by(100, 2_000));
        assert!(!watermarks.are_broken_by(101, 2_000));
    }

    #[test]
    fn old_watermarks_stay_among_very_many_new_ones() {
        let mut watermarks = Watermarks::default();
        for seq in 1..100_000 {
            watermarks.saw(seq, seq);
            watermarks.reached(seq);
        }

        assert_eq!(watermarks.list().len(), MOST);
        for age in [2, 10, 100, 1_000, 10_000] {
            let seq = 100_000 - age;
            assert!(!watermarks.are_broken_by(seq, seq));
            assert!(watermarks.are_broken_by(seq, seq + age * 9 / 10), "{age}");
        }
    }

    #[test]
    fn the_time_of_a_number_is_that_of_the_lowest_watermark_above_it() {
        let mark = |seq, written_at| Watermark { seq, written_at };
        let marks = [mark(10, 100), mark(20, 200)];

        assert_eq!(written_by(&marks, 5), Some(100));
        assert_eq!(written_by(&marks, 15), Some(200));
        assert_eq!(written_by(&marks, 25), Some(200));
        assert_eq!(written_by(&[], 5), None);
    }
}
