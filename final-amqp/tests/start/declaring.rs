//! What declaring costs, and how soon the service works in spite of it.

use std::time::{Duration, Instant};

use final_amqp::{Amqp, QueueKind};
use final_core::broker::{Broker, LinkState, Settlement};
use lapin::{
    BasicProperties,
    options::QueueDeclareOptions,
    types::{AMQPValue, FieldTable},
};

use crate::support::{
    proxy::{CHANNEL_OPEN_OK, Proxy},
    *,
};

fn topics(count: usize) -> Vec<String> {
    let prefix = name("t");
    (0..count)
        .map(|number| format!("{prefix}.{number}"))
        .collect()
}

fn refs(topics: &[String]) -> Vec<&str> {
    topics.iter().map(String::as_str).collect()
}

/// One after the other, 100 topics take more than 600 round trips.
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_topics_over_a_long_line_are_declared_in_a_few_round_trips() {
    let (service, topics) = (name("s"), topics(100));
    let proxy = Proxy::start().await;
    proxy.delay(Duration::from_millis(25));
    let amqp = Amqp::new(proxy.url()).unwrap();
    let began = Instant::now();
    let opened = amqp.open(setup(&service, &refs(&topics))).await.unwrap();
    let start = began.elapsed();
    assert!(start < Duration::from_secs(12), "start took {start:?}");

    let (link, mut deliveries) = (opened.link, opened.deliveries);
    let admin = Admin::new().await;
    admin
        .publish(&topics[99], &topics[99], BasicProperties::default(), b"1")
        .await;
    next(&mut deliveries).await.settle(Settlement::Ack);
    while proxy.cut() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let cut = Instant::now();
    admin
        .publish(&topics[0], &topics[0], BasicProperties::default(), b"2")
        .await;
    loop {
        let delivery = next(&mut deliveries).await;
        if delivery.message().unwrap().topic() == topics[0] {
            delivery.settle(Settlement::Ack);
            break;
        }
    }
    let recovery = cut.elapsed();
    assert!(
        recovery < Duration::from_secs(12),
        "recovery took {recovery:?}"
    );
    eprintln!("start {start:?}, recovery {recovery:?}");

    // The exchanges of a publisher go together too.
    let publisher = publisher(&amqp).await;
    let mut sender = Sender::new(publisher.clone());
    let began = Instant::now();
    for topic in &topics {
        sender.send(final_core::Message::new(topic.as_str(), "3"));
    }
    for _ in &topics {
        sender.answer().await;
    }
    let published = began.elapsed();
    assert!(
        published < Duration::from_secs(6),
        "publishing took {published:?}"
    );
    eprintln!("published {published:?}");
    end(&*publisher).await;
    end(&*link).await;
    admin.forget(&service, &refs(&topics)).await;
}

/// The dead-letter queue is another one since the start, so it cannot be declared any more.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_lost_connection_a_service_consumes_whatever_can_be_declared() {
    let (service, topic) = (name("s"), name("t"));
    let proxy = Proxy::start().await;
    let amqp = Amqp::new(proxy.url()).unwrap();
    let opened = amqp.open(setup(&service, &[&topic])).await.unwrap();
    let (link, mut deliveries) = (opened.link, opened.deliveries);
    let admin = Admin::new().await;
    let letters = format!("{service}_dlx");
    loop {
        admin.delete_queue(&letters).await;
        let mut arguments = FieldTable::default();
        arguments.insert("x-max-priority".into(), AMQPValue::LongLongInt(5));
        let durable = QueueDeclareOptions::durable();
        let channel = admin.channel().await;
        let declared = channel.queue_declare(letters.as_str().into(), durable, arguments);
        // Unless the service was faster.
        if declared.await.is_ok() {
            break;
        }
    }
    while proxy.cut() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    admin
        .publish(&topic, &topic, BasicProperties::default(), b"1")
        .await;
    next(&mut deliveries).await.settle(Settlement::Ack);
    end(&*link).await;
    admin.forget(&service, &[&topic]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_service_opens_no_channels_and_finds_a_lost_binding() {
    let (service, topics) = (name("s"), topics(30));
    let proxy = Proxy::start().await;
    let amqp = Amqp::new(proxy.url())
        .unwrap()
        .queue_kind(QueueKind::Classic);
    let opened = amqp.open(setup(&service, &refs(&topics))).await.unwrap();
    let (link, mut deliveries) = (opened.link, opened.deliveries);
    wait_for(&*link, LinkState::Ready).await;
    let admin = Admin::new().await;
    admin
        .publish(&topics[0], &topics[0], BasicProperties::default(), b"1")
        .await;
    next(&mut deliveries).await.settle(Settlement::Ack);

    // More than two rounds. The first may still be under way.
    let before = proxy.answers(CHANNEL_OPEN_OK);
    tokio::time::sleep(Duration::from_secs(11)).await;
    let opened = proxy.answers(CHANNEL_OPEN_OK) - before;
    assert!(opened <= 1, "{opened} channels were opened");

    admin.delete_exchange(&topics[7]).await;
    let mut channel = admin.channel().await;
    let publish = lapin::options::BasicPublishOptions {
        mandatory: true,
        ..Default::default()
    };
    let confirmed = Default::default();
    channel.confirm_select(confirmed).await.unwrap();
    let lost = Instant::now();
    loop {
        let topic = topics[7].as_str();
        let sent = channel
            .basic_publish(
                topic.into(),
                topic.into(),
                publish,
                b"2",
                Default::default(),
            )
            .await
            .unwrap();
        match sent.await {
            Ok(confirm) => {
                if confirm.take_message().is_none() {
                    break;
                }
            }
            // Without the exchange the broker closes the channel.
            Err(_) => {
                channel = admin.channel().await;
                channel.confirm_select(confirmed).await.unwrap();
            }
        }
        assert!(lost.elapsed() < LONG, "the binding does not come back");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let delivery = next(&mut deliveries).await;
    assert_eq!(delivery.message().unwrap().topic(), topics[7]);
    delivery.settle(Settlement::Ack);
    end(&*link).await;
    admin.forget(&service, &refs(&topics)).await;
}
