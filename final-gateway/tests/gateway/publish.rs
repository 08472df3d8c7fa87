//! Publishing by many at once: what is answered is committed, in the order of each caller.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use final_core::{
    Message, MessageId,
    broker::{Place as LogPlace, Settlement},
    database::Dialect,
};
use final_gateway::publish::{PublishError, Published, Publisher};
use final_tests::{MariaDb, Postgres, Proxy, eventually};
use futures::future::{BoxFuture, FutureExt, join_all};

use crate::{
    engine::{SOON, Stand},
    place::{Database, Place},
};

crate::on_each_engine!(
    every_consumer_gets_what_was_published_as_it_was_and_in_the_order_of_its_caller,
    what_is_answered_is_committed,
    the_same_id_may_be_published_again,
    a_message_that_the_database_refuses_fails_alone,
    a_shutdown_commits_what_is_in_the_queue,
);

crate::everywhere!(
    each_place_is_that_of_its_message_while_many_publish,
    many_callers_share_a_transaction,
);

type Answer = BoxFuture<'static, Result<Published, PublishError>>;

async fn submit(publisher: &Publisher, message: Message, wants_place: bool) -> Answer {
    let answer = publisher.submit(message, wants_place, SOON).await;
    answer.expect("room").boxed()
}

fn order(number: usize) -> Message {
    Message::new("order", number.to_string())
        .with_key(format!("customer-{}", number % 5))
        .with_header("tenant", "acme")
        .with_content_type("text/plain")
}

fn number(message: &Message) -> usize {
    let text = std::str::from_utf8(message.payload()).expect("a text");
    text.parse().expect("a number")
}

/// Where a gateway's messages are stored.
fn table<DB: Database>(stand: &Stand<DB>) -> &'static str {
    match stand.is_log() {
        true => "final_log",
        false => "final_edge_outbox",
    }
}

async fn every_consumer_gets_what_was_published_as_it_was_and_in_the_order_of_its_caller<
    DB: Database,
>(
    stand: Stand<DB>,
) {
    let mut consumer = stand.consumer("reader", "order").await;
    let running = stand.gateway().start().await.expect("start");
    let callers = (0..8).map(|caller: usize| {
        let publisher = running.publisher().clone();
        async move {
            let mut answers = Vec::new();
            for at in 0..40 {
                let message = order(caller * 1_000 + at);
                answers.push(submit(&publisher, message, false).await);
            }
            for answer in join_all(answers).await {
                answer.expect("committed");
            }
        }
    });
    join_all(callers).await;

    let mut last_of_caller = BTreeMap::new();
    for _ in 0..320 {
        let delivery = consumer.next().await;
        let message = delivery.message().expect("a message");
        let number = number(message);
        assert_eq!(message.key(), order(number).key());
        assert_eq!(message.headers(), order(number).headers());
        assert_eq!(message.content_type(), "text/plain");
        if stand.is_log() {
            let before = last_of_caller.insert(number / 1_000, number);
            assert!(
                before.is_none_or(|before| before < number),
                "{before:?} {number}"
            );
        }
        delivery.settle(Settlement::Ack);
    }
    consumer.close().await;
    running.shutdown().await;
}

async fn what_is_answered_is_committed<DB: Database>(stand: Stand<DB>) {
    let running = stand.gateway().start().await.expect("start");
    // Another connection, which sees what is committed and nothing else.
    let other = stand.place.another_pool().await;
    for at in 0..20 {
        let message = order(at).with_durable(true);
        let id = submit(running.publisher(), message, false)
            .await
            .await
            .expect("committed")
            .id;
        if stand.is_log() {
            let seen = DB::number(&other, &row_of::<DB>(id)).await;
            assert_eq!(seen, 1, "{at}");
        }
    }
    running.shutdown().await;
}

/// Counts the rows of a message in the log.
fn row_of<DB: Database>(id: MessageId) -> String {
    let id = id.to_string();
    let id = match DB::DIALECT {
        Dialect::Postgres => format!("'{id}'"),
        Dialect::MySql | Dialect::Sqlite => format!("x'{}'", id.replace('-', "")),
    };
    format!("SELECT count(*) FROM final_log WHERE message_id = {id}")
}

async fn the_same_id_may_be_published_again<DB: Database>(stand: Stand<DB>) {
    let mut consumer = stand.consumer("reader", "order").await;
    let running = stand.gateway().start().await.expect("start");
    let id = MessageId::new();
    for at in 0..3 {
        let message = Message::identified(id, "order", at.to_string());
        let published = submit(running.publisher(), message, false).await.await;
        assert_eq!(published.expect("committed").id, id);
    }
    let answers = [3, 4].map(|at: usize| Message::identified(id, "order", at.to_string()));
    let answers = join_all(answers.map(|message| submit(running.publisher(), message, false)));
    for answer in join_all(answers.await).await {
        assert_eq!(answer.expect("committed").id, id);
    }

    let mut came = HashSet::new();
    while came.len() < 5 {
        let delivery = consumer.next().await;
        let message = delivery.message().expect("a message");
        assert_eq!(message.id(), id);
        came.insert(number(message));
        delivery.settle(Settlement::Ack);
    }
    consumer.close().await;
    running.shutdown().await;
}

/// Has a table refuse rows of the topic "wrong".
async fn refuse<DB: Database>(stand: &Stand<DB>) {
    let table = table(stand);
    let statements = match DB::DIALECT {
        Dialect::Postgres => format!(
            "CREATE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql AS \
                $$ BEGIN IF NEW.topic = 'wrong' THEN RAISE EXCEPTION 'not here'; END IF; RETURN NEW; END $$; \
             CREATE TRIGGER guard BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION guard()"
        ),
        Dialect::MySql => format!(
            "CREATE TRIGGER guard BEFORE INSERT ON {table} FOR EACH ROW \
             IF NEW.topic = 'wrong' THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'not here'; END IF"
        ),
        Dialect::Sqlite => format!(
            "CREATE TRIGGER guard BEFORE INSERT ON {table} WHEN NEW.topic = 'wrong' \
             BEGIN SELECT RAISE(ROLLBACK, 'not here'); END"
        ),
    };
    stand.place.sql(&statements).await;
}

async fn a_message_that_the_database_refuses_fails_alone<DB: Database>(stand: Stand<DB>) {
    let mut consumer = stand.consumer("reader", "order").await;
    let running = stand.gateway().start().await.expect("start");
    refuse(&stand).await;
    let mut answers = Vec::new();
    for at in 0..150 {
        let message = match at {
            7 | 77 | 149 => Message::new("wrong", at.to_string()),
            _ => order(at),
        };
        answers.push(submit(running.publisher(), message, false).await);
    }
    for (at, answer) in join_all(answers).await.into_iter().enumerate() {
        match (at, answer) {
            (7 | 77 | 149, Err(PublishError::Refused(text))) => {
                assert!(text.contains("not here"), "{text}");
            }
            (_, answer) => drop(answer.unwrap_or_else(|error| panic!("{at}: {error}"))),
        }
    }
    let mut came = Vec::new();
    for _ in 0..147 {
        let delivery = consumer.next().await;
        came.push(number(delivery.message().expect("a message")));
        delivery.settle(Settlement::Ack);
    }
    came.sort_unstable();
    let expected: Vec<usize> = (0..150).filter(|at| ![7, 77, 149].contains(at)).collect();
    assert_eq!(came, expected);
    consumer.close().await;
    running.shutdown().await;
}

async fn a_shutdown_commits_what_is_in_the_queue<DB: Database>(stand: Stand<DB>) {
    let mut consumer = stand.consumer("reader", "order").await;
    let running = stand.gateway().start().await.expect("start");
    let publisher = running.publisher().clone();
    let mut answers = Vec::new();
    for at in 0..1_200 {
        answers.push(submit(&publisher, order(at), false).await);
    }
    running.shutdown().await;
    for answer in join_all(answers).await {
        answer.expect("committed");
    }
    let late = publisher.submit(order(0), false, SOON).await.err();
    assert_eq!(late, Some(PublishError::Stopping));

    // What the outbox had not sent by then comes with the next gateway.
    let again = stand.gateway().start().await.expect("start");
    let mut came = HashSet::new();
    while came.len() < 1_200 {
        let delivery = consumer.next().await;
        came.insert(number(delivery.message().expect("a message")));
        delivery.settle(Settlement::Ack);
    }
    consumer.close().await;
    again.shutdown().await;
}

async fn each_place_is_that_of_its_message_while_many_publish<DB: Database>(place: Place<DB>) {
    let stand = Stand::on(place);
    let running = stand.gateway().start().await.expect("start");
    let publisher = running.publisher();
    let callers = (0..10_usize).map(|caller| async move {
        let mut told = Vec::new();
        for at in 0..20 {
            let number = caller * 100 + at;
            let wants = number % 3 != 0;
            let answer = submit(publisher, order(number), wants).await.await;
            let place = answer.expect("committed").place;
            assert_eq!(place.is_some(), wants);
            told.extend(place.map(|place| (number, place)));
        }
        told
    });
    let told: Vec<(usize, LogPlace)> = join_all(callers).await.concat();
    assert!(told.len() > 120);
    for (number, place) in told {
        let payload: String = number
            .to_string()
            .bytes()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let payload = match DB::DIALECT {
            Dialect::Postgres => format!("'\\x{payload}'"),
            Dialect::MySql | Dialect::Sqlite => format!("x'{payload}'"),
        };
        let (seq, lane) = (place.number, place.partition);
        let row = format!(
            "SELECT count(*) FROM final_log WHERE seq = {seq} AND lane = {lane} AND payload = {payload}"
        );
        assert_eq!(stand.place.number(&row).await, 1, "{number} at {place:?}");
    }
    running.shutdown().await;
}

/// Rows of one transaction have one time of writing where the clock is read once per INSERT; so the transactions are
/// counted by the gateway itself, and by the server where it can.
async fn many_callers_share_a_transaction<DB: Database>(place: Place<DB>) {
    let stand = Stand::on(place);
    let running = stand.gateway().start().await.expect("start");
    let publisher = running.publisher();
    let callers = (0..64_usize).map(|caller| async move {
        for at in 0..10 {
            submit(publisher, order(caller * 10 + at), false)
                .await
                .await
                .expect("committed");
        }
    });
    join_all(callers).await;

    let rows = stand.place.number("SELECT count(*) FROM final_log").await;
    let transactions = match DB::DIALECT {
        // Each row has the number of its transaction.
        Dialect::Postgres => {
            let distinct = "SELECT count(DISTINCT xmin::text) FROM final_log";
            stand.place.number(distinct).await
        }
        Dialect::MySql | Dialect::Sqlite => {
            i64::try_from(running.publisher().stats().transactions).expect("a count")
        }
    };
    assert_eq!(rows, 640);
    assert!(
        transactions < 320,
        "{transactions} transactions for {rows} messages"
    );
    running.shutdown().await;
}

macro_rules! killed_in_the_middle {
    ($name:ident, $server:ty, $options:ty, $payload:literal) => {
        /// Books of what was answered: it is there after the server's crash, whatever the others are.
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let server = <$server>::start().await.expect("a server");
            let url = server.url();
            let pool = <$options>::new()
                .max_connections(20)
                .acquire_timeout(Duration::from_secs(2))
                .connect(&url)
                .await
                .expect("connected");
            let stand = Stand::on(Place::of(url, pool));
            let running = stand.gateway().start().await.expect("start");
            let publisher = running.publisher().clone();
            let callers = (0..16_usize).map(|caller| {
                let publisher = publisher.clone();
                tokio::spawn(async move {
                    let (mut committed, mut unknown) = (Vec::new(), Vec::new());
                    let mut failed = 0;
                    for at in 0.. {
                        let number = caller * 100_000 + at;
                        match submit(&publisher, order(number), false).await.await {
                            Ok(_) => committed.push(number),
                            Err(PublishError::Unknown) => {
                                unknown.push(number);
                                failed += 1;
                            }
                            Err(PublishError::Away(_)) => failed += 1,
                            Err(other) => panic!("{other}"),
                        }
                        if failed > 0 && committed.last() == Some(&number) {
                            break;
                        }
                        if committed.last() != Some(&number) {
                            tokio::time::sleep(Duration::from_millis(50)).await;
                        }
                    }
                    (committed, unknown)
                })
            });
            let callers: Vec<_> = callers.collect();
            while running.publisher().stats().published < 500 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            server.kill9();
            while running.publisher().stats().away == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            server.start_again().await.expect("started again");
            let (mut committed, mut unknown) = (Vec::new(), HashSet::new());
            for caller in callers {
                let (some, some_unknown) = caller.await.expect("no panic");
                committed.extend(some);
                unknown.extend(some_unknown);
            }
            let rows = concat!("SELECT ", $payload, " FROM final_log WHERE topic = 'order'");
            let rows = stand.place.texts(rows).await;
            let there: HashSet<usize> = rows
                .iter()
                .map(|row| row.parse().expect("a number"))
                .collect();
            assert_eq!(rows.len(), there.len(), "nothing is there twice");
            let lost: Vec<_> = committed.iter().filter(|it| !there.contains(it)).collect();
            assert!(lost.is_empty(), "answered and lost: {lost:?}");
            let committed: HashSet<usize> = committed.into_iter().collect();
            let invented: Vec<_> = there
                .iter()
                .filter(|it| !committed.contains(it) && !unknown.contains(it))
                .collect();
            assert!(
                invented.is_empty(),
                "there, and answered as not: {invented:?}"
            );
            running.shutdown().await;
        }
    };
}

killed_in_the_middle!(
    nothing_answered_is_lost_when_postgresql_is_killed,
    Postgres,
    sqlx::postgres::PgPoolOptions,
    "convert_from(payload, 'UTF8')"
);
killed_in_the_middle!(
    nothing_answered_is_lost_when_mariadb_is_killed,
    MariaDb,
    sqlx::mysql::MySqlPoolOptions,
    "CONVERT(payload USING utf8mb4)"
);

/// What was asked in vain is answered within the limits of the statements, and the next message takes a new connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_falls_silent_keeps_no_client_waiting_for_ever() {
    let url = final_tests::pg_database().await.expect("PostgreSQL");
    let proxy = Proxy::to(&url).await.expect("a proxy");
    let pool = <sqlx::Postgres as Database>::connect(&proxy.url(&url)).await;
    let stand = Stand::<sqlx::Postgres>::on(Place::of(url, pool));
    let running = stand.gateway().start().await.expect("start");
    let publisher = running.publisher();
    submit(publisher, order(0), false)
        .await
        .await
        .expect("committed");

    proxy.stall_answers();
    let silent = submit(publisher, order(1), false).await;
    let error = tokio::time::timeout(SOON, silent)
        .await
        .expect("in time")
        .expect_err("silent");
    assert!(error.is_retriable(), "{error}");
    proxy.resume();

    eventually("a message is committed again", SOON, async || {
        submit(publisher, order(2), false).await.await.is_ok()
    })
    .await;
    running.shutdown().await;
}

/// The log's own sessions do not wait for the disk, and the server is told not to either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_answered_is_on_the_disk_also_where_commits_do_not_wait_for_it() {
    let server = Postgres::start().await.expect("a server");
    let url = server.url();
    let pool = <sqlx::Postgres as Database>::connect(&url).await;
    let stand = Stand::<sqlx::Postgres>::on(Place::of(url, pool));
    let off = "ALTER SYSTEM SET synchronous_commit = off";
    stand.place.sql(off).await;
    stand.place.sql("SELECT pg_reload_conf()").await;
    let running = stand.gateway().start().await.expect("start");
    let mut flushed = 0;
    for at in 0..40 {
        let answer = submit(running.publisher(), order(at), at % 2 == 0)
            .await
            .await;
        answer.expect("committed");
        let behind = "SELECT (pg_current_wal_insert_lsn() - pg_current_wal_flush_lsn())::bigint";
        flushed += i64::from(stand.place.number(behind).await == 0);
    }
    // Other work of the server writes as well, from time to time.
    assert!(flushed >= 30, "{flushed} of 40");
    running.shutdown().await;
}

/// So many messages are one statement on MariaDB, and so many are several. The log's own sessions do not have the hook of the
/// caller's pool.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_number_of_messages_is_committed_on_mariadb_whatever_a_hook_of_the_pool_does() {
    let url = final_tests::mysql_database().await.expect("MariaDB");
    let options = sqlx::mysql::MySqlPoolOptions::new().max_connections(20);
    let options = options.before_acquire(|conn, _| {
        Box::pin(async move {
            let off = sqlx::Executor::execute(conn, "SET autocommit = 0").await;
            off.map(|_| true)
        })
    });
    let pool = options.connect(&url).await.expect("connected");
    let stand = Stand::<sqlx::MySql>::on(Place::of(url.clone(), pool));
    let log = final_core::SqlBroker::new(stand.place.pool.clone());
    let gateway = stand.gateway();
    gateway.migrate().await.expect("tables");
    let others = <sqlx::MySql as Database>::connect(&url).await;
    let mut sent = 0;
    for count in [1, 2, 16, 17, 32, 40] {
        for wants_place in [false, true] {
            let messages: Vec<Message> = (0..count).map(order).collect();
            let places = log.publish(&messages, |_| wants_place).await;
            let places = places.expect("committed");
            assert!(places.iter().all(|place| place.is_some() == wants_place));
            sent += i64::try_from(count).expect("few");
            let seen = "SELECT COUNT(*) FROM final_log";
            assert_eq!(<sqlx::MySql as Database>::number(&others, seen).await, sent);
        }
    }
}
