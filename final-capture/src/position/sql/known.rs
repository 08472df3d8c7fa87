//! What an operator sees of the captures of a database.

use final_core::database::{Driver, columns, read};

use super::{ANSWER, SqlPositions};
use crate::position::PositionError;

/// A capture, as its row has it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KnownCapture {
    /// Its name.
    pub name: String,
    /// How it is: `connecting`, `streaming`, `away` or `stopped`; empty before the first reader, and after one that was
    /// told to end.
    pub state: String,
    /// Why it is `away` or `stopped`.
    pub reason: Option<String>,
    /// Whether a reader has it now.
    pub is_read: bool,
    /// Which server, and which history of it.
    pub identity: Option<String>,
    /// Where it stands.
    pub position: Option<String>,
    /// How many changes of the transaction after the position are done.
    pub partial_changes: Option<i64>,
    /// How many microseconds ago the last transaction that is done was committed.
    pub since_commit: Option<i64>,
    /// How many microseconds ago the row was written.
    pub since_update: Option<i64>,
    /// Counts up with each change of the reader.
    pub epoch: i64,
    /// How many messages are parked.
    pub parked: i64,
}

columns! {
    struct CaptureRow {
        name: String,
        state: Option<String>,
        reason: Option<String>,
        is_read: i64,
        identity: Option<String>,
        position: Option<String>,
        partial_changes: Option<i64>,
        since_commit: Option<i64>,
        since_update: Option<i64>,
        epoch: i64,
        parked: i64,
    }
}

impl<DB: Driver> SqlPositions<DB> {
    /// The captures of this database, in the order of their names; none if it has no tables of captures.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn known(&self) -> Result<Vec<KnownCapture>, PositionError> {
        let load = async {
            let sql = self.ready().await?.templates.sql(
                "SELECT name, state, reason, CAST(CASE WHEN live_until > {now} THEN 1 ELSE 0 END AS {int}) AS is_read, identity, \
                     position, partial_changes, {now} - source_at AS since_commit, {now} - updated_at AS since_update, \
                     epoch, (SELECT COUNT(*) FROM {parked} WHERE capture = name) AS parked \
                 FROM {captures} ORDER BY name",
            );
            let mut conn = self.pool().acquire().await?;
            match read::<DB, CaptureRow>(&mut conn, &sql, &[]).await {
                Err(error) if DB::is_missing_table(&error, super::schema::CAPTURES) => {
                    Ok(Vec::new())
                }
                rows => rows,
            }
        };
        let rows = self.within(ANSWER, load).await;
        let rows = rows.map_err(PositionError::database("reading the captures"))?;
        Ok(rows.into_iter().map(CaptureRow::known).collect())
    }
}

impl CaptureRow {
    fn known(self) -> KnownCapture {
        KnownCapture {
            name: self.name,
            state: self.state.unwrap_or_default(),
            reason: self.reason,
            is_read: self.is_read != 0,
            identity: self.identity,
            position: self.position,
            partial_changes: self.partial_changes,
            since_commit: self.since_commit,
            since_update: self.since_update,
            epoch: self.epoch,
            parked: self.parked,
        }
    }
}
