//! Migrations: what is made, kept and refused.

use std::time::Duration;

use super::{
    House, Outbox,
    house::{message, shop},
};
use crate::{Error, names::ServiceName, outbox::NewRecord};

pub(super) async fn a_release_that_knew_no_collected_letters_gets_their_table<DB: House>() {
    let outbox = Outbox::<DB>::new().await;
    let mut conn = outbox.pool.acquire().await.unwrap();
    let letters = shop().letters_table();
    DB::execute(&mut conn, &format!("DROP TABLE {letters}")).await;
    DB::execute(&mut conn, "UPDATE final_migrations SET version = 3").await;

    DB::migrate(&outbox.relay, &shop()).await.unwrap();

    let count = format!("SELECT COUNT(*) FROM {letters}");
    assert_eq!(DB::number(&mut conn, &count).await, 0);
}

pub(super) async fn migrating_again_changes_nothing<DB: House>() {
    let outbox = Outbox::<DB>::new().await;
    outbox.fill("order.placed", 3).await;

    DB::migrate(&outbox.relay, &shop()).await.unwrap();

    assert_eq!(outbox.claim(10).await.len(), 3);
}

pub(super) async fn twenty_instances_can_migrate_at_once<DB: House>() {
    let pool = DB::fresh().await;

    let all = (0..20).map(|_| {
        let relay = DB::relay_pool(&pool);
        tokio::spawn(async move { DB::migrate(&relay, &shop()).await })
    });

    for result in futures::future::join_all(all).await {
        result.unwrap().unwrap();
    }
}

pub(super) async fn services_that_share_a_schema_can_migrate_at_once<DB: House>() {
    let pool = DB::fresh().await;

    let all = (0..10).map(|n| {
        let relay = DB::relay_pool(&pool);
        let service = ServiceName::new(&format!("service-{n}")).unwrap();
        tokio::spawn(async move { DB::migrate(&relay, &service).await })
    });

    for result in futures::future::join_all(all).await {
        result.unwrap().unwrap();
    }
}

pub(super) async fn two_services_of_one_table_are_told_apart<DB: House>() {
    let outbox = Outbox::<DB>::new().await;
    let other = ServiceName::new("my_shop").unwrap();
    assert_eq!(other.table(), shop().table());

    let error = DB::migrate(&outbox.relay, &other).await.unwrap_err();

    assert!(matches!(error, Error::ForeignTable { .. }));
    let text = error.to_string();
    assert!(text.contains("\"my-shop\"") && text.contains("\"my_shop\""));
}

pub(super) async fn the_script_can_be_run_by_hand_and_again<DB: House>() {
    let pool = DB::fresh().await;
    let script = DB::migration_sql(&shop());
    {
        let mut conn = pool.acquire().await.unwrap();
        DB::script(&mut conn, &script).await;
        DB::script(&mut conn, &script).await;
    }
    let relay = DB::relay_pool(&pool);

    DB::migrate(&relay, &shop()).await.unwrap();

    let s = DB::locate(&relay, &shop()).await.unwrap();
    let message = message("order.placed");
    let mut tx = DB::begin(&pool).await.unwrap();
    DB::insert(&mut tx, &s, &[NewRecord::plain(&message)], true)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    assert_eq!(DB::backlog(&relay, &s).await.unwrap().pending(), 1);
}

pub(super) async fn a_table_of_something_else_is_refused<DB: House>() {
    let pool = DB::fresh().await;
    let relay = DB::relay_pool(&pool);
    let create = format!("CREATE TABLE {} (id INT, name INT)", shop().table());
    DB::execute(&mut *pool.acquire().await.unwrap(), &create).await;

    let error = DB::migrate(&relay, &shop()).await.unwrap_err();

    assert!(matches!(error, Error::ForeignTable { .. }));
}

pub(super) async fn a_missing_table_is_told_from_other_errors<DB: House>() {
    let pool = DB::fresh().await;
    let relay = DB::relay_pool(&pool);
    let s = DB::locate(&relay, &shop()).await.unwrap();
    let message = message("order.placed");
    let records = [NewRecord::plain(&message)];
    let missing = {
        let mut tx = DB::begin(&pool).await.unwrap();
        DB::insert(&mut tx, &s, &records, true).await.unwrap_err()
    };
    DB::migrate(&relay, &shop()).await.unwrap();
    let mut tx = DB::begin(&pool).await.unwrap();
    DB::insert(&mut tx, &s, &records, true).await.unwrap();
    let duplicate = DB::insert(&mut tx, &s, &records, true).await.unwrap_err();

    assert!(DB::is_missing_table(&missing, "_outbox"));
    assert!(!DB::is_missing_table(&duplicate, "_outbox"));
    assert!(!DB::is_not_in_transaction(&duplicate));
    assert!(DB::is_surely_rolled_back(&duplicate));
    assert!(!DB::is_surely_rolled_back(&sqlx::Error::PoolTimedOut));
}

pub(super) async fn a_cancelled_begin_leaves_no_transaction_behind<DB: House>() {
    let outbox = Outbox::<DB>::new().await;
    // All but one of its connections, so that the next to borrow gets the one just returned.
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(outbox.pool.acquire().await.unwrap());
    }
    // Dropped after each of its steps: a ping, BEGIN, the answer.
    for steps in (1..5).cycle().take(20) {
        {
            let mut begin = std::pin::pin!(DB::begin(&outbox.pool));
            for _ in 0..steps {
                if futures::poll!(&mut begin).is_ready() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;

        // In autocommit: seen by others only if the connection is in no transaction.
        let message = message("order.placed");
        let mut conn = outbox.pool.acquire().await.unwrap();
        DB::insert(&mut conn, &outbox.s, &[NewRecord::plain(&message)], false)
            .await
            .unwrap();
        assert_eq!(outbox.claim(10).await.len(), 1, "after {steps} steps");
    }
}

pub(super) async fn the_longest_service_name_fits<DB: House>() {
    let pool = DB::fresh().await;
    let relay = DB::relay_pool(&pool);
    let service = ServiceName::new(&"a".repeat(40)).unwrap();

    DB::migrate(&relay, &service).await.unwrap();

    let s = DB::locate(&relay, &service).await.unwrap();
    assert_eq!(DB::backlog(&relay, &s).await.unwrap().pending(), 0);
}
