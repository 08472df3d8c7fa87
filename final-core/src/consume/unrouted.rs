//! Messages without a route: given back for a while, because another instance may have the route.
//!
//! Input: a message for whose topic this instance has no handler, each time it is delivered. State: when each
//! message came first, and the hopeless topics: a message of theirs has waited in vain. Output: requeue it
//! after a pause, or dead-letter it.
//!
//! ```text
//!   message:  first seen ── each delivery: Requeue, after a growing pause ──▶ grace over: DeadLetter
//!   topic:    waits ── a message's grace is over ──▶ hopeless: DeadLetter at once
//!               ▲                                       │
//!               └── none of its messages for a grace ───┘
//! ```

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;

use crate::{Message, MessageId, lock::lock};

/// Remembers since when messages have come without a route.
///
/// During a rolling deployment the queue is bound to a new topic as soon as the first new instance is up, and
/// the old instances get their share of its messages until they are replaced. Once a message has waited out
/// its grace, no instance has the route. Then the other messages of the topic do not wait, because each that
/// waits takes a place of the prefetch from messages that can be handled.
pub(super) struct Unrouted {
    grace: Duration,
    seen: Mutex<Sightings>,
}

/// What is to be done with a message without a route.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ruling {
    /// Requeue it after a pause, so that it does not come again in a hot loop.
    Requeue(Duration),
    /// The grace is over: dead-letter it.
    DeadLetter,
}

/// What has been seen without a route.
#[derive(Default)]
struct Sightings {
    /// When each message came first.
    first: HashMap<MessageId, Instant>,
    /// The same, oldest first.
    order: VecDeque<(Instant, MessageId)>,
    /// The topics for which no instance has a route, and when one of their messages came last.
    hopeless: HashMap<Arc<str>, Instant>,
}

/// The pause before a message is requeued for the first time.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// Below RabbitMQ's consumer timeout of 30 minutes.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// How many messages are remembered. A forgotten message gets a new grace, which loses nothing.
const LIMIT: usize = 100_000;

/// How many hopeless topics are remembered. Messages of further topics wait out their grace one by one.
const TOPICS: usize = 1_000;

/// How long after its grace a message is remembered. If its dead letter is void, it comes again and must not
/// get a second grace.
const AFTERWARDS: Duration = Duration::from_secs(60);

impl Unrouted {
    pub(super) fn new(grace: Duration) -> Self {
        Self {
            grace,
            seen: Mutex::default(),
        }
    }

    /// Decides what is done with a message that was delivered now.
    pub(super) fn rule(&self, message: &Message, now: Instant) -> Ruling {
        let mut seen = lock(&self.seen);
        if self.grace.is_zero() || seen.is_hopeless(message.topic(), now, self.grace) {
            return Ruling::DeadLetter;
        }
        let keep = self.grace.saturating_mul(2).saturating_add(AFTERWARDS);
        let here = now.duration_since(seen.first(message.identity(), now, keep));
        // Another process may have seen it before.
        let age = here.max(message.waited());
        let left = self.grace.saturating_sub(age);
        if left.is_zero() {
            seen.mark_hopeless(message.shared_topic(), now, self.grace);
            Ruling::DeadLetter
        } else {
            Ruling::Requeue(self.pause(age).min(left))
        }
    }

    /// How long a message has waited so far, here and in other processes.
    pub(super) fn age(&self, message: &Message, now: Instant) -> Duration {
        let seen = lock(&self.seen);
        let first = seen.first.get(&message.identity());
        let here = first.map_or(Duration::ZERO, |first| now.duration_since(*first));
        here.max(message.waited())
    }

    /// The pause before a message of this age is requeued: as long as its age, within limits.
    ///
    /// Pauses are short at first, because the next instance that gets the message may have the route. Then
    /// they grow, so that a message is requeued fewer than twenty times within its grace: a quorum queue drops
    /// or dead-letters a message after 20 deliveries by default.
    fn pause(&self, age: Duration) -> Duration {
        let longest = (self.grace / 8).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        age.clamp(FIRST_PAUSE, longest)
    }
}

impl Sightings {
    /// When this message came first. Forgets messages older than `keep`.
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

    /// Whether a topic's messages no longer wait. It stays so while one comes at least once in a grace.
    fn is_hopeless(&mut self, topic: &str, now: Instant, grace: Duration) -> bool {
        match self.hopeless.get_mut(topic) {
            Some(last) if now.duration_since(*last) < grace => {
                *last = now;
                true
            }
            _ => false,
        }
    }

    /// Notes that no instance has a route for this topic.
    fn mark_hopeless(&mut self, topic: Arc<str>, now: Instant, grace: Duration) {
        self.hopeless
            .retain(|_, last| now.duration_since(*last) < grace);
        if self.hopeless.len() < TOPICS {
            self.hopeless.insert(topic, now);
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

    /// With one message that has waited out its grace.
    fn hopeless(now: Instant) -> Unrouted {
        let (unrouted, message) = (Unrouted::new(GRACE), message());
        unrouted.rule(&message, now - GRACE);
        assert_eq!(unrouted.rule(&message, now), Ruling::DeadLetter);
        unrouted
    }

    #[test]
    fn when_one_has_waited_in_vain_others_of_its_topic_do_not_wait() {
        let now = Instant::now() + GRACE;
        let unrouted = hopeless(now);

        assert_eq!(
            unrouted.rule(&message(), now + GRACE / 2),
            Ruling::DeadLetter
        );
        assert_eq!(unrouted.rule(&message(), now + GRACE), Ruling::DeadLetter);
        let other = Message::new("order.cancelled", "payload");
        assert!(matches!(unrouted.rule(&other, now), Ruling::Requeue(_)));
    }

    #[test]
    fn after_a_time_without_any_the_messages_of_a_topic_wait_again() {
        let now = Instant::now() + GRACE;
        let unrouted = hopeless(now);

        let later = unrouted.rule(&message(), now + GRACE);
        assert!(matches!(later, Ruling::Requeue(_)), "{later:?}");
    }

    #[test]
    fn message_without_an_id_is_known_by_what_it_says() {
        let (unrouted, now) = (Unrouted::new(GRACE), Instant::now());
        unrouted.rule(&Message::new("order.placed", "one"), now);
        unrouted.rule(&Message::new("order.placed", "another"), now + GRACE / 2);

        let another = unrouted.rule(&Message::new("order.placed", "another"), now + GRACE);
        assert!(matches!(another, Ruling::Requeue(_)), "{another:?}");
        let one = unrouted.rule(&Message::new("order.placed", "one"), now + GRACE);
        assert_eq!(one, Ruling::DeadLetter);
    }

    #[test]
    fn memory_of_topics_is_bounded() {
        let (unrouted, now) = (Unrouted::new(GRACE), Instant::now());
        for topic in 0..TOPICS + 10 {
            let message = message_of(&topic.to_string());
            unrouted.rule(&message, now);
            assert_eq!(unrouted.rule(&message, now + GRACE), Ruling::DeadLetter);
        }

        assert_eq!(unrouted.seen.lock().unwrap().hopeless.len(), TOPICS);
    }

    #[test]
    fn message_is_requeued_until_its_grace_is_over() {
        #[track_caller]
        fn check(grace: Duration, age: Duration, expected: &Ruling) {
            let (unrouted, message, now) = (Unrouted::new(grace), message(), Instant::now());
            unrouted.rule(&message, now);
            assert_eq!(unrouted.rule(&message, now + age), *expected);
        }

        let ms = Duration::from_millis;
        check(GRACE, ms(0), &Ruling::Requeue(ms(250)));
        check(GRACE, ms(4_000), &Ruling::Requeue(ms(4_000)));
        check(GRACE, ms(260_000), &Ruling::Requeue(ms(37_500)));
        check(GRACE, ms(295_000), &Ruling::Requeue(ms(5_000)));
        check(GRACE, GRACE, &Ruling::DeadLetter);
        check(GRACE * 100, GRACE, &Ruling::Requeue(GRACE));
        check(GRACE * 100, GRACE * 50, &Ruling::Requeue(LONGEST_PAUSE));
        check(ms(20), ms(0), &Ruling::Requeue(ms(20)));
        check(ms(0), ms(0), &Ruling::DeadLetter);
    }

    #[test]
    fn message_is_requeued_less_often_than_a_quorum_queue_allows() {
        for minutes in 1..=60 {
            let unrouted = Unrouted::new(Duration::from_secs(minutes * 60));
            let (message, mut now, mut times) = (message(), Instant::now(), 0);
            while let Ruling::Requeue(pause) = unrouted.rule(&message, now) {
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

        assert_eq!(unrouted.rule(&message, now + GRACE), Ruling::DeadLetter);
        let again = unrouted.rule(&message, now + GRACE * 2 + AFTERWARDS);
        assert_eq!(again, Ruling::DeadLetter);
    }

    #[test]
    fn the_wait_in_another_process_counts() {
        let (unrouted, now) = (Unrouted::new(GRACE), Instant::now());
        let waited = |seconds| message().with_waited(Duration::from_secs(seconds));

        let young = waited(299);
        assert_eq!(
            unrouted.rule(&young, now),
            Ruling::Requeue(Duration::from_secs(1))
        );
        assert_eq!(unrouted.age(&young, now), Duration::from_secs(299));
        assert_eq!(unrouted.rule(&waited(300), now), Ruling::DeadLetter);
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
