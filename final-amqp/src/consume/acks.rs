//! Decides which acks to send for finished deliveries: as few as possible, and none twice.
//!
//! Input: deliveries, and which are finished or requeued. State: one [`TagState`] for each tag from the first
//! open one on. Output: acks.
//!
//! A multiple-ack covers every tag up to its own, and RabbitMQ closes the channel if its own tag is settled
//! already. So the finished prefix is acked by its highest tag that is *not yet settled*. Finished deliveries
//! after the first open one are acked one by one, so that a slow handler holds up no others. These acks wait
//! a little: handlers finish in any order, and most open tags close soon.
//!
//! ```text
//! tag      1 2 3 4 5 6 7 8 9        . open   f finished   s settled (acked singly, or requeued)
//! before   f f s f s . f . f        prefix 1-5: multiple-ack 4; beyond tag 6: ack 7, ack 9
//! after    ─────────── . s . s
//! ```

use std::collections::VecDeque;

/// An ack to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ack {
    pub(crate) tag: u64,
    pub(crate) multiple: bool,
}

/// The acks that one channel incarnation still owes, by the tags of its deliveries.
#[derive(Debug)]
pub(crate) struct Acks {
    /// The tag of the first in `states`. All tags below are settled.
    first: u64,
    states: VecDeque<TagState>,
    finished: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TagState {
    Open,
    Finished,
    Settled,
}

impl Acks {
    pub(crate) fn new() -> Self {
        Self {
            first: 1,
            states: VecDeque::new(),
            finished: 0,
        }
    }

    /// Notes a delivery. Tags count up from 1 on each channel. Where one consumer replaces another, a delivery
    /// of one can be read before an earlier delivery of the other.
    pub(crate) fn delivered(&mut self, tag: u64) {
        let next = self.next();
        // RabbitMQ leaves out no tag, so the tags between are those of deliveries still to be read. They are open,
        // because a multiple-ack must not cover them.
        for _ in next..tag.saturating_add(1).min(next + 65_536) {
            self.states.push_back(TagState::Open);
        }
    }

    /// Notes that a delivery is done. False if it was not open.
    pub(crate) fn finish(&mut self, tag: u64) -> bool {
        let was_open = self.set(tag, TagState::Finished);
        self.finished += usize::from(was_open);
        was_open
    }

    /// Notes that a delivery is requeued. False if it was not open.
    pub(crate) fn requeue(&mut self, tag: u64) -> bool {
        self.set(tag, TagState::Settled)
    }

    /// The tag of the next delivery.
    pub(crate) fn next(&self) -> u64 {
        self.first + self.states.len() as u64
    }

    /// How many deliveries from this tag on RabbitMQ has no answer for.
    pub(crate) fn unanswered(&self, first: u64) -> usize {
        let before = usize::try_from(first.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let (one, other) = self.states.as_slices();
        let skipped = before.min(one.len());
        let open = |states: &[TagState]| {
            let open = states.iter().filter(|state| **state != TagState::Settled);
            open.count()
        };
        let other = other.get(before - skipped..).unwrap_or_default();
        open(one.get(skipped..).unwrap_or_default()) + open(other)
    }

    /// How many are finished and not acked.
    pub(crate) fn finished(&self) -> usize {
        self.finished
    }

    /// Whether a delivery is finished and not acked.
    pub(crate) fn is_finished(&self, tag: u64) -> bool {
        let index = tag
            .checked_sub(self.first)
            .and_then(|at| usize::try_from(at).ok());
        index.and_then(|at| self.states.get(at)) == Some(&TagState::Finished)
    }

    /// The ack for what is finished before the first open delivery. That counts as settled from now on.
    pub(crate) fn flush_prefix(&mut self) -> Option<Ack> {
        let mut highest = None;
        while let Some(state) = self
            .states
            .front()
            .filter(|state| **state != TagState::Open)
        {
            if *state == TagState::Finished {
                highest = Some(self.first);
                self.finished -= 1;
            }
            self.states.pop_front();
            self.first += 1;
        }
        highest.map(|tag| Ack {
            tag,
            multiple: true,
        })
    }

    /// The acks for all finished deliveries. They count as settled from now on.
    pub(crate) fn flush(&mut self) -> Vec<Ack> {
        self.flush_few(usize::MAX)
    }

    /// At most so many acks, for the deliveries that came first. These count as settled from now on.
    pub(crate) fn flush_few(&mut self, most: usize) -> Vec<Ack> {
        let mut acks = Vec::from_iter(self.flush_prefix());
        for (tag, state) in (self.first..).zip(&mut self.states) {
            if self.finished == 0 || acks.len() >= most {
                break;
            }
            if *state == TagState::Finished {
                *state = TagState::Settled;
                self.finished -= 1;
                acks.push(Ack {
                    tag,
                    multiple: false,
                });
            }
        }
        acks
    }

    fn set(&mut self, tag: u64, state: TagState) -> bool {
        let index = tag
            .checked_sub(self.first)
            .and_then(|at| usize::try_from(at).ok());
        match index.and_then(|at| self.states.get_mut(at)) {
            Some(have) if *have == TagState::Open => {
                *have = state;
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// What RabbitMQ knows of a channel. Panics if RabbitMQ would close the channel.
    #[derive(Default)]
    struct Server {
        unacked: BTreeSet<u64>,
        acked: BTreeSet<u64>,
    }

    impl Server {
        fn ack(&mut self, ack: Ack) {
            assert!(
                self.unacked.contains(&ack.tag),
                "unknown delivery tag {ack:?}"
            );
            let covered: Vec<u64> = if ack.multiple {
                self.unacked.range(..=ack.tag).copied().collect()
            } else {
                vec![ack.tag]
            };
            for tag in covered {
                self.unacked.remove(&tag);
                self.acked.insert(tag);
            }
        }
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Deliver,
        Finish(usize),
        Requeue(usize),
        FlushPrefix,
        FlushFew(usize),
        Flush,
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => Just(Step::Deliver),
            4 => (0..40usize).prop_map(Step::Finish),
            1 => (0..40usize).prop_map(Step::Requeue),
            2 => Just(Step::FlushPrefix),
            2 => (1..4usize).prop_map(Step::FlushFew),
            2 => Just(Step::Flush),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn acks_what_is_finished_once_and_nothing_else(steps in prop::collection::vec(any_step(), 0..200)) {
            let mut acks = Acks::new();
            let mut server = Server::default();
            let mut open: Vec<u64> = Vec::new();
            let (mut finished, mut next) = (BTreeSet::new(), 1);
            for step in steps.into_iter().chain([Step::Flush]) {
                match step {
                    Step::Deliver => {
                        acks.delivered(next);
                        server.unacked.insert(next);
                        open.push(next);
                        next += 1;
                    }
                    Step::Finish(at) if !open.is_empty() => {
                        let tag = open.remove(at % open.len());
                        prop_assert!(acks.finish(tag));
                        prop_assert!(!acks.finish(tag));
                        finished.insert(tag);
                    }
                    Step::Requeue(at) if !open.is_empty() => {
                        let tag = open.remove(at % open.len());
                        prop_assert!(acks.requeue(tag));
                        server.unacked.remove(&tag);
                    }
                    Step::Finish(_) | Step::Requeue(_) => {}
                    Step::FlushPrefix => {
                        if let Some(ack) = acks.flush_prefix() {
                            server.ack(ack);
                        }
                        let open_from = open.iter().min().copied().unwrap_or(next);
                        let prefix: BTreeSet<u64> = finished.range(..open_from).copied().collect();
                        prop_assert!(prefix.is_subset(&server.acked));
                        prop_assert!(server.acked.is_subset(&finished));
                        prop_assert_eq!(acks.finished(), finished.len() - server.acked.len());
                    }
                    Step::FlushFew(most) => {
                        let few = acks.flush_few(most);
                        prop_assert!(few.len() <= most);
                        for ack in few {
                            server.ack(ack);
                        }
                        prop_assert!(server.acked.is_subset(&finished));
                        prop_assert_eq!(acks.finished(), finished.len() - server.acked.len());
                    }
                    Step::Flush => {
                        for ack in acks.flush() {
                            server.ack(ack);
                        }
                        prop_assert_eq!(&server.acked, &finished);
                        prop_assert_eq!(acks.finished(), 0);
                    }
                }
            }
        }
    }

    #[test]
    fn a_prefix_costs_one_ack() {
        let mut acks = Acks::new();
        for tag in 1..=300 {
            acks.delivered(tag);
            acks.finish(tag);
        }

        assert_eq!(
            acks.flush(),
            [Ack {
                tag: 300,
                multiple: true
            }]
        );
        assert_eq!(acks.flush(), []);
    }

    #[test]
    fn never_acks_a_settled_tag_again() {
        let mut acks = Acks::new();
        for tag in 1..=3 {
            acks.delivered(tag);
        }
        acks.finish(3);
        assert_eq!(
            acks.flush(),
            [Ack {
                tag: 3,
                multiple: false
            }]
        );
        acks.finish(1);
        acks.requeue(2);

        // 3 is the end of the prefix, but settled: the multiple-ack stops at 1.
        assert_eq!(
            acks.flush(),
            [Ack {
                tag: 1,
                multiple: true
            }]
        );
    }

    #[test]
    fn a_delivery_that_is_read_late_is_not_covered_by_the_ack_of_a_later_one() {
        let mut acks = Acks::new();
        for tag in [1, 3] {
            acks.delivered(tag);
            acks.finish(tag);
        }
        let multiple = |tag| Ack {
            tag,
            multiple: true,
        };
        let single = |tag| Ack {
            tag,
            multiple: false,
        };
        assert_eq!(acks.flush(), [multiple(1), single(3)]);

        acks.delivered(2);
        assert!(acks.finish(2));
        assert_eq!(acks.flush(), [multiple(2)]);
    }

    #[test]
    fn what_is_neither_acked_nor_requeued_is_unanswered() {
        let mut acks = Acks::new();
        for tag in 1..=6 {
            acks.delivered(tag);
        }
        acks.finish(1);
        acks.finish(4);
        acks.requeue(5);

        let counts = |acks: &Acks| [1, 3, 6, 7].map(|first| acks.unanswered(first));
        assert_eq!(counts(&acks), [5, 3, 1, 0]);
        acks.flush();
        assert_eq!(counts(&acks), [3, 2, 1, 0]);
        assert_eq!(acks.next(), 7);
    }

    #[test]
    fn unknown_tags_are_ignored() {
        let mut acks = Acks::new();
        acks.delivered(1);

        assert!(!acks.finish(0));
        assert!(!acks.finish(2));
        assert!(!acks.requeue(u64::MAX));
        assert_eq!(acks.flush(), []);
    }
}
