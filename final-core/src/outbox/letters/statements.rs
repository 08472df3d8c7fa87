//! The SQL of the table of collected letters.
//!
//! Input: the server and the service; then connections. Output: rows that are inserted, read, locked, replayed or
//! removed. Each method is one or two statements, and the caller owns the transaction.

use sqlx::SqlStr;
use uuid::Uuid;

use super::{CollectedRow, NewLetter};
use crate::{
    broker::{DeadLetterFilter, REPLAYED, TO_QUEUE},
    database::{
        DbResult, Dialect, Driver, Server, Templates, Value,
        fitting::{Fitting, SIZED},
        insert::{Insert, all_changed, all_written},
        lists::{list, padded},
        read,
        removal::removal,
    },
    message::MSGPACK,
    names::ServiceName,
    outbox::record::Status,
};

/// The columns of an INSERT, and how many there are.
const COLUMNS: (&str, usize) = (
    "letter_key, message_id, topic, message_key, headers, payload, content_type, content_encoding, \
     durable, reason, attempts, died_at, queue, problem, envelope, record_id",
    16,
);

/// The SQL of the table.
#[derive(Debug)]
pub(crate) struct LetterStatements {
    templates: Templates,
    insert: Insert,
}

impl LetterStatements {
    /// The statements for a service's table on a server.
    pub(crate) fn new(dialect: Dialect, server: &Server, service: &ServiceName) -> Self {
        let table = |name: &str| format!("{}{}", server.schema, dialect.quoted(name));
        let (before, after) = REPLAYED;
        let (clock, headers, owner, durable) = match dialect {
            Dialect::Postgres => (
                "statement_timestamp()",
                format!("'{before}' || envelope || '{after}'"),
                "NULL",
                "TRUE",
            ),
            Dialect::MySql => (
                "UTC_TIMESTAMP(6)",
                format!("CONCAT('{before}', envelope, '{after}')"),
                "x'00000000000000000000000000000000'",
                "TRUE",
            ),
            Dialect::Sqlite => (
                "CAST(unixepoch('subsec') * 1000 AS INTEGER)",
                format!("'{before}' || envelope || '{after}'"),
                "NULL",
                "1",
            ),
        };
        let templates = Templates::new(
            dialect,
            [
                ("letters", table(&service.letters_table())),
                ("outbox", table(&service.table())),
                ("clock", clock.to_owned()),
                ("replayed", headers),
                ("nobody", owner.to_owned()),
                ("true", durable.to_owned()),
            ],
        );
        let insert = format!(
            "INSERT INTO {{letters}} ({}) VALUES \
             (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, COALESCE(?, {{now}}), ?, ?, ?, ?)",
            COLUMNS.0
        );
        let insert = templates.sql(&insert).as_str().to_owned();
        Self {
            insert: Insert::of_one(COLUMNS.1, insert).within(server),
            templates,
        }
    }

    /// Inserts a letter, on a connection of ours and inside a transaction.
    ///
    /// # Errors
    ///
    /// Fails if the database does. A letter that is there already is a unique violation.
    pub(crate) async fn insert<DB: Driver>(
        &self,
        conn: &mut DB::Connection,
        letter: &NewLetter<'_>,
    ) -> DbResult<()> {
        let values: [_; COLUMNS.1] = [
            letter.key.into(),
            letter.id.into(),
            letter.topic.into(),
            letter.message_key.into(),
            letter.headers.into(),
            letter.payload.into(),
            letter.content_type.into(),
            letter.content_encoding.into(),
            i64::from(letter.durable).into(),
            letter.reason.into(),
            letter.attempts.into(),
            letter.died_at.into(),
            letter.queue.into(),
            letter.problem.into(),
            letter.envelope.into(),
            letter.record_id.into(),
        ];
        let written = self.insert.execute_one::<DB>(conn, &values).await?;
        all_written(written, 1)
    }

    /// Which of these keys are there already, each with the id of the record that a replay of its letter writes.
    pub(crate) async fn known<DB: Driver>(
        &self,
        conn: &mut DB::Connection,
        keys: &[Uuid],
    ) -> DbResult<Vec<(Uuid, Uuid)>> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let keys = padded(keys);
        let known = format!(
            "SELECT letter_key, record_id FROM {{letters}} WHERE letter_key IN ({})",
            list(keys.len())
        );
        let keys: Vec<_> = keys.into_iter().map(Value::from).collect();
        read::<DB, _>(conn, &self.templates.sql(&known), &keys).await
    }

    /// The letters that a filter means, oldest first, with their payloads: as many as [fit](Fitting).
    pub(crate) async fn list<DB: Driver>(
        &self,
        conn: &mut DB::Connection,
        filter: &DeadLetterFilter,
        most: u64,
    ) -> DbResult<Vec<CollectedRow>> {
        let mut behind = i64::MIN;
        loop {
            let mut fitting = Fitting::of(most, behind);
            while let Some((after, some)) = fitting.next() {
                let (sql, values) = self.page(SIZED, filter, (after, i64::MAX), some, "");
                fitting.take(read::<DB, _>(conn, &sql, &values).await?);
            }
            let seqs = fitting.seqs();
            let rows = self.rows::<DB>(conn, &seqs).await?;
            match seqs.last() {
                // Another session has taken all of them since, and an empty list would be the end.
                Some(last) if rows.is_empty() => behind = *last,
                _ => return Ok(rows),
            }
        }
    }

    /// The letters of these numbers that are still there.
    async fn rows<DB: Driver>(
        &self,
        conn: &mut DB::Connection,
        seqs: &[i64],
    ) -> DbResult<Vec<CollectedRow>> {
        if seqs.is_empty() {
            return Ok(Vec::new());
        }
        let (some, values) = numbered(seqs);
        let letters = format!(
            "SELECT seq, message_id, topic, message_key, headers, payload, content_type, content_encoding, \
                 durable AS is_durable, reason, attempts, {{now}} - died_at AS age, problem \
             FROM {{letters}} WHERE {some} ORDER BY seq"
        );
        read::<DB, _>(conn, &self.templates.sql(&letters), &values).await
    }

    /// Counts the letters.
    pub(crate) fn count(&self) -> SqlStr {
        self.templates
            .sql("SELECT COUNT(*) AS letters FROM {letters}")
    }

    /// Locks the letters after a sequence number, and up to another one, that a filter means. What another session
    /// has locked is left out. Inside a transaction.
    pub(crate) async fn lock<DB: Driver>(
        &self,
        conn: &mut DB::Connection,
        filter: &DeadLetterFilter,
        between: (i64, i64),
        most: u64,
    ) -> DbResult<Vec<i64>> {
        let (sql, values) = self.page("seq", filter, between, most, "{skip_locked}");
        read::<DB, _>(conn, &sql, &values).await
    }

    /// The highest sequence number; zero if there is no letter. What is collected later has a higher one, except
    /// what is collected by another instance in this moment.
    pub(crate) async fn last<DB: Driver>(&self, conn: &mut DB::Connection) -> DbResult<i64> {
        let last = self
            .templates
            .sql("SELECT CAST(COALESCE(MAX(seq), 0) AS {int}) FROM {letters}");
        let last: Vec<i64> = read::<DB, _>(conn, &last, &[]).await?;
        Ok(last.into_iter().next().unwrap_or(0))
    }

    /// Writes a record for each of these letters, which brings its message back to this service alone with the same
    /// id, and removes the letters. Inside a transaction that has them locked.
    ///
    /// # Errors
    ///
    /// Fails if the database does, or if one of the letters is not there.
    pub(crate) async fn replay<DB: Driver>(
        &self,
        conn: &mut DB::Connection,
        seqs: &[i64],
    ) -> DbResult<()> {
        let (some, values) = numbered(seqs);
        let pending = Status::Pending as i16;
        let copy = format!(
            "{{limited}} INSERT INTO {{outbox}} (message_id, topic, headers, payload, content_type, durable, status, \
                 due_at, available_at, claimed_by, created_at) \
             SELECT record_id, '{TO_QUEUE}', {{replayed}}, payload, '{MSGPACK}', {{true}}, {pending}, \
                 {{clock}}, {{clock}}, {{nobody}}, {{clock}} \
             FROM {{letters}} WHERE {some}"
        );
        let copied = DB::run_sql(conn, &self.templates.sql(&copy), &values).await?;
        all_written(copied, seqs.len())?;
        self.discard::<DB>(conn, seqs).await
    }

    /// Removes these letters for good.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub(crate) async fn discard<DB: Driver>(
        &self,
        conn: &mut DB::Connection,
        seqs: &[i64],
    ) -> DbResult<()> {
        let (delete, values) = removal(DB::DIALECT, "{letters}", None, seqs);
        let delete = self.templates.sql(&delete);
        all_changed(DB::run_sql(conn, &delete, &values).await?, seqs.len())
    }

    /// Removes all letters.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub(crate) async fn purge<DB: Driver>(&self, conn: &mut DB::Connection) -> DbResult<()> {
        DB::run_sql(conn, &self.templates.sql("DELETE FROM {letters}"), &[]).await?;
        Ok(())
    }

    /// A SELECT of letters between two sequence numbers, the lower one excluded.
    fn page<'a>(
        &self,
        columns: &str,
        filter: &'a DeadLetterFilter,
        (after, up_to): (i64, i64),
        most: u64,
        behind: &str,
    ) -> (SqlStr, Vec<Value<'a>>) {
        // Letters that were collected come after all of the broker's own.
        let page = filter.after.filter(|after| after.is_collected);
        let after = page.map_or(after, |page| page.number.max(after));
        let (narrower, narrowing) = filter.conditions();
        let sql = format!(
            "SELECT {columns} FROM {{letters}} WHERE seq > ? AND seq <= ?{narrower} ORDER BY seq LIMIT ? {behind}"
        );
        let mut values = vec![after.into(), up_to.into()];
        values.extend(narrowing);
        values.push(i64::try_from(most).unwrap_or(i64::MAX).into());
        (self.templates.sql(&sql), values)
    }
}

/// The condition on sequence numbers, and its values.
fn numbered(seqs: &[i64]) -> (String, Vec<Value<'static>>) {
    let seqs = padded(seqs);
    let some = format!("seq IN ({})", list(seqs.len()));
    (some, seqs.into_iter().map(Value::from).collect())
}
