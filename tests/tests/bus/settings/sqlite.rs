//! SQLite pools that name what a file or a session is to be like.

use std::time::Duration;

use sqlx::{
    Sqlite, SqlitePool,
    sqlite::{
        SqliteConnectOptions, SqliteJournalMode as Mode, SqliteLockingMode, SqlitePoolOptions,
    },
};

use super::{refuses, walks};
use crate::{
    database::Database,
    house::House,
    transport::{Log, Memory, Transport},
};

/// A house on a new file, and what goes away with the file.
struct Files<T: Transport> {
    house: House<Sqlite, T>,
    _file: final_tests::SqliteFile,
}

async fn files<T: Transport>(
    pool: SqlitePoolOptions,
    set: impl FnOnce(SqliteConnectOptions) -> SqliteConnectOptions,
) -> Files<T> {
    let file = final_tests::sqlite_file().expect("a file");
    let options = set(file.url().parse().expect("a URL"));
    let pool = pool.connect_with(options).await.expect("opened");
    Files {
        house: House::on(pool).await,
        _file: file,
    }
}

fn eight() -> SqlitePoolOptions {
    SqlitePoolOptions::new().max_connections(8)
}

async fn mode(pool: &SqlitePool) -> String {
    Sqlite::texts(pool, "PRAGMA main.journal_mode")
        .await
        .remove(0)
}

/// The service goes on with its own queries while the bus works: none of them fails. New connections come all the
/// time, and each says again what mode the file is to have.
async fn both_work<T: Transport>(files: &Files<T>, expected: &str) {
    let house = &files.house;
    Sqlite::run_on(&house.pool, "CREATE TABLE orders (total INTEGER NOT NULL)").await;
    let (bus, notes) = house.start_noting(house.options(), &["placed"]).await;
    let callers = (0..8_i64).map(|caller| {
        let (options, hooked) = (house.pool.connect_options(), house.pool.options().clone());
        let (bus, topic) = (bus.clone(), house.topic("placed"));
        tokio::spawn(async move {
            for n in 0..5 {
                let own = hooked
                    .clone()
                    .connect_with(options.as_ref().clone())
                    .await?;
                let orders = sqlx::query("INSERT INTO orders VALUES (1)");
                orders.execute(&own).await?;
                let count = sqlx::query("SELECT count(*) FROM orders");
                count.execute(&own).await?;
                own.close().await;
                let publish = bus.publish(&topic, &(caller * 5 + n));
                publish
                    .await
                    .map_err(|error| sqlx::Error::Protocol(format!("{error:?}")))?;
            }
            Ok::<_, sqlx::Error>(())
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller
            .await
            .expect("joined")
            .expect("no call fails because of the bus");
    }
    notes.reach(40).await;
    assert_eq!(mode(&house.pool).await, expected);
    bus.shutdown().await.expect("shutdown");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_mode_that_the_pool_names_is_kept() {
    for (named, is) in [
        (Mode::Delete, "delete"),
        (Mode::Truncate, "truncate"),
        (Mode::Persist, "persist"),
        (Mode::Memory, "memory"),
        (Mode::Wal, "wal"),
    ] {
        both_work(
            &files::<Memory>(eight(), |options| options.journal_mode(named)).await,
            is,
        )
        .await;
        both_work(
            &files::<Log>(eight(), |options| options.journal_mode(named)).await,
            is,
        )
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_that_names_none_gets_wal() {
    both_work(&files::<Memory>(eight(), |options| options).await, "wal").await;
    both_work(&files::<Log>(eight(), |options| options).await, "wal").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_mode_that_a_hook_sets_is_kept() {
    let hooked = |mode: &'static str| {
        eight().after_connect(move |conn, _| Box::pin(Sqlite::raw(conn, mode)))
    };
    let delete = hooked("PRAGMA journal_mode = DELETE");
    both_work(&files::<Log>(delete, |options| options).await, "delete").await;
    let wal = hooked("PRAGMA journal_mode = WAL; PRAGMA foreign_keys = ON");
    both_work(&files::<Log>(wal, |options| options).await, "wal").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_was_switched_before_gets_the_mode_that_is_named_now() {
    let files = files::<Log>(eight(), |options| options.journal_mode(Mode::Wal)).await;
    Sqlite::run_on(
        &files.house.pool,
        "CREATE TABLE orders (total INTEGER NOT NULL)",
    )
    .await;
    let options = files.house.pool.connect_options();
    files.house.pool.close().await;

    let named = options.as_ref().clone().journal_mode(Mode::Delete);
    let pool = eight().connect_with(named).await.expect("opened");
    let house = House::<Sqlite, Log>::on(pool).await;
    walks(&house).await;
    assert_eq!(mode(&house.pool).await, "delete");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_that_keeps_the_file_for_itself_is_shared() {
    let one = || SqlitePoolOptions::new().max_connections(1);
    let exclusive =
        |options: SqliteConnectOptions| options.locking_mode(SqliteLockingMode::Exclusive);
    walks(&files::<Memory>(one(), exclusive).await.house).await;
    walks(&files::<Log>(one(), exclusive).await.house).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_options_do_no_harm() {
    let set = |options: SqliteConnectOptions| {
        options
            .foreign_keys(false)
            .busy_timeout(Duration::from_millis(200))
            .shared_cache(true)
            .page_size(512)
            .pragma("encoding", "'UTF-16le'")
            .pragma("busy_timeout", "150")
            .pragma("full_column_names", "1")
            .pragma("short_column_names", "0")
            .pragma("count_changes", "1")
            .pragma("reverse_unordered_selects", "1")
            .pragma("ignore_check_constraints", "1")
            .pragma("recursive_triggers", "1")
            .pragma("temp_store", "2")
            .pragma("secure_delete", "1")
            .pragma("cell_size_check", "1")
            .pragma("trusted_schema", "0")
            .pragma("read_uncommitted", "1")
            .pragma("case_sensitive_like", "1")
    };
    walks(&files::<Memory>(eight(), set).await.house).await;
    walks(&files::<Log>(eight(), set).await.house).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_keeps_a_bus_from_writing_is_refused_by_name() {
    let off = |options: SqliteConnectOptions| options.journal_mode(Mode::Off);
    refuses(
        &files::<Memory>(eight(), off).await.house,
        "journal_mode is OFF",
    )
    .await;
    refuses(
        &files::<Log>(eight(), off).await.house,
        "journal_mode is OFF",
    )
    .await;
    let query_only = |options: SqliteConnectOptions| options.pragma("query_only", "1");
    refuses(
        &files::<Log>(eight(), query_only).await.house,
        "query_only is set",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_only_read_is_refused_by_name() {
    type Set = fn(SqliteConnectOptions) -> SqliteConnectOptions;
    let sets: [Set; 2] = [
        |options| options.read_only(true),
        |options| options.immutable(true),
    ];
    for set in sets {
        let files = files::<Memory>(eight(), |options| options).await;
        Sqlite::run_on(
            &files.house.pool,
            "CREATE TABLE orders (total INTEGER NOT NULL)",
        )
        .await;
        let options = files.house.pool.connect_options();
        files.house.pool.close().await;
        let pool = eight().connect_with(set(options.as_ref().clone()));
        let house = House::<Sqlite, Memory>::on(pool.await.expect("opened")).await;
        refuses(&house, "can only be read").await;
    }
}
