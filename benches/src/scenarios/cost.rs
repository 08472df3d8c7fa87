//! What a message costs, counted on the wires and in the write-ahead log: the same on every machine.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use sqlx::{MySql, Pool, Postgres};

use super::ours;
use crate::{
    Result,
    bench::Bench,
    db::Db,
    hand::Twin,
    load::until,
    row::{Must, Row, ratios},
    sides::OURS,
    wire::{Protocol, Wire},
};

/// Where PostgreSQL's log stands, in bytes.
const PG_LOG: &str = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint";
const MARIADB_LOG: &str = "SELECT CAST(VARIABLE_VALUE AS SIGNED) FROM information_schema.GLOBAL_STATUS \
    WHERE VARIABLE_NAME = 'INNODB_LSN_CURRENT'";

/// What is counted of one message.
const WHAT: [&str; 4] = [
    "statements",
    "round trips to the database",
    "bytes of write-ahead log",
    "frames to RabbitMQ",
];

const TWIN: &str = "the twin by hand";
/// Enough that what happens by the second (a scan, a heartbeat) is lost among them.
const TRANSACTIONS: u64 = 100;
/// A scan every ten seconds is a statement among a hundred messages.
const LIMIT: f64 = 1.01;
/// What is counted twice and is still too much is counted again: the log is the whole server's, and
/// vacuuming what other scenarios have left can take longer than two rounds.
const MOST_ROUNDS: u32 = 8;

pub(super) async fn run(bench: &mut Bench) -> Result<()> {
    on::<Postgres>(bench, Protocol::Postgres, PG_LOG).await?;
    on::<MySql>(bench, Protocol::MySql, MARIADB_LOG).await
}

async fn on<DB: Db>(bench: &mut Bench, protocol: Protocol, log: &str) -> Result<()> {
    if !bench.wants::<DB>() {
        return Ok(());
    }
    for messages in [1, 100] {
        let (mut ours, mut twin) = ([f64::INFINITY; WHAT.len()], [f64::INFINITY; WHAT.len()]);
        for round in 1..=MOST_ROUNDS {
            least(&mut ours, count::<DB>(OURS, protocol, log, messages).await?);
            least(&mut twin, count::<DB>(TWIN, protocol, log, messages).await?);
            let judged = WHAT.iter().zip(ours.iter().zip(&twin));
            let mut judged = judged.filter(|(what, _)| is_judged::<DB>(what));
            if round > 1 && judged.all(|(_, (ours, twin))| *ours <= twin * LIMIT) {
                break;
            }
        }
        for ((what, ours), twin) in WHAT.into_iter().zip(ours).zip(twin) {
            let metric = format!("{what} per message, {messages} in a transaction");
            let row = |side, value| Row::alone("cost", side, DB::LABEL, &metric, &[value]);
            let ours = Row {
                ratio: Some(ratios(&[ours], &[twin])),
                must: Some(Must::RatioAtMost(LIMIT)),
                counted: is_judged::<DB>(what),
                ..row(OURS, ours)
            };
            bench.add([ours, row(TWIN, twin)]);
        }
    }
    Ok(())
}

/// InnoDB's purge writes into the log when it likes: told, and not judged.
fn is_judged<DB: Db>(what: &str) -> bool {
    DB::LABEL == "postgres" || !what.contains("log")
}

/// What else goes on (a checkpoint, a heartbeat, a scan) only ever adds.
fn least(least: &mut [f64; WHAT.len()], counted: [f64; WHAT.len()]) {
    for (least, counted) in least.iter_mut().zip(counted) {
        *least = least.min(counted);
    }
}

/// Transactions one after the other, each with so many messages, each handled and gone from the
/// outbox before the next begins.
async fn count<DB: Db>(
    side: &str,
    protocol: Protocol,
    log: &str,
    messages: u64,
) -> Result<[f64; WHAT.len()]> {
    let place = DB::fresh().await?;
    let vhost = final_tests::amqp_vhost().await?;
    let database = Wire::to(&place.url, protocol).await?;
    let rabbitmq = Wire::to(vhost.url(), Protocol::Amqp).await?;
    let (url, amqp) = (database.url(&place.url)?, rabbitmq.url(vhost.url())?);
    let pool = DB::connect(&url).await?;
    // Both sides use its table.
    let bus = ours::bus(&pool, &amqp).await?;
    let (router, our_handled) = ours::counting(|_| ());
    let twin = if side == OURS {
        bus.start(router).await?;
        None
    } else {
        Some(Twin::start(&pool, &amqp, |_| ()).await?)
    };
    let transactions = (TRANSACTIONS / messages).max(20);
    let mut before = [0.0; WHAT.len()];
    // The first few prepare statements, and in the first second the bus looks after its queues.
    for number in 0..transactions + 5 {
        if number == 5 {
            tokio::time::sleep(Duration::from_secs(2)).await;
            before = now(&place.pool, log, &database, &rabbitmq).await?;
        }
        match &twin {
            Some(twin) => twin.transaction(number, messages).await?,
            None => ours::transaction(&bus, number, messages).await?,
        }
        let handled = async || {
            Ok(match &twin {
                Some(twin) => twin.handled(),
                None => our_handled.load(Relaxed),
            } >= (number + 1) * messages)
        };
        until("for the message to be handled", handled).await?;
        // Not over the wire.
        ours::emptied(&place.pool).await?;
    }
    let after = now(&place.pool, log, &database, &rabbitmq).await?;
    match twin {
        Some(twin) => twin.stop().await,
        None => bus.shutdown().await?,
    }
    let mut each = [0.0; WHAT.len()];
    for ((each, after), before) in each.iter_mut().zip(after).zip(before) {
        *each = (after - before) / (transactions * messages) as f64;
    }
    Ok(each)
}

async fn now<DB: Db>(
    pool: &Pool<DB>,
    log: &str,
    database: &Wire,
    rabbitmq: &Wire,
) -> Result<[f64; WHAT.len()]> {
    let (counts, frames) = (database.counts(), rabbitmq.counts());
    let log = DB::number(pool, log).await?;
    Ok([
        counts.statements as f64,
        counts.round_trips as f64,
        log as f64,
        frames.statements as f64,
    ])
}
