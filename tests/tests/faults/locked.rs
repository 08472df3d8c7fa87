//! Tables of the bus that somebody else has locked: for a backup, an ALTER, a VACUUM FULL.

use std::time::{Duration, Instant};

use final_core::{OutboxDatabase, SqliteBus};
use final_tests::{eventually, sqlite_file};
use sqlx::{Connection, Executor, MySqlPool, PgConnection, PgPool, SqliteConnection, SqlitePool};

use crate::{
    pair::{CONNECTIONS, Pair},
    shop::{SOON, log},
};

/// Longer than the bus waits for an answer.
const LONG: Duration = Duration::from_secs(18);
/// How long a statement of the bus may wait on the server. Longer, and it would wait where the bus has given it up,
/// and another connection would be opened beside it.
const PATIENCE: f64 = 13.0;
/// Connections of the pool of the service, those that lock, and the one that counts.
const OTHERS: i64 = 6;

const TABLES: [&str; 5] = [
    "final_shop_outbox",
    "final_shop_claims",
    "final_log",
    "final_log_lanes",
    "final_log_members",
];

/// What the server says: how many connections there are, and for how many seconds the oldest of ours has waited.
type Seen = (i64, f64);

/// While tables are locked, the bus keeps within the number of connections that README promises, and nothing of it
/// waits for longer than the bus itself.
async fn stays_small(seen: impl AsyncFn() -> Seen) {
    let begin = Instant::now();
    while begin.elapsed() < LONG {
        let (connections, waited) = seen().await;
        let after = begin.elapsed();
        assert!(
            connections <= i64::from(CONNECTIONS) + OTHERS,
            "{connections} after {after:?}"
        );
        assert!(waited < PATIENCE, "waiting for {waited} s after {after:?}");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// All goes on soon after the lock.
async fn goes_on<DB: OutboxDatabase>(mut pair: Pair<DB>) {
    let begin = Instant::now();
    pair.works().await;
    println!("went on within {:?}", begin.elapsed());
    pair.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn locked_tables_on_mariadb_do_not_make_connections_pile_up() {
    log();
    let url = final_tests::mysql_database().await.expect("MariaDB");
    let [pool, other] = [
        MySqlPool::connect(&url).await,
        MySqlPool::connect(&url).await,
    ];
    let (pool, other) = (pool.expect("connected"), other.expect("connected"));
    let mut pair = Pair::new(&pool);
    pair.start().await;
    pair.works().await;

    let mut locker = other.acquire().await.expect("a connection").detach();
    let lock = format!("LOCK TABLES {} WRITE", TABLES.join(" WRITE, "));
    locker
        .execute(sqlx::AssertSqlSafe(lock))
        .await
        .expect("locked");
    stays_small(async || {
        let seen = "SELECT COUNT(*), \
            CAST(COALESCE(MAX(IF(command IN ('Query', 'Execute'), time_ms, 0)), 0) / 1000 AS DOUBLE) \
            FROM information_schema.processlist WHERE db = DATABASE()";
        sqlx::query_as(seen).fetch_one(&other).await.expect("seen")
    })
    .await;
    locker.execute("UNLOCK TABLES").await.expect("unlocked");
    goes_on(pair).await;
}

/// An ALTER TABLE waits for a transaction that reads, and everything else waits behind the ALTER.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_for_a_lock_on_postgresql_does_not_make_connections_pile_up() {
    log();
    let url = final_tests::pg_database().await.expect("PostgreSQL");
    let [pool, other] = [PgPool::connect(&url).await, PgPool::connect(&url).await];
    let (pool, other) = (pool.expect("connected"), other.expect("connected"));
    let mut pair = Pair::new(&pool);
    pair.start().await;
    pair.works().await;

    let tables = TABLES.join(", ");
    let mut reader = other.begin().await.expect("begin");
    let read = format!("LOCK TABLE {tables} IN ACCESS SHARE MODE");
    let read = reader.execute(sqlx::AssertSqlSafe(read)).await;
    read.expect("read");
    let alter = ["final_shop_outbox", "final_log", "final_log_members"].map(|table| {
        let url = url.clone();
        tokio::spawn(async move {
            let mut altering = PgConnection::connect(&url).await.expect("connected");
            let alter = format!("ALTER TABLE {table} REPLICA IDENTITY DEFAULT");
            let altered = altering.execute(sqlx::AssertSqlSafe(alter)).await;
            altered.expect("altered");
        })
    });
    stays_small(async || {
        let seen = "SELECT count(*), \
            coalesce(max(extract(epoch FROM clock_timestamp() - query_start)) \
                FILTER (WHERE wait_event_type = 'Lock' AND query NOT LIKE 'ALTER%'), 0)::float8 \
            FROM pg_stat_activity WHERE datname = current_database()";
        sqlx::query_as(seen).fetch_one(&other).await.expect("seen")
    })
    .await;
    reader.rollback().await.expect("rolled back");
    for alter in alter {
        alter.await.expect("altered");
    }
    goes_on(pair).await;
}

/// Another program has the whole file for itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_sqlite_file_does_not_make_connections_pile_up() {
    log();
    let file = sqlite_file().expect("a file");
    let pool = SqlitePool::connect(&file.url()).await.expect("connected");
    let mut pair: Pair<sqlx::Sqlite> = Pair::new(&pool);
    pair.start().await;
    pair.works().await;
    let _: &SqliteBus = &pair.outbox;

    let mut locker = SqliteConnection::connect(&file.url())
        .await
        .expect("connected");
    locker.execute("BEGIN EXCLUSIVE").await.expect("locked");
    let open = || {
        let opened = std::fs::read_dir("/proc/self/fd").expect("files");
        let links = opened.filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok());
        links
            .filter(|link| link.ends_with("test.db") && link.starts_with(file.dir().path()))
            .count()
    };
    stays_small(async || (i64::try_from(open()).unwrap_or(i64::MAX), 0.0)).await;
    locker.execute("ROLLBACK").await.expect("unlocked");
    eventually("the stats", SOON, async || {
        pair.outbox.stats().await.is_ok()
    })
    .await;
    goes_on(pair).await;
}
