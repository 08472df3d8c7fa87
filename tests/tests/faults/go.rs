//! The Go predecessor is on the other end of the wire: its topology and headers, in both directions.

use final_amqp::{Amqp, QueueKind};
use final_core::{Bus, PgBus};
use futures::StreamExt;
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind,
    options::{
        BasicConsumeOptions, BasicPublishOptions, ExchangeDeclareOptions, QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable},
};

use crate::shop::{SOON, Tally, options, pg_bus, service};

/// Declares what a Go service named `service` declares when it subscribes `topic`.
async fn declare_as_go(channel: &Channel, service: &str, topic: &str) {
    let durable = ExchangeDeclareOptions {
        durable: true,
        ..Default::default()
    };
    let dlx = format!("{service}_exchange_dlx");
    let dlq = format!("{service}_dlx");
    channel
        .exchange_declare(
            topic.into(),
            ExchangeKind::Topic,
            durable,
            FieldTable::default(),
        )
        .await
        .expect("exchange");
    channel
        .exchange_declare(
            dlx.as_str().into(),
            ExchangeKind::Fanout,
            durable,
            FieldTable::default(),
        )
        .await
        .expect("dlx");
    let queue = QueueDeclareOptions::durable();
    channel
        .queue_declare(dlq.as_str().into(), queue, FieldTable::default())
        .await
        .expect("dlq");
    channel
        .queue_bind(
            dlq.as_str().into(),
            dlx.as_str().into(),
            "".into(),
            Default::default(),
            FieldTable::default(),
        )
        .await
        .expect("bound");
    let mut arguments = FieldTable::default();
    arguments.insert(
        "x-dead-letter-exchange".into(),
        AMQPValue::LongString(dlx.into()),
    );
    channel
        .queue_declare(service.into(), queue, arguments)
        .await
        .expect("queue");
    channel
        .queue_bind(
            service.into(),
            topic.into(),
            topic.into(),
            Default::default(),
            FieldTable::default(),
        )
        .await
        .expect("bound");
}

async fn channel(url: &str) -> (Connection, Channel) {
    let connection = Connection::connect(url, ConnectionProperties::default())
        .await
        .expect("RabbitMQ");
    let channel = connection.create_channel().await.expect("channel");
    (connection, channel)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_go_service_receives_what_ours_publishes() {
    let vhost = final_tests::amqp_vhost().await.expect("RabbitMQ");
    let url = vhost.url().to_owned();
    let (_connection, channel) = channel(&url).await;
    let topic = format!("{}.placed", service());
    declare_as_go(&channel, "go-service", &topic).await;
    let bus = pg_bus(&service(), &url).await;
    bus.start(final_core::Router::new()).await.expect("start");

    let id = bus
        .publish(&topic, &42_i64)
        .key("k")
        .header("tenant", "acme")
        .await
        .expect("publish");

    let mut consumer = channel
        .basic_consume(
            "go-service".into(),
            "go".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await
        .expect("consumer");
    let delivery = tokio::time::timeout(SOON, consumer.next())
        .await
        .expect("in time")
        .expect("one")
        .expect("good");
    let headers = delivery.properties.headers().clone().expect("headers");
    let text = |name: &str| match headers.inner().get(name) {
        Some(AMQPValue::LongString(text)) => text.to_string(),
        other => panic!("{name}: {other:?}"),
    };
    assert_eq!(delivery.data, rmp_serde::to_vec(&42_i64).expect("encoded"));
    assert_eq!(text("x-final-msg-topic"), topic);
    assert_eq!(text("tenant"), "acme");
    assert_eq!(text("x-final-key"), "k");
    assert_eq!(delivery.exchange.as_str(), topic);
    assert_eq!(delivery.routing_key.as_str(), topic);
    assert_eq!(
        delivery
            .properties
            .message_id()
            .as_ref()
            .expect("an id")
            .as_str(),
        id.to_string()
    );
    assert_eq!(*delivery.properties.delivery_mode(), Some(2));
    bus.shutdown().await.expect("shutdown");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ours_receives_what_a_go_service_publishes_into_a_queue_that_go_declared() {
    let vhost = final_tests::amqp_vhost().await.expect("RabbitMQ");
    let url = vhost.url().to_owned();
    let (_connection, channel) = channel(&url).await;
    let service = service();
    let topic = format!("{service}.placed");
    declare_as_go(&channel, &service, &topic).await;
    let mut headers = FieldTable::default();
    headers.insert(
        "x-final-msg-topic".into(),
        AMQPValue::LongString(topic.as_str().into()),
    );
    let properties = BasicProperties::default()
        .with_headers(headers)
        .with_content_type("string".into())
        .with_reply_to("go-service".into())
        .with_message_id(uuid::Uuid::now_v7().to_string().into())
        .with_delivery_mode(2);
    let body = rmp_serde::to_vec(&7_i64).expect("encoded");
    let publish = channel.basic_publish(
        topic.as_str().into(),
        topic.as_str().into(),
        BasicPublishOptions::default(),
        &body,
        properties,
    );
    publish.await.expect("published").await.expect("sent");

    let pool = sqlx::PgPool::connect(&final_tests::pg_database().await.expect("PostgreSQL"))
        .await
        .expect("PostgreSQL");
    let broker = Amqp::new(&url)
        .expect("a URL")
        .queue_kind(QueueKind::Classic);
    let bus: PgBus = Bus::new(&service, pool, broker).with_options(options());
    let tally = Tally::default();
    bus.start(tally.router(&topic))
        .await
        .expect("the Go service's queue is accepted");

    tally.has_all(7..8).await;
    bus.shutdown().await.expect("shutdown");
}

/// The name of the Go service breaks our rule for names. Its queue and its dead-letter queue keep that name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ours_takes_over_the_queue_of_a_go_service_with_another_name() {
    let vhost = final_tests::amqp_vhost().await.expect("RabbitMQ");
    let (_connection, channel) = channel(vhost.url()).await;
    let go = final_tests::unique("Shop");
    let topic = format!("{go}.placed");
    declare_as_go(&channel, &go, &topic).await;

    let database = final_tests::pg_database().await.expect("PostgreSQL");
    let pool = sqlx::PgPool::connect(&database).await.expect("connected");
    let broker = Amqp::new(vhost.url()).expect("a URL");
    let broker = broker.queue_kind(QueueKind::Classic).queue(&go);
    let bus: PgBus = Bus::new(service(), pool, broker).with_options(options().retry_count(0));
    let fails = async || Err::<(), _>("on purpose");
    bus.start(final_core::Router::new().route(&topic, fails))
        .await
        .expect("the queue is accepted");
    bus.publish(&topic, &1_i64).await.expect("publish");

    let dead = final_tests::take(vhost.url(), &format!("{go}_dlx"), 1, SOON).await;
    assert_eq!(
        dead[0].header("x-final-reason").as_deref(),
        Some("on purpose")
    );
    bus.shutdown().await.expect("shutdown");
}
