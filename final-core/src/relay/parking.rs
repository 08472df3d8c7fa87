//! Parked topics: topics to which nothing can be sent now.
//!
//! The broker returns every message of a topic without a queue, with its whole payload. If the relay simply
//! tried such records again, a million of them would keep it busy for nothing. So the topic is parked: its
//! records become `unroutable`, the scanner passes over them, and one record a second is sent as a probe.
//!
//! Input: the answers of the broker (from the ackers), and the parked topics that stand in the table (from
//! the scanner). State: for each parked topic when its next probe is due, and the topics that were opened
//! and whose records are still unroutable in the table. Output: whether a new message is parked at its
//! INSERT, which topics to probe, and which topics' records to make pending again. Nothing in here asks the
//! database; `probe.rs` does.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::lock::lock;

/// The pause between two probes of one topic.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// A probe without an answer for so long will never have one: the task that had it panicked. This is longer
/// than any confirm takes, and two probes of a topic at once do no harm.
const FORGOTTEN: Duration = Duration::from_secs(120);

/// How many topics are remembered. Records of further topics are parked all the same, and their topics are
/// probed when others are open again.
const MAX_TOPICS: usize = 10_000;

/// The parked topics.
///
/// ```text
///   open ── unroutable, denied, no answer ──▶ parked ── probe stored, or no record left ──▶ open
///                                              │  ▲
///                                              └──┘ any other answer to the probe: next one in a second
/// ```
///
/// A topic that opens is also noted as opened until a scan has made all its records pending again.
#[derive(Debug, Default)]
pub(crate) struct Parking {
    topics: Mutex<HashMap<Arc<str>, ParkedTopic>>,
    /// How many topics are parked, readable without the lock.
    count: AtomicUsize,
    /// Open topics whose records are still unroutable in the table.
    opened: Mutex<Vec<Arc<str>>>,
}

#[derive(Debug)]
struct ParkedTopic {
    /// When to send a probe. While a probe is out, when to stop waiting for its answer.
    probe_at: Instant,
    /// Whether a probe is out.
    probing: bool,
}

impl ParkedTopic {
    /// No probe is out, and the next is due at `probe_at`.
    fn waiting_until(probe_at: Instant) -> Self {
        Self {
            probe_at,
            probing: false,
        }
    }
}

impl Parking {
    /// Whether new messages of this topic are written to the table as unroutable.
    pub(crate) fn is_parked(&self, topic: &str) -> bool {
        // Almost always no topic is parked, and then a publish takes no lock.
        self.count.load(Ordering::Relaxed) > 0 && self.topics().contains_key(topic)
    }

    /// Parks a topic, or ends its probe. True if it was open before.
    pub(crate) fn park(&self, topic: &Arc<str>) -> bool {
        let mut topics = self.topics();
        let parked = ParkedTopic::waiting_until(Instant::now() + PROBE_INTERVAL);
        if topics.len() >= MAX_TOPICS && !topics.contains_key(topic) {
            return false;
        }
        let is_new = topics.insert(Arc::clone(topic), parked).is_none();
        self.count.store(topics.len(), Ordering::Relaxed);
        is_new
    }

    /// Parks a topic that has unroutable records in the table. Its first probe is due at once.
    pub(crate) fn found(&self, topic: &str) {
        let mut topics = self.topics();
        if topics.len() < MAX_TOPICS && !topics.contains_key(topic) {
            topics.insert(topic.into(), ParkedTopic::waiting_until(Instant::now()));
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

    /// Takes up to `limit` topics whose probe is due, the longest due first. From now on a probe of each is
    /// out.
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

    /// When the next probe is due. `None` if no topic is parked or a probe of each is out.
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

    /// Ends a probe whose answer says nothing about the topic, such as a lost connection.
    pub(crate) fn probe_again(&self, topic: &str) {
        if let Some(parked) = self.topics().get_mut(topic) {
            *parked = ParkedTopic::waiting_until(Instant::now() + PROBE_INTERVAL);
        }
    }

    /// How many topics are parked.
    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Notes that a topic is open and that records of it may still be unroutable in the table.
    pub(crate) fn mark_opened(&self, topic: Arc<str>) {
        let mut opened = lock(&self.opened);
        if !opened.contains(&topic) {
            opened.push(topic);
        }
    }

    /// Takes up to `limit` opened topics. The caller rings the scanner, so that it comes back for the rest.
    pub(crate) fn take_opened(&self, limit: usize) -> Vec<Arc<str>> {
        let mut opened = lock(&self.opened);
        let limit = limit.min(opened.len());
        opened.drain(..limit).collect()
    }

    fn topics(&self) -> MutexGuard<'_, HashMap<Arc<str>, ParkedTopic>> {
        lock(&self.topics)
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

        // Probed topics are due again before all topics have been probed.
        for _ in 0..topics.len().div_ceil(64) {
            let now = Instant::now();
            for topic in parking.to_probe(64) {
                let parked = ParkedTopic::waiting_until(now);
                parking.topics().insert(Arc::clone(&topic), parked);
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
