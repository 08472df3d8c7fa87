//! Verdicts about messages in flight, with answers that the test gives.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
};

use futures::{
    FutureExt,
    channel::oneshot::{self, Sender},
    future::{pending, ready},
};
use proptest::{collection::vec, prelude::*, sample::Index};

use super::*;

type Messages = Unconfirmed<u32, u32>;
type Answering = Sender<Result<BrokerAnswer<u32>, Fault>>;

/// Adds a message that is answered by hand. Its id is its ticket.
fn add(messages: &mut Messages, ticket: u32) -> Answering {
    let (sender, answer) = oneshot::channel();
    let answer = answer.map(|answer| answer.unwrap_or_else(|_| Err(lost())));
    messages.add(ticket, ticket, answer.boxed());
    sender
}

fn acked(carried: Option<u32>) -> Result<BrokerAnswer<u32>, Fault> {
    Ok(BrokerAnswer {
        acked: true,
        carried,
    })
}

fn lost() -> Fault {
    Fault::Lost("reset".to_owned())
}

fn closed() -> Fault {
    Fault::Channel(406, "too large".to_owned())
}

/// What one look decides; `None` if there is nothing to decide yet.
fn turn(messages: &mut Messages) -> Option<Vec<(u32, SweepVerdict)>> {
    let mut verdicts = Vec::new();
    messages.turn(&mut verdicts).now_or_never()?;
    Some(verdicts)
}

fn end(messages: Messages) -> (Vec<(u32, SweepVerdict)>, Leftovers<u32>) {
    let mut verdicts = Vec::new();
    let left = messages.end(&mut verdicts);
    (verdicts, left)
}

fn tickets(left: &Leftovers<u32>) -> Vec<u32> {
    left.unanswered.iter().map(|(ticket, _)| *ticket).collect()
}

#[test]
fn an_answer_is_decided_in_one_turn_though_others_are_outstanding() {
    let mut messages = Messages::new();
    let (first, _second) = (add(&mut messages, 1), add(&mut messages, 2));
    assert_eq!(turn(&mut messages), None);
    first.send(acked(None)).unwrap();

    // It takes a second round, and nothing will wake for that.
    assert_eq!(turn(&mut messages), Some(vec![(1, SweepVerdict::Stored)]));
    assert_eq!(messages.len(), 1);
}

/// Some thousand may be in flight: an answer that asked all of them would cost more than they do.
#[test]
fn a_message_without_news_is_not_asked() {
    let mut messages = Messages::new();
    let asked = Arc::new(AtomicUsize::new(0));
    for ticket in 1..100 {
        let asked = Arc::clone(&asked);
        let answer = poll_fn(move |_| {
            asked.fetch_add(1, SeqCst);
            Poll::Pending
        });
        messages.add(ticket, ticket, answer.boxed());
    }
    let answered = add(&mut messages, 100);
    assert_eq!(turn(&mut messages), None);
    assert_eq!(asked.load(SeqCst), 99, "each was written");

    answered.send(acked(None)).unwrap();
    assert_eq!(turn(&mut messages), Some(vec![(100, SweepVerdict::Stored)]));
    assert_eq!(asked.load(SeqCst), 99);
}

#[test]
fn an_answer_that_came_just_before_the_end_is_decided() {
    let mut messages = Messages::new();
    let (first, _second) = (add(&mut messages, 1), add(&mut messages, 2));
    assert_eq!(turn(&mut messages), None);
    first.send(acked(None)).unwrap();

    let (verdicts, left) = end(messages);
    assert_eq!(verdicts, [(1, SweepVerdict::Stored)]);
    assert_eq!(tickets(&left), [2]);
}

/// Its own return may be on an answer that never comes. It is sent again, and it is not the reason.
#[test]
fn an_answer_without_proof_is_innocent() {
    let mut messages = Messages::new();
    let (first, _second) = (add(&mut messages, 1), add(&mut messages, 2));
    assert_eq!(turn(&mut messages), None);
    first.send(acked(Some(7))).unwrap();

    let (verdicts, left) = end(messages);
    assert_eq!(verdicts, []);
    assert_eq!((left.innocent, left.unanswered.len()), (vec![1], 1));
}

#[test]
fn what_was_written_and_not_answered_may_be_the_reason() {
    let mut messages = Messages::new();
    let (_first, second) = (add(&mut messages, 1), add(&mut messages, 2));
    assert_eq!(turn(&mut messages), None);
    second.send(Err(closed())).unwrap();
    assert_eq!(turn(&mut messages), Some(vec![]));
    assert!(messages.is_broken());

    let (_, left) = end(messages);
    assert_eq!(left.fault, Some(closed()));
    assert_eq!((tickets(&left), left.innocent), (vec![2, 1], vec![]));
}

/// lapin refuses it at the first poll where the channel has ended already.
#[test]
fn what_lapin_did_not_write_is_innocent() {
    let mut messages = Messages::new();
    messages.add(1, 1, ready(Err(lost())).boxed());
    assert_eq!(turn(&mut messages), Some(vec![]));

    let (_, left) = end(messages);
    assert_eq!((tickets(&left), left.innocent), (vec![], vec![1]));
}

#[test]
fn the_end_writes_nothing_and_what_was_not_written_is_innocent() {
    let mut messages = Messages::new();
    let was_written = Arc::new(AtomicBool::new(false));
    let written = Arc::clone(&was_written);
    let answer = async move {
        written.store(true, SeqCst);
        pending().await
    };
    messages.add(1, 1, answer.boxed());

    let (_, left) = end(messages);
    assert_eq!((tickets(&left), left.innocent), (vec![], vec![1]));
    assert!(!was_written.load(SeqCst));
}

/// The futures of a channel that ended fail with different errors, and few of them have the reason.
#[test]
fn the_reason_is_the_one_that_tells_most_in_whatever_order_they_come() {
    for faults in [[lost(), closed()], [closed(), lost()]] {
        let mut messages = Messages::new();
        let senders = [1, 2].map(|ticket| add(&mut messages, ticket));
        assert_eq!(turn(&mut messages), None);
        for (sender, fault) in senders.into_iter().zip(faults) {
            sender.send(Err(fault)).unwrap();
        }
        assert_eq!(turn(&mut messages), Some(vec![]));
        assert_eq!(end(messages).1.fault, Some(closed()));
    }
}

#[test]
fn the_oldest_unanswered_message_is_the_one_that_deadlines_count_from() {
    let mut messages = Messages::new();
    let before = Instant::now();
    let first = add(&mut messages, 1);
    let between = Instant::now();
    let _second = add(&mut messages, 2);
    assert!(
        messages
            .oldest()
            .is_some_and(|since| since >= before && since <= between)
    );
    first.send(acked(None)).unwrap();
    assert!(turn(&mut messages).is_some());
    assert!(messages.oldest().is_some_and(|since| since >= between));
}

#[derive(Clone, Debug)]
enum Step {
    Publish,
    Ack(Index),
    Nack(Index),
    Return(Index),
    Lose(Index),
    Close(Index),
    Turn,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Publish),
        3 => any::<Index>().prop_map(Step::Ack),
        1 => any::<Index>().prop_map(Step::Nack),
        1 => any::<Index>().prop_map(Step::Return),
        1 => any::<Index>().prop_map(Step::Lose),
        1 => any::<Index>().prop_map(Step::Close),
        3 => Just(Step::Turn),
    ]
}

/// What the broker did to a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Fate {
    #[default]
    None,
    Acked,
    Nacked,
    Returned,
    Failed,
}

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    fate: Fate,
    /// Looked at before it was answered.
    written_before: bool,
    written: bool,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn every_message_ends_once_and_where_it_belongs(steps in vec(any_step(), 0..60)) {
        let mut messages = Messages::new();
        let mut open: Vec<(u32, Answering)> = Vec::new();
        let mut known: HashMap<u32, Known> = HashMap::new();
        let mut verdicts = Vec::new();
        let mut closed_seen = false;
        let mut next = 0;
        for step in steps {
            let (index, fate, answer) = match step {
                Step::Publish => {
                    open.push((next, add(&mut messages, next)));
                    known.insert(next, Known::default());
                    next += 1;
                    continue;
                }
                Step::Turn => {
                    verdicts.extend(turn(&mut messages).unwrap_or_default());
                    known.values_mut().for_each(|one| one.written = true);
                    continue;
                }
                Step::Ack(index) => (index, Fate::Acked, acked(None)),
                Step::Nack(index) => (index, Fate::Nacked, Ok(BrokerAnswer { acked: false, carried: None })),
                Step::Return(index) => (index, Fate::Returned, acked(None)),
                Step::Lose(index) => (index, Fate::Failed, Err(lost())),
                Step::Close(index) => (index, Fate::Failed, Err(closed())),
            };
            if open.is_empty() {
                continue;
            }
            let (ticket, sender) = open.remove(index.index(open.len()));
            let answer = if fate == Fate::Returned { acked(Some(ticket)) } else { answer };
            let one = known.get_mut(&ticket).unwrap();
            one.fate = fate;
            one.written_before = one.written;
            closed_seen |= matches!(&answer, Err(fault) if *fault == closed());
            prop_assert!(sender.send(answer).is_ok());
        }
        let last = end(messages);
        verdicts.extend(last.0);
        let left = last.1;

        let mut ended: Vec<u32> = verdicts.iter().map(|(ticket, _)| *ticket).collect();
        ended.extend(tickets(&left));
        ended.extend(&left.innocent);
        ended.sort_unstable();
        prop_assert_eq!(ended, (0..next).collect::<Vec<_>>());
        for (ticket, verdict) in verdicts {
            let expected = match verdict {
                SweepVerdict::Stored => Fate::Acked,
                SweepVerdict::Refused => Fate::Nacked,
                SweepVerdict::Unroutable => Fate::Returned,
            };
            prop_assert_eq!(known[&ticket].fate, expected);
        }
        for ticket in tickets(&left) {
            let one = known[&ticket];
            prop_assert!(one.written, "{one:?}");
            prop_assert!(one.fate == Fate::None || one.fate == Fate::Failed && one.written_before, "{one:?}");
        }
        for ticket in &left.innocent {
            let one = known[ticket];
            let not_written = !one.written || one.fate == Fate::Failed && !one.written_before;
            prop_assert!(not_written || !matches!(one.fate, Fate::None | Fate::Failed), "{one:?}");
        }
        let looked_at_closed = left.fault.as_ref() == Some(&closed());
        prop_assert!(closed_seen || !looked_at_closed);
    }
}
