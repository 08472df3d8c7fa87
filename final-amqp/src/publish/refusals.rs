//! Decides when to replace a channel on which a topic is only refused.
//!
//! Input: which topics were refused or stored. State: since when a topic was only refused. Output: when the
//! channel is due for replacement.
//!
//! If a channel first publishes to a quorum queue whose leader has just died, RabbitMQ (3.10) keeps asking the
//! dead node and refuses (nacks) every message until that node is back. A new channel asks the new leader. A
//! full queue refuses messages as well, and a client cannot tell the two apart. So the channel is replaced in
//! both cases, at growing intervals.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

/// How long a topic is refused before the channel is replaced for the first time. An election takes seconds,
/// and a channel that is opened before its end still asks the dead node.
const FIRST: Duration = Duration::from_secs(1);
/// The longest such interval.
const LONGEST: Duration = Duration::from_secs(60);

/// The refusals of one publishing task, over all its channels.
#[derive(Debug)]
pub(crate) struct Refusals {
    /// Since when this channel has refused a topic and stored nothing of it.
    since: HashMap<String, Instant>,
    /// Topics for which a channel was replaced, without a stored message since.
    blamed: HashSet<String>,
    patience: Duration,
}

impl Refusals {
    pub(crate) fn new() -> Self {
        Self {
            since: HashMap::new(),
            blamed: HashSet::new(),
            patience: FIRST,
        }
    }

    pub(crate) fn refused(&mut self, topic: &str, now: Instant) {
        if !self.since.contains_key(topic) {
            self.since.insert(topic.to_owned(), now);
        }
    }

    pub(crate) fn stored(&mut self, topic: &str) {
        if self.since.is_empty() && self.blamed.is_empty() {
            return;
        }
        self.since.remove(topic);
        if self.blamed.remove(topic) {
            self.patience = FIRST;
        }
    }

    /// When the channel is to be replaced, by the refusals so far.
    pub(crate) fn due(&self) -> Option<Instant> {
        let first = self.since.values().min()?;
        Some(*first + self.patience)
    }

    /// Starts again with a new channel.
    pub(crate) fn new_channel(&mut self, now: Instant) {
        if self.due().is_some_and(|due| due <= now) {
            self.blamed
                .extend(self.since.drain().map(|(topic, _)| topic));
            self.patience = self.patience.mul_f64(1.5).min(LONGEST);
        }
        self.since.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Goes through channels as long as the topic is refused; when each was replaced.
    fn replaced(refusals: &mut Refusals, start: Instant, times: usize) -> Vec<Duration> {
        let mut now = start;
        let replaced = std::iter::repeat_with(|| {
            refusals.refused("placed", now);
            now = refusals.due().unwrap();
            refusals.new_channel(now);
            now - start
        });
        replaced.take(times).collect()
    }

    #[test]
    fn a_topic_that_is_only_refused_gets_another_channel_more_and_more_seldom() {
        let mut refusals = Refusals::new();
        let times = replaced(&mut refusals, Instant::now(), 50);
        assert_eq!(times[..2], [SECOND, SECOND * 5 / 2]);
        // Soon enough for an election of some seconds.
        assert!(times[3] < 10 * SECOND);
        assert_eq!(times[49] - times[48], LONGEST);
    }

    #[test]
    fn one_stored_message_of_the_topic_is_enough() {
        let (mut refusals, now) = (Refusals::new(), Instant::now());
        refusals.refused("placed", now);
        refusals.stored("cancelled");
        assert_eq!(refusals.due(), Some(now + FIRST));
        refusals.stored("placed");
        assert_eq!(refusals.due(), None);
    }

    #[test]
    fn patience_is_short_again_once_the_topic_works() {
        let (mut refusals, now) = (Refusals::new(), Instant::now());
        replaced(&mut refusals, now, 20);
        refusals.stored("placed");
        refusals.refused("placed", now);
        assert_eq!(refusals.due(), Some(now + FIRST));
    }

    #[test]
    fn a_channel_that_ended_for_another_reason_is_not_counted() {
        let (mut refusals, now) = (Refusals::new(), Instant::now());
        refusals.refused("placed", now);
        refusals.new_channel(now);
        assert_eq!(refusals.due(), None);
        refusals.refused("placed", now + SECOND);
        assert_eq!(refusals.due(), Some(now + SECOND + FIRST));
    }
}
