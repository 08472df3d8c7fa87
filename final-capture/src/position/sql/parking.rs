//! Refused messages in their table.
//!
//! Input: messages of the writer; marks of an operator. State: `final_capture_parked`. Output: messages in order. Only
//! the reader removes rows, under its term: an operator only marks them. So no two processes put one message back.

use final_core::{
    Message,
    database::{DbResult, Driver, columns, read},
};

use super::{ANSWER, Ready, Saved, SqlPositions};
use crate::position::{
    ParkedChange, ParkedHead, ParkedMark, PositionError, Term,
    parked::{columns as parked_columns, read_head, read_message},
};

/// How much of an error's text is kept.
const REASON: usize = 1_000;

/// How many messages are changed in one transaction.
const AT_ONCE: usize = 500;

/// How many messages are written in one statement, if all of them are not larger than [`PIECE`]. So a window of 8,192 messages
/// that wait behind one takes about 200 statements, and the database has time for them also where each takes 50 ms.
const ROWS: usize = 50;

/// How many bytes of several messages are written in one statement, far below the packet of a MySQL.
const PIECE: usize = 1024 * 1024;

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
    pub(super) async fn park_in(
        &self,
        conn: &mut DB::Connection,
        term: &Term,
        parked: &[ParkedChange],
    ) -> DbResult<()> {
        let Ready {
            templates, packet, ..
        } = self.ready().await?;
        let most = PIECE.min(packet.map_or(PIECE, |packet| packet / 2));
        for piece in pieces(parked, most) {
            let rows = vec!["(?, ?, ?, ?, ?, ?, {now})"; piece.len()].join(", ");
            let insert = format!(
                "INSERT INTO {{parked}} (capture, id, envelope, payload, reason, position, parked_at) VALUES {rows}"
            );
            let mut values = Vec::with_capacity(6 * piece.len());
            for change in piece {
                let (envelope, payload) = parked_columns(change);
                let bytes = envelope.len() + payload.as_ref().map_or(0, |payload| payload.len());
                PositionError::check_parked(bytes, *packet)?;
                let reason = change.reason.as_deref().map(short);
                values.extend([
                    (&*term.name).into(),
                    change.id.into(),
                    envelope.into(),
                    final_core::database::Value::Bytes(payload.map(Into::into)),
                    reason.into(),
                    change.position.as_str().into(),
                ]);
            }
            DB::run_sql(conn, &templates.sql(&insert), &values).await?;
        }
        Ok(())
    }

    /// Removes refused messages in the caller's transaction. The transaction is of use only if this says so, and if the
    /// capture [is ours](Self::is_ours) at its end.
    pub(crate) async fn unpark_in(
        &self,
        conn: &mut DB::Connection,
        term: &Term,
        ids: &[i64],
    ) -> DbResult<Saved> {
        let templates = &self.ready().await?.templates;
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

    /// Changes refused messages, some hundred in a transaction that only the reader may make.
    pub(super) async fn change_parked(
        &self,
        term: &Term,
        ids: &[i64],
        set: &str,
        reason: Option<&str>,
        doing: &'static str,
    ) -> Result<(), PositionError> {
        let change = format!("UPDATE {{parked}} SET {set} WHERE capture = ? AND id = ?");
        let reason = reason.map(short);
        for ids in ids.chunks(AT_ONCE) {
            let work = async {
                let change = self.ready().await?.templates.sql(&change);
                let mut tx = DB::begin(&self.pool()).await?;
                for id in ids {
                    let mut values = Vec::with_capacity(3);
                    values.extend(reason.as_deref().map(Into::into));
                    values.extend([(&*term.name).into(), (*id).into()]);
                    DB::run_sql(&mut *tx, &change, &values).await?;
                }
                if !self.is_ours(&mut *tx, term).await? {
                    return Ok(Saved::Deposed);
                }
                tx.commit().await?;
                Ok(Saved::Now)
            };
            fenced(self.within(ANSWER, work).await, doing)?;
        }
        Ok(())
    }

    /// Whether the term still has the capture. It keeps it until the end of the transaction. Renewals of the lease wait for
    /// that end, so this is the last step before it.
    pub(crate) async fn is_ours(&self, conn: &mut DB::Connection, term: &Term) -> DbResult<bool> {
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

/// Messages as they are written together: so many, or one. Statements of two sizes are prepared once each.
fn pieces(mut left: &[ParkedChange], most: usize) -> impl Iterator<Item = &[ParkedChange]> {
    let size = |change: &ParkedChange| change.message.as_ref().map_or(0, |it| it.payload().len());
    std::iter::from_fn(move || {
        let several = left
            .get(..ROWS)
            .filter(|piece| piece.iter().map(size).sum::<usize>() <= most);
        let (piece, rest) = left.split_at_checked(several.map_or(1, <[_]>::len))?;
        left = rest;
        Some(piece)
    })
}

/// What came of a transaction that only the reader may make.
pub(super) fn fenced(saved: DbResult<Saved>, doing: &'static str) -> Result<(), PositionError> {
    match saved {
        Ok(Saved::Now | Saved::Before) => Ok(()),
        Ok(Saved::Deposed) => Err(PositionError::Deposed),
        Err(source) => Err(PositionError::carried(source)
            .unwrap_or_else(|source| PositionError::Database { doing, source })),
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

#[cfg(test)]
mod tests {
    use final_core::Message;

    use super::*;

    fn change(bytes: usize) -> ParkedChange {
        ParkedChange {
            id: 0,
            topic: "topic".into(),
            key: None,
            message: Some(Message::new("topic", vec![0; bytes])),
            reason: None,
            position: String::new(),
        }
    }

    fn sizes(parked: &[ParkedChange]) -> Vec<usize> {
        pieces(parked, PIECE).map(<[_]>::len).collect()
    }

    #[test]
    fn messages_are_written_many_at_a_time_and_large_ones_alone() {
        assert_eq!(sizes(&[]), [0; 0]);
        assert_eq!(sizes(&vec![change(100); ROWS * 2 + 2]), [ROWS, ROWS, 1, 1]);
        let large = [vec![change(PIECE)], vec![change(100); ROWS]].concat();
        assert_eq!(sizes(&large), [1, ROWS]);
    }
}
