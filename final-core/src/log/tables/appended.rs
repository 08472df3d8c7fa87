//! Messages of a source that is not a bus, for every group of their topics.
//!
//! Input: messages that are due at once; the caller's transaction, or none. Output: rows of `final_log`, on the disk
//! if the transaction is the log's own; and the places of the messages, if they are asked for.

use std::time::Duration;

use super::{Log, Tx, entry::rows, explain, explain_to};
use crate::{
    Error, Message, OutboxDatabase,
    broker::Place,
    database::{DbResult, refused::is_victim, renewable::ANSWER, says},
};

/// How often a transaction is sent again that the server has chosen to end, because it and others waited for each
/// other. Each pause is longer than the one before.
const AGAIN: u32 = 4;
const PAUSE: Duration = Duration::from_millis(10);

impl<DB: OutboxDatabase> Log<DB> {
    /// Writes messages into the caller's transaction, in their order.
    pub(crate) async fn append_messages(
        &self,
        conn: &mut DB::Connection,
        messages: &[Message],
    ) -> Result<(), Error> {
        let append = self.append_plainly(conn, messages);
        append.await.map_err(explain::<DB>)
    }

    /// Writes messages into the caller's transaction, in their order. Returns where each of them stands.
    pub(crate) async fn append_placed(
        &self,
        conn: &mut DB::Connection,
        messages: &[Message],
    ) -> Result<Vec<Place>, Error> {
        let append = self.append_numbered(conn, messages);
        append.await.map_err(explain::<DB>)
    }

    /// Writes messages in a transaction of the log's own, in their order. Returns the places of those that want one.
    pub(crate) async fn publish(
        &self,
        messages: &[Message],
        wants_place: &(dyn Fn(usize) -> bool + Sync),
    ) -> Result<Vec<Option<Place>>, Error> {
        let mut tries = 0;
        loop {
            match self.publish_alone(messages, wants_place).await {
                Ok(Some(places)) => return Ok(places),
                Ok(None) => {}
                Err(AloneFailed::Asked(error)) if proves_nothing(&error) => {
                    return Err(unknown(messages, &error));
                }
                Err(AloneFailed::Asked(error)) if tries < AGAIN && is_victim::<DB>(&error) => {
                    tries += 1;
                    tokio::time::sleep(PAUSE * tries).await;
                    continue;
                }
                Err(AloneFailed::Asked(error) | AloneFailed::NotAsked(error)) => {
                    return Err(explain::<DB>(error));
                }
            }
            let tx = self.written(messages, wants_place).await;
            let (error, doing) = match tx {
                Ok((tx, places)) => match tx.commit().await {
                    Ok(()) => return Ok(places),
                    Err(error) if !DB::is_surely_rolled_back(&error) => {
                        return Err(unknown(messages, &error));
                    }
                    Err(error) => (error, "committing messages for the log"),
                },
                Err(error) => (error, "writing messages to the log"),
            };
            if tries == AGAIN || !is_victim::<DB>(&error) {
                return Err(explain_to::<DB>(error, doing));
            }
            tries += 1;
            tokio::time::sleep(PAUSE * tries).await;
        }
    }

    /// Writes messages by one statement that is its own commit: one question and answer. `None`, and nothing is written,
    /// if the database has no such statement, or if it takes more than one.
    async fn publish_alone(
        &self,
        messages: &[Message],
        wants_place: &(dyn Fn(usize) -> bool + Sync),
    ) -> Result<Option<Vec<Option<Place>>>, AloneFailed> {
        let not_asked = AloneFailed::NotAsked;
        let ready = self.within(self.ready()).await.map_err(not_asked)?;
        let mut lots = rows(messages);
        let (Some(lot), None, true) = (lots.next(), lots.next(), ready.now.commits_alone()) else {
            return Ok(None);
        };
        let conn = self.within(async { self.pool().acquire().await }).await;
        let mut conn = conn.map_err(not_asked)?;
        let wants = (0..messages.len()).any(wants_place);
        let write = ready.now.append_durably::<DB>(&mut conn, &lot, wants);
        let numbers = self.within(write).await.map_err(AloneFailed::Asked)?;
        let Some(numbers) = numbers else {
            return Ok(None);
        };
        let mut places = vec![None; messages.len()];
        for (at, (row, number)) in lot.iter().zip(numbers).enumerate() {
            if wants_place(at)
                && let Some(place) = places.get_mut(at)
            {
                *place = Some(Place::new(
                    u8::try_from(row.lane).unwrap_or_default(),
                    number,
                ));
            }
        }
        Ok(Some(places))
    }

    /// Writes messages in a transaction whose COMMIT waits for the disk. An error leaves nothing behind.
    async fn written(
        &self,
        messages: &[Message],
        wants_place: &(dyn Fn(usize) -> bool + Sync),
    ) -> DbResult<(Tx<'_, DB>, Vec<Option<Place>>)> {
        let mut tx = self.begin_durable().await?;
        let write = async {
            let conn = tx.conn();
            if self.ready().await?.now.returns() {
                if !(0..messages.len()).any(wants_place) {
                    self.append_plainly(conn, messages).await?;
                    return Ok(vec![None; messages.len()]);
                }
                let all = self.append_numbered(conn, messages).await?;
                let wanted = |(at, place)| wants_place(at).then_some(place);
                return Ok(all.into_iter().enumerate().map(wanted).collect());
            }
            // A number costs statements of its own there.
            let mut places = Vec::with_capacity(messages.len());
            let mut rest = messages;
            while !rest.is_empty() {
                let from = places.len();
                let wants = wants_place(from);
                let alike = (from..messages.len()).take_while(|at| wants_place(*at) == wants);
                let (run, others) = rest.split_at(alike.count().max(1).min(rest.len()));
                rest = others;
                if wants {
                    let run = self.append_numbered(conn, run).await?;
                    places.extend(run.into_iter().map(Some));
                } else {
                    self.append_plainly(conn, run).await?;
                    places.resize(from + run.len(), None);
                }
            }
            Ok(places)
        };
        match self.pool.within(ANSWER, write).await {
            Ok(places) => Ok((tx, places)),
            Err(error) => {
                // An answer may be outstanding on its connection: the rollback has a limit as well.
                let _ = tx.roll_back_refused().await;
                Err(error)
            }
        }
    }

    async fn append_plainly(
        &self,
        conn: &mut DB::Connection,
        messages: &[Message],
    ) -> DbResult<()> {
        let inserts = &self.ready().await?.now;
        for lot in rows(messages) {
            inserts.append::<DB>(conn, &lot).await?;
        }
        Ok(())
    }

    async fn append_numbered(
        &self,
        conn: &mut DB::Connection,
        messages: &[Message],
    ) -> DbResult<Vec<Place>> {
        let inserts = &self.ready().await?.now;
        let mut places = Vec::with_capacity(messages.len());
        for lot in rows(messages) {
            let numbers = inserts.append_numbered::<DB>(conn, &lot).await?;
            let place = |(row, number): (&super::NewRow<'_>, i64)| {
                Place::new(u8::try_from(row.lane).unwrap_or_default(), number)
            };
            places.extend(lot.iter().zip(numbers).map(place));
        }
        Ok(places)
    }
}

/// Why messages could not be written by one statement.
enum AloneFailed {
    /// The database was not asked to write.
    NotAsked(sqlx::Error),
    /// It was asked.
    Asked(sqlx::Error),
}

/// Whether a statement that is its own commit may have taken place although it has failed: there was no answer, or the
/// server was going down (57P…, and 08… on MariaDB), or somebody has ended it (70… on MariaDB) or its COMMIT has failed, or
/// the statement has written fewer rows than it was given, and committed these.
fn proves_nothing(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().map(|error| error.code());
    match code.flatten() {
        Some(code) => {
            let is_unsure = |class: &&str| code.starts_with(*class);
            ["57P", "08", "70"].iter().any(is_unsure) || says(error, "during COMMIT")
        }
        None => true,
    }
}

fn unknown(messages: &[Message], error: &sqlx::Error) -> Error {
    tracing::debug!(
        target: "final::log",
        messages = messages.len(), %error,
        "the database did not answer COMMIT of messages for the log"
    );
    Error::CommitUnknown {
        ids: messages.iter().map(Message::id).collect(),
    }
}
