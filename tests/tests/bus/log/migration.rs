//! The tables, and how far a service is behind in them.

use std::time::Duration;

use final_core::{Router, broker::DeadLetterFilter};

use super::Log;
use crate::database::Database;

crate::log_suite!(
    the_migration_as_text_makes_the_tables_and_running_it_again_changes_nothing,
    a_service_can_tell_how_far_it_is_behind,
    a_row_written_by_hand_that_is_no_message_is_dead_lettered,
);

async fn the_migration_as_text_makes_the_tables_and_running_it_again_changes_nothing<
    D: Database,
>(
    log: Log<D>,
) {
    let bus = log.bus("shop");
    let text = bus.migration_sql().expect("a good name");
    // As a person does it, in one session: on MySQL a part of it prepares a statement.
    let mut conn = log.pool.acquire().await.expect("a connection");
    for _ in 0..2 {
        D::raw(&mut conn, &text).await.expect("the migration");
    }
    drop(conn);

    bus.publish("placed", &1).await.expect("publish");

    assert_eq!(log.number("SELECT count(*) FROM final_log").await, 1);
    let states = "SELECT count(*) FROM final_log_state";
    assert_eq!(log.number(states).await, 1);
}

async fn a_service_can_tell_how_far_it_is_behind<D: Database>(log: Log<D>) {
    let broker = log.broker();
    let (bus, notes) = log.noting_on("shop", broker.clone(), &["placed"]).await;
    let nothing = broker.backlog("shop").await.expect("backlog");
    assert_eq!((nothing.waiting, nothing.oldest), (0, None));
    bus.shutdown().await.expect("shutdown");

    let publisher = log.bus("till");
    for n in 0..5 {
        publisher.publish("placed", &n).await.expect("publish");
    }
    publisher.publish("other", &0).await.expect("publish");
    let later = publisher.publish("placed", &9);
    later.delay(Duration::from_secs(60)).await.expect("publish");

    let backlog = broker.backlog("shop").await.expect("backlog");
    assert_eq!((backlog.waiting, backlog.scheduled), (5, 1));
    assert!(backlog.oldest.is_some());
    assert_eq!(notes.len(), 0);
}

async fn a_row_written_by_hand_that_is_no_message_is_dead_lettered<D: Database>(log: Log<D>) {
    let broker = log.broker();
    let bus = log.bus("till");
    bus.start(Router::new()).await.expect("start");
    let id = bus.publish("placed", &1).await.expect("publish");
    log.run("UPDATE final_log SET headers = '{4111'").await;
    bus.publish("placed", &2).await.expect("publish");

    let (shop, notes) = log.noting_on("shop", broker.clone(), &["placed"]).await;
    notes.reach(1).await;
    log.comes_to("SELECT count(*) FROM final_log_dead", 1).await;
    let letters = broker.dead_letters("shop", DeadLetterFilter::all());
    let letters = letters.await.expect("letters");

    assert_eq!(letters[0].id, id);
    assert!(
        letters[0].reason.contains("headers"),
        "{}",
        letters[0].reason
    );
    assert!(!letters[0].reason.contains("4111"), "{}", letters[0].reason);
    shop.shutdown().await.expect("shutdown");
    bus.shutdown().await.expect("shutdown");
}
