//! The connection is cut while the server executes COMMIT, and the server goes on.

use std::time::Duration;

use final_amqp::Amqp;
use final_core::{Bus, Error, MessageId, PgBus, Router, SqlBroker};
use final_tests::{Proxy, eventually};
use sqlx::{AssertSqlSafe, PgPool, Postgres, Transaction};

use crate::shop::{SOON, Tally, log, options};

/// A COMMIT waits for a lock that the test holds. After that the COMMIT of order 2 fails.
const HELD_COMMIT: &str = "
    CREATE TABLE orders (id bigint);
    CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        PERFORM pg_advisory_xact_lock(1);
        IF NEW.id = 2 THEN RAISE EXCEPTION 'not this one'; END IF;
        RETURN NULL;
    END $$;
    CREATE CONSTRAINT TRIGGER late AFTER INSERT ON orders
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION late();";

/// Only the look-up can find the records in time: not the scan interval, not the end of a lease, and not a
/// scan by chance. The database is away at the first look-up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_commit_without_an_answer_only_what_was_committed_is_sent() {
    let (proxy, pool, direct) = cuttable().await;
    sqlx::raw_sql(HELD_COMMIT)
        .execute(&direct)
        .await
        .expect("table and trigger");
    let rabbit = final_tests::amqp_vhost().await.expect("RabbitMQ");
    let (bus, tally) = handling(pool, rabbit.url()).await;

    // The order that fails comes first. If its message were sent, it would have arrived by the end.
    // Two messages have an id of their publisher's choice, and it is the same one.
    let chosen = MessageId::new();
    for id in [2_i64, 1] {
        let mut txbus = bus.with_tx(bus.begin().await.expect("begin"));
        sqlx::query("INSERT INTO orders VALUES ($1)")
            .bind(id)
            .execute(txbus.conn())
            .await
            .expect("order");
        txbus.publish("placed", &id).await.expect("staged");
        for number in [id + 10, id + 20] {
            let named = txbus.publish("placed", &number).id(chosen);
            named.await.expect("staged");
        }
        let hold = hold(&direct).await;
        let commit = tokio::spawn(txbus.commit());
        eventually("a COMMIT under way", SOON, async || {
            commits_under_way(&direct).await == 1
        })
        .await;
        proxy.down();
        let result = commit.await.expect("joined");
        assert!(
            matches!(&result, Err(Error::CommitUnknown { ids }) if ids[1..] == [chosen; 2]),
            "{result:?}"
        );
        hold.rollback().await.expect("let go");
        eventually("its end", SOON, async || {
            commits_under_way(&direct).await == 0
        })
        .await;
        proxy.up().expect("the port is still ours");
    }

    tally.has_all([1, 11, 21]).await;
    eventually("an empty outbox", SOON, async || {
        bus.stats().await.is_ok_and(|stats| stats.pending == 0)
    })
    .await;
    assert_eq!(tally.beyond(|n| n % 10 == 1), Vec::<i64>::new());
    bus.shutdown().await.expect("shutdown");
}

/// An INSERT waits for a lock that the test holds. After that an INSERT with the key `refused` fails.
const HELD_INSERT: &str = "
    CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        PERFORM pg_advisory_xact_lock(1);
        IF NEW.message_key = 'refused' THEN RAISE EXCEPTION 'not this one'; END IF;
        RETURN NEW;
    END $$;";

/// Publishes two messages without a transaction, and cuts the connection while the server executes the
/// INSERT. The first INSERT fails, the second does not.
async fn publishes_alone(bus: &PgBus, topic: &str, table: &str, proxy: &Proxy, direct: &PgPool) {
    let trigger = format!(
        "{HELD_INSERT} CREATE TRIGGER late BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION late()"
    );
    let done = sqlx::raw_sql(AssertSqlSafe(trigger)).execute(direct).await;
    done.expect("a trigger");
    let has_insert = async |that: &str| {
        let sql = format!(
            "SELECT count(*) > 0 FROM pg_stat_activity WHERE query LIKE 'INSERT INTO%' \
             AND state = 'active' AND datname = current_database() AND {that}"
        );
        let found = sqlx::query_scalar::<_, bool>(AssertSqlSafe(sql));
        found.fetch_one(direct).await.expect("activity")
    };
    for (id, key) in [(2_i64, "refused"), (1, "k")] {
        let (bus, topic) = (bus.clone(), topic.to_owned());
        let hold = hold(direct).await;
        let publish = tokio::spawn(async move { bus.publish(topic, &id).key(key).await });
        // A statement is also active while it is being prepared, so the check asks for the lock.
        eventually("an INSERT under way", SOON, async || {
            has_insert("wait_event = 'advisory'").await
        })
        .await;
        // A look-up before the end of the INSERT would find nothing. The record would then wait for the end
        // of its lease.
        proxy.down();
        let result = publish.await.expect("joined");
        assert!(
            matches!(&result, Err(Error::CommitUnknown { ids }) if ids.len() == 1),
            "{result:?}"
        );
        hold.rollback().await.expect("let go");
        eventually("its end", SOON, async || !has_insert("true").await).await;
        proxy.up().expect("the port is still ours");
    }
}

/// Holds the lock for which each COMMIT or INSERT waits, until this transaction ends.
async fn hold(direct: &PgPool) -> Transaction<'static, Postgres> {
    let mut hold = direct.begin().await.expect("BEGIN");
    let lock = sqlx::query("SELECT pg_advisory_xact_lock(1)");
    lock.execute(&mut *hold).await.expect("a lock");
    hold
}

/// A proxy to a database, a pool through the proxy, and a pool without it.
async fn cuttable() -> (Proxy, PgPool, PgPool) {
    log();
    let database = final_tests::pg_database().await.expect("PostgreSQL");
    let proxy = Proxy::to(&database).await.expect("a proxy");
    let pool = PgPool::connect(&proxy.url(&database)).await;
    let direct = PgPool::connect(&database).await;
    (
        proxy,
        pool.expect("PostgreSQL through the proxy"),
        direct.expect("PostgreSQL"),
    )
}

/// A bus with a handler. Neither its scan interval nor the end of a lease comes in time.
async fn handling(pool: PgPool, amqp: &str) -> (PgBus, Tally) {
    let options = options().scan_interval(SOON * 10).lease(SOON * 10);
    let amqp = Amqp::new(amqp).expect("a good URL");
    let bus: PgBus = Bus::new("shop", pool, amqp).with_options(options);
    let tally = Tally::default();
    bus.start(tally.router("placed")).await.expect("start");
    eventually("a connected link", SOON, async || {
        bus.stats().await.expect("stats").connected
    })
    .await;
    (bus, tally)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_insert_without_an_answer_only_what_was_inserted_is_sent() {
    let (proxy, pool, direct) = cuttable().await;
    let rabbit = final_tests::amqp_vhost().await.expect("RabbitMQ");
    let (bus, tally) = handling(pool, rabbit.url()).await;

    publishes_alone(&bus, "placed", "final_shop_outbox", &proxy, &direct).await;
    tally.has_all([1]).await;
    eventually("an empty outbox", SOON, async || {
        bus.stats().await.is_ok_and(|stats| stats.pending == 0)
    })
    .await;
    assert_eq!(tally.beyond(|n| n == 1), Vec::<i64>::new());
    bus.shutdown().await.expect("shutdown");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_insert_into_the_log_without_an_answer_only_what_was_inserted_is_handled() {
    let (proxy, pool, direct) = cuttable().await;
    let broker = SqlBroker::new(direct.clone()).poll_interval(Duration::from_millis(100));
    let handling: PgBus = Bus::new("mail", direct.clone(), broker);
    let tally = Tally::default();
    handling.start(tally.router("placed")).await.expect("start");
    let bus: PgBus = Bus::new("shop", pool.clone(), SqlBroker::new(pool));
    bus.start(Router::new()).await.expect("start");

    publishes_alone(&bus, "placed", "final_log", &proxy, &direct).await;
    tally.has_all([1]).await;
    assert_eq!(tally.beyond(|n| n == 1), Vec::<i64>::new());
    bus.shutdown().await.expect("shutdown");
    handling.shutdown().await.expect("shutdown");
}

async fn commits_under_way(direct: &sqlx::PgPool) -> i64 {
    let sql = "SELECT count(*) FROM pg_stat_activity \
               WHERE query = 'COMMIT' AND state = 'active' AND datname = current_database()";
    let count = sqlx::query_scalar(sql).fetch_one(direct).await;
    count.expect("activity")
}
