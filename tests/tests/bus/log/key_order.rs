//! Messages of one key, one after the other.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use final_core::{Bus, HandlerError, Message, Router, SqlBroker};
use final_tests::eventually;
use tokio::sync::Semaphore;

use super::Log;
use crate::{database::Database, house::SOON};

crate::log_suite!(
    messages_of_a_key_are_handled_in_order_though_handlers_dawdle_and_fail,
    two_members_keep_the_order_of_every_key,
    another_member_goes_on_in_order_where_a_dead_one_was,
    a_long_backlog_of_a_dead_member_is_handled_before_what_came_after_it,
    other_keys_go_on_while_one_has_a_backlog_of_thousands,
    other_keys_go_on_while_a_member_joins_that_should_have_the_lane_of_a_backlog,
    messages_without_a_key_wait_for_nobody,
);

crate::log_suite!(at once: what_a_key_has_after_a_late_commit_comes_after_it);

impl<D: Database> Log<D> {
    fn ordered(&self) -> SqlBroker<D> {
        self.broker().key_order(true)
    }
}

/// Asserts that the numbers follow each other without a gap or a repeat.
pub(super) fn in_order(numbers: &[i64], begin: i64, end: i64) {
    let broken = numbers.windows(2).find(|two| two[1] != two[0] + 1);
    assert_eq!(broken, None, "not one after the other");
    let (first, last) = (numbers.first(), numbers.last());
    assert_eq!((first, last), (Some(&begin), Some(&(end - 1))));
}

/// The handled numbers of each key, in the order in which their handlers finished.
#[derive(Clone, Default)]
pub(super) struct Keys(Arc<Mutex<HashMap<String, Vec<i64>>>>);

impl Keys {
    pub(super) fn add(&self, message: &Message) {
        let key = message.key().unwrap_or_default().to_owned();
        let number = rmp_serde::from_slice(message.payload()).expect("a number");
        self.0
            .lock()
            .expect("lock")
            .entry(key)
            .or_default()
            .push(number);
    }

    pub(super) fn of(&self, key: &str) -> Vec<i64> {
        let all = self.0.lock().expect("lock");
        all.get(key).cloned().unwrap_or_default()
    }

    pub(super) fn len(&self) -> usize {
        self.0.lock().expect("lock").values().map(Vec::len).sum()
    }

    pub(super) async fn reach(&self, count: usize) {
        eventually("all handled", SOON * 2, async || match self.len() {
            seen if seen >= count => Ok(()),
            seen => Err(seen),
        })
        .await;
    }

    pub(super) async fn reach_of(&self, key: &str, count: usize) {
        eventually("the key's messages", SOON * 2, async || {
            match self.of(key).len() {
                seen if seen >= count => Ok(()),
                seen => Err(seen),
            }
        })
        .await;
    }
}

/// Publishes numbers with their keys, a hundred in each transaction.
pub(super) async fn publish<D: Database>(
    bus: &Bus<D>,
    messages: impl IntoIterator<Item = (String, i64)>,
) {
    let messages: Vec<_> = messages.into_iter().collect();
    for some in messages.chunks(100) {
        let tx = bus.begin().await.expect("begin");
        bus.transaction(tx, async |mut txbus| {
            for (key, number) in some {
                txbus.publish("placed", number).key(key).await?;
            }
            Ok::<_, final_core::Error>(())
        })
        .await
        .expect("commit");
    }
}

pub(super) fn of_key(
    key: &str,
    numbers: std::ops::Range<i64>,
) -> impl Iterator<Item = (String, i64)> {
    numbers.map(move |number| (key.to_owned(), number))
}

/// A handler that takes a while, longer for some messages than for others. Every fifth message fails twice
/// before it succeeds.
fn unreliable(keys: &Keys) -> Router {
    let keys = keys.clone();
    Router::new().route("placed", move |message: Message| {
        let keys = keys.clone();
        async move {
            let number: i64 = rmp_serde::from_slice(message.payload()).expect("a number");
            tokio::time::sleep(Duration::from_micros((number as u64 * 7_919) % 4_000)).await;
            if number % 5 == 0 && message.attempt() < 3 {
                return Err(HandlerError::retry("not yet"));
            }
            keys.add(&message);
            Ok(())
        }
    })
}

/// A transaction stays open while others commit. Right after its commit, a message with the same key is
/// published.
async fn what_a_key_has_after_a_late_commit_comes_after_it<D: Database>(log: Log<D>) {
    let (bus, keys) = (log.bus_on("shop", log.ordered()), Keys::default());
    let noted = keys.clone();
    let router = Router::new().route("placed", move |message: Message| {
        noted.add(&message);
        std::future::ready(())
    });
    bus.start(router).await.expect("start");
    for round in 0..5_i64 {
        let mut late = bus.with_tx(bus.begin().await.expect("begin"));
        let first = round * 2;
        late.publish("placed", &first)
            .key("late")
            .await
            .expect("staged");
        late.flush().await.expect("written");
        publish(&bus, of_key("other", round..round + 1)).await;
        keys.reach_of("other", usize::try_from(round).expect("few") + 1)
            .await;
        // After this time the member looks for the missing numbers only a few times a second.
        tokio::time::sleep(Duration::from_millis(700)).await;

        late.commit().await.expect("commit");
        publish(&bus, of_key("late", first + 1..first + 2)).await;
        keys.reach_of("late", usize::try_from(first).expect("few") + 2)
            .await;
    }

    in_order(&keys.of("late"), 0, 10);
    bus.shutdown().await.expect("shutdown");
}

/// A handler that holds the messages of one key until they are let go, and handles all others at once.
fn stuck(key: &'static str, keys: &Keys, gate: &Arc<Semaphore>) -> Router {
    let (keys, gate) = (keys.clone(), Arc::clone(gate));
    Router::new().route("placed", move |message: Message| {
        let (keys, gate) = (keys.clone(), Arc::clone(&gate));
        async move {
            if message.key() == Some(key) {
                gate.acquire().await.expect("open").forget();
            }
            keys.add(&message);
        }
    })
}

async fn started<D: Database>(log: &Log<D>, router: Router) -> Bus<D> {
    started_on(log, log.ordered(), router).await
}

/// A member that is going to die. Its lease is short, so others soon take over its lanes.
async fn doomed<D: Database>(log: &Log<D>, router: Router) -> Bus<D> {
    let broker = log.ordered().lease(Duration::from_secs(5));
    started_on(log, broker, router).await
}

async fn started_on<D: Database>(log: &Log<D>, broker: SqlBroker<D>, router: Router) -> Bus<D> {
    let bus = log.bus_on("shop", broker);
    bus.start(router).await.expect("start");
    bus
}

fn interleaved(keys: i64, each: i64) -> impl Iterator<Item = (String, i64)> {
    (0..each).flat_map(move |number| (0..keys).map(move |key| (format!("k{key}"), number)))
}

async fn messages_of_a_key_are_handled_in_order_though_handlers_dawdle_and_fail<D: Database>(
    log: Log<D>,
) {
    let keys = Keys::default();
    let bus = started(&log, unreliable(&keys)).await;
    publish(&bus, interleaved(20, 60)).await;

    keys.reach(1_200).await;
    for key in 0..20 {
        in_order(&keys.of(&format!("k{key}")), 0, 60);
    }
    bus.shutdown().await.expect("shutdown");
}

async fn two_members_keep_the_order_of_every_key<D: Database>(log: Log<D>) {
    let keys = Keys::default();
    let one = started(&log, unreliable(&keys)).await;
    let publishing = {
        let one = one.clone();
        tokio::spawn(async move {
            for some in 0..20 {
                let messages = interleaved(20, 5).map(|(key, number)| (key, some * 5 + number));
                publish(&one, messages).await;
            }
        })
    };
    keys.reach(100).await;
    let two = started(&log, unreliable(&keys)).await;
    log.shared_by("shop", 2).await;
    publishing.await.expect("joined");

    keys.reach(2_000).await;
    for key in 0..20 {
        in_order(&keys.of(&format!("k{key}")), 0, 100);
    }
    one.shutdown().await.expect("shutdown");
    two.shutdown().await.expect("shutdown");
}

async fn another_member_goes_on_in_order_where_a_dead_one_was<D: Database>(log: Log<D>) {
    let (first, second) = (Keys::default(), Keys::default());
    let doomed = doomed(&log, unreliable(&first)).await;
    publish(&doomed, interleaved(20, 60)).await;
    first.reach(300).await;
    drop(doomed);
    let heir = started(&log, unreliable(&second)).await;
    publish(
        &heir,
        interleaved(20, 20).map(|(key, number)| (key, number + 60)),
    )
    .await;

    eventually("every key's last", SOON * 2, async || {
        (0..20).all(|key| second.of(&format!("k{key}")).last() == Some(&79))
    })
    .await;
    for key in 0..20 {
        let (before, after) = (first.of(&format!("k{key}")), second.of(&format!("k{key}")));
        let begin = after[0];
        assert!(begin <= before.len() as i64, "{begin} after {before:?}");
        in_order(&after, begin, 80);
    }
    heir.shutdown().await.expect("shutdown");
}

async fn a_long_backlog_of_a_dead_member_is_handled_before_what_came_after_it<D: Database>(
    log: Log<D>,
) {
    let (keys, gate) = (Keys::default(), Arc::new(Semaphore::new(0)));
    let doomed = doomed(&log, stuck("slow", &keys, &gate)).await;
    publish(&doomed, of_key("slow", 0..3_000)).await;
    log.has_open("shop", 3_000).await;
    drop(doomed);
    let heir = log.bus_on("shop", log.ordered());
    publish(&heir, of_key("slow", 3_000..3_100)).await;
    heir.start(noting(&keys)).await.expect("start");

    keys.reach_of("slow", 3_100).await;
    in_order(&keys.of("slow"), 0, 3_100);
    heir.shutdown().await.expect("shutdown");
}

/// A handler that only notes the message.
fn noting(keys: &Keys) -> Router {
    let keys = keys.clone();
    Router::new().route("placed", move |message: Message| {
        let keys = keys.clone();
        async move { keys.add(&message) }
    })
}

async fn other_keys_go_on_while_one_has_a_backlog_of_thousands<D: Database>(log: Log<D>) {
    let (keys, gate) = (Keys::default(), Arc::new(Semaphore::new(0)));
    let bus = started(&log, stuck("slow", &keys, &gate)).await;
    publish(&bus, of_key("slow", 0..5_000)).await;

    publish(&bus, interleaved(50, 20)).await;
    keys.reach(1_000).await;
    assert!(keys.of("slow").is_empty());
    gate.add_permits(5_000);
    keys.reach(6_000).await;

    in_order(&keys.of("slow"), 0, 5_000);
    for key in 0..50 {
        in_order(&keys.of(&format!("k{key}")), 0, 20);
    }
    bus.shutdown().await.expect("shutdown");
}

/// A key in the first lane. When a second member joins, it gets that lane.
const BACKLOG: &str = "dull";

async fn other_keys_go_on_while_a_member_joins_that_should_have_the_lane_of_a_backlog<
    D: Database,
>(
    log: Log<D>,
) {
    let (keys, gate) = (Keys::default(), Arc::new(Semaphore::new(0)));
    let one = started(&log, stuck(BACKLOG, &keys, &gate)).await;
    publish(&one, of_key(BACKLOG, 0..2_000)).await;
    log.has_open("shop", 2_000).await;
    let two = started(&log, stuck(BACKLOG, &keys, &gate)).await;
    // The lane of the backlog may stay with its member while a handler runs. Its messages are let go so
    // seldom that all of them would take minutes.
    let is_over = Arc::new(AtomicBool::new(false));
    let dripping = {
        let (gate, is_over) = (Arc::clone(&gate), Arc::clone(&is_over));
        tokio::spawn(async move {
            while !is_over.load(Ordering::Relaxed) {
                gate.add_permits(1);
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        })
    };

    // There are more keys than lanes, so some of them are in the lane of the backlog.
    publish(&one, interleaved(100, 5)).await;
    eventually("what others wait for", SOON, async || {
        keys.len() - keys.of(BACKLOG).len() == 500
    })
    .await;
    is_over.store(true, Ordering::Relaxed);
    dripping.await.expect("joined");
    gate.add_permits(5_000);
    keys.reach_of(BACKLOG, 2_000).await;
    in_order(&keys.of(BACKLOG), 0, 2_000);
    one.shutdown().await.expect("shutdown");
    two.shutdown().await.expect("shutdown");
}

async fn messages_without_a_key_wait_for_nobody<D: Database>(log: Log<D>) {
    let held = super::Held::new();
    let bus = started(&log, held.router("placed")).await;
    super::publish(&bus, "placed", 0..20).await;

    held.begun.reach(20).await;
    held.let_go(20);
    held.done.reach(20).await;
    bus.shutdown().await.expect("shutdown");
}
