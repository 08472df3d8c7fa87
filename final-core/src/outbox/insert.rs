//! INSERTs of records, on a connection of the caller's.
//!
//! Input: records, and a connection inside a transaction or without one. Output: rows of the outbox; or no row,
//! if the INSERT should be its own commit and would not be.
//!
//! A plain record, as `publish(topic, &value)` makes it, needs only some of the columns. If all records of an
//! INSERT are plain, a shorter statement with fewer parameters is used.

use super::{record::NewRecord, statements::Statements};
use crate::database::{
    DbResult, Driver, Server, Value,
    insert::{Insert, all_written},
    limits::by_size,
};

/// Inserts records. With `in_transaction` a connection without a transaction is refused, if the server can
/// tell.
pub(super) async fn insert<DB: Driver>(
    conn: &mut DB::Connection,
    statements: &Statements,
    records: &[NewRecord<'_>],
    in_transaction: bool,
) -> DbResult<()> {
    let inserts = &statements.inserts;
    let (plain, any) = match &inserts.guarded {
        Some((plain, any)) if in_transaction => (plain, any),
        _ => (&inserts.plain, &inserts.any),
    };
    let are_plain = records.iter().all(NewRecord::is_plain);
    let insert = if are_plain { plain } else { any };
    for records in by_size(records, |record| record.message.weight()) {
        let mut values: Vec<Value<'_>> = Vec::new();
        for record in records {
            record.add_to(&mut values, are_plain);
        }
        let values = Insert::prepared::<DB>(values);
        insert.execute::<DB>(conn, &values).await?;
    }
    Ok(())
}

/// Inserts one record by a statement that is its own commit, see `Outbox::insert_alone`.
pub(super) async fn insert_alone<DB: Driver>(
    conn: &mut DB::Connection,
    statements: &Statements,
    record: &NewRecord<'_>,
) -> DbResult<bool> {
    let inserts = &statements.inserts;
    let insert = match record.is_plain() {
        true => &inserts.lone_plain,
        false => &inserts.lone_any,
    };
    let mut values = Vec::new();
    record.add_to(&mut values, record.is_plain());
    let values = Insert::prepared::<DB>(values);
    match insert.execute_one::<DB>(conn, &values).await {
        Ok(written) => wrote_alone(&statements.server, written),
        Err(error) if DB::is_not_alone(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether a row that should be its own commit was written. PostgreSQL's INSERT writes no row if it would not
/// be its own commit. MariaDB's INSERT fails in that case. If it writes no row, a trigger has kept the row out,
/// and that is an error.
fn wrote_alone(server: &Server, written: u64) -> DbResult<bool> {
    if server.tells_transactions {
        return all_written(written, 1).map(|()| true);
    }
    Ok(written == 1)
}
