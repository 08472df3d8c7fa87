//! The Go predecessor's table of the same name: renamed, and what was pending in it taken over.

pub(crate) mod message;

use sqlx::{AssertSqlSafe, Connection, Executor, MySqlConnection};

use super::schema::{columns, located, written_down};
use crate::{
    Error, Message,
    database::{DbResult, refused::refuses_values},
    names::ServiceName,
    outbox::{
        NewRecord,
        schema::{self, MIGRATIONS, foreign},
    },
};

/// Rows read at a time.
const BATCH: u32 = 500;

/// Renames it, in one step that is either done or not.
pub(super) async fn rename(conn: &mut MySqlConnection, service: &ServiceName) -> Result<(), Error> {
    let (table, old) = (service.table(), schema::predecessor(service));
    if !columns(conn, &old)
        .await
        .map_err(schema::failed)?
        .is_empty()
    {
        let reason = format!(
            "it is the table of the Go predecessor, and {old}, which it would be renamed to, exists \
             already; rename or drop one of them and start again"
        );
        return Err(foreign(service, reason));
    }
    let rename = format!("RENAME TABLE {table} TO {old}");
    conn.execute(AssertSqlSafe(rename))
        .await
        .map_err(schema::failed)?;
    tracing::info!(
        table,
        renamed_to = old,
        "the Go predecessor's outbox was renamed"
    );
    Ok(())
}

/// Takes over its pending rows, once: that it was done is written down in the same transaction. So a
/// crash on the way is made good by the next start.
pub(super) async fn import(conn: &mut MySqlConnection, service: &ServiceName) -> DbResult<()> {
    let old = schema::predecessor(service);
    let there = columns(conn, &old).await?;
    if !there.iter().any(|column| column == "message") || done(conn, &old).await? {
        return Ok(());
    }
    let statements = located(conn, service).await?;
    let page = format!(
        "SELECT CAST(id AS SIGNED), message FROM {old} WHERE status = 0 AND id > ? ORDER BY id LIMIT {BATCH}"
    );
    let page: std::sync::Arc<str> = page.into();
    let (mut imported, mut unreadable, mut refused, mut last) = (0, 0, 0, i64::MIN);
    let mut tx = conn.begin().await?;
    loop {
        let rows: Vec<(i64, Option<Vec<u8>>)> = sqlx::query_as(AssertSqlSafe(page.clone()))
            .bind(last)
            .fetch_all(&mut *tx)
            .await?;
        let Some((id, _)) = rows.last() else { break };
        last = *id;
        let messages = readable(&rows);
        unreadable += rows.len() - messages.len();
        for message in &messages {
            match insert(&mut tx, &statements, message).await {
                Err(error) if refuses_values(&error) => {
                    let id = message.id();
                    tracing::error!(
                        table = old, %id, %error,
                        "the outbox does not take a pending row of the Go predecessor"
                    );
                    refused += 1;
                }
                done => imported += done?,
            }
        }
    }
    tx.execute(AssertSqlSafe(written_down(&old, service)))
        .await?;
    tx.commit().await?;
    if unreadable + refused > 0 {
        tracing::warn!(
            table = old,
            imported,
            unreadable,
            refused,
            "some pending rows of the Go predecessor could not be taken over and stay where they are"
        );
    } else {
        tracing::info!(
            table = old,
            imported,
            "the Go predecessor's pending rows were taken over"
        );
    }
    Ok(())
}

fn readable(rows: &[(i64, Option<Vec<u8>>)]) -> Vec<Message> {
    rows.iter()
        .filter_map(|(_, bytes)| message::decode(bytes.as_deref()?))
        .collect()
}

/// A message that is there already, because its id stands in two rows, counts as taken over.
async fn insert(
    conn: &mut MySqlConnection,
    statements: &super::Statements,
    message: &Message,
) -> DbResult<usize> {
    let record = NewRecord {
        message,
        ttl: None,
        delay: std::time::Duration::ZERO,
        lease: None,
        parked: false,
    };
    match super::insert::insert(conn, statements, &[record], true).await {
        Err(sqlx::Error::Database(error)) if error.is_unique_violation() => Ok(0),
        other => other.map(|()| 1),
    }
}

async fn done(conn: &mut MySqlConnection, old: &str) -> DbResult<bool> {
    let question = format!("SELECT EXISTS (SELECT 1 FROM {MIGRATIONS} WHERE table_name = '{old}')");
    sqlx::query_scalar(AssertSqlSafe(question))
        .fetch_one(conn)
        .await
}
