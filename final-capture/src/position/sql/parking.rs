//! Refused messages in their table.
//!
//! Input: messages of the writer; marks of an operator. State: `final_capture_parked`. Output: messages in order. Only
//! the reader removes rows, under its term: an operator only marks them. So no two processes put one message back.

use final_core::{
    Message,
    database::{DbResult, Driver, columns, read},
};

use super::{ANSWER, Saved, SqlPositions};
use crate::position::{
    ParkedChange, ParkedHead, ParkedMark, PositionError, Term,
    parked::{columns as parked_columns, read_head, read_message},
};

/// How much of an error's text is kept.
const REASON: usize = 1_000;

columns! {
    struct HeadRow {
        id: i64,
        envelope: Vec<u8>,
        bytes: Option<i64>,
        reason: Option<String>,
        position: String,
        parked_at: i64,
        marked: Option<String>,
    }
}

columns! {
    struct MessageRow {
        envelope: Vec<u8>,
        payload: Option<Vec<u8>>,
    }
}

impl<DB: Driver> SqlPositions<DB> {
    /// Writes refused messages in the caller's transaction.
    pub(crate) async fn park_in(
        &self,
        conn: &mut DB::Connection,
        term: &Term,
        parked: &[ParkedChange],
    ) -> DbResult<()> {
        if parked.is_empty() {
            return Ok(());
        }
        let insert = self.ready().await?.templates.sql(
            "INSERT INTO {parked} (capture, id, envelope, payload, reason, position, parked_at) \
             VALUES (?, ?, ?, ?, ?, ?, {now})",
        );
        for change in parked {
            let (envelope, payload) = parked_columns(change);
            let reason = change.reason.as_deref().map(short);
            let values = [
                (&*term.name).into(),
                change.id.into(),
                envelope.into(),
                final_core::database::Value::Bytes(payload.map(Into::into)),
                reason.into(),
                change.position.as_str().into(),
            ];
            DB::run_sql(conn, &insert, &values).await?;
        }
        Ok(())
    }

    /// Removes refused messages in the caller's transaction. The transaction is of use only if this says so.
    pub(crate) async fn unpark_in(
        &self,
        conn: &mut DB::Connection,
        term: &Term,
        ids: &[i64],
    ) -> DbResult<Saved> {
        let templates = &self.ready().await?.templates;
        if !self.is_ours(conn, term).await? {
            return Ok(Saved::Deposed);
        }
        let remove = templates.sql("DELETE FROM {parked} WHERE capture = ? AND id = ?");
        let mut removed = 0;
        for id in ids {
            let values = [(&*term.name).into(), (*id).into()];
            removed += DB::run_sql(conn, &remove, &values).await?;
        }
        // All of them go in one transaction, so an earlier try has removed all of them or none.
        Ok(match removed {
            0 if !ids.is_empty() => Saved::Before,
            _ => Saved::Now,
        })
    }

    pub(super) async fn read_parked(
        &self,
        name: &str,
        marked: bool,
        after: i64,
        most: u32,
    ) -> Result<Vec<ParkedHead>, PositionError> {
        let doing = "reading messages that the target has refused";
        let of_marked = match marked {
            true => "AND marked IS NOT NULL",
            false => "",
        };
        let text = format!(
            "SELECT id, envelope, CAST(LENGTH(payload) AS {{int}}) AS bytes, reason, position, parked_at, marked FROM {{parked}} \
             WHERE capture = ? AND id > ? {of_marked} ORDER BY id LIMIT {most}"
        );
        let load = async {
            let sql = self.ready().await?.templates.sql(&text);
            let mut conn = self.pool().acquire().await?;
            read::<DB, HeadRow>(&mut conn, &sql, &[name.into(), after.into()]).await
        };
        let rows = self.within(ANSWER, load).await;
        let rows = rows.map_err(PositionError::database(doing))?;
        rows.into_iter().map(|row| row.head(name)).collect()
    }

    pub(super) async fn read_message(
        &self,
        name: &str,
        id: i64,
    ) -> Result<Option<Message>, PositionError> {
        let doing = "reading a message that the target has refused";
        let load = async {
            let sql = "SELECT envelope, payload FROM {parked} WHERE capture = ? AND id = ?";
            let sql = self.ready().await?.templates.sql(sql);
            let mut conn = self.pool().acquire().await?;
            read::<DB, MessageRow>(&mut conn, &sql, &[name.into(), id.into()]).await
        };
        let rows = self.within(ANSWER, load).await;
        let row = rows.map_err(PositionError::database(doing))?.pop();
        let Some(MessageRow {
            envelope,
            payload: Some(payload),
        }) = row
        else {
            return Ok(None);
        };
        let message = read_message(&envelope, payload);
        message
            .map(Some)
            .map_err(|error| unreadable(name, id, &error))
    }

    pub(super) async fn add_marks(&self, term: &Term, ids: &[i64]) -> Result<(), PositionError> {
        let work = async {
            let mark =
                "UPDATE {parked} SET marked = ? WHERE capture = ? AND id = ? AND marked IS NULL";
            let mark = self.ready().await?.templates.sql(mark);
            let mut tx = DB::begin(&self.pool()).await?;
            if !self.is_ours(&mut *tx, term).await? {
                return Ok(Saved::Deposed);
            }
            for id in ids {
                let retry = ParkedMark::Retry.as_str().into();
                let values = [retry, (&*term.name).into(), (*id).into()];
                DB::run_sql(&mut *tx, &mark, &values).await?;
            }
            tx.commit().await?;
            Ok(Saved::Now)
        };
        fenced(
            self.within(ANSWER, work).await,
            "marking what waits behind a parked message",
        )
    }

    pub(super) async fn take_marks(
        &self,
        term: &Term,
        ids: &[i64],
        reason: &str,
    ) -> Result<(), PositionError> {
        let reason = short(reason);
        let work = async {
            let templates = &self.ready().await?.templates;
            let refused = templates
                .sql("UPDATE {parked} SET reason = ?, marked = NULL WHERE capture = ? AND id = ?");
            let behind =
                templates.sql("UPDATE {parked} SET marked = NULL WHERE capture = ? AND id = ?");
            let mut tx = DB::begin(&self.pool()).await?;
            if !self.is_ours(&mut *tx, term).await? {
                return Ok(Saved::Deposed);
            }
            for (place, id) in ids.iter().enumerate() {
                let (name, id) = ((&*term.name).into(), (*id).into());
                // The first one is that which was refused.
                match place {
                    0 => DB::run_sql(&mut *tx, &refused, &[(&*reason).into(), name, id]).await?,
                    _ => DB::run_sql(&mut *tx, &behind, &[name, id]).await?,
                };
            }
            tx.commit().await?;
            Ok(Saved::Now)
        };
        fenced(
            self.within(ANSWER, work).await,
            "taking the mark from messages that were refused again",
        )
    }

    /// Whether the term still has the capture. It keeps it until the end of the transaction.
    async fn is_ours(&self, conn: &mut DB::Connection, term: &Term) -> DbResult<bool> {
        let ours =
            self.ready().await?.templates.sql(
                "SELECT saves FROM {captures} WHERE name = ? AND owner = ? AND epoch = ? {lock}",
            );
        let values = [(&*term.name).into(), term.owner.into(), term.epoch.into()];
        Ok(!read::<DB, i64>(conn, &ours, &values).await?.is_empty())
    }

    /// Marks the refused messages of a capture, or those of one number, for the reader. Returns how many were marked.
    ///
    /// # Errors
    ///
    /// Fails if the database does, or the tables are missing.
    pub async fn mark(
        &self,
        name: &str,
        ids: Option<&[i64]>,
        mark: ParkedMark,
    ) -> Result<u64, PositionError> {
        let doing = "marking messages that the target has refused";
        let work = async {
            let templates = &self.ready().await?.templates;
            let mut tx = DB::begin(&self.pool()).await?;
            let mut marked = 0;
            match ids {
                None => {
                    let sql = templates.sql("UPDATE {parked} SET marked = ? WHERE capture = ?");
                    let values = [mark.as_str().into(), name.into()];
                    marked += DB::run_sql(&mut *tx, &sql, &values).await?;
                }
                Some(ids) => {
                    let sql = templates
                        .sql("UPDATE {parked} SET marked = ? WHERE capture = ? AND id = ?");
                    for id in ids {
                        let values = [mark.as_str().into(), name.into(), (*id).into()];
                        marked += DB::run_sql(&mut *tx, &sql, &values).await?;
                    }
                }
            }
            tx.commit().await?;
            Ok(marked)
        };
        self.within(ANSWER, work)
            .await
            .map_err(PositionError::database(doing))
    }
}

/// What came of a transaction that only the reader may make.
fn fenced(saved: DbResult<Saved>, doing: &'static str) -> Result<(), PositionError> {
    match saved {
        Ok(Saved::Now | Saved::Before) => Ok(()),
        Ok(Saved::Deposed) => Err(PositionError::Deposed),
        Err(source) => Err(PositionError::Database { doing, source }),
    }
}

impl HeadRow {
    fn head(self, name: &str) -> Result<ParkedHead, PositionError> {
        let head = read_head(&self.envelope);
        let (topic, key, message_id) = head.map_err(|error| unreadable(name, self.id, &error))?;
        Ok(ParkedHead {
            id: self.id,
            topic,
            key,
            message_id,
            bytes: self.bytes.and_then(|bytes| bytes.try_into().ok()),
            reason: self.reason,
            position: self.position,
            parked_at: self.parked_at,
            mark: self.marked.as_deref().and_then(ParkedMark::of),
        })
    }
}

fn unreadable(name: &str, id: i64, error: &str) -> PositionError {
    PositionError::Unreadable(format!(
        "the message {id} of capture {name:?} in {} cannot be read: {error}",
        super::schema::PARKED
    ))
}

/// A text that is stored, without NUL, which PostgreSQL cannot store.
fn short(text: &str) -> String {
    let text: String = text.chars().take(REASON).collect();
    text.replace('\0', " ")
}
