//! Connections, and messages per second.

use std::time::Duration;

use super::{
    AppLimits, AppsError, Denied, Operation, Operations, Place, TestDatabase, everywhere, grant,
};

everywhere!(
    connections_are_counted_until_they_are_dropped,
    messages_per_second_are_those_of_the_app_and_of_its_closest_right,
    tables_of_the_first_version_get_the_limit_of_open_pairs_and_keep_their_apps,
);

const PUBLISH: Operation = Operation::Publish;
const SUBSCRIBE: Operation = Operation::Subscribe;

async fn connections_are_counted_until_they_are_dropped<DB: TestDatabase>(at: Place<DB>) {
    let secret = at.app("shop").await;
    let node = at.node().await;
    let apps = node.rights.apps().expect("tables");
    let app = node.log_in("shop", &secret).await.expect("logged in");
    let other = node.log_in("shop", &secret).await.expect("logged in");
    let unlimited: Vec<_> = (0..100).map(|_| app.connect().expect("no limit")).collect();
    drop(unlimited);

    let two = AppLimits {
        connections: Some(2),
        ..AppLimits::default()
    };
    apps.limit("shop", two).await.expect("limited");
    let first = app.connect().expect("one");
    let _second = other.connect().expect("two");
    let refused = |app: &super::App| app.connect().err();
    assert_eq!(refused(&app), Some(Denied::Connections(2)));
    drop(first);
    let _third = app.connect().expect("two again");
    assert_eq!(refused(&other), Some(Denied::Connections(2)));

    let none = AppLimits {
        connections: Some(0),
        ..AppLimits::default()
    };
    apps.limit("shop", none).await.expect("limited");
    assert_eq!(refused(&app), Some(Denied::Connections(0)));
    apps.limit("shop", AppLimits::default())
        .await
        .expect("no limit");
    assert_eq!(refused(&app), None);
    node.stop().await;
}

async fn messages_per_second_are_those_of_the_app_and_of_its_closest_right<DB: TestDatabase>(
    at: Place<DB>,
) {
    let secret = at.app("shop").await;
    let node = at.node().await;
    let apps = node.rights.apps().expect("tables");
    let limits = AppLimits {
        publishes_per_second: Some(1_000),
        ..AppLimits::default()
    };
    apps.limit("shop", limits).await.expect("limited");
    for right in [
        grant("g", "*", Operations::BOTH)
            .publishes_per_second(500)
            .batch(50),
        grant("g", "order.*", Operations::BOTH)
            .publishes_per_second(100)
            .batch(20),
        grant("g", "order.paid", Operations::BOTH).publishes_per_second(10),
        // Closer, and without the operation in question.
        grant("g", "order.placed", Operations::SUBSCRIBE)
            .publishes_per_second(1)
            .batch(5),
    ] {
        apps.allow("shop", right).await.expect("allowed");
    }
    let app = node.log_in("shop", &secret).await.expect("logged in");
    let publish = |topic, count| app.spend(PUBLISH, Some("g"), topic, count);

    // Its right is used up, and no other.
    assert_eq!(publish("order.paid", 10), Ok(()));
    assert!(matches!(publish("order.paid", 1), Err(Denied::Rate(_))));
    assert_eq!(publish("order.placed", 100), Ok(()));
    let Err(Denied::Rate(wait)) = publish("order.sent", 1) else {
        panic!("the prefix has one bucket for all of its topics");
    };
    assert!(wait <= Duration::from_millis(10), "{wait:?}");
    // More than the bucket has goes at once, and then it owes.
    assert_eq!(publish("x", 2_000), Ok(()));
    let Err(Denied::Rate(wait)) = app.spend(PUBLISH, Some("h"), "x", 1) else {
        panic!("the app's own bucket owes");
    };
    assert!(
        (Duration::from_secs(1)..Duration::from_secs(2)).contains(&wait),
        "{wait:?}"
    );
    assert!(matches!(
        app.spend(PUBLISH, None, "x", 0),
        Err(Denied::Rate(_))
    ));
    // Deliveries have buckets of their own, here without limits.
    assert_eq!(
        app.spend(SUBSCRIBE, Some("g"), "order.paid", 1_000_000),
        Ok(())
    );

    node.rights.put_forward(Duration::from_secs(10));
    assert_eq!(publish("order.paid", 1), Ok(()));
    assert_eq!(app.spend(PUBLISH, Some("h"), "x", 0), Ok(()));

    let batch = |topic| app.batch("g", topic);
    assert_eq!(batch("x"), Some(50));
    assert_eq!(batch("order.sent"), Some(20));
    assert_eq!(batch("order.placed"), Some(5));
    assert_eq!(batch("order.paid"), None, "the closest right has none");
    assert_eq!(app.batch("h", "x"), None);

    // What was used stays used when the tables are read again, and other limits hold at once.
    publish("order.paid", 1_000).expect("full");
    apps.allow("shop", grant("g", "y", Operations::BOTH))
        .await
        .expect("allowed");
    assert!(matches!(publish("order.paid", 1), Err(Denied::Rate(_))));
    let right = grant("g", "order.paid", Operations::BOTH).publishes_per_second(0);
    apps.allow("shop", right).await.expect("allowed");
    node.rights.put_forward(Duration::from_secs(1_000));
    assert!(matches!(publish("order.paid", 1), Err(Denied::Rate(_))));
    node.stop().await;
}

async fn tables_of_the_first_version_get_the_limit_of_open_pairs_and_keep_their_apps<
    DB: TestDatabase,
>(
    at: Place<DB>,
) {
    at.app("shop").await;
    at.sql("ALTER TABLE final_gateway_apps DROP COLUMN open_pairs")
        .await;
    at.sql("UPDATE final_migrations SET version = 1 WHERE table_name = 'final_gateway_apps'")
        .await;
    let five = AppLimits {
        open_pairs: Some(5),
        ..AppLimits::default()
    };
    let too_early = at.apps.limit("shop", five).await;
    assert!(
        matches!(too_early, Err(AppsError::OldTables)),
        "{too_early:?}"
    );
    let too_early = at.apps.list().await;
    assert!(
        matches!(too_early, Err(AppsError::OldTables)),
        "{too_early:?}"
    );

    let (one, two) = tokio::join!(at.apps.migrate(), at.apps.migrate());
    one.expect("migrated");
    two.expect("migrated by another node");
    let apps = at.apps.list().await.expect("listed");
    assert_eq!((apps.len(), apps[0].limits.open_pairs), (1, None));
    at.apps.limit("shop", five).await.expect("limited");
    let secret = at.apps.create("new", five).await.expect("created");
    let node = at.node().await;
    let app = node.log_in("new", &secret).await.expect("logged in");
    assert_eq!(app.open_pairs(), Some(5));
    let listed = at.apps.list().await.expect("listed");
    assert!(listed.iter().all(|app| app.limits.open_pairs == Some(5)));
    node.stop().await;
}
