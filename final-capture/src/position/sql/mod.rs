//! Positions in a table, on each of the three databases.
//!
//! Input: a pool of the caller's. State: the tables `final_captures` and `final_capture_parked`; a pool of its own.
//! Output: terms, saved positions, refused messages. The log's target writes the same rows in its own transaction,
//! by [`save_in`](SqlPositions::save_in).

pub(super) mod known;
mod parking;
mod schema;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use final_core::{
    Message,
    database::{DbResult, Driver, Leases, Tables, Templates, columns, migrate, read},
};
use futures::future::BoxFuture;
use sqlx::Pool;
use tokio::{sync::OnceCell, time::timeout};
use uuid::Uuid;

use self::parking::fenced;
use super::{
    PER_SAVE, ParkedChange, ParkedHead, ParkedMark, Partial, Position, PositionError,
    PositionStore, SourceIdentity, Standing, TakenTerm, Term,
};

/// How long the database may take to answer. Then the connections are given up, because the driver would wait on.
const ANSWER: Duration = Duration::from_secs(15);

/// Connections for the writer, the lease and what an operator asks.
const CONNECTIONS: u32 = 3;

/// How often a lease is asked for at most if each time the transaction is the victim of a deadlock.
const TRIES: u32 = 5;

/// Positions in the database of a pool.
pub struct SqlPositions<DB: Driver> {
    caller: Pool<DB>,
    own: Mutex<Option<Pool<DB>>>,
    ready: OnceCell<Ready>,
}

/// What is known once the server has answered.
struct Ready {
    templates: Templates,
    leases: Leases,
    /// How many bytes one statement may have.
    packet: Option<usize>,
}

columns! {
    /// Where a capture stands.
    struct PositionRow {
        identity: Option<String>,
        position: Option<String>,
        partial_transaction: Option<String>,
        partial_changes: Option<i64>,
        saves: i64,
        last_parked: Option<i64>,
    }
}

impl<DB: Driver> SqlPositions<DB> {
    /// Positions in the database of that pool. It connects when it is used.
    pub fn new(caller: Pool<DB>) -> Self {
        Self {
            caller,
            own: Mutex::default(),
            ready: OnceCell::new(),
        }
    }

    /// The pool of our own.
    pub(crate) fn pool(&self) -> Pool<DB> {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || DB::own_pool(&self.caller, CONNECTIONS, schema::session::<DB>());
        own.get_or_insert_with(make).clone()
    }

    /// Gives the connections up: the driver keeps one whose statement was not answered.
    fn leave(&self) {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        *own = None;
    }

    /// Does something within a limit. A server that does not answer, or takes no writes any longer, is left.
    pub(crate) async fn within<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = DbResult<T>>,
    ) -> DbResult<T> {
        match timeout(limit, work).await {
            Ok(Err(error)) => {
                if DB::must_reconnect(&error) {
                    self.leave();
                }
                Err(error)
            }
            Ok(done) => done,
            Err(_) => {
                self.leave();
                let late = format!(
                    "the database did not finish within {limit:?}; look there for locks, slow triggers and slow replicas"
                );
                Err(std::io::Error::new(std::io::ErrorKind::TimedOut, late).into())
            }
        }
    }

    async fn ready(&self) -> DbResult<&Ready> {
        let ask = async {
            let server = DB::server(&mut *self.pool().acquire().await?).await?;
            let templates = schema::templates::<DB>(&server.schema);
            let leases = Leases::new(&templates);
            Ok(Ready {
                templates,
                leases,
                packet: server.packet,
            })
        };
        self.ready.get_or_try_init(|| ask).await
    }

    /// Saves a position and refused messages in the caller's transaction, as its last step. The transaction is of use
    /// only if this says so.
    ///
    /// It locks the row of the capture until the COMMIT, and renewals of the lease wait for it. So everything else comes
    /// before that.
    pub(crate) async fn save_in(
        &self,
        conn: &mut DB::Connection,
        term: &Term,
        standing: &Standing,
        parked: &[ParkedChange],
    ) -> DbResult<Saved> {
        let templates = &self.ready().await?.templates;
        if !parked.is_empty() {
            // A try whose answer was lost has written the same rows.
            match self.last_save(conn, term).await? {
                Some(last) if last == standing.number => return Ok(Saved::Before),
                Some(last) if last == standing.number - 1 => {
                    self.park_in(conn, term, parked).await?;
                }
                _ => return Ok(Saved::Deposed),
            }
        }
        let save = templates.sql(
            "UPDATE {captures} SET identity = ?, position = ?, partial_transaction = ?, partial_changes = ?, \
                 saves = ?, source_at = COALESCE(CAST(? AS {int}), source_at), updated_at = {now} \
             WHERE name = ? AND owner = ? AND epoch = ? AND saves = ?",
        );
        let Standing {
            position,
            at,
            number,
        } = standing;
        let partial = position.partial.as_ref();
        let changes = partial.map(|partial| i64::try_from(partial.changes).unwrap_or(i64::MAX));
        let point = position.point.to_string();
        let values = [
            (&*position.identity.0).into(),
            point.as_str().into(),
            partial.map(|partial| &*partial.transaction).into(),
            changes.into(),
            (*number).into(),
            (*at).into(),
            (&*term.name).into(),
            term.owner.into(),
            term.epoch.into(),
            (number - 1).into(),
        ];
        if DB::run_sql(conn, &save, &values).await? > 0 {
            return Ok(Saved::Now);
        }
        Ok(match self.last_save(conn, term).await? {
            Some(last) if last == *number => Saved::Before,
            _ => Saved::Deposed,
        })
    }

    /// The number of the last save, if the term still has the capture.
    async fn last_save(&self, conn: &mut DB::Connection, term: &Term) -> DbResult<Option<i64>> {
        let templates = &self.ready().await?.templates;
        let saves = templates
            .sql("SELECT saves FROM {captures} WHERE name = ? AND owner = ? AND epoch = ?");
        let values = [(&*term.name).into(), term.owner.into(), term.epoch.into()];
        Ok(read::<DB, i64>(conn, &saves, &values).await?.pop())
    }

    async fn try_take(
        &self,
        name: &str,
        owner: Uuid,
        lease: Duration,
    ) -> DbResult<Option<(i64, PositionRow)>> {
        let Ready {
            templates, leases, ..
        } = self.ready().await?;
        let mut tx = DB::begin(&self.pool()).await?;
        let Some(epoch) = leases.take::<DB>(&mut *tx, name, owner, lease).await? else {
            tx.commit().await?;
            return Ok(None);
        };
        let row = templates.sql(
            "SELECT identity, position, partial_transaction, partial_changes, saves, \
                 (SELECT MAX(id) FROM {parked} WHERE capture = name) AS last_parked \
             FROM {captures} WHERE name = ?",
        );
        let row = read::<DB, PositionRow>(&mut *tx, &row, &[name.into()]).await?;
        let mut row = row.into_iter().next().ok_or(sqlx::Error::RowNotFound)?;
        // An operator may have removed the row. What is parked then must stay before what will be parked.
        let least = row.last_parked.unwrap_or_default() / PER_SAVE;
        if row.saves < least {
            let raise = templates.sql("UPDATE {captures} SET saves = ? WHERE name = ?");
            DB::run_sql(&mut *tx, &raise, &[least.into(), name.into()]).await?;
            row.saves = least;
        }
        tx.commit().await?;
        Ok(Some((epoch, row)))
    }

    async fn try_save(
        &self,
        term: &Term,
        standing: &Standing,
        parked: &[ParkedChange],
    ) -> DbResult<Saved> {
        let mut tx = DB::begin_durable(&self.pool()).await?;
        let saved = self.save_in(&mut *tx, term, standing, parked).await?;
        if saved == Saved::Now {
            tx.commit().await?;
        }
        Ok(saved)
    }

    async fn run(&self, sql: &str, values: &[final_core::database::Value<'_>]) -> DbResult<u64> {
        let sql = self.ready().await?.templates.sql(sql);
        let mut tx = DB::begin(&self.pool()).await?;
        let changed = DB::run_sql(&mut *tx, &sql, values).await?;
        tx.commit().await?;
        Ok(changed)
    }

    async fn make_tables(&self) -> DbResult<()> {
        let tables = Tables {
            name: schema::CAPTURES,
            version: schema::VERSION,
            statements: &schema::statements::<DB>(),
        };
        migrate(&self.caller, &tables).await
    }
}

/// What came of a save.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Saved {
    /// It was saved, if the transaction is committed.
    Now,
    /// An earlier attempt was saved, whose answer was lost. Nothing of this transaction must be committed.
    Before,
    /// Another reader has taken over. Nothing of this transaction must be committed.
    Deposed,
}

impl PositionRow {
    fn position(self, name: &str) -> Result<(Option<Position>, i64), PositionError> {
        let number = self.saves;
        let Some(text) = self.position else {
            return Ok((None, number));
        };
        let point = text.parse().map_err(|error| {
            PositionError::Unreadable(format!(
                "the position of capture {name:?} in {} cannot be read: {error}",
                schema::CAPTURES
            ))
        })?;
        let changes = self.partial_changes.unwrap_or_default();
        let partial = self.partial_transaction.map(|transaction| Partial {
            transaction: transaction.into(),
            changes: u64::try_from(changes).unwrap_or_default(),
        });
        let identity = SourceIdentity(self.identity.unwrap_or_default().into());
        let position = Position {
            identity,
            point,
            partial,
        };
        Ok((Some(position), number))
    }
}

impl<DB: Driver> PositionStore for SqlPositions<DB> {
    fn place(&self) -> String {
        let place = DB::place(&self.caller);
        // Options of a connection are nothing that a log has to show.
        place.split('?').next().unwrap_or_default().to_owned()
    }

    fn others<'a>(
        &'a self,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Vec<(String, SourceIdentity)>, PositionError>> {
        Box::pin(async move {
            let known = self.known().await?.into_iter();
            let others = known.filter(|capture| capture.name != name);
            Ok(others
                .filter_map(|it| Some((it.name, SourceIdentity(it.identity?.into()))))
                .collect())
        })
    }

    fn migrate(&self) -> BoxFuture<'_, Result<(), PositionError>> {
        // Without a limit of ours: another instance may be at it, for a minute at most.
        let doing = "making the tables of captures";
        Box::pin(async move {
            self.make_tables()
                .await
                .map_err(PositionError::database(doing))
        })
    }

    fn take<'a>(
        &'a self,
        name: &'a str,
        owner: Uuid,
        lease: Duration,
    ) -> BoxFuture<'a, Result<Option<TakenTerm>, PositionError>> {
        Box::pin(async move {
            let mut tries = 1;
            let taken = loop {
                match self.within(ANSWER, self.try_take(name, owner, lease)).await {
                    // Two processes that make the row at once, for example: nothing was written.
                    Err(error) if tries < TRIES && DB::is_deadlock(&error) => tries += 1,
                    taken => break taken,
                }
            };
            let doing = "taking the lease of a capture";
            let Some((epoch, row)) = taken.map_err(PositionError::database(doing))? else {
                return Ok(None);
            };
            let term = Term {
                name: name.into(),
                owner,
                epoch,
            };
            match row.position(name) {
                Ok((position, number)) => Ok(Some(TakenTerm {
                    term,
                    position,
                    number,
                })),
                Err(error) => {
                    // The caller gets no term, so nobody else could write this down.
                    self.note(&term, "stopped", Some(&error.to_string()))
                        .await?;
                    self.release(&term).await?;
                    Err(error)
                }
            }
        })
    }

    fn save<'a>(
        &'a self,
        term: &'a Term,
        standing: &'a Standing,
        parked: &'a [ParkedChange],
    ) -> BoxFuture<'a, Result<(), PositionError>> {
        Box::pin(async move {
            let saved = self
                .within(ANSWER, self.try_save(term, standing, parked))
                .await;
            fenced(saved, "saving the position of a capture")
        })
    }

    fn release<'a>(&'a self, term: &'a Term) -> BoxFuture<'a, Result<(), PositionError>> {
        let release = async move {
            let leases = &self.ready().await?.leases;
            let mut tx = DB::begin(&self.pool()).await?;
            leases
                .release::<DB>(&mut *tx, &term.name, term.owner, term.epoch)
                .await?;
            tx.commit().await
        };
        let doing = "giving the lease of a capture back";
        Box::pin(async move {
            let released = self.within(ANSWER, release).await;
            released.map_err(PositionError::database(doing))
        })
    }

    fn note<'a>(
        &'a self,
        term: &'a Term,
        state: &'a str,
        reason: Option<&'a str>,
    ) -> BoxFuture<'a, Result<(), PositionError>> {
        Box::pin(async move {
            let note = "UPDATE {captures} SET state = ?, reason = ?, updated_at = {now} \
                WHERE name = ? AND owner = ? AND epoch = ?";
            let reason = reason.map(|reason| reason.replace('\0', " "));
            let values = [
                state.into(),
                reason.into(),
                (&*term.name).into(),
                term.owner.into(),
                term.epoch.into(),
            ];
            let noted = self.within(ANSWER, self.run(note, &values)).await;
            noted.map(drop).map_err(PositionError::database(
                "writing down the state of a capture",
            ))
        })
    }

    fn can_park(&self) -> bool {
        true
    }

    fn parked<'a>(
        &'a self,
        name: &'a str,
        marked: bool,
        after: i64,
        most: u32,
    ) -> BoxFuture<'a, Result<Vec<ParkedHead>, PositionError>> {
        Box::pin(self.read_parked(name, marked, after, most))
    }

    fn parked_message<'a>(
        &'a self,
        name: &'a str,
        id: i64,
    ) -> BoxFuture<'a, Result<Option<Message>, PositionError>> {
        Box::pin(self.read_message(name, id))
    }

    fn unpark<'a>(
        &'a self,
        term: &'a Term,
        ids: &'a [i64],
    ) -> BoxFuture<'a, Result<(), PositionError>> {
        Box::pin(async move {
            let remove = async {
                let mut tx = DB::begin(&self.pool()).await?;
                let removed = self.unpark_in(&mut *tx, term, ids).await?;
                if !self.is_ours(&mut *tx, term).await? {
                    return Ok(Saved::Deposed);
                }
                tx.commit().await?;
                Ok(removed)
            };
            let doing = "removing messages that were put back";
            fenced(self.within(ANSWER, remove).await, doing)
        })
    }

    fn mark_rest<'a>(
        &'a self,
        term: &'a Term,
        ids: &'a [i64],
    ) -> BoxFuture<'a, Result<(), PositionError>> {
        Box::pin(async move {
            // What an operator has marked meanwhile keeps that mark.
            let set = format!(
                "marked = COALESCE(marked, '{}')",
                ParkedMark::Retry.as_str()
            );
            let doing = "marking what waits behind a parked message";
            self.change_parked(term, ids, &set, None, doing).await
        })
    }

    fn unmark<'a>(
        &'a self,
        term: &'a Term,
        ids: &'a [i64],
        reason: &'a str,
    ) -> BoxFuture<'a, Result<(), PositionError>> {
        let doing = "taking the mark from messages that were refused again";
        Box::pin(async move {
            // The first one is that which was refused.
            let (refused, behind) = ids.split_at(ids.len().min(1));
            let set = "reason = ?, marked = NULL";
            self.change_parked(term, refused, set, Some(reason), doing)
                .await?;
            self.change_parked(term, behind, "marked = NULL", None, doing)
                .await
        })
    }
}

impl<DB: Driver> fmt::Debug for SqlPositions<DB> {
    /// Without the pool: its options hold the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SqlPositions").field(&self.place()).finish()
    }
}

/// A store that is shared with the target of the same database.
impl<DB: Driver> From<Arc<SqlPositions<DB>>> for super::Positions {
    fn from(store: Arc<SqlPositions<DB>>) -> Self {
        Self(store)
    }
}
