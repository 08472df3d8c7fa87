//! A collected letter as a row of the table.
//!
//! Input: the parts of a letter, to be inserted; or the columns of a row. Output: a [`DeadLetter`]. The columns are not
//! trusted, because rows can be written by hand.

use uuid::Uuid;

use crate::{
    MessageId,
    broker::{DeadLetter, LetterCursor},
    database::{columns, limits::duration, stored::Stored},
};

/// A letter as it is inserted.
#[derive(Debug)]
pub(crate) struct NewLetter<'a> {
    /// What makes the letter the same when it is delivered again.
    pub(crate) key: Uuid,
    /// The id of the record that a replay writes. It is also the mark by which a letter is known again whose COMMIT
    /// was not answered.
    pub(crate) record_id: Uuid,
    /// Whether the letter was delivered before, so that a row with its key is this letter.
    pub(crate) is_repeated: bool,
    /// Whether it was tried to write this letter before.
    pub(crate) is_tried: bool,
    pub(crate) id: Uuid,
    pub(crate) topic: &'a str,
    pub(crate) message_key: Option<&'a str>,
    pub(crate) headers: Option<&'a str>,
    pub(crate) payload: &'a [u8],
    pub(crate) content_type: &'a str,
    pub(crate) content_encoding: Option<&'a str>,
    pub(crate) durable: bool,
    pub(crate) reason: &'a str,
    pub(crate) attempts: u32,
    /// In microseconds since 1970. `None` is now, by the database's clock.
    pub(crate) died_at: Option<i64>,
    pub(crate) queue: &'a str,
    pub(crate) problem: Option<&'a str>,
    pub(crate) envelope: &'a str,
}

columns! {
    /// A collected letter as it is read.
    pub(crate) struct CollectedRow {
        seq: i64,
        message_id: Uuid,
        topic: String,
        message_key: Option<String>,
        headers: Option<String>,
        payload: Vec<u8>,
        content_type: String,
        content_encoding: Option<String>,
        is_durable: i64,
        reason: String,
        attempts: i64,
        age: i64,
        problem: Option<String>,
    }
}

impl CollectedRow {
    /// The letter of a service.
    pub(crate) fn letter(self, service: &str) -> DeadLetter {
        let (id, row) = (MessageId(self.message_id), self);
        let stored = Stored {
            topic: row.topic.clone(),
            key: row.message_key,
            headers: row.headers,
            payload: row.payload,
            content_type: row.content_type,
            durable: row.is_durable != 0,
        };
        let message = match row.problem {
            Some(problem) => Err(problem),
            None => stored.into_message(id),
        };
        let message = match (message, row.content_encoding) {
            (Ok(message), Some(encoding)) => Ok(message.with_content_encoding(encoding)),
            (message, _) => message,
        };
        DeadLetter {
            service: service.to_owned(),
            message,
            id,
            topic: row.topic,
            reason: row.reason,
            attempts: u32::try_from(row.attempts).unwrap_or(0),
            age: duration(row.age),
            cursor: Some(LetterCursor::collected(row.seq)),
        }
    }
}
