//! What the window promises to each side and to each topic.

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
