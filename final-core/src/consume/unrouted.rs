//! Messages without a route: handed back for a while, because another instance may have one.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::{Message, MessageId};

/// Remembers since when messages have been coming without a route here.
///
/// During a rolling deployment the queue is bound to the new topic as soon as the first new instance
/// is up, and the old ones get their share of it until they are replaced. But once a message has waited
/// out its grace nobody has the route: then the topic's others do not wait. Each that waits takes a place
/// of the prefetch from those that can be handled.
pub(super) struct Unrouted {
    grace: Duration,
    seen: Mutex<Seen>,
}

/// What is to be done with a message without a route.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ruling {
    /// Hand it back after a pause, so that it does not come again in a hot loop.
    HandBack(Duration),
    /// The grace is over: put it away.
    GiveUp,
}

#[derive(Default)]
struct Seen {
    first: HashMap<MessageId, Instant>,
    /// The same, oldest first.
    order: VecDeque<(Instant, MessageId)>,
    /// The topics nobody has a route for, and when one of their messages came last.
    given_up: HashMap<Arc<str>, Instant>,
}

/// The pause before a message is handed back for the first time.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// Below RabbitMQ's consumer timeout of 30 minutes.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// How many messages are remembered. One that is forgotten gets a new grace, which loses nothing.
const LIMIT: usize = 100_000;

/// How many topics are remembered. The messages of others wait out their grace, each for itself.
const TOPICS: usize = 1_000;

/// How long after its grace a message is remembered, in case its dead letter is void and it comes
/// again.
const AFTERWARDS: Duration = Duration::from_secs(60);

impl Unrouted {
    pub(super) fn new(grace: Duration) -> Self {
        Self {
            grace,
            seen: Mutex::default(),
        }
    }

    /// Rules on a message that came now.
    pub(super) fn rule(&self, message: &Message, now: Instant) -> Ruling {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if self.grace.is_zero() || seen.has_given_up(message.topic(), now, self.grace) {
            return Ruling::GiveUp;
        }
        let keep = self.grace.saturating_mul(2).saturating_add(AFTERWARDS);
        let age = now.duration_since(seen.first(message.identity(), now, keep));
        let left = self.grace.saturating_sub(age);
        if left.is_zero() {
            seen.give_up(message.shared_topic(), now, self.grace);
            Ruling::GiveUp
        } else {
            Ruling::HandBack(self.pause(age).min(left))
        }
    }

    /// As long as the message has been coming already: a short pause first, because the instance that
    /// has the route may be the next one to get it, then longer ones. Fewer than twenty times within the
    /// grace: a quorum queue gives up after 20 deliveries by default.
    fn pause(&self, age: Duration) -> Duration {
        let longest = (self.grace / 8).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        age.clamp(FIRST_PAUSE, longest)
    }
}

impl Seen {
    fn first(&mut self, id: MessageId, now: Instant, keep: Duration) -> Instant {
        while let Some((when, old)) = self.order.front()
            && (now.duration_since(*when) > keep || self.order.len() > LIMIT)
        {
            self.first.remove(old);
            self.order.pop_front();
        }
        *self.first.entry(id).or_insert_with(|| {
            self.order.push_back((now, id));
            now
        })
    }

    /// Whether a topic's messages wait no more. For as long as they keep coming within a grace.
    fn has_given_up(&mut self, topic: &str, now: Instant, grace: Duration) -> bool {
        match self.given_up.get_mut(topic) {
            Some(last) if now.duration_since(*last) < grace => {
                *last = now;
                true
            }
            _ => false,
        }
    }

    fn give_up(&mut self, topic: Arc<str>, now: Instant, grace: Duration) {
        self.given_up
            .retain(|_, last| now.duration_since(*last) < grace);
        if self.given_up.len() < TOPICS {
            self.given_up.insert(topic, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(300);

    fn message() -> Message {
        message_of("order.placed")
    }

    fn message_of(topic: &str) -> Message {
        Message::identified(MessageId::new(), topic, "payload")
    }

    /// One that has waited out its grace.
    fn given_up(now: Instant) -> Unrouted {
        let (unrouted, message) = (Unrouted::new(GRACE), message());
        unrouted.rule(&message, now - GRACE);
        assert_eq!(unrouted.rule(&message, now), Ruling::GiveUp);
        unrouted
    }

    #[test]
    fn when_one_has_waited_in_vain_others_of_its_topic_do_not_wait() {
        let now = Instant::now() + GRACE;
        let unrouted = given_up(now);

        assert_eq!(unrouted.rule(&message(), now + GRACE / 2), Ruling::GiveUp);
        assert_eq!(unrouted.rule(&message(), now + GRACE), Ruling::GiveUp);
        let other = Message::new("order.cancelled", "payload");
        assert!(matches!(unrouted.rule(&other, now), Ruling::HandBack(_)));
    }

    #[test]
    fn after_a_time_without_any_the_messages_of_a_topic_wait_again() {
        let now = Instant::now() + GRACE;
        let unrouted = given_up(now);

        let later = unrouted.rule(&message(), now + GRACE);
        assert!(matches!(later, Ruling::HandBack(_)), "{later:?}");
    }

    #[test]
    fn message_without_an_id_is_known_by_what_it_says() {
        let (unrouted, now) = (Unrouted::new(GRACE), Instant::now());
        unrouted.rule(&Message::new("order.placed", "one"), now);
        unrouted.rule(&Message::new("order.placed", "another"), now + GRACE / 2);

        let another = unrouted.rule(&Message::new("order.placed", "another"), now + GRACE);
        assert!(matches!(another, Ruling::HandBack(_)), "{another:?}");
        let one = unrouted.rule(&Message::new("order.placed", "one"), now + GRACE);
        assert_eq!(one, Ruling::GiveUp);
    }

    #[test]
    fn memory_of_topics_is_bounded() {
        let (unrouted, now) = (Unrouted::new(GRACE), Instant::now());
        for topic in 0..TOPICS + 10 {
            let message = message_of(&topic.to_string());
            unrouted.rule(&message, now);
            assert_eq!(unrouted.rule(&message, now + GRACE), Ruling::GiveUp);
        }

        assert_eq!(unrouted.seen.lock().unwrap().given_up.len(), TOPICS);
    }

    #[test]
    fn message_is_handed_back_until_its_grace_is_over() {
        #[track_caller]
        fn check(grace: Duration, age: Duration, expected: &Ruling) {
            let (unrouted, message, now) = (Unrouted::new(grace), message(), Instant::now());
            unrouted.rule(&message, now);
            assert_eq!(unrouted.rule(&message, now + age), *expected);
        }

        let ms = Duration::from_millis;
        check(GRACE, ms(0), &Ruling::HandBack(ms(250)));
        check(GRACE, ms(4_000), &Ruling::HandBack(ms(4_000)));
        check(GRACE, ms(260_000), &Ruling::HandBack(ms(37_500)));
        check(GRACE, ms(295_000), &Ruling::HandBack(ms(5_000)));
        check(GRACE, GRACE, &Ruling::GiveUp);
        check(GRACE * 100, GRACE, &Ruling::HandBack(GRACE));
        check(GRACE * 100, GRACE * 50, &Ruling::HandBack(LONGEST_PAUSE));
        check(ms(20), ms(0), &Ruling::HandBack(ms(20)));
        check(ms(0), ms(0), &Ruling::GiveUp);
    }

    #[test]
    fn message_is_handed_back_less_often_than_a_quorum_queue_allows() {
        for minutes in 1..=60 {
            let unrouted = Unrouted::new(Duration::from_secs(minutes * 60));
            let (message, mut now, mut times) = (message(), Instant::now(), 0);
            while let Ruling::HandBack(pause) = unrouted.rule(&message, now) {
                now += pause;
                times += 1;
            }
            assert!(times < 20, "{times} times in {minutes} min");
        }
    }

    #[test]
    fn message_whose_dead_letter_was_void_gets_no_second_grace() {
        let (unrouted, message, now) = (Unrouted::new(GRACE), message(), Instant::now());
        unrouted.rule(&message, now);

        assert_eq!(unrouted.rule(&message, now + GRACE), Ruling::GiveUp);
        let again = unrouted.rule(&message, now + GRACE * 2 + AFTERWARDS);
        assert_eq!(again, Ruling::GiveUp);
    }

    #[test]
    fn memory_of_messages_is_bounded() {
        let (unrouted, now) = (Unrouted::new(GRACE), Instant::now());

        for _ in 0..LIMIT + 100 {
            unrouted.rule(&message(), now);
        }

        let seen = unrouted.seen.lock().unwrap();
        assert!(seen.first.len() <= LIMIT + 1);
        assert_eq!(seen.first.len(), seen.order.len());
    }

    #[test]
    fn old_messages_are_forgotten() {
        let (unrouted, now) = (Unrouted::new(GRACE), Instant::now());
        unrouted.rule(&message(), now);

        unrouted.rule(&message(), now + GRACE * 3);

        assert_eq!(unrouted.seen.lock().unwrap().first.len(), 1);
    }
}
