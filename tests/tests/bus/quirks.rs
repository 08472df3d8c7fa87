//! Behaviour of a single database that could lose or invent messages.

use std::time::{Duration, Instant};

use final_core::Error;
use final_tests::eventually;

use crate::{
    database::{Database, is_mariadb},
    house::{House, Notes, SOON, TestError},
    transport::{Rabbit, Transport},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swallowed_error_on_postgresql_sends_nothing() {
    let house = House::<sqlx::Postgres, Rabbit>::new().await;
    let (bus, notes) = house.start_connected(house.options(), &["placed"]).await;

    let mut txbus = bus.with_tx(bus.begin().await.expect("begin"));
    txbus
        .publish(house.topic("placed"), &1_i64)
        .await
        .expect("staged");
    txbus.flush().await.expect("flush");
    // From here on the transaction is aborted. Its COMMIT is a ROLLBACK, and sqlx reports success.
    let _ = sqlx::query("SELECT 1/0").execute(txbus.conn()).await;
    let result = txbus.commit().await;
    assert!(matches!(result, Err(Error::Database { .. })), "{result:?}");

    // Without a message as well.
    let tx = bus.begin().await.expect("begin");
    let result = bus
        .transaction(tx, async |mut txbus| {
            sqlx::Postgres::run(txbus.conn(), "INSERT INTO orders VALUES (1)").await?;
            let _ = sqlx::query("SELECT 1/0").execute(txbus.conn()).await;
            Ok::<_, TestError>(())
        })
        .await;
    assert!(
        matches!(result, Err(TestError::Bus(Error::Database { .. }))),
        "{result:?}"
    );
    assert_eq!(house.orders().await, 0);

    let mut txbus = bus.with_tx(bus.begin().await.expect("begin"));
    let _ = sqlx::query("SELECT 1/0").execute(txbus.conn()).await;
    txbus
        .publish(house.topic("placed"), &2_i64)
        .await
        .expect("staged");
    let result = txbus.commit().await;
    assert!(matches!(result, Err(Error::Database { .. })), "{result:?}");

    house.handles_only(&bus, &notes, 3).await;
    bus.shutdown().await.expect("shutdown");
}

/// The error is not that the outcome is unknown.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_postgresql_refuses_is_told_as_what_it_is() {
    let house = House::<sqlx::Postgres, Rabbit>::new().await;
    let (bus, notes) = house.start_noting(house.options(), &["placed"]).await;
    sqlx::Postgres::run_on(
        &house.pool,
        "ALTER TABLE orders ADD UNIQUE (total) DEFERRABLE INITIALLY DEFERRED",
    )
    .await;

    let mut txbus = bus.with_tx(bus.begin().await.expect("begin"));
    for _ in 0..2 {
        sqlx::Postgres::run(txbus.conn(), "INSERT INTO orders VALUES (1)")
            .await
            .expect("unique at the end only");
    }
    let publish = txbus.publish(house.topic("placed"), &1_i64);
    publish.await.expect("staged");
    let result = txbus.commit().await;

    assert!(matches!(result, Err(Error::Database { .. })), "{result:?}");
    house.handles_only(&bus, &notes, 2).await;
    bus.shutdown().await.expect("shutdown");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_postgresql_refuses_is_told_as_what_it_is() {
    let house = House::<sqlx::Postgres, Rabbit>::new().await;
    let table = house.table();
    an_insert_that_is_refused_is_told_as_what_it_is(house, &table).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_postgresql_refuses_in_the_log_is_told_as_what_it_is() {
    let house = House::<sqlx::Postgres, crate::transport::Log>::new().await;
    an_insert_that_is_refused_is_told_as_what_it_is(house, "final_log").await;
}

async fn an_insert_that_is_refused_is_told_as_what_it_is<T: Transport>(
    house: House<sqlx::Postgres, T>,
    table: &str,
) {
    let (bus, notes) = house.start_noting(house.options(), &["placed"]).await;
    let no_keys = format!("ALTER TABLE {table} ADD CHECK (message_key IS NULL)");
    sqlx::Postgres::run_on(&house.pool, &no_keys).await;

    let result = bus.publish(house.topic("placed"), &1_i64).key("k").await;

    assert!(matches!(result, Err(Error::Database { .. })), "{result:?}");
    house.handles_only(&bus, &notes, 2).await;
    bus.shutdown().await.expect("shutdown");
}

/// For example, an operator repairs the table by hand, or a session hangs. SQLite has no locks of records.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_due_record_that_another_session_has_locked_is_asked_for_now_and_then() {
    let house = House::<sqlx::Postgres, Rabbit>::new().await;
    let bus = house.bus();
    bus.migrate().await.expect("a table");
    let topic = house.topic("placed");
    bus.publish(&topic, &1_i64).await.expect("publish");
    let mut tx = house.pool.begin().await.expect("begin");
    let lock = format!("SELECT 1 FROM {} FOR UPDATE", house.table());
    let locked = sqlx::query(sqlx::AssertSqlSafe(lock)).fetch_all(&mut *tx);
    assert_eq!(locked.await.expect("a lock").len(), 1);

    let notes = Notes::default();
    let router = house.noting(&notes, &["placed"]);
    bus.start(router).await.expect("start");
    let asked = async || bus.stats().await.expect("stats").relay_statements;
    eventually("a first look", SOON, async || asked().await > 3).await;
    let (begin, before) = (Instant::now(), asked().await);
    let soon = bus
        .publish(&topic, &2_i64)
        .delay(Duration::from_millis(500));
    soon.await.expect("publish");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (asked, took) = (asked().await - before, begin.elapsed());
    assert!(
        (asked as f64) < 50.0 * took.as_secs_f64(),
        "{asked} statements in {took:?}"
    );

    notes.reach(1).await;
    assert_eq!(notes.numbers(), [2], "the other one comes in its time");
    tx.rollback().await.expect("rollback");
    notes.reach(2).await;
    bus.shutdown().await.expect("shutdown");
}

/// On MySQL, which cannot tell, the message is published alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_mariadb_has_rolled_back_publishes_nothing() {
    let house = House::<sqlx::MySql, Rabbit>::new().await;
    let tells = is_mariadb(&house.pool).await;
    let (bus, notes) = house.start_noting(house.options(), &["placed"]).await;

    let tx = bus.begin().await.expect("begin");
    let result = bus
        .transaction(tx, async |mut txbus| {
            sqlx::MySql::run(txbus.conn(), "INSERT INTO orders VALUES (1)").await?;
            // A deadlock does the same to its victim. The closure goes on as if nothing had happened.
            sqlx::MySql::run(txbus.conn(), "ROLLBACK").await?;
            txbus.publish(house.topic("placed"), &1_i64).await?;
            Ok::<_, TestError>(())
        })
        .await;

    match result {
        Err(TestError::Bus(Error::NotInTransaction)) if tells => {}
        Ok(()) if !tells => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(house.orders().await, 0);
    // The same after a flush.
    let mut txbus = bus.with_tx(bus.begin().await.expect("begin"));
    let staged = txbus.publish(house.topic("placed"), &1_i64).await;
    staged.expect("staged");
    txbus.flush().await.expect("flush");
    let rolled_back = sqlx::MySql::run(txbus.conn(), "ROLLBACK").await;
    rolled_back.expect("rolled back");
    let result = txbus.commit().await;
    match result {
        Err(Error::NotInTransaction) if tells => {}
        Ok(()) if !tells => {}
        other => panic!("{other:?}"),
    }

    if tells {
        house.handles_only(&bus, &notes, 2).await;
    } else {
        // Only the message that was written after the rollback; the flushed one was rolled back.
        notes.reach(1).await;
        house.outbox_is_empty(&bus).await;
        assert_eq!(notes.numbers(), [1]);
    }
    bus.shutdown().await.expect("shutdown");
}

/// Two writers on one SQLite file that both read first: deferred transactions would fail.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_that_read_and_then_write_do_not_fail_on_sqlite() {
    let house = House::<sqlx::Sqlite, crate::transport::Memory>::new().await;
    let (bus, notes) = house.start_noting(house.options(), &["placed"]).await;

    let writers = (0..8_i64).map(|writer| {
        let (bus, topic) = (bus.clone(), house.topic("placed"));
        tokio::spawn(async move {
            for n in 0..25_i64 {
                let tx = bus.begin().await?;
                bus.transaction(tx, async |mut txbus| {
                    sqlx::query("SELECT count(*) FROM orders")
                        .execute(txbus.conn())
                        .await?;
                    sqlx::Sqlite::run(txbus.conn(), "INSERT INTO orders VALUES (1)").await?;
                    txbus.publish(&topic, &(writer * 100 + n)).await?;
                    Ok::<_, TestError>(())
                })
                .await?;
            }
            Ok::<_, TestError>(())
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.expect("joined").expect("no busy error");
    }

    notes.reach(200).await;
    house.outbox_is_empty(&bus).await;
    bus.shutdown().await.expect("shutdown");
}
