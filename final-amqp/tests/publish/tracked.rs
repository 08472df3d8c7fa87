//! Messages of a source that has no table: each hand-over is answered exactly once.

use std::{collections::HashMap, time::Duration};

use final_core::{
    Message, MessageId,
    broker::{Confirm, Isolation, LinkState, Outgoing},
};
use lapin::types::AMQPValue;
use tokio::{sync::mpsc, time::timeout};

use crate::{message, support::*};

/// Answers by the number of the hand-over.
struct Answers {
    sender: mpsc::UnboundedSender<(usize, Confirm)>,
    receiver: mpsc::UnboundedReceiver<(usize, Confirm)>,
}

impl Answers {
    fn new() -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        Self { sender, receiver }
    }

    fn outgoing(&self, number: usize, isolation: Isolation, message: Message) -> Outgoing {
        let sender = self.sender.clone();
        Outgoing::tracked(message, isolation, move |confirm| {
            let _ = sender.send((number, confirm));
        })
    }

    /// So many answers, by their numbers. No number comes twice.
    async fn take(&mut self, count: usize) -> HashMap<usize, Confirm> {
        let mut answers = HashMap::new();
        while answers.len() < count {
            let next = timeout(LONG, self.receiver.recv()).await;
            let (number, confirm) = next.unwrap().unwrap();
            let before = answers.insert(number, confirm);
            assert_eq!(before, None, "{number} was answered before");
        }
        answers
    }

    /// Asserts that no hand-over waits for an answer, and none is answered again.
    async fn are_over(self) {
        let Self {
            sender,
            mut receiver,
        } = self;
        drop(sender);
        // The channel ends when the last hand-over has dropped its sender.
        let rest = timeout(LONG, receiver.recv()).await;
        assert_eq!(rest.unwrap(), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_answer_comes_once_though_all_have_one_id() {
    let admin = Admin::new().await;
    let (routed, unrouted, full) = (name("t"), name("u"), name("f"));
    let (queue, full_queue) = (name("q"), name("q"));
    admin.queue(&queue, &routed, &[]).await;
    let limits = [
        ("x-max-length", AMQPValue::LongInt(1)),
        ("x-overflow", AMQPValue::LongString("reject-publish".into())),
    ];
    admin.queue(&full_queue, &full, &limits).await;
    let link = publisher(&amqp()).await;
    let mut answers = Answers::new();
    let isolation = Isolation::Shared;
    // A queue may take one more than its limit.
    for number in 0..2 {
        link.send(answers.outgoing(number, isolation, message(&full)));
        answers.take(1).await;
    }

    let id = MessageId::new();
    let kinds = [
        (&routed, Confirm::Stored),
        (&unrouted, Confirm::Unroutable),
        (&full, Confirm::Refused),
    ];
    for isolation in [Isolation::Shared, Isolation::Alone] {
        let count = if isolation == Isolation::Alone {
            9
        } else {
            600
        };
        for number in 0..count {
            let message = message(kinds[number % 3].0).with_id(id).with_durable(false);
            link.send(answers.outgoing(number, isolation, message));
        }
        let taken = answers.take(count).await;
        for (number, confirm) in taken {
            assert_eq!(confirm, kinds[number % 3].1, "{number} {isolation:?}");
        }
    }

    end(&*link).await;
    answers.are_over().await;
    assert_eq!(admin.drain(&queue).await, vec![id; 203]);
    for queue in [queue, full_queue] {
        admin.delete_queue(&queue).await;
    }
    for topic in [routed, unrouted, full] {
        admin.delete_exchange(&topic).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_is_answered_though_the_connection_is_lost_and_none_is_stored_without_being_there() {
    let admin = Admin::new().await;
    let proxy = proxy::Proxy::start().await;
    let (topic, queue) = (name("t"), name("q"));
    admin.queue(&queue, &topic, &[]).await;
    let link = publisher(&final_amqp::Amqp::new(proxy.url()).unwrap()).await;
    let mut answers = Answers::new();
    let mut messages: Vec<Message> = Vec::new();
    let (mut stored, mut lost) = (0, 0);
    // The cut may come when everything is answered, so it is made again.
    while lost == 0 || stored == 0 {
        let first = messages.len();
        for number in first..first + 500 {
            let message = message(&topic);
            link.send(answers.outgoing(number, Isolation::Shared, message.clone()));
            messages.push(message);
        }
        let mut taken = answers.take(100).await;
        proxy.cut();
        taken.extend(answers.take(400).await);
        assert_eq!(taken.len(), 500);
        wait_for(&*link, LinkState::Ready).await;

        let found = admin.drain(&queue).await;
        for (number, confirm) in taken {
            match confirm {
                Confirm::Stored => {
                    assert!(
                        found.contains(&messages[number].id()),
                        "{number} is missing"
                    );
                    stored += 1;
                }
                Confirm::Lost => lost += 1,
                other => panic!("{other:?}"),
            }
        }
    }

    end(&*link).await;
    answers.are_over().await;
    admin.delete_queue(&queue).await;
    admin.delete_exchange(&topic).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_dropped_or_comes_to_a_closed_link_is_lost() {
    let link = publisher(&amqp()).await;
    let mut answers = Answers::new();
    let outgoing = |number| answers.outgoing(number, Isolation::Shared, message("any"));
    let [dropped, begun, late] = [0, 1, 2].map(outgoing);

    drop(dropped);
    drop(begun.into_sending().unwrap());
    link.close(Duration::from_secs(30)).await;
    link.send(late);

    let lost = |number| (number, Confirm::Lost);
    assert_eq!(answers.take(3).await, HashMap::from([0, 1, 2].map(lost)));
    answers.are_over().await;
}
