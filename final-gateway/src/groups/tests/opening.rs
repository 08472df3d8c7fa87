//! Opening: once for all who ask, and no more than there may be.

use std::{sync::atomic::Ordering, time::Duration};

use final_core::MemoryBroker;
use tokio::time::{Instant, sleep};

use super::kit::{Door, Kit, MINUTE, lot, pair};
use crate::{groups::GroupError, names::Pair};

#[tokio::test(start_paused = true)]
async fn all_who_ask_at_once_share_one_opening() {
    let broker = MemoryBroker::new();
    let (door, open) = Door::new(broker.clone());
    let openings = door.openings.clone();
    let kit = Kit::over(std::sync::Arc::new(door), broker, |_| {}).await;
    let (pair, let_in) = (pair(), async {
        sleep(Duration::from_secs(5)).await;
        open.send_replace(Some(Ok(())));
    });

    let (one, two, ()) = tokio::join!(kit.groups.hold(&pair), kit.groups.hold(&pair), let_in);
    assert!(one.is_ok() && two.is_ok());
    assert_eq!(openings.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_refuses_gives_its_reason_to_each_who_waits() {
    let broker = MemoryBroker::new();
    let (door, open) = Door::new(broker.clone());
    let kit = Kit::over(std::sync::Arc::new(door), broker, |_| {}).await;
    let (pair, refuse) = (pair(), async {
        sleep(Duration::from_secs(5)).await;
        open.send_replace(Some(Err("no such virtual host")));
    });
    let pairs = [pair.clone()];
    let mut patient = lot(1);
    patient.wait = MINUTE;
    let pull = kit.groups.pull(&pairs, patient, MINUTE);

    let (held, pulled, ()) = tokio::join!(kit.groups.hold(&pair), pull, refuse);
    let refused = GroupError::Refused("no such virtual host".to_owned());
    assert_eq!(held.map(drop), Err(refused.clone()));
    assert_eq!(pulled.map(drop), Err(refused));
    assert_eq!(kit.groups.stats().open, 0);
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_does_not_open_in_time_is_away_and_others_are_served_meanwhile() {
    let broker = MemoryBroker::new();
    let (door, _never) = Door::new(broker.clone());
    let kit = Kit::over(std::sync::Arc::new(door), broker, |_| {}).await;
    let begun = Instant::now();
    let mut patient = lot(1);
    patient.wait = Duration::from_secs(3);

    let pulled = kit.groups.pull(&[pair()], patient, MINUTE).await;
    assert!(matches!(pulled, Err(GroupError::Away(_))), "{pulled:?}");
    assert_eq!(begun.elapsed(), patient.wait);
}

#[tokio::test(start_paused = true)]
async fn beyond_the_limit_an_idle_pair_makes_room_and_without_one_there_is_none() {
    let kit = Kit::with(|options| options.most_open = 2).await;
    let pairs = ["t", "u", "v"].map(|topic| Pair::new("g", topic).unwrap());
    drop(kit.hold(&pairs[0]).await);
    let _second = kit.hold(&pairs[1]).await;
    let _third = kit.hold(&pairs[2]).await;
    assert_eq!(kit.groups.stats().open, 2);

    let fourth = kit.groups.hold(&pairs[0]).await;
    assert_eq!(fourth.map(drop), Err(GroupError::TooMany(2)));
}

#[tokio::test(start_paused = true)]
async fn an_app_that_uses_all_it_may_leaves_the_rest_to_others() {
    let kit = Kit::with(|options| (options.most_open, options.most_open_of_app) = (4, 2)).await;
    let [shop, other] = ["shop", "other"].map(|app| kit.groups.for_app(app, None));
    let generous = kit.groups.for_app("shop", Some(3));
    let pairs = ["t", "u", "v", "w"].map(|topic| Pair::new("g", topic).unwrap());
    let first = shop.hold(&pairs[0]).await.unwrap();
    let _again = shop.hold(&pairs[0]).await.unwrap();
    let _second = shop.hold(&pairs[1]).await.unwrap();

    let full = |most| {
        let app = "shop".to_owned();
        Err(GroupError::TooManyOfApp { app, most })
    };
    assert_eq!(shop.hold(&pairs[2]).await.map(drop), full(2));
    let pulled = shop.pull(&pairs[2..3], lot(1), MINUTE).await;
    assert_eq!(pulled.map(drop), full(2));
    let _others = other.hold(&pairs[2]).await.unwrap();
    // Its own limit holds in place of the common one.
    let _third = generous.hold(&pairs[2]).await.unwrap();
    assert_eq!(generous.hold(&pairs[3]).await.map(drop), full(3));

    // The first pair is one of its other connection until that ends too.
    drop(first);
    assert_eq!(generous.hold(&pairs[3]).await.map(drop), full(3));
    drop(_again);
    assert!(generous.hold(&pairs[3]).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_silent_makes_room_for_the_next_of_its_app() {
    let kit = Kit::with(|options| options.most_open_of_app = 1).await;
    let shop = kit.groups.for_app("shop", None);
    let pairs = ["t", "u"].map(|topic| Pair::new("g", topic).unwrap());
    let mut silent = shop.hold(&pairs[0]).await.unwrap();
    assert!(shop.hold(&pairs[1]).await.is_err());

    sleep(MINUTE).await;
    let second = shop.hold(&pairs[1]).await;
    assert!(second.is_ok(), "{second:?}");
    // It asks again, and now it is the one too many.
    let refused = silent.take(lot(1)).await;
    assert!(
        matches!(refused, Err(GroupError::TooManyOfApp { .. })),
        "{refused:?}"
    );
    drop(second);
    assert!(silent.take(lot(1)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn what_an_app_has_pulled_counts_until_it_is_settled_or_its_time_is_over() {
    let kit = Kit::with(|options| options.most_open_of_app = 1).await;
    let shop = kit.groups.for_app("shop", None);
    let pairs = ["t", "u"].map(|topic| Pair::new("g", topic).unwrap());
    let [here, there] = [&pairs[..1], &pairs[1..]];
    shop.pull(here, lot(1), MINUTE).await.unwrap();
    shop.pull(there, lot(1), MINUTE).await.unwrap();
    kit.publish("t", ["1", "2"]);

    let pulled = shop.pull(here, lot(1), MINUTE).await.unwrap();
    assert_eq!(pulled.len(), 1);
    let refused = shop.pull(there, lot(1), MINUTE).await;
    assert!(matches!(refused, Err(GroupError::TooManyOfApp { .. })));
    kit.ack("g", &pulled).await;
    assert!(shop.pull(there, lot(1), MINUTE).await.is_ok());

    let pulled = shop.pull(here, lot(1), MINUTE).await.unwrap();
    assert_eq!(pulled.len(), 1);
    sleep(MINUTE + Duration::from_secs(1)).await;
    assert!(shop.pull(there, lot(1), MINUTE).await.is_ok());
}
