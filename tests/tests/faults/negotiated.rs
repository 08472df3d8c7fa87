//! Limits that RabbitMQ names when a connection is made: the bus works within them, or says which is too low.

use std::time::Duration;

use final_amqp::Amqp;
use final_core::{Bus, PgBus};
use final_tests::{RabbitMq, eventually};

use crate::{
    overheard::{is_warned, warnings},
    shop::{SOON, Tally, log, options, outbox_is_empty, service},
};

async fn set(rabbit: &RabbitMq, limit: &str, value: u32) {
    let text = format!("application:set_env(rabbit, {limit}, {value}).");
    rabbit.ctl(&["eval", &text]).await.expect("rabbitmqctl");
}

async fn bus(service: &str, amqp: Amqp) -> PgBus {
    let url = final_tests::pg_database().await.expect("PostgreSQL");
    let pool = sqlx::PgPool::connect(&url).await.expect("PostgreSQL");
    Bus::new(service, pool, amqp).with_options(options().num_subscribers(4))
}

/// Sends and handles messages of several topics, and a dead letter.
async fn works(bus: &PgBus, service: &str, tally: &Tally) {
    let topic = format!("{service}.placed");
    bus.start(tally.router(&topic)).await.expect("start");
    for n in 0..100 {
        bus.publish(&topic, &n).await.expect("publish");
    }
    tally.has_all(0..100).await;
    bus.publish(&topic, "no number").await.expect("publish");
    eventually("a dead letter", SOON, async || {
        bus.stats().await.expect("stats").dead_lettered == 1
    })
    .await;
    outbox_is_empty(bus).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_of_the_broker_are_kept_and_told() {
    log();
    let rabbit = RabbitMq::start().await.expect("RabbitMQ");
    let amqp = || Amqp::new(rabbit.url()).expect("a URL").publish_channels(4);

    // Four channels of each kind do not fit, so there are fewer.
    for (limit, value, wanted) in [
        ("channel_max", 3, Some("setting=channel_max granted=3")),
        ("channel_max", 5, Some("setting=channel_max granted=5")),
        ("channel_max", 0, None),
        ("heartbeat", 1, Some("setting=heartbeat granted=1")),
        ("heartbeat", 0, None),
        ("frame_max", 0, None),
        ("frame_max", 8192, None),
    ] {
        set(&rabbit, limit, value).await;
        let (service, tally) = (service(), Tally::default());
        let bus = bus(&service, amqp()).await;
        works(&bus, &service, &tally).await;
        bus.shutdown().await.expect("shutdown");
        let told = warnings(&service);
        let has = |words: &str| told.iter().any(|text| text.contains(words));
        assert_eq!(
            has("grants less"),
            wanted.is_some(),
            "{limit} {value}: {told:?}"
        );
        assert!(wanted.is_none_or(has), "{limit} {value}: {told:?}");
    }

    // The publishing connection cannot work at all with two.
    set(&rabbit, "channel_max", 2).await;
    let (service, tally) = (service(), Tally::default());
    let topic = format!("{service}.placed");
    let bus = bus(&service, amqp()).await;
    bus.start(tally.router(&topic)).await.expect("it passes");
    bus.publish(&topic, &0_i64).await.expect("publish");
    is_warned(&service, "raise `channel_max`").await;
    set(&rabbit, "channel_max", 2047).await;
    tally.has_all(0..1).await;
    bus.shutdown().await.expect("shutdown");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bus_starts_while_the_broker_is_short_of_memory() {
    log();
    let rabbit = RabbitMq::start().await.expect("RabbitMQ");
    rabbit.memory_alarm(true).await.expect("alarm on");
    let (service, tally) = (service(), Tally::default());
    let topic = format!("{service}.placed");
    let bus = bus(&service, Amqp::new(rabbit.url()).expect("a URL")).await;

    let started = tokio::time::timeout(Duration::from_secs(30), bus.start(tally.router(&topic)));
    started.await.expect("start does not hang").expect("start");
    for n in 0..10 {
        bus.publish(&topic, &n).await.expect("publish");
    }
    is_warned(&service, "raised an alarm").await;
    rabbit.memory_alarm(false).await.expect("alarm off");

    tally.has_all(0..10).await;
    bus.shutdown().await.expect("shutdown");
}
