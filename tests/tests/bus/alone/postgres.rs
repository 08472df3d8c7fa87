//! Cases that only PostgreSQL has.

use final_core::Error;
use sqlx::Postgres;

use super::{after_connect, bus_on, pool_of_one, publishes, written};
use crate::{database::Database, house::House, transport::Transport};

crate::suite!(
    on sqlx::Postgres, Rabbit:
    everywhere: [
        is_committed_beside_a_transaction_that_has_failed,
        is_committed_in_a_serializable_session,
        is_an_error_in_a_session_that_is_read_only,
        is_an_error_where_a_deferred_trigger_fails,
        is_not_redirected_by_a_temporary_table,
    ],
);

type Of<T> = House<Postgres, T>;

async fn is_committed_beside_a_transaction_that_has_failed<D: Database, T: Transport>(
    house: House<D, T>,
) {
    let pool = pool_of_one(&house.pool, |options| options).await;
    let mut conn = pool.acquire().await.expect("a connection");
    D::raw(&mut conn, "BEGIN").await.expect("begun");
    let failed = D::raw(&mut conn, "SELECT 1/0").await;
    failed.expect_err("division by zero");
    drop(conn);

    publishes(&house, pool).await;
}

async fn is_committed_in_a_serializable_session<D: Database, T: Transport>(house: House<D, T>) {
    let session = "SET default_transaction_isolation = serializable";
    let pool = pool_of_one(&house.pool, after_connect(session)).await;
    publishes(&house, pool).await;
}

async fn is_an_error_in_a_session_that_is_read_only<T: Transport>(house: Of<T>) {
    let session = "SET default_transaction_read_only = on";
    let pool = pool_of_one(&house.pool, after_connect(session)).await;
    fails(&house, pool, "read-only").await;
}

async fn is_an_error_where_a_deferred_trigger_fails<T: Transport>(house: Of<T>) {
    house.bus().migrate().await.expect("migrate");
    let table = T::table(&house.service);
    let trigger = format!(
        "CREATE FUNCTION never() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN RAISE EXCEPTION 'not at the end'; END $$; \
         CREATE CONSTRAINT TRIGGER never AFTER INSERT ON {table} DEFERRABLE INITIALLY DEFERRED \
             FOR EACH ROW EXECUTE FUNCTION never()"
    );
    let mut conn = house.pool.acquire().await.expect("a connection");
    Postgres::raw(&mut conn, &trigger).await.expect("a trigger");
    drop(conn);
    let pool = pool_of_one(&house.pool, |options| options).await;
    fails(&house, pool, "not at the end").await;
}

async fn is_not_redirected_by_a_temporary_table<T: Transport>(house: Of<T>) {
    house.bus().migrate().await.expect("migrate");
    let pool = pool_of_one(&house.pool, |options| options).await;
    let table = T::table(&house.service);
    let temporary = format!("CREATE TEMPORARY TABLE {table} (LIKE {table} INCLUDING ALL)");
    let mut conn = pool.acquire().await.expect("a connection");
    Postgres::raw(&mut conn, &temporary).await.expect("a table");
    drop(conn);
    publishes(&house, pool).await;
}

async fn fails<T: Transport>(house: &Of<T>, pool: sqlx::PgPool, why: &str) {
    let bus = bus_on(house, pool).await;
    for _ in 1..=2 {
        let result = bus.publish(house.topic("placed"), &1_i64).await;
        let Err(Error::Database { source, .. }) = &result else {
            panic!("{result:?}");
        };
        assert!(source.to_string().contains(why), "{source}");
    }
    assert_eq!(written(house).await, 0);
}
