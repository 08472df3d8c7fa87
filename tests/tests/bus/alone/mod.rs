//! A message that is published without a transaction is committed when `publish` returns Ok, whatever the
//! state of the pool's connection.

mod mariadb;
mod postgres;
mod sqlite;

use std::time::Duration;

use final_core::Bus;
use sqlx::{Pool, pool::PoolOptions};

use crate::{
    database::Database,
    house::{House, Notes},
    transport::Transport,
};

crate::suite!(
    everywhere: [
        is_committed_where_a_connection_came_back_with_an_open_transaction,
        leaves_what_somebody_has_open_as_it_is,
        is_committed_where_a_hook_begins_a_transaction_when_it_connects,
        is_committed_where_a_hook_begins_a_transaction_at_each_acquire,
        is_handled_where_a_hook_begins_a_transaction,
        is_an_error_where_a_trigger_keeps_it_out,
    ],
);

/// A pool of one connection to the same database, with hooks.
pub(super) async fn pool_of_one<D: Database>(
    pool: &Pool<D>,
    hooks: impl FnOnce(PoolOptions<D>) -> PoolOptions<D>,
) -> Pool<D> {
    hooks(PoolOptions::new().max_connections(1))
        .connect_with(pool.connect_options().as_ref().clone())
        .await
        .expect("a pool")
}

/// Runs this when a connection is made.
pub(super) fn after_connect<D: Database>(
    sql: &'static str,
) -> impl FnOnce(PoolOptions<D>) -> PoolOptions<D> {
    move |options| options.after_connect(move |conn, _| Box::pin(D::raw(conn, sql)))
}

/// A bus on such a pool. It is not started, so its messages stay in the table.
pub(super) async fn bus_on<D: Database, T: Transport>(
    house: &House<D, T>,
    pool: Pool<D>,
) -> Bus<D> {
    house.bus().migrate().await.expect("migrate");
    let bus = house.transport.bus(&house.service, pool);
    bus.with_options(house.options())
}

/// The number of messages that other connections see.
pub(super) async fn written<D: Database, T: Transport>(house: &House<D, T>) -> i64 {
    let table = T::table(&house.service);
    D::number(&house.pool, &format!("SELECT count(*) FROM {table}")).await
}

/// Publishes several messages of each kind. Each message is committed when its publish says Ok.
pub(super) async fn publishes<D: Database, T: Transport>(house: &House<D, T>, pool: Pool<D>) {
    let bus = bus_on(house, pool).await;
    let topic = house.topic("placed");
    let before = written(house).await;
    for n in 1..=3_i64 {
        bus.publish(&topic, &n).await.expect("published");
        assert_eq!(written(house).await - before, 2 * n - 1, "a plain one");
        let keyed = bus.publish(&topic, &n).key("a").header("tenant", "acme");
        keyed
            .ttl(Duration::from_secs(900))
            .await
            .expect("published");
        assert_eq!(written(house).await - before, 2 * n, "one with a key");
    }
    let delayed = bus.publish(&topic, &0_i64).delay(Duration::from_secs(900));
    delayed.await.expect("published");
    let scheduled = match T::table(&house.service).as_str() {
        "final_log" => "SELECT count(*) FROM final_log_scheduled".to_owned(),
        table => format!("SELECT count(*) - {} FROM {table}", before + 6),
    };
    assert_eq!(D::number(&house.pool, &scheduled).await, 1, "a delayed one");
}

async fn is_committed_where_a_connection_came_back_with_an_open_transaction<
    D: Database,
    T: Transport,
>(
    house: House<D, T>,
) {
    house.bus().migrate().await.expect("migrate");
    let pool = pool_of_one(&house.pool, |options| options).await;
    let mut conn = pool.acquire().await.expect("a connection");
    D::raw(&mut conn, "BEGIN; SELECT count(*) FROM orders")
        .await
        .expect("begun");
    drop(conn);

    publishes(&house, pool).await;
}

async fn leaves_what_somebody_has_open_as_it_is<D: Database, T: Transport>(house: House<D, T>) {
    let pool = pool_of_one(&house.pool, |options| options).await;
    let bus = bus_on(&house, pool.clone()).await;
    // SQLite has one writer.
    let has_locks = std::any::type_name::<D>().contains("Sqlite");
    let mut conn = pool.acquire().await.expect("a connection");
    let open = match has_locks {
        true => "BEGIN; SELECT count(*) FROM orders",
        false => "BEGIN; INSERT INTO orders VALUES (1)",
    };
    D::raw(&mut conn, open).await.expect("begun");
    drop(conn);

    bus.publish(house.topic("placed"), &1_i64)
        .await
        .expect("published");

    assert_eq!(written(&house).await, 1);
    assert_eq!(house.orders().await, 0, "not committed by us");
    let mut conn = pool.acquire().await.expect("the same connection");
    let rest = match has_locks {
        true => "ROLLBACK; INSERT INTO orders VALUES (1)",
        false => "COMMIT",
    };
    D::raw(&mut conn, rest).await.expect("still open");
    assert_eq!(house.orders().await, 1, "nor rolled back");
}

async fn is_committed_where_a_hook_begins_a_transaction_when_it_connects<
    D: Database,
    T: Transport,
>(
    house: House<D, T>,
) {
    let pool = pool_of_one(&house.pool, after_connect("BEGIN")).await;
    publishes(&house, pool).await;
}

async fn is_committed_where_a_hook_begins_a_transaction_at_each_acquire<
    D: Database,
    T: Transport,
>(
    house: House<D, T>,
) {
    let pool = pool_of_one(&house.pool, |options| {
        options.before_acquire(|conn, _| {
            Box::pin(async move {
                let _ = D::raw(conn, "ROLLBACK").await;
                D::raw(conn, "BEGIN").await.map(|()| true)
            })
        })
    });
    publishes(&house, pool.await).await;
}

async fn is_handled_where_a_hook_begins_a_transaction<D: Database, T: Transport>(
    house: House<D, T>,
) {
    let pool = pool_of_one(&house.pool, after_connect("BEGIN")).await;
    let (bus, notes) = (bus_on(&house, pool).await, Notes::default());
    bus.start(house.noting(&notes, &["placed"]))
        .await
        .expect("start");

    for n in 1..=3_i64 {
        let publish = bus.publish(house.topic("placed"), &n);
        publish.await.expect("published");
    }

    notes.reach(3).await;
    house.outbox_is_empty(&bus).await;
    bus.shutdown().await.expect("shutdown");
}

async fn is_an_error_where_a_trigger_keeps_it_out<D: Database, T: Transport>(house: House<D, T>) {
    let name = std::any::type_name::<D>();
    let table = T::table(&house.service);
    let triggers = if name.contains("Postgres") {
        format!(
            "CREATE FUNCTION keep_out() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; \
             CREATE TRIGGER keep_out BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION keep_out()"
        )
    } else if name.contains("Sqlite") {
        format!("CREATE TRIGGER keep_out BEFORE INSERT ON {table} BEGIN SELECT RAISE(IGNORE); END")
    } else {
        // There a trigger can only fail.
        return;
    };
    let pool = pool_of_one(&house.pool, |options| options).await;
    let bus = bus_on(&house, pool.clone()).await;
    let mut conn = pool.acquire().await.expect("a connection");
    D::raw(&mut conn, &triggers).await.expect("a trigger");
    drop(conn);

    let alone = bus.publish(house.topic("placed"), &1_i64).await;
    let mut txbus = bus.with_tx(bus.begin().await.expect("begin"));
    let staged = txbus.publish(house.topic("placed"), &2_i64).await;
    staged.expect("staged");
    let together = txbus.commit().await;

    for result in [alone.map(drop), together] {
        let error = format!("{:?}", result.expect_err("no row was written"));
        assert!(error.contains("trigger"), "{error}");
    }
}
