//! A transaction that MariaDB has ended by itself publishes nothing, though its owner goes on.
//!
//! MySQL cannot tell that the transaction is over, so there what is written afterwards is published alone.
//! PostgreSQL refuses every further statement of such a transaction.

use final_core::{Error, MySqlBus};

use super::Log;
use crate::{
    database::{Database, is_mariadb},
    house::Notes,
};

/// Starts a service, and makes a table of orders.
async fn shop(log: &Log<sqlx::MySql>) -> (MySqlBus, Notes) {
    log.run("CREATE TABLE orders (id BIGINT PRIMARY KEY, total BIGINT NOT NULL)")
        .await;
    log.noting("shop", &["placed"]).await
}

fn sorted(mut numbers: Vec<i64>) -> Vec<i64> {
    numbers.sort_unstable();
    numbers
}

/// Each kind of message has its own INSERT.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_mariadb_has_rolled_back_writes_no_message_of_any_kind() {
    let log = Log::<sqlx::MySql>::new().await;
    let tells = is_mariadb(&log.pool).await;
    let (bus, notes) = shop(&log).await;
    let mut alone = Vec::new();
    for kind in ["plain", "with a key", "scheduled", "many"] {
        let mut txbus = bus.with_tx(bus.begin().await.expect("begin"));
        sqlx::MySql::run(txbus.conn(), "ROLLBACK")
            .await
            .expect("what a deadlock does to its victim");
        let messages = if kind == "many" { 100 } else { 1 };
        for number in 0..messages {
            let publish = txbus.publish("placed", &number);
            let publish = match kind {
                "with a key" => publish.key("k"),
                "scheduled" => publish.delay(std::time::Duration::from_millis(1)),
                _ => publish,
            };
            publish.await.expect("staged");
        }
        match txbus.commit().await {
            Err(Error::NotInTransaction) if tells => {}
            Ok(()) if !tells => alone.extend(0..messages),
            other => panic!("{kind}: {other:?}"),
        }
    }

    bus.publish("placed", &7_i64).await.expect("publish");
    notes.reach(alone.len() + 1).await;
    log.is_done("shop").await;
    alone.push(7);
    alone.sort_unstable();
    assert_eq!(sorted(notes.numbers()), alone);
    let scheduled = "SELECT count(*) FROM final_log_scheduled";
    assert_eq!(log.number(scheduled).await, 0);
    bus.shutdown().await.expect("shutdown");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_borrowed_transaction_that_mariadb_has_rolled_back_writes_no_message() {
    let log = Log::<sqlx::MySql>::new().await;
    let tells = is_mariadb(&log.pool).await;
    let (bus, notes) = shop(&log).await;
    let mut tx = bus.begin().await.expect("begin");
    sqlx::MySql::run(&mut tx, "ROLLBACK")
        .await
        .expect("rollback");

    let result = bus.publish_in(&mut *tx, "placed", &1_i64).await;

    let published = match result {
        Err(Error::NotInTransaction) if tells => vec![2],
        Ok(_) if !tells => vec![1, 2],
        other => panic!("{other:?}"),
    };
    drop(tx);
    bus.publish("placed", &2_i64).await.expect("publish");
    notes.reach(published.len()).await;
    log.is_done("shop").await;
    assert_eq!(sorted(notes.numbers()), published);
    bus.shutdown().await.expect("shutdown");
}

/// Both transactions ignore the error, and publish.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_transactions_in_a_deadlock_only_the_one_that_goes_on_publishes() {
    let log = Log::<sqlx::MySql>::new().await;
    let tells = is_mariadb(&log.pool).await;
    let (bus, notes) = shop(&log).await;
    log.run("INSERT INTO orders VALUES (1, 0), (2, 0)").await;
    let both_have_one = std::sync::Arc::new(tokio::sync::Barrier::new(2));
    let sides = [(1, 2), (2, 1)].map(|(mine, other)| {
        let (bus, both_have_one) = (bus.clone(), std::sync::Arc::clone(&both_have_one));
        tokio::spawn(async move {
            let mut txbus = bus.with_tx(bus.begin().await.expect("begin"));
            let add = |id: i64| format!("UPDATE orders SET total = total + 1 WHERE id = {id}");
            sqlx::MySql::run(txbus.conn(), &add(mine))
                .await
                .expect("a lock");
            both_have_one.wait().await;
            let is_victim = sqlx::MySql::run(txbus.conn(), &add(other)).await.is_err();
            txbus.publish("placed", &mine).await.expect("staged");
            (mine, is_victim, txbus.commit().await)
        })
    });

    let mut published = Vec::new();
    for side in sides {
        match side.await.expect("joined") {
            (order, false, Ok(())) => published.push(order),
            (_, true, Err(Error::NotInTransaction)) if tells => {}
            (order, true, Ok(())) if !tells => published.push(order),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(published.len(), if tells { 1 } else { 2 });
    notes.reach(published.len()).await;
    log.is_done("shop").await;
    assert_eq!(sorted(notes.numbers()), sorted(published));
    let both = "SELECT count(*) FROM orders WHERE total = 1";
    assert_eq!(log.number(both).await, 2, "nothing of the victim stands");
    bus.shutdown().await.expect("shutdown");
}
