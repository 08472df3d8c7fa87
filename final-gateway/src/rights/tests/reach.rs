//! How a change reaches other processes.

use std::time::{Duration, Instant};

use final_tests::{always, eventually};

use super::{
    AppLimits, AuthError, Denied, Node, Operation, Operations, Place, Rights, SOON, TestDatabase,
    everywhere, grant,
};
use final_core::database::Dialect;

everywhere!(
    a_revocation_reaches_another_process,
    a_change_by_hand_is_seen_and_a_row_that_is_wrong_harms_no_other,
);

/// By asking again, on a database without notices.
const EVERY: Duration = Duration::from_millis(200);

/// By a notice alone.
const NEVER: Duration = Duration::from_secs(3600);

async fn a_revocation_reaches_another_process<DB: TestDatabase>(at: Place<DB>) {
    let secret = at.app("shop").await;
    let other_secret = at.app("other").await;
    let hears = DB::DIALECT == Dialect::Postgres;
    let every = match hears {
        true => NEVER,
        false => EVERY,
    };
    let node = Node::start(Rights::tables(at.pool.clone()).read_every(every)).await;
    let app = node.log_in("shop", &secret).await.expect("logged in");
    let other = node
        .log_in("other", &other_secret)
        .await
        .expect("logged in");
    if hears {
        // It listens once it hears a change.
        eventually("the node listens", SOON, async || {
            at.apps
                .limit("other", AppLimits::default())
                .await
                .expect("changed");
            let version = node.rights.version();
            at.apps
                .limit("other", AppLimits::default())
                .await
                .expect("changed");
            tokio::time::sleep(Duration::from_millis(100)).await;
            node.rights.version() > version
        })
        .await;
    }

    let revoked = app.revoked();
    let begun = Instant::now();
    at.apps.disable("shop").await.expect("disabled");
    tokio::time::timeout(SOON, revoked.cancelled())
        .await
        .expect("heard");
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_eq!(app.may(Operation::Publish, None, "t"), Err(Denied::Group));
    assert!(app.revoked().is_cancelled());
    assert_eq!(
        node.log_in("shop", &secret).await.err(),
        Some(AuthError::Key)
    );

    at.apps.enable("shop").await.expect("enabled");
    eventually("it may log in again", SOON, async || {
        node.log_in("shop", &secret).await.is_ok()
    })
    .await;
    assert!(
        app.revoked().is_cancelled(),
        "the login of before is over for good"
    );

    let again = node.log_in("shop", &secret).await.expect("logged in");
    let revoked = again.revoked();
    at.apps
        .allow("shop", grant("g", "t", Operations::PUBLISH))
        .await
        .expect("allowed");
    at.apps
        .revoke("shop", "*", "*", Operations::BOTH)
        .await
        .expect("revoked");
    tokio::time::timeout(SOON, revoked.cancelled())
        .await
        .expect("heard");
    eventually("what is left is a right on one topic", SOON, async || {
        again.may(Operation::Publish, Some("g"), "t") == Ok(())
            && again.may(Operation::Publish, Some("g"), "u") == Err(Denied::Topic)
    })
    .await;
    assert!(!again.revoked().is_cancelled(), "the login itself is good");
    assert!(
        !other.revoked().is_cancelled(),
        "another app heard of nothing"
    );
    node.stop().await;
}

async fn a_change_by_hand_is_seen_and_a_row_that_is_wrong_harms_no_other<DB: TestDatabase>(
    at: Place<DB>,
) {
    let (good, bad) = (at.app("good").await, at.app("bad").await);
    let node = at.node().await;
    let app = node.log_in("bad", &bad).await.expect("logged in");
    at.sql("UPDATE final_gateway_apps SET secret_kind = 'md5' WHERE app_key = 'bad'")
        .await;
    let wrong = [
        ("a", "x", 7, -1),
        ("a", "a*b", 3, 1),
        ("a b", "x", 3, 1),
        ("", "", 0, 0),
        ("g", "t", 3, -5),
    ];
    for (group, topic, operations, batch) in wrong {
        at.sql(&format!(
            "INSERT INTO final_gateway_rights (app_key, group_name, topic, operations, batch, created_at) \
             VALUES ('good', '{group}', '{topic}', {operations}, {batch}, 0)"
        ))
        .await;
    }
    at.sql(
        "INSERT INTO final_gateway_rights (app_key, group_name, topic, operations, created_at) \
         VALUES ('nobody', 'g', 't', 3, 0)",
    )
    .await;
    // The version is the same, so nothing is read before a minute is over.
    node.rights.read().await.expect("read");
    assert!(!app.revoked().is_cancelled());
    node.rights.put_forward(Duration::from_secs(61));
    node.rights.read().await.expect("read");
    assert!(app.revoked().is_cancelled());
    assert_eq!(
        node.log_in("bad", &bad).await.err(),
        Some(AuthError::Secret)
    );
    let good = node.log_in("good", &good).await.expect("logged in");
    assert_eq!(good.may(Operation::Subscribe, Some("x"), "y"), Ok(()));
    // Somebody has wanted a limit.
    assert_eq!(good.batch("g", "t"), Some(0));

    let list = at.apps.list().await.expect("listed");
    let faults = |key: &str| {
        let app = list.iter().find(|app| app.key == key).expect("listed");
        app.faults.len()
    };
    assert_eq!((faults("good"), faults("bad")), (4, 1));
    always(
        "nothing is revoked",
        Duration::from_millis(200),
        async || !good.revoked().is_cancelled(),
    )
    .await;
    node.stop().await;
}
