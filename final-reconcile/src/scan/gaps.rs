//! Ids that were not there when later ones were.
//!
//! Input: ranges of ids that are missing, and ids that have come. State: the ranges, each with the time at which it was
//! missed first. Output: ranges to look at once more.
//!
//! An id is taken at the INSERT and becomes visible at the COMMIT, so later ones can be visible before it. An id that was
//! rolled back never comes. So a gap is forgotten after a while.

use serde::{Deserialize, Serialize};

/// How many gaps are remembered. Beyond this, those that are near to each other become one with what is between them,
/// whose rows are compared once more then.
const MOST: usize = 1_000;

/// Gaps in the order of their ids: first and last id, and when it was missed first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Gaps(Vec<(i64, i64, i64)>);

impl Gaps {
    /// Adds a range above all others.
    pub(crate) fn add(&mut self, from: i64, to: i64, now: i64) {
        if from <= to {
            self.0.push((from, to, now));
            self.bound();
        }
    }

    /// Forgets what was missed first before this time.
    pub(crate) fn forget(&mut self, before: i64) {
        self.0.retain(|gap| gap.2 >= before);
    }

    /// The number of gaps.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Up to so many ranges from this place on, each over gaps that are near to each other.
    pub(crate) fn ranges(&self, place: usize, most: usize, near: i64) -> (Vec<(i64, i64)>, usize) {
        let mut ranges: Vec<(i64, i64)> = Vec::new();
        for (at, (from, to, _)) in self.0.iter().enumerate().skip(place) {
            let is_full = ranges.len() == most;
            match ranges.last_mut() {
                Some(last) if from.saturating_sub(last.1) <= near => last.1 = *to,
                _ if is_full => return (ranges, at),
                _ => ranges.push((*from, *to)),
            }
        }
        (ranges, 0)
    }

    /// These ids of a range have come. They are in order.
    pub(crate) fn close(&mut self, range: (i64, i64), came: &[i64]) {
        let mut left = Vec::with_capacity(self.0.len());
        for (from, to, seen) in std::mem::take(&mut self.0) {
            if to < range.0 || from > range.1 {
                left.push((from, to, seen));
                continue;
            }
            let mut next = from;
            for id in came.iter().filter(|id| (from..=to).contains(*id)) {
                if next < *id {
                    left.push((next, id - 1, seen));
                }
                next = id.saturating_add(1);
            }
            if next <= to && next > i64::MIN {
                left.push((next, to, seen));
            }
        }
        self.0 = left;
        self.bound();
    }

    /// Makes one of gaps that are near to each other, until there are few enough.
    fn bound(&mut self) {
        if self.0.len() <= MOST {
            return;
        }
        let mut between: Vec<i64> = self
            .0
            .windows(2)
            .filter_map(|pair| match pair {
                [a, b] => Some(b.0.saturating_sub(a.1)),
                _ => None,
            })
            .collect();
        // Half of them go, so that this is seldom needed.
        let middle = between.len() / 2;
        let (_, near, _) = between.select_nth_unstable(middle);
        let near = *near;
        let mut left: Vec<(i64, i64, i64)> = Vec::with_capacity(MOST);
        for gap in std::mem::take(&mut self.0) {
            match left.last_mut() {
                Some(last) if gap.0.saturating_sub(last.1) <= near => {
                    last.1 = gap.1;
                    last.2 = last.2.max(gap.2);
                }
                _ => left.push(gap),
            }
        }
        self.0 = left;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn ids(gaps: &Gaps) -> BTreeSet<i64> {
        gaps.0.iter().flat_map(|gap| gap.0..=gap.1).collect()
    }

    #[test]
    fn ranges_of_near_gaps_are_read_together_one_part_after_the_other() {
        let mut gaps = Gaps::default();
        for from in [1, 5, 100, 200] {
            gaps.add(from, from + 1, 0);
        }
        assert_eq!(gaps.ranges(0, 2, 10), (vec![(1, 6), (100, 101)], 3));
        assert_eq!(gaps.ranges(3, 2, 10), (vec![(200, 201)], 0));
    }

    #[test]
    fn a_gap_is_forgotten_after_a_while() {
        let mut gaps = Gaps::default();
        gaps.add(1, 2, 10);
        gaps.add(5, 6, 20);
        gaps.forget(15);
        assert_eq!(ids(&gaps), BTreeSet::from([5, 6]));
    }

    proptest! {
        #[test]
        fn what_has_not_come_stays_a_gap(
            missing in prop::collection::vec((1_i64..6, 0_i64..6), 1..30),
            came in prop::collection::btree_set(0_i64..200, 0..30),
            range in (0_i64..200, 0_i64..200),
        ) {
            let (mut gaps, mut id) = (Gaps::default(), 0);
            for (there, length) in missing {
                gaps.add(id + there, id + there + length, 7);
                id += there + length + 1;
            }
            let mut model = ids(&gaps);
            model.retain(|id| !(came.contains(id) && (range.0..=range.1).contains(id)));
            let within: Vec<i64> = came.into_iter().filter(|id| (range.0..=range.1).contains(id)).collect();
            gaps.close(range, &within);
            prop_assert_eq!(ids(&gaps), model);
        }

        #[test]
        fn too_many_gaps_become_fewer_and_none_is_lost(steps in prop::collection::vec(2_i64..50, MOST..3 * MOST)) {
            let (mut gaps, mut id, mut all) = (Gaps::default(), 0, BTreeSet::new());
            for step in steps {
                id += step;
                gaps.add(id, id, 1);
                all.insert(id);
            }
            prop_assert!(gaps.len() <= MOST);
            prop_assert!(all.is_subset(&ids(&gaps)));
        }
    }
}
