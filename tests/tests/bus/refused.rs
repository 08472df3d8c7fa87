//! The outbox's table refuses a change of one record. Other records are not held up.

use std::time::Duration;

use final_core::Bus;
use final_tests::eventually;
use sqlx::{Database as _, MySql, Postgres};

use crate::{
    database::Database,
    house::{House, SOON},
    transport::Transport,
};

crate::suite!(
    with an outbox: [
        a_record_that_the_table_does_not_let_go_keeps_no_other_back_and_is_not_sent_again,
        a_shutdown_does_not_wait_for_a_record_that_the_table_does_not_let_go,
        a_record_that_a_trigger_keeps_in_silence_is_not_sent_again,
        a_record_that_cannot_be_parked_keeps_no_other_back,
        an_acked_record_that_the_table_does_not_let_go_keeps_no_other,
        an_expired_record_that_the_table_does_not_let_go_keeps_no_other_back,
        an_error_text_that_the_table_refuses_is_stored_in_fewer_words,
    ],
);

/// Makes the outbox refuse a change where a condition is met.
async fn refuse<D: Database, T: Transport>(house: &House<D, T>, change: &str, condition: &str) {
    let raise = ["RAISE EXCEPTION 'not here'", "RAISE(ABORT, 'not here')"];
    guard(house, change, condition, raise).await;
}

/// Makes the outbox skip a change without an error. MariaDB has no trigger that does so, and refuses it.
async fn ignore<D: Database, T: Transport>(house: &House<D, T>, change: &str, condition: &str) {
    guard(house, change, condition, ["RETURN NULL", "RAISE(IGNORE)"]).await;
}

/// Makes a trigger that does this on PostgreSQL, and that on SQLite.
async fn guard<D: Database, T: Transport>(
    house: &House<D, T>,
    change: &str,
    condition: &str,
    [postgres, sqlite]: [&str; 2],
) {
    let table = house.table();
    let head = format!("CREATE TRIGGER guard BEFORE {change} ON {table}");
    let statements = match D::NAME {
        name if name == Postgres::NAME => vec![
            format!(
                "CREATE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                 IF {condition} THEN {postgres}; END IF; \
                 IF TG_OP = 'DELETE' THEN RETURN OLD; END IF; RETURN NEW; END $$"
            ),
            format!("{head} FOR EACH ROW EXECUTE FUNCTION guard()"),
        ],
        name if name == MySql::NAME => vec![format!(
            "{head} FOR EACH ROW IF {condition} THEN \
             SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'not here'; END IF"
        )],
        _ => vec![format!(
            "{head} WHEN {condition} BEGIN SELECT {sqlite}; END"
        )],
    };
    for statement in statements {
        D::run_on(&house.pool, &statement).await;
    }
}

async fn allow<D: Database, T: Transport>(house: &House<D, T>) {
    let on = match D::NAME {
        name if name == Postgres::NAME => format!(" ON {}", house.table()),
        _ => String::new(),
    };
    D::run_on(&house.pool, &format!("DROP TRIGGER guard{on}")).await;
}

/// Publishes a number to each of these topics, in one transaction, so that the answers come together.
async fn publish<D: Database, T: Transport>(house: &House<D, T>, bus: &Bus<D>, topics: &[&str]) {
    let tx = bus.begin().await.expect("a transaction");
    bus.transaction(tx, async |mut txbus| {
        for (number, topic) in (0_i64..).zip(topics) {
            txbus.publish(house.topic(topic), &number).await?;
        }
        Ok::<_, final_core::Error>(())
    })
    .await
    .expect("committed");
}

async fn records_are<D: Database, T: Transport>(house: &House<D, T>, count: i64) {
    let what = format!("{count} records in the outbox");
    eventually(&what, SOON, async || house.records().await == count).await;
}

async fn a_record_that_the_table_does_not_let_go_keeps_no_other_back_and_is_not_sent_again<
    D: Database,
    T: Transport,
>(
    house: House<D, T>,
) {
    let options = house.options().lease(Duration::from_secs(2));
    let (bus, notes) = house.start_noting(options, &["placed", "kept"]).await;
    refuse(
        &house,
        "DELETE",
        &format!("OLD.topic = '{}'", house.topic("kept")),
    )
    .await;

    publish(
        &house,
        &bus,
        &["placed", "placed", "kept", "placed", "placed"],
    )
    .await;

    records_are(&house, 1).await;
    allow(&house).await;
    records_are(&house, 0).await;
    assert_eq!(notes.numbers().len(), 5, "each exactly once");
    bus.shutdown().await.expect("shutdown");
}

async fn a_shutdown_does_not_wait_for_a_record_that_the_table_does_not_let_go<
    D: Database,
    T: Transport,
>(
    house: House<D, T>,
) {
    let options = house.options().shutdown_timeout(SOON * 10);
    let (bus, notes) = house.start_noting(options, &["placed", "kept"]).await;
    refuse(
        &house,
        "DELETE",
        &format!("OLD.topic = '{}'", house.topic("kept")),
    )
    .await;
    publish(&house, &bus, &["placed", "kept", "placed"]).await;
    notes.reach(3).await;

    let shutdown = tokio::time::timeout(SOON, bus.shutdown()).await;
    shutdown.expect("long before its limit").expect("shutdown");

    assert_eq!(house.records().await, 1);
}

async fn a_record_that_a_trigger_keeps_in_silence_is_not_sent_again<D: Database, T: Transport>(
    house: House<D, T>,
) {
    let lease = Duration::from_secs(2);
    let options = house.options().lease(lease);
    let (bus, notes) = house.start_noting(options, &["placed", "kept"]).await;
    ignore(
        &house,
        "DELETE",
        &format!("OLD.topic = '{}'", house.topic("kept")),
    )
    .await;

    publish(&house, &bus, &["placed", "kept", "placed"]).await;

    records_are(&house, 1).await;
    tokio::time::sleep(lease * 2).await;
    assert_eq!(notes.len(), 3, "each exactly once");
    allow(&house).await;
    records_are(&house, 0).await;
    bus.shutdown().await.expect("shutdown");
}

async fn a_record_that_cannot_be_parked_keeps_no_other_back<D: Database, T: Transport>(
    house: House<D, T>,
) {
    let (bus, notes) = house.start_noting(house.options(), &["placed"]).await;
    let condition = format!("NEW.status = 1 AND OLD.topic = '{}'", house.topic("kept"));
    refuse(&house, "UPDATE", &condition).await;

    // So many that each statement that parks some has one that is refused.
    let topics = ["nowhere", "kept", "nowhere", "nowhere"].repeat(10);
    publish(&house, &bus, &topics).await;

    let parked = format!("SELECT count(*) FROM {} WHERE status = 1", house.table());
    eventually("the others parked", SOON, async || {
        // One may be out as the probe.
        D::number(&house.pool, &parked).await >= 29
    })
    .await;
    publish(&house, &bus, &["placed", "placed", "placed"]).await;
    notes.reach(3).await;
    records_are(&house, 40).await;
    bus.shutdown().await.expect("shutdown");
}

async fn an_acked_record_that_the_table_does_not_let_go_keeps_no_other<
    D: Database,
    T: Transport,
>(
    house: House<D, T>,
) {
    let options = house.options().retention(Duration::from_millis(1));
    let (bus, notes) = house.start_noting(options, &["placed", "kept"]).await;
    refuse(
        &house,
        "DELETE",
        &format!("OLD.topic = '{}'", house.topic("kept")),
    )
    .await;

    publish(
        &house,
        &bus,
        &["kept", "placed", "kept", "placed", "placed", "kept"],
    )
    .await;

    notes.reach(6).await;
    records_are(&house, 3).await;
    allow(&house).await;
    records_are(&house, 0).await;
    bus.shutdown().await.expect("shutdown");
}

/// One scan finds the records, and one statement removes them.
async fn an_expired_record_that_the_table_does_not_let_go_keeps_no_other_back<
    D: Database,
    T: Transport,
>(
    house: House<D, T>,
) {
    let writer = house.bus();
    writer.migrate().await.expect("a table");
    refuse(
        &house,
        "DELETE",
        &format!("OLD.topic = '{}'", house.topic("kept")),
    )
    .await;
    for topic in ["gone", "kept", "gone"] {
        writer
            .publish(house.topic(topic), &0_i64)
            .ttl(Duration::from_millis(1))
            .await
            .expect("published");
    }
    publish(&house, &writer, &["placed"]).await;

    let (bus, notes) = house.start_noting(house.options(), &["placed"]).await;

    notes.reach(1).await;
    records_are(&house, 1).await;
    bus.shutdown().await.expect("shutdown");
}

async fn an_error_text_that_the_table_refuses_is_stored_in_fewer_words<
    D: Database,
    T: Transport,
>(
    house: House<D, T>,
) {
    let (bus, notes) = house.start_noting(house.options(), &["placed"]).await;
    refuse(&house, "UPDATE", "length(NEW.last_error) > 16").await;

    publish(&house, &bus, &["nowhere", "placed", "nowhere"]).await;

    notes.reach(1).await;
    let texts = format!(
        "SELECT last_error FROM {} WHERE last_error IS NOT NULL",
        house.table()
    );
    eventually("both error texts", SOON, async || {
        let texts = D::texts(&house.pool, &texts).await;
        texts.len() == 2 && texts.iter().all(|text| text == "no queue is boun")
    })
    .await;
    bus.shutdown().await.expect("shutdown");
}
