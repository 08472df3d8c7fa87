//! A row of the table, read as a record.

use sqlx::{ColumnIndex, Database, Decode, Row, Type};
use uuid::Uuid;

use super::{Backlog, Claimed, FailedRecord, Position, Record, claims::Due};
use crate::database::{
    DbResult,
    limits::{count, duration},
    stored::Stored,
};
use crate::{Message, MessageId};

/// What a database can read out of a column.
pub(super) trait Column<'r, DB: Database>: Decode<'r, DB> + Type<DB> {}

impl<'r, DB: Database, T: Decode<'r, DB> + Type<DB>> Column<'r, DB> for T {}

/// Reads `id, topic, key, headers, payload, content type, durable, attempts, faults`, microseconds
/// until it expires, and its position in microseconds.
///
/// Only the id and the numbers must be readable. A row that is no message becomes a record that says
/// why, so that it does not hold up the others.
pub(super) fn claimed<'r, R: Row>(row: &'r R) -> DbResult<Claimed>
where
    usize: ColumnIndex<R>,
    Uuid: Column<'r, R::Database>,
    String: Column<'r, R::Database>,
    Vec<u8>: Column<'r, R::Database>,
    bool: Column<'r, R::Database>,
    i32: Column<'r, R::Database>,
    i64: Column<'r, R::Database>,
{
    let id: Uuid = row.try_get(0)?;
    let attempts: i32 = row.try_get(7)?;
    let faults: i32 = row.try_get(8)?;
    let expires_in: Option<i64> = row.try_get(9)?;
    Ok(Claimed {
        record: Record {
            message: message(row, id),
            id: MessageId(id),
            attempts: u32::try_from(attempts).unwrap_or(0),
            faults: u32::try_from(faults).unwrap_or(0),
            expires_in: expires_in.map(duration),
        },
        position: Position {
            available_at: row.try_get(10)?,
            id,
        },
    })
}

/// Reads a position in microseconds, its id, and the payload's bytes.
pub(super) fn due<'r, R: Row>(row: &'r R) -> DbResult<Due>
where
    usize: ColumnIndex<R>,
    Uuid: Column<'r, R::Database>,
    i64: Column<'r, R::Database>,
{
    Ok(Due {
        position: Position {
            available_at: row.try_get(0)?,
            id: row.try_get(1)?,
        },
        bytes: row.try_get(2)?,
    })
}

fn message<'r, R: Row>(row: &'r R, id: Uuid) -> Result<Message, String>
where
    usize: ColumnIndex<R>,
    String: Column<'r, R::Database>,
    Vec<u8>: Column<'r, R::Database>,
    bool: Column<'r, R::Database>,
{
    let unreadable = |error: sqlx::Error| format!("the row cannot be read: {error}");
    let stored = Stored {
        topic: row.try_get(1).map_err(unreadable)?,
        key: row.try_get(2).map_err(unreadable)?,
        headers: row.try_get(3).map_err(unreadable)?,
        payload: row.try_get(4).map_err(unreadable)?,
        content_type: row.try_get(5).map_err(unreadable)?,
        durable: row.try_get(6).map_err(unreadable)?,
    };
    stored.into_message(MessageId(id))
}

/// Reads `id, topic, attempts, last error`, and its age in microseconds.
pub(super) fn failed<'r, R: Row>(row: &'r R) -> DbResult<FailedRecord>
where
    usize: ColumnIndex<R>,
    Uuid: Column<'r, R::Database>,
    String: Column<'r, R::Database>,
    i32: Column<'r, R::Database>,
    i64: Column<'r, R::Database>,
{
    let attempts: i32 = row.try_get(2)?;
    let error: Option<String> = row.try_get(3)?;
    Ok(FailedRecord {
        id: MessageId(row.try_get(0)?),
        topic: row.try_get(1)?,
        attempts: u32::try_from(attempts).unwrap_or(0),
        error: error.unwrap_or_default(),
        age: duration(row.try_get(4)?),
    })
}

/// Reads how many are pending, unroutable and failed, and the age of the oldest in microseconds.
pub(super) fn backlog<'r, R: Row>(row: &'r R) -> DbResult<Backlog>
where
    usize: ColumnIndex<R>,
    i64: Column<'r, R::Database>,
{
    let oldest: Option<i64> = row.try_get(3)?;
    Ok(Backlog {
        pending: count(row.try_get(0)?),
        unroutable: count(row.try_get(1)?),
        failed: count(row.try_get(2)?),
        oldest: oldest.map(duration),
    })
}
