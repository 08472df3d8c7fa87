//! The broker is away for long: the outbox fills up, and then has to drain.

use std::{collections::HashMap, fmt, process::Stdio, time::Duration};

use final_tests::Proxy;
use futures::StreamExt;
use lapin::{Connection, ConnectionProperties, options::BasicConsumeOptions, types::FieldTable};
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::Command,
    time::timeout,
};

use crate::shop::{bind_queue, service};

const RECORDS: u64 = 200_000;
/// The most memory that the process may use, in KiB.
const MEMORY: u64 = 150 * 1024;
/// A limit for hangs alone, also on a machine with other work.
const PATIENCE: Duration = Duration::from_secs(1_200);

/// The measurements of the child. It is a debug build; the benchmark is elsewhere.
#[derive(Deserialize)]
struct Drain {
    piling_s: f64,
    draining_s: f64,
    rate: f64,
    commits: u64,
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
    peak_kib: u64,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_piles_up_on_postgresql_drains_in_bounded_memory_while_commits_go_on() {
    drain(&final_tests::pg_database().await.expect("PostgreSQL")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_piles_up_on_mariadb_drains_in_bounded_memory_while_commits_go_on() {
    drain(&final_tests::mysql_database().await.expect("MariaDB")).await;
}

async fn drain(database: &str) {
    let vhost = final_tests::amqp_vhost().await.expect("RabbitMQ");
    let proxy = Proxy::to(vhost.url()).await.expect("a proxy");
    let service = service();
    let topic = format!("{service}.piled");
    bind_queue(vhost.url(), &topic, &topic, FieldTable::default()).await;

    proxy.down();
    let mut publisher = Command::new(env!("CARGO_BIN_EXE_backlog_publisher"))
        .args([
            &service,
            database,
            &proxy.url(vhost.url()),
            &RECORDS.to_string(),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the child starts");
    let mut lines = BufReader::new(publisher.stdout.take().expect("a pipe")).lines();
    let mut line = async || {
        let line = timeout(PATIENCE, lines.next_line()).await.expect("in time");
        line.expect("a pipe").expect("the child lives")
    };
    assert_eq!(line().await, format!("piled {RECORDS}"));
    proxy.up().expect("the port is still ours");
    let mut orders = publisher.stdin.take().expect("a pipe");
    orders.write_all(b"go\n").await.expect("a pipe");
    let drain: Drain = serde_json::from_str(&line().await).expect("JSON");
    assert!(publisher.wait().await.expect("the child ends").success());
    println!("{drain}");

    let numbers = read_all(vhost.url(), &topic, RECORDS + drain.commits).await;
    let lost = (0..RECORDS + drain.commits).filter(|number| !numbers.contains_key(number));
    assert_eq!(lost.count(), 0);
    let repeats: u32 = numbers.values().map(|times| times - 1).sum();
    assert_eq!(repeats, 0);
    assert!(drain.peak_kib < MEMORY, "{drain}");
    assert!(drain.commits > 100, "commits stood still: {drain}");
}

impl fmt::Display for Drain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            piling_s,
            draining_s,
            rate,
            commits,
            p50_ms,
            p99_ms,
            max_ms,
            peak_kib,
        } = self;
        write!(
            f,
            "{RECORDS} records piled up in {piling_s:.1} s and drained in {draining_s:.1} s ({rate:.0}/s) \
             while {commits} commits took {p50_ms:.1} ms (p50), {p99_ms:.1} ms (p99), {max_ms:.1} ms (max); \
             the process used {} MiB at most",
            peak_kib / 1024
        )
    }
}

/// Reads until so many different numbers have arrived and no more arrive. Returns how often each arrived.
async fn read_all(url: &str, queue: &str, different: u64) -> HashMap<u64, u32> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await;
    let connection = connection.expect("RabbitMQ");
    let channel = connection.create_channel().await.expect("a channel");
    let take = BasicConsumeOptions {
        no_ack: true,
        ..Default::default()
    };
    let consumer =
        channel.basic_consume(queue.into(), "reader".into(), take, FieldTable::default());
    let mut consumer = consumer.await.expect("a consumer");
    let mut numbers = HashMap::new();
    loop {
        let enough = numbers.len() as u64 >= different;
        let patience = Duration::from_secs(if enough { 1 } else { 120 });
        let Ok(Some(delivery)) = timeout(patience, consumer.next()).await else {
            return numbers;
        };
        let delivery = delivery.expect("a delivery");
        let (number, _): (u64, Vec<u8>) = rmp_serde::from_slice(&delivery.data).expect("msgpack");
        *numbers.entry(number).or_default() += 1;
    }
}
