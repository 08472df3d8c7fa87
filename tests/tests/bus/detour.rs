//! Messages that leave their queue for a while, and come back to their service alone.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use final_core::{Bus, HandlerError, Message, Options, Router};
use final_tests::eventually;

use crate::{
    database::Database,
    house::{House, Notes, SOON, TestError},
    transport::Transport,
};

crate::suite!(
    on sqlx::Postgres, Rabbit:
    everywhere: [
        a_topic_whose_messages_all_fail_does_not_hold_up_another_topic,
        messages_that_no_handler_is_there_for_do_not_hold_up_others,
        later_retries_follow_the_quick_ones_through_restarts,
        a_handler_says_when_its_message_comes_again_and_it_comes_to_this_service_alone,
    ],
);

/// How soon a message of a topic without trouble has to be handled. It takes a fraction of a second. Behind the
/// messages of the other topic it would take minutes.
const PROMPT: Duration = Duration::from_secs(20);

/// Commits so many messages of a topic.
async fn publish<D: Database, T: Transport>(
    house: &House<D, T>,
    bus: &Bus<D>,
    topic: &str,
    count: i64,
) {
    let tx = bus.begin().await.expect("a transaction");
    bus.transaction(tx, async |mut txbus| {
        for n in 0..count {
            txbus.publish(house.topic(topic), &n).await?;
        }
        Ok::<_, TestError>(())
    })
    .await
    .expect("committed");
}

async fn a_topic_whose_messages_all_fail_does_not_hold_up_another_topic<
    D: Database,
    T: Transport,
>(
    house: House<D, T>,
) {
    let notes = Notes::default();
    let tried = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&tried);
    let options = house
        .options()
        .retry_interval(Duration::from_millis(10))
        .retry_count(12);
    let bus = house.bus_with(options);
    let router = house
        .noting(&notes, &["other"])
        .route(house.topic("partner"), move || {
            counted.fetch_add(1, Ordering::Relaxed);
            async { Err::<(), _>("the partner is away") }
        });
    bus.start(router).await.expect("start");

    publish(&house, &bus, "partner", 900).await;
    eventually("many were tried", SOON, async || {
        tried.load(Ordering::Relaxed) >= 300
    })
    .await;
    let published = Instant::now();
    publish(&house, &bus, "other", 1).await;
    notes.reach(1).await;
    assert!(published.elapsed() < PROMPT, "{:?}", published.elapsed());

    // And each of them was tried, and comes again.
    eventually("all were tried twice", SOON, async || {
        tried.load(Ordering::Relaxed) >= 1_800
    })
    .await;
    let stats = bus.stats().await.expect("stats");
    assert!(stats.postponed > 0 && stats.dead_lettered == 0, "{stats:?}");
    bus.shutdown().await.expect("shutdown");
}

async fn messages_that_no_handler_is_there_for_do_not_hold_up_others<D: Database, T: Transport>(
    house: House<D, T>,
) {
    let (first, _) = house
        .start_connected(house.options(), &["good", "gone"])
        .await;
    first.shutdown().await.expect("shutdown");
    // All of them are in the queue before the service starts without their handler.
    let producer: Bus<D> = house
        .transport
        .bus(&format!("{}-p", house.service), house.pool.clone())
        .with_options(house.options());
    producer.start(Router::new()).await.expect("start");
    publish(&house, &producer, "gone", 2_000).await;
    house.outbox_is_empty(&producer).await;
    let (bus, notes) = house.start_noting(house.options(), &["good"]).await;

    let published = Instant::now();
    publish(&house, &producer, "good", 1).await;
    notes.reach(1).await;
    assert!(published.elapsed() < PROMPT, "{:?}", published.elapsed());
    // Each left the queue at once.
    if T::COUNTS_REQUEUES {
        eventually("all 2,000 to leave", SOON, async || {
            let stats = bus.stats().await.expect("stats");
            assert_eq!(stats.requeued, 0, "{stats:?}");
            (stats.postponed >= 2_000).then_some(()).ok_or(stats)
        })
        .await;
    }
    bus.shutdown().await.expect("shutdown");
    producer.shutdown().await.expect("shutdown");

    // The release that has the handler again gets all of them.
    let (again, notes) = house.start_noting(house.options(), &["good", "gone"]).await;
    eventually("all 2,000", SOON, async || {
        let mut numbers = notes.numbers();
        numbers.sort_unstable();
        numbers.dedup();
        numbers.len() == 2_000
    })
    .await;
    again.shutdown().await.expect("shutdown");
}

/// The attempts that a handler has seen.
type Attempts = Arc<Mutex<Vec<(Instant, Message)>>>;

/// A router whose handler notes each attempt and fails.
fn failing<D: Database, T: Transport>(
    house: &House<D, T>,
    attempts: &Attempts,
    error: impl Fn() -> HandlerError + Clone + Send + Sync + 'static,
) -> Router {
    let attempts = Arc::clone(attempts);
    Router::new().route(house.topic("order"), move |message: Message| {
        attempts
            .lock()
            .expect("lock")
            .push((Instant::now(), message));
        let error = error();
        async { Err::<(), _>(error) }
    })
}

async fn reach(attempts: &Attempts, count: usize) {
    eventually(&format!("{count} attempts"), SOON, async || {
        attempts.lock().expect("lock").len() >= count
    })
    .await;
}

fn numbers(attempts: &Attempts) -> Vec<u32> {
    let attempts = attempts.lock().expect("lock");
    attempts.iter().map(|(_, one)| one.attempt()).collect()
}

async fn later_retries_follow_the_quick_ones_through_restarts<D: Database, T: Transport>(
    house: House<D, T>,
) {
    let pause = Duration::from_secs(5);
    let options = || -> Options { house.options().retry_count(1).later_retries([pause, pause]) };
    let attempts = Attempts::default();
    let router = || failing(&house, &attempts, || "no".into());
    let bus = house.bus_with(options());
    bus.start(router()).await.expect("start");
    let id = bus
        .publish(house.topic("order"), &7_i64)
        .header("tenant", "acme")
        .key("k")
        .await
        .expect("publish");

    // Two quick attempts. Then the service is restarted while the message waits, and again.
    reach(&attempts, 2).await;
    house
        .stats_are(&bus, "one postponed", |stats| stats.postponed == 1)
        .await;
    bus.shutdown().await.expect("shutdown");
    let bus = house.bus_with(options());
    bus.start(router()).await.expect("start");
    reach(&attempts, 3).await;
    house
        .stats_are(&bus, "one postponed", |stats| stats.postponed == 1)
        .await;
    bus.shutdown().await.expect("shutdown");
    let bus = house.bus_with(options());
    bus.start(router()).await.expect("start");

    let dead = house.transport.dead_letters(&house.service, 1).await;
    assert_eq!(numbers(&attempts), [1, 2, 3, 4]);
    assert_eq!((dead[0].id, dead[0].attempts), (id, 4));
    assert_eq!(dead[0].tenant.as_deref(), Some("acme"));
    assert_eq!(dead[0].topic, house.topic("order"));
    {
        let attempts = attempts.lock().expect("lock");
        for two in attempts[1..].windows(2) {
            assert!(two[1].0 - two[0].0 >= pause);
            assert_eq!(two[1].1.id(), id);
            assert_eq!(two[1].1.key(), Some("k"));
            assert_eq!(two[1].1.headers().get("tenant"), Some("acme"));
            assert_eq!(two[1].1.headers().len(), 1);
        }
    }
    house.outbox_is_empty(&bus).await;
    bus.shutdown().await.expect("shutdown");
}

async fn a_handler_says_when_its_message_comes_again_and_it_comes_to_this_service_alone<
    D: Database,
    T: Transport,
>(
    house: House<D, T>,
) {
    let pause = Duration::from_secs(6);
    let attempts = Attempts::default();
    let bus = house.bus_with(house.options().retry_count(1));
    let router = failing(&house, &attempts, move || {
        HandlerError::retry_in(pause, "too many requests")
    });
    bus.start(router).await.expect("start");
    let notes = Notes::default();
    let noted = notes.clone();
    let other: Bus<D> = house
        .transport
        .bus(&format!("{}-b", house.service), house.pool.clone())
        .with_options(house.options());
    other
        .start(
            Router::new().route(house.topic("order"), move |message: Message| {
                noted.add(message);
                async {}
            }),
        )
        .await
        .expect("start");

    bus.publish(house.topic("order"), &1_i64)
        .await
        .expect("publish");

    let dead = house.transport.dead_letters(&house.service, 1).await;
    assert_eq!(dead[0].attempts, 2);
    assert_eq!(numbers(&attempts), [1, 2]);
    let (first, second) = {
        let attempts = attempts.lock().expect("lock");
        (attempts[0].0, attempts[1].0)
    };
    assert!(second - first >= pause, "{:?}", second - first);
    assert_eq!(notes.len(), 1, "the other service got it once");
    bus.shutdown().await.expect("shutdown");
    other.shutdown().await.expect("shutdown");
}
