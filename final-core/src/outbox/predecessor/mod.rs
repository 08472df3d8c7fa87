//! The Go predecessor's table of the same name: renamed, and its pending rows taken over. On MySQL only.
//!
//! Input: a table with the columns of the predecessor. State: the renamed table, `final_<service>_outbox_go`,
//! and a row of `final_migrations` that says that its rows were taken over. Output: records. Rows that cannot
//! be read, or that the outbox refuses, stay in the renamed table, and a warning counts them.

pub(crate) mod message;

use sqlx::Connection;

use super::{
    insert::insert,
    record::{NewRecord, RecordId},
    schema::{self, Migration, foreign, sql},
    statements::Statements,
};
use crate::{
    Error, Message,
    database::{DbResult, Driver, MIGRATIONS, read, refused::refuses_values},
};

/// Rows read at a time.
const BATCH: u32 = 500;

/// Renames the table, in one statement that takes effect wholly or not at all.
pub(super) async fn rename<DB: Driver>(migration: &mut Migration<'_, DB>) -> Result<(), Error> {
    let service = migration.service;
    let (table, old) = (service.table(), schema::predecessor(service));
    let taken = migration.columns(&old).await.map_err(schema::failed)?;
    if !taken.is_empty() {
        let reason = format!(
            "it is the table of the Go predecessor, and {old}, which it would be renamed to, exists \
             already; rename or drop one of them and start again"
        );
        return Err(foreign(service, reason));
    }
    let rename = migration.run(format!("RENAME TABLE {table} TO {old}"));
    rename.await.map_err(schema::failed)?;
    tracing::info!(
        target: "final::outbox", table, renamed_to = old,
        "the Go predecessor's outbox was renamed"
    );
    Ok(())
}

/// Takes over the pending rows, once. The same transaction writes down that it was done. So after a crash on
/// the way the next start does it.
pub(super) async fn import<DB: Driver>(migration: &mut Migration<'_, DB>) -> DbResult<()> {
    let service = migration.service;
    let old = schema::predecessor(service);
    let there = migration.columns(&old).await?;
    let conn = migration.conn();
    if !there.iter().any(|column| column == "message") || done::<DB>(conn, &old).await? {
        return Ok(());
    }
    let mut server = DB::server(conn).await?;
    // The import is in a transaction of its own, so nothing is to be guarded.
    server.tells_transactions = false;
    let Some(statements) = Statements::new(DB::DIALECT, server, service) else {
        return Ok(());
    };
    let page = sql(format!(
        "SELECT CAST(id AS SIGNED), message FROM {old} WHERE status = 0 AND id > ? ORDER BY id LIMIT {BATCH}"
    ));
    let (mut imported, mut unreadable, mut refused, mut last) = (0, 0, 0, i64::MIN);
    let mut tx = conn.begin().await?;
    loop {
        let rows: Vec<(i64, Option<Vec<u8>>)> =
            read::<DB, _>(&mut tx, &page, &[last.into()]).await?;
        let Some((id, _)) = rows.last() else { break };
        last = *id;
        let messages = readable(&rows);
        unreadable += rows.len() - messages.len();
        for message in &messages {
            match take_over::<DB>(&mut tx, &statements, message).await {
                Err(error) if refuses_values(&error) => {
                    let id = message.id();
                    tracing::error!(
                        target: "final::outbox", table = old, %id, %error,
                        "the outbox does not take a pending row of the Go predecessor"
                    );
                    refused += 1;
                }
                done => imported += done?,
            }
        }
    }
    let written_down = sql(schema::written_down(&old, service));
    DB::run_sql(&mut tx, &written_down, &[]).await?;
    tx.commit().await?;
    if unreadable + refused > 0 {
        tracing::warn!(
            target: "final::outbox",
            table = old,
            imported,
            unreadable,
            refused,
            "some pending rows of the Go predecessor could not be taken over and stay where they are"
        );
    } else {
        tracing::info!(
            target: "final::outbox",
            table = old,
            imported,
            "the Go predecessor's pending rows were taken over"
        );
    }
    Ok(())
}

/// The messages of those rows that can be decoded.
fn readable(rows: &[(i64, Option<Vec<u8>>)]) -> Vec<Message> {
    rows.iter()
        .filter_map(|(_, bytes)| message::decode(bytes.as_deref()?))
        .collect()
}

/// Inserts a message. A message that is there already, because its id stands in two rows, counts as taken
/// over: the predecessor gave each message an id of its own, so the two rows are one message.
async fn take_over<DB: Driver>(
    conn: &mut DB::Connection,
    statements: &Statements,
    message: &Message,
) -> DbResult<usize> {
    let record = NewRecord {
        id: RecordId::of(message.id()),
        message,
        ttl: None,
        delay: std::time::Duration::ZERO,
        lease: None,
        parked: false,
    };
    match insert::<DB>(conn, statements, &[record], false).await {
        Err(sqlx::Error::Database(error)) if error.is_unique_violation() => Ok(0),
        other => other.map(|()| 1),
    }
}

/// Whether the rows of this table were taken over before.
async fn done<DB: Driver>(conn: &mut DB::Connection, old: &str) -> DbResult<bool> {
    let done = format!("SELECT COUNT(*) FROM {MIGRATIONS} WHERE table_name = '{old}'");
    let done: Vec<i64> = read::<DB, _>(conn, &sql(done), &[]).await?;
    Ok(done.into_iter().next().is_some_and(|count| count > 0))
}
