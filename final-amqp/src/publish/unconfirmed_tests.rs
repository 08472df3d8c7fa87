//! Verdicts about messages in flight, with answers that the test gives.

use std::{
    collections::{HashMap, VecDeque},
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    task::Wake,
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

/// The same, where the message is written at first, as lapin has it.
fn add_to_be_written(messages: &mut Messages, ticket: u32) -> (Sender<()>, Answering) {
    let (writing, written) = oneshot::channel();
    let (sender, answer) = oneshot::channel();
    let answer = async move {
        written.await.map_err(|_| lost())?;
        answer.await.unwrap_or_else(|_| Err(lost()))
    };
    messages.add(ticket, ticket, answer.boxed());
    (writing, sender)
}

/// A task that counts how often it is woken.
#[derive(Default)]
struct Woke(AtomicUsize);

impl Wake for Woke {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
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
fn a_message_is_asked_after_each_of_its_news() {
    let mut messages = Messages::new();
    let (writing, answer) = add_to_be_written(&mut messages, 1);
    assert_eq!(turn(&mut messages), None);
    writing.send(()).unwrap();
    assert_eq!(turn(&mut messages), None);
    answer.send(acked(None)).unwrap();
    assert_eq!(turn(&mut messages), Some(vec![(1, SweepVerdict::Stored)]));
}

#[test]
fn news_that_come_while_a_message_is_asked_are_seen() {
    let mut messages = Messages::new();
    let waker = Arc::new(Mutex::new(None));
    let (mut asked, kept) = (0, Arc::clone(&waker));
    let answer = poll_fn(move |cx| {
        asked += 1;
        *kept.lock().unwrap() = Some(cx.waker().clone());
        match asked {
            1 => Poll::Pending,
            2 => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            _ => Poll::Ready(acked(None)),
        }
    });
    messages.add(1, 1, answer.boxed());
    assert_eq!(turn(&mut messages), None);
    waker.lock().unwrap().take().unwrap().wake();
    assert_eq!(turn(&mut messages), None);
    assert_eq!(turn(&mut messages), Some(vec![(1, SweepVerdict::Stored)]));
}

#[test]
fn an_answer_wakes_the_task_that_has_asked_last() {
    let mut messages = Messages::new();
    let (first, second) = (add(&mut messages, 1), add(&mut messages, 2));
    let mut verdicts = Vec::new();
    for (answer, expected) in [(first, 1), (second, 2)] {
        let task = Arc::new(Woke::default());
        {
            let waker = Waker::from(Arc::clone(&task));
            let mut turn = pin!(messages.turn(&mut verdicts));
            assert!(
                turn.as_mut()
                    .poll(&mut Context::from_waker(&waker))
                    .is_pending()
            );
        }
        answer.send(acked(None)).unwrap();
        assert_eq!(task.0.load(SeqCst), 1, "message {expected}");
        messages.turn(&mut verdicts).now_or_never().unwrap();
        assert_eq!(verdicts.pop(), Some((expected, SweepVerdict::Stored)));
    }
}

#[tokio::test]
async fn nothing_is_missed_that_another_thread_answers() {
    let mut messages = Messages::new();
    let answers: Vec<_> = (0..5_000)
        .map(|ticket| add_to_be_written(&mut messages, ticket))
        .collect();
    let answering = std::thread::spawn(move || {
        let (writing, answers): (Vec<_>, Vec<_>) = answers.into_iter().unzip();
        for (writing, answer) in writing.into_iter().zip(answers) {
            writing.send(()).unwrap();
            std::thread::yield_now();
            answer.send(acked(None)).unwrap();
        }
    });
    let mut verdicts = Vec::new();
    while verdicts.len() < 5_000 {
        messages.turn(&mut verdicts).await;
    }
    answering.join().unwrap();
    assert_eq!(messages.len(), 0);
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

    /// lapin gives each answer the oldest return that waits, whichever message it belongs to.
    #[test]
    fn a_returned_message_is_never_stored_though_another_answer_carries_its_return(
        steps in vec((any::<bool>(), any::<Index>(), 0..3_u8), 1..80),
    ) {
        let (mut messages, mut open) = (Messages::new(), Vec::new());
        let (mut is_returned, mut returns) = (Vec::new(), VecDeque::new());
        let mut verdicts = Vec::new();
        let mut answer = |(ticket, is_unroutable, sender): (u32, bool, Answering)| {
            returns.extend(is_unroutable.then_some(ticket));
            sender.send(acked(returns.pop_front())).unwrap();
        };
        for (is_unroutable, index, step) in steps {
            match step {
                0 => {
                    let ticket = u32::try_from(is_returned.len()).unwrap();
                    open.push((ticket, is_unroutable, add(&mut messages, ticket)));
                    is_returned.push(is_unroutable);
                }
                1 if !open.is_empty() => answer(open.remove(index.index(open.len()))),
                _ => verdicts.extend(turn(&mut messages).unwrap_or_default()),
            }
        }
        open.into_iter().for_each(answer);
        while messages.len() > 0 {
            verdicts.extend(turn(&mut messages).expect("all are answered"));
        }
        prop_assert_eq!(verdicts.len(), is_returned.len());
        for (ticket, verdict) in verdicts {
            let expected = match is_returned[ticket as usize] {
                true => SweepVerdict::Unroutable,
                false => SweepVerdict::Stored,
            };
            prop_assert_eq!(verdict, expected, "{}", ticket);
        }
    }

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
