//! The log's tables, as one broker of this process sees them: its own pool, its statements.

use std::{
    fmt,
    time::{Duration, Instant},
};

use sqlx::{Pool, Transaction};
use tokio::{sync::OnceCell, time::timeout};
use uuid::Uuid;

use super::{
    LANES,
    database::{Kind, Row, Value},
    schema::{self, VERSION},
    texts::{Inserts, Texts},
};
use crate::{
    Error, OutboxDatabase,
    broker::Staged,
    names::ServiceName,
    outbox::{DbResult, limits::micros},
};

/// How long one short transaction may take before it counts as failed.
const PATIENCE: Duration = Duration::from_secs(15);

/// The tables, and how to reach them.
pub(super) struct Log<DB: OutboxDatabase> {
    pool: Pool<DB>,
    ready: OnceCell<Ready>,
}

/// What is known once the schema has been looked up.
pub(super) struct Ready {
    pub(super) texts: Texts,
    now: Inserts,
    later: Inserts,
}

impl<DB: OutboxDatabase> Log<DB> {
    pub(super) fn new(pool: Pool<DB>) -> Self {
        Self {
            pool,
            ready: OnceCell::new(),
        }
    }

    pub(super) fn pool(&self) -> &Pool<DB> {
        &self.pool
    }

    pub(super) async fn ready(&self) -> DbResult<&Ready> {
        self.ready
            .get_or_try_init(|| async {
                let mut conn = self.pool.acquire().await?;
                let schema = DB::log_schema(&mut conn).await?;
                let tells = DB::log_tells_transactions(&mut conn).await?;
                let texts = Texts::new(&DB::LOG_WORDS, schema);
                Ok(Ready {
                    now: Inserts::new(&texts, false, tells),
                    later: Inserts::new(&texts, true, tells),
                    texts,
                })
            })
            .await
    }

    /// Runs one statement on a connection of ours.
    pub(super) async fn run(&self, template: &str, values: Vec<Value>) -> DbResult<u64> {
        within(async {
            let ready = self.ready().await?;
            let mut conn = self.pool.acquire().await?;
            DB::log_run(&mut conn, ready.texts.sql(template), values).await
        })
        .await
    }

    /// Reads rows on a connection of ours.
    pub(super) async fn rows(
        &self,
        template: &str,
        values: Vec<Value>,
        kinds: &'static [Kind],
    ) -> DbResult<Vec<Row>> {
        within(async {
            let ready = self.ready().await?;
            let mut conn = self.pool.acquire().await?;
            DB::log_rows(&mut conn, ready.texts.sql(template), values, kinds).await
        })
        .await
    }

    /// Begins a transaction of ours.
    pub(super) async fn begin(&self) -> DbResult<Tx<'_, DB>> {
        within(async {
            let ready = self.ready().await?;
            Ok(Tx {
                tx: DB::begin(&self.pool).await?,
                texts: &ready.texts,
            })
        })
        .await
    }

    /// Writes messages into a transaction that somebody else commits.
    pub(super) async fn append(
        &self,
        conn: &mut DB::Connection,
        staged: &[Staged],
        in_transaction: bool,
    ) -> Result<(), Error> {
        self.append_here(conn, staged, in_transaction)
            .await
            .map_err(explain)
    }

    pub(super) async fn append_here(
        &self,
        conn: &mut DB::Connection,
        staged: &[Staged],
        in_transaction: bool,
    ) -> DbResult<()> {
        let ready = self.ready().await?;
        let (later, now): (Vec<&Staged>, Vec<&Staged>) =
            staged.iter().partition(|staged| !staged.delay.is_zero());
        for (inserts, staged) in [(&ready.now, now), (&ready.later, later)] {
            if !staged.is_empty() {
                DB::log_append(conn, inserts, &staged, in_transaction).await?;
            }
        }
        Ok(())
    }

    /// Makes the tables, or leaves them as they are. Several instances may do so at once.
    pub(super) async fn migrate(&self) -> DbResult<()> {
        if self.version().await? >= i64::from(VERSION) {
            return Ok(());
        }
        // Nobody's name: the lock is one for all services of the schema.
        let Ok(nobody) = ServiceName::new("final") else {
            return Ok(());
        };
        let lock = DB::startup_lock(&self.pool, &nobody).await?;
        let mut tx = self.begin().await?;
        for statement in schema::tables(&DB::LOG_TYPES) {
            tx.run(&statement, Vec::new()).await?;
        }
        tx.run(&schema::state(&DB::LOG_WORDS), Vec::new()).await?;
        tx.commit().await?;
        drop(lock);
        Ok(())
    }

    /// What [`migrate`](Self::migrate) runs, for those who run it by hand.
    pub(super) fn script() -> String {
        let mut text = format!(
            "-- The log, version {VERSION}, for all services of the database. \
             Running it again changes nothing.\n"
        );
        for statement in schema::tables(&DB::LOG_TYPES) {
            text.push_str(&statement);
            text.push_str(";\n");
        }
        text.push_str(schema::state(&DB::LOG_WORDS).trim_end());
        text.push_str(";\n");
        text
    }

    /// The version of the tables; 0 where there are none.
    async fn version(&self) -> DbResult<i64> {
        let version = "SELECT CAST(version AS {int}) FROM {state} WHERE id = 1";
        match self.rows(version, Vec::new(), &[Kind::Int]).await {
            Ok(mut rows) => rows.first_mut().map_or(Ok(0), Row::int),
            Err(error) if is_missing_table(&error) => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// What a running bus is to the others: there, until then.
    pub(super) async fn join(
        &self,
        group: &str,
        member: Uuid,
        process: Uuid,
        lease: Duration,
    ) -> DbResult<()> {
        // Whoever died long ago is forgotten; its lanes are free since its lease was over.
        let forget = "DELETE FROM {members} WHERE alive_until < {now} - 86400000000";
        self.run(forget, Vec::new()).await?;
        let join = "{insert} INTO {members} (member, group_name, process, alive_until) \
                    VALUES (?, ?, ?, {now} + ?) {nothing}";
        let values = vec![
            member.into(),
            group.into(),
            process.into(),
            micros(lease).into(),
        ];
        self.run(join, values).await.map(drop)
    }

    /// Extends the lease. False if the member is not known any more.
    pub(super) async fn renew(&self, member: Uuid, lease: Duration) -> DbResult<bool> {
        let renew = "UPDATE {members} SET alive_until = {now} + ? WHERE member = ?";
        let found = self
            .run(renew, vec![micros(lease).into(), member.into()])
            .await?;
        Ok(found > 0)
    }

    pub(super) async fn leave(&self, member: Uuid) -> DbResult<()> {
        let leave = "DELETE FROM {members} WHERE member = ?";
        self.run(leave, vec![member.into()]).await.map(drop)
    }

    /// Everything a bus wants to know from time to time, in one statement.
    pub(super) async fn look(&self, group: &str, member: Uuid, process: Uuid) -> DbResult<Look> {
        let asked = Instant::now();
        let look = "SELECT \
            (SELECT MAX(seq) FROM {log}), \
            (SELECT MIN(due_at) FROM {scheduled}) - {now}, \
            (SELECT version FROM {groups} WHERE name = ?), \
            (SELECT COUNT(*) FROM {members} WHERE group_name = ? AND alive_until > {now}), \
            (SELECT COUNT(*) FROM {lanes} l WHERE l.group_name = ? AND (l.member IS NULL OR NOT EXISTS \
                (SELECT 1 FROM {members} m WHERE m.member = l.member AND m.alive_until > {now}))), \
            (SELECT COUNT(*) FROM {lanes} WHERE group_name = ? AND member = ?), \
            (SELECT COUNT(*) FROM {members} WHERE process <> ? AND alive_until > {now}), \
            (SELECT trimmed FROM {state} WHERE id = 1)";
        let values = vec![
            group.into(),
            group.into(),
            group.into(),
            group.into(),
            member.into(),
            process.into(),
        ];
        const KINDS: &[Kind] = &[Kind::Int; 8];
        let mut rows = self.rows(look, values, KINDS).await?;
        let row = rows.first_mut().ok_or(sqlx::Error::RowNotFound)?;
        Ok(Look {
            last: row.int()?,
            due_at: row
                .maybe_int()?
                .map(|due_in| asked + Duration::from_micros(u64::try_from(due_in).unwrap_or(0))),
            version: row.int()?,
            members: row.int()?,
            free_lanes: row.int()?,
            own_lanes: row.int()?,
            others: row.int()? > 0,
            trimmed: row.int()?,
        })
    }

    /// Tells other processes of new messages, or of members, where the database can.
    pub(super) async fn notify(&self, process: Uuid, what: Notice) -> DbResult<()> {
        match DB::LOG_WORDS.notify {
            Some(notify) => self
                .run(notify, vec![what.text(process).into()])
                .await
                .map(drop),
            None => Ok(()),
        }
    }

    /// Puts up to so many scheduled messages that are due into the log. Says how many.
    pub(super) async fn promote(&self, most: usize) -> DbResult<usize> {
        let mut tx = self.begin().await?;
        let due = "SELECT seq FROM {scheduled} WHERE due_at <= {now} ORDER BY due_at, seq LIMIT ? \
                   {skip_locked}";
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let rows = tx.rows(due, vec![most.into()], &[Kind::Int]).await?;
        let seqs = numbers(rows)?;
        if seqs.is_empty() {
            return tx.roll_back().await.map(|()| 0);
        }
        let some = super::texts::padded(&seqs);
        let list = super::texts::list(some.len());
        let copy = format!(
            "INSERT INTO {{log}} ({{message}}, recipient, expires_at, created_at) \
             SELECT {{message}}, recipient, expires_at, {{now}} FROM {{scheduled}} \
             WHERE seq IN ({list}) ORDER BY due_at, seq"
        );
        let delete = format!("DELETE FROM {{scheduled}} WHERE seq IN ({list})");
        let values = || some.iter().map(|seq| Value::from(*seq)).collect();
        tx.be_durable().await?;
        tx.run(&copy, values()).await?;
        tx.run(&delete, values()).await?;
        tx.commit().await?;
        Ok(seqs.len())
    }
}

/// What other processes are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// There are new messages.
    Messages,
    /// Members came or went.
    Members,
}

impl Notice {
    fn text(self, process: Uuid) -> String {
        match self {
            Self::Messages => process.to_string(),
            Self::Members => format!("{process} members"),
        }
    }

    /// What a text says, and who sent it. Texts of others than us are about messages.
    pub(super) fn parse(text: &str) -> (Self, &str) {
        match text.split_once(' ') {
            Some((process, _)) => (Self::Members, process),
            None => (Self::Messages, text),
        }
    }
}

/// What [`Log::look`] sees.
#[derive(Debug)]
pub(super) struct Look {
    /// The last number that shows; 0 where the log is empty.
    pub(super) last: i64,
    /// When the next scheduled message is due.
    pub(super) due_at: Option<Instant>,
    /// Of the group's subscriptions.
    pub(super) version: i64,
    /// Of the group, ourselves included.
    pub(super) members: i64,
    /// Lanes of the group that nobody alive has.
    pub(super) free_lanes: i64,
    /// Those that are ours, by the table.
    pub(super) own_lanes: i64,
    /// Whether there are buses in other processes.
    pub(super) others: bool,
    /// Up to where nothing is missing that was not removed.
    pub(super) trimmed: i64,
}

/// A transaction of ours.
pub(super) struct Tx<'a, DB: OutboxDatabase> {
    tx: Transaction<'static, DB>,
    texts: &'a Texts,
}

impl<DB: OutboxDatabase> Tx<'_, DB> {
    pub(super) async fn run(&mut self, template: &str, values: Vec<Value>) -> DbResult<u64> {
        within(DB::log_run(&mut self.tx, self.texts.sql(template), values)).await
    }

    pub(super) async fn rows(
        &mut self,
        template: &str,
        values: Vec<Value>,
        kinds: &'static [Kind],
    ) -> DbResult<Vec<Row>> {
        within(DB::log_rows(
            &mut self.tx,
            self.texts.sql(template),
            values,
            kinds,
        ))
        .await
    }

    /// What is written into the log waits for the disk before it shows. A server that forgot it in a
    /// crash could give its number to another message, and whoever has read the number passes that over.
    pub(super) async fn be_durable(&mut self) -> DbResult<()> {
        match DB::LOG_WORDS.durable {
            Some(durable) => self.run(durable, Vec::new()).await.map(drop),
            None => Ok(()),
        }
    }

    pub(super) async fn commit(self) -> DbResult<()> {
        within(self.tx.commit()).await
    }

    pub(super) async fn roll_back(self) -> DbResult<()> {
        within(self.tx.rollback()).await
    }

    /// The connection, for an INSERT of messages.
    pub(super) fn conn(&mut self) -> &mut DB::Connection {
        &mut self.tx
    }
}

/// A server that stands still must not stop us for good.
async fn within<T>(work: impl Future<Output = DbResult<T>>) -> DbResult<T> {
    timeout(PATIENCE, work)
        .await
        .unwrap_or(Err(sqlx::Error::PoolTimedOut))
}

/// Turns the driver's error into one that tells what to do.
fn explain(error: sqlx::Error) -> Error {
    let doing = "writing messages to the log";
    let says = |part| {
        error
            .as_database_error()
            .is_some_and(|error| error.message().contains(part))
    };
    if says("final_log_lane") || says("final_log_scheduled_lane") {
        return Error::NotInTransaction;
    }
    if is_missing_table(&error) {
        return Error::MissingTable {
            table: "final_log".to_owned(),
        };
    }
    Error::Database {
        doing,
        source: error,
    }
}

/// Reads rows of one number.
pub(super) fn numbers(rows: Vec<Row>) -> DbResult<Vec<i64>> {
    rows.into_iter().map(|mut row| row.int()).collect()
}

/// Whether one of the log's tables, or its schema, is not there.
fn is_missing_table(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| {
        let code = error.code().unwrap_or_default();
        code == "42P01"
            || code == "3F000"
            || code == "42S02"
            || error.message().starts_with("no such table")
    })
}

/// The numbers of all lanes, as a mask.
pub(super) const ALL_LANES: i64 = (1 << LANES) - 1;

impl<DB: OutboxDatabase> fmt::Debug for Log<DB> {
    /// Without the pool: its options hold the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Log")
    }
}
