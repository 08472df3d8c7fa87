//! Other databases, other brokers, other processes.

use std::time::Duration;

use final_core::{
    Bus, Message, PgBus, SqlBroker,
    broker::{Broker, Confirm, Isolation, Outgoing, Setup},
};
use final_tests::{Proxy, WorkDir, eventually, process::Launch};

use super::{Log, noting, options, publish, sorted};
use crate::{
    database::Database,
    house::{Notes, SOON},
};

crate::log_suite!(
    a_bus_with_another_database_reaches_the_log_by_its_outbox,
    a_bus_with_another_database_sends_nothing_that_was_rolled_back,
    brokers_that_were_made_apart_wake_each_other_at_once,
    sending_goes_on_after_a_panic,
);

/// Far longer than a test waits: a message that only such an interval brings does not come in time.
const NEVER: Duration = Duration::from_secs(3_600);

async fn a_bus_with_another_database_reaches_the_log_by_its_outbox<D: Database>(log: Log<D>) {
    let elsewhere = Log::<D>::new().await;
    let (shop, notes) = log.noting("shop", &["placed"]).await;
    let far = Bus::new("far", elsewhere.pool.clone(), log.broker())
        .with_options(options().scan_interval(Duration::from_millis(500)));
    let own = Notes::default();
    far.start(noting(&own, &["placed"])).await.expect("start");
    publish(&far, "placed", 0..200).await;

    notes.reach(200).await;
    own.reach(200).await;
    log.is_done("shop").await;
    log.is_done("far").await;
    let outbox = "SELECT count(*) FROM final_far_outbox";
    elsewhere.comes_to(outbox, 0).await;
    for notes in [notes, own] {
        assert_eq!(sorted(notes.numbers()), Vec::from_iter(0..200));
    }
    shop.shutdown().await.expect("shutdown");
    far.shutdown().await.expect("shutdown");
}

async fn a_bus_with_another_database_sends_nothing_that_was_rolled_back<D: Database>(log: Log<D>) {
    let elsewhere = Log::<D>::new().await;
    let (shop, notes) = log.noting("shop", &["placed"]).await;
    let far = Bus::new("far", elsewhere.pool.clone(), log.broker()).with_options(options());
    far.start(noting(&Notes::default(), &[]))
        .await
        .expect("start");
    let mut txbus = far.with_tx(far.begin().await.expect("begin"));
    txbus.publish("placed", &1_i64).await.expect("staged");
    txbus.flush().await.expect("written");
    txbus.rollback().await.expect("rollback");

    far.publish("placed", &2_i64).await.expect("publish");
    notes.reach(1).await;
    log.is_done("shop").await;
    assert_eq!(notes.numbers(), [2]);
    shop.shutdown().await.expect("shutdown");
    far.shutdown().await.expect("shutdown");
}

/// The disk of the log is full, or the server is read-only during a failover. This lasts longer than the
/// tries of a faulty message.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_takes_nothing_for_a_while_fails_no_message() {
    let (log, elsewhere) = (Log::<sqlx::Postgres>::new().await, Log::new().await);
    let (shop, notes) = log.noting("shop", &["placed"]).await;
    log.run("CREATE SEQUENCE tried").await;
    log.run(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             PERFORM nextval('tried'); \
             RAISE EXCEPTION 'no space left' USING ERRCODE = 'disk_full'; \
         END $$",
    )
    .await;
    log.run("CREATE TRIGGER no_space BEFORE INSERT ON final_log EXECUTE FUNCTION refuse()")
        .await;
    let far: Bus<sqlx::Postgres> = Bus::new("far", elsewhere.pool.clone(), log.broker())
        .with_options(options().scan_interval(Duration::from_millis(200)));
    far.start(noting(&Notes::default(), &[]))
        .await
        .expect("start");
    publish(&far, "placed", 0..3).await;
    let tried = "SELECT last_value FROM tried";
    eventually("tries", SOON, async || match log.number(tried).await {
        tried if tried >= 10 => Ok(()),
        tried => Err(tried),
    })
    .await;

    log.run("DROP TRIGGER no_space ON final_log").await;
    notes.reach(3).await;
    assert_eq!(sorted(notes.numbers()), [0, 1, 2]);
    shop.shutdown().await.expect("shutdown");
    far.shutdown().await.expect("shutdown");
}

/// An error about the values stays the same, however often the INSERT is tried.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_whose_values_the_log_refuses_is_failed_and_the_others_are_sent() {
    let (log, elsewhere) = (Log::<sqlx::Postgres>::new().await, Log::new().await);
    let (shop, notes) = log.noting("shop", &["placed"]).await;
    log.run(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             RAISE EXCEPTION 'no such text' USING ERRCODE = 'data_exception'; \
         END $$",
    )
    .await;
    log.run(
        "CREATE TRIGGER refused BEFORE INSERT ON final_log FOR EACH ROW \
         WHEN (NEW.topic = 'bad') EXECUTE FUNCTION refuse()",
    )
    .await;
    let far: Bus<sqlx::Postgres> = Bus::new("far", elsewhere.pool.clone(), log.broker())
        .with_options(options().scan_interval(Duration::from_millis(200)));
    far.start(noting(&Notes::default(), &[]))
        .await
        .expect("start");
    publish(&far, "bad", [0]).await;
    publish(&far, "placed", 1..4).await;

    elsewhere
        .comes_to("SELECT count(*) FROM final_far_outbox WHERE status = 3", 1)
        .await;
    notes.reach(3).await;
    assert_eq!(sorted(notes.numbers()), [1, 2, 3]);
    shop.shutdown().await.expect("shutdown");
    far.shutdown().await.expect("shutdown");
}

/// The callback of a confirm is code of the bus. A bug there must not end sending for good.
async fn sending_goes_on_after_a_panic<D: Database>(log: Log<D>) {
    let opened = log.broker().open(Setup::new("far", [""; 0])).await;
    let link = opened.expect("a link").link;
    let send = |answer: Box<dyn FnOnce(Confirm) + Send>| {
        let message = Message::new("placed", "1");
        link.send(Outgoing::tracked(message, Isolation::Shared, answer));
    };
    send(Box::new(|_| panic!("as a bug would")));

    eventually("a message in the log", SOON, async || {
        let (told, answer) = tokio::sync::oneshot::channel();
        send(Box::new(move |confirm| drop(told.send(confirm))));
        // A message that is sent too early gets lost with the panic.
        let answer = tokio::time::timeout(SOON, answer).await;
        match answer {
            Ok(Ok(Confirm::Stored)) => Ok(()),
            other => Err(other),
        }
    })
    .await;
    link.close(SOON).await;
}

/// A broker that looks for nothing by itself while a test waits: neither for new messages nor to renew
/// its lease.
fn never_looking<D: Database>(pool: sqlx::Pool<D>) -> SqlBroker<D> {
    SqlBroker::new(pool).poll_interval(NEVER).lease(NEVER)
}

async fn brokers_that_were_made_apart_wake_each_other_at_once<D: Database>(log: Log<D>) {
    let seldom = || never_looking(log.pool.clone());
    let (producer, _) = log.noting_on("producer", seldom(), &[]).await;
    let (shop, notes) = log.noting_on("shop", seldom(), &["placed"]).await;
    log.shared_by("shop", 1).await;

    for number in 0..5 {
        publish(&producer, "placed", [number]).await;
        notes.reach(number as usize + 1).await;
    }
    shop.shutdown().await.expect("shutdown");
    producer.shutdown().await.expect("shutdown");
}

/// Only PostgreSQL can notify other processes. On the other databases a process finds new messages by
/// polling.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_process_is_heard_at_once_on_postgresql() {
    let url = final_tests::pg_database().await.expect("PostgreSQL");
    let pool = sqlx::PgPool::connect(&url).await.expect("connected");
    let dir = WorkDir::new("publisher").expect("a folder");
    let broker = never_looking(pool.clone());
    let bus = Bus::new("shop", pool, broker).with_options(options());
    let notes = Notes::default();
    bus.start(noting(&notes, &["placed"])).await.expect("start");
    let publisher = Launch::new(env!("CARGO_BIN_EXE_line_publisher"))
        .arg(&url)
        .takes_lines()
        .spawn("publisher", &dir.join("publisher.log"))
        .expect("a process");

    assert!(publisher.tell("0"));
    notes.reach(1).await;
    for number in 1..5 {
        assert!(publisher.tell(&number.to_string()));
        notes.reach(number + 1).await;
    }
    assert_eq!(notes.numbers(), [0, 1, 2, 3, 4]);
    bus.shutdown().await.expect("shutdown");
}

/// A bus that reads the log through a proxy, what it handles, and a bus that writes without the proxy and
/// is not started.
async fn through_a_proxy() -> (Proxy, PgBus, (PgBus, Notes)) {
    let url = final_tests::pg_database().await.expect("PostgreSQL");
    let proxy = Proxy::to(&url).await.expect("a proxy");
    let bus = async |service: &str, url: &str| {
        let pool = sqlx::PgPool::connect(url).await.expect("connected");
        let bus: PgBus = Bus::new(service, pool.clone(), SqlBroker::new(pool));
        bus.with_options(options())
    };
    let producer = bus("producer", &url).await;
    let (reader, notes) = (bus("shop", &proxy.url(&url)).await, Notes::default());
    let started = reader.start(noting(&notes, &["placed"])).await;
    started.expect("start");
    (proxy, producer, (reader, notes))
}

/// A long payload is read by its own statement, after its page. The database goes away between the two.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_message_is_not_lost_when_the_database_goes_away_while_it_is_read() {
    let (proxy, producer, (bus, notes)) = through_a_proxy().await;
    producer
        .start(noting(&Notes::default(), &[]))
        .await
        .expect("start");
    for number in 0..100_u8 {
        let payload = vec![number; 64 * 1024];
        producer
            .publish_bytes("placed", payload)
            .await
            .expect("publish");
    }

    proxy.delay(Duration::from_millis(2));
    for round in 1..=4 {
        final_tests::eventually("some of them", SOON, async || notes.len() >= round * 12).await;
        proxy.cut();
    }
    proxy.resume();
    notes.reach(100).await;
    let first = |message: &final_core::Message| i64::from(message.payload()[0]);
    let handled: std::collections::BTreeSet<i64> = notes.all().iter().map(first).collect();
    assert_eq!(handled.len(), 100);
    bus.shutdown().await.expect("shutdown");
    producer.shutdown().await.expect("shutdown");
}

/// The machine of the database is gone: no connection is closed, and no statement is answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_falls_silent_is_left_for_one_that_answers() {
    let (proxy, producer, (bus, notes)) = through_a_proxy().await;
    producer.publish("placed", &0_i64).await.expect("publish");
    notes.reach(1).await;

    proxy.strand();
    for number in 1..=20_i64 {
        let published = producer.publish("placed", &number).await;
        published.expect("publish");
    }
    final_tests::eventually("all of them", SOON * 3, async || {
        (0..=20).all(|number| notes.numbers().contains(&number))
    })
    .await;
    bus.shutdown().await.expect("shutdown");
}
