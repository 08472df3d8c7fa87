//! Topics that cannot be sent to now.
//!
//! A topic without a queue returns every message with its body. Were its records simply tried again,
//! a million of them would keep the relay busy for nothing. So the topic is parked: its records
//! become `unroutable`, out of the scanner's way, and one record a second is sent as a probe.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

/// The pause between two probes of one topic.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// A probe that was not answered for so long never will be: whoever had it panicked. Longer than a
/// confirm takes; two probes at once do no harm.
const FORGOTTEN: Duration = Duration::from_secs(120);

/// Topics beyond this many are not remembered; their records are parked all the same.
const MAX_TOPICS: usize = 10_000;

/// The parked topics.
///
/// ```text
///   open ── unroutable, denied, no answer ──▶ parked ── probe stored, or no record left ──▶ open
///                                              │  ▲
///                                              └──┘ probe answered otherwise: again in a second
/// ```
#[derive(Debug, Default)]
pub(crate) struct Parking {
    topics: Mutex<HashMap<Arc<str>, Parked>>,
    count: AtomicUsize,
}

#[derive(Debug)]
struct Parked {
    /// When to probe, or, while probing, to probe all the same.
    probe_at: Instant,
    probing: bool,
}

impl Parking {
    /// Whether messages of this topic should go to the table as unroutable.
    pub(crate) fn is_parked(&self, topic: &str) -> bool {
        // Almost always there is none, and then a publish takes no lock.
        self.count.load(Ordering::Relaxed) > 0 && self.topics().contains_key(topic)
    }

    /// Parks a topic, or ends its probe. True if it was open before.
    pub(crate) fn park(&self, topic: &Arc<str>) -> bool {
        let mut topics = self.topics();
        let parked = Parked {
            probe_at: Instant::now() + PROBE_INTERVAL,
            probing: false,
        };
        if topics.len() >= MAX_TOPICS && !topics.contains_key(topic) {
            return false;
        }
        let is_new = topics.insert(Arc::clone(topic), parked).is_none();
        self.count.store(topics.len(), Ordering::Relaxed);
        is_new
    }

    /// Notes a topic that has unroutable records in the table, to be probed soon.
    pub(crate) fn found(&self, topic: &str) {
        let mut topics = self.topics();
        if topics.len() < MAX_TOPICS && !topics.contains_key(topic) {
            topics.insert(
                topic.into(),
                Parked {
                    probe_at: Instant::now(),
                    probing: false,
                },
            );
            self.count.store(topics.len(), Ordering::Relaxed);
        }
    }

    /// Opens a topic. True if it was parked.
    pub(crate) fn open(&self, topic: &str) -> bool {
        let mut topics = self.topics();
        let was_parked = topics.remove(topic).is_some();
        self.count.store(topics.len(), Ordering::Relaxed);
        was_parked
    }

    /// Up to `limit` topics whose probe is due, those first that have waited longest; each is probing from
    /// now on.
    pub(crate) fn to_probe(&self, limit: usize) -> Vec<Arc<str>> {
        let now = Instant::now();
        let mut topics = self.topics();
        let mut due: Vec<_> = topics
            .iter_mut()
            .filter(|(_, parked)| parked.probe_at <= now)
            .collect();
        due.sort_unstable_by_key(|(_, parked)| parked.probe_at);
        due.into_iter()
            .take(limit)
            .map(|(topic, parked)| {
                parked.probing = true;
                parked.probe_at = now + FORGOTTEN;
                Arc::clone(topic)
            })
            .collect()
    }

    /// When the next probe is due.
    pub(crate) fn next_probe(&self) -> Option<Instant> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        self.topics()
            .values()
            .filter(|parked| !parked.probing)
            .map(|parked| parked.probe_at)
            .min()
    }

    /// Ends a probe that told nothing about the topic (the connection was lost, for example).
    pub(crate) fn probe_again(&self, topic: &str) {
        if let Some(parked) = self.topics().get_mut(topic) {
            *parked = Parked {
                probe_at: Instant::now() + PROBE_INTERVAL,
                probing: false,
            };
        }
    }

    /// How many topics are parked.
    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    fn topics(&self) -> MutexGuard<'_, HashMap<Arc<str>, Parked>> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_very_many_topics_all_are_probed_in_turn() {
        let parking = Parking::default();
        let topics: Vec<String> = (0..500).map(|n| n.to_string()).collect();
        topics.iter().for_each(|topic| parking.found(topic));
        let mut probed = std::collections::HashSet::new();

        // Those that were probed are due again before all have been.
        for _ in 0..topics.len().div_ceil(64) {
            let now = Instant::now();
            for topic in parking.to_probe(64) {
                parking.topics().insert(
                    Arc::clone(&topic),
                    Parked {
                        probe_at: now,
                        probing: false,
                    },
                );
                probed.insert(topic);
            }
        }
        assert_eq!(probed.len(), topics.len());
    }

    #[test]
    fn a_parked_topic_is_probed_once_at_a_time() {
        let parking = Parking::default();
        parking.found("a");

        assert!(parking.is_parked("a"));
        assert_eq!(parking.to_probe(10).len(), 1);
        assert!(parking.to_probe(10).is_empty());
        assert_eq!(parking.next_probe(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_topic_whose_probe_is_never_answered_is_probed_again() {
        let parking = Parking::default();
        parking.found("a");
        assert_eq!(parking.to_probe(10).len(), 1);

        tokio::time::advance(FORGOTTEN).await;

        assert_eq!(parking.to_probe(10).len(), 1);
    }

    #[test]
    fn a_topic_parked_again_waits_a_second_for_its_next_probe() {
        let parking = Parking::default();

        assert!(parking.park(&"a".into()));
        assert!(!parking.park(&"a".into()));
        assert!(parking.to_probe(10).is_empty());
        let wait = parking
            .next_probe()
            .map(|at| at.saturating_duration_since(Instant::now()));
        assert!(
            wait.is_some_and(|wait| wait > PROBE_INTERVAL / 2),
            "{wait:?}"
        );
    }

    #[test]
    fn an_opened_topic_is_forgotten() {
        let parking = Parking::default();
        parking.found("a");

        assert!(parking.open("a"));
        assert!(!parking.open("a"));
        assert!(!parking.is_parked("a"));
    }

    /// On a clock that only this test moves.
    #[tokio::test(start_paused = true)]
    async fn a_topic_that_stays_parked_is_probed_ten_times_in_ten_seconds() {
        let parking = Parking::default();
        parking.park(&"a".into());
        let end = Instant::now() + Duration::from_secs(10);
        let mut probes = 0;
        while let Some(at) = parking.next_probe().filter(|at| *at <= end) {
            tokio::time::sleep_until(at).await;
            for topic in parking.to_probe(10) {
                probes += 1;
                parking.park(&topic);
            }
        }

        assert_eq!(probes, 10);
    }
}
