//! Groups on real engines: what is in hand, what comes again, what two nodes share.

mod killed;
mod nodes;
mod one_node;

use std::time::Duration;

use final_core::Message;
use final_gateway::{
    Running,
    groups::{GroupOptions, Groups, Holder, Lot, Pulled},
    names::Pair,
};
use futures::future::join_all;

use crate::{
    engine::{SOON, Stand},
    place::Database,
};

/// A node that consumes, on the engine of a test.
async fn node<DB: Database>(
    stand: &Stand<DB>,
    name: &str,
    change: impl FnOnce(&mut GroupOptions),
) -> Groups {
    let mut options = GroupOptions::default();
    change(&mut options);
    let pool = stand.place.another_pool().await;
    let groups = match stand.is_log() {
        true => Groups::over_log(pool, stand.sql_broker(), name, options).await,
        false => Groups::over_broker(pool, stand.broker(), name, options).await,
    };
    groups.expect("a node")
}

fn pair() -> Pair {
    Pair::new("billing", "order").expect("names")
}

/// Subscribes the group, so that what is published from now on is for it.
async fn subscribe(groups: &Groups) -> Holder {
    groups.hold(&pair()).await.expect("the group opens")
}

/// Publishes so many messages, in their order.
async fn publish(running: &Running, numbers: impl IntoIterator<Item = usize>) {
    let mut answers = Vec::new();
    for number in numbers {
        let message =
            Message::new("order", number.to_string()).with_key(format!("key-{}", number % 7));
        let answer = running.publisher().submit(message, false, SOON).await;
        answers.push(answer.expect("room"));
    }
    for answer in join_all(answers).await {
        answer.expect("committed");
    }
}

fn number(message: &Message) -> usize {
    let text = std::str::from_utf8(message.payload()).expect("a text");
    text.parse().expect("a number")
}

/// So many messages, and a short time of waiting.
fn lot(messages: usize) -> Lot {
    Lot {
        messages,
        bytes: usize::MAX,
        wait: Duration::from_secs(1),
        gather: Duration::ZERO,
    }
}

/// Pulls until so many messages have come.
async fn pull_all(groups: &Groups, count: usize, visibility: Duration) -> Vec<Pulled> {
    let pull = async {
        let mut all = Vec::new();
        while all.len() < count {
            let more = groups
                .pull(&[pair()], lot(count - all.len()), visibility)
                .await;
            all.extend(more.expect("a pull"));
        }
        all
    };
    tokio::time::timeout(SOON, pull).await.expect("in time")
}

fn receipts(pulled: &[Pulled]) -> Vec<String> {
    pulled.iter().map(|pulled| pulled.receipt.clone()).collect()
}

async fn ack(groups: &Groups, pulled: &[Pulled]) {
    let acked = groups.ack("billing", &receipts(pulled)).await;
    assert!(acked.iter().all(Result::is_ok), "{acked:?}");
}
