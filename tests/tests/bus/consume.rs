//! The way in: retry, dead letters, concurrency, shutdown.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use final_core::{Attempt, Error, HandlerError, Message, Payload, Router};
use final_tests::eventually;
use tokio::sync::Semaphore;

use crate::{
    database::Database,
    house::{House, Notes, SOON},
    transport::Transport,
};

crate::suite!(
    everywhere: [
        a_failing_handler_is_retried_and_then_dead_lettered,
        a_handler_that_recovers_is_not_dead_lettered,
        a_permanent_failure_is_dead_lettered_at_once,
        a_payload_that_cannot_be_decoded_is_dead_lettered_with_the_reason,
        a_panicking_handler_is_a_failure_and_the_bus_goes_on,
        a_message_without_a_route_is_handed_back_until_its_grace_is_over,
        a_message_without_a_route_here_finds_the_instance_that_has_one,
        a_slow_handler_does_not_hold_back_the_others,
        no_more_handlers_run_than_concurrency_allows,
        shutdown_lets_handlers_finish_and_begins_none,
        shutdown_cuts_off_a_handler_that_hangs_and_its_message_comes_again,
        every_service_gets_each_message_once,
        a_layer_that_times_out_is_per_attempt,
        thousands_of_messages_are_all_handled_and_acked,
    ],
);

/// A router with one route.
fn router<D: Database, T: Transport, H, M>(house: &House<D, T>, name: &str, handler: H) -> Router
where
    H: final_core::handler::Handler<M, ()>,
    M: 'static,
{
    Router::new().route(house.topic(name), handler)
}

async fn a_failing_handler_is_retried_and_then_dead_lettered<D: Database, T: Transport>(
    house: House<D, T>,
) {
    let attempts = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&attempts);
    let bus = house.bus_with(house.options().retry_count(2));
    let failing = move |Attempt(attempt): Attempt| {
        assert_eq!(seen.fetch_add(1, Ordering::Relaxed) + 1, attempt as usize);
        async { Err::<(), _>("the mail server is away") }
    };
    bus.start(router(&house, "mail", failing))
        .await
        .expect("start");

    let id = bus
        .publish(house.topic("mail"), &5_i64)
        .header("tenant", "acme")
        .await
        .expect("publish");

    let dead = house.transport.dead_letters(&house.service, 1).await;
    assert_eq!(
        attempts.load(Ordering::Relaxed),
        3,
        "retry_count comes after the first attempt"
    );
    assert_eq!(dead[0].id, id);
    assert_eq!(dead[0].topic, house.topic("mail"));
    assert_eq!(dead[0].attempts, 3);
    assert!(
        dead[0].reason.contains("the mail server is away"),
        "{}",
        dead[0].reason
    );
    assert_eq!(dead[0].tenant.as_deref(), Some("acme"));
    assert_eq!(dead[0].payload, rmp_serde::to_vec(&5_i64).expect("encoded"));
    bus.shutdown().await.expect("shutdown");
}

async fn a_handler_that_recovers_is_not_dead_lettered<D: Database, T: Transport>(
    house: House<D, T>,
) {
    let notes = Notes::default();
    let noted = notes.clone();
    let bus = house.bus();
    let handler = move |Attempt(attempt): Attempt, message: Message| {
        let noted = noted.clone();
        async move {
            if attempt < 3 {
                return Err("not yet");
            }
            noted.add(message);
            Ok(())
        }
    };
    bus.start(router(&house, "mail", handler))
        .await
        .expect("start");

    bus.publish(house.topic("mail"), &1_i64)
        .await
        .expect("publish");

    notes.reach(1).await;
    assert_eq!(notes.all()[0].attempt(), 3);
    let stats = house
        .stats_are(&bus, "one handled message", |stats| stats.handled == 1)
        .await;
    assert_eq!((stats.retried, stats.dead_lettered), (2, 0));
    bus.shutdown().await.expect("shutdown");
}

async fn a_permanent_failure_is_dead_lettered_at_once<D: Database, T: Transport>(
    house: House<D, T>,
) {
    let bus = house.bus();
    let refuses = async || Err::<(), _>(HandlerError::permanent("the account is closed"));
    bus.start(router(&house, "refund", refuses))
        .await
        .expect("start");

    bus.publish(house.topic("refund"), &1_i64)
        .await
        .expect("publish");

    let dead = house.transport.dead_letters(&house.service, 1).await;
    assert_eq!(dead[0].attempts, 1);
    assert!(
        dead[0].reason.contains("the account is closed"),
        "{}",
        dead[0].reason
    );
    bus.shutdown().await.expect("shutdown");
}

async fn a_payload_that_cannot_be_decoded_is_dead_lettered_with_the_reason<
    D: Database,
    T: Transport,
>(
    house: House<D, T>,
) {
    let bus = house.bus();
    let decodes = async |Payload(_): Payload<String>| {};
    bus.start(router(&house, "text", decodes))
        .await
        .expect("start");

    // These are no msgpack, a wrong type, an empty payload, and nesting that would overflow a stack.
    let hostile = [vec![0xc1], vec![0x2a], vec![], vec![0x91; 200_000]];
    for bytes in hostile.clone() {
        bus.publish_bytes(house.topic("text"), bytes)
            .await
            .expect("publish");
    }
    bus.publish(house.topic("text"), "good")
        .await
        .expect("publish");

    let dead = house
        .transport
        .dead_letters(&house.service, hostile.len())
        .await;
    assert!(
        dead.iter()
            .all(|dead| dead.attempts == 1 && !dead.reason.is_empty()),
        "{dead:?}"
    );
    house
        .stats_are(&bus, "the good one handled", |stats| stats.handled == 1)
        .await;
    bus.shutdown().await.expect("shutdown");
}

async fn a_panicking_handler_is_a_failure_and_the_bus_goes_on<D: Database, T: Transport>(
    house: House<D, T>,
) {
    let bus = house.bus_with(house.options().retry_count(1));
    let panics = async |Payload(n): Payload<i64>| assert!(n != 13, "an unlucky number");
    bus.start(router(&house, "number", panics))
        .await
        .expect("start");

    bus.publish(house.topic("number"), &13_i64)
        .await
        .expect("publish");
    bus.publish(house.topic("number"), &14_i64)
        .await
        .expect("publish");

    let dead = house.transport.dead_letters(&house.service, 1).await;
    assert_eq!(dead[0].attempts, 2);
    assert!(
        dead[0].reason.contains("an unlucky number"),
        "{}",
        dead[0].reason
    );
    house
        .stats_are(&bus, "the other one handled", |stats| stats.handled == 1)
        .await;
    bus.shutdown().await.expect("shutdown");
}

async fn a_message_without_a_route_is_handed_back_until_its_grace_is_over<
    D: Database,
    T: Transport,
>(
    house: House<D, T>,
) {
    let (first, _) = house
        .start_connected(house.options(), &["known", "gone"])
        .await;
    first.shutdown().await.expect("shutdown");

    // The queue is still bound to a topic for which this release has no handler.
    let grace = Duration::from_millis(800);
    let (bus, notes) = house
        .start_noting(house.options().unrouted_grace(grace), &["known"])
        .await;
    let published = std::time::Instant::now();
    bus.publish(house.topic("gone"), &1_i64)
        .await
        .expect("publish");
    bus.publish(house.topic("known"), &2_i64)
        .await
        .expect("publish");

    notes.reach(1).await;
    let dead = house.transport.dead_letters(&house.service, 1).await;
    assert!(published.elapsed() >= grace, "{:?}", published.elapsed());
    assert!(
        dead[0].reason.contains(&house.topic("gone")),
        "{}",
        dead[0].reason
    );
    bus.shutdown().await.expect("shutdown");
}

async fn a_message_without_a_route_here_finds_the_instance_that_has_one<
    D: Database,
    T: Transport,
>(
    house: House<D, T>,
) {
    let (old, _) = house.start_noting(house.options(), &["known"]).await;
    let (new, notes) = house
        .start_noting(house.options(), &["known", "fresh"])
        .await;

    for n in 0..20_i64 {
        new.publish(house.topic("fresh"), &n)
            .await
            .expect("publish");
    }

    notes.reach(20).await;
    house.outbox_is_empty(&new).await;
    old.shutdown().await.expect("shutdown");
    new.shutdown().await.expect("shutdown");
}

async fn a_slow_handler_does_not_hold_back_the_others<D: Database, T: Transport>(
    house: House<D, T>,
) {
    let gate = Arc::new(Semaphore::new(0));
    let handled = Arc::new(AtomicUsize::new(0));
    let (handler_gate, count) = (Arc::clone(&gate), Arc::clone(&handled));
    let handler = move |Payload(n): Payload<i64>| {
        let (gate, count) = (Arc::clone(&handler_gate), Arc::clone(&count));
        async move {
            if n == 0 {
                gate.acquire().await.expect("open").forget();
            }
            count.fetch_add(1, Ordering::Relaxed);
        }
    };
    let bus = house.bus();
    bus.start(router(&house, "job", handler))
        .await
        .expect("start");

    // These are more than any prefetch. All of them arrive only if the messages behind the slow one are
    // acked.
    for n in 0..1_000_i64 {
        bus.publish(house.topic("job"), &n).await.expect("publish");
    }
    eventually("999 handled", SOON, async || {
        handled.load(Ordering::Relaxed) == 999
    })
    .await;
    gate.add_permits(1);
    eventually("the slow one too", SOON, async || {
        handled.load(Ordering::Relaxed) == 1_000
    })
    .await;
    bus.shutdown().await.expect("shutdown");
}

async fn no_more_handlers_run_than_concurrency_allows<D: Database, T: Transport>(
    house: House<D, T>,
) {
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let gate = Arc::new(Semaphore::new(0));
    let (now, top, opens) = (Arc::clone(&running), Arc::clone(&most), Arc::clone(&gate));
    let handler = move || {
        let (now, top, gate) = (Arc::clone(&now), Arc::clone(&top), Arc::clone(&opens));
        async move {
            top.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            gate.acquire().await.expect("open").forget();
            tokio::time::sleep(Duration::from_millis(20)).await;
            now.fetch_sub(1, Ordering::SeqCst);
        }
    };
    let bus = house.bus_with(house.options().concurrency(3));
    bus.start(router(&house, "job", handler))
        .await
        .expect("start");
    for n in 0..30_i64 {
        bus.publish(house.topic("job"), &n).await.expect("publish");
    }
    eventually("three at work", SOON, async || {
        running.load(Ordering::SeqCst) == 3
    })
    .await;
    gate.add_permits(30);

    house
        .stats_are(&bus, "30 handled", |stats| stats.handled == 30)
        .await;
    assert_eq!(most.load(Ordering::SeqCst), 3);
    bus.shutdown().await.expect("shutdown");
}

async fn shutdown_lets_handlers_finish_and_begins_none<D: Database, T: Transport>(
    house: House<D, T>,
) {
    let (begun, finished) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let gate = Arc::new(Semaphore::new(0));
    let (b, f, g) = (Arc::clone(&begun), Arc::clone(&finished), Arc::clone(&gate));
    let handler = move || {
        let (b, f, g) = (Arc::clone(&b), Arc::clone(&f), Arc::clone(&g));
        async move {
            b.fetch_add(1, Ordering::SeqCst);
            g.acquire().await.expect("open").forget();
            f.fetch_add(1, Ordering::SeqCst);
        }
    };
    let bus = house.bus_with(house.options().concurrency(2));
    bus.start(router(&house, "job", handler))
        .await
        .expect("start");
    for n in 0..6_i64 {
        bus.publish(house.topic("job"), &n).await.expect("publish");
    }
    eventually("two at work", SOON, async || {
        begun.load(Ordering::SeqCst) >= 2
    })
    .await;

    let stopping = bus.clone();
    let shutdown = tokio::spawn(async move { stopping.shutdown().await });
    eventually("a shutdown that has begun", SOON, async || {
        let publish = bus.publish(house.topic("nobody"), &0_i64).confirm(false);
        matches!(publish.await, Err(Error::ShutDown))
    })
    .await;
    // The shutdown tells the handlers next. This is far more time than it needs for that.
    tokio::time::sleep(Duration::from_secs(1)).await;
    gate.add_permits(100);
    shutdown.await.expect("joined").expect("shutdown");

    assert_eq!(begun.load(Ordering::SeqCst), 2, "none begins");
    assert_eq!(finished.load(Ordering::SeqCst), 2, "none is cut off");
    // The acks of those two arrived. Only the others are delivered again, before the next message.
    let (bus, notes) = house.start_noting(house.options(), &["job"]).await;
    bus.publish(house.topic("job"), &6_i64)
        .await
        .expect("publish");
    notes.reach(5).await;
    house.outbox_is_empty(&bus).await;
    assert_eq!(notes.len(), 5, "{:?}", notes.numbers());
    bus.shutdown().await.expect("shutdown");
}

async fn shutdown_cuts_off_a_handler_that_hangs_and_its_message_comes_again<
    D: Database,
    T: Transport,
>(
    house: House<D, T>,
) {
    let begun = Arc::new(AtomicUsize::new(0));
    let b = Arc::clone(&begun);
    let hangs = move || {
        b.fetch_add(1, Ordering::SeqCst);
        std::future::pending::<()>()
    };
    let bus = house.bus_with(house.options().shutdown_timeout(Duration::from_millis(500)));
    bus.start(router(&house, "job", hangs))
        .await
        .expect("start");
    bus.publish(house.topic("job"), &1_i64)
        .await
        .expect("publish");
    eventually("a handler at work", SOON, async || {
        begun.load(Ordering::SeqCst) == 1
    })
    .await;

    let shutdown = tokio::time::timeout(SOON, bus.shutdown())
        .await
        .expect("within its limit");
    assert!(
        matches!(shutdown, Err(final_core::Error::Timeout { .. })),
        "{shutdown:?}"
    );

    let (bus, notes) = house.start_noting(house.options(), &["job"]).await;
    notes.reach(1).await;
    bus.shutdown().await.expect("shutdown");
}

async fn every_service_gets_each_message_once<D: Database, T: Transport>(house: House<D, T>) {
    let other = house.neighbour().await;
    let (mine, theirs) = (Notes::default(), Notes::default());
    let (bus, other_bus) = (house.bus(), other.bus());
    bus.start(house.noting(&mine, &["placed"]))
        .await
        .expect("start");
    other_bus
        .start(house.noting(&theirs, &["placed"]))
        .await
        .expect("start");
    house
        .stats_are(&bus, "a connected broker", |stats| stats.connected)
        .await;

    for n in 0..10_i64 {
        bus.publish(house.topic("placed"), &n)
            .await
            .expect("publish");
    }

    mine.reach(10).await;
    theirs.reach(10).await;
    house.outbox_is_empty(&bus).await;
    assert_eq!((mine.len(), theirs.len()), (10, 10));
    bus.shutdown().await.expect("shutdown");
    other_bus.shutdown().await.expect("shutdown");
}

async fn a_layer_that_times_out_is_per_attempt<D: Database, T: Transport>(house: House<D, T>) {
    let notes = Notes::default();
    let noted = notes.clone();
    let slow_once = move |message: Message| {
        let noted = noted.clone();
        async move {
            if message.attempt() == 1 {
                tokio::time::sleep(SOON * 10).await;
            }
            noted.add(message);
        }
    };
    let bus = house.bus();
    let layered = router(&house, "report", slow_once)
        .layer(tower::timeout::TimeoutLayer::new(Duration::from_millis(
            150,
        )))
        .layer(tower::limit::ConcurrencyLimitLayer::new(4));
    bus.start(layered).await.expect("start");

    bus.publish(house.topic("report"), &1_i64)
        .await
        .expect("publish");

    notes.reach(1).await;
    assert_eq!(notes.all()[0].attempt(), 2);
    bus.shutdown().await.expect("shutdown");
}

async fn thousands_of_messages_are_all_handled_and_acked<D: Database, T: Transport>(
    house: House<D, T>,
) {
    let (bus, notes) = house.start_noting(house.options(), &["placed"]).await;
    for chunk in 0..5_i64 {
        let tx = bus.begin().await.expect("begin");
        let topic = house.topic("placed");
        bus.transaction(tx, async |mut txbus| {
            for n in 0..1_000 {
                txbus.publish(&topic, &(chunk * 1_000 + n)).await?;
            }
            Ok::<_, final_core::Error>(())
        })
        .await
        .expect("commit");
    }
    notes.reach(5_000).await;
    house.outbox_is_empty(&bus).await;
    bus.shutdown().await.expect("shutdown");

    // All acked: nothing comes again.
    let (bus, again) = house.start_noting(house.options(), &["placed"]).await;
    bus.publish(house.topic("placed"), &-1_i64)
        .await
        .expect("publish");
    again.reach(1).await;
    assert_eq!(again.numbers(), [-1]);
    bus.shutdown().await.expect("shutdown");
}
