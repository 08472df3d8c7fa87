//! The stock beside a simple model: random clients, and a list that says where each message is.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use final_core::{
    Message,
    broker::{Delivery, Settlement, Settler},
};
use proptest::prelude::*;
use tokio::time::Instant;

use crate::groups::{
    GroupOptions, Lot,
    budget::Amount,
    pulled::{HandTimes, Lent},
    quota::{PairUse, PairUses},
    remaining::Remaining,
    stock::{Stock, Taker},
};

/// What a random client does.
#[derive(Clone, Debug)]
enum Step {
    Publish(u8),
    Take { holder: u8, messages: u8 },
    Pull { messages: u8, visibility: u8 },
    Commit { holder: u8, nth: u8 },
    Ack(u8),
    Nack { nth: u8, delay: u8 },
    Extend { nth: u8, visibility: u8 },
    Skip { holder: u8, nth: u8 },
    End(u8),
    Drop { messages: u8 },
    Wait(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let small = 0_u8..4;
    let step = prop_oneof![
        4 => (1_u8..8).prop_map(Step::Publish),
        6 => (small.clone(), 0_u8..10).prop_map(|(holder, messages)| Step::Take { holder, messages }),
        4 => (0_u8..10, 1_u8..20).prop_map(|(messages, visibility)| Step::Pull { messages, visibility }),
        4 => (small.clone(), 0_u8..10).prop_map(|(holder, nth)| Step::Commit { holder, nth }),
        3 => (0_u8..10).prop_map(Step::Ack),
        3 => (0_u8..10, 0_u8..20).prop_map(|(nth, delay)| Step::Nack { nth, delay }),
        1 => (0_u8..10, 1_u8..20).prop_map(|(nth, visibility)| Step::Extend { nth, visibility }),
        1 => (small.clone(), 0_u8..10).prop_map(|(holder, nth)| Step::Skip { holder, nth }),
        2 => small.prop_map(Step::End),
        1 => (1_u8..10).prop_map(|messages| Step::Drop { messages }),
        3 => (1_u8..15).prop_map(Step::Wait),
    ];
    proptest::collection::vec(step, 1..120)
}

/// Where the model has a message.
#[derive(Clone, Copy, Debug, PartialEq)]
enum At {
    /// Waits for a client, or for the end of a delay.
    Waits,
    Later(u64),
    Held {
        holder: u8,
        offset: i64,
    },
    Pulled {
        tag: u64,
        until: u64,
    },
    Acked,
    Dead,
}

#[derive(Default)]
struct Settlements(Mutex<BTreeMap<u64, Settlement>>);

impl Settler for Settlements {
    fn settle(&self, tag: u64, settlement: Settlement) {
        let before = self.0.lock().unwrap().insert(tag, settlement);
        assert_eq!(before, None, "settled twice");
    }
}

struct World {
    stock: Stock,
    used: Arc<PairUse>,
    settlements: Arc<Settlements>,
    channel: std::collections::VecDeque<Delivery>,
    /// Each message by its number: where it is, and how often it came back.
    model: BTreeMap<u64, (At, u32)>,
    /// How often each came back because its time was over or its connection had ended.
    left: BTreeMap<u64, u32>,
    next: u64,
    offset: i64,
    start: Instant,
    now: u64,
}

const MAX: u32 = 4;
const IN_HAND: usize = 12;

impl World {
    fn new() -> Self {
        let options = GroupOptions {
            in_hand: IN_HAND,
            max_deliveries: MAX,
            ..GroupOptions::default()
        };
        let start = Instant::now();
        let mut stock = Stock::new(
            "g/t".into(),
            &options,
            Arc::default(),
            Arc::default(),
            start,
        );
        (0..4).for_each(|holder| stock.begin(holder, start));
        let used = Arc::<PairUses>::default().begin(None, 0).unwrap();
        Self {
            stock,
            used: Arc::new(used),
            settlements: Arc::default(),
            channel: Default::default(),
            model: BTreeMap::new(),
            left: BTreeMap::new(),
            next: 0,
            offset: 0,
            start,
            now: 0,
        }
    }

    fn at(&self, seconds: u64) -> Instant {
        self.start + Duration::from_secs(seconds)
    }

    /// The messages that are in such a place, in the order of their numbers.
    fn find(&self, is: impl Fn(&At) -> bool) -> Vec<u64> {
        let of = |(number, (at, _)): (&u64, &(At, u32))| is(at).then_some(*number);
        self.model.iter().filter_map(of).collect()
    }

    fn came_back(&mut self, number: u64) {
        let (at, failed) = self.model.get_mut(&number).unwrap();
        *failed += 1;
        *at = if *failed >= MAX { At::Dead } else { At::Waits };
    }

    /// The same, without a word of its client.
    fn was_left(&mut self, number: u64) {
        *self.left.entry(number).or_default() += 1;
        self.came_back(number);
    }

    /// Takes messages, and checks that they are the first that wait.
    fn take(&mut self, taker: Taker, messages: u8) -> Vec<crate::groups::entry::StockEntry> {
        let mut answer = Remaining::of(&Lot {
            messages: messages.into(),
            bytes: usize::MAX,
            wait: Duration::ZERO,
            gather: Duration::ZERO,
        });
        let channel = &mut self.channel;
        let taken = self.stock.take(taker, &mut answer, || channel.pop_front());
        let waits = self.find(|at| *at == At::Waits);
        let numbers: Vec<u64> = taken.iter().map(|entry| entry.order).collect();
        assert_eq!(
            numbers,
            waits[..numbers.len()],
            "the first that wait, in their order"
        );
        for entry in &taken {
            assert_eq!(entry.failed, self.model[&entry.order].1);
        }
        assert!(taken.len() <= messages.into());
        assert!(
            taken.len() <= 1
                || taken
                    .iter()
                    .all(|entry| self.left.get(&entry.order).is_none_or(|times| *times < 2)),
            "alone"
        );
        taken
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Publish(count) => {
                for _ in 0..count {
                    let settler = Arc::clone(&self.settlements) as Arc<dyn Settler>;
                    let message = Ok(Message::new("t", "payload"));
                    self.channel
                        .push_back(Delivery::new(message, self.next, settler));
                    self.model.insert(self.next, (At::Waits, 0));
                    self.next += 1;
                }
            }
            Step::Take { holder, messages } => {
                let taker = Taker::Holder(holder.into());
                let taken = self.take(taker, messages);
                let mut held = Vec::new();
                for entry in taken {
                    self.offset += 1;
                    let at = At::Held {
                        holder,
                        offset: self.offset,
                    };
                    self.model.get_mut(&entry.order).unwrap().0 = at;
                    held.push((entry, self.offset));
                }
                let now = self.at(self.now);
                self.stock.hold(holder.into(), held.into_iter(), now);
            }
            Step::Drop { messages } => {
                let taken = self.take(Taker::Pull, messages);
                self.stock.put_back(Taker::Pull, taken);
            }
            Step::Pull {
                messages,
                visibility,
            } => {
                let until = self.now + u64::from(visibility);
                for entry in self.take(Taker::Pull, messages) {
                    let tag = entry.order * 100 + u64::from(entry.failed);
                    self.model.get_mut(&entry.order).unwrap().0 = At::Pulled { tag, until };
                    let times = HandTimes {
                        deadline: self.at(until),
                        latest: self.at(1_000_000),
                    };
                    let used = Arc::clone(&self.used);
                    self.stock.lend(
                        tag,
                        Lent {
                            times,
                            entry,
                            _used: used,
                        },
                    );
                }
            }
            Step::Commit { holder, nth } => {
                let held =
                    self.find(|at| matches!(at, At::Held { holder: own, .. } if *own == holder));
                let offsets: Vec<i64> = held
                    .iter()
                    .map(|number| match self.model[number].0 {
                        At::Held { offset, .. } => offset,
                        _ => 0,
                    })
                    .collect();
                let Some(up_to) = offsets.get(usize::from(nth)).copied() else {
                    return self.stock.commit(holder.into(), 0, 0);
                };
                self.stock.commit(holder.into(), 0, up_to);
                for (at, _) in self.model.values_mut() {
                    if matches!(at, At::Held { holder: own, offset } if *own == holder && *offset <= up_to)
                    {
                        *at = At::Acked;
                    }
                }
            }
            Step::Skip { holder, nth } => {
                let held =
                    self.find(|at| matches!(at, At::Held { holder: own, .. } if *own == holder));
                let Some(number) = held.get(usize::from(nth)) else {
                    return;
                };
                if let At::Held { offset, .. } = self.model[number].0 {
                    self.stock.skip(holder.into(), 0, offset);
                    self.model.get_mut(number).unwrap().0 = At::Acked;
                }
            }
            Step::Ack(nth) => {
                let now = self.at(self.now);
                let Some((number, tag)) = self.pulled(nth) else {
                    assert!(!self.stock.ack_pulled(u64::MAX, now));
                    return;
                };
                assert!(self.stock.ack_pulled(tag, now));
                assert!(!self.stock.ack_pulled(tag, now), "a second time");
                self.model.get_mut(&number).unwrap().0 = At::Acked;
            }
            Step::Nack { nth, delay } => {
                let now = self.at(self.now);
                let Some((number, tag)) = self.pulled(nth) else {
                    return;
                };
                let wait = Duration::from_secs(delay.into());
                assert!(self.stock.nack_pulled(tag, wait, None, now));
                self.came_back(number);
                if delay > 0 && self.model[&number].0 == At::Waits {
                    self.model.get_mut(&number).unwrap().0 = At::Later(self.now + u64::from(delay));
                    self.no_more_than_half_waits();
                }
            }
            Step::Extend { nth, visibility } => {
                let Some((number, tag)) = self.pulled(nth) else {
                    return;
                };
                let until = self.now + u64::from(visibility);
                let deadline = self.at(until);
                assert!(self.stock.extend(tag, deadline));
                self.model.get_mut(&number).unwrap().0 = At::Pulled { tag, until };
            }
            Step::End(holder) => {
                let now = self.at(self.now);
                self.stock.end(holder.into(), false, now);
                self.stock.begin(holder.into(), now);
                for number in
                    self.find(|at| matches!(at, At::Held { holder: own, .. } if *own == holder))
                {
                    self.was_left(number);
                }
            }
            Step::Wait(seconds) => {
                self.now += u64::from(seconds);
                let now = self.at(self.now);
                let next = self.stock.tick(now);
                for number in self.find(|_| true) {
                    match self.model[&number].0 {
                        At::Pulled { until, .. } if until <= self.now => self.was_left(number),
                        At::Later(until) if until <= self.now => {
                            self.model.get_mut(&number).unwrap().0 = At::Waits;
                        }
                        _ => {}
                    }
                }
                let times = self.model.values().filter_map(|(at, _)| match at {
                    At::Pulled { until, .. } | At::Later(until) => Some(*until),
                    _ => None,
                });
                let expected = times.min().map(|time| self.at(time));
                assert_eq!(next, expected, "the next time");
            }
        }
    }

    fn pulled(&self, nth: u8) -> Option<(u64, u64)> {
        let pulled = self.find(|at| matches!(at, At::Pulled { .. }));
        let number = *pulled.get(usize::from(nth))?;
        match self.model[&number].0 {
            At::Pulled { tag, .. } => Some((number, tag)),
            _ => None,
        }
    }

    fn no_more_than_half_waits(&mut self) {
        let mut later: Vec<(u64, u64)> = self
            .find(|at| matches!(at, At::Later(_)))
            .into_iter()
            .map(|number| match self.model[&number].0 {
                At::Later(until) => (until, number),
                _ => (0, number),
            })
            .collect();
        later.sort_unstable();
        if later.len() > IN_HAND / 2 {
            self.model.get_mut(&later[0].1).unwrap().0 = At::Waits;
        }
    }

    /// Every message is settled as the model says, and what is in hand is counted.
    fn check(&mut self) {
        for (delivery, settlement) in self.stock.take_news().settled {
            delivery.settle(settlement);
        }
        let settled = self.settlements.0.lock().unwrap().clone();
        for (number, (at, failed)) in &self.model {
            match (at, settled.get(number)) {
                (At::Acked, Some(Settlement::Ack)) => {}
                (At::Dead, Some(Settlement::DeadLetter(cause))) => {
                    assert_eq!(cause.attempts, *failed)
                }
                (At::Acked | At::Dead, other) => panic!("{number} is {at:?} and {other:?}"),
                (_, None) => {}
                (_, Some(other)) => panic!("{number} is {at:?} and {other:?}"),
            }
        }
        let out = self.find(|at| matches!(at, At::Held { .. } | At::Pulled { .. } | At::Later(_)));
        let expected = Amount {
            messages: out.len(),
            bytes: out.len() * "payload".len(),
        };
        assert_eq!(self.stock.in_hand(), expected);
        assert!(out.len() <= IN_HAND);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn every_message_is_where_a_list_of_them_says(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
            world.check();
        }
        // In the end nothing is stuck: everything that waits comes to a client.
        world.step(&Step::Wait(100));
        world.check();
        for holder in 0..4 {
            world.step(&Step::End(holder));
        }
        let is_settled = |at: &At| matches!(at, At::Acked | At::Dead);
        for _ in 0..2_000 {
            if world.find(|at| !is_settled(at)).is_empty() {
                break;
            }
            world.step(&Step::Pull {
                messages: 10,
                visibility: 1,
            });
            while world.pulled(0).is_some() {
                world.step(&Step::Ack(0));
            }
            world.check();
        }
        let left = world.find(|at| !is_settled(at));
        prop_assert_eq!(left, Vec::<u64>::new());
    }
}
