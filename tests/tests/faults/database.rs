//! The database dies, restarts, and is cut off in the middle of a COMMIT.

use std::time::{Duration, Instant};

use final_amqp::Amqp;
use final_core::{Bus, Error, MySqlBus, PgBus, Router};
use final_tests::{MariaDb, Postgres, Proxy, eventually};

use crate::shop::{SOON, Tally, log, options, publish_on, service};

/// Kills a database under traffic. Committed messages are handled, and others never are.
macro_rules! killed_database {
    ($name:ident, $server:ty, $pool:ty) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let server = <$server>::start().await.expect("the database");
            let pool = <$pool>::new()
                .max_connections(5)
                .acquire_timeout(Duration::from_secs(2))
                .connect(&server.url())
                .await
                .expect("connected");
            let (service, rabbit) = (
                service(),
                final_tests::amqp_vhost().await.expect("RabbitMQ"),
            );
            let topic = format!("{service}.placed");
            let bus = Bus::new(&service, pool, Amqp::new(rabbit.url()).expect("a good URL"))
                .with_options(options());
            let tally = Tally::default();
            bus.start(tally.router(&topic)).await.expect("start");

            let (stop, publisher) = publish_on(&bus, &topic, 0);
            for round in 1..=2 {
                eventually("traffic", SOON, async || tally.distinct() > round * 150).await;
                server.kill9();
                tokio::time::sleep(Duration::from_millis(500)).await;
                server.start_again().await.expect("the database again");
            }
            let before = tally.distinct();
            eventually("traffic again", SOON, async || {
                tally.distinct() > before + 150
            })
            .await;
            stop.send(()).expect("the publisher runs");
            let published = publisher.await.expect("joined");

            tally.has_all(published.committed.clone()).await;
            eventually("an empty outbox", SOON, async || {
                bus.stats().await.is_ok_and(|stats| stats.pending == 0)
            })
            .await;
            let invented = tally
                .beyond(|n| published.committed.contains(&n) || published.unknown.contains(&n));
            assert_eq!(invented, Vec::<i64>::new());
            bus.shutdown().await.expect("shutdown");
        }
    };
}

killed_database!(
    nothing_is_lost_when_postgresql_is_killed_twice,
    Postgres,
    sqlx::postgres::PgPoolOptions
);
killed_database!(
    nothing_is_lost_when_mariadb_is_killed_twice,
    MariaDb,
    sqlx::mysql::MySqlPoolOptions
);

/// A bus behind a proxy to its database.
macro_rules! behind_a_proxy {
    ($bus:ident, $proxy:ident, $tally:ident, $writer:ident, $topic:ident, $url:expr, $pool:ty) => {
        log();
        let url = $url.await.expect("the database");
        let $proxy = Proxy::to(&url).await.expect("proxy");
        let (service, rabbit) = (
            service(),
            final_tests::amqp_vhost().await.expect("RabbitMQ"),
        );
        let $topic = format!("{service}.placed");
        let broker = || Amqp::new(rabbit.url()).expect("a good URL");
        let options = options().scan_interval(Duration::from_millis(200));
        let pool = <$pool>::connect(&$proxy.url(&url))
            .await
            .expect("connected");
        let $bus = Bus::new(&service, pool, broker())
            .with_options(options.shutdown_timeout(Duration::from_secs(2)));
        let $tally = Tally::default();
        $bus.start($tally.router(&$topic)).await.expect("start");
        $bus.publish(&$topic, &0_i64).await.expect("publish");
        $tally.has_all([0]).await;
        // The writer is not started, so it only writes.
        let pool = <$pool>::connect(&url).await.expect("connected");
        let $writer = Bus::new(&service, pool, broker());
    };
}

/// The machine of the database is gone: no connection is closed, and no statement is answered.
macro_rules! silent_database {
    ($leaves:ident, $shuts_down:ident, $asks:ident, $url:expr, $pool:ty) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $leaves() {
            behind_a_proxy!(bus, proxy, tally, writer, topic, $url, $pool);

            proxy.strand();
            for n in 1..=20_i64 {
                writer.publish(&topic, &n).await.expect("publish");
            }
            tally.has_all(0..=20).await;
            bus.shutdown().await.expect("shutdown");
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $shuts_down() {
            behind_a_proxy!(bus, proxy, tally, writer, topic, $url, $pool);

            proxy.strand();
            proxy.refuse();
            writer.publish(&topic, &1_i64).await.expect("publish");
            // The scanner sends a statement, and gets no answer.
            tokio::time::sleep(Duration::from_secs(1)).await;
            let shutdown = tokio::time::timeout(SOON, bus.shutdown()).await;
            shutdown.expect("it ends").ok();
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $asks() {
            behind_a_proxy!(bus, proxy, tally, writer, topic, $url, $pool);
            bus.stats().await.expect("stats of a database that answers");

            proxy.stall();
            let all = async {
                tokio::join!(
                    bus.stats(),
                    bus.failed(10),
                    bus.retry_failed(final_core::bus::RetryFailed::All),
                    bus.migrate(),
                )
            };
            // The limit is 15 s for each statement; a health check that hangs would never end.
            let all = tokio::time::timeout(SOON, all).await;
            let (stats, failed, retried, migrated) = all.expect("each ends within its limit");
            for refused in [stats.err(), failed.err(), retried.err(), migrated.err()] {
                refused.expect("an error, as the database is silent");
            }

            proxy.resume();
            final_tests::eventually("stats again", SOON * 3, async || bus.stats().await.is_ok())
                .await;
            writer.publish(&topic, &1_i64).await.expect("publish");
            tally.has_all(0..=1).await;
            bus.shutdown().await.expect("shutdown");
        }
    };
}

silent_database!(
    a_postgresql_that_falls_silent_is_left_for_one_that_answers,
    a_bus_shuts_down_though_its_postgresql_has_fallen_silent,
    what_is_asked_of_a_postgresql_that_has_fallen_silent_is_an_error_within_its_limit,
    final_tests::pg_database(),
    sqlx::PgPool
);
silent_database!(
    a_mariadb_that_falls_silent_is_left_for_one_that_answers,
    a_bus_shuts_down_though_its_mariadb_has_fallen_silent,
    what_is_asked_of_a_mariadb_that_has_fallen_silent_is_an_error_within_its_limit,
    final_tests::mysql_database(),
    sqlx::MySqlPool
);

/// The answer to COMMIT never comes. The caller is told so, and messages that are visible later are sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_is_not_answered_is_looked_up_and_sent_if_it_took_place() {
    let database = final_tests::pg_database().await.expect("PostgreSQL");
    let proxy = Proxy::to(&database).await.expect("a proxy");
    let pool = sqlx::postgres::PgPoolOptions::new()
        .acquire_timeout(Duration::from_secs(2))
        .connect(&proxy.url(&database))
        .await
        .expect("PostgreSQL through the proxy");
    let direct = sqlx::PgPool::connect(&database).await.expect("PostgreSQL");
    sqlx::query("CREATE TABLE orders (id bigint)")
        .execute(&direct)
        .await
        .expect("table");
    let (service, rabbit) = (
        service(),
        final_tests::amqp_vhost().await.expect("RabbitMQ"),
    );
    let topic = format!("{service}.placed");
    let bus: PgBus = Bus::new(&service, pool, Amqp::new(rabbit.url()).expect("a good URL"))
        .with_options(options());
    let tally = Tally::default();
    bus.start(tally.router(&topic)).await.expect("start");

    let mut unknown = Vec::new();
    for n in 0..20_i64 {
        let tx = match bus.begin().await {
            Ok(tx) => tx,
            Err(_) => continue,
        };
        let commit = bus.transaction(tx, async |mut txbus| {
            sqlx::query("INSERT INTO orders VALUES ($1)")
                .bind(n)
                .execute(txbus.conn())
                .await
                .map_err(|_| Error::NotStarted)?;
            txbus.publish(&topic, &n).await?;
            Ok::<_, Error>(())
        });
        let cut = async {
            tokio::time::sleep(Duration::from_micros(200 * n as u64)).await;
            proxy.cut();
        };
        let (result, ()) = tokio::join!(commit, cut);
        if let Err(Error::CommitUnknown { ids }) = result {
            assert_eq!(ids.len(), 1);
            unknown.push(n);
        }
    }

    // The server may still be at work on a COMMIT whose connection was cut, so what was committed is asked for
    // again once all of it was sent.
    let committed = async || -> Vec<i64> {
        let ids = sqlx::query_scalar("SELECT id FROM orders ORDER BY id");
        ids.fetch_all(&direct).await.expect("rows")
    };
    tally.has_all(committed().await).await;
    eventually("an empty outbox", SOON, async || {
        bus.stats().await.is_ok_and(|stats| stats.pending == 0)
    })
    .await;
    let committed = committed().await;
    tally.has_all(committed.clone()).await;
    assert_eq!(
        tally.beyond(|n| committed.contains(&n)),
        Vec::<i64>::new(),
        "unknown: {unknown:?}"
    );
    bus.shutdown().await.expect("shutdown");
}

/// After an outage that is longer than the leases, the scanners of both instances find the leases over. The
/// ackers have the proof that the messages were stored, so they must come first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_confirmed_before_an_outage_is_not_sent_again_after_it() {
    log();
    let database = final_tests::pg_database().await.expect("PostgreSQL");
    let proxy = Proxy::to(&database).await.expect("a proxy");
    let (service, rabbit) = (
        service(),
        final_tests::amqp_vhost().await.expect("RabbitMQ"),
    );
    let topic = format!("{service}.placed");
    let tally = Tally::default();
    let mut buses: Vec<PgBus> = Vec::new();
    for _ in 0..2 {
        let pool = sqlx::postgres::PgPoolOptions::new().acquire_timeout(Duration::from_secs(2));
        let pool = pool
            .connect(&proxy.url(&database))
            .await
            .expect("PostgreSQL through the proxy");
        let broker = Amqp::new(rabbit.url()).expect("a good URL");
        let options = options().lease(Duration::from_secs(5));
        buses.push(Bus::new(&service, pool, broker).with_options(options));
    }
    for bus in &buses {
        bus.start(tally.router(&topic)).await.expect("start");
    }

    for round in 0..3 {
        let (stop, publisher) = publish_on(&buses[0], &topic, round * 1_000_000);
        let before = tally.distinct();
        eventually("traffic", SOON, async || tally.distinct() > before + 100).await;
        proxy.down();
        tokio::time::sleep(Duration::from_secs(7)).await;
        proxy.up().expect("the port is still ours");
        stop.send(()).expect("the publisher runs");
        let published = publisher.await.expect("joined");
        tally.has_all(published.committed).await;
        eventually("an empty outbox", SOON, async || {
            buses[1].stats().await.is_ok_and(|stats| stats.pending == 0)
        })
        .await;
    }

    assert_eq!(tally.repeats(), 0);
    for bus in &buses {
        bus.shutdown().await.expect("shutdown");
    }
}

/// Fewer than one statement in five seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_bus_leaves_the_database_alone() {
    let rabbit = final_tests::amqp_vhost().await.expect("RabbitMQ");
    let url = final_tests::mysql_database().await.expect("MariaDB");
    let pool = sqlx::MySqlPool::connect(&url).await.expect("MariaDB");
    let bus: MySqlBus = Bus::new(
        service(),
        pool,
        Amqp::new(rabbit.url()).expect("a good URL"),
    );
    bus.start(Router::new()).await.expect("start");
    eventually("a connected link", SOON, async || {
        bus.stats().await.expect("stats").connected
    })
    .await;
    tokio::time::sleep(Duration::from_secs(1)).await;

    let sent = async || bus.stats().await.expect("stats").relay_statements;
    let (begin, before) = (Instant::now(), sent().await);
    tokio::time::sleep(Duration::from_secs(20)).await;
    let (sent, took) = (sent().await - before, begin.elapsed());

    assert!(
        5.0 * (sent as f64) < took.as_secs_f64(),
        "{sent} statements in {took:?}"
    );
    bus.shutdown().await.expect("shutdown");
}
