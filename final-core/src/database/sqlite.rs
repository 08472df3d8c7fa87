//! SQLite as a [`Driver`].
//!
//! Lists go as JSON. There is one writer at a time. A database in memory lives in the connections of the
//! caller's pool, so that pool is used for everything.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::BoxFuture;
use sqlx::{
    Executor, Row as _, SqlStr, Sqlite, SqliteConnection, SqlitePool, Transaction,
    query::Query,
    sqlite::{SqliteArguments, SqliteConnectOptions},
};
use uuid::Uuid;

use super::{
    Column, DbResult, Dialect, Driver, Lone, MIGRATIONS, MigrationLock, Row, Server, Value,
    Writers,
    owned::owned,
    pragmas::{Journal, check, in_memory, is_exclusive},
    renewable::own_pool,
    run_and_rows,
};

/// How long a write waits for the one before it. A caller's transaction is that one, most of the time.
const BUSY: Duration = Duration::from_secs(5);

/// After how many of SQLite's steps it is looked whether a statement has time left.
const STEPS: i32 = 10_000;

/// What the caller's options must not change for our statements: waiting for locks, whether an INSERT gives a row, and
/// the names of columns. `docs/settings.md` has a row for each.
const SESSION: &str = "\
    PRAGMA busy_timeout = 5000; PRAGMA count_changes = 0; \
    PRAGMA full_column_names = 0; PRAGMA short_column_names = 1";

impl super::sealed::Sealed for Sqlite {}

impl Driver for Sqlite {
    const DIALECT: Dialect = Dialect::Sqlite;

    async fn begin(pool: &SqlitePool) -> DbResult<Transaction<'static, Self>> {
        let pool = pool.clone();
        owned(async move {
            let mut patience = Patience::default();
            loop {
                match pool.begin_with("BEGIN IMMEDIATE").await {
                    Err(error) if patience.again(&error).await => {}
                    begun => return begun,
                }
            }
        })
        .await
    }

    /// Deferred, so it takes no lock and no snapshot.
    fn begin_early(
        pool: SqlitePool,
    ) -> Option<BoxFuture<'static, DbResult<Transaction<'static, Self>>>> {
        Some(Box::pin(owned(async move { pool.begin().await })))
    }

    /// In one way to the connection's thread and back, as long as BEGIN IMMEDIATE alone takes. sqlx counts one open
    /// transaction before and after.
    async fn take_lock(mut tx: Transaction<'static, Self>) -> DbResult<Transaction<'static, Self>> {
        owned(async move {
            let mut patience = Patience::default();
            let mut taken = tx.execute("COMMIT; BEGIN IMMEDIATE").await;
            loop {
                match taken {
                    Ok(_) => return Ok(tx),
                    Err(error) if patience.again(&error).await => {
                        taken = tx.execute("BEGIN IMMEDIATE").await;
                    }
                    Err(error) => {
                        // What sqlx counts is then open again, and is rolled back by the drop. Otherwise the
                        // connection would begin nothing any more.
                        let _ = tx.execute("BEGIN").await;
                        return Err(error);
                    }
                }
            }
        })
        .await
    }

    /// A database in memory is gone with its last connection and often has only one, and a connection with
    /// `locking_mode = EXCLUSIVE` keeps the file for itself. So the caller's pool is shared there.
    fn own_pool(
        pool: &SqlitePool,
        connections: u32,
        session: &'static [&'static str],
    ) -> SqlitePool {
        if Self::lives_in_pool(pool) {
            return pool.clone();
        }
        let options = pool.connect_options();
        let journal = Arc::new(Journal::new(pool));
        // In a shared cache a lock is refused at once, whatever the timeout.
        let connect = options.as_ref().clone().shared_cache(false);
        own_pool(
            pool.options().clone(),
            connections,
            connect.busy_timeout(BUSY),
            move |conn: &mut SqliteConnection| {
                let journal = Arc::clone(&journal);
                Box::pin(async move {
                    conn.execute(SESSION).await?;
                    journal.prepare(conn).await;
                    for statement in session {
                        conn.execute(*statement).await?;
                    }
                    Ok(())
                })
            },
        )
    }

    fn lives_in_pool(pool: &SqlitePool) -> bool {
        let options = pool.connect_options();
        in_memory(&options) || is_exclusive(&options)
    }

    fn place(pool: &SqlitePool) -> String {
        let options = pool.connect_options();
        if Self::lives_in_pool(pool) {
            // The options belong to the pool and are never moved.
            return format!("memory {:p}", std::sync::Arc::as_ptr(&options));
        }
        file(options.get_filename()).display().to_string()
    }

    /// None for a database in memory that only one connection sees.
    fn writers(pool: &SqlitePool) -> Writers {
        let options = pool.connect_options();
        if !in_memory(&options) {
            return Writers::of(file(options.get_filename()).display().to_string());
        }
        match shares_cache(&options) {
            true => Writers::of(format!("memory {}", options.get_filename().display())),
            false => Writers::default(),
        }
    }

    /// `main` keeps a temporary table of the same name out of the way.
    async fn server(conn: &mut SqliteConnection) -> DbResult<Server> {
        check(conn).await.map_err(super::name_setting)?;
        Ok(Server {
            schema: "main.".to_owned(),
            tells_transactions: false,
            shows_early: false,
            returns: true,
            packet: None,
        })
    }

    #[allow(clippy::unused_async, reason = "the other drivers' wait")]
    async fn session(_: &mut SqliteConnection) -> DbResult<i64> {
        Ok(0)
    }

    run_and_rows!(Patience);

    /// A connection that is not ours may have a handler of its caller's, and there can be one only. So a database that
    /// lives in the caller's pool has no limit.
    async fn read_within(
        pool: SqlitePool,
        limit: Duration,
        sql: SqlStr,
        values: Vec<Value<'static>>,
        columns: &'static [Column],
    ) -> DbResult<Vec<Row>> {
        let is_ours = !Self::lives_in_pool(&pool);
        // To its end, because a handler that stays would end all that the connection is asked later.
        owned(async move {
            let mut conn = pool.acquire().await?;
            if is_ours {
                let until = Instant::now() + limit;
                let goes_on = move || Instant::now() < until;
                conn.lock_handle()
                    .await?
                    .set_progress_handler(STEPS, goes_on);
            }
            let read = Self::read_sql(&mut conn, &sql, &values, columns).await;
            if is_ours {
                conn.lock_handle().await?.remove_progress_handler();
            }
            read
        })
        .await
    }

    fn is_cut_off(error: &sqlx::Error) -> bool {
        const INTERRUPT: u32 = 9;
        code(error) == Some(INTERRUPT)
    }

    async fn columns(conn: &mut SqliteConnection, table: &str) -> DbResult<Vec<String>> {
        sqlx::query_scalar("SELECT name FROM pragma_table_info(?1, 'main')")
            .bind(table)
            .fetch_all(conn)
            .await
    }

    /// By a transaction, begun as IMMEDIATE: after a crash nothing of the migration is there.
    async fn lock_migrations(pool: &SqlitePool) -> DbResult<MigrationLock<Self>> {
        // It changes nothing, and is refused where nothing may be written. BEGIN IMMEDIATE is not always.
        let write = format!("DELETE FROM main.{MIGRATIONS} WHERE 0 = 1");
        let locked = async {
            let mut tx = Self::begin(pool).await?;
            match tx.execute(sqlx::AssertSqlSafe(write)).await {
                Err(error) if !super::says(&error, "no such table") => Err(error),
                _ => Ok(MigrationLock::Transaction(tx)),
            }
        };
        locked.await.map_err(super::name_setting)
    }

    async fn listen(_: &SqlitePool, _: &str, _: impl Fn(&str) + Send + Sync) -> DbResult<()> {
        std::future::pending().await
    }

    /// SQL has no word for an open transaction here, and BEGIN fails in one. Not BEGIN IMMEDIATE: the open
    /// one would have the lock of all writers then. The INSERT comes first, so it waits for the lock as well.
    async fn lone(caller: &SqlitePool, _: &Server) -> DbResult<Lone<Self>> {
        lone(caller.clone()).await
    }

    fn lone_early(caller: SqlitePool) -> Option<BoxFuture<'static, DbResult<Lone<Self>>>> {
        Some(Box::pin(lone(caller)))
    }

    /// COMMIT fails where the transaction is over.
    #[allow(clippy::unused_async, reason = "the other drivers' wait")]
    async fn is_open(_: &mut SqliteConnection, _: &Server, _flushed: bool) -> DbResult<bool> {
        Ok(true)
    }

    fn is_missing_table(error: &sqlx::Error, name: &str) -> bool {
        super::says(error, "no such table") && super::says(error, name)
    }

    /// After COMMIT failed with BUSY the transaction is still open, and is rolled back when its handle is
    /// dropped. A full disk or an I/O error proves nothing.
    fn is_surely_rolled_back(error: &sqlx::Error) -> bool {
        const CONSTRAINT: u32 = 19;
        matches!(code(error), Some(BUSY_CODE | LOCKED_CODE | CONSTRAINT))
    }

    fn is_deadlock(_: &sqlx::Error) -> bool {
        false
    }

    /// The file could not be written when it was opened, or it was moved away since.
    fn must_reconnect(error: &sqlx::Error) -> bool {
        const READONLY: u32 = 8;
        code(error) == Some(READONLY)
    }

    fn is_not_alone(_: &sqlx::Error) -> bool {
        false
    }

    fn is_busy(error: &sqlx::Error) -> bool {
        const BUSY_SNAPSHOT: &str = "517";
        let is_snapshot = error
            .as_database_error()
            .and_then(|error| error.code())
            .is_some_and(|code| code == BUSY_SNAPSHOT);
        // A snapshot that is too old is refused at once.
        matches!(code(error), Some(BUSY_CODE | LOCKED_CODE)) && !is_snapshot
    }
}

async fn lone(caller: SqlitePool) -> DbResult<Lone<Sqlite>> {
    match owned(async move { caller.begin().await }).await {
        Ok(tx) => Ok(Lone::Transaction(tx)),
        Err(error) if super::says(&error, "within a transaction") => Ok(Lone::Taken),
        Err(error) => Err(error),
    }
}

/// Another connection has the lock.
const BUSY_CODE: u32 = 5;
/// The same, inside a shared cache.
const LOCKED_CODE: u32 = 6;

/// The primary result code, without what the extended one adds.
fn code(error: &sqlx::Error) -> Option<u32> {
    let code: u32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(code & 0xff)
}

/// Waits for a lock on a table of a database in memory, whose connections share a cache: there SQLite
/// refuses at once what it would wait for in a file. The statement has had no effect.
#[derive(Debug, Default)]
struct Patience(u32);

impl Patience {
    /// Whether to try again, after a while; not for ever.
    async fn again(&mut self, error: &sqlx::Error) -> bool {
        const LOCKED_SHAREDCACHE: &str = "262";
        const TRIES: u32 = 500;
        let is_locked = error
            .as_database_error()
            .and_then(|error| error.code())
            .is_some_and(|code| code == LOCKED_SHAREDCACHE);
        if !is_locked || self.0 >= TRIES {
            return false;
        }
        self.0 += 1;
        tokio::time::sleep(Duration::from_millis(u64::from(self.0.min(10)))).await;
        true
    }
}

/// The file by the name that all paths to it have, also before it is there.
fn file(name: &Path) -> PathBuf {
    std::fs::canonicalize(name)
        .or_else(|error| {
            let folder = name
                .parent()
                .filter(|folder| !folder.as_os_str().is_empty());
            let folder = std::fs::canonicalize(folder.unwrap_or(Path::new(".")))?;
            name.file_name().map(|file| folder.join(file)).ok_or(error)
        })
        .unwrap_or_else(|_| name.to_owned())
}

/// Whether several connections see the same database in memory. sqlx tells it by no getter.
fn shares_cache(options: &SqliteConnectOptions) -> bool {
    format!("{options:?}").contains("shared_cache: true")
}

fn bound<'q>(sql: SqlStr, values: &'q [Value<'_>]) -> Query<'q, Sqlite, SqliteArguments> {
    values
        .iter()
        .fold(sqlx::query(sql), |query, value| match value {
            Value::Int(value) => query.bind(value),
            Value::Bool(value) => query.bind(value),
            Value::Text(value) => query.bind(value.as_deref()),
            Value::Bytes(value) => query.bind(value.as_deref()),
            Value::Id(value) => query.bind(value),
            Value::Ints(all) => query.bind(numbers(all)),
            Value::Ids(all) => query.bind(hexadecimal(all)),
            // JSON cannot hold these, and no statement asks for them. What comes here finds nothing.
            Value::Bools(_) | Value::Texts(_) | Value::ByteStrings(_) => query.bind(None::<i64>),
        })
}

/// Numbers as a JSON array.
fn numbers(all: &[Option<i64>]) -> String {
    let all: Vec<String> = all.iter().flatten().map(i64::to_string).collect();
    format!("[{}]", all.join(","))
}

/// Ids as a JSON array of hexadecimal texts, which has no other way to hold bytes.
fn hexadecimal(all: &[Option<Uuid>]) -> String {
    let mut text = String::with_capacity(2 + all.len() * 35);
    text.push('[');
    for id in all.iter().flatten() {
        if text.len() > 1 {
            text.push(',');
        }
        text.push('"');
        text.push_str(id.simple().encode_lower(&mut Uuid::encode_buffer()));
        text.push('"');
    }
    text.push(']');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_listed_as_json() {
        assert_eq!(hexadecimal(&[]), "[]");
        assert_eq!(
            hexadecimal(&[Some(Uuid::nil()), Some(Uuid::max())]),
            r#"["00000000000000000000000000000000","ffffffffffffffffffffffffffffffff"]"#
        );
    }

    /// Without the BEGIN after a refusal, sqlx counts a transaction that is not there, and begins none any more.
    #[tokio::test]
    async fn a_transaction_that_gets_no_lock_leaves_its_connection_as_it_was() {
        let options = SqliteConnectOptions::new().filename(crate::scratch::database());
        let options = options
            .create_if_missing(true)
            .busy_timeout(Duration::from_millis(20));
        let one = sqlx::sqlite::SqlitePoolOptions::new().max_connections(1);
        let (pool, other) = (
            one.clone().connect_with(options.clone()).await.unwrap(),
            one.connect_with(options).await.unwrap(),
        );
        let holder = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
        for _ in 0..3 {
            let early = Sqlite::begin_early(pool.clone()).unwrap().await.unwrap();
            let refused = Sqlite::take_lock(early).await.map(drop).unwrap_err();
            assert!(Sqlite::is_busy(&refused), "{refused}");
        }
        drop(holder);

        let early = Sqlite::begin_early(pool.clone()).unwrap().await.unwrap();
        let mut tx = Sqlite::take_lock(early).await.unwrap();
        sqlx::query("CREATE TABLE t (n INTEGER)")
            .execute(&mut *tx)
            .await
            .unwrap();
        let refused = other.begin_with("BEGIN IMMEDIATE").await;
        assert!(refused.is_err(), "it has the lock");
        tx.commit().await.unwrap();
        let rows: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM t")
            .fetch_one(&other)
            .await
            .unwrap();
        assert_eq!(rows, 0);
    }

    #[test]
    fn numbers_are_listed_as_json() {
        assert_eq!(numbers(&[]), "[]");
        assert_eq!(numbers(&[Some(-1), Some(7)]), "[-1,7]");
    }
}
