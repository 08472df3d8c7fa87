//! Histograms: how often something took how long.
//!
//! Input: durations, from any task. State: one atomic count for each bucket, and the sum. Output:
//! [`DurationCounts`], the counts at one moment. No lock is taken, and nothing is allocated.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::database::limits::micros;

/// The upper bounds of all histograms, in microseconds: a duration counts in the first bucket that is not below it.
///
/// They are fixed, so that the histograms of all services and releases can be added up.
const BOUNDS: [u64; 16] = [
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    60_000_000,
    300_000_000,
    3_600_000_000,
];

/// One bucket more than bounds: for what is longer than the last.
const BUCKETS: usize = BOUNDS.len() + 1;

/// Counts durations.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    counts: [AtomicU64; BUCKETS],
    micros: AtomicU64,
}

impl Histogram {
    /// Counts one.
    pub(crate) fn observe(&self, took: Duration) {
        let took = micros(took).unsigned_abs();
        let bucket = BOUNDS.partition_point(|bound| *bound < took);
        if let Some(count) = self.counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.micros.fetch_add(took, Ordering::Relaxed);
    }

    /// The counts so far. What is counted meanwhile may be in the counts and not yet in the sum.
    pub(crate) fn read(&self) -> DurationCounts {
        DurationCounts {
            counts: std::array::from_fn(|bucket| {
                self.counts
                    .get(bucket)
                    .map_or(0, |count| count.load(Ordering::Relaxed))
            }),
            sum: Duration::from_micros(self.micros.load(Ordering::Relaxed)),
        }
    }
}

/// How often something took how long, since the bus was made.
///
/// The bounds are the same for all: 1, 2.5, 5, 10, 25, 50, 100, 250 and 500 ms, and 1, 2.5, 5, 10, 60, 300 and
/// 3,600 s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DurationCounts {
    counts: [u64; BUCKETS],
    sum: Duration,
}

impl DurationCounts {
    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How long all of them took together.
    pub fn sum(&self) -> Duration {
        self.sum
    }

    /// How many took at most as long as each bound, in the order of the bounds. The last has no bound: all of them.
    pub fn at_most(&self) -> impl Iterator<Item = (Option<Duration>, u64)> {
        let bounds = BOUNDS
            .iter()
            .map(|bound| Some(Duration::from_micros(*bound)));
        let mut sum = 0;
        bounds
            .chain([None])
            .zip(self.counts)
            .map(move |(bound, count)| {
                sum += count;
                (bound, sum)
            })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Durations around the bounds, and any others.
    fn durations() -> impl Strategy<Value = Vec<Duration>> {
        let near = (0..BOUNDS.len(), -1_i64..=1)
            .prop_map(|(bound, off)| BOUNDS[bound].saturating_add_signed(off));
        let any = prop_oneof![near, 0_u64..8_000_000_000];
        proptest::collection::vec(any.prop_map(Duration::from_micros), 0..200)
    }

    proptest! {
        #[test]
        fn each_duration_counts_once_at_its_bound_and_at_all_above(took in durations()) {
            let histogram = Histogram::default();
            took.iter().for_each(|took| histogram.observe(*took));
            let counts = histogram.read();

            prop_assert_eq!(counts.count(), took.len() as u64);
            prop_assert_eq!(counts.sum(), took.iter().sum::<Duration>());
            for (bound, count) in counts.at_most() {
                let expected = took.iter().filter(|took| bound.is_none_or(|bound| **took <= bound));
                prop_assert_eq!(count, expected.count() as u64, "{:?}", bound);
            }
        }
    }

    #[test]
    fn the_bounds_grow() {
        assert!(BOUNDS.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn what_took_for_ever_counts_above_all_bounds() {
        let histogram = Histogram::default();
        histogram.observe(Duration::MAX);

        let counts: Vec<_> = histogram.read().at_most().collect();
        assert_eq!(counts[BUCKETS - 2].1, 0);
        assert_eq!(counts[BUCKETS - 1], (None, 1));
    }

    #[test]
    fn threads_that_count_at_once_lose_nothing() {
        let histogram = Histogram::default();
        std::thread::scope(|threads| {
            for n in 0..8 {
                let histogram = &histogram;
                threads.spawn(move || {
                    for _ in 0..10_000 {
                        histogram.observe(Duration::from_millis(n));
                    }
                });
            }
        });

        let counts = histogram.read();
        assert_eq!(counts.count(), 80_000);
        assert_eq!(counts.sum(), Duration::from_secs(28 * 10));
        assert_eq!(
            counts.at_most().next().map(|(_, count)| count),
            Some(20_000)
        );
    }
}
