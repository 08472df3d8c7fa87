//! Each message has its own answer, whatever the others are told.

use std::collections::{HashMap, HashSet};

use final_core::{
    MessageId,
    broker::{Confirm, Isolation, LinkState},
};
use lapin::types::AMQPValue;

use crate::{message, support::*};

/// A queue that takes one message and refuses the rest.
fn full() -> [(&'static str, AMQPValue); 2] {
    [
        ("x-max-length", AMQPValue::LongInt(1)),
        ("x-overflow", AMQPValue::LongString("reject-publish".into())),
    ]
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
        let mut setup = setup(&name("pub"), &[]);
        setup.confirm_window = window;
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

/// A publisher may give several messages the same id, and the broker names a returned message by its id alone.
#[tokio::test(flavor = "multi_thread")]
async fn of_messages_with_one_id_each_gets_its_own_answer() {
    let admin = Admin::new().await;
    let (routed, unrouted, queue) = (name("t"), name("u"), name("q"));
    admin.queue(&queue, &routed, &[]).await;
    let link = publisher(&amqp().publish_channels(1)).await;
    let mut sender = Sender::new(link.clone());
    let mut stored = 0;
    for round in 0..50 {
        let id = MessageId::new();
        let mut expected = HashMap::new();
        for n in 0..40 {
            let (topic, confirm) = match (n + round) % 3 {
                0 => (&unrouted, Confirm::Unroutable),
                _ => (&routed, Confirm::Stored),
            };
            stored += usize::from(confirm == Confirm::Stored);
            let name = MessageId::new();
            expected.insert(name, confirm);
            sender.send_named(message(topic).with_id(id).with_durable(false), name);
        }
        for _ in 0..40 {
            let (name, confirm) = sender.answer().await;
            assert_eq!(expected.remove(&name), Some(confirm));
        }
    }
    end(&*link).await;
    assert_eq!(admin.drain(&queue).await.len(), stored);
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
    // No more messages are taken, and none is forgotten.
    assert_eq!(
        sender.confirm(Isolation::Shared, message(&topic)).await,
        Confirm::Lost
    );
    Admin::new().await.delete_exchange(&topic).await;
}
