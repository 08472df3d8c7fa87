//! MySQL and MariaDB as a [`Driver`].
//!
//! There are no arrays, so a statement writes its lists out. The lock of migrations belongs to the whole
//! server, so its name has the database in it. MariaDB can tell whether a transaction is open, and MySQL
//! cannot.

use sqlx::{
    Executor, MySql, MySqlConnection, MySqlPool, Row as _, SqlStr, Transaction,
    mysql::{MySqlArguments, MySqlDatabaseError},
    query::Query,
};

use super::{
    Column, DbResult, Dialect, Driver, LOCK_SECONDS, Lone, MigrationLock, POOL_PATIENCE, Row,
    Server, Value, owned::owned, renewable::own_options, run_and_rows,
};

/// At REPEATABLE READ, the server's default, even a claim that finds nothing would lock the gaps of
/// the index, and callers' INSERTs would wait for it.
const SESSION: [&str; 7] = [
    // Before we give up ourselves: the server would let it wait on, each time another one.
    "SET SESSION innodb_lock_wait_timeout = 10",
    // For a table that is locked or altered, and for FLUSH TABLES WITH READ LOCK. By default it is a day or a year.
    // A row may have to be waited for after that, so both together are shorter than our own limit.
    "SET SESSION lock_wait_timeout = 4",
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
    "SET SESSION autocommit = 1",
    // Otherwise a COMMIT may begin the next transaction, in which what comes then is never committed.
    "SET SESSION completion_type = 'NO_CHAIN'",
    // What the server's `init_connect` has begun.
    "ROLLBACK",
    // What is cut or replaced in silence otherwise is an error.
    "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'",
];

impl super::sealed::Sealed for MySql {}

impl Driver for MySql {
    const DIALECT: Dialect = Dialect::MySql;

    async fn begin(pool: &MySqlPool) -> DbResult<Transaction<'static, Self>> {
        let pool = pool.clone();
        owned(async move { pool.begin().await }).await
    }

    fn own_pool(pool: &MySqlPool, connections: u32, session: &'static [&'static str]) -> MySqlPool {
        own_options(pool, connections)
            .acquire_timeout(POOL_PATIENCE)
            .after_connect(move |conn, _| {
                Box::pin(async move {
                    for statement in SESSION.iter().chain(session) {
                        conn.execute(*statement).await?;
                    }
                    Ok(())
                })
            })
            .connect_lazy_with(pool.connect_options().as_ref().clone())
    }

    fn lives_in_pool(_: &MySqlPool) -> bool {
        false
    }

    fn place(pool: &MySqlPool) -> String {
        let options = pool.connect_options();
        let host = options.get_socket().map_or_else(
            || options.get_host().to_owned(),
            |socket| socket.display().to_string(),
        );
        let database = options.get_database().unwrap_or_default();
        format!("{host}:{}/{database}", options.get_port())
    }

    /// Where a commit is written to the binary log first, and that to the disk, a row becomes visible only
    /// after both; otherwise a server that crashes takes back what it has shown.
    async fn server(conn: &mut MySqlConnection) -> DbResult<Server> {
        let server =
            "SELECT VERSION(), DATABASE(), CAST(@@log_bin = 1 AND @@sync_binlog = 1 AS SIGNED)";
        let (version, database, in_order): (String, Option<String>, i64) =
            sqlx::query_as(server).fetch_one(conn).await?;
        let database = database.ok_or_else(no_database)?;
        Ok(Server {
            schema: format!("{}.", Self::DIALECT.quoted(&database)),
            tells_transactions: is_mariadb(&version),
            shows_early: in_order == 0,
        })
    }

    run_and_rows!(super::NoPatience);

    async fn columns(conn: &mut MySqlConnection, table: &str) -> DbResult<Vec<String>> {
        sqlx::query_scalar(
            "SELECT CONVERT(column_name USING utf8mb4) FROM information_schema.columns \
             WHERE table_schema = DATABASE() AND table_name = ?",
        )
        .bind(table)
        .fetch_all(conn)
        .await
    }

    /// On a connection of its own that is closed afterwards, so the lock ends in any case. Such locks belong
    /// to the whole server, so its name has the database in it.
    async fn lock_migrations(pool: &MySqlPool) -> DbResult<MigrationLock<Self>> {
        let mut conn = pool.acquire().await?.detach();
        Self::server(&mut conn).await?;
        // A migration may wait for longer than other statements.
        let wait = format!("SET SESSION lock_wait_timeout = {LOCK_SECONDS}");
        conn.execute(sqlx::AssertSqlSafe(wait)).await?;
        let taken: Option<i64> =
            sqlx::query_scalar("SELECT GET_LOCK(CONCAT('final_migrations_', MD5(DATABASE())), ?)")
                .bind(LOCK_SECONDS)
                .fetch_one(&mut conn)
                .await?;
        if taken == Some(1) {
            return Ok(MigrationLock::Session(conn));
        }
        let problem = format!(
            "another instance has held the lock of the outbox's migrations for {LOCK_SECONDS} s; \
             see `SHOW PROCESSLIST` for what it does, and start again"
        );
        Err(sqlx::Error::Io(std::io::Error::new(
            std::io::ErrorKind::TimedOut,
            problem,
        )))
    }

    async fn listen(_: &MySqlPool, _: &str, _: impl Fn(&str) + Send + Sync) -> DbResult<()> {
        std::future::pending().await
    }

    /// On MariaDB the INSERT tells. MySQL has no word for it.
    async fn lone(caller: &MySqlPool, server: &Server) -> DbResult<Lone<Self>> {
        if server.tells_transactions {
            return caller.acquire().await.map(Lone::Connection);
        }
        // A START TRANSACTION alone would commit a transaction that was left open. The statement before it
        // changes nothing, and fails if one is open.
        let caller = caller.clone();
        let begin = "SET TRANSACTION READ WRITE; START TRANSACTION";
        match owned(async move { caller.begin_with(begin).await }).await {
            Ok(tx) => Ok(Lone::Transaction(tx)),
            Err(error) if is_in_transaction(&error) => Ok(Lone::Taken),
            Err(error) => Err(error),
        }
    }

    /// A deadlock ends a transaction at once, and COMMIT says nothing about it. Without messages there is
    /// nothing of ours to be missed, and a statement such as CREATE TABLE may have committed everything.
    async fn is_open(conn: &mut MySqlConnection, server: &Server, flushed: bool) -> DbResult<bool> {
        if !flushed || !server.tells_transactions {
            return Ok(true);
        }
        let open: i64 = sqlx::query_scalar("SELECT CAST(@@in_transaction AS SIGNED)")
            .fetch_one(conn)
            .await?;
        Ok(open != 0)
    }

    fn is_missing_table(error: &sqlx::Error, name: &str) -> bool {
        number(error) == Some(1146) && super::says(error, name)
    }

    /// Errors of COMMIT after which nothing of the transaction stands: a deadlock (also a Galera conflict),
    /// a constraint, a conflict in a replication group. A lock wait that timed out is not among them: it
    /// ends a statement and not the transaction.
    fn is_surely_rolled_back(error: &sqlx::Error) -> bool {
        const SURE: [u16; 6] = [1062, 1213, 1451, 1452, 3101, 4025];
        number(error).is_some_and(|number| SURE.contains(&number))
    }

    /// A claim comes to a row by the index of what is due and a settlement by its id, so two instances can
    /// each hold what the other wants. Callers are not part of it: they only insert.
    fn is_deadlock(error: &sqlx::Error) -> bool {
        number(error) == Some(1213)
    }

    /// 1290 is said of other options than `read_only` too. 1792: the transaction is read-only; 1836, 1874, 1036: the
    /// server or InnoDB is; 3032: it is offline; 1820: the password had expired at the login; 1047: the node has left its Galera cluster; 1243: a proxy has
    /// given the connection another session, in which our statements are not prepared.
    fn must_reconnect(error: &sqlx::Error) -> bool {
        const OPTION: u16 = 1290;
        const ALWAYS: [u16; 8] = [1036, 1047, 1243, 1792, 1820, 1836, 1874, 3032];
        let is_option = || {
            ["read-only", "read_only"]
                .iter()
                .any(|it| super::says(error, it))
        };
        number(error)
            .is_some_and(|number| ALWAYS.contains(&number) || number == OPTION && is_option())
    }

    /// The INSERT of one row would not have committed by itself: it writes NULL then, which it never does
    /// otherwise where that is refused. Or it is an XA transaction that takes no more statements.
    fn is_not_alone(error: &sqlx::Error) -> bool {
        const NO_NULL: u16 = 1048;
        const XA_IS_OVER: u16 = 1399;
        number(error).is_some_and(|number| [NO_NULL, XA_IS_OVER].contains(&number))
    }
}

fn number(error: &sqlx::Error) -> Option<u16> {
    let error: &MySqlDatabaseError = error.as_database_error()?.try_downcast_ref()?;
    Some(error.number())
}

/// Whether a transaction is open, or an XA transaction, so that no other can begin.
fn is_in_transaction(error: &sqlx::Error) -> bool {
    const OPEN: [u16; 3] = [1399, 1400, 1568];
    number(error).is_some_and(|number| OPEN.contains(&number))
}

/// A MariaDB behind a proxy may also say `5.5.5-10.11.6-MariaDB`.
fn is_mariadb(version: &str) -> bool {
    version.to_ascii_lowercase().contains("mariadb")
}

fn no_database() -> sqlx::Error {
    sqlx::Error::Configuration(
        "no database is selected for the outbox; name one in the connection options".into(),
    )
}

fn bound<'q>(sql: SqlStr, values: &'q [Value<'_>]) -> Query<'q, MySql, MySqlArguments> {
    values
        .iter()
        .fold(sqlx::query(sql), |query, value| match value {
            Value::Int(value) => query.bind(value),
            Value::Bool(value) => query.bind(value),
            Value::Text(value) => query.bind(value.as_deref()),
            Value::Bytes(value) => query.bind(value.as_deref()),
            Value::Id(value) => query.bind(value),
            // There are no arrays: a statement writes its list out. What comes here all the same finds
            // nothing.
            Value::Ints(_)
            | Value::Bools(_)
            | Value::Texts(_)
            | Value::ByteStrings(_)
            | Value::Ids(_) => query.bind(None::<i64>),
        })
}
