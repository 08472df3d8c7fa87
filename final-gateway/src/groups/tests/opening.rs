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
