//! Moving from hookq, the queue in a MySQL table, to the log.
//!
//! Input: hookq's topic table, and the cursor of one of its clients. State: that cursor. Output: messages of the log
//! for the service that takes the client's place, and the cursor behind them.
//!
//! ```text
//!   cursor table (cid, sid) ──── locked, compared ────┐
//!   topic table (id, p, data, created_at) ─ id > sid ─▶ one transaction: rows of the log, the cursor after them
//! ```
//!
//! The cursor says what the client has consumed or what has been copied, and moves in the transaction of the copies.
//! So an import that was killed goes on where it was, and copies nothing twice. A cursor that somebody else has moved
//! ends the import: then a consumer of hookq still runs.

mod key;
mod tables;

use final_core::{Error, Message, MessageId, OutboxDatabase, SqlBroker, database::columns};

use self::tables::read_failed;
pub(crate) use self::{
    key::KeyFrom,
    tables::{Backlog, Hookq, TableName},
};
use crate::exit::Failure;

/// The protocol number of msgpack, the only one that hookq writes.
const MSGPACK: i64 = 1;

/// Rows of one transaction.
const BATCH_ROWS: i64 = 500;

/// Bytes of payload in one transaction. A row has up to 16 MiB; one alone always goes.
const BATCH_BYTES: i64 = 4 * 1024 * 1024;

columns! {
    /// A row of a topic.
    struct TopicRow {
        id: i64,
        protocol: i64,
        data: Vec<u8>,
        created_at: Option<String>,
    }
}

/// Where copies go, and what they look like.
pub(crate) struct Target<'a, DB: OutboxDatabase> {
    pub(crate) broker: &'a SqlBroker<DB>,
    pub(crate) service: &'a str,
    pub(crate) topic: &'a str,
    pub(crate) key: KeyFrom,
    /// The content type of rows whose protocol is not msgpack.
    pub(crate) other_content_type: Option<&'a str>,
}

impl<DB: OutboxDatabase> Hookq<DB> {
    /// Copies the next rows up to one, in a transaction with the cursor. `at` is where the cursor has to be. Returns
    /// how many were copied, and where the cursor is now.
    pub(crate) async fn copy_batch(
        &self,
        target: &Target<'_, DB>,
        at: i64,
        up_to: i64,
    ) -> Result<(u64, i64), Failure> {
        let doing = |error| read_failed(self, &error);
        let mut tx = DB::begin(&self.pool).await.map_err(doing)?;
        let cursor = self.lock_cursor(&mut tx).await?;
        if cursor.unwrap_or(0) != at {
            return Err(self.moved(at, cursor));
        }
        let rows = self.rows(&mut tx, at, up_to).await?;
        let Some(last) = rows.last().map(|row| row.id) else {
            return Ok((0, at));
        };
        let messages: Vec<Message> = rows
            .into_iter()
            .map(|row| self.message(row, target))
            .collect::<Result<_, _>>()?;
        let copied = messages.len() as u64;
        target
            .broker
            .append_for(&mut tx, target.service, &messages)
            .await?;
        self.move_cursor(&mut tx, cursor, last).await?;
        tx.commit().await.map_err(|source| {
            Failure::from(Error::Database {
                doing: "committing a batch; run the import again, it goes on where it was",
                source,
            })
        })?;
        Ok((copied, last))
    }

    /// A row as a message. Its id is the same whenever and however often the row is read.
    fn message(&self, row: TopicRow, target: &Target<'_, DB>) -> Result<Message, Failure> {
        let number = row.id.to_string();
        let content_type = match (row.protocol, target.other_content_type) {
            (MSGPACK, _) => "application/msgpack",
            (_, Some(other)) => other,
            (other, None) => {
                return Err(Failure::Failed(format!(
                    "row {number} of {} has the protocol {other}, and hookq writes {MSGPACK} (msgpack) alone; say what \
                     such rows are by --content-type. The rows before it may have been copied",
                    self.topic
                )));
            }
        };
        let key = target.key.of(&row.data).map_err(|why| {
            Failure::Failed(format!(
                "row {number} of {} has no key: {why}; choose another --key-field, or none. The rows before it may \
                 have been copied",
                self.topic
            ))
        })?;
        // A number is no blank text and no UUID, so there is an id.
        let id =
            MessageId::foreign(&number, &self.full_name, "hookq").unwrap_or_else(MessageId::new);
        let message = Message::identified(id, target.topic, row.data)
            .with_content_type(content_type)
            .with_header("hookq-id", number);
        let message = match row.created_at {
            Some(time) => message.with_header("hookq-created-at", time),
            None => message,
        };
        Ok(match key {
            Some(key) => message.with_key(key),
            None => message,
        })
    }

    fn moved(&self, at: i64, cursor: Option<i64>) -> Failure {
        let now = cursor.map_or("gone".to_owned(), |cursor| format!("at {cursor}"));
        Failure::Failed(format!(
            "the cursor of client {:?} was at {at} and is {now}: a consumer of hookq still runs; stop it, and run the \
             import again. What has been copied stays, and is not copied again",
            self.client
        ))
    }
}
