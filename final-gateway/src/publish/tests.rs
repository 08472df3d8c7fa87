//! The queue and its committer over a store that does as it is told.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use final_core::{Error, Message, broker::Place};
use futures::{FutureExt, future::BoxFuture};
use tokio::sync::Semaphore;

use super::{Committer, PublishError, Published, Publisher, QueueLimits, Store};

const SOON: Duration = Duration::from_secs(60);

/// What a store does with a lot that has this payload.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    Refused,
    Away,
    Unknown,
    Panic,
}

#[derive(Default)]
struct Script {
    faults: Mutex<Vec<(&'static str, Fault)>>,
    /// The lots that were written, and those that were tried.
    written: Mutex<Vec<Vec<String>>>,
    tried: AtomicUsize,
    /// A write waits for a permit. Open unless it is closed.
    gate: Option<Semaphore>,
}

impl Script {
    fn open() -> Arc<Self> {
        Arc::default()
    }

    fn shut() -> Arc<Self> {
        Arc::new(Self {
            gate: Some(Semaphore::new(0)),
            ..Self::default()
        })
    }

    fn failing(payload: &'static str, fault: Fault) -> Arc<Self> {
        let script = Self::default();
        script.faults.lock().unwrap().push((payload, fault));
        Arc::new(script)
    }

    fn let_go(&self, writes: usize) {
        self.gate.as_ref().unwrap().add_permits(writes);
    }

    fn written(&self) -> Vec<Vec<String>> {
        self.written.lock().unwrap().clone()
    }

    async fn is_tried(&self, times: usize) {
        while self.tried.load(Ordering::SeqCst) < times {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

impl Store for Script {
    fn write<'a>(
        &'a self,
        messages: &'a [Message],
        wants_place: &'a [bool],
    ) -> BoxFuture<'a, Result<Vec<Option<Place>>, Error>> {
        Box::pin(async move {
            self.tried.fetch_add(1, Ordering::SeqCst);
            if let Some(gate) = &self.gate {
                gate.acquire().await.unwrap().forget();
            }
            let text = |message: &Message| String::from_utf8(message.payload().to_vec()).unwrap();
            let texts: Vec<String> = messages.iter().map(text).collect();
            for (payload, fault) in self.faults.lock().unwrap().iter() {
                if !texts.iter().any(|text| text == payload) {
                    continue;
                }
                let (topic, reason) = ("topic".to_owned(), "it is wrong");
                return Err(match fault {
                    Fault::Refused => Error::InvalidPolicy { topic, reason },
                    Fault::Unknown => Error::CommitUnknown { ids: Vec::new() },
                    Fault::Away => Error::Database {
                        doing: "writing",
                        source: sqlx::Error::PoolTimedOut,
                    },
                    Fault::Panic => panic!("on purpose"),
                });
            }
            self.written.lock().unwrap().push(texts);
            let place = |(at, wants): (usize, &bool)| wants.then(|| Place::new(1, at as i64));
            Ok(wants_place.iter().enumerate().map(place).collect())
        })
    }
}

fn start(script: &Arc<Script>, limits: QueueLimits) -> (Publisher, Committer) {
    Committer::start(Arc::clone(script) as Arc<dyn Store>, limits, SOON)
}

fn message(payload: impl Into<String>) -> Message {
    Message::new("topic", payload.into())
}

type Answer = BoxFuture<'static, Result<Published, PublishError>>;

async fn submit(publisher: &Publisher, payload: impl Into<String>) -> Answer {
    let answer = publisher.submit(message(payload), false, SOON).await;
    answer.unwrap().boxed()
}

async fn submit_all(publisher: &Publisher, numbers: std::ops::Range<u32>) -> Vec<Answer> {
    let mut answers = Vec::new();
    for number in numbers {
        answers.push(submit(publisher, number.to_string()).await);
    }
    answers
}

async fn all(answers: Vec<Answer>) -> Vec<Result<Published, PublishError>> {
    tokio::time::timeout(SOON, futures::future::join_all(answers))
        .await
        .unwrap()
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

#[tokio::test]
async fn what_comes_during_a_commit_is_the_next_transaction_and_no_answer_comes_before_it() {
    let script = Script::shut();
    let (publisher, committer) = start(&script, QueueLimits::default());
    let mut first = submit(&publisher, "0").await;
    script.is_tried(1).await;
    let mut others = submit_all(&publisher, 1..60).await;
    assert!((&mut first).now_or_never().is_none());

    script.let_go(1);
    first.await.unwrap();
    script.is_tried(2).await;
    assert!(
        others
            .iter_mut()
            .all(|answer| answer.now_or_never().is_none())
    );
    script.let_go(1);
    assert!(all(others).await.iter().all(Result::is_ok));

    assert_eq!(script.written(), [numbers(0..1), numbers(1..60)]);
    assert_eq!(publisher.stats().transactions, 2);
    assert_eq!(publisher.stats().published, 60);
    committer.stop().await;
}

#[tokio::test]
async fn a_transaction_has_500_messages_and_4_mebibytes_at_most() {
    let script = Script::shut();
    let (publisher, committer) = start(&script, QueueLimits::default());
    let first = submit(&publisher, "0").await;
    script.is_tried(1).await;
    let mut answers = vec![first];
    answers.extend(submit_all(&publisher, 1..701).await);
    for _ in 0..9 {
        answers.push(submit(&publisher, "x".repeat(900_000)).await);
    }
    script.let_go(100);
    all(answers).await;

    let sizes: Vec<usize> = script.written().iter().map(Vec::len).collect();
    assert_eq!(sizes, [1, 500, 204, 4, 1]);
    committer.stop().await;
}

#[tokio::test]
async fn a_refused_message_fails_alone_and_the_others_keep_their_order() {
    let script = Script::failing("37", Fault::Refused);
    script.faults.lock().unwrap().push(("5", Fault::Refused));
    let script = Arc::new(Script {
        gate: Some(Semaphore::new(0)),
        ..Arc::into_inner(script).unwrap()
    });
    let (publisher, committer) = start(&script, QueueLimits::default());
    let answers = submit_all(&publisher, 0..100).await;
    script.let_go(1_000);

    for (number, answer) in all(answers).await.into_iter().enumerate() {
        match number {
            5 | 37 => assert!(
                matches!(answer, Err(PublishError::Refused(text)) if text.contains("it is wrong"))
            ),
            _ => assert!(answer.is_ok(), "{number}: {answer:?}"),
        }
    }
    let expected: Vec<String> = numbers(0..100)
        .into_iter()
        .filter(|number| !["5", "37"].contains(&&**number))
        .collect();
    assert_eq!(script.written().concat(), expected);
    assert!(script.written().len() < 20, "{:?}", script.written());
    committer.stop().await;
}

#[tokio::test]
async fn a_database_that_is_away_is_told_and_asked_again_for_the_next_message() {
    let script = Script::failing("0", Fault::Away);
    let (publisher, committer) = start(&script, QueueLimits::default());
    let away = submit(&publisher, "0").await.await.unwrap_err();
    assert!(matches!(&away, PublishError::Away(text) if text.contains("while writing")));
    assert!(away.is_retriable());
    submit(&publisher, "1").await.await.unwrap();
    assert_eq!(script.written(), [numbers(1..2)]);
    committer.stop().await;
}

#[tokio::test]
async fn a_commit_without_an_answer_is_never_sent_again() {
    let script = Script::failing("0", Fault::Unknown);
    let (publisher, committer) = start(&script, QueueLimits::default());
    let unknown = submit(&publisher, "0").await.await.unwrap_err();
    assert_eq!(unknown, PublishError::Unknown);
    submit(&publisher, "1").await.await.unwrap();
    committer.stop().await;
    assert_eq!(script.tried.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn after_a_panic_the_others_are_written() {
    let script = Script::failing("0", Fault::Panic);
    let (publisher, committer) = start(&script, QueueLimits::default());
    let unknown = submit(&publisher, "0").await.await.unwrap_err();
    assert_eq!(unknown, PublishError::Unknown);
    script
        .faults
        .lock()
        .unwrap_or_else(|it| it.into_inner())
        .clear();
    script.faults.clear_poison();
    submit(&publisher, "1").await.await.unwrap();
    committer.stop().await;
}

#[tokio::test]
async fn what_finds_no_room_in_time_is_busy_and_nothing_of_it_is_published() {
    for limits in [
        QueueLimits {
            messages: 4,
            ..QueueLimits::default()
        },
        QueueLimits {
            bytes: 4 * 600,
            ..QueueLimits::default()
        },
    ] {
        let script = Script::shut();
        let (publisher, committer) = start(&script, limits);
        let mut answers = vec![submit(&publisher, "held").await];
        script.is_tried(1).await;
        let patience = Duration::from_millis(20);
        let busy = loop {
            match publisher.submit(message("x"), false, patience).await {
                Ok(answer) => answers.push(answer.boxed()),
                Err(error) => break error,
            }
            assert!(answers.len() < 10, "{limits:?}");
        };
        assert_eq!(busy, PublishError::Busy);
        assert!(
            publisher
                .submit(message("dropped"), false, SOON)
                .now_or_never()
                .is_none()
        );

        script.let_go(100);
        let waiting = answers.len();
        assert!(all(answers).await.iter().all(Result::is_ok));
        submit(&publisher, "after").await.await.unwrap();
        committer.stop().await;
        assert_eq!(script.written().concat().len(), waiting + 1);
        assert!(!script.written().concat().contains(&"dropped".to_owned()));
        assert_eq!(publisher.stats().busy, 1);
    }
}

#[tokio::test]
async fn a_message_that_no_bus_could_publish_is_refused_before_the_queue() {
    let script = Script::open();
    let limits = QueueLimits {
        max_message_bytes: 10,
        ..QueueLimits::default()
    };
    let (publisher, committer) = start(&script, limits);
    for wrong in [
        message("eleven byte"),
        Message::new(" ", "x"),
        message("x").with_header("x-final-key", "x"),
        message("x").with_key("\0"),
    ] {
        let refused = publisher.submit(wrong, false, SOON).await.err();
        assert!(
            matches!(refused, Some(PublishError::Refused(_))),
            "{refused:?}"
        );
    }
    submit(&publisher, "ten bytes!").await.await.unwrap();
    committer.stop().await;
    assert_eq!(script.written().len(), 1);
}

#[tokio::test]
async fn a_stop_writes_what_is_in_the_queue_and_takes_nothing_new() {
    let script = Script::shut();
    let limits = QueueLimits {
        messages: 20,
        ..QueueLimits::default()
    };
    let (publisher, committer) = start(&script, limits);
    let mut answers = vec![submit(&publisher, "0").await];
    script.is_tried(1).await;
    answers.extend(submit_all(&publisher, 1..21).await);
    let waits = tokio::spawn({
        let publisher = publisher.clone();
        async move { publisher.submit(message("late"), false, SOON).await.err() }
    });
    while publisher.stats().waiting < 20 {
        tokio::task::yield_now().await;
    }
    let stopped = tokio::spawn(committer.stop());
    script.let_go(1);
    assert_eq!(waits.await.unwrap(), Some(PublishError::Stopping));
    let refused = publisher.submit(message("new"), false, SOON).await.err();
    assert_eq!(refused, Some(PublishError::Stopping));
    script.let_go(1);
    stopped.await.unwrap();
    assert!(all(answers).await.iter().all(Result::is_ok));
    assert_eq!(script.written().concat(), numbers(0..21));
}

#[tokio::test]
async fn a_stop_that_lasts_too_long_tells_the_rest_that_nothing_was_written() {
    let script = Script::shut();
    let store = Arc::clone(&script) as Arc<dyn Store>;
    let (publisher, committer) = Committer::start(store, QueueLimits::default(), Duration::ZERO);
    let first = submit(&publisher, "0").await;
    script.is_tried(1).await;
    let rest = submit_all(&publisher, 1..900).await;
    let stopped = tokio::spawn(committer.stop());
    script.let_go(1);
    stopped.await.unwrap();
    first.await.unwrap();
    assert!(
        all(rest)
            .await
            .iter()
            .all(|answer| *answer == Err(PublishError::Stopping))
    );
    assert_eq!(script.written(), [numbers(0..1)]);
}

/// So many bytes that one transaction takes four of them.
fn large() -> String {
    "x".repeat(900_000)
}

#[tokio::test]
async fn a_stop_that_lasts_too_long_ends_between_two_transactions_of_one_batch() {
    let script = Script::shut();
    let store = Arc::clone(&script) as Arc<dyn Store>;
    let (publisher, committer) = Committer::start(store, QueueLimits::default(), Duration::ZERO);
    let first = submit(&publisher, "0").await;
    script.is_tried(1).await;
    let mut batch = Vec::new();
    for _ in 0..9 {
        batch.push(submit(&publisher, large()).await);
    }
    script.let_go(1);
    script.is_tried(2).await;
    let mut stopped = committer.stop().boxed();
    assert!((&mut stopped).now_or_never().is_none());
    script.let_go(100);
    stopped.await;

    first.await.unwrap();
    let answers = all(batch).await;
    assert!(answers[..4].iter().all(Result::is_ok), "{answers:?}");
    let rest = &answers[4..];
    assert!(
        rest.iter()
            .all(|answer| *answer == Err(PublishError::Stopping)),
        "{rest:?}"
    );
}

#[tokio::test]
async fn a_database_that_is_away_is_asked_once_for_a_batch() {
    let script = Script {
        gate: Some(Semaphore::new(0)),
        ..Arc::into_inner(Script::failing("1", Fault::Away)).unwrap()
    };
    let script = Arc::new(script);
    let (publisher, committer) = start(&script, QueueLimits::default());
    let first = submit(&publisher, "0").await;
    script.is_tried(1).await;
    let mut batch = vec![submit(&publisher, "1").await];
    for _ in 0..9 {
        batch.push(submit(&publisher, large()).await);
    }
    script.let_go(100);

    first.await.unwrap();
    let answers = all(batch).await;
    assert!(
        answers
            .iter()
            .all(|answer| matches!(answer, Err(PublishError::Away(_)))),
        "{answers:?}"
    );
    assert_eq!(script.tried.load(Ordering::SeqCst), 2);
    committer.stop().await;
}

#[tokio::test]
async fn only_those_who_ask_are_told_a_place() {
    let script = Script::open();
    let (publisher, committer) = start(&script, QueueLimits::default());
    let asks = publisher
        .submit(message("0"), true, SOON)
        .await
        .unwrap()
        .await
        .unwrap();
    let asks_not = submit(&publisher, "1").await.await.unwrap();
    assert_eq!((asks.place, asks_not.place), (Some(Place::new(1, 0)), None));
    committer.stop().await;
}
