//! Queues and exchanges that others have made.

use final_amqp::{Declare, QueueKind};
use final_core::{
    Message,
    broker::{Broker, BrokerErrorKind, Cause, Confirm, Isolation, LinkState, Settlement},
};
use futures::future::join_all;
use lapin::{
    BasicProperties, ExchangeKind,
    options::{ExchangeBindOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};

use crate::support::*;

fn long(value: i64) -> AMQPValue {
    AMQPValue::LongLongInt(value)
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

fn table(arguments: &[(&str, AMQPValue)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in arguments {
        table.insert((*name).into(), value.clone());
    }
    table
}

/// Makes a queue as somebody else does.
async fn make(queue: &str, arguments: &[(&str, AMQPValue)]) {
    let admin = Admin::new().await;
    let options = QueueDeclareOptions::durable();
    let declared = admin
        .channel()
        .await
        .queue_declare(queue.into(), options, table(arguments))
        .await;
    declared.unwrap();
}

async fn make_exchange(name: &str, kind: ExchangeKind) {
    let admin = Admin::new().await;
    let options = ExchangeDeclareOptions {
        durable: true,
        ..Default::default()
    };
    let declared = admin
        .channel()
        .await
        .exchange_declare(name.into(), kind, options, FieldTable::default())
        .await;
    declared.unwrap();
}

/// What others declare their queues with.
fn queues() -> Vec<Vec<(&'static str, AMQPValue)>> {
    let kind = |kind| ("x-queue-type", text(kind));
    let both = [
        ("x-message-ttl", long(3_600_000)),
        ("x-single-active-consumer", AMQPValue::Boolean(true)),
        ("x-max-length", long(1_000)),
        ("x-max-length-bytes", long(1_000_000)),
        ("x-dead-letter-exchange", text("amq.fanout")),
        ("x-expires", long(3_600_000)),
    ];
    let mut queues = vec![
        vec![],
        vec![kind("classic")],
        vec![kind("quorum")],
        vec![kind("quorum"), ("x-delivery-limit", long(9))],
        vec![("x-max-priority", long(5))],
        vec![("x-queue-mode", text("lazy"))],
        vec![("x-overflow", text("reject-publish"))],
    ];
    for argument in both {
        queues.push(vec![argument.clone()]);
        queues.push(vec![kind("quorum"), argument]);
    }
    queues
}

/// Consumes from a queue with these arguments, and stores a dead letter.
async fn is_consumed_from(arguments: Vec<(&str, AMQPValue)>, declare: Declare) {
    let (service, topic) = (name("s"), name("t"));
    make(&service, &arguments).await;
    let admin = Admin::new().await;
    if declare == Declare::Nothing {
        let exchange = format!("{service}_exchange_dlx");
        make_exchange(&exchange, ExchangeKind::Fanout).await;
        make(&format!("{service}_dlx"), &[]).await;
        let channel = admin.channel().await;
        for (queue, exchange) in [
            (format!("{service}_dlx"), exchange),
            (service.clone(), topic.clone()),
        ] {
            if exchange == topic {
                make_exchange(&topic, ExchangeKind::Fanout).await;
            }
            channel
                .queue_bind(
                    queue.as_str().into(),
                    exchange.as_str().into(),
                    "".into(),
                    QueueBindOptions::default(),
                    FieldTable::default(),
                )
                .await
                .unwrap();
        }
    }
    let amqp = amqp().declare(declare);
    let opened = amqp.open(setup(&service, &[&topic])).await;
    let opened = opened.unwrap_or_else(|error| panic!("{arguments:?}: {error}"));
    let (link, mut deliveries) = (opened.link, opened.deliveries);
    for _ in 0..2 {
        let properties = BasicProperties::default();
        admin.publish(&topic, &topic, properties, b"\x01").await;
    }
    next(&mut deliveries).await.settle(Settlement::Ack);
    let refused = Settlement::DeadLetter(Cause::new("no".to_owned(), 1));
    next(&mut deliveries).await.settle(refused);
    admin.get(&format!("{service}_dlx")).await;
    end(&*link).await;
    admin.forget(&service, &[&topic]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_of_any_arguments_is_consumed_from_if_only_what_is_missing_is_declared() {
    let all = queues()
        .into_iter()
        .map(|arguments| is_consumed_from(arguments, Declare::Missing));
    join_all(all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_of_any_arguments_is_consumed_from_if_nothing_is_declared() {
    let all = queues()
        .into_iter()
        .map(|arguments| is_consumed_from(arguments, Declare::Nothing));
    join_all(all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_queues_and_exchanges_are_declared_as_ever() {
    let (service, topic) = (name("s"), name("t"));
    for declare in [Declare::Missing, Declare::All] {
        let amqp = amqp().declare(declare);
        let opened = amqp.open(setup(&service, &[&topic])).await.unwrap();
        end(&*opened.link).await;
    }
    Admin::new().await.forget(&service, &[&topic]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_ends_with_its_last_consumer_is_taken_too() {
    let (service, topic) = (name("s"), name("t"));
    let admin = Admin::new().await;
    let options = QueueDeclareOptions {
        auto_delete: true,
        ..QueueDeclareOptions::durable()
    };
    let channel = admin.channel().await;
    let declared = channel.queue_declare(service.as_str().into(), options, FieldTable::default());
    declared.await.unwrap();
    let amqp = amqp().declare(Declare::Missing);
    let opened = amqp.open(setup(&service, &[&topic])).await.unwrap();
    end(&*opened.link).await;
    Admin::new().await.forget(&service, &[&topic]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_error_of_a_queue_with_other_arguments_names_the_way_to_take_it() {
    for kind in [QueueKind::Quorum, QueueKind::Classic] {
        let (service, topic) = (name("s"), name("t"));
        make(&service, &[("x-max-priority", long(5))]).await;
        let amqp = amqp().queue_kind(kind);

        let error = amqp.open(setup(&service, &[&topic])).await.unwrap_err();

        assert_eq!(error.kind(), BrokerErrorKind::Mismatch);
        let told = error.to_string();
        assert!(
            told.contains("Declare::Missing") && told.contains(&service),
            "{told}"
        );
        Admin::new().await.forget(&service, &[]).await;
    }
}

/// Its messages would stay in it, and none could be requeued.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_refused_by_name() {
    let stream = ("x-queue-type", text("stream"));
    for more in [
        None,
        Some(("x-max-length-bytes", long(1_000_000))),
        Some(("x-max-age", text("1D"))),
    ] {
        for kind in [QueueKind::Quorum, QueueKind::Classic] {
            let (service, topic) = (name("s"), name("t"));
            let arguments: Vec<_> = std::iter::once(stream.clone())
                .chain(more.clone())
                .collect();
            make(&service, &arguments).await;
            let amqp = amqp().queue_kind(kind).declare(Declare::Missing);

            let error = amqp.open(setup(&service, &[&topic])).await.unwrap_err();

            assert_eq!(error.kind(), BrokerErrorKind::Mismatch);
            let told = error.to_string();
            assert!(
                told.contains("is a stream") && told.contains(&service),
                "{told}"
            );
            Admin::new().await.forget(&service, &[&topic]).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_declared_if_that_is_asked_for() {
    let (service, topic) = (name("s"), name("t"));
    make(&service, &[]).await;
    let amqp = amqp().declare(Declare::Nothing);
    let opened = amqp.open(setup(&service, &[&topic])).await.unwrap();
    let (link, mut deliveries) = (opened.link, opened.deliveries);
    let admin = Admin::new().await;
    admin
        .publish("", &service, BasicProperties::default(), b"1")
        .await;
    next(&mut deliveries).await.settle(Settlement::Ack);
    let mut sender = Sender::new(link.clone());
    wait_for(&*link, LinkState::Ready).await;
    let message = Message::new(topic.as_str(), "2");
    let Confirm::Denied(reason) = sender.confirm(Isolation::Shared, message).await else {
        panic!("there is no exchange");
    };
    assert!(reason.contains("Declare::Nothing"), "{reason}");
    end(&*link).await;

    assert!(!admin.exists(&format!("{service}_dlx")).await);
    admin.delete_queue(&service).await;
}

/// It may be made later, as an exchange may.
#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_not_there_is_waited_for_if_nothing_is_declared() {
    let (service, topic) = (name("s"), name("t"));
    let amqp = amqp().declare(Declare::Nothing);
    let opened = amqp.open(setup(&service, &[&topic])).await.unwrap();
    let (link, mut deliveries) = (opened.link, opened.deliveries);

    make(&service, &[]).await;
    let admin = Admin::new().await;
    admin
        .publish("", &service, BasicProperties::default(), b"1")
        .await;
    next(&mut deliveries).await.settle(Settlement::Ack);
    end(&*link).await;
    admin.delete_queue(&service).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_of_another_kind_is_bound_and_published_to() {
    for kind in [
        ExchangeKind::Fanout,
        ExchangeKind::Direct,
        ExchangeKind::Headers,
    ] {
        for declare in [Declare::All, Declare::Missing] {
            let (service, topic) = (name("s"), name("t"));
            make_exchange(&topic, kind.clone()).await;
            let amqp = amqp().declare(declare);
            let opened = amqp.open(setup(&service, &[&topic])).await.unwrap();
            let (link, mut deliveries) = (opened.link, opened.deliveries);
            wait_for(&*link, LinkState::Ready).await;
            let mut sender = Sender::new(link.clone());
            let message = Message::new(topic.as_str(), "1");
            let confirm = sender.confirm(Isolation::Shared, message).await;
            assert_eq!(confirm, Confirm::Stored, "{kind:?}");

            let delivery = next(&mut deliveries).await;
            assert_eq!(delivery.message().unwrap().topic(), topic);
            delivery.settle(Settlement::Ack);
            end(&*link).await;
            Admin::new().await.forget(&service, &[&topic]).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_straight_into_the_queue_has_the_name_of_the_queue_as_its_topic() {
    for declare in [Declare::All, Declare::Missing, Declare::Nothing] {
        let service = name("s");
        if declare != Declare::All {
            make(&service, &[]).await;
        }
        let amqp = amqp().declare(declare);
        let opened = amqp.open(setup(&service, &[&service])).await.unwrap();
        let admin = Admin::new().await;
        let properties = BasicProperties::default();
        admin.publish("", &service, properties, b"1").await;

        let mut deliveries = opened.deliveries;
        let delivery = next(&mut deliveries).await;
        assert_eq!(delivery.message().unwrap().topic(), service);
        delivery.settle(Settlement::Ack);
        end(&*opened.link).await;
        admin.forget(&service, &[&service]).await;
    }
}

/// RabbitMQ names the exchange that the message was published to, and not the one it came through.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_through_a_bound_exchange_has_the_name_of_the_first_exchange() {
    for key in ["", "created.eu"] {
        let (service, topic, first) = (name("s"), name("t"), name("first"));
        make_exchange(&first, ExchangeKind::Fanout).await;
        let topics = [topic.as_str(), first.as_str()];
        let opened = amqp().open(setup(&service, &topics)).await.unwrap();
        let admin = Admin::new().await;
        admin
            .channel()
            .await
            .exchange_bind(
                topic.as_str().into(),
                first.as_str().into(),
                "#".into(),
                ExchangeBindOptions::default(),
                FieldTable::default(),
            )
            .await
            .unwrap();
        let properties = BasicProperties::default();
        admin.publish(&first, key, properties, b"1").await;

        let mut deliveries = opened.deliveries;
        let delivery = next(&mut deliveries).await;
        assert_eq!(delivery.message().unwrap().topic(), first);
        delivery.settle(Settlement::Ack);
        end(&*opened.link).await;
        admin.forget(&service, &topics).await;
    }
}
