//! What a real broker delivers, and what becomes of it.

#![allow(
    clippy::unwrap_used,
    reason = "tests say what they expect by unwrapping"
)]

mod support;

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use final_amqp::{Amqp, QueueKind};
use final_core::{
    Message, MessageId,
    broker::{Broker, Cause, Confirm, Delivery, Isolation, LinkState, Settlement},
    received::HeaderValue,
};
use lapin::{
    BasicProperties, ExchangeKind,
    options::ExchangeDeclareOptions,
    types::{AMQPValue, DecimalValue, FieldArray, FieldTable, LongString},
};
use support::*;
use tokio::sync::mpsc;

/// Publishes so many, and waits until they are stored.
async fn publish(sender: &mut Sender, topic: &str, count: usize) -> HashSet<MessageId> {
    let sent: HashSet<_> = (0..count)
        .map(|number| sender.send(Message::new(topic, number.to_string())))
        .collect();
    for _ in 0..count {
        assert_eq!(sender.answer().await.1, Confirm::Stored);
    }
    sent
}

async fn take(deliveries: &mut mpsc::Receiver<Delivery>, count: usize) -> Vec<Delivery> {
    let mut taken = Vec::new();
    for _ in 0..count {
        taken.push(next(deliveries).await);
    }
    taken
}

fn id(delivery: &Delivery) -> MessageId {
    delivery.message().unwrap().id()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_arrives_as_it_was_sent() {
    for kind in [QueueKind::Quorum, QueueKind::Classic] {
        let (service, topic) = (name("s"), name("t"));
        let opened = amqp()
            .queue_kind(kind)
            .open(setup(&service, &[&topic]))
            .await
            .unwrap();
        let (link, mut deliveries) = (opened.link, opened.deliveries);
        wait_for(&*link, LinkState::Ready).await;
        let mut sender = Sender::new(link.clone());
        let sent = Message::new(topic.as_str(), vec![0, 159, 146, 150])
            .with_key("42")
            .with_header("tenant", "åcme")
            .with_header("x-request-id", "r")
            .with_content_type("application/json")
            .with_durable(false);
        assert_eq!(
            sender.confirm(Isolation::Shared, sent.clone()).await,
            Confirm::Stored
        );

        let delivery = next(&mut deliveries).await;
        let got = delivery.message().unwrap();
        assert_eq!(got.id(), sent.id());
        assert_eq!(got.topic(), topic);
        assert_eq!(got.key(), Some("42"));
        assert_eq!(got.headers(), sent.headers());
        assert_eq!(got.payload(), sent.payload());
        assert_eq!(got.content_type(), "application/json");
        assert!(!got.is_durable());
        delivery.settle(Settlement::Ack);
        end(&*link).await;
        let admin = Admin::new().await;
        assert_eq!(admin.drain(&service).await, [], "acked");
        admin.forget(&service, &[&topic]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_message_is_delivered_once_and_acked() {
    let (service, topic) = (name("s"), name("t"));
    let opened = amqp()
        .prefetch(50)
        .open(setup(&service, &[&topic]))
        .await
        .unwrap();
    let (link, mut deliveries) = (opened.link, opened.deliveries);
    wait_for(&*link, LinkState::Ready).await;
    let mut sender = Sender::new(link.clone());
    let sent = publish(&mut sender, &topic, 1_000).await;

    // Settled out of order, and one held back to the end.
    let held = next(&mut deliveries).await;
    let mut seen = HashSet::from([id(&held)]);
    while seen.len() < sent.len() {
        let mut batch = take(&mut deliveries, (sent.len() - seen.len()).min(20)).await;
        while !batch.is_empty() {
            let delivery = batch.swap_remove(fastrand::usize(..batch.len()));
            assert!(seen.insert(id(&delivery)), "delivered twice");
            delivery.settle(Settlement::Ack);
        }
    }
    assert_eq!(seen, sent);
    held.settle(Settlement::Ack);
    end(&*link).await;
    let admin = Admin::new().await;
    assert_eq!(admin.drain(&service).await, []);
    admin.forget(&service, &[&topic]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_than_the_prefetch_is_in_flight() {
    let (service, topic) = (name("s"), name("t"));
    let opened = amqp()
        .prefetch(10)
        .open(setup(&service, &[&topic]))
        .await
        .unwrap();
    let (link, mut deliveries) = (opened.link, opened.deliveries);
    wait_for(&*link, LinkState::Ready).await;
    let mut sender = Sender::new(link.clone());
    publish(&mut sender, &topic, 40).await;

    let in_flight = take(&mut deliveries, 10).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(deliveries.try_recv().is_err());
    drop(in_flight);
    // They are requeued, so all forty still come.
    for _ in 0..40 {
        next(&mut deliveries).await.settle(Settlement::Ack);
    }
    end(&*link).await;
    Admin::new().await.forget(&service, &[&topic]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_settles_nothing_holds_little_more_than_its_handlers() {
    let (service, topic) = (name("s"), name("t"));
    let mut setup = setup(&service, &[&topic]);
    (setup.concurrency, setup.num_subscribers) = (4, 1);
    let opened = amqp().open(setup).await.unwrap();
    let (link, mut deliveries) = (opened.link, opened.deliveries);
    wait_for(&*link, LinkState::Ready).await;
    let mut sender = Sender::new(link.clone());
    publish(&mut sender, &topic, 100).await;

    let held = take(&mut deliveries, 4).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut beyond = 0;
    while let Ok(delivery) = deliveries.try_recv() {
        drop(delivery);
        beyond += 1;
    }

    assert!(beyond <= 2, "{beyond} more than there are handlers");
    drop(held);
    end(&*link).await;
    Admin::new().await.forget(&service, &[&topic]).await;
}

/// Bursts make the prefetch grow. Each change is another consumer.
#[tokio::test(flavor = "multi_thread")]
async fn every_message_is_delivered_once_while_one_consumer_replaces_another() {
    for kind in [QueueKind::Quorum, QueueKind::Classic] {
        let (service, topic) = (name("s"), name("t"));
        let mut setup = setup(&service, &[&topic]);
        (setup.concurrency, setup.num_subscribers) = (1, 1);
        let opened = amqp().queue_kind(kind).open(setup).await.unwrap();
        let (link, mut deliveries) = (opened.link, opened.deliveries);
        wait_for(&*link, LinkState::Ready).await;
        let mut sender = Sender::new(link.clone());

        for _ in 0..2 {
            let sent = publish(&mut sender, &topic, 2_000).await;
            let mut seen = HashSet::new();
            let mut held = Vec::new();
            while seen.len() < sent.len() {
                let delivery = next(&mut deliveries).await;
                assert!(seen.insert(id(&delivery)), "delivered twice");
                // A quorum queue takes back what is on its way to a consumer that is cancelled.
                assert!(!delivery.message().unwrap().received().redelivered);
                // Some are settled late, and in another order.
                match seen.len() % 10 {
                    0 => held.push(delivery),
                    5 => {
                        held.pop()
                            .into_iter()
                            .for_each(|held| held.settle(Settlement::Ack));
                        delivery.settle(Settlement::Ack);
                    }
                    _ => delivery.settle(Settlement::Ack),
                }
            }
            assert_eq!(seen, sent);
            for delivery in held {
                delivery.settle(Settlement::Ack);
            }
        }
        end(&*link).await;
        let admin = Admin::new().await;
        assert_eq!(admin.drain(&service).await, [], "acked");
        admin.forget(&service, &[&topic]).await;
    }
}

/// After a burst the window is larger than wanted. Messages that come one by one meet any moment in which it changes.
#[tokio::test(flavor = "multi_thread")]
async fn no_message_comes_again_while_a_window_is_too_large() {
    let bus = async || {
        let (service, topic) = (name("s"), name("t"));
        let mut setup = setup(&service, &[&topic]);
        (setup.concurrency, setup.num_subscribers) = (1, 1);
        let opened = amqp().open(setup).await.unwrap();
        let (link, mut deliveries) = (opened.link, opened.deliveries);
        wait_for(&*link, LinkState::Ready).await;
        let mut sender = Sender::new(link.clone());
        publish(&mut sender, &topic, 700).await;
        for _ in 0..700 {
            next(&mut deliveries).await.settle(Settlement::Ack);
        }
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(3_500) {
            publish(&mut sender, &topic, 1).await;
            let delivery = next(&mut deliveries).await;
            assert!(!delivery.message().unwrap().received().redelivered);
            delivery.settle(Settlement::Ack);
            tokio::time::sleep(Duration::from_millis(fastrand::u64(..8))).await;
        }
        end(&*link).await;
        Admin::new().await.forget(&service, &[&topic]).await;
    };
    futures::future::join_all((0..6).map(|_| bus())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redelivered_message_is_a_suspect_unless_this_process_gave_it_back() {
    let (service, topic) = (name("s"), name("t"));
    let opened = amqp().open(setup(&service, &[&topic])).await.unwrap();
    let (link, mut deliveries) = (opened.link, opened.deliveries);
    wait_for(&*link, LinkState::Ready).await;
    let mut sender = Sender::new(link.clone());
    publish(&mut sender, &topic, 1).await;

    let delivery = next(&mut deliveries).await;
    assert!(!delivery.is_suspect());
    delivery.settle(Settlement::Requeue);
    let again = next(&mut deliveries).await;
    assert!(again.message().unwrap().received().redelivered);
    assert!(!again.is_suspect());
    drop((link, deliveries, sender));

    // For the broker this is another process.
    let opened = amqp().open(setup(&service, &[&topic])).await.unwrap();
    let (link, mut deliveries) = (opened.link, opened.deliveries);
    let again = next(&mut deliveries).await;
    assert!(again.is_suspect());
    again.settle(Settlement::Ack);
    end(&*link).await;
    Admin::new().await.forget(&service, &[&topic]).await;
}

/// A classic queue does not count.
#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_tells_how_often_it_came() {
    for (kind, times) in [
        (QueueKind::Quorum, [1, 2, 3]),
        (QueueKind::Classic, [1, 2, 2]),
    ] {
        let (service, topic) = (name("s"), name("t"));
        let broker = amqp().queue_kind(kind);
        let opened = broker.open(setup(&service, &[&topic])).await.unwrap();
        let (link, mut deliveries) = (opened.link, opened.deliveries);
        wait_for(&*link, LinkState::Ready).await;
        publish(&mut Sender::new(link.clone()), &topic, 1).await;

        for expected in times {
            let delivery = next(&mut deliveries).await;
            assert_eq!(
                (delivery.times(), delivery.place()),
                (expected, None),
                "{kind:?}"
            );
            delivery.settle(Settlement::Requeue);
        }
        next(&mut deliveries).await.settle(Settlement::Ack);
        end(&*link).await;
        Admin::new().await.forget(&service, &[&topic]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_finished_is_requeued_by_shutdown() {
    let (service, topic) = (name("s"), name("t"));
    let opened = amqp().open(setup(&service, &[&topic])).await.unwrap();
    let (link, mut deliveries) = (opened.link, opened.deliveries);
    wait_for(&*link, LinkState::Ready).await;
    let mut sender = Sender::new(link.clone());
    let sent = publish(&mut sender, &topic, 60).await;
    let mut done = HashSet::new();
    for delivery in take(&mut deliveries, 20).await {
        done.insert(id(&delivery));
        delivery.settle(Settlement::Ack);
    }
    let in_flight = take(&mut deliveries, 10).await;

    link.stop_consuming(LONG).await;
    // The stream ends; deliveries left in it are dropped, so they are requeued.
    while let Some(delivery) = deliveries.recv().await {
        drop(delivery);
    }
    link.finish_consuming(LONG).await;
    link.close(LONG).await;
    // Void by now.
    for delivery in in_flight {
        delivery.settle(Settlement::Ack);
    }

    let admin = Admin::new().await;
    let left: HashSet<_> = admin.drain(&service).await.into_iter().collect();
    assert_eq!(left, &sent - &done);
    admin.forget(&service, &[&topic]).await;
}

/// For queues that are deleted while somebody declares them: RabbitMQ 3.10 can then refuse a quorum
/// queue of that name for good (`cluster_not_formed`).
fn classic() -> final_amqp::Amqp {
    amqp().queue_kind(QueueKind::Classic)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_queue_comes_back() {
    let (service, topic) = (name("s"), name("t"));
    let opened = classic().open(setup(&service, &[&topic])).await.unwrap();
    let (link, mut deliveries) = (opened.link, opened.deliveries);
    wait_for(&*link, LinkState::Ready).await;
    let mut sender = Sender::new(link.clone());
    publish(&mut sender, &topic, 1).await;
    next(&mut deliveries).await.settle(Settlement::Ack);

    let admin = Admin::new().await;
    admin.delete_queue(&service).await;
    // Unroutable until the queue is back.
    let message = Message::new(topic.as_str(), "again");
    while sender.confirm(Isolation::Shared, message.clone()).await == Confirm::Unroutable {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    let delivery = next(&mut deliveries).await;
    assert_eq!(id(&delivery), message.id());
    delivery.settle(Settlement::Ack);
    end(&*link).await;
    admin.forget(&service, &[&topic]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_deleted_again_and_again_comes_back_bound() {
    let (service, topic) = (name("s"), name("t"));
    let opened = classic().open(setup(&service, &[&topic])).await.unwrap();
    let (link, mut deliveries) = (opened.link, opened.deliveries);
    wait_for(&*link, LinkState::Ready).await;
    let mut sender = Sender::new(link.clone());
    let admin = Admin::new().await;
    // Some of these hit the service while it declares.
    for _ in 0..8 {
        admin.delete_queue(&service).await;
        tokio::time::sleep(Duration::from_millis(fastrand::u64(20..200))).await;
    }
    let message = Message::new(topic.as_str(), "again");
    while sender.confirm(Isolation::Shared, message.clone()).await == Confirm::Unroutable {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    next(&mut deliveries).await.settle(Settlement::Ack);
    end(&*link).await;
    admin.forget(&service, &[&topic]).await;
}

/// lapin tells the end of a consumer once, and it can stand behind deliveries that came with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_queue_deleted_right_behind_its_deliveries_comes_back() {
    let (service, topic) = (name("s"), name("t"));
    let proxy = proxy::Proxy::start().await;
    let amqp = Amqp::new(proxy.url()).unwrap();
    let amqp = amqp.queue_kind(QueueKind::Classic);
    let mut setup = setup(&service, &[&topic]);
    setup.num_subscribers = 1;
    let opened = amqp.open(setup).await.unwrap();
    let (link, mut deliveries) = (opened.link, opened.deliveries);
    wait_for(&*link, LinkState::Ready).await;
    let (mut sender, admin) = (Sender::new(link.clone()), Admin::new().await);
    for _ in 0..5 {
        proxy.mute(true);
        for _ in 0..5 {
            admin
                .publish(&topic, &topic, BasicProperties::default(), b"held")
                .await;
        }
        admin.delete_queue(&service).await;
        proxy.mute(false);
        let message = Message::new(topic.as_str(), "again");
        while sender.confirm(Isolation::Shared, message.clone()).await != Confirm::Stored {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        while id(&next(&mut deliveries).await) != message.id() {}
    }
    end(&*link).await;
    admin.forget(&service, &[&topic]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_connection_is_rebuilt_and_delivers_again() {
    let proxy = proxy::Proxy::start().await;
    let (service, topic) = (name("s"), name("t"));
    let amqp = final_amqp::Amqp::new(proxy.url()).unwrap();
    let mut setup = setup(&service, &[&topic]);
    // As many are in flight below.
    setup.concurrency = 50;
    let opened = amqp.open(setup).await.unwrap();
    let (link, mut deliveries) = (opened.link, opened.deliveries);
    let other = publisher(&support::amqp()).await;
    let mut sender = Sender::new(other.clone());
    let mut sent = publish(&mut sender, &topic, 200).await;
    let mut done = HashSet::new();
    for _ in 0..3 {
        let in_flight = take(&mut deliveries, 50).await;
        // Deliveries in flight may still be of the connection before: wait for one to cut.
        while proxy.cut() == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // Void, as the connection they came over is gone; the broker delivers them again.
        for delivery in in_flight {
            delivery.settle(Settlement::Ack);
        }
        sent.extend(publish(&mut sender, &topic, 50).await);
    }
    while done.len() < sent.len() {
        let delivery = next(&mut deliveries).await;
        done.insert(id(&delivery));
        delivery.settle(Settlement::Ack);
    }
    assert_eq!(done, sent);
    end(&*link).await;
    end(&*other).await;
    let admin = Admin::new().await;
    let left: Vec<_> = admin.drain(&service).await;
    assert!(left.iter().all(|id| done.contains(id)));
    admin.forget(&service, &[&topic]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_declared_without_topics() {
    let service = name("s");
    let opened = amqp().open(setup(&service, &[])).await.unwrap();
    wait_for(&*opened.link, LinkState::Ready).await;
    end(&*opened.link).await;

    let admin = Admin::new().await;
    assert!(!admin.exists(&service).await);
    assert!(!admin.exists(&format!("{service}_dlx")).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_can_have_a_name_of_its_own() {
    let (service, topic, queue) = (name("s"), name("t"), name("Queue.of.mine"));
    let opened = amqp()
        .queue(&*queue)
        .open(setup(&service, &[&topic]))
        .await
        .unwrap();
    let admin = Admin::new().await;

    assert!(admin.exists(&queue).await);
    assert!(!admin.exists(&service).await);
    end(&*opened.link).await;
    admin.delete_queue(&queue).await;
    admin.forget(&service, &[&topic]).await;
}

/// The exchange was there before, and is of another kind.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_a_fanout_exchange_has_its_topic_whatever_the_routing_key_is() {
    let (service, topic) = (name("s"), name("t"));
    let admin = Admin::new().await;
    let durable = ExchangeDeclareOptions {
        durable: true,
        ..Default::default()
    };
    let channel = admin.channel().await;
    let fanout = ExchangeKind::Fanout;
    channel
        .exchange_declare(
            topic.as_str().into(),
            fanout,
            durable,
            FieldTable::default(),
        )
        .await
        .unwrap();
    let opened = amqp().open(setup(&service, &[&topic])).await.unwrap();
    let (link, mut deliveries) = (opened.link, opened.deliveries);
    for key in ["", "created.eu", &topic] {
        admin
            .publish(&topic, key, BasicProperties::default(), b"body")
            .await;

        let delivery = next(&mut deliveries).await;
        let message = delivery.message().unwrap();
        let received = message.received();

        assert_eq!(message.topic(), topic);
        assert_eq!(received.exchange.as_deref(), Some(&*topic));
        assert_eq!(received.routing_key.as_deref(), Some(key));
        delivery.settle(Settlement::Ack);
    }
    end(&*link).await;
    admin.forget(&service, &[&topic]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_has_headers_and_properties_of_another_producer_and_so_has_the_dead_letter() {
    let (service, topic) = (name("s"), name("t"));
    let opened = amqp().open(setup(&service, &[&topic])).await.unwrap();
    let (link, mut deliveries) = (opened.link, opened.deliveries);
    let admin = Admin::new().await;
    let long = |text: &str| AMQPValue::LongString(text.into());
    let decimal = DecimalValue {
        scale: 2,
        value: 1250,
    };
    let headers = [
        ("x-request-id", long("r"), Some("r")),
        ("X-B3-TraceId", long("b"), Some("b")),
        ("traceparent", long("00-1"), Some("00-1")),
        ("ratio", AMQPValue::Double(1.5), Some("1.5")),
        (
            "sent",
            AMQPValue::Timestamp(1_709_164_800),
            Some("2024-02-29T00:00:00Z"),
        ),
        ("price", AMQPValue::DecimalValue(decimal), Some("12.50")),
        (
            "tenant",
            AMQPValue::ByteArray(b"acme".to_vec().into()),
            Some("acme"),
        ),
        ("nothing", AMQPValue::Void, None),
        ("list", AMQPValue::FieldArray(vec![long("a")].into()), None),
    ];
    let mut table = FieldTable::default();
    for (name, value, _) in &headers {
        table.insert((*name).into(), value.clone());
    }
    let properties = BasicProperties::default()
        .with_headers(table)
        .with_message_id("17".into())
        .with_correlation_id("c".into())
        .with_reply_to("replies".into())
        .with_type("created".into())
        .with_content_encoding("utf-8".into())
        .with_timestamp(1_709_164_800)
        .with_priority(3)
        .with_app_id("billing".into())
        .with_user_id("guest".into());
    admin.publish(&topic, &topic, properties, b"body").await;

    let first = next(&mut deliveries).await;
    assert!(!first.message().unwrap().received().redelivered);
    // A consumer that is lost counts on every RabbitMQ. What it hands back does not count since 4.3.
    drop((link, deliveries, first));
    let opened = amqp().open(setup(&service, &[&topic])).await.unwrap();
    let (link, mut deliveries) = (opened.link, opened.deliveries);
    let again = next(&mut deliveries).await;
    let message = again.message().unwrap().clone();
    let received = message.received();

    for (name, _, text) in &headers {
        assert_eq!(message.headers().get(name), *text, "{name}");
        assert!(received.headers.contains_key(*name), "{name}");
    }
    assert_eq!(message.headers().get("x-delivery-count"), None);
    assert!(received.redelivered);
    // The message may have come once more before its connection ended.
    let count = received.delivery_count;
    assert!(
        count.is_some_and(|count| count >= 1),
        "a quorum queue: {count:?}"
    );
    assert_eq!(received.headers["nothing"], HeaderValue::Nil);
    let text = HeaderValue::Text("a".to_owned());
    assert_eq!(received.headers["list"], HeaderValue::List(vec![text]));
    assert_eq!(received.message_id.as_deref(), Some("17"));
    assert_eq!(received.correlation_id.as_deref(), Some("c"));
    assert_eq!(received.reply_to.as_deref(), Some("replies"));
    assert_eq!(received.kind.as_deref(), Some("created"));
    assert_eq!(received.content_encoding.as_deref(), Some("utf-8"));
    assert_eq!(received.app_id.as_deref(), Some("billing"));
    assert_eq!(received.user_id.as_deref(), Some("guest"));
    assert_eq!(received.priority, Some(3));
    let sent = std::time::UNIX_EPOCH + Duration::from_secs(1_709_164_800);
    assert_eq!(received.timestamp, Some(sent));

    again.settle(Settlement::DeadLetter(Cause::new("why", 1)));
    let letter = admin.get(&format!("{service}_dlx")).await.delivery;
    let kept = letter.properties.headers().as_ref().unwrap().inner();
    for (name, value, _) in headers {
        assert_eq!(kept[name], value, "{name}");
    }
    end(&*link).await;
    admin.forget(&service, &[&topic]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_deliveries_are_told_apart_and_do_no_harm() {
    let (service, topic) = (name("s"), name("t"));
    let opened = amqp().open(setup(&service, &[&topic])).await.unwrap();
    let (link, mut deliveries) = (opened.link, opened.deliveries);
    let admin = Admin::new().await;
    let with = |name: &str, value: AMQPValue| {
        let mut headers = FieldTable::default();
        headers.insert(name.into(), value);
        BasicProperties::default().with_headers(headers)
    };
    let mut deep = AMQPValue::Void;
    for _ in 0..50 {
        deep = AMQPValue::FieldArray(FieldArray::from(vec![deep]));
    }
    let bad = [
        with("x-final-msg-topic", AMQPValue::LongLongInt(1)),
        with("x-final-msg-topic", AMQPValue::LongString("".into())),
        with(
            "x-final-msg-topic",
            AMQPValue::LongString(LongString::from(vec![0xff])),
        ),
        with("x-final-msg-topic", AMQPValue::LongString("a\u{7}b".into())),
    ];
    let odd = [
        BasicProperties::default(),
        BasicProperties::default()
            .with_message_id("no uuid".into())
            .with_content_type("".into()),
        with("deep", deep),
        with("x-final-key", AMQPValue::Boolean(true)),
        with("big", AMQPValue::LongString("x".repeat(100_000).into())),
    ];
    let count = bad.len() + odd.len();
    for properties in bad.iter().chain(&odd) {
        admin
            .publish(&topic, &topic, properties.clone(), b"\xff")
            .await;
    }
    let taken = take(&mut deliveries, count).await;
    let refused = taken.iter().filter(|one| one.message().is_err()).count();
    assert_eq!(refused, bad.len());
    for delivery in taken {
        match delivery.message() {
            Ok(message) => {
                assert_eq!(message.topic(), topic);
                assert_eq!(message.content_type(), "application/msgpack");
            }
            Err(reason) => assert!(reason.contains("topic"), "{reason}"),
        }
        delivery.settle(Settlement::Ack);
    }
    end(&*link).await;
    assert_eq!(admin.drain(&service).await, []);
    admin.forget(&service, &[&topic]).await;
}
