//! The budget of the way out: how many messages may be in flight, and how large they may be together.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

/// Payload bytes in flight at once, whatever the number of messages.
const MAX_BYTES: usize = 32 * 1024 * 1024;

/// Who asks for a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// A transaction of this process, just before its INSERT.
    HandOver,
    /// The scanner, for a record it has claimed.
    Scanner,
}

/// Hands out [`Slot`]s.
///
/// A slot is reserved before the INSERT or taken after the claim and travels with the record until it
/// is settled. Nothing is sent without one, so what can be sent again after a crash is bounded by this
/// alone; in memory are besides a batch of claimed records that wait for a slot, and one ahead of it.
///
/// ```text
///   try_take ──▶ with the broker ── answered ──▶ settling ── dropped ──▶ free
///                     ▲  └─ dropped ▶ free           │
///                     └────────── sent again ────────┘
/// ```
///
/// The statement that settles a batch can take as long as the broker's confirm. What waits for it is in
/// nobody's way, so the shares are of what is with the broker:
///
/// - while there is a backlog, hand-over leaves a quarter to the scanner; the scanner always leaves
///   a quarter to hand-over, so that fresh messages stay quick during a drain;
/// - one topic holds at most a quarter while others are in flight, and half when it is alone, of the
///   slots and of the bytes: a topic whose queue never confirms can use up the share of neither side.
#[derive(Debug)]
pub(crate) struct Window {
    limit: usize,
    used: Mutex<Used>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct Used {
    /// With the broker.
    slots: usize,
    /// Answered, and not yet settled in the table.
    settling: usize,
    /// Of both.
    bytes: usize,
    hand_over: usize,
    scanner: usize,
    topics: HashMap<Arc<str>, Share>,
    backlog: bool,
}

/// What one topic has with the broker.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    slots: usize,
    bytes: usize,
}

/// The right to have one message in flight. Dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Slot {
    window: Arc<Window>,
    topic: Arc<str>,
    bytes: usize,
    side: Side,
    is_answered: bool,
}

impl Used {
    fn send(&mut self, slot: &Slot) {
        self.slots += 1;
        *self.of(slot.side) += 1;
        let share = self.topics.entry(Arc::clone(&slot.topic)).or_default();
        share.slots += 1;
        share.bytes += slot.bytes;
    }

    fn answer(&mut self, slot: &Slot) {
        self.slots -= 1;
        *self.of(slot.side) -= 1;
        if let Some(share) = self.topics.get_mut(&slot.topic) {
            share.slots -= 1;
            share.bytes -= slot.bytes;
            if share.slots == 0 {
                self.topics.remove(&slot.topic);
            }
        }
    }

    fn of(&mut self, side: Side) -> &mut usize {
        match side {
            Side::HandOver => &mut self.hand_over,
            Side::Scanner => &mut self.scanner,
        }
    }
}

impl Window {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            used: Mutex::default(),
            freed: Notify::new(),
        })
    }

    /// Takes a slot, if there is one for this topic and side.
    pub(crate) fn try_take(
        self: &Arc<Self>,
        topic: &Arc<str>,
        bytes: usize,
        side: Side,
    ) -> Option<Slot> {
        let mut used = self.used();
        let of_side = *used.of(side);
        let of_topic = used.topics.get(topic).copied().unwrap_or_default();
        let alone = used.topics.len() == usize::from(of_topic.slots > 0);
        let (topic_limit, topic_bytes) = match alone {
            true => (self.half(), MAX_BYTES / 2),
            false => (self.quarter(), MAX_BYTES / 4),
        };
        let side_limit = match side {
            Side::HandOver if !used.backlog => self.limit,
            Side::HandOver | Side::Scanner => self.three_quarters(),
        };
        // A message larger than its topic's share still goes, as the topic's only one, and one larger
        // than the whole budget as the only one of all.
        let fits = (used.bytes == 0 || used.bytes + bytes <= MAX_BYTES)
            && (of_topic.slots == 0 || of_topic.bytes + bytes <= topic_bytes);
        let is_full = used.slots + used.settling >= self.limit;
        if is_full || of_side >= side_limit || of_topic.slots >= topic_limit || !fits {
            return None;
        }
        let slot = Slot {
            window: Arc::clone(self),
            topic: Arc::clone(topic),
            bytes,
            side,
            is_answered: false,
        };
        used.send(&slot);
        used.bytes += bytes;
        drop(used);
        Some(slot)
    }

    /// How many slots the scanner could take now, if no topic stood in the way.
    pub(crate) fn free_for_scanner(&self) -> usize {
        let used = self.used();
        if used.bytes >= MAX_BYTES {
            return 0;
        }
        (self.limit - used.slots - used.settling)
            .min(self.most_for_scanner().saturating_sub(used.scanner))
    }

    /// How many slots the scanner may ever hold.
    pub(crate) fn most_for_scanner(&self) -> usize {
        self.three_quarters()
    }

    /// How many free slots make a claim worth its statement.
    pub(crate) fn worth_a_claim(&self, batch: usize) -> usize {
        self.quarter().min(batch).max(1)
    }

    /// Waits until a slot is given back. Enable it before looking at what is free.
    pub(crate) fn freed(&self) -> tokio::sync::futures::Notified<'_> {
        self.freed.notified()
    }

    /// Says whether the table holds due records that are not in flight.
    pub(crate) fn set_backlog(&self, backlog: bool) {
        self.used().backlog = backlog;
    }

    /// How many messages are in flight, those included that are being settled.
    pub(crate) fn in_flight(&self) -> usize {
        let used = self.used();
        used.slots + used.settling
    }

    fn quarter(&self) -> usize {
        (self.limit / 4).max(1)
    }

    fn half(&self) -> usize {
        (self.limit / 2).max(1)
    }

    fn three_quarters(&self) -> usize {
        (self.limit - self.limit / 4).max(1)
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        // Counters stay true even if a thread panicked elsewhere while it held them.
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// Notes that the broker has answered: another message may go in its place.
    pub(super) fn answered(&mut self) {
        if self.is_answered {
            return;
        }
        self.is_answered = true;
        let mut used = self.window.used();
        used.answer(self);
        used.settling += 1;
        drop(used);
        self.window.freed.notify_waiters();
    }

    /// Notes that the message goes to the broker again, whatever its share.
    pub(super) fn sent_again(&mut self) {
        if !self.is_answered {
            return;
        }
        self.is_answered = false;
        let mut used = self.window.used();
        used.settling -= 1;
        used.send(self);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut used = self.window.used();
        used.bytes -= self.bytes;
        if self.is_answered {
            used.settling -= 1;
        } else {
            used.answer(self);
        }
        drop(used);
        self.window.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn topic(name: &str) -> Arc<str> {
        name.into()
    }

    fn take(window: &Arc<Window>, name: &str, side: Side, wanted: usize) -> Vec<Slot> {
        (0..wanted)
            .map_while(|_| window.try_take(&topic(name), 1, side))
            .collect()
    }

    #[test]
    fn a_dropped_slot_is_free_again() {
        let window = Window::new(1);
        let slot = window.try_take(&topic("a"), 10, Side::HandOver);
        assert!(slot.is_some());
        assert!(window.try_take(&topic("a"), 10, Side::HandOver).is_none());
        drop(slot);
        assert!(window.try_take(&topic("a"), 10, Side::HandOver).is_some());
    }

    #[test]
    fn a_topic_may_send_on_while_its_answers_are_settled_until_the_window_is_full() {
        let window = Window::new(100);
        let mut settling = take(&window, "a", Side::HandOver, 1000);
        assert_eq!(settling.len(), 50);
        settling.iter_mut().for_each(Slot::answered);
        let sent = take(&window, "a", Side::HandOver, 1000);
        assert_eq!((sent.len(), window.in_flight()), (50, 100));
        drop(settling);
        assert_eq!(window.in_flight(), 50);
    }

    /// And not only when the record is settled, which takes a statement.
    #[test]
    fn a_wait_for_a_slot_ends_when_the_broker_answers() {
        let window = Window::new(1);
        let mut slot = window.try_take(&topic("a"), 1, Side::HandOver).unwrap();
        let mut freed = std::pin::pin!(window.freed());
        assert!(freed.as_mut().now_or_never().is_none());
        slot.answered();
        assert!(freed.now_or_never().is_some());
    }

    #[test]
    fn a_message_that_is_sent_again_counts_as_with_the_broker() {
        let window = Window::new(4);
        let mut slots = take(&window, "a", Side::HandOver, 4);
        assert_eq!(slots.len(), 2, "half of the window");
        slots.iter_mut().for_each(Slot::answered);
        slots.iter_mut().for_each(Slot::sent_again);
        assert!(window.try_take(&topic("a"), 1, Side::HandOver).is_none());
        assert_eq!(window.in_flight(), 2);
    }

    #[test]
    fn hand_over_leaves_a_quarter_to_the_scanner_while_there_is_a_backlog() {
        let window = Window::new(100);
        window.set_backlog(true);
        let slots: Vec<_> = (0..4)
            .flat_map(|n| take(&window, &n.to_string(), Side::HandOver, 25))
            .collect();
        assert_eq!(slots.len(), 75);
        assert_eq!(take(&window, "x", Side::Scanner, 100).len(), 25);
    }

    #[test]
    fn the_scanner_leaves_a_quarter_to_hand_over() {
        let window = Window::new(100);
        let slots: Vec<_> = (0..4)
            .flat_map(|n| take(&window, &n.to_string(), Side::Scanner, 25))
            .collect();
        assert_eq!(slots.len(), 75);
        assert_eq!(window.free_for_scanner(), 0);
    }

    #[test]
    fn a_topic_alone_cannot_fill_the_window() {
        let window = Window::new(100);
        let stuck = take(&window, "stuck", Side::HandOver, 1000);
        assert_eq!(stuck.len(), 50);
        assert_eq!(take(&window, "other", Side::HandOver, 1000).len(), 25);
    }

    #[test]
    fn a_topic_holds_a_quarter_while_others_are_in_flight() {
        let window = Window::new(100);
        let _other = take(&window, "other", Side::HandOver, 1);
        assert_eq!(take(&window, "stuck", Side::HandOver, 1000).len(), 25);
    }

    #[test]
    fn a_topic_of_large_messages_leaves_bytes_to_the_others() {
        let window = Window::new(1_000);
        let large = MAX_BYTES / 64;
        let take = |name: &str| {
            let slots = std::iter::from_fn(|| window.try_take(&topic(name), large, Side::HandOver));
            slots.collect::<Vec<_>>()
        };

        let stuck = take("stuck");
        let other = take("other");

        assert_eq!((stuck.len(), other.len()), (32, 16));
    }

    #[test]
    fn bytes_bound_the_window_and_one_huge_message_still_goes() {
        let window = Window::new(100);
        let huge = window.try_take(&topic("a"), MAX_BYTES * 2, Side::HandOver);
        assert!(huge.is_some());
        assert!(window.try_take(&topic("b"), 1, Side::HandOver).is_none());
        assert_eq!(window.free_for_scanner(), 0);
        drop(huge);
        assert!(window.try_take(&topic("b"), 1, Side::HandOver).is_some());
    }

    proptest::proptest! {
        #[test]
        fn what_is_taken_and_given_back_always_adds_up(
            steps in proptest::collection::vec((0..5_u8, 0..3_usize, proptest::bool::ANY), 1..300),
            limit in 1..40_usize,
        ) {
            let window = Window::new(limit);
            let mut held = Vec::new();
            for (what, name, scanner) in steps {
                let side = if scanner { Side::Scanner } else { Side::HandOver };
                match what {
                    0..3 => held.extend(window.try_take(&topic(&name.to_string()), 100, side)),
                    3 if !held.is_empty() => {
                        let at = name % held.len();
                        match scanner {
                            true => { held.swap_remove(at); }
                            false => held[at].answered(),
                        }
                    }
                    3 => {}
                    _ => window.set_backlog(scanner),
                }
                proptest::prop_assert!(held.len() <= limit);
                proptest::prop_assert_eq!(window.in_flight(), held.len());
            }
            held.iter_mut().step_by(2).for_each(Slot::sent_again);
            held.clear();
            let used = window.used();
            proptest::prop_assert_eq!((used.slots, used.settling, used.bytes, used.hand_over, used.scanner, used.topics.len()), (0, 0, 0, 0, 0, 0));
        }

        #[test]
        fn no_side_and_no_topic_ever_has_more_than_its_share(
            steps in proptest::collection::vec((0..9_u8, 0..6_usize, proptest::bool::ANY), 1..300),
            limit in 4..40_usize,
        ) {
            let window = Window::new(limit);
            let mut held = Vec::new();
            let mut backlog = false;
            for (what, name, scanner) in steps {
                let side = if scanner { Side::Scanner } else { Side::HandOver };
                let topic = topic(&name.to_string());
                match what {
                    0..7 => {
                        let Some(slot) = window.try_take(&topic, 1, side) else {
                            continue;
                        };
                        held.push(slot);
                        let used = window.used();
                        proptest::prop_assert!(used.scanner <= limit - limit / 4);
                        if backlog && !scanner {
                            proptest::prop_assert!(used.hand_over <= limit - limit / 4);
                        }
                        let share = if used.topics.len() == 1 { limit / 2 } else { limit / 4 };
                        proptest::prop_assert!(used.topics[&topic].slots <= share);
                    }
                    7 if !held.is_empty() => { held.swap_remove(name % held.len()); }
                    _ => {
                        backlog = scanner;
                        window.set_backlog(backlog);
                    }
                }
                let free = window.free_for_scanner();
                proptest::prop_assert!(free + window.in_flight() <= limit);
            }
        }
    }
}
