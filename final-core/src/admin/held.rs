//! Messages that a group of the log holds, and what an operator wishes for them.
//!
//! Input: the rows of `final_log_held`. Output: [`HeldMessage`]s; or a wish in these rows. A running bus of the service
//! looks for wishes every second while it holds anything, and carries them out.

use std::time::Duration;

use uuid::Uuid;

use super::{
    Answer, Count,
    desk::{Desk, doing},
};
use crate::{
    MessageId, OutboxDatabase,
    database::{DbResult, Value, columns, limits::duration},
    handler::Hold,
    log::tables::held::{NO_WISH, RETRY, SKIP, hold_of},
};

/// A message that is held: its handler has failed, and what comes after it waits.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HeldMessage {
    /// The service.
    pub service: String,
    /// The message.
    pub id: MessageId,
    /// Its sequence number.
    pub seq: i64,
    /// Its topic.
    pub topic: String,
    /// Its key, if it has one.
    pub key: Option<String>,
    /// What waits behind it.
    pub hold: Hold,
    /// How long it has been held.
    pub age: Duration,
    /// Why its handler failed last.
    pub reason: String,
    /// How often its handler was tried, since a running bus has it.
    pub attempts: u32,
    /// How long until it is tried again, as the running bus has said last. `None` if it waits for an operator: its
    /// handler may take the process down.
    pub retry_in: Option<Duration>,
    /// What an operator has asked for, and no running bus has done yet.
    pub wish: Option<HeldWish>,
}

/// What an operator can ask for a held message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeldWish {
    /// That it is tried now.
    Retry,
    /// That it goes to the dead letters, and what waits behind it goes on.
    Skip,
}

/// How many held messages are listed at most.
const MOST: i64 = 1_000;

columns! {
    /// A held message as it is read.
    struct HeldMessageRow {
        id: Uuid,
        seq: i64,
        topic: String,
        message_key: Option<String>,
        scope_number: i64,
        age: i64,
        reason: String,
        attempts: i64,
        is_retried: i64,
        retry_in: i64,
        wish_number: i64,
    }
}

/// A row counts while its message is in the log.
const THERE: &str = "FROM {held} h WHERE h.group_name = ? AND EXISTS \
    (SELECT 1 FROM {log} l WHERE l.seq = h.seq AND l.message_id = h.message_id)";

impl HeldMessageRow {
    fn message(self, service: &str) -> HeldMessage {
        HeldMessage {
            service: service.to_owned(),
            id: MessageId(self.id),
            seq: self.seq,
            topic: self.topic,
            key: self.message_key,
            hold: hold_of(self.scope_number),
            age: duration(self.age),
            reason: self.reason,
            attempts: u32::try_from(self.attempts).unwrap_or_default(),
            retry_in: (self.is_retried != 0).then(|| duration(self.retry_in)),
            wish: match self.wish_number {
                RETRY => Some(HeldWish::Retry),
                SKIP => Some(HeldWish::Skip),
                _ => None,
            },
        }
    }
}

impl<DB: OutboxDatabase> Desk<DB> {
    /// The held messages of a group, in the order of the log. None where an older release has made the tables.
    pub(super) async fn held(&self, service: &str) -> DbResult<Vec<HeldMessage>> {
        let held = format!(
            "SELECT h.message_id AS id, h.seq AS seq, h.topic AS topic, h.message_key AS message_key, \
                 CAST(h.scope AS {{int}}) AS scope_number, {{now}} - h.held_since AS age, h.reason AS reason, \
                 h.attempts AS attempts, CAST(h.retries AS {{int}}) AS is_retried, \
                 h.retry_at - {{now}} AS retry_in, CAST(h.wish AS {{int}}) AS wish_number \
             {THERE} ORDER BY h.seq LIMIT ?"
        );
        let rows = self.rows(&held, &[service.into(), MOST.into()]).await;
        let rows: Vec<HeldMessageRow> = none_if_missing::<DB, _>(rows)?;
        Ok(rows.into_iter().map(|row| row.message(service)).collect())
    }

    /// How many messages a group holds.
    pub(super) async fn held_count(&self, service: &str) -> DbResult<Count> {
        let counted = format!("SELECT COUNT(*) FROM (SELECT 1 AS one {THERE} LIMIT ?) c");
        let most = i64::try_from(Count::MOST).unwrap_or(i64::MAX) + 1;
        let rows = self.rows(&counted, &[service.into(), most.into()]).await;
        let counted: Vec<i64> = none_if_missing::<DB, _>(rows)?;
        Ok(Count::capped(counted.first().copied().unwrap_or(0)))
    }

    /// Writes down what is wished for held messages of a group: for those with this id, or for all. Returns how many
    /// there are.
    pub(super) async fn wish_held(
        &self,
        service: &str,
        id: Option<MessageId>,
        wish: HeldWish,
        reason: &str,
    ) -> Answer<u64> {
        let (number, unless) = match wish {
            // What is to be skipped is not tried once more instead.
            HeldWish::Retry => (RETRY, SKIP),
            HeldWish::Skip => (SKIP, NO_WISH - 1),
        };
        let mut update = format!(
            "UPDATE {{held}} SET wish = {number}, wish_reason = ? WHERE group_name = ? AND wish <> {unless}"
        );
        let reason = reason.replace('\0', "\u{fffd}");
        let mut values: Vec<Value<'_>> = vec![reason.as_str().into(), service.into()];
        if let Some(id) = id {
            update.push_str(" AND message_id = ?");
            values.push(id.0.into());
        }
        let wished = async {
            let mut tx = self.begin().await?;
            let wished = tx.run(&update, &values).await?;
            tx.commit().await?;
            Ok(wished)
        };
        wished
            .await
            .map_err(doing("writing down what is wished for held messages"))
    }
}

/// No rows where the table is missing.
fn none_if_missing<DB: OutboxDatabase, T>(rows: DbResult<Vec<T>>) -> DbResult<Vec<T>> {
    match rows {
        Err(error) if DB::is_missing_table(&error, "final_log_held") => Ok(Vec::new()),
        rows => rows,
    }
}
