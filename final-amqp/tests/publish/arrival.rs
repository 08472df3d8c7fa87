//! Messages arrive, as they were and in time.

use std::time::Duration;

use final_core::broker::{Confirm, Isolation, Outgoing};
use lapin::types::AMQPValue;

use crate::{message, support::*};

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_message_arrives_as_it_was() {
    let admin = Admin::new().await;
    let (topic, queue) = (name("t"), name("q"));
    admin.queue(&queue, &topic, &[]).await;
    let link = publisher(&amqp()).await;
    let mut sender = Sender::new(link.clone());
    let sent = message(&topic).with_key("42").with_header("tenant", "acme");

    assert_eq!(
        sender.confirm(Isolation::Shared, sent.clone()).await,
        Confirm::Stored
    );

    let got = admin.get(&queue).await;
    let properties = &got.delivery.properties;
    assert_eq!(got.delivery.data, sent.payload()[..]);
    assert_eq!(
        properties.message_id().as_ref().unwrap().as_str(),
        sent.id().to_string()
    );
    let headers = properties.headers().as_ref().unwrap().inner();
    assert_eq!(headers["tenant"], AMQPValue::LongString("acme".into()));
    assert_eq!(
        headers["x-final-msg-topic"],
        AMQPValue::LongString(topic.as_str().into())
    );
    end(&*link).await;
    admin.delete_queue(&queue).await;
    admin.delete_exchange(&topic).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_of_another_kind_is_used_as_it_is() {
    let admin = Admin::new().await;
    let (topic, queue) = (name("t"), name("q"));
    let channel = admin.channel().await;
    let durable = lapin::options::ExchangeDeclareOptions {
        durable: true,
        ..Default::default()
    };
    channel
        .exchange_declare(
            topic.as_str().into(),
            lapin::ExchangeKind::Fanout,
            durable,
            Default::default(),
        )
        .await
        .unwrap();
    channel
        .queue_declare(
            queue.as_str().into(),
            lapin::options::QueueDeclareOptions::durable(),
            Default::default(),
        )
        .await
        .unwrap();
    channel
        .queue_bind(
            queue.as_str().into(),
            topic.as_str().into(),
            "".into(),
            Default::default(),
            Default::default(),
        )
        .await
        .unwrap();
    let link = publisher(&amqp()).await;
    let mut sender = Sender::new(link.clone());

    assert_eq!(
        sender.confirm(Isolation::Shared, message(&topic)).await,
        Confirm::Stored
    );
    end(&*link).await;
    admin.delete_queue(&queue).await;
    admin.delete_exchange(&topic).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_without_a_confirm_is_sent_as_well() {
    let admin = Admin::new().await;
    let (topic, queue) = (name("t"), name("q"));
    admin.queue(&queue, &topic, &[]).await;
    let link = publisher(&amqp()).await;
    for _ in 0..500 {
        link.send(Outgoing::untracked(message(&topic)));
    }
    // Closing waits for what was sent.
    end(&*link).await;

    assert_eq!(admin.drain(&queue).await.len(), 500);
    admin.delete_queue(&queue).await;
    admin.delete_exchange(&topic).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn time_to_live_counts_on_the_way_and_in_the_queue() {
    let admin = Admin::new().await;
    let (topic, queue) = (name("t"), name("q"));
    admin.queue(&queue, &topic, &[]).await;
    let link = publisher(&amqp()).await;
    let mut sender = Sender::new(link.clone());

    let expired = sender.send_expiring(Isolation::Shared, message(&topic), Duration::ZERO);
    assert_eq!(sender.answer().await, (expired, Confirm::Expired));
    // On a machine with other work one may expire on its way as well.
    let ttl = Duration::from_millis(300);
    let (mut confirm, mut tries) = (Confirm::Expired, 0);
    while confirm == Confirm::Expired && tries < 100 {
        sender.send_expiring(Isolation::Shared, message(&topic), ttl);
        confirm = sender.answer().await.1;
        tries += 1;
    }
    assert_eq!(confirm, Confirm::Stored);
    tokio::time::sleep(Duration::from_millis(600)).await;

    assert_eq!(admin.drain(&queue).await, []);
    end(&*link).await;
    admin.delete_queue(&queue).await;
    admin.delete_exchange(&topic).await;
}
