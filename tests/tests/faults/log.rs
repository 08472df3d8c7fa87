//! The log in the database: lost answers, lost connections, and a file whose process is killed.

use std::{
    collections::BTreeSet,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use final_core::{Bus, Payload, PgBus, Router, SqlBroker, SqliteBus};
use final_tests::{WorkDir, eventually};
use sqlx::{PgPool, SqlitePool, sqlite::SqliteConnectOptions};

use crate::shop::{SOON, Tally};

/// A claim of lanes was carried out, and its answer got lost with the connection. Or lanes were given away,
/// and the server has forgotten it after a crash.
#[tokio::test]
async fn lanes_that_are_ours_without_our_knowing_are_worked_at() {
    let dir = WorkDir::new("log").expect("a folder");
    let file = SqliteConnectOptions::new().filename(dir.join("log.db"));
    let pool = SqlitePool::connect_with(file.create_if_missing(true)).await;
    let pool = pool.expect("SQLite");
    let bus: SqliteBus = Bus::new("mail", pool.clone(), SqlBroker::new(pool.clone()));
    let (sender, mut handled) = tokio::sync::mpsc::unbounded_channel();
    let router = Router::new().route("sold", move |Payload(number): Payload<u64>| {
        let sender = sender.clone();
        async move { sender.send(number).map_err(|_| "the test is over") }
    });
    bus.start(router).await.expect("a start");
    eventually("all lanes", SOON, async || {
        let owned = "SELECT COUNT(member) FROM final_log_lanes";
        let owned: i64 = sqlx::query_scalar(owned)
            .fetch_one(&pool)
            .await
            .unwrap_or(0);
        (owned == 16).then_some(()).ok_or(format!("{owned} lanes"))
    })
    .await;

    sqlx::query("UPDATE final_log_lanes SET epoch = epoch + 1")
        .execute(&pool)
        .await
        .expect("the claims nobody heard of");
    for number in 0..100 {
        bus.publish("sold", &number).await.expect("a message");
    }

    let mut left: BTreeSet<u64> = (0..100).collect();
    while !left.is_empty() {
        let next = tokio::time::timeout(SOON, handled.recv()).await;
        left.remove(&next.expect("a message in time").expect("a handler"));
    }
    bus.shutdown().await.expect("a shutdown");
}

/// A member that reads the log knows more than the written progress. It still knows that after a reconnect to
/// the same server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_connection_repeats_nothing() {
    let url = final_tests::pg_database().await.expect("PostgreSQL");
    let pool = PgPool::connect(&url).await.expect("connected");
    let broker = SqlBroker::new(pool.clone()).commit_within(Duration::from_secs(60));
    let bus: PgBus = Bus::new("mail", pool.clone(), broker);
    let tally = Tally::default();
    bus.start(tally.router("sold")).await.expect("a start");
    for round in 1..=3 {
        let numbers = 100 * round..100 * round + 50;
        for number in numbers.clone() {
            bus.publish("sold", &number).await.expect("a message");
        }
        tally.has_all(numbers).await;
        let cut = "SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity \
            WHERE datname = current_database() AND pid <> pg_backend_pid()";
        let cut: i64 = sqlx::query_scalar(cut).fetch_one(&pool).await.expect("cut");
        assert!(cut > 0);
        eventually("the database again", SOON, async || {
            sqlx::query("SELECT 1").execute(&pool).await.is_ok()
        })
        .await;
    }
    bus.publish("sold", &1_i64).await.expect("a message");
    tally.has_all([1]).await;
    assert_eq!(tally.repeats(), 0);
    bus.shutdown().await.expect("a shutdown");
}

/// How often the process is killed.
const KILLS: usize = 12;
/// How many messages one kill may repeat: the settled ones whose progress is not written, and those in
/// flight.
const WINDOW: usize = 2_000;

/// Publisher, log and subscriber are one process with one file. The process is killed again and again at any
/// moment, and nothing is lost or invented.
#[tokio::test]
async fn a_file_has_every_message_whenever_its_process_is_killed() {
    let dir = WorkDir::new("log").expect("a folder");
    let (file, journal) = (dir.join("shop.db"), dir.join("journal"));
    let options = SqliteConnectOptions::new().filename(&file);
    let pool = SqlitePool::connect_with(options.create_if_missing(true)).await;
    let pool = pool.expect("SQLite");
    let table = "CREATE TABLE orders (id INTEGER PRIMARY KEY)";
    sqlx::query(table).execute(&pool).await.expect("a table");

    for _ in 0..KILLS {
        let before = handled(&journal).len();
        let mut child = embedded(&file, &journal);
        eventually("something handled", SOON, async || {
            handled(&journal).len() > before
        })
        .await;
        tokio::time::sleep(Duration::from_millis(fastrand::u64(0..1_500))).await;
        child.kill().expect("it runs until it is killed");
        child.wait().expect("it has ended");
    }
    let mut last = embedded(&file, &journal);
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(last.stdin.take());
    assert!(last.wait().expect("it has ended").success());

    // The next process handles the messages that the last one left.
    let next = embedded(&file, &journal);
    let orders = "SELECT id FROM orders WHERE id / 1000000000 <> ?";
    let orders: Vec<i64> = sqlx::query_scalar(orders)
        .bind(i64::from(next.id()))
        .fetch_all(&pool)
        .await
        .expect("the orders");
    let orders: BTreeSet<i64> = orders.into_iter().collect();
    eventually("every order handled", SOON, async || {
        let handled: BTreeSet<i64> = handled(&journal).into_iter().collect();
        let missing: Vec<_> = orders.difference(&handled).take(10).collect();
        missing
            .is_empty()
            .then_some(())
            .ok_or(format!("{missing:?}"))
    })
    .await;
    let mut next = next;
    drop(next.stdin.take());
    assert!(next.wait().expect("it has ended").success());

    let all: Vec<i64> = sqlx::query_scalar("SELECT id FROM orders")
        .fetch_all(&pool)
        .await
        .expect("the orders");
    let all: BTreeSet<i64> = all.into_iter().collect();
    let runs = handled(&journal);
    let once: BTreeSet<i64> = runs.iter().copied().collect();
    let invented: Vec<_> = once.difference(&all).collect();
    assert!(invented.is_empty(), "{invented:?}");
    let repeats = runs.len() - once.len();
    println!(
        "{} orders, {repeats} handled again after {KILLS} kills",
        orders.len()
    );
    assert!(repeats <= KILLS * WINDOW, "{repeats}");
}

fn embedded(file: &Path, journal: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_embedded"))
        .args([file, journal])
        .stdin(Stdio::piped())
        .spawn()
        .expect("the child starts")
}

/// The numbers handled so far. An incomplete last line does not count.
fn handled(journal: &Path) -> Vec<i64> {
    let text = std::fs::read_to_string(journal).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole
        .lines()
        .map(|line| line.parse().expect("a number"))
        .collect()
}
