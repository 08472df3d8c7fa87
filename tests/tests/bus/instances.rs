//! Several instances of one service.

use std::{collections::BTreeMap, time::Duration};

use final_core::{Error, Router};

use crate::{
    database::Database,
    house::{House, Notes, SOON},
    transport::Transport,
};

crate::suite!(
    everywhere: [
        two_instances_share_a_table_and_send_nothing_twice,
        purging_is_refused_while_another_instance_consumes,
        ten_instances_can_start_at_once,
    ],
    with an outbox: [
        an_instance_sends_what_a_stopped_one_left,
    ],
);

async fn two_instances_share_a_table_and_send_nothing_twice<D: Database, T: Transport>(
    house: House<D, T>,
) {
    let notes = Notes::default();
    // The window is small, so that many records go through both scanners.
    let options = house.options().confirm_window(16);
    let (one, two) = (house.bus_with(options.clone()), house.bus_with(options));
    one.start(house.noting(&notes, &["placed"]))
        .await
        .expect("start");
    two.start(house.noting(&notes, &["placed"]))
        .await
        .expect("start");

    let publishes = (0..600_i64).map(|n| {
        let bus = if n % 2 == 0 { one.clone() } else { two.clone() };
        let topic = house.topic("placed");
        tokio::spawn(async move { bus.publish(topic, &n).await })
    });
    for publish in publishes.collect::<Vec<_>>() {
        publish.await.expect("joined").expect("published");
    }

    notes.reach(600).await;
    house.outbox_is_empty(&one).await;
    let mut seen = BTreeMap::<i64, u32>::new();
    notes
        .numbers()
        .into_iter()
        .for_each(|n| *seen.entry(n).or_default() += 1);
    let repeated: Vec<_> = seen.iter().filter(|(_, times)| **times > 1).collect();
    assert!(repeated.is_empty(), "{repeated:?}");
    assert_eq!(seen.len(), 600);
    one.shutdown().await.expect("shutdown");
    two.shutdown().await.expect("shutdown");
}

async fn an_instance_sends_what_a_stopped_one_left<D: Database, T: Transport>(house: House<D, T>) {
    let lease = Duration::from_secs(2);
    let (dead, old) = house
        .start_noting(house.options().lease(lease), &["placed"])
        .await;
    house.transport.go_away().await;
    house
        .stats_are(&dead, "a broker that is away", |stats| !stats.connected)
        .await;
    for n in 0..10_i64 {
        dead.publish(house.topic("placed"), &n)
            .await
            .expect("publish");
    }
    // Without a shutdown, as a process that dies.
    drop(dead);
    house.transport.come_back().await;

    let (bus, notes) = house.start_noting(house.options(), &["placed"]).await;
    notes.reach(10).await;
    assert_eq!(old.len(), 0, "a dropped bus begins no handler");
    house.outbox_is_empty(&bus).await;
    bus.shutdown().await.expect("shutdown");
}

async fn purging_is_refused_while_another_instance_consumes<D: Database, T: Transport>(
    house: House<D, T>,
) {
    let (first, _) = house.start_connected(house.options(), &["placed"]).await;

    let notes = Notes::default();
    let second = house.bus_with(house.options().purge_on_startup(true));
    let result = second.start(house.noting(&notes, &["placed"])).await;

    assert!(
        matches!(result, Err(Error::Broker(_) | Error::PurgeRefused(_))),
        "{result:?}"
    );
    first.shutdown().await.expect("shutdown");
}

async fn ten_instances_can_start_at_once<D: Database, T: Transport>(house: House<D, T>) {
    let buses: Vec<_> = (0..10).map(|_| house.bus()).collect();
    let starts = buses.iter().map(|bus| bus.start(Router::new()));
    let results = tokio::time::timeout(SOON, futures::future::join_all(starts)).await;
    for result in results.expect("no start waits for another for ever") {
        result.expect("start");
    }
    for bus in &buses {
        bus.shutdown().await.expect("shutdown");
    }
}
