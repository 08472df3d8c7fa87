//! The relay under difficulties: the broker is away, a topic has no queue, a record cannot be read.

use std::time::{Duration, Instant};

use final_core::{Error, Router};
use final_tests::eventually;

use crate::{
    database::Database,
    house::{House, Notes, SOON},
    transport::Transport,
};

crate::suite!(
    everywhere: [
        more_messages_than_the_window_holds_all_arrive,
        starting_twice_is_refused,
        a_start_that_failed_can_be_repeated,
    ],
    with an outbox: [
        messages_wait_while_the_broker_is_away_and_go_out_when_it_is_back,
        a_topic_without_a_queue_is_parked_and_released_when_it_has_one,
        a_parked_topic_does_not_hold_back_others,
        a_record_that_cannot_be_read_is_failed_and_can_be_retried,
        acked_records_are_kept_for_their_retention_and_then_removed,
        purge_on_startup_empties_the_outbox,
        stats_tell_how_old_the_backlog_is,
        under_load_the_relay_needs_few_statements,
    ],
);

async fn messages_wait_while_the_broker_is_away_and_go_out_when_it_is_back<
    D: Database,
    T: Transport,
>(
    house: House<D, T>,
) {
    let (bus, notes) = house.start_noting(house.options(), &["placed"]).await;
    bus.publish(house.topic("placed"), &0_i64)
        .await
        .expect("publish");
    notes.reach(1).await;

    house.transport.go_away().await;
    house
        .stats_are(&bus, "a broker that is away", |stats| !stats.connected)
        .await;
    for n in 1..=20_i64 {
        bus.publish(house.topic("placed"), &n)
            .await
            .expect("publish while the broker is away");
    }
    house
        .stats_are(&bus, "20 waiting records", |stats| {
            stats.pending == 20 && stats.in_flight == 0
        })
        .await;
    house.transport.come_back().await;

    notes.reach(21).await;
    house.outbox_is_empty(&bus).await;
    bus.shutdown().await.expect("shutdown");
}

async fn more_messages_than_the_window_holds_all_arrive<D: Database, T: Transport>(
    house: House<D, T>,
) {
    // A record without a slot in the window is not leased. It is claimed as soon as there is a slot.
    let options = house.options().confirm_window(4);
    let options = options.scan_interval(SOON * 10).lease(SOON * 10);
    let (bus, notes) = house.start_noting(options, &["placed"]).await;

    let publishes = (0..200_i64).map(|n| {
        let bus = bus.clone();
        let topic = house.topic("placed");
        tokio::spawn(async move { bus.publish(topic, &n).await })
    });
    for publish in publishes.collect::<Vec<_>>() {
        publish.await.expect("joined").expect("published");
    }

    notes.reach(200).await;
    house.outbox_is_empty(&bus).await;
    let mut numbers = notes.numbers();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..200), "each exactly once");
    bus.shutdown().await.expect("shutdown");
}

async fn a_topic_without_a_queue_is_parked_and_released_when_it_has_one<
    D: Database,
    T: Transport,
>(
    house: House<D, T>,
) {
    let bus = house.bus();
    bus.start(Router::new()).await.expect("start");
    house
        .stats_are(&bus, "a connected broker", |stats| stats.connected)
        .await;
    for n in 0..50_i64 {
        bus.publish(house.topic("early"), &n)
            .await
            .expect("publish");
    }
    let stats = house
        .stats_are(&bus, "50 unroutable records", |stats| {
            stats.unroutable >= 49
        })
        .await;
    assert_eq!(stats.pending, 50, "unroutable records count as pending");
    assert_eq!(stats.parked_topics, 1);

    let late = house.neighbour().await;
    let notes = Notes::default();
    let late_bus = late.bus();
    late_bus
        .start(house.noting(&notes, &["early"]))
        .await
        .expect("start");

    notes.reach(50).await;
    house.outbox_is_empty(&bus).await;
    house
        .stats_are(&bus, "no parked topic", |stats| stats.parked_topics == 0)
        .await;
    bus.shutdown().await.expect("shutdown");
    late_bus.shutdown().await.expect("shutdown");
}

async fn a_parked_topic_does_not_hold_back_others<D: Database, T: Transport>(house: House<D, T>) {
    let (bus, notes) = house
        .start_noting(house.options().confirm_window(8), &["placed"])
        .await;

    for n in 0..100_i64 {
        bus.publish(house.topic("nobody"), &n)
            .await
            .expect("publish");
        bus.publish(house.topic("placed"), &n)
            .await
            .expect("publish");
    }

    notes.reach(100).await;
    house
        .stats_are(&bus, "only the unroutable ones left", |stats| {
            stats.unroutable == 100 || stats.pending == 100
        })
        .await;
    bus.shutdown().await.expect("shutdown");
}

async fn a_record_that_cannot_be_read_is_failed_and_can_be_retried<D: Database, T: Transport>(
    house: House<D, T>,
) {
    let bus = house.bus();
    bus.migrate().await.expect("migrate");
    let id = bus
        .publish(house.topic("placed"), &1_i64)
        .header("tenant", "acme")
        .await
        .expect("publish");
    bus.publish(house.topic("placed"), &2_i64)
        .await
        .expect("publish");
    let table = house.table();
    D::run_on(
        &house.pool,
        &format!("UPDATE {table} SET headers = 'not JSON' WHERE headers IS NOT NULL"),
    )
    .await;

    let notes = Notes::default();
    bus.start(house.noting(&notes, &["placed"]))
        .await
        .expect("start");
    notes.reach(1).await;
    house
        .stats_are(&bus, "one failed record", |stats| {
            stats.failed == 1 && stats.pending == 0
        })
        .await;
    let failed = bus.failed(10).await.expect("failed");
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].id, id);
    assert!(
        failed[0].error.contains("cannot be read"),
        "{}",
        failed[0].error
    );

    D::run_on(&house.pool, &format!("UPDATE {table} SET headers = NULL")).await;
    assert_eq!(bus.retry_failed([id]).await.expect("retry"), 1);
    notes.reach(2).await;
    assert_eq!(notes.numbers(), [2, 1]);
    house.outbox_is_empty(&bus).await;
    bus.shutdown().await.expect("shutdown");
}

async fn acked_records_are_kept_for_their_retention_and_then_removed<D: Database, T: Transport>(
    house: House<D, T>,
) {
    let (bus, notes) = house
        .start_noting(house.options().retention(SOON * 10), &["placed"])
        .await;

    for n in 0..5_i64 {
        bus.publish(house.topic("placed"), &n)
            .await
            .expect("publish");
    }
    notes.reach(5).await;
    house.outbox_is_empty(&bus).await;
    assert_eq!(house.records().await, 5, "kept, though acked");
    bus.shutdown().await.expect("shutdown");

    let keep = Duration::from_millis(100);
    let (bus, _) = house
        .start_noting(house.options().retention(keep), &["placed"])
        .await;
    eventually("removal after the retention", SOON, async || {
        house.records().await == 0
    })
    .await;
    bus.shutdown().await.expect("shutdown");
}

async fn purge_on_startup_empties_the_outbox<D: Database, T: Transport>(house: House<D, T>) {
    let bus = house.bus();
    bus.migrate().await.expect("migrate");
    bus.publish(house.topic("placed"), &1_i64)
        .await
        .expect("publish");

    let (bus, notes) = house
        .start_noting(house.options().purge_on_startup(true), &["placed"])
        .await;
    assert_eq!(house.records().await, 0);
    bus.publish(house.topic("placed"), &2_i64)
        .await
        .expect("publish");
    notes.reach(1).await;
    assert_eq!(notes.numbers(), [2]);
    bus.shutdown().await.expect("shutdown");
}

async fn stats_tell_how_old_the_backlog_is<D: Database, T: Transport>(house: House<D, T>) {
    let bus = house.bus();
    bus.migrate().await.expect("migrate");
    assert_eq!(bus.stats().await.expect("stats").oldest_pending, None);

    bus.publish("a.topic", &1_i64).await.expect("publish");
    bus.publish("a.topic", &2_i64)
        .delay(SOON * 100)
        .await
        .expect("publish");
    tokio::time::sleep(Duration::from_millis(300)).await;

    let stats = bus.stats().await.expect("stats");
    assert_eq!(stats.pending, 2);
    let oldest = stats.oldest_pending.expect("there is a pending record");
    assert!(
        oldest >= Duration::from_millis(300) && oldest < SOON,
        "{oldest:?}"
    );
}

async fn starting_twice_is_refused<D: Database, T: Transport>(house: House<D, T>) {
    let (bus, _) = house.start_noting(house.options(), &[]).await;
    assert!(matches!(
        bus.start(Router::new()).await,
        Err(Error::AlreadyStarted)
    ));
    bus.shutdown().await.expect("shutdown");
    assert!(matches!(
        bus.start(Router::new()).await,
        Err(Error::ShutDown)
    ));
    bus.shutdown()
        .await
        .expect("a second shutdown does nothing");
}

async fn a_start_that_failed_can_be_repeated<D: Database, T: Transport>(house: House<D, T>) {
    let bus = house.bus();
    let twice = Router::new()
        .route("a", async || {})
        .route("a", async || {});
    assert!(matches!(
        bus.start(twice).await,
        Err(Error::InvalidRouter(_))
    ));
    bus.start(Router::new()).await.expect("start");
    bus.shutdown().await.expect("shutdown");
}

/// Fewer than 0.1 statements for each relayed message, or fewer than one in 20 ms. Answers that come within
/// 20 ms are settled together, so on a slow machine fewer answers share a statement.
async fn under_load_the_relay_needs_few_statements<D: Database, T: Transport>(house: House<D, T>) {
    let (bus, notes) = house
        .start_noting(house.options().scan_interval(SOON), &["placed"])
        .await;
    const WRITERS: i64 = 16;
    const EACH: i64 = 125;
    let begin = Instant::now();

    let writers = (0..WRITERS).map(|_| {
        let (bus, topic) = (bus.clone(), house.topic("placed"));
        tokio::spawn(async move {
            for n in 0..EACH {
                let tx = bus.begin().await?;
                bus.transaction(tx, async |mut txbus| {
                    txbus.publish(&topic, &n).await?;
                    Ok::<_, Error>(())
                })
                .await?;
            }
            Ok::<_, Error>(())
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.expect("joined").expect("published");
    }
    notes.reach((WRITERS * EACH) as usize).await;
    house.outbox_is_empty(&bus).await;

    let stats = bus.stats().await.expect("stats");
    assert_eq!(stats.acked, (WRITERS * EACH) as u64);
    let (sent, took) = (stats.relay_statements, begin.elapsed());
    assert!(
        sent < stats.acked / 10 || u128::from(sent) < took.as_millis() / 20,
        "{sent} statements for {} messages in {took:?}",
        stats.acked
    );
    bus.shutdown().await.expect("shutdown");
}
