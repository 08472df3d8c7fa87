//! MySQL and MariaDB as a [`Driver`].
//!
//! There are no arrays, so a statement writes its lists out. The lock of migrations belongs to the whole
//! server, so its name has the database in it. MariaDB can tell whether a transaction is open, and MySQL
//! cannot.

use std::time::Duration;

use sqlx::{
    Executor, MySql, MySqlConnection, MySqlPool, Row as _, SqlSafeStr, SqlStr, Transaction,
    mysql::{MySqlArguments, MySqlDatabaseError},
    query::Query,
};

use super::{
    Column, DbResult, Dialect, Driver, LOCK_SECONDS, Lone, MigrationLock, POOL_PATIENCE, Row,
    Server, Value, owned::owned, renewable::own_pool, run_and_rows,
};

/// What a server's or an account's settings must not change for our statements. `docs/settings.md` has a row for
/// each.
///
/// At REPEATABLE READ, the server's default, even a claim that finds nothing would lock the gaps of
/// the index, and callers' INSERTs would wait for it.
const SESSION: [&str; 8] = [
    // The server gives up waiting for a row before this process gives up the statement. Otherwise abandoned
    // statements would go on waiting in the server, one more with each try.
    "SET SESSION innodb_lock_wait_timeout = 10",
    // For a table that is locked or altered, and for FLUSH TABLES WITH READ LOCK. By default it is a day or a year.
    // A row may have to be waited for after that, so both together are shorter than our own limit.
    "SET SESSION lock_wait_timeout = 4",
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE",
    "SET SESSION autocommit = 1",
    // Otherwise a COMMIT may begin the next transaction, in which what comes then is never committed.
    "SET SESSION completion_type = 'NO_CHAIN'",
    // What the server's `init_connect` has begun.
    "ROLLBACK",
    // What is cut or replaced in silence otherwise is an error.
    "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'",
    // Rows that are cut off or refused, statements that are ended, sessions that are closed, checks that are
    // skipped, texts in another charset or language. A long IN list must not become a join, which locks more. A small
    // table must not be gone through where rows can be looked up, because that waits for callers' open INSERTs.
    "SET NAMES utf8mb4, SESSION sql_select_limit = 18446744073709551615, SESSION sql_safe_updates = 0, \
     SESSION sql_big_selects = 1, SESSION wait_timeout = 28800, SESSION net_read_timeout = 30, \
     SESSION net_write_timeout = 60, SESSION foreign_key_checks = 1, SESSION unique_checks = 1, \
     SESSION sql_auto_is_null = 0, SESSION lc_messages = 'en_US' \
     /*!50708 , SESSION max_execution_time = 0 */ \
     /*M!100300 , SESSION max_statement_time = 0, SESSION check_constraint_checks = 1 */ \
     /*M!100500 , SESSION in_predicate_conversion_threshold = 0 */ \
     /*M!110001 , SESSION optimizer_scan_setup_cost = 1000000 */",
];

/// MariaDB's snapshot isolation makes a claim fail with 1020 in place of waiting, and makes a renewal wait for a
/// caller's open INSERT. The variable came in the midst of several series (10.6.18, 10.11.8, 11.4.2, ...), so that
/// no version number tells whether it is there.
const NO_SNAPSHOT_ISOLATION: &str = "SET SESSION innodb_snapshot_isolation = 0";

/// The smallest `max_allowed_packet` that our own statements fit into, with room for their lists.
const LEAST_PACKET: u64 = 64 * 1024;

impl super::sealed::Sealed for MySql {}

impl Driver for MySql {
    const DIALECT: Dialect = Dialect::MySql;

    async fn begin(pool: &MySqlPool) -> DbResult<Transaction<'static, Self>> {
        let pool = pool.clone();
        // In MariaDB's `sql_mode = ORACLE` a BEGIN begins a block of statements.
        owned(async move { pool.begin_with("START TRANSACTION").await }).await
    }

    fn own_pool(pool: &MySqlPool, connections: u32, session: &'static [&'static str]) -> MySqlPool {
        own_pool(
            pool.options().clone().acquire_timeout(POOL_PATIENCE),
            connections,
            pool.connect_options().as_ref().clone(),
            move |conn: &mut MySqlConnection| {
                Box::pin(async move {
                    begin_session(conn).await?;
                    for statement in session {
                        conn.execute(*statement).await?;
                    }
                    Ok(())
                })
            },
        )
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
        // What MariaDB calls itself can be changed, what it makes of such a comment cannot.
        let server = "SELECT VERSION(), CAST(0 /*M! + 1 */ /*M!100500 + 2 */ AS SIGNED), DATABASE(), \
            CAST(@@log_bin = 1 AND @@sync_binlog = 1 AS SIGNED), \
            CAST(@@log_bin = 1 AND @@sql_log_bin = 1 AS SIGNED), CAST(@@max_allowed_packet AS UNSIGNED)";
        let (version, is_mariadb, database, in_order, has_binlog, packet): Asked =
            sqlx::query_as(server).fetch_one(&mut *conn).await?;
        let database = database.ok_or_else(no_database)?;
        if has_binlog != 0 && variable(conn, "binlog_format").await? == "STATEMENT" {
            return Err(unusable(BY_STATEMENT.into()));
        }
        if packet < LEAST_PACKET {
            return Err(unusable(format!(
                "max_allowed_packet is {packet} bytes, and the bus needs {LEAST_PACKET}; raise it on the server"
            )));
        }
        Ok(Server {
            schema: format!("{}.", Self::DIALECT.quoted(&database)),
            tells_transactions: is_mariadb != 0 || says_mariadb(&version),
            shows_early: in_order == 0,
            // MariaDB since 10.5.
            returns: is_mariadb >= 2,
            packet: usize::try_from(packet).ok(),
        })
    }

    async fn session(conn: &mut MySqlConnection) -> DbResult<i64> {
        let row = conn
            .fetch_one("SELECT CAST(CONNECTION_ID() AS SIGNED)")
            .await?;
        row.try_get(0)
    }

    run_and_rows!(super::NoPatience);

    /// MariaDB and MySQL say the limit of a statement in different ways, and each takes the other's for a comment.
    async fn read_within(
        pool: MySqlPool,
        limit: Duration,
        sql: SqlStr,
        values: Vec<Value<'static>>,
        columns: &'static [Column],
    ) -> DbResult<Vec<Row>> {
        let (seconds, millis) = (limit.as_secs_f64(), limit.as_millis());
        let select = sql.as_str().trim_start().trim_start_matches("SELECT");
        let limited = sqlx::AssertSqlSafe(format!(
            "/*M!100101 SET STATEMENT max_statement_time = {seconds} FOR */ \
             SELECT /*+ MAX_EXECUTION_TIME({millis}) */{select}"
        ));
        let mut conn = pool.acquire().await?;
        Self::read_sql(&mut conn, &limited.into_sql_str(), &values, columns).await
    }

    /// 1969 on MariaDB, 3024 on MySQL.
    fn is_cut_off(error: &sqlx::Error) -> bool {
        number(error).is_some_and(|number| [1969, 3024].contains(&number))
    }

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
        let taken = take_lock(&mut conn, LOCK).await?;
        // An earlier release, which may still run during a deployment, takes this one alone. MySQL 9 has no
        // MD5() as it comes, so there is no such release there.
        let taken = taken
            && match take_lock(&mut conn, EARLIER_LOCK).await {
                Err(error) if number(&error) == Some(UNKNOWN_FUNCTION) => true,
                taken => taken?,
            };
        if taken {
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
    ///
    /// MariaDB's 1020 is the same to a statement: its transaction is rolled back as a whole, because a row was
    /// changed since its snapshot. COMMIT never says it, so it is no answer of
    /// [`is_surely_rolled_back`](Driver::is_surely_rolled_back).
    fn is_deadlock(error: &sqlx::Error) -> bool {
        number(error).is_some_and(|number| [1020, 1213].contains(&number))
    }

    fn is_lock_timeout(error: &sqlx::Error) -> bool {
        number(error) == Some(1205)
    }

    /// 1290 is said of other options than `read_only` too. 1792: the transaction is read-only; 1836, 1874,
    /// 1036: the server or InnoDB is; 3032: it is offline; 1820: the password had expired at the login; 1047:
    /// the node has left its Galera cluster; 1243: a proxy has given the connection another session, in which
    /// our statements are not prepared.
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

/// Brings a new session of ours to the settings that our statements need.
pub(crate) async fn begin_session(conn: &mut MySqlConnection) -> DbResult<()> {
    for statement in SESSION {
        conn.execute(statement).await?;
    }
    match conn.execute(NO_SNAPSHOT_ISOLATION).await {
        Err(error) if number(&error) == Some(UNKNOWN_VARIABLE) => Ok(()),
        done => done.map(drop),
    }
}

/// Names of locks belong to the whole server and have 64 characters at most, which a database's name may fill.
const LOCK: &str =
    "SELECT GET_LOCK(CONCAT('final_migrations_', LEFT(SHA2(DATABASE(), 256), 32)), ?)";
const EARLIER_LOCK: &str = "SELECT GET_LOCK(CONCAT('final_migrations_', MD5(DATABASE())), ?)";

/// False if another session has held it all the time.
async fn take_lock(conn: &mut MySqlConnection, lock: &'static str) -> DbResult<bool> {
    let taken: Option<i64> = sqlx::query_scalar(lock)
        .bind(LOCK_SECONDS)
        .fetch_one(conn)
        .await?;
    Ok(taken == Some(1))
}

const UNKNOWN_VARIABLE: u16 = 1193;
const UNKNOWN_FUNCTION: u16 = 1305;

fn number(error: &sqlx::Error) -> Option<u16> {
    let error: &MySqlDatabaseError = error.as_database_error()?.try_downcast_ref()?;
    Some(error.number())
}

/// Whether a transaction is open, or an XA transaction, so that no other can begin.
fn is_in_transaction(error: &sqlx::Error) -> bool {
    const OPEN: [u16; 3] = [1399, 1400, 1568];
    number(error).is_some_and(|number| OPEN.contains(&number))
}

/// What the server says of itself: version, whether it is MariaDB, database, whether a commit is written to the
/// binary log before it is visible, whether there is such a log, the largest packet.
type Asked = (String, i64, Option<String>, i64, i64, u64);

/// A MariaDB behind a proxy may also say `5.5.5-10.11.6-MariaDB`.
fn says_mariadb(version: &str) -> bool {
    version.to_ascii_lowercase().contains("mariadb")
}

/// InnoDB refuses our READ COMMITTED there. And where a replica runs our INSERT again, its own transaction is
/// open, so that an INSERT which is refused inside of one would stop the replica.
const BY_STATEMENT: &str = "binlog_format is STATEMENT, with which a transaction at READ COMMITTED cannot be \
    written to the binary log; set binlog_format to MIXED or ROW on the server";

/// A variable of the session; empty where the server has none of that name.
async fn variable(conn: &mut MySqlConnection, name: &'static str) -> DbResult<String> {
    let found: Option<(String, String)> = sqlx::query_as("SHOW VARIABLES WHERE Variable_name = ?")
        .bind(name)
        .fetch_optional(conn)
        .await?;
    Ok(found.map(|(_, value)| value).unwrap_or_default())
}

fn unusable(setting: String) -> sqlx::Error {
    sqlx::Error::Configuration(setting.into())
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
