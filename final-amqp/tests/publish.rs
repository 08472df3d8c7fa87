//! What becomes of messages on a real broker.

#![allow(
    clippy::unwrap_used,
    reason = "tests say what they expect by unwrapping"
)]

mod support;

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use final_core::{
    Message, MessageId,
    broker::{Confirm, Lane, LinkState, Outgoing},
};
use lapin::types::AMQPValue;
use support::*;

fn message(topic: &str) -> Message {
    Message::new(topic, vec![7; 100])
}

/// A queue that takes one message and refuses the rest.
fn full() -> [(&'static str, AMQPValue); 2] {
    [
        ("x-max-length", AMQPValue::LongInt(1)),
        ("x-overflow", AMQPValue::LongString("reject-publish".into())),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_message_arrives_as_it_was() {
    let admin = Admin::new().await;
    let (topic, queue) = (name("t"), name("q"));
    admin.queue(&queue, &topic, &[]).await;
    let link = publisher(&amqp()).await;
    let mut sender = Sender::new(link.clone());
    let sent = message(&topic).with_key("42").with_header("tenant", "acme");

    assert_eq!(
        sender.confirm(Lane::Shared, sent.clone()).await,
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

/// Defect: lapin gives a returned message to whichever confirm comes next. Without the sweep some of
/// the unroutable ones count as stored.
#[tokio::test(flavor = "multi_thread")]
async fn every_one_of_many_messages_gets_its_own_answer() {
    let admin = Admin::new().await;
    let (routed, unrouted, queue) = (name("t"), name("u"), name("q"));
    admin.queue(&queue, &routed, &[]).await;
    for (window, durable, channels) in [(100, false, 1), (1000, false, 2), (1000, true, 2)] {
        let amqp = amqp().publish_channels(channels);
        let setup = final_core::broker::Setup {
            confirm_window: window,
            ..setup(&name("pub"), &[])
        };
        let link = open(&amqp, setup).await.unwrap().link;
        wait_for(&*link, LinkState::Ready).await;
        let mut sender = Sender::new(link.clone());
        let mut expected: HashMap<MessageId, Confirm> = HashMap::new();
        let (mut next, mut open) = (0, 0);
        let mut stored = HashSet::new();
        while next < 5_000 || open > 0 {
            if next < 5_000 && open < window {
                let (topic, confirm) = match next % 7 {
                    0 => (&unrouted, Confirm::Unroutable),
                    _ => (&routed, Confirm::Stored),
                };
                let id = sender.send(message(topic).with_durable(durable));
                expected.insert(id, confirm);
                (next, open) = (next + 1, open + 1);
                continue;
            }
            let (id, confirm) = sender.answer().await;
            assert_eq!(
                expected.remove(&id),
                Some(confirm.clone()),
                "window {window}"
            );
            if confirm == Confirm::Stored {
                stored.insert(id);
            }
            open -= 1;
        }
        let found: HashSet<_> = admin.drain(&queue).await.into_iter().collect();
        assert_eq!(found, stored);
        end(&*link).await;
    }
    admin.delete_queue(&queue).await;
    for topic in [routed, unrouted] {
        admin.delete_exchange(&topic).await;
    }
}

/// Defect: tasks that share a channel swap delivery tags, and a nacked message counts as acked. One
/// task owns each channel, so what is refused is never reported as stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_refused_is_never_reported_as_stored() {
    let admin = Admin::new().await;
    let (good, good_queue, bad, bad_queue) = (name("t"), name("q"), name("f"), name("q"));
    admin.queue(&good_queue, &good, &[]).await;
    admin.queue(&bad_queue, &bad, &full()).await;
    for _ in 0..2 {
        admin_fill(&admin, &bad).await;
    }
    let link = publisher(&amqp().publish_channels(4)).await;
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..8 {
        let (link, topic) = (
            link.clone(),
            if task % 2 == 0 {
                good.clone()
            } else {
                bad.clone()
            },
        );
        tasks.spawn(async move {
            let mut sender = Sender::new(link);
            let expected = if task % 2 == 0 {
                Confirm::Stored
            } else {
                Confirm::Refused
            };
            for _ in 0..10 {
                for _ in 0..100 {
                    sender.send(message(&topic).with_durable(false));
                }
                for _ in 0..100 {
                    assert_eq!(sender.answer().await.1, expected);
                }
            }
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
    end(&*link).await;
    for (queue, topic) in [(good_queue, good), (bad_queue, bad)] {
        admin.delete_queue(&queue).await;
        admin.delete_exchange(&topic).await;
    }
}

async fn admin_fill(admin: &Admin, topic: &str) {
    let channel = admin.channel().await;
    let options = lapin::options::BasicPublishOptions::default();
    channel
        .basic_publish(
            topic.into(),
            topic.into(),
            options,
            b"x",
            Default::default(),
        )
        .await
        .unwrap();
    channel.close(200, "OK".into()).await.unwrap();
}

/// Defect: `wait_for_confirms` returns while confirms are open. A message is settled by its own
/// confirm: while its queue answers nothing, it stays unsettled though later ones are answered.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_answer_does_not_stand_for_the_earlier_ones() {
    let admin = Admin::new().await;
    let (slow, slow_queue, quick, quick_queue) = (name("t"), name("q"), name("t"), name("q"));
    admin
        .queue(
            &slow_queue,
            &slow,
            &[("x-queue-type", AMQPValue::LongString("quorum".into()))],
        )
        .await;
    admin.queue(&quick_queue, &quick, &full()).await;
    for _ in 0..2 {
        admin_fill(&admin, &quick).await;
    }
    let link = publisher(&amqp().publish_channels(1)).await;
    let mut sender = Sender::new(link.clone());
    for _ in 0..20 {
        let mut expected = HashMap::new();
        for _ in 0..199 {
            expected.insert(sender.send(message(&slow)), Confirm::Stored);
        }
        expected.insert(
            sender.send(message(&quick).with_durable(false)),
            Confirm::Refused,
        );
        for _ in 0..200 {
            let (id, confirm) = sender.answer().await;
            assert_eq!(expected.remove(&id), Some(confirm));
        }
    }
    end(&*link).await;
    assert_eq!(admin.drain(&slow_queue).await.len(), 20 * 199);
    for (queue, topic) in [(slow_queue, slow), (quick_queue, quick)] {
        admin.delete_queue(&queue).await;
        admin.delete_exchange(&topic).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_exchange_costs_no_other_message_anything() {
    let admin = Admin::new().await;
    let (good, queue, gone) = (name("t"), name("q"), name("g"));
    admin.queue(&queue, &good, &[]).await;
    let link = publisher(&amqp()).await;
    let mut sender = Sender::new(link.clone());
    // Declared by us, then deleted behind our back.
    assert_eq!(
        sender.confirm(Lane::Shared, message(&gone)).await,
        Confirm::Unroutable
    );
    admin.delete_exchange(&gone).await;

    let mut waiting: HashMap<MessageId, Message> = HashMap::new();
    for number in 0..1_000 {
        let message = message(if number == 500 { &gone } else { &good });
        waiting.insert(sender.send(message.clone()), message);
    }
    let (mut lost, mut unroutable) = (0, 0);
    while !waiting.is_empty() {
        let (id, confirm) = sender.answer().await;
        match confirm {
            Confirm::Stored => assert!(waiting.remove(&id).is_some()),
            Confirm::Unroutable => {
                assert_eq!(waiting.remove(&id).unwrap().topic(), gone);
                unroutable += 1;
            }
            // Due at once, with no attempt counted: the bus sends it again.
            Confirm::Lost => {
                lost += 1;
                sender.send(waiting[&id].clone());
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(unroutable, 1);
    assert!(lost >= 1, "the channel was closed");
    assert_eq!(*link.state().borrow(), LinkState::Ready);
    end(&*link).await;
    let found: HashSet<_> = admin.drain(&queue).await.into_iter().collect();
    assert_eq!(found.len(), 999);
    admin.delete_queue(&queue).await;
    admin.delete_exchange(&good).await;
    admin.delete_exchange(&gone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_closes_the_channel_is_found_and_the_rest_flows() {
    let admin = Admin::new().await;
    let (topic, queue) = (name("t"), name("q"));
    admin.queue(&queue, &topic, &[]).await;
    let link = publisher(&amqp()).await;
    let mut sender = Sender::new(link.clone());
    // The bus refuses such a header before the INSERT; here it comes through.
    let bad = message(&topic).with_header("CC", "a string closes the channel");
    let mut waiting: HashMap<MessageId, Message> = HashMap::new();
    for number in 0..1_000 {
        let message = if number == 500 {
            bad.clone()
        } else {
            message(&topic)
        };
        waiting.insert(sender.send(message.clone()), message);
    }
    let (mut faulty, mut suspects) = (Vec::new(), 0);
    while !waiting.is_empty() {
        let (id, confirm) = sender.answer().await;
        match confirm {
            Confirm::Stored => drop(waiting.remove(&id).unwrap()),
            Confirm::Suspect => {
                suspects += 1;
                sender.send_by(Lane::Alone, waiting[&id].clone());
            }
            Confirm::Lost => drop(sender.send(waiting[&id].clone())),
            Confirm::Faulty(reason) => {
                assert!(reason.contains("PRECONDITION_FAILED"), "{reason}");
                waiting.remove(&id);
                faulty.push(id);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(faulty, [bad.id()]);
    assert!(suspects > 1, "nobody knows at first whose fault it is");
    end(&*link).await;
    let found: HashSet<_> = admin.drain(&queue).await.into_iter().collect();
    assert_eq!(found.len(), 999);
    admin.delete_queue(&queue).await;
    admin.delete_exchange(&topic).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_larger_than_a_frame_are_the_messages_own_fault() {
    let link = publisher(&amqp()).await;
    let mut sender = Sender::new(link.clone());
    let bad = message(&name("t")).with_header("large", "x".repeat(200 * 1024));

    let confirm = sender.confirm(Lane::Shared, bad).await;

    assert!(matches!(confirm, Confirm::Faulty(_)), "{confirm:?}");
    assert_eq!(*link.state().borrow(), LinkState::Ready);
    end(&*link).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reserved_exchange_denies_its_topic_only() {
    let admin = Admin::new().await;
    let (topic, queue) = (name("t"), name("q"));
    admin.queue(&queue, &topic, &[]).await;
    let link = publisher(&amqp()).await;
    let mut sender = Sender::new(link.clone());
    // Declaring it is refused, and it does not exist.
    let denied = sender.send(message("amq.nothing"));
    let stored = sender.send(message(&topic));

    let answers = [sender.answer().await, sender.answer().await];
    let answers = HashMap::from(answers);
    assert_eq!(answers[&stored], Confirm::Stored);
    assert!(matches!(&answers[&denied], Confirm::Denied(why) if why.contains("amq.nothing")));
    assert_eq!(*link.state().borrow(), LinkState::Ready);
    end(&*link).await;
    admin.delete_queue(&queue).await;
    admin.delete_exchange(&topic).await;
}

/// It exists, but publishing to it closes the channel.
#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_that_takes_nothing_denies_its_topic_only() {
    let admin = Admin::new().await;
    let (good, queue, internal) = (name("t"), name("q"), name("i"));
    admin.queue(&queue, &good, &[]).await;
    let options = lapin::options::ExchangeDeclareOptions {
        durable: true,
        internal: true,
        ..Default::default()
    };
    let kind = lapin::ExchangeKind::Topic;
    let declare = admin.channel().await;
    declare
        .exchange_declare(internal.as_str().into(), kind, options, Default::default())
        .await
        .unwrap();
    let link = publisher(&amqp()).await;
    let mut sender = Sender::new(link.clone());

    let denied = sender.send(message(&internal));
    let mut waiting: HashMap<MessageId, Message> = HashMap::new();
    let mut reason = None;
    while reason.is_none() || !waiting.is_empty() {
        // Others are on the channel before it and after it.
        while reason.is_none() && waiting.len() < 200 {
            let message = message(&good);
            waiting.insert(sender.send(message.clone()), message);
        }
        let (id, confirm) = sender.answer().await;
        match confirm {
            Confirm::Stored => assert!(waiting.remove(&id).is_some()),
            Confirm::Lost => drop(sender.send(waiting[&id].clone())),
            Confirm::Denied(why) if id == denied => reason = Some(why),
            other => panic!("{other:?}"),
        }
    }
    let alone = sender.confirm(Lane::Alone, message(&internal)).await;

    assert!(reason.as_ref().unwrap().contains(&internal), "{reason:?}");
    assert!(matches!(alone, Confirm::Denied(_)), "{alone:?}");
    end(&*link).await;
    admin.delete_queue(&queue).await;
    admin.delete_exchange(&good).await;
    admin.delete_exchange(&internal).await;
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
        sender.confirm(Lane::Shared, message(&topic)).await,
        Confirm::Stored
    );
    end(&*link).await;
    admin.delete_queue(&queue).await;
    admin.delete_exchange(&topic).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_waits_for_is_sent_all_the_same() {
    let admin = Admin::new().await;
    let (topic, queue) = (name("t"), name("q"));
    admin.queue(&queue, &topic, &[]).await;
    let link = publisher(&amqp()).await;
    for _ in 0..500 {
        link.send(Outgoing::for_test(
            message(&topic),
            None,
            Lane::Shared,
            None,
        ));
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

    let expired = sender.send_expiring(Lane::Shared, message(&topic), Some(Duration::ZERO));
    assert_eq!(sender.answer().await, (expired, Confirm::Expired));
    sender.send_expiring(
        Lane::Shared,
        message(&topic),
        Some(Duration::from_millis(300)),
    );
    assert_eq!(sender.answer().await.1, Confirm::Stored);
    tokio::time::sleep(Duration::from_millis(600)).await;

    assert_eq!(admin.drain(&queue).await, []);
    end(&*link).await;
    admin.delete_queue(&queue).await;
    admin.delete_exchange(&topic).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_connection_loses_no_message() {
    let admin = Admin::new().await;
    let proxy = proxy::Proxy::start().await;
    let (topic, queue) = (name("t"), name("q"));
    admin.queue(&queue, &topic, &[]).await;
    let amqp = final_amqp::Amqp::new(proxy.url()).unwrap();
    let link = publisher(&amqp).await;
    let mut sender = Sender::new(link.clone());
    let mut waiting: HashMap<MessageId, Message> = HashMap::new();
    let mut sent = HashSet::new();
    let mut cuts = 0;
    for _ in 0..3 {
        for _ in 0..800 {
            let message = message(&topic);
            let id = sender.send(message.clone());
            waiting.insert(id, message);
            sent.insert(id);
        }
        // Cut when some are answered and some are not.
        let mut stored = 0;
        while !waiting.is_empty() {
            let (id, confirm) = sender.answer().await;
            match confirm {
                Confirm::Stored => {
                    waiting.remove(&id);
                    stored += 1;
                    if stored == 100 {
                        cuts += proxy.cut();
                    }
                }
                Confirm::Lost => {
                    wait_for(&*link, LinkState::Ready).await;
                    sender.send(waiting[&id].clone());
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(cuts >= 3);
    let found: HashSet<_> = admin.drain(&queue).await.into_iter().collect();
    assert_eq!(found, sent);
    end(&*link).await;
    admin.delete_queue(&queue).await;
    admin.delete_exchange(&topic).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_does_not_answer_parks_what_waited_too_long() {
    let admin = Admin::new().await;
    let proxy = proxy::Proxy::start().await;
    let (topic, queue) = (name("t"), name("q"));
    admin.queue(&queue, &topic, &[]).await;
    let amqp = final_amqp::Amqp::new(proxy.url())
        .unwrap()
        .publish_channels(1)
        .confirm_timeout(Duration::from_secs(1));
    let link = publisher(&amqp).await;
    let mut sender = Sender::new(link.clone());
    assert_eq!(
        sender.confirm(Lane::Shared, message(&topic)).await,
        Confirm::Stored
    );
    proxy.mute(true);
    let early: HashSet<_> = (0..10).map(|_| sender.send(message(&topic))).collect();
    tokio::time::sleep(Duration::from_millis(600)).await;
    let late: HashSet<_> = (0..10).map(|_| sender.send(message(&topic))).collect();

    for _ in 0..20 {
        let (id, confirm) = sender.answer().await;
        let expected = if early.contains(&id) {
            Confirm::NoAnswer
        } else {
            assert!(late.contains(&id));
            Confirm::Lost
        };
        assert_eq!(confirm, expected);
    }
    proxy.mute(false);
    // A new channel, or a new connection if that took too long.
    loop {
        wait_for(&*link, LinkState::Ready).await;
        if sender.confirm(Lane::Shared, message(&topic)).await == Confirm::Stored {
            break;
        }
    }
    end(&*link).await;
    admin.delete_queue(&queue).await;
    admin.delete_exchange(&topic).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_away_everything_is_handed_back_at_once() {
    let proxy = proxy::Proxy::start().await;
    let amqp = final_amqp::Amqp::new(proxy.url()).unwrap();
    let link = publisher(&amqp).await;
    let mut sender = Sender::new(link.clone());
    proxy.refuse(true);
    proxy.cut();
    wait_for(&*link, LinkState::Away).await;

    let began = std::time::Instant::now();
    for _ in 0..100 {
        sender.send(message("anything"));
    }
    for _ in 0..100 {
        assert_eq!(sender.answer().await.1, Confirm::Lost);
    }
    assert!(began.elapsed() < Duration::from_secs(1));
    proxy.refuse(false);
    wait_for(&*link, LinkState::Ready).await;
    end(&*link).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_opens_while_the_broker_is_away_and_closes_in_time() {
    let proxy = proxy::Proxy::start().await;
    proxy.refuse(true);
    let amqp = final_amqp::Amqp::new(proxy.url()).unwrap();
    let link = open(&amqp, setup(&name("pub"), &[])).await.unwrap().link;
    assert_eq!(*link.state().borrow(), LinkState::Away);
    proxy.refuse(false);
    wait_for(&*link, LinkState::Ready).await;
    proxy.refuse(true);
    proxy.cut();
    wait_for(&*link, LinkState::Away).await;

    let began = std::time::Instant::now();
    end(&*link).await;
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_settles_everything() {
    let link = publisher(&amqp()).await;
    let mut sender = Sender::new(link.clone());
    let topic = name("t");
    for _ in 0..300 {
        sender.send(message(&topic));
    }
    link.close(LONG).await;
    for _ in 0..300 {
        // It waited for the confirms.
        assert_eq!(sender.answer().await.1, Confirm::Unroutable);
    }
    // Nothing is taken any more, and nothing is forgotten either.
    assert_eq!(
        sender.confirm(Lane::Shared, message(&topic)).await,
        Confirm::Lost
    );
    Admin::new().await.delete_exchange(&topic).await;
}
