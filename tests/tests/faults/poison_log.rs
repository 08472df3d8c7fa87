//! Messages that take their process down, over the log.

use std::{collections::BTreeSet, time::Duration};

use final_core::{
    Bus, Options, OutboxDatabase, Router, SqlBroker, broker::DeadLetterFilter, log::StartFrom,
};
use final_tests::WorkDir;
use sqlx::{MySqlPool, PgPool, Pool, Sqlite, SqlitePool};

use crate::{
    poison::{Journal, Letter, Process, the_poison_is_dead, until_done},
    shop::{Tally, options, service},
};

/// Publishes numbers to the log, while nobody reads it.
async fn publish<DB: OutboxDatabase>(
    pool: &Pool<DB>,
    topic: &str,
    numbers: impl IntoIterator<Item = i64>,
) {
    let broker = SqlBroker::new(pool.clone());
    let maker: Bus<DB> = Bus::new("maker", pool.clone(), broker).with_options(options());
    maker.start(Router::new()).await.expect("start");
    for number in numbers {
        maker.publish(topic, &number).await.expect("published");
    }
    maker.shutdown().await.expect("shutdown");
}

/// Takes the dead letters of a service.
async fn take<DB: OutboxDatabase>(broker: &SqlBroker<DB>, service: &str) -> Vec<Letter> {
    let all = DeadLetterFilter::default();
    let letters = broker.dead_letters(service, &all).await.expect("letters");
    if letters.is_empty() {
        return Vec::new();
    }
    let taken = letters.iter().map(|letter| {
        let message = letter.message.as_ref().expect("a message");
        let number = rmp_serde::from_slice(message.payload()).expect("a number");
        (number, letter.reason.clone())
    });
    let taken = taken.collect();
    // Another letter may have come since they were read.
    let read = all.ids(letters.iter().map(|letter| letter.id));
    broker.discard(service, &read).await.expect("discarded");
    taken
}

/// Two messages that abort the process, in the midst of forty others.
async fn only_the_poison_is_given_up<DB: OutboxDatabase>(pool: Pool<DB>, url: &str) {
    crate::shop::log();
    let (service, dir) = (service(), WorkDir::new("poison").expect("a folder"));
    let innocent: BTreeSet<i64> = (1..=40).collect();
    let numbers = (1..=9).chain([-1, -2]).chain(10..=40);
    publish(&pool, &format!("{service}.job"), numbers).await;
    let journal = Journal(dir.path().join("journal"));
    let broker = SqlBroker::new(pool);

    let (starts, mut letters) = until_done(
        || Process::start(&service, url, "log", &journal),
        &journal,
        &innocent,
        async || take(&broker, &service).await,
        2,
    )
    .await;

    letters.sort();
    the_poison_is_dead(&letters, &journal);
    assert!(starts <= 8, "{starts} starts");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_aborts_its_process_is_dead_lettered_and_no_other_from_the_log_on_postgres()
{
    let url = final_tests::pg_database().await.expect("PostgreSQL");
    let pool = PgPool::connect(&url).await.expect("connected");
    only_the_poison_is_given_up(pool, &url).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_aborts_its_process_is_dead_lettered_and_no_other_from_the_log_on_mariadb() {
    let url = final_tests::mysql_database().await.expect("MariaDB");
    let pool = MySqlPool::connect(&url).await.expect("connected");
    only_the_poison_is_given_up(pool, &url).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_aborts_its_process_is_dead_lettered_and_no_other_from_the_log_on_sqlite() {
    let file = final_tests::sqlite_file().expect("a file");
    let pool = SqlitePool::connect(&file.url()).await.expect("opened");
    only_the_poison_is_given_up(pool, &file.url()).await;
}

/// Lanes that were given back, and messages that were published after a member had ended, cost no statement.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_a_log_that_no_process_had_before_are_no_suspects() {
    crate::shop::log();
    let file = final_tests::sqlite_file().expect("a file");
    let pool = SqlitePool::connect(&file.url()).await.expect("opened");
    let (service, topic) = ("reader", "reader.job");
    publish(&pool, topic, 1..=20).await;
    // A mark for each suspect would be refused, and its message would wait.
    let start = async || {
        let broker = SqlBroker::new(pool.clone())
            .lease(Duration::from_millis(600))
            .start_from(StartFrom::Beginning);
        let bus: Bus<Sqlite> = Bus::new(service, pool.clone(), broker)
            .with_options(Options::default().shutdown_timeout(Duration::from_secs(10)));
        let tally = Tally::default();
        bus.start(tally.router(topic)).await.expect("start");
        (bus, tally)
    };
    let (bus, tally) = start().await;
    sqlx::query(
        "CREATE TRIGGER no_marks BEFORE INSERT ON final_reader_suspects \
         BEGIN SELECT RAISE(ABORT, 'no marks here'); END",
    )
    .execute(&pool)
    .await
    .expect("a trigger");
    tally.has_all(1..=20).await;
    bus.shutdown().await.expect("shutdown");

    publish(&pool, topic, 21..=40).await;
    let (bus, tally) = start().await;
    tally.has_all(21..=40).await;
    bus.shutdown().await.expect("shutdown");
}
