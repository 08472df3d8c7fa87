//! The table, and how it comes to be.

use sqlx::{AssertSqlSafe, Executor, PgConnection, PgPool, Postgres, Transaction};

use super::pool::{begin, current_schema};
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
/// The indexes are partial, so that what is set aside or kept costs the others nothing. Hardly a record
/// is ever updated, and no update can stay on its page as a heap-only tuple, because each changes an
/// indexed column; so pages are filled to the brim. Vacuum comes by rows and not by a share of the table: a share of an empty
/// table is nothing and a share of a million rows is too late.
pub(super) fn statements(service: &ServiceName) -> Vec<String> {
    let (table, claims) = (service.table(), service.claims_table());
    let name = service.as_str();
    vec![
        format!(
            "CREATE TABLE IF NOT EXISTS {MIGRATIONS} (\n  \
               table_name text PRIMARY KEY,\n  \
               service text NOT NULL,\n  \
               version integer NOT NULL,\n  \
               applied_at timestamptz NOT NULL DEFAULT clock_timestamp()\n)"
        ),
        format!(
            "CREATE TABLE IF NOT EXISTS {table} (\n  \
               message_id uuid PRIMARY KEY,\n  \
               topic text NOT NULL,\n  \
               message_key text,\n  \
               headers text,\n  \
               payload bytea NOT NULL,\n  \
               content_type text NOT NULL,\n  \
               durable boolean NOT NULL,\n  \
               expires_at timestamptz,\n  \
               status smallint NOT NULL CONSTRAINT {status} CHECK (status BETWEEN 0 AND 3),\n  \
               attempts integer NOT NULL DEFAULT 0,\n  \
               faults integer NOT NULL DEFAULT 0,\n  \
               last_error text,\n  \
               due_at timestamptz NOT NULL,\n  \
               available_at timestamptz NOT NULL,\n  \
               claimed_by uuid,\n  \
               created_at timestamptz NOT NULL,\n  \
               sent_at timestamptz,\n  \
               acked_at timestamptz\n\
             ) WITH (\n  \
               autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,\n  \
               autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 10000,\n  \
               autovacuum_vacuum_cost_delay = 0\n)",
            status = service.short("status"),
        ),
        format!(
            "CREATE INDEX IF NOT EXISTS {} ON {table} (available_at, message_id) WHERE status = 0",
            service.short("due")
        ),
        format!(
            "CREATE INDEX IF NOT EXISTS {} ON {table} (topic, message_id) WHERE status = 1",
            service.short("parked")
        ),
        format!(
            "CREATE INDEX IF NOT EXISTS {} ON {table} (acked_at) WHERE status = 2",
            service.short("acked")
        ),
        format!(
            "CREATE INDEX IF NOT EXISTS {} ON {table} (message_id) WHERE status = 3",
            service.short("failed")
        ),
        format!(
            "CREATE TABLE IF NOT EXISTS {claims} (\n  \
               number bigint PRIMARY KEY,\n  \
               owner uuid NOT NULL,\n  \
               live_until timestamptz NOT NULL,\n  \
               first_at timestamptz NOT NULL,\n  \
               first_id uuid NOT NULL,\n  \
               last_at timestamptz NOT NULL,\n  \
               last_id uuid NOT NULL\n\
             ) WITH (\n  \
               autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,\n  \
               autovacuum_vacuum_cost_delay = 0\n)"
        ),
        format!(
            "CREATE INDEX IF NOT EXISTS {} ON {claims} (live_until)",
            service.short("live")
        ),
        format!(
            "INSERT INTO {MIGRATIONS} (table_name, service, version) VALUES ('{table}', '{name}', {VERSION}) \
             ON CONFLICT (table_name) DO UPDATE SET version = \
             GREATEST({MIGRATIONS}.version, EXCLUDED.version)"
        ),
    ]
}

/// All in one transaction: after a crash nothing of it is there.
pub(super) async fn migrate(relay: &PgPool, service: &ServiceName) -> Result<(), Error> {
    let mut tx = locked(relay).await.map_err(schema::failed)?;
    let found = look(&mut tx, service).await.map_err(schema::failed)?;
    match found.plan(service)? {
        Plan::Keep => return tx.rollback().await.map_err(schema::failed),
        Plan::Replace => return Err(schema::predecessor_in_the_way(service)),
        Plan::Apply => {}
    }
    for statement in statements(service) {
        tx.execute(AssertSqlSafe(statement))
            .await
            .map_err(schema::failed)?;
    }
    tx.commit().await.map_err(schema::failed)
}

async fn look(conn: &mut PgConnection, service: &ServiceName) -> DbResult<Found> {
    let columns: Vec<String> = sqlx::query_scalar(
        "SELECT column_name::text FROM information_schema.columns \
         WHERE table_schema = current_schema() AND table_name = $1",
    )
    .bind(service.table())
    .fetch_all(&mut *conn)
    .await?;
    let written = exists(conn, MIGRATIONS).await?;
    let claims = exists(conn, &service.claims_table()).await?;
    let owner = if written {
        sqlx::query_as("SELECT service, version FROM final_migrations WHERE table_name = $1")
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

async fn exists(conn: &mut PgConnection, table: &str) -> DbResult<bool> {
    sqlx::query_scalar(
        "SELECT to_regclass(quote_ident(current_schema()) || '.' || quote_ident($1)) IS NOT NULL",
    )
    .bind(table)
    .fetch_one(conn)
    .await
}

/// Begins a transaction that holds the lock of the schema. One lock for all services in it: the
/// table of versions is theirs together, and two CREATE TABLE IF NOT EXISTS at once can collide.
async fn locked(relay: &PgPool) -> DbResult<Transaction<'static, Postgres>> {
    let mut tx = begin(relay).await?;
    let schema = current_schema(&mut tx).await?;
    let wait = format!("SET LOCAL lock_timeout = '{LOCK_SECONDS}s'");
    tx.execute(AssertSqlSafe(wait)).await?;
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))")
        .bind(format!("{MIGRATIONS} {schema}"))
        .execute(&mut *tx)
        .await?;
    Ok(tx)
}

pub(super) async fn lock(relay: &PgPool) -> DbResult<StartupLock<Postgres>> {
    Ok(StartupLock::Transaction(locked(relay).await?))
}
