//! Dead letters: stored before their message is acked, and never lost.

#![allow(
    clippy::unwrap_used,
    reason = "tests say what they expect by unwrapping"
)]

mod support;

use std::{collections::HashSet, time::Duration};

use final_amqp::Amqp;
use final_core::{
    Message, MessageId,
    broker::{Broker, Cause, Confirm, Isolation, LinkState, Settlement},
};
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldArray, FieldTable},
};
use support::{proxy::Proxy, *};

fn dead(reason: &str) -> Settlement {
    Settlement::DeadLetter(Cause::new(reason, 4))
}

/// Takes the next dead letter. The id it has.
async fn id_of_next(admin: &Admin, letters: &str) -> MessageId {
    let letter = admin.get(letters).await.delivery;
    let id = letter.properties.message_id().as_ref().unwrap();
    MessageId::from_text(id.as_str())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_the_original_and_says_why() {
    let (service, topic) = (name("s"), name("t"));
    let opened = amqp().open(setup(&service, &[&topic])).await.unwrap();
    let (link, mut deliveries) = (opened.link, opened.deliveries);
    let admin = Admin::new().await;
    let mut headers = FieldTable::default();
    for (name, value) in [
        (
            "x-final-msg-topic",
            AMQPValue::LongString(topic.as_str().into()),
        ),
        ("x-final-reason", AMQPValue::LongString("forged".into())),
        ("tenant", AMQPValue::LongString("acme".into())),
        ("number", AMQPValue::LongInt(7)),
        ("x-death", AMQPValue::FieldArray(FieldArray::default())),
    ] {
        headers.insert(name.into(), value);
    }
    let properties = BasicProperties::default()
        .with_headers(headers)
        .with_message_id("an id of somebody else".into())
        .with_user_id("guest".into())
        .with_expiration("60000".into())
        .with_delivery_mode(2);
    admin.publish(&topic, &topic, properties, b"body").await;

    next(&mut deliveries).await.settle(dead("the cat ate it"));
    let got = admin.get(&format!("{service}_dlx")).await.delivery;

    assert_eq!(got.data, b"body");
    assert_eq!(got.routing_key.as_str(), topic);
    assert_eq!(got.exchange.as_str(), format!("{service}_exchange_dlx"));
    let message_id = got.properties.message_id().as_ref().unwrap();
    assert_eq!(message_id.as_str(), "an id of somebody else");
    assert!(got.properties.expiration().is_none());
    let headers = got.properties.headers().as_ref().unwrap().inner();
    let text = |text: &str| AMQPValue::LongString(text.into());
    assert_eq!(headers["x-final-reason"], text("the cat ate it"));
    assert_eq!(headers["x-final-attempts"], AMQPValue::LongLongInt(4));
    assert_eq!(headers["x-final-service"], text(&service));
    assert_eq!(headers["x-final-msg-topic"], text(&topic));
    assert_eq!(headers["tenant"], text("acme"));
    assert_eq!(headers["number"], AMQPValue::LongInt(7));
    assert!(headers.contains_key("x-final-time"));
    assert!(!headers.contains_key("x-death"));
    end(&*link).await;
    assert_eq!(admin.drain(&service).await, [], "acked");
    admin.forget(&service, &[&topic]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_are_all_dead_lettered_before_the_end() {
    let (service, topic) = (name("s"), name("t"));
    let proxy = Proxy::start().await;
    let amqp = Amqp::new(proxy.url()).unwrap().prefetch(620);
    let mut setup = setup(&service, &[&topic]);
    // As many are in hand below.
    setup.concurrency = 600;
    let opened = amqp.open(setup).await.unwrap();
    let (link, mut deliveries) = (opened.link, opened.deliveries);
    wait_for(&*link, LinkState::Ready).await;
    let sender = Sender::new(link.clone());
    let sent: HashSet<_> = (0..600)
        .map(|_| sender.send(Message::new(topic.as_str(), "x")))
        .collect();
    let (admin, letters) = (Admin::new().await, format!("{service}_dlx"));
    // From then on a channel for them is open.
    next(&mut deliveries).await.settle(dead("no"));
    let mut found = vec![id_of_next(&admin, &letters).await];
    let mut in_hand = Vec::new();
    for _ in 1..600 {
        in_hand.push(next(&mut deliveries).await);
    }

    // Hundreds are stored before the first is answered, so they do not go one by one.
    proxy.mute(true);
    for delivery in in_hand {
        delivery.settle(dead("no"));
    }
    while found.len() < 400 {
        found.extend(admin.drain(&letters).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    proxy.mute(false);
    end(&*link).await;

    found.extend(admin.drain(&letters).await);
    assert_eq!(found.len(), 600);
    assert_eq!(found.into_iter().collect::<HashSet<_>>(), sent);
    assert_eq!(admin.drain(&service).await, []);
    admin.forget(&service, &[&topic]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_dead_letter_queue_is_declared_again_and_nothing_is_lost() {
    let (service, topic) = (name("s"), name("t"));
    let opened = amqp().open(setup(&service, &[&topic])).await.unwrap();
    let (link, mut deliveries) = (opened.link, opened.deliveries);
    wait_for(&*link, LinkState::Ready).await;
    let sender = Sender::new(link.clone());
    let admin = Admin::new().await;
    let letters = format!("{service}_dlx");
    let (mut sent, mut found) = (HashSet::new(), HashSet::new());
    for round in 0..3 {
        for _ in 0..20 {
            sent.insert(sender.send(Message::new(topic.as_str(), "x")));
        }
        let mut in_flight = Vec::new();
        for _ in 0..20 {
            in_flight.push(next(&mut deliveries).await);
        }
        // Round by round: all there, no queue, no exchange.
        match round {
            1 => admin.delete_queue(&letters).await,
            2 => {
                admin
                    .delete_exchange(&format!("{service}_exchange_dlx"))
                    .await
            }
            _ => {}
        }
        for delivery in in_flight {
            delivery.settle(dead("no"));
        }
        // All of them, before the queue goes away again.
        while !sent.is_subset(&found) {
            found.insert(id_of_next(&admin, &letters).await);
        }
    }
    end(&*link).await;
    found.extend(admin.drain(&letters).await);
    assert_eq!(found, sent);
    assert_eq!(admin.drain(&service).await, []);
    admin.forget(&service, &[&topic]).await;
}

/// The channel they go through stays open, so only the broker's return says that no queue took it.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_that_no_queue_takes_is_published_again() {
    let (service, topic) = (name("s"), name("t"));
    let opened = amqp().open(setup(&service, &[&topic])).await.unwrap();
    let (link, mut deliveries) = (opened.link, opened.deliveries);
    wait_for(&*link, LinkState::Ready).await;
    let mut sender = Sender::new(link.clone());
    let admin = Admin::new().await;
    let letters = format!("{service}_dlx");
    let mut in_flight = Vec::new();
    for _ in 0..2 {
        let message = Message::new(topic.as_str(), "x");
        assert_eq!(
            sender.confirm(Isolation::Shared, message).await,
            Confirm::Stored
        );
        in_flight.push(next(&mut deliveries).await);
    }
    in_flight.remove(0).settle(dead("no"));
    admin.get(&letters).await;

    admin.delete_queue(&letters).await;
    in_flight.remove(0).settle(dead("no"));
    tokio::time::timeout(LONG, async {
        while !admin.exists(&letters).await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap();
    admin.get(&letters).await;

    end(&*link).await;
    assert_eq!(admin.drain(&service).await, []);
    admin.forget(&service, &[&topic]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_stays_in_flight_while_its_dead_letter_is_refused() {
    let (service, topic) = (name("s"), name("t"));
    let opened = amqp()
        .queue_kind(final_amqp::QueueKind::Classic)
        .open(setup(&service, &[&topic]))
        .await
        .unwrap();
    let (link, mut deliveries) = (opened.link, opened.deliveries);
    wait_for(&*link, LinkState::Ready).await;
    let admin = Admin::new().await;
    // A second dead-letter queue that takes nothing: every dead letter is nacked.
    let (full, exchange) = (name("full"), format!("{service}_exchange_dlx"));
    let channel = admin.channel().await;
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongInt(0));
    arguments.insert(
        "x-overflow".into(),
        AMQPValue::LongString("reject-publish".into()),
    );
    channel
        .queue_declare(
            full.as_str().into(),
            lapin::options::QueueDeclareOptions::durable(),
            arguments,
        )
        .await
        .unwrap();
    channel
        .queue_bind(
            full.as_str().into(),
            exchange.as_str().into(),
            "".into(),
            Default::default(),
            Default::default(),
        )
        .await
        .unwrap();
    let mut sender = Sender::new(link.clone());
    let message = Message::new(topic.as_str(), "x");
    assert_eq!(
        sender.confirm(Isolation::Shared, message.clone()).await,
        Confirm::Stored
    );
    next(&mut deliveries).await.settle(dead("no"));
    tokio::time::sleep(Duration::from_millis(500)).await;

    // The end comes while it is still refused: the delivery goes back.
    link.stop_consuming(LONG).await;
    link.finish_consuming(Duration::from_millis(200)).await;
    link.close(LONG).await;
    assert_eq!(admin.drain(&service).await, [message.id()]);
    admin.delete_queue(&full).await;
    admin.forget(&service, &[&topic]).await;
}

/// A message that was sent twice is in the queue twice, with one id. Returns are told apart by ids.
#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_of_one_id_are_all_dead_lettered_though_the_broker_has_returned_them() {
    let (service, topic) = (name("s"), name("t"));
    let proxy = Proxy::start().await;
    let amqp = Amqp::new(proxy.url()).unwrap();
    let opened = amqp.open(setup(&service, &[&topic])).await.unwrap();
    let (link, mut deliveries) = (opened.link, opened.deliveries);
    let (admin, letters) = (Admin::new().await, format!("{service}_dlx"));
    let id = MessageId::new();
    // A loss is a matter of microseconds, so there are several tries.
    for _ in 0..4 {
        let mut in_flight = Vec::new();
        for _ in 0..4 {
            let properties = BasicProperties::default().with_message_id(id.to_string().into());
            admin.publish(&topic, &topic, properties, b"x").await;
            in_flight.push(next(&mut deliveries).await);
        }
        // From then on a channel for them is open, and the queue is declared again only when it is missed.
        in_flight.remove(0).settle(dead("no"));
        admin.get(&letters).await;
        admin.delete_queue(&letters).await;

        // As many are sent as go at once, before the first is answered.
        proxy.mute(true);
        for delivery in in_flight {
            delivery.settle(dead("no"));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        proxy.mute(false);
        for _ in 0..3 {
            let letter = admin.get(&letters).await.delivery;
            let got = letter.properties.message_id().as_ref().unwrap();
            assert_eq!(got.as_str(), id.to_string());
        }
    }
    end(&*link).await;
    assert_eq!(admin.drain(&letters).await, []);
    assert_eq!(admin.drain(&service).await, []);
    admin.forget(&service, &[&topic]).await;
}

/// The broker delivers the message again, and it may be handled then.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_whose_channel_is_gone_is_not_sent_again() {
    let proxy = Proxy::start().await;
    let (service, topic) = (name("s"), name("t"));
    let amqp = Amqp::new(proxy.url()).unwrap();
    let opened = amqp.open(setup(&service, &[&topic])).await.unwrap();
    let (link, mut deliveries) = (opened.link, opened.deliveries);
    wait_for(&*link, LinkState::Ready).await;
    let admin = Admin::new().await;
    let publish = async |id: MessageId| {
        let properties = BasicProperties::default().with_message_id(id.to_string().into());
        admin.publish(&topic, &topic, properties, b"x").await;
    };
    let (first, second) = (MessageId::new(), MessageId::new());
    publish(first).await;
    proxy.swallow_a_confirm();
    next(&mut deliveries).await.settle(dead("no"));
    tokio::time::timeout(LONG, async {
        while !proxy.has_swallowed() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("the dead letter is stored in time");

    proxy.refuse(true);
    assert!(proxy.cut() > 0);
    wait_for(&*link, LinkState::Away).await;
    proxy.refuse(false);
    next(&mut deliveries).await.settle(Settlement::Ack);
    // Were the first sent again, it would be before this one.
    publish(second).await;
    next(&mut deliveries).await.settle(dead("no"));
    end(&*link).await;

    assert_eq!(
        admin.drain(&format!("{service}_dlx")).await,
        [first, second]
    );
    assert_eq!(admin.drain(&service).await, []);
    admin.forget(&service, &[&topic]).await;
}

/// How large a message's headers are, about.
fn size(headers: &FieldTable) -> usize {
    let entries = headers.inner().iter();
    let sizes = entries.map(|(name, value)| match value {
        AMQPValue::LongString(text) => name.as_str().len() + text.len(),
        other => name.as_str().len() + format!("{other:?}").len(),
    });
    sizes.sum()
}

/// A frame takes 131,072 bytes, and a dead letter has more headers than its original.
#[tokio::test(flavor = "multi_thread")]
async fn headers_that_leave_no_room_for_ours_are_left_out() {
    let (service, topic) = (name("s"), name("t"));
    let opened = amqp().open(setup(&service, &[&topic])).await.unwrap();
    let (link, mut deliveries) = (opened.link, opened.deliveries);
    let admin = Admin::new().await;
    // Both sides of what fits, and of what RabbitMQ would refuse with ours added.
    for (left, is_kept) in [
        (6_000, true),
        (4_096, true),
        (500, false),
        (200, false),
        (100, false),
    ] {
        let mut headers = FieldTable::default();
        let big = "h".repeat(131_072 - left);
        headers.insert("big".into(), AMQPValue::LongString(big.into()));
        let properties = BasicProperties::default()
            .with_headers(headers)
            .with_message_id(format!("{left}").into());
        admin.publish(&topic, &topic, properties, b"body").await;

        next(&mut deliveries).await.settle(dead("too much"));
        let got = admin.get(&format!("{service}_dlx")).await.delivery;

        let headers = got.properties.headers().as_ref().unwrap().inner();
        assert_eq!(got.data, b"body", "{left}");
        assert_eq!(headers.contains_key("big"), is_kept, "{left}");
        let AMQPValue::LongString(reason) = &headers["x-final-reason"] else {
            panic!("no reason");
        };
        // The reason names what is missing.
        let reason = reason.to_string();
        assert!(reason.starts_with("too much"), "{reason}");
        assert_eq!(reason.contains("big"), !is_kept, "{left}: {reason}");
    }
    assert_eq!(*link.state().borrow(), LinkState::Ready);
    link.close(LONG).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_stay_as_small_however_often_a_message_is_replayed() {
    let (service, topic) = (name("s"), name("t"));
    let opened = amqp().open(setup(&service, &[&topic])).await.unwrap();
    let (link, mut deliveries) = (opened.link, opened.deliveries);
    let admin = Admin::new().await;
    // Through a queue that lets everything expire RabbitMQ adds its own history, as a shovel keeps it.
    let detour = format!("{service}-detour");
    let arguments = [
        ("x-message-ttl", AMQPValue::LongInt(0)),
        (
            "x-dead-letter-exchange",
            AMQPValue::LongString(topic.as_str().into()),
        ),
        (
            "x-dead-letter-routing-key",
            AMQPValue::LongString(topic.as_str().into()),
        ),
    ];
    admin
        .queue(&detour, &format!("{detour}-in"), &arguments)
        .await;
    let mut headers = FieldTable::default();
    headers.insert("tenant".into(), AMQPValue::LongString("acme".into()));
    let mut properties = BasicProperties::default().with_headers(headers);
    let (mut first, mut last) = (None, 0);
    // All of them numbers of two digits.
    for round in 10..60 {
        let in_between = round % 2 == 1;
        let (exchange, key) = match in_between {
            true => (format!("{detour}-in"), format!("{detour}-in")),
            false => (topic.clone(), topic.clone()),
        };
        admin.publish(&exchange, &key, properties, b"body").await;
        let mut cause = Cause::new("", round);
        cause.reason = format!("{round:02} {}", "ä".repeat(5_000));
        let delivery = next(&mut deliveries).await;
        delivery.settle(Settlement::DeadLetter(cause));
        let got = admin.get(&format!("{service}_dlx")).await.delivery;
        properties = got.properties;
        let headers = properties.headers().as_ref().unwrap();
        last = size(headers);
        assert_eq!(
            last,
            *first.get_or_insert(last),
            "round {round}: {headers:?}"
        );
        let AMQPValue::LongString(told) = &headers.inner()["x-final-reason"] else {
            panic!("{headers:?}");
        };
        assert!(
            told.len() <= Cause::MAX_REASON && told.to_string().starts_with(&format!("{round:02}"))
        );
        assert_eq!(
            headers.inner()["x-final-attempts"],
            AMQPValue::LongLongInt(round.into())
        );
        assert_eq!(got.data, b"body");
    }
    assert!(last < 1_500, "{last}");
    end(&*link).await;
    admin.delete_queue(&detour).await;
    admin.delete_exchange(&format!("{detour}-in")).await;
    admin.forget(&service, &[&topic]).await;
}
