//! What became of messages on their way out, by topic.
//!
//! Input: answers of the broker, batch by batch. State: for each topic a count of each answer, and how long it took
//! until messages were stored. Output: the counts, for `Bus::metrics`.
//!
//! Topics may be made of anything that a caller publishes. So the first [`TOPICS`] are counted by themselves, and
//! all later ones together.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::{
    broker::Confirm,
    lock::lock,
    metrics::{Histogram, OTHER, SentTopic},
    runtime::counter::Counter,
};

/// How many topics are counted by themselves.
const TOPICS: usize = 100;

/// The kinds of answers, as the label `answer` has them.
const ANSWERS: [&str; 10] = [
    "stored",
    "unroutable",
    "refused",
    "no_answer",
    "denied",
    "suspect",
    "faulty",
    "lost",
    "expired",
    "lease_over",
];

/// The place of an answer among these.
fn place(confirm: &Confirm) -> usize {
    match confirm {
        Confirm::Stored => 0,
        Confirm::Unroutable => 1,
        Confirm::Refused => 2,
        Confirm::NoAnswer => 3,
        Confirm::Denied(_) => 4,
        Confirm::Suspect => 5,
        Confirm::Faulty(_) => 6,
        Confirm::Lost => 7,
        Confirm::Expired => 8,
        Confirm::LeaseOver => 9,
    }
}

/// The counts of one topic.
#[derive(Debug, Default)]
struct SentCounts {
    answers: [Counter; ANSWERS.len()],
    commit_to_confirm: Histogram,
}

/// The counts of all topics.
#[derive(Debug, Default)]
pub(crate) struct SentTopics {
    topics: Mutex<HashMap<Arc<str>, Arc<SentCounts>>>,
    /// All topics that are not counted by themselves.
    other: Arc<SentCounts>,
}

impl SentTopics {
    /// Counts a batch of answers. A topic is looked up once for neighbours that have it.
    pub(super) fn counting(&self) -> Counting<'_> {
        Counting {
            of: self,
            last: None,
        }
    }

    fn of(&self, topic: &Arc<str>) -> Arc<SentCounts> {
        let mut topics = lock(&self.topics);
        if let Some(counts) = topics.get(topic) {
            return Arc::clone(counts);
        }
        if topics.len() >= TOPICS || **topic == *OTHER {
            return Arc::clone(&self.other);
        }
        Arc::clone(topics.entry(Arc::clone(topic)).or_default())
    }

    /// The counts so far, in the order of the topics.
    pub(crate) fn read(&self) -> Vec<SentTopic> {
        let topics = lock(&self.topics);
        let topics = topics
            .iter()
            .map(|(topic, counts)| counts.read(Some(topic)));
        let mut all: Vec<_> = topics.collect();
        all.sort_unstable_by(|a, b| a.topic.cmp(&b.topic));
        all.push(self.other.read(None));
        all
    }
}

impl SentCounts {
    fn read(&self, topic: Option<&Arc<str>>) -> SentTopic {
        SentTopic {
            topic: topic.map(ToString::to_string),
            answers: ANSWERS
                .into_iter()
                .zip(self.answers.iter().map(Counter::get))
                .collect(),
            commit_to_confirm: self.commit_to_confirm.read(),
        }
    }
}

/// A batch that is being counted.
pub(super) struct Counting<'a> {
    of: &'a SentTopics,
    last: Option<(Arc<str>, Arc<SentCounts>)>,
}

impl Counting<'_> {
    /// Counts one answer, that came so long after the COMMIT.
    pub(super) fn add(&mut self, topic: &Arc<str>, confirm: &Confirm, took: Duration) {
        let is_same = self.last.as_ref().is_some_and(|(last, _)| last == topic);
        if !is_same {
            self.last = Some((Arc::clone(topic), self.of.of(topic)));
        }
        let Some((_, counts)) = &self.last else {
            return;
        };
        if let Some(count) = counts.answers.get(place(confirm)) {
            count.add(1);
        }
        if *confirm == Confirm::Stored {
            counts.commit_to_confirm.observe(took);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOOK: Duration = Duration::from_millis(3);

    /// The count of an answer, of a topic or of all others.
    fn count(sent: &[SentTopic], topic: Option<&str>, answer: &str) -> u64 {
        let of_topic = sent.iter().find(|sent| sent.topic.as_deref() == topic);
        let mut answers = of_topic.unwrap().answers.iter();
        answers.find(|(name, _)| *name == answer).unwrap().1
    }

    #[test]
    fn ten_thousand_topics_are_counted_and_few_of_them_by_themselves() {
        let sent = SentTopics::default();
        let mut counting = sent.counting();
        for n in 0..10_000 {
            let topic = format!("hostile \"{n}\\").into();
            counting.add(&topic, &Confirm::Stored, TOOK);
            counting.add(&topic, &Confirm::Lost, TOOK);
        }
        let read = sent.read();

        assert_eq!(read.len(), TOPICS + 1);
        assert_eq!(count(&read, None, "stored"), 10_000 - TOPICS as u64);
        let all: u64 = read.iter().map(|sent| sent.commit_to_confirm.count()).sum();
        assert_eq!(all, 10_000);
        assert_eq!(lock(&sent.topics).len(), TOPICS);
    }

    #[test]
    fn each_answer_counts_as_itself_and_only_stored_ones_take_time() {
        let (sent, topic) = (SentTopics::default(), Arc::from("placed"));
        let all = [
            Confirm::Stored,
            Confirm::Unroutable,
            Confirm::Refused,
            Confirm::NoAnswer,
            Confirm::Denied(String::new()),
            Confirm::Suspect,
            Confirm::Faulty(String::new()),
            Confirm::Lost,
            Confirm::Expired,
            Confirm::LeaseOver,
        ];
        for confirm in &all {
            sent.counting().add(&topic, confirm, TOOK);
        }
        let read = sent.read();

        let answers: Vec<_> = ANSWERS.iter().map(|answer| (*answer, 1)).collect();
        assert_eq!(read[0].answers, answers);
        assert_eq!(read[0].commit_to_confirm.count(), 1);
        assert_eq!(read[0].commit_to_confirm.sum(), TOOK);
    }

    /// Two series with the same labels would make Prometheus refuse the whole text.
    #[test]
    fn a_topic_called_other_is_counted_with_the_others() {
        let sent = SentTopics::default();
        sent.counting().add(&OTHER.into(), &Confirm::Stored, TOOK);

        let read = sent.read();
        assert_eq!(read.len(), 1);
        assert_eq!(count(&read, None, "stored"), 1);
    }

    #[test]
    fn of_a_batch_with_several_topics_each_gets_its_own() {
        let sent = SentTopics::default();
        let mut counting = sent.counting();
        for n in 0..90 {
            let topic = ["a", "b", "c"][n % 3].into();
            counting.add(&topic, &Confirm::Stored, TOOK);
        }

        let read = sent.read();
        for topic in ["a", "b", "c"] {
            assert_eq!(count(&read, Some(topic), "stored"), 30);
        }
        assert_eq!(count(&read, None, "stored"), 0);
    }
}
