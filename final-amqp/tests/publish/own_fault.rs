//! What is wrong with one message or one topic costs no other anything.

use std::collections::{HashMap, HashSet};

use final_core::{
    Message, MessageId,
    broker::{Confirm, Isolation, LinkState},
};

use crate::{message, support::*};

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_exchange_costs_no_other_message_anything() {
    let admin = Admin::new().await;
    let (good, queue, gone) = (name("t"), name("q"), name("g"));
    admin.queue(&queue, &good, &[]).await;
    let link = publisher(&amqp()).await;
    let mut sender = Sender::new(link.clone());
    // Declared by us, then deleted behind our back.
    assert_eq!(
        sender.confirm(Isolation::Shared, message(&gone)).await,
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
                sender.send_by(Isolation::Alone, waiting[&id].clone());
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
    assert!(suspects > 1, "at first every message is a suspect");
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

    let confirm = sender.confirm(Isolation::Shared, bad).await;

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
    let alone = sender.confirm(Isolation::Alone, message(&internal)).await;

    assert!(reason.as_ref().unwrap().contains(&internal), "{reason:?}");
    assert!(matches!(alone, Confirm::Denied(_)), "{alone:?}");
    end(&*link).await;
    admin.delete_queue(&queue).await;
    admin.delete_exchange(&good).await;
    admin.delete_exchange(&internal).await;
}
