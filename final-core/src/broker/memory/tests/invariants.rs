//! Whatever happens in whatever order, no message is lost or doubled.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{MessageId, broker::Cause};

#[derive(Clone, Debug)]
enum Step {
    Publish,
    Take(usize),
    Settle(usize, Settlement),
    Leave(usize),
    Join,
    Available(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let settlement = prop_oneof![
        Just(Settlement::Ack),
        Just(Settlement::Requeue),
        Just(Settlement::DeadLetter(Cause::new("bad", 1))),
    ];
    prop_oneof![
        4 => Just(Step::Publish),
        4 => (0..4_usize).prop_map(Step::Take),
        4 => (0..8_usize, settlement).prop_map(|(which, how)| Step::Settle(which, how)),
        1 => (0..4_usize).prop_map(Step::Leave),
        1 => Just(Step::Join),
        1 => any::<bool>().prop_map(Step::Available),
    ]
}

proptest! {
    #[test]
    fn every_message_is_ready_in_hand_done_or_dead_and_only_one_of_them(
        steps in proptest::collection::vec(step(), 1..80)
    ) {
        let broker = MemoryBroker::new();
        let publisher = publisher(&broker);
        let mut instances = vec![open(&broker, "mails", &["order.placed"])];
        let mut in_hand = Vec::new();
        let (mut stored, mut done) = (0, 0);

        for step in steps {
            match step {
                Step::Publish => {
                    if send(&publisher, "order.placed", "x").try_recv() == Ok(Confirm::Stored) {
                        stored += 1;
                    }
                }
                Step::Take(which) => {
                    if let Some(one) = instances.get_mut(which)
                        && let Ok(delivery) = one.deliveries.try_recv()
                    {
                        in_hand.push(delivery);
                    }
                }
                Step::Settle(which, how) => {
                    if which < in_hand.len() {
                        let acked = how == Settlement::Ack;
                        let before = broker.queue_len("mails");
                        in_hand.remove(which).settle(how);
                        if acked {
                            // Unchanged if the delivery was void.
                            done += before - broker.queue_len("mails");
                        }
                    }
                }
                Step::Leave(which) => {
                    if which < instances.len() {
                        drop(instances.remove(which));
                    }
                }
                Step::Join => {
                    if instances.len() < 4 {
                        instances.push(open(&broker, "mails", &["order.placed"]));
                    }
                }
                Step::Available(available) => broker.set_available(available),
            }
        }

        let left = broker.queue_len("mails");
        prop_assert_eq!(left + done + broker.dead_letters("mails").len(), stored);

        // What is left must come out again, each once.
        broker.set_available(true);
        instances.clear();
        in_hand.clear();
        let mut last = open(&broker, "mails", &["order.placed"]);
        let mut seen = BTreeMap::<MessageId, usize>::new();
        for delivery in taken(&mut last) {
            *seen.entry(delivery.message().unwrap().id()).or_default() += 1;
            delivery.settle(Settlement::Ack);
        }
        prop_assert!(seen.values().all(|times| *times == 1));
        prop_assert_eq!(seen.len(), left);
        prop_assert_eq!(broker.queue_len("mails"), 0);
    }
}
