//! The connection is cut while the server is at work on COMMIT, and it goes on without us.

use std::time::Duration;

use final_amqp::Amqp;
use final_core::{Bus, Error, PgBus};
use final_tests::{Proxy, eventually};

use crate::shop::{SOON, Tally, options, service};

/// A COMMIT takes a second, and that of order 2 fails then.
const SLOW_COMMIT: &str = "
    CREATE TABLE orders (id bigint);
    CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        PERFORM pg_sleep(1);
        IF NEW.id = 2 THEN RAISE EXCEPTION 'not this one'; END IF;
        RETURN NULL;
    END $$;
    CREATE CONSTRAINT TRIGGER late AFTER INSERT ON orders
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION late();";

/// Nothing but the look-up finds the records in time: no interval, and no scan by chance.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_commit_without_an_answer_only_what_was_committed_is_sent() {
    let database = final_tests::pg_database().await.expect("PostgreSQL");
    let proxy = Proxy::to(&database).await.expect("a proxy");
    let pool = sqlx::PgPool::connect(&proxy.url(&database))
        .await
        .expect("PostgreSQL through the proxy");
    let direct = sqlx::PgPool::connect(&database).await.expect("PostgreSQL");
    sqlx::raw_sql(SLOW_COMMIT)
        .execute(&direct)
        .await
        .expect("table and trigger");
    let (service, rabbit) = (
        service(),
        final_tests::amqp_vhost().await.expect("RabbitMQ"),
    );
    let topic = format!("{service}.placed");
    let options = options()
        .scan_interval(SOON * 10)
        .lease(Duration::from_secs(3));
    let bus: PgBus = Bus::new(&service, pool, Amqp::new(rabbit.url()).expect("a good URL"))
        .with_options(options);
    let tally = Tally::default();
    bus.start(tally.router(&topic)).await.expect("start");
    eventually("a connected link", SOON, async || {
        bus.stats().await.expect("stats").connected
    })
    .await;

    // The one that fails first: were it sent, it would have come by then.
    for id in [2_i64, 1] {
        let mut txbus = bus.with_tx(bus.begin().await.expect("begin"));
        sqlx::query("INSERT INTO orders VALUES ($1)")
            .bind(id)
            .execute(txbus.conn())
            .await
            .expect("order");
        txbus.publish(&topic, &id).await.expect("staged");
        let commit = tokio::spawn(txbus.commit());
        eventually("a COMMIT under way", SOON, async || {
            commits_under_way(&direct).await == 1
        })
        .await;
        proxy.cut();
        let result = commit.await.expect("joined");
        assert!(
            matches!(&result, Err(Error::CommitUnknown { ids }) if ids.len() == 1),
            "{result:?}"
        );
        eventually("its end", SOON, async || {
            commits_under_way(&direct).await == 0
        })
        .await;
    }

    tally.has_all([1]).await;
    eventually("an empty outbox", SOON, async || {
        bus.stats().await.is_ok_and(|stats| stats.pending == 0)
    })
    .await;
    assert_eq!(tally.beyond(|n| n == 1), Vec::<i64>::new());
    bus.shutdown().await.expect("shutdown");
}

async fn commits_under_way(direct: &sqlx::PgPool) -> i64 {
    let sql = "SELECT count(*) FROM pg_stat_activity \
               WHERE query = 'COMMIT' AND state = 'active' AND datname = current_database()";
    let count = sqlx::query_scalar(sql).fetch_one(direct).await;
    count.expect("activity")
}
