//! Cases that only MariaDB and MySQL have.

use sqlx::MySql;

use super::{after_connect, bus_on, pool_of_one, publishes, written};
use crate::{
    database::{Database, is_mariadb},
    house::House,
    transport::Transport,
};

crate::suite!(
    on sqlx::MySql, Rabbit:
    everywhere: [
        is_committed_without_autocommit,
        is_committed_where_autocommit_is_switched_off_at_each_acquire,
        is_committed_whatever_the_session_checks,
        is_committed_after_a_commit_that_chains,
        is_committed_after_a_commit_that_ends_the_connection,
        is_committed_beside_a_transaction_of_xa,
        is_committed_beside_a_transaction_of_xa_that_takes_no_more,
        is_an_error_in_a_session_that_is_read_only,
    ],
);

type Of<T> = House<MySql, T>;

async fn is_committed_without_autocommit<T: Transport>(house: Of<T>) {
    let session = after_connect("SET autocommit = 0");
    publishes(&house, pool_of_one(&house.pool, session).await).await;
}

async fn is_committed_where_autocommit_is_switched_off_at_each_acquire<T: Transport>(house: Of<T>) {
    let pool = pool_of_one(&house.pool, |options| {
        options.before_acquire(|conn, _| {
            Box::pin(async move { MySql::raw(conn, "SET autocommit = 0").await.map(|()| true) })
        })
    });
    publishes(&house, pool.await).await;
}

async fn is_committed_whatever_the_session_checks<T: Transport>(house: Of<T>) {
    // MySQL checks constraints in any case.
    let session = match is_mariadb(&house.pool).await {
        true => "SET sql_mode = '', check_constraint_checks = 0, autocommit = 0",
        false => "SET sql_mode = '', autocommit = 0",
    };
    publishes(
        &house,
        pool_of_one(&house.pool, after_connect(session)).await,
    )
    .await;
}

async fn is_committed_after_a_commit_that_chains<T: Transport>(house: Of<T>) {
    after_a_commit(house, "SET completion_type = 1").await;
}

async fn is_committed_after_a_commit_that_ends_the_connection<T: Transport>(house: Of<T>) {
    after_a_commit(house, "SET completion_type = 2").await;
}

async fn after_a_commit<T: Transport>(house: Of<T>, session: &'static str) {
    let pool = pool_of_one(&house.pool, after_connect(session)).await;
    let bus = bus_on(&house, pool.clone()).await;
    for n in 1..=3_i64 {
        let mut txbus = bus.with_tx(bus.begin().await.expect("begin"));
        let staged = txbus.publish(house.topic("placed"), &n).await;
        staged.expect("staged");
        txbus.commit().await.expect("committed");
        assert_eq!(written(&house).await, 2 * n - 1);
        let publish = bus.publish(house.topic("placed"), &n);
        publish.await.expect("published");
        assert_eq!(written(&house).await, 2 * n);
    }
    publishes(&house, pool).await;
}

async fn is_committed_beside_a_transaction_of_xa<T: Transport>(house: Of<T>) {
    beside(house, "XA START 'somebody'").await;
}

async fn is_committed_beside_a_transaction_of_xa_that_takes_no_more<T: Transport>(house: Of<T>) {
    beside(house, "XA START 'nobody'; XA END 'nobody'").await;
}

async fn beside<T: Transport>(house: Of<T>, open: &str) {
    // The names of XA transactions are shared by the whole server.
    let open = open.replace("body", &final_tests::unique("body"));
    let pool = pool_of_one(&house.pool, |options| options).await;
    let mut conn = pool.acquire().await.expect("a connection");
    MySql::raw(&mut conn, &open).await.expect("begun");
    drop(conn);
    publishes(&house, pool).await;
}

/// On MySQL the message has a transaction of its own, which is begun as one that writes.
async fn is_an_error_in_a_session_that_is_read_only<T: Transport>(house: Of<T>) {
    let session = after_connect("SET SESSION TRANSACTION READ ONLY");
    let pool = pool_of_one(&house.pool, session).await;
    let bus = bus_on(&house, pool).await;
    let result = bus.publish(house.topic("placed"), &1_i64).await;
    if is_mariadb(&house.pool).await {
        result.expect_err("read only");
        assert_eq!(written(&house).await, 0);
    } else {
        result.expect("published");
        assert_eq!(written(&house).await, 1);
    }
}
