//! A bucket of messages that fills with time.
//!
//! Input: how many messages were let through, and the rate of now. State: the moment up to which the past is paid.
//! Output: how long to wait. The rate is no part of the state, so that a new rate holds at once.
//!
//! ```text
//!   paid up to ≤ now ─ full: a second's worth of messages
//!   paid up to > now ─ as much less as lies between; from a second on it is empty, or owes
//! ```

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// A bucket has room for so long of its rate.
const DEPTH: Duration = Duration::from_secs(1);

/// How much was let through.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    /// Nanoseconds of the clock.
    paid_to: AtomicU64,
}

impl Bucket {
    /// How long until the bucket has a message again. None if it has one now.
    pub(super) fn wait(&self, per_second: u32, now: Duration) -> Option<Duration> {
        if per_second == 0 {
            return Some(NEVER);
        }
        self.wait_for(DEPTH, each(per_second), now)
    }

    /// The same for a bucket of another depth, in which a message takes a time of its own.
    pub(super) fn wait_for(
        &self,
        depth: Duration,
        each: Duration,
        now: Duration,
    ) -> Option<Duration> {
        let paid_to = Duration::from_nanos(self.paid_to.load(Ordering::Relaxed));
        let ahead = paid_to.saturating_sub(now);
        let room = depth.saturating_sub(each);
        (ahead > room).then(|| ahead - room)
    }

    /// Takes messages out, more than are in it if need be.
    pub(super) fn take(&self, messages: u32, per_second: u32, now: Duration) {
        self.take_for(each(per_second).saturating_mul(messages), now);
    }

    /// Takes what fills up again in so long.
    pub(super) fn take_for(&self, time: Duration, now: Duration) {
        let taken = |paid_to: u64| Some(paid_to.max(nanos(now)).saturating_add(nanos(time)));
        let order = Ordering::Relaxed;
        let _ = self.paid_to.fetch_update(order, order, taken);
    }

    /// Whether it is full again, so that it need not be kept.
    pub(super) fn is_full(&self, now: Duration) -> bool {
        self.paid_to.load(Ordering::Relaxed) <= nanos(now)
    }
}

/// How long it takes until a rate of zero lets a message through.
const NEVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The time that one message stands for.
fn each(per_second: u32) -> Duration {
    DEPTH.checked_div(per_second).unwrap_or(NEVER)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_bucket_has_a_seconds_worth_and_fills_with_time() {
        let (bucket, now) = (Bucket::default(), 100 * SECOND);
        for _ in 0..10 {
            assert_eq!(bucket.wait(10, now), None);
            bucket.take(1, 10, now);
        }
        assert_eq!(bucket.wait(10, now), Some(SECOND / 10));
        assert_eq!(bucket.wait(10, now + SECOND / 10), None);
        assert!(!bucket.is_full(now + SECOND / 2) && bucket.is_full(now + SECOND));
    }

    #[test]
    fn what_is_more_than_the_bucket_goes_at_once_and_is_paid_for_afterwards() {
        let (bucket, now) = (Bucket::default(), 100 * SECOND);
        bucket.take(500, 100, now);
        assert_eq!(bucket.wait(100, now), Some(4 * SECOND + SECOND / 100));
        // A higher rate holds at once, for what comes.
        assert_eq!(bucket.wait(1_000, now + 4 * SECOND), Some(SECOND / 1_000));
        assert_eq!(bucket.wait(100, now + 5 * SECOND), None);
    }

    #[test]
    fn a_rate_of_one_lets_one_through_each_second_and_a_rate_of_zero_none() {
        let (bucket, now) = (Bucket::default(), 7 * SECOND);
        assert_eq!(bucket.wait(1, now), None);
        bucket.take(1, 1, now);
        assert_eq!(bucket.wait(1, now), Some(SECOND));
        assert!(Bucket::default().wait(0, now).is_some());
    }
}
