//! Ids that were not there when later ones were.
//!
//! Input: ranges of ids that are missing, and ids that have come. State: the ranges, each with the time at which it was
//! missed first. Output: ranges to look at once more.
//!
//! An id is taken at the INSERT and becomes visible at the COMMIT, so later ones can be visible before it. An id that was
//! rolled back never comes. So a gap is forgotten after a while.
//!
//! Where only each second id is used, half of all ids are gaps. Gaps of one age become one then. Gaps of different ages
//! never do, so that each is forgotten in its time.

use serde::{Deserialize, Serialize};

/// How many gaps are remembered. Beyond this, those that are near to each other become one with what is between them,
/// whose rows are compared once more then.
const MOST: usize = 1_000;

/// How many ages gaps can have before they are forgotten.
const AGES: i64 = 16;

/// When an id counts as missed: now, rounded up, so that gaps have few ages. It is forgotten later by a sixteenth at most.
pub(crate) fn missed(now: i64, look_back: i64) -> i64 {
    let step = (look_back / AGES).max(1);
    now.saturating_add(step - 1) / step * step
}

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

    /// Whether an id is in a gap.
    pub(crate) fn has(&self, id: i64) -> bool {
        let at = self.0.partition_point(|gap| gap.1 < id);
        self.0.get(at).is_some_and(|gap| gap.0 <= id)
    }

    /// Up to so many ranges from this id on, each over gaps that are near to each other.
    pub(crate) fn ranges(&self, place: i64, most: usize, near: i64) -> Vec<(i64, i64)> {
        let mut ranges: Vec<(i64, i64)> = Vec::new();
        for (from, to, _) in self.0.iter().filter(|gap| gap.1 >= place) {
            let is_full = ranges.len() == most;
            match ranges.last_mut() {
                Some(last) if from.saturating_sub(last.1) <= near => last.1 = *to,
                _ if is_full => break,
                _ => ranges.push(((*from).max(place), *to)),
            }
        }
        ranges
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

    /// Makes one of gaps of one age that are near to each other, until there are few enough.
    fn bound(&mut self) {
        if self.0.len() <= MOST {
            return;
        }
        let mut between: Vec<i64> = self
            .0
            .windows(2)
            .filter_map(|pair| match pair {
                [a, b] if a.2 == b.2 => Some(b.0.saturating_sub(a.1)),
                _ => None,
            })
            .collect();
        if between.is_empty() {
            return;
        }
        // Half of them go, so that this is seldom needed.
        let middle = between.len() / 2;
        let (_, near, _) = between.select_nth_unstable(middle);
        let near = *near;
        let mut left: Vec<(i64, i64, i64)> = Vec::with_capacity(MOST);
        for gap in std::mem::take(&mut self.0) {
            match left.last_mut() {
                Some(last) if last.2 == gap.2 && gap.0.saturating_sub(last.1) <= near => {
                    last.1 = gap.1;
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
        assert_eq!(gaps.ranges(i64::MIN, 2, 10), [(1, 6), (100, 101)]);
        assert_eq!(gaps.ranges(102, 2, 10), [(200, 201)]);
        assert_eq!(gaps.ranges(6, 1, 10), [(6, 6)]);
        assert!(gaps.has(6) && gaps.has(100) && !gaps.has(7) && !gaps.has(202));
    }

    #[test]
    fn gaps_that_became_one_are_forgotten_in_their_time() {
        const LOOK_BACK: i64 = 600;
        let (mut gaps, mut most) = (Gaps::default(), 0);
        // Each second id is used, as two servers do that take turns.
        for now in 0..7_200 {
            gaps.forget(now - LOOK_BACK);
            for id in now * 50..(now + 1) * 50 {
                gaps.add(2 * id, 2 * id, missed(now, LOOK_BACK));
            }
            most = most.max(gaps.0.len());
            let oldest = gaps
                .ranges(i64::MIN, 1, 0)
                .first()
                .map_or(0, |range| range.0);
            let forgotten = now - LOOK_BACK - LOOK_BACK / AGES - 1;
            assert!(oldest >= 100 * forgotten, "{oldest} at {now}");
            let still = 100 * (now - LOOK_BACK).max(0);
            assert!(gaps.has(still), "{still} at {now}");
        }
        assert!(most <= MOST, "{most}");
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
            prop_assert!(gaps.0.len() <= MOST);
            prop_assert!(all.is_subset(&ids(&gaps)));
        }
    }
}
