//! Ids that a publisher chooses: one id is published any number of times, and each time is a message.

use std::time::Duration;

use final_core::{
    Error, MessageId,
    admin::{Admin, RecordFilter, RecordState, Station},
};
use tokio::time::timeout;

use crate::{
    database::Database,
    house::{House, Notes, SOON},
    transport::Transport,
};

crate::suite!(
    everywhere: [
        an_id_is_published_again_and_again_and_always_delivered,
        an_id_that_tells_nothing_is_refused,
        a_rollback_takes_only_its_own_message_of_an_id,
        a_delayed_message_comes_beside_another_one_of_its_id,
    ],
    with an outbox: [
        an_id_whose_record_is_kept_is_published_again,
        messages_of_one_id_go_to_each_of_their_topics,
        records_of_one_id_are_found_shown_and_retried,
        a_message_that_is_not_confirmed_has_the_chosen_id_as_well,
    ],
);

macro_rules! at_once {
    ($($name:ident),+ $(,)?) => {
        crate::suite!(@pair at_once_on_postgres, sqlx::Postgres, crate::transport::Rabbit: $($name,)+);
        crate::suite!(@pair at_once_on_mariadb, sqlx::MySql, crate::transport::Rabbit: $($name,)+);
        crate::suite!(@pair at_once_on_postgres_log, sqlx::Postgres, crate::transport::Log: $($name,)+);
        crate::suite!(@pair at_once_on_mariadb_log, sqlx::MySql, crate::transport::Log: $($name,)+);
    };
}

at_once![transactions_that_are_open_at_once_publish_one_id];

/// The ids of what was handled, and the numbers, in order.
fn came(notes: &Notes) -> (Vec<MessageId>, Vec<i64>) {
    let ids = notes.all().iter().map(|message| message.id()).collect();
    let mut numbers = notes.numbers();
    numbers.sort_unstable();
    (ids, numbers)
}

async fn an_id_is_published_again_and_again_and_always_delivered<D: Database, T: Transport>(
    house: House<D, T>,
) {
    let (bus, notes) = house.start_noting(house.options(), &["placed"]).await;
    let (topic, id) = (house.topic("placed"), MessageId::new());

    // In one transaction; partly flushed; as many as go in several INSERTs.
    let mut tx = bus.with_tx(bus.begin().await.expect("begin"));
    for n in 0..3_i64 {
        let published = tx.publish(&topic, &n).id(id).await.expect("staged");
        assert_eq!(published, id);
        if n == 1 {
            tx.flush().await.expect("flushed");
        }
    }
    tx.commit().await.expect("commit");
    // In transactions one after the other; alone; beside others.
    for n in 3..6_i64 {
        bus.publish(&topic, &n).id(id).await.expect("published");
    }
    let begun = bus.begin().await.expect("begin");
    bus.transaction(begun, async |mut tx| {
        for n in 6..26_i64 {
            tx.publish(&topic, &n).id(id).key("k").await?;
        }
        Ok::<_, Error>(())
    })
    .await
    .expect("committed");
    // On a connection whose transaction other code commits.
    let mut tx = house.pool.begin().await.expect("begin");
    for n in 26..28_i64 {
        let in_it = bus.publish_in(&mut tx, &topic, &n).id(id);
        in_it.await.expect("written");
    }
    tx.commit().await.expect("commit");
    bus.wake();
    // An id that the bus gave to a message is an id as any other.
    let of_bus = bus.publish(&topic, &28_i64).await.expect("published");
    let again = bus.publish(&topic, &29_i64).id(of_bus);
    again.await.expect("published again");

    notes.reach(30).await;
    let (ids, numbers) = came(&notes);
    assert_eq!(numbers, Vec::from_iter(0..30));
    assert_eq!(ids.iter().filter(|came| **came == id).count(), 28);
    assert_eq!(ids.iter().filter(|came| **came == of_bus).count(), 2);
    bus.shutdown().await.expect("shutdown");
    assert_eq!(notes.len(), 30);
}

async fn an_id_that_tells_nothing_is_refused<D: Database, T: Transport>(house: House<D, T>) {
    let (bus, notes) = house.start_noting(house.options(), &["placed"]).await;

    for id in [u128::MIN, u128::MAX] {
        let id = MessageId(uuid::Uuid::from_u128(id));
        let refused = bus.publish(house.topic("placed"), &1_i64).id(id).await;
        assert!(
            matches!(refused, Err(Error::InvalidPolicy { .. })),
            "{refused:?}"
        );
    }

    bus.shutdown().await.expect("shutdown");
    assert_eq!(notes.len(), 0);
}

async fn a_rollback_takes_only_its_own_message_of_an_id<D: Database, T: Transport>(
    house: House<D, T>,
) {
    let (bus, notes) = house.start_noting(house.options(), &["placed"]).await;
    let (topic, id) = (house.topic("placed"), MessageId::new());

    for n in 0..4_i64 {
        let mut tx = bus.with_tx(bus.begin().await.expect("begin"));
        tx.publish(&topic, &n).id(id).await.expect("staged");
        tx.flush().await.expect("written");
        match n % 2 {
            0 => tx.commit().await.expect("commit"),
            _ => tx.rollback().await.expect("rollback"),
        }
    }

    notes.reach(2).await;
    bus.shutdown().await.expect("shutdown");
    assert_eq!(came(&notes), (vec![id; 2], vec![0, 2]));
}

async fn a_delayed_message_comes_beside_another_one_of_its_id<D: Database, T: Transport>(
    house: House<D, T>,
) {
    let (bus, notes) = house.start_noting(house.options(), &["placed"]).await;
    let (topic, id) = (house.topic("placed"), MessageId::new());

    for n in 0..2_i64 {
        let later = bus.publish(&topic, &n).id(id);
        later.delay(SHORT).await.expect("published");
    }
    bus.publish(&topic, &2_i64).id(id).await.expect("published");

    notes.reach(3).await;
    bus.shutdown().await.expect("shutdown");
    assert_eq!(came(&notes), (vec![id; 3], vec![0, 1, 2]));
}

const SHORT: Duration = Duration::from_millis(300);

async fn an_id_whose_record_is_kept_is_published_again<D: Database, T: Transport>(
    house: House<D, T>,
) {
    let options = house.options().retention(SOON * 100);
    let (bus, notes) = house.start_noting(options, &["placed"]).await;
    let (topic, id) = (house.topic("placed"), MessageId::new());

    for n in 0..3_i64 {
        let published = bus.publish(&topic, &n).id(id).await;
        published.expect("published");
        notes.reach(usize::try_from(n).expect("small") + 1).await;
        house.outbox_is_empty(&bus).await;
    }

    assert_eq!(house.records().await, 3);
    assert_eq!(came(&notes), (vec![id; 3], vec![0, 1, 2]));
    bus.shutdown().await.expect("shutdown");
}

/// One has a queue and the other has none. The broker names a message that it returns, and both have that name.
async fn messages_of_one_id_go_to_each_of_their_topics<D: Database, T: Transport>(
    house: House<D, T>,
) {
    let (bus, notes) = house.start_connected(house.options(), &["placed"]).await;
    let id = MessageId::new();

    let begun = bus.begin().await.expect("begin");
    bus.transaction(begun, async |mut tx| {
        for n in 0..10_i64 {
            for topic in ["nobody", "placed"] {
                tx.publish(house.topic(topic), &n).id(id).await?;
            }
        }
        Ok::<_, Error>(())
    })
    .await
    .expect("committed");

    notes.reach(10).await;
    house
        .stats_are(&bus, "ten without a queue", |stats| {
            (stats.unroutable, stats.acked) == (10, 10)
        })
        .await;
    bus.shutdown().await.expect("shutdown");
    assert_eq!(came(&notes), (vec![id; 10], Vec::from_iter(0..10)));
}

async fn records_of_one_id_are_found_shown_and_retried<D: Database, T: Transport>(
    house: House<D, T>,
) {
    let (bus, notes) = house.start_noting(house.options(), &["placed"]).await;
    bus.shutdown().await.expect("shutdown");
    let bus = house.bus();
    let (topic, id) = (house.topic("placed"), MessageId::new());
    let of_bus = bus.publish(&topic, &0_i64).await.expect("published");
    for (n, id) in [(1_i64, id), (2, id), (3, of_bus), (4, MessageId::new())] {
        let published = bus.publish(&topic, &n).id(id).await;
        published.expect("published");
    }
    let failed = format!(
        "UPDATE {} SET status = 3, last_error = 'broken'",
        house.table()
    );
    D::run_on(&house.pool, &failed).await;
    let shop = Admin::new(house.pool.clone()).service(&house.service);

    for (id, count) in [(id, 2), (of_bus, 2), (MessageId::new(), 0)] {
        let filter = RecordFilter::all().id(id);
        let page = shop.records(&filter).await.expect("records");
        let told: Vec<_> = page.items.iter().map(|one| (one.id, one.state)).collect();
        assert_eq!(told, vec![(id, RecordState::Failed); count]);
        let narrower = filter.clone().state(RecordState::Pending);
        let page = shop.records(&narrower).await.expect("records");
        assert!(page.items.is_empty());
        let shown = shop.record(id).await.expect("a record");
        let shown = shown.map(|whole| whole.message.expect("a message").id());
        assert_eq!(shown, (count > 0).then_some(id));
        // Page by page, none comes twice.
        let first = shop.records(&filter.clone().limit(1)).await;
        let first = first.expect("a page");
        if let Some(next) = first.next {
            let rest = shop.records(&filter.after(next)).await.expect("a page");
            assert_eq!(rest.items.len(), count - 1);
            assert_ne!(rest.items[0].record_id, first.items[0].record_id);
        }
        let trail = shop.trail(id).await.expect("a trail");
        let records = trail.stations.iter();
        let records = records.filter(|station| matches!(station, Station::Record { .. }));
        assert_eq!(records.count(), count);
    }
    // A record is also found by its key, and that one alone.
    let page = shop.records(&RecordFilter::all().id(id)).await;
    let one = &page.expect("records").items[1];
    let by_key = shop.record(MessageId(one.record_id)).await;
    let by_key = by_key.expect("a record").expect("this record").info;
    assert_eq!((by_key.record_id, by_key.id), (one.record_id, id));

    bus.start(house.noting(&notes, &["placed"]))
        .await
        .expect("start");
    let failed = bus.failed(10).await.expect("failed records");
    let of_id = failed.iter().filter(|failed| failed.id == id);
    assert_eq!(of_id.count(), 2);
    assert_eq!(bus.retry_failed(id).await.expect("retried"), 2);
    notes.reach(2).await;
    assert_eq!(came(&notes), (vec![id; 2], vec![1, 2]));
    assert_eq!(bus.retry_failed(of_bus).await.expect("retried"), 2);
    notes.reach(4).await;
    bus.shutdown().await.expect("shutdown");
    assert_eq!(came(&notes).1, [0, 1, 2, 3]);
}

async fn a_message_that_is_not_confirmed_has_the_chosen_id_as_well<D: Database, T: Transport>(
    house: House<D, T>,
) {
    let (bus, notes) = house.start_connected(house.options(), &["placed"]).await;
    let (topic, id) = (house.topic("placed"), MessageId::new());

    for n in 0..10_i64 {
        let publish = bus.publish(&topic, &n).id(id).confirm(n % 2 == 0);
        publish.await.expect("published");
    }

    notes.reach(10).await;
    assert_eq!(came(&notes), (vec![id; 10], Vec::from_iter(0..10)));
    bus.shutdown().await.expect("shutdown");
}

async fn transactions_that_are_open_at_once_publish_one_id<D: Database, T: Transport>(
    house: House<D, T>,
) {
    let (bus, notes) = house.start_noting(house.options(), &["placed"]).await;
    let (topic, id) = (house.topic("placed"), MessageId::new());
    let mut open = Vec::new();

    for n in 0..3_i64 {
        let mut tx = bus.with_tx(bus.begin().await.expect("begin"));
        tx.publish(&topic, &n).id(id).await.expect("staged");
        let flushed = timeout(Duration::from_secs(5), tx.flush()).await;
        flushed.expect("none waits for another").expect("written");
        open.push(tx);
    }
    let alone = bus.publish(&topic, &3_i64).id(id);
    let alone = timeout(Duration::from_secs(5), alone.into_future()).await;
    alone.expect("none waits for another").expect("published");
    for tx in open.into_iter().rev() {
        tx.commit().await.expect("commit");
    }

    notes.reach(4).await;
    bus.shutdown().await.expect("shutdown");
    assert_eq!(came(&notes), (vec![id; 4], vec![0, 1, 2, 3]));
}
