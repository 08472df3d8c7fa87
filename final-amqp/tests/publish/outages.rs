//! The broker is cut off, silent or away.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use final_core::{
    Message, MessageId,
    broker::{Confirm, Isolation, LinkState, Outgoing},
};

use crate::{message, support::*};

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
        .confirm_timeout(Duration::from_secs(8));
    let link = publisher(&amqp).await;
    let mut sender = Sender::new(link.clone());
    assert_eq!(
        sender.confirm(Isolation::Shared, message(&topic)).await,
        Confirm::Stored
    );
    proxy.mute(true);
    let early: HashSet<_> = (0..10).map(|_| sender.send(message(&topic))).collect();
    // Half of it: the machine may stand still for seconds, and they are still told apart.
    tokio::time::sleep(Duration::from_secs(4)).await;
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
        if sender.confirm(Isolation::Shared, message(&topic)).await == Confirm::Stored {
            break;
        }
    }
    end(&*link).await;
    admin.delete_queue(&queue).await;
    admin.delete_exchange(&topic).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_those_that_are_sent_alone_one_without_an_answer_holds_up_no_other() {
    let admin = Admin::new().await;
    let proxy = proxy::Proxy::start().await;
    let (topic, queue) = (name("t"), name("q"));
    admin.queue(&queue, &topic, &[]).await;
    let amqp = final_amqp::Amqp::new(proxy.url())
        .unwrap()
        .confirm_timeout(LONG * 10);
    let link = publisher(&amqp).await;
    let mut sender = Sender::new(link.clone());
    proxy.swallow_a_confirm();
    let silent = sender.send_by(Isolation::Alone, message(&topic));
    while !proxy.has_swallowed() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    assert_eq!(
        sender.confirm(Isolation::Alone, message(&topic)).await,
        Confirm::Stored
    );
    // It waits for the confirm that never comes.
    link.close(Duration::from_secs(1)).await;
    assert_eq!(sender.answer().await, (silent, Confirm::Lost));
    admin.delete_queue(&queue).await;
    admin.delete_exchange(&topic).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_away_everything_is_lost_at_once() {
    let proxy = proxy::Proxy::start().await;
    let amqp = final_amqp::Amqp::new(proxy.url()).unwrap();
    let link = publisher(&amqp).await;
    let mut sender = Sender::new(link.clone());
    proxy.refuse(true);
    proxy.cut();
    wait_for(&*link, LinkState::Away).await;

    for _ in 0..100 {
        sender.send(message("anything"));
    }
    for _ in 0..100 {
        assert_eq!(sender.answer().await.1, Confirm::Lost);
    }
    // None waited for the broker.
    assert_eq!(*link.state().borrow(), LinkState::Away);
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
    assert!(began.elapsed() < LONG, "{:?}", began.elapsed());
}

/// A confirm runs code of the bus. A bug there must not end publishing for good.
#[tokio::test(flavor = "multi_thread")]
async fn publishing_goes_on_with_a_new_connection_after_a_panic() {
    let admin = Admin::new().await;
    let (topic, queue) = (name("t"), name("q"));
    admin.queue(&queue, &topic, &[]).await;
    let link = publisher(&amqp().publish_channels(1)).await;
    let (told, was_told) = tokio::sync::oneshot::channel();
    let lane = Isolation::Shared;

    link.send(Outgoing::tracked(message(&topic), lane, move |_| {
        let _ = told.send(());
        panic!("as a bug would")
    }));
    was_told.await.unwrap();

    let mut sender = Sender::new(link.clone());
    let mut confirm = sender.confirm(lane, message(&topic)).await;
    // What is sent before the old connection has ended is lost with it.
    while confirm == Confirm::Lost {
        wait_for(&*link, LinkState::Ready).await;
        confirm = sender.confirm(lane, message(&topic)).await;
    }
    assert_eq!(confirm, Confirm::Stored);
    end(&*link).await;
    admin.delete_queue(&queue).await;
    admin.delete_exchange(&topic).await;
}
