//! Counts of settled deliveries and of retries, and how long attempts took, for `Bus::stats` and `Bus::metrics`.
//!
//! Input: an addition for each settlement, retry and attempt. State: for each topic that has a handler a counter of
//! each kind and two histograms; and one more set for all other deliveries. Output: the counts at one moment.

use std::time::{Duration, SystemTime};

use crate::{
    Message,
    metrics::{ConsumedTopic, Histogram},
    runtime::counter::Counter,
};

/// The counters of one topic, from the start of the bus on.
#[derive(Debug, Default)]
pub(crate) struct ConsumeStats {
    pub(super) handled: Counter,
    pub(super) retried: Counter,
    pub(super) dead_lettered: Counter,
    /// Deliveries whose message is held.
    pub(super) held: Counter,
    pub(super) requeued: Counter,
    pub(super) postponed: Counter,
    /// Deliveries that came again while their message was in hand, and were settled with it.
    pub(super) duplicates: Counter,
    /// How long attempts took.
    pub(super) process: Histogram,
    /// How old messages were when they were handled.
    age: Histogram,
}

/// The counts at one moment. Each is exact; together they may be a few messages apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Consumed {
    /// Deliveries that were handled and acked.
    pub(crate) handled: u64,
    /// Attempts that failed and were to be tried again.
    pub(crate) retried: u64,
    /// Deliveries that were dead-lettered: rejected, out of retries, malformed, or without a route for too
    /// long.
    pub(crate) dead_lettered: u64,
    /// Deliveries that were requeued: without a route yet, or in flight when the bus stopped.
    pub(crate) requeued: u64,
    /// Messages that have left the queue for a while.
    pub(crate) postponed: u64,
}

/// An age above this says that the time in an id is none. Delays are a year at most.
const OLDEST: Duration = Duration::from_secs(2 * 366 * 24 * 3600);

impl ConsumeStats {
    /// Adds these counts to others.
    pub(super) fn add_to(&self, sum: &mut Consumed) {
        sum.handled += self.handled.get();
        sum.retried += self.retried.get();
        sum.dead_lettered += self.dead_lettered.get();
        sum.requeued += self.requeued.get();
        sum.postponed += self.postponed.get();
    }

    /// Counts the age of a message that is handled.
    pub(super) fn observe_age(&self, message: &Message) {
        if let Some(age) = age(message, SystemTime::now()) {
            self.age.observe(age);
        }
    }

    /// The counts so far, as `Bus::metrics` has them.
    pub(super) fn read(&self, topic: Option<&str>) -> ConsumedTopic {
        ConsumedTopic {
            topic: topic.map(str::to_owned),
            outcomes: vec![
                ("done", self.handled.get()),
                ("retry", self.retried.get()),
                ("dead", self.dead_lettered.get()),
                ("held", self.held.get()),
                ("handed_back", self.requeued.get()),
                ("postponed", self.postponed.get()),
                ("duplicate", self.duplicates.get()),
            ],
            process: self.process.read(),
            age: self.age.read(),
        }
    }
}

/// How old a message is by the time in its id. `None` if the id has none. Where the producer's clock is ahead of
/// ours, it is zero.
fn age(message: &Message, now: SystemTime) -> Option<Duration> {
    let id = message.id().0;
    if id.get_version_num() != 7 {
        return None;
    }
    let (seconds, nanos) = id.get_timestamp()?.to_unix();
    let written = SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanos))?;
    let age = now.duration_since(written).unwrap_or_default();
    (age < OLDEST).then_some(age)
}

#[cfg(test)]
mod tests {
    use uuid::{Timestamp, Uuid};

    use super::*;
    use crate::MessageId;

    fn written_at(seconds: u64) -> Message {
        let id = Uuid::new_v7(Timestamp::from_unix(uuid::NoContext, seconds, 0));
        Message::identified(MessageId(id), "placed", "")
    }

    #[test]
    fn the_age_is_that_of_the_id() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000);

        let age_of = |seconds| age(&written_at(seconds), now);
        assert_eq!(age_of(1_999_999_000), Some(Duration::from_secs(1_000)));
        assert_eq!(age_of(2_000_000_001), Some(Duration::ZERO));
        assert_eq!(age_of(0), None);
        let foreign = Message::identified(MessageId::from_text("17"), "placed", "");
        assert_eq!(age(&foreign, now), None);
    }
}
