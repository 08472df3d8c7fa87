//! PostgreSQL as a [`Driver`].
//!
//! Lists go as arrays. The lock of migrations is one of the transaction that makes the tables. Only here other
//! processes hear of new messages, by NOTIFY.

use std::time::Duration;

use sqlx::{
    Executor, PgConnection, PgPool, Postgres, Row as _, SqlStr, Transaction,
    postgres::{PgArguments, PgListener},
    query::Query,
};

use super::{
    Column, DbResult, Dialect, Driver, LOCK_SECONDS, Lone, MIGRATIONS, MigrationLock,
    POOL_PATIENCE, Row, Server, Value, owned::owned, renewable::own_pool, run_and_rows,
};

/// SQLSTATE classes that say that the transaction was rolled back: data, constraints, transaction states,
/// serialization and deadlocks, object states, and what a function raised.
///
/// Not here, because the commit may stand all the same: 08 (connection), 53 (resources), 57 (going down),
/// 58, XX, and 40003, which says that the outcome is unknown.
const ROLLED_BACK: [&str; 7] = ["22", "23", "25", "2D", "40", "55", "P0"];

/// Remembers whether transactions are read-only by the choice of a role, a database or the connect options, and not
/// because the server was made read-only.
const CHOSEN: &str = "\
    SELECT set_config('final.reads_only', COALESCE((SELECT setting FROM pg_catalog.pg_settings \
        WHERE name = 'default_transaction_read_only' AND source NOT IN ('configuration file', 'command line')), \
        'off'), false)";

/// What a server's, a database's or a role's settings must not change for our statements. `docs/settings.md` has a
/// row for each.
///
/// Time limits are our own (`ANSWER`), so the server only ends a transaction that stands still for longer than all of
/// them. It gives up waiting for a lock before this process gives up the statement. Otherwise abandoned statements
/// would go on waiting in the server, one more with each try. Outbox and log switch sequential and bitmap scans off, because their statements go by keys; so the other ways
/// to a row have to be on. The last three settings are not in every version.
const SESSION: &str = "\
    SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE, NOT DEFERRABLE; \
    SET lock_timeout = '10s'; \
    SET statement_timeout = 0; \
    SET idle_in_transaction_session_timeout = '75s'; \
    SET standard_conforming_strings = on; \
    SET array_nulls = on; \
    SET exit_on_error = off; \
    SET enable_indexscan = on; \
    SET enable_indexonlyscan = on; \
    SET enable_nestloop = on; \
    SET enable_sort = on; \
    SELECT set_config(name, value, false) \
        FROM (VALUES ('default_table_access_method', 'heap'), ('idle_session_timeout', '0'), \
            ('transaction_timeout', '0')) settings(name, value) \
        WHERE current_setting(name, true) IS NOT NULL";

impl super::sealed::Sealed for Postgres {}

impl Driver for Postgres {
    const DIALECT: Dialect = Dialect::Postgres;

    async fn begin(pool: &PgPool) -> DbResult<Transaction<'static, Self>> {
        let pool = pool.clone();
        owned(async move { pool.begin().await }).await
    }

    async fn begin_durable(pool: &PgPool) -> DbResult<Transaction<'static, Self>> {
        let pool = pool.clone();
        let begin = "BEGIN; SET LOCAL synchronous_commit = on";
        owned(async move { pool.begin_with(begin).await }).await
    }

    fn own_pool(pool: &PgPool, connections: u32, session: &'static [&'static str]) -> PgPool {
        own_pool(
            pool.options().clone().acquire_timeout(POOL_PATIENCE),
            connections,
            pool.connect_options().as_ref().clone(),
            move |conn: &mut PgConnection| {
                Box::pin(async move {
                    for statements in [CHOSEN, SESSION].iter().chain(session) {
                        conn.execute(*statements).await?;
                    }
                    Ok(())
                })
            },
        )
    }

    fn lives_in_pool(_: &PgPool) -> bool {
        false
    }

    fn place(pool: &PgPool) -> String {
        let options = pool.connect_options();
        let host = options.get_socket().map_or_else(
            || options.get_host().to_owned(),
            |socket| socket.display().to_string(),
        );
        let options_text = match options.get_options() {
            Some(text) if !text.is_empty() => format!("?{text}"),
            _ => String::new(),
        };
        format!(
            "{host}:{}/{}{options_text}",
            options.get_port(),
            options.get_database().unwrap_or(options.get_username()),
        )
    }

    async fn server(conn: &mut PgConnection) -> DbResult<Server> {
        let schema = current_schema(conn).await?;
        Ok(Server {
            schema: format!("{}.", Self::DIALECT.quoted(&schema)),
            tells_transactions: false,
            shows_early: false,
            returns: true,
            packet: None,
        })
    }

    async fn session(conn: &mut PgConnection) -> DbResult<i64> {
        let row = conn.fetch_one("SELECT pg_backend_pid()::bigint").await?;
        row.try_get(0)
    }

    run_and_rows!(super::NoPatience);

    /// The limit is one of the transaction, so a pooler gives it to no other session.
    async fn read_within(
        pool: PgPool,
        limit: Duration,
        sql: SqlStr,
        values: Vec<Value<'static>>,
        columns: &'static [Column],
    ) -> DbResult<Vec<Row>> {
        let limit = limit.as_millis();
        let begin = format!("BEGIN READ ONLY; SET LOCAL statement_timeout = {limit}");
        owned(async move {
            let mut tx = pool.begin_with(sqlx::AssertSqlSafe(begin)).await?;
            let rows = Self::read_sql(&mut tx, &sql, &values, columns).await?;
            tx.commit().await?;
            Ok(rows)
        })
        .await
    }

    fn is_cut_off(error: &sqlx::Error) -> bool {
        has_code(error, "57014")
    }

    async fn columns(conn: &mut PgConnection, table: &str) -> DbResult<Vec<String>> {
        sqlx::query_scalar(
            "SELECT attname::text FROM pg_catalog.pg_attribute \
             WHERE attrelid = to_regclass(quote_ident(current_schema()) || '.' || quote_ident($1)) \
               AND attnum > 0 AND NOT attisdropped",
        )
        .bind(table)
        .fetch_all(conn)
        .await
    }

    /// By a transaction, in which the migration runs as well: after a crash nothing of it is there.
    async fn lock_migrations(pool: &PgPool) -> DbResult<MigrationLock<Self>> {
        let mut tx = Self::begin(pool).await?;
        let schema = current_schema(&mut tx).await?;
        let wait = format!("SET LOCAL lock_timeout = '{LOCK_SECONDS}s'");
        tx.execute(sqlx::AssertSqlSafe(wait)).await?;
        sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))")
            .bind(format!("{MIGRATIONS} {schema}"))
            .execute(&mut *tx)
            .await?;
        Ok(MigrationLock::Transaction(tx))
    }

    async fn listen(
        pool: &PgPool,
        channel: &str,
        heard: impl Fn(&str) + Send + Sync,
    ) -> DbResult<()> {
        let mut listener = PgListener::connect_with(pool).await?;
        // Otherwise it connects again by itself, and what was missed meanwhile is not known.
        listener.eager_reconnect(false);
        listener.listen(channel).await?;
        heard("");
        while let Some(notice) = listener.try_recv().await? {
            heard(notice.payload());
        }
        let lost = "the connection that listens was lost";
        Err(std::io::Error::new(std::io::ErrorKind::ConnectionReset, lost).into())
    }

    /// The INSERT tells.
    async fn lone(caller: &PgPool, _: &Server) -> DbResult<Lone<Self>> {
        caller.acquire().await.map(Lone::Connection)
    }

    /// COMMIT is a rollback once a statement has failed, and sqlx calls that a success. Every other
    /// statement fails.
    async fn is_open(conn: &mut PgConnection, _: &Server, _flushed: bool) -> DbResult<bool> {
        conn.execute("SELECT 1").await.map(|_| true)
    }

    /// 42P01: the table; 3F000: its schema.
    fn is_missing_table(error: &sqlx::Error, name: &str) -> bool {
        has_code(error, "3F000") || has_code(error, "42P01") && super::says(error, name)
    }

    fn is_surely_rolled_back(error: &sqlx::Error) -> bool {
        code(error).is_some_and(|code| {
            code != "40003" && ROLLED_BACK.iter().any(|class| code.starts_with(class))
        })
    }

    /// The outbox's statements lock rows in one order, so there are no deadlocks to be made good.
    fn is_deadlock(_: &sqlx::Error) -> bool {
        false
    }

    fn is_lock_timeout(error: &sqlx::Error) -> bool {
        has_code(error, "55P03")
    }

    /// 25006: a standby, or a server whose transactions are read-only; 26000: a pooler has given the connection
    /// another session, in which our statements are not prepared.
    fn must_reconnect(error: &sqlx::Error) -> bool {
        ["25006", "26000"].iter().any(|code| has_code(error, code))
    }

    /// An earlier statement has failed, so that the transaction can only be rolled back.
    fn is_not_alone(error: &sqlx::Error) -> bool {
        has_code(error, "25P02")
    }
}

fn code(error: &sqlx::Error) -> Option<String> {
    Some(error.as_database_error()?.code()?.into_owned())
}

fn has_code(error: &sqlx::Error, wanted: &str) -> bool {
    code(error).is_some_and(|code| code == wanted)
}

async fn current_schema(conn: &mut PgConnection) -> DbResult<String> {
    let schema: Option<String> = sqlx::query_scalar("SELECT current_schema()::text")
        .fetch_one(conn)
        .await?;
    schema.ok_or_else(|| {
        sqlx::Error::Configuration(
            "no schema is selected for the outbox: the search_path of the connection options names \
             none that exists; create it, or set `search_path`"
                .into(),
        )
    })
}

fn bound<'q>(sql: SqlStr, values: &'q [Value<'_>]) -> Query<'q, Postgres, PgArguments> {
    values
        .iter()
        .fold(sqlx::query(sql), |query, value| match value {
            Value::Int(value) => query.bind(value),
            Value::Bool(value) => query.bind(value),
            Value::Text(value) => query.bind(value.as_deref()),
            Value::Bytes(value) => query.bind(value.as_deref()),
            Value::Id(value) => query.bind(value),
            Value::Ints(all) => query.bind(all),
            Value::Bools(all) => query.bind(all),
            Value::Texts(all) => query.bind(all.iter().map(Option::as_deref).collect::<Vec<_>>()),
            Value::ByteStrings(all) => {
                query.bind(all.iter().map(Option::as_deref).collect::<Vec<_>>())
            }
            Value::Ids(all) => query.bind(all),
        })
}
