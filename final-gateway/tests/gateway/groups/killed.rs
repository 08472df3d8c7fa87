//! A node in a process of its own, which is killed or frozen with messages in hand.

use std::{collections::HashSet, time::Duration};

use final_core::SqlBroker;
use final_gateway::groups::{GroupOptions, Groups, ReceiptError};
use final_tests::{
    WorkDir, eventually,
    process::{Launch, Process},
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    time::sleep,
};

use super::{ack, node, number, pair, publish, pull_all, subscribe};
use crate::{
    engine::{SOON, Stand},
    place::{Database, Place},
};

crate::everywhere!(
    all_that_a_killed_node_had_in_hand_comes_again,
    a_node_that_was_frozen_for_too_long_hears_that_its_messages_are_gone,
);

/// The database and the number of messages of the other process.
const URL: &str = "FINAL_TEST_NODE_DATABASE";
const COUNT: &str = "FINAL_TEST_NODE_MESSAGES";

/// Another process has been dead or frozen for so long when its messages are given to others.
const LEASE: Duration = Duration::from_secs(2);

/// The other process is this test. On its own it does nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_other_process() {
    let (Ok(url), Ok(count)) = (std::env::var(URL), std::env::var(COUNT)) else {
        return;
    };
    let count = count.parse().expect("a number");
    match url.split(':').next().unwrap_or_default() {
        "postgres" => live::<sqlx::Postgres>(&url, count).await,
        "sqlite" => live::<sqlx::Sqlite>(&url, count).await,
        _ => live::<sqlx::MySql>(&url, count).await,
    }
}

/// Takes messages, and acks one after the other once it hears a line.
async fn live<DB: Database>(url: &str, count: usize) {
    let pool = DB::connect(url).await;
    let log = SqlBroker::new(pool.clone()).lease(LEASE);
    let groups = Groups::over_log(pool, log, "other", GroupOptions::default()).await;
    let groups = groups.expect("a node");
    let pulled = pull_all(&groups, count, SOON).await;
    println!("in hand");
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    lines.next_line().await.expect("a line");
    for pulled in pulled {
        match groups.ack("billing", &[pulled.receipt]).await[0] {
            Err(ReceiptError::Gone) => println!("gone"),
            ref other => println!("{other:?}"),
        }
        sleep(Duration::from_millis(50)).await;
    }
    // Until it is killed.
    std::future::pending().await
}

struct Other {
    process: Process,
    _dir: WorkDir,
}

impl Other {
    /// A process that has so many messages in hand.
    async fn with<DB: Database>(place: &Place<DB>, count: usize) -> Self {
        let dir = WorkDir::new("node").expect("a folder");
        let launch = Launch::new(std::env::current_exe().expect("this program"))
            .args([
                "--exact",
                "groups::killed::the_other_process",
                "--nocapture",
            ])
            .env(URL, &place.url)
            .env(COUNT, count.to_string())
            .takes_lines();
        let process = launch.spawn("node", &dir.path().join("log"));
        let other = Self {
            process: process.expect("it starts"),
            _dir: dir,
        };
        other.says("in hand").await;
        other
    }

    async fn says(&self, line: &str) {
        let has_said = async || {
            let log = self.process.log();
            log.lines()
                .any(|said| said == line)
                .then_some(())
                .ok_or(log)
        };
        eventually(line, SOON, has_said).await;
    }
}

/// The group is subscribed, and so many messages wait for it.
async fn waiting<DB: Database>(stand: &Stand<DB>, count: usize) {
    let running = stand.gateway().start().await.expect("start");
    let first = node(stand, "first", |_| {}).await;
    drop(subscribe(&first).await);
    first.shutdown().await;
    publish(&running, 0..count).await;
    running.shutdown().await;
}

async fn all_that_a_killed_node_had_in_hand_comes_again<DB: Database>(place: Place<DB>) {
    const COUNT: usize = 1_000;
    let stand = Stand::on(place);
    waiting(&stand, COUNT).await;
    let other = Other::with(&stand.place, COUNT).await;
    other.process.kill9();

    let groups = node(&stand, "one", |_| {}).await;
    let again = pull_all(&groups, COUNT, SOON).await;
    let numbers: HashSet<usize> = again.iter().map(|pulled| number(&pulled.message)).collect();
    assert_eq!(numbers.len(), COUNT);
    ack(&groups, &again).await;
    let more = groups.pull(&[pair()], super::lot(10), SOON).await;
    assert!(more.expect("an answer").is_empty());
    groups.shutdown().await;
}

/// Freezes the other process, and not while it has the lock of a SQLite file: nobody else could write then.
async fn freeze<DB: Database>(other: &Other, place: &Place<DB>) {
    loop {
        other.process.pause();
        if let Ok(tx) = DB::begin(&place.pool).await {
            tx.rollback().await.expect("rolled back");
            return;
        }
        other.process.resume();
        sleep(Duration::from_millis(50)).await;
    }
}

async fn a_node_that_was_frozen_for_too_long_hears_that_its_messages_are_gone<DB: Database>(
    place: Place<DB>,
) {
    const COUNT: usize = 200;
    let stand = Stand::on(place);
    waiting(&stand, COUNT).await;
    let other = Other::with(&stand.place, COUNT).await;
    freeze(&other, &stand.place).await;

    let groups = node(&stand, "one", |_| {}).await;
    let again = pull_all(&groups, COUNT, SOON).await;
    let numbers: HashSet<usize> = again.iter().map(|pulled| number(&pulled.message)).collect();
    assert_eq!(numbers.len(), COUNT);
    other.process.resume();
    assert!(other.process.tell("ack"));
    other.says("gone").await;
    ack(&groups, &again).await;
    other.process.kill9();
    groups.shutdown().await;
}
