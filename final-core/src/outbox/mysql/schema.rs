//! The table, and how it comes to be.
//!
//! DDL commits by itself here, so every step finds out for itself whether it is done already, and the
//! version is written last.

use sqlx::{AssertSqlSafe, Connection, Executor, MySql, MySqlConnection, MySqlPool};

use super::{Statements, pool::current_database, predecessor};
use crate::{
    Error,
    database::DbResult,
    names::ServiceName,
    outbox::{
        StartupLock,
        schema::{self, Found, LOCK_SECONDS, MIGRATIONS, Plan, VERSION},
    },
};

/// All statements of all versions, in order; each may find its work done.
///
/// There are no partial indexes here, so there are only two, and each begins with the status.
pub(super) fn statements(service: &ServiceName) -> Vec<String> {
    let table = service.table();
    vec![
        format!(
            "CREATE TABLE IF NOT EXISTS {MIGRATIONS} (\n  \
               table_name VARCHAR(64) NOT NULL PRIMARY KEY,\n  \
               service VARCHAR(64) NOT NULL,\n  \
               version INT NOT NULL,\n  \
               applied_at DATETIME(6) NOT NULL\n\
             ) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
        ),
        format!(
            "CREATE TABLE IF NOT EXISTS {table} (\n  \
               message_id BINARY(16) NOT NULL PRIMARY KEY,\n  \
               topic VARCHAR(255) NOT NULL,\n  \
               message_key MEDIUMTEXT NULL,\n  \
               headers MEDIUMTEXT NULL,\n  \
               payload LONGBLOB NOT NULL,\n  \
               content_type VARCHAR(255) NOT NULL,\n  \
               durable BOOLEAN NOT NULL,\n  \
               expires_at DATETIME(6) NULL,\n  \
               status SMALLINT NOT NULL,\n  \
               attempts INT NOT NULL DEFAULT 0,\n  \
               faults INT NOT NULL DEFAULT 0,\n  \
               last_error TEXT NULL,\n  \
               due_at DATETIME(6) NOT NULL,\n  \
               available_at DATETIME(6) NOT NULL,\n  \
               claimed_by BINARY(16) NULL,\n  \
               created_at DATETIME(6) NOT NULL,\n  \
               sent_at DATETIME(6) NULL,\n  \
               acked_at DATETIME(6) NULL,\n  \
               CONSTRAINT {status} CHECK (status BETWEEN 0 AND 3),\n  \
               KEY {due} (status, available_at, message_id),\n  \
               KEY {parked} (status, topic, message_id)\n\
             ) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
            status = service.short("status"),
            due = service.short("due"),
            parked = service.short("parked"),
        ),
        format!(
            "CREATE TABLE IF NOT EXISTS {} (\n  \
               number BIGINT NOT NULL PRIMARY KEY,\n  \
               owner BINARY(16) NOT NULL,\n  \
               live_until DATETIME(6) NOT NULL,\n  \
               first_at DATETIME(6) NOT NULL,\n  \
               first_id BINARY(16) NOT NULL,\n  \
               last_at DATETIME(6) NOT NULL,\n  \
               last_id BINARY(16) NOT NULL,\n  \
               KEY {} (live_until)\n\
             ) ENGINE = InnoDB",
            service.claims_table(),
            service.short("live"),
        ),
        written_down(&table, service),
    ]
}

/// Writes down whose the table is and what version it has.
pub(super) fn written_down(table: &str, service: &ServiceName) -> String {
    let name = service.as_str();
    format!(
        "INSERT INTO {MIGRATIONS} (table_name, service, version, applied_at) \
         VALUES ('{table}', '{name}', {VERSION}, UTC_TIMESTAMP(6)) \
         ON DUPLICATE KEY UPDATE version = GREATEST(version, {VERSION})"
    )
}

/// Under the lock, on a connection of its own that is closed afterwards: so the lock ends in any case.
pub(super) async fn migrate(relay: &MySqlPool, service: &ServiceName) -> Result<(), Error> {
    let mut conn = locked(relay).await.map_err(schema::failed)?;
    let result = migrate_locked(&mut conn, service).await;
    let closed = conn.close().await;
    result?;
    closed.map_err(schema::failed)
}

async fn migrate_locked(conn: &mut MySqlConnection, service: &ServiceName) -> Result<(), Error> {
    let found = look(conn, service).await.map_err(schema::failed)?;
    match found.plan(service)? {
        Plan::Keep => return Ok(()),
        Plan::Replace => predecessor::rename(conn, service).await?,
        Plan::Apply => {}
    }
    let mut statements = statements(service);
    let last = statements.pop();
    for statement in statements {
        conn.execute(AssertSqlSafe(statement))
            .await
            .map_err(schema::failed)?;
    }
    predecessor::import(conn, service)
        .await
        .map_err(schema::failed)?;
    if let Some(last) = last {
        conn.execute(AssertSqlSafe(last))
            .await
            .map_err(schema::failed)?;
    }
    Ok(())
}

async fn look(conn: &mut MySqlConnection, service: &ServiceName) -> DbResult<Found> {
    let claims = exists(conn, &service.claims_table()).await?;
    let columns = columns(conn, &service.table()).await?;
    let owner = if exists(conn, MIGRATIONS).await? {
        sqlx::query_as("SELECT service, version FROM final_migrations WHERE table_name = ?")
            .bind(service.table())
            .fetch_optional(&mut *conn)
            .await?
    } else {
        None
    };
    Ok(Found {
        owner,
        columns,
        claims,
    })
}

async fn exists(conn: &mut MySqlConnection, table: &str) -> DbResult<bool> {
    Ok(!columns(conn, table).await?.is_empty())
}

/// The columns of a table, none if it is not there.
pub(super) async fn columns(conn: &mut MySqlConnection, table: &str) -> DbResult<Vec<String>> {
    sqlx::query_scalar(
        "SELECT CONVERT(column_name USING utf8mb4) FROM information_schema.columns \
         WHERE table_schema = DATABASE() AND table_name = ?",
    )
    .bind(table)
    .fetch_all(conn)
    .await
}

/// Takes the lock of the database. Such locks belong to the whole server, so its name has the
/// database in it.
async fn locked(relay: &MySqlPool) -> DbResult<MySqlConnection> {
    let mut conn = relay.acquire().await?.detach();
    current_database(&mut conn).await?;
    let taken: Option<i64> =
        sqlx::query_scalar("SELECT GET_LOCK(CONCAT('final_migrations_', MD5(DATABASE())), ?)")
            .bind(LOCK_SECONDS)
            .fetch_one(&mut conn)
            .await?;
    if taken == Some(1) {
        return Ok(conn);
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

pub(super) async fn lock(relay: &MySqlPool) -> DbResult<StartupLock<MySql>> {
    Ok(StartupLock::Session(locked(relay).await?))
}

/// The statements for a connection that is inside the database already.
pub(super) async fn located(
    conn: &mut MySqlConnection,
    service: &ServiceName,
) -> DbResult<Statements> {
    let schema = current_database(conn).await?;
    Ok(Statements::new(&schema, service, false))
}
