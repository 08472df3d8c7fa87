//! RabbitMQ dies, restarts, closes, deletes, blocks and refuses.

use std::time::Duration;

use final_amqp::{Amqp, QueueKind};
use final_core::{PgBus, Router};
use final_tests::{RabbitMq, eventually};
use lapin::types::{AMQPValue, FieldTable};

use crate::shop::{
    SOON, Tally, bind_queue, outbox_is_empty, pg_bus, pg_bus_with, publish_on, service,
};

/// A RabbitMQ of the test's own, and a bus on it with a handler.
async fn started() -> (RabbitMq, PgBus, Tally) {
    let rabbit = RabbitMq::start().await.expect("RabbitMQ");
    let service = service();
    let bus = pg_bus(&service, &rabbit.url()).await;
    let tally = Tally::default();
    bus.start(tally.router("placed")).await.expect("start");
    (rabbit, bus, tally)
}

/// RabbitMQ is killed in the middle of the traffic, and started again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_rabbitmq_is_killed_and_restarted() {
    let (rabbit, bus, tally) = started().await;

    let (stop, publisher) = publish_on(&bus, "placed", 0);
    // RabbitMQ is not killed at once: within a second of the first declaration of a quorum queue, a kill of a
    // single node of RabbitMQ 3.10 leaves the queue without a leader for good.
    eventually("traffic", SOON, async || tally.distinct() > 3_000).await;
    rabbit.kill9();
    eventually("a link that is away", SOON, async || {
        !bus.stats().await.expect("stats").connected
    })
    .await;
    let before = tally.distinct();
    rabbit.start_again().await.expect("RabbitMQ again");
    eventually("traffic again", SOON, async || {
        tally.distinct() > before + 500
    })
    .await;
    stop.send(()).expect("the publisher runs");
    let published = publisher.await.expect("joined");

    tally.has_all(published.committed.clone()).await;
    outbox_is_empty(&bus).await;
    assert_eq!(
        tally.beyond(|n| published.committed.contains(&n)),
        Vec::<i64>::new()
    );
    // At most a window on the way out, and the messages in flight on the way in.
    assert!(tally.repeats() <= 1_300, "{} repeats", tally.repeats());
    bus.shutdown().await.expect("shutdown");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bus_starts_without_a_broker_and_works_when_it_comes() {
    let rabbit = RabbitMq::start().await.expect("RabbitMQ");
    rabbit.stop().await.expect("stop");
    let service = service();
    let bus = pg_bus(&service, &rabbit.url()).await;
    let tally = Tally::default();

    bus.start(tally.router("placed"))
        .await
        .expect("a broker that is away is no error");
    assert!(!bus.stats().await.expect("stats").connected);
    for n in 0..10 {
        bus.publish("placed", &n).await.expect("publish");
    }
    rabbit.start_again().await.expect("RabbitMQ again");

    tally.has_all(0..10).await;
    bus.shutdown().await.expect("shutdown");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_memory_alarm_pauses_the_bus_and_loses_nothing() {
    let (rabbit, bus, tally) = started().await;
    bus.publish("placed", &0_i64).await.expect("publish");
    tally.has_all(0..1).await;

    rabbit.memory_alarm(true).await.expect("alarm on");
    // RabbitMQ blocks a connection when it next publishes.
    let mut published = 1;
    eventually("a blocked link", SOON, async || {
        bus.publish("placed", &published)
            .await
            .expect("publishing does not hang");
        published += 1;
        !bus.stats().await.expect("stats").connected
    })
    .await;
    for _ in 0..100 {
        bus.publish("placed", &published)
            .await
            .expect("publishing does not hang");
        published += 1;
    }
    rabbit.memory_alarm(false).await.expect("alarm off");

    tally.has_all(0..published).await;
    outbox_is_empty(&bus).await;
    bus.shutdown().await.expect("shutdown");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_closed_by_the_server_are_remade() {
    let (rabbit, bus, tally) = started().await;
    let (stop, publisher) = publish_on(&bus, "placed", 0);

    for round in 1..=3 {
        eventually("traffic", SOON, async || tally.distinct() > round * 100).await;
        rabbit
            .close_all_connections("a test")
            .await
            .expect("closed");
    }
    let before = tally.distinct();
    eventually("traffic again", SOON, async || {
        tally.distinct() > before + 100
    })
    .await;
    stop.send(()).expect("the publisher runs");
    let published = publisher.await.expect("joined");

    tally.has_all(published.committed).await;
    outbox_is_empty(&bus).await;
    bus.shutdown().await.expect("shutdown");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_queue_and_a_deleted_exchange_are_declared_again() {
    let vhost = final_tests::amqp_vhost().await.expect("RabbitMQ");
    let url = vhost.url().to_owned();
    let service = service();
    let topic = format!("{service}.placed");
    // A classic queue, because RabbitMQ 3.10 can refuse a quorum queue for good that was deleted while it was
    // declared.
    let broker = Amqp::new(&url)
        .expect("a good URL")
        .queue_kind(QueueKind::Classic);
    let bus = pg_bus_with(&service, broker).await;
    let tally = Tally::default();
    bus.start(tally.router(&topic)).await.expect("start");
    bus.publish(&topic, &0_i64).await.expect("publish");
    tally.has_all(0..1).await;

    let admin = lapin::Connection::connect(&url, lapin::ConnectionProperties::default())
        .await
        .expect("RabbitMQ");
    let channel = admin.create_channel().await.expect("channel");
    let _ = channel
        .queue_delete(service.as_str().into(), Default::default())
        .await
        .expect("queue deleted");
    bus.publish(&topic, &1_i64).await.expect("publish");
    tally.has_all(0..2).await;

    channel
        .exchange_delete(topic.as_str().into(), Default::default())
        .await
        .expect("exchange deleted");
    for n in 2..20_i64 {
        bus.publish(&topic, &n).await.expect("publish");
    }
    // The binding was deleted with the exchange, and no consumer was told.
    eventually("a queue that is bound again", SOON, async || {
        bus.publish(&topic, &20_i64).await.expect("publish");
        tokio::time::sleep(Duration::from_millis(100)).await;
        tally.distinct() == 21
    })
    .await;
    outbox_is_empty(&bus).await;
    bus.shutdown().await.expect("shutdown");
}

/// The arguments of a queue that refuses messages for which it has no room.
fn room_for_five() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongInt(5));
    let refuse = AMQPValue::LongString("reject-publish".into());
    arguments.insert("x-overflow".into(), refuse);
    arguments
}

/// A full queue refuses messages. The relay backs off for ever, and no record fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_that_refuses_delays_and_loses_nothing() {
    let vhost = final_tests::amqp_vhost().await.expect("RabbitMQ");
    let url = vhost.url().to_owned();
    let service = service();
    let topic = format!("{service}.placed");
    let full = format!("{service}-full");
    bind_queue(&url, &topic, &full, room_for_five()).await;

    let bus = pg_bus(&service, &url).await;
    bus.start(Router::new()).await.expect("start");
    for n in 0..40_i64 {
        bus.publish(&topic, &n).await.expect("publish");
    }
    eventually("some refused", SOON, async || {
        let stats = bus.stats().await.expect("stats");
        stats.acked >= 5 && stats.in_flight == 0 && stats.pending > 0
    })
    .await;
    assert_eq!(bus.stats().await.expect("stats").failed, 0);

    let taken = final_tests::take(&url, &full, 40, SOON).await;
    assert_eq!(taken.len(), 40);
    outbox_is_empty(&bus).await;
    bus.shutdown().await.expect("shutdown");
}

/// RabbitMQ can refuse a topic on one channel for ever and take it on the next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_on_which_a_topic_is_only_refused_is_replaced() {
    let rabbit = RabbitMq::start().await.expect("RabbitMQ");
    let (service, api) = (service(), rabbit.management());
    let bus = pg_bus(&service, &rabbit.url()).await;
    bind_queue(&rabbit.url(), "placed", "full", room_for_five()).await;
    bus.start(Router::new()).await.expect("start");
    for n in 0..40_i64 {
        bus.publish("placed", &n).await.expect("publish");
    }
    let first = eventually("the channels", SOON, async || {
        let channels = api.channels("/").await.unwrap_or_default();
        (channels.len() == 2).then_some(channels)
    })
    .await;

    eventually("other channels", SOON, async || {
        let channels = api.channels("/").await.map_err(|error| error.to_string())?;
        let is_new = channels.iter().any(|channel| !first.contains(channel));
        if is_new {
            Ok(())
        } else {
            Err(format!("{channels:?}"))
        }
    })
    .await;
    assert_eq!(bus.stats().await.expect("stats").failed, 0);
    bus.shutdown().await.expect("shutdown");
}
