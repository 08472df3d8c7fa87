//! The outbox's table, as the relay and operators use it.
//!
//! Input: keys of records with a change for them, or a question. State: none beside the database's. Output: how
//! many records were changed, or the answer.
//!
//! | method | makes of a record | which records |
//! | --- | --- | --- |
//! | `ack` | nothing: deleted; or acked, if acked records are kept | any: the broker's proof holds for every owner |
//! | `renew` | leased by itself, until later | the owner's |
//! | `release` | due after a wait, attempts unchanged | the owner's |
//! | `put_back` | due after a wait, with one attempt more | the owner's |
//! | `park` | unroutable | the owner's |
//! | `fail` | failed | the owner's |
//! | `claim_parked` | pending, with a lease: a probe of its topic | one unroutable record of the topic |
//! | `unpark` | pending and due | unroutable records of the topic |
//! | `retry_failed` | pending and due, as if it were new | failed records |
//!
//! A record is the owner's as long as the owner has a lease on it. A method changes no other records, and its
//! count tells how many it has changed. So a process that stood still for longer than its lease does no harm.
//!
//! Each method is one statement, or a few that each stand alone, on a connection of our own pool. Each
//! statement has a time limit, because a server whose machine is gone never answers.

use std::time::{Duration, Instant};

use uuid::Uuid;

use super::{
    OutboxDatabase,
    record::{Backlog, FailedRecord, FailedRow, Record, RecordId, RecordRow},
    statements::{Change, Probe, Statements},
};
use crate::{
    MessageId,
    database::{
        DbResult, FromRow, Value,
        limits::{duration, error_text, micros, sorted},
        read,
        renewable::{ANSWER, RenewablePool},
        statement::{Arguments, Statement},
    },
};

/// How often a statement is sent at most if each time it is the victim of a deadlock.
const TRIES: u32 = 5;

/// How many failed records are tried again at once.
pub(crate) const RETRY_BATCH: u32 = 500;

/// How many records one round of a purge removes, if it goes by their keys.
const PURGE_BATCH: u32 = 1_000;

/// The table as one owner uses it. Copying it costs nothing, so each method takes it by value.
pub(crate) struct Table<'a, DB: OutboxDatabase> {
    pub(super) pool: &'a RenewablePool<DB>,
    pub(super) statements: &'a Statements,
    /// Whose leases are taken and changed.
    pub(super) owner: Uuid,
    /// How long a new lease is.
    pub(super) lease: Duration,
}

impl<DB: OutboxDatabase> Clone for Table<'_, DB> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<DB: OutboxDatabase> Copy for Table<'_, DB> {}

/// How records are put back after an answer that does not prove that they are stored.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PutBack {
    /// How long until they are due again.
    pub(crate) wait: Duration,
    /// The reason, kept in `last_error`.
    pub(crate) error: String,
    /// Whether the messages themselves were at fault.
    pub(crate) fault: bool,
}

/// The changes of records.
impl<DB: OutboxDatabase> Table<'_, DB> {
    /// Removes records that the broker has proven to hold, or marks them as acked if they are to be kept. Needs
    /// no lease, because the proof holds for every owner. Returns how many there were.
    pub(crate) async fn ack(self, ids: &[RecordId], keep: bool) -> DbResult<u64> {
        let statement = match keep {
            true => &self.statements.mark_acked,
            false => &self.statements.delete,
        };
        self.by_ids(statement, ids, &[]).await
    }

    /// Extends the leases of records that the owner still has. Each record is then leased by itself, and needs
    /// the claim it came with no longer. A lease that has run out is not extended.
    pub(crate) async fn renew(self, ids: &[RecordId]) -> DbResult<u64> {
        let lease = micros(self.lease).into();
        self.owned(&self.statements.renew, ids, &[("lease", lease)])
            .await
    }

    /// Makes records that the owner still has due after `wait`, unclaimed, attempts unchanged.
    pub(crate) async fn release(self, ids: &[RecordId], wait: Duration) -> DbResult<u64> {
        let wait = micros(wait).into();
        self.owned(&self.statements.release, ids, &[("wait", wait)])
            .await
    }

    /// Counts an attempt (and a fault, if it was one) and makes the records due after a wait.
    pub(crate) async fn put_back(self, ids: &[RecordId], how: &PutBack) -> DbResult<u64> {
        let arguments = [
            ("wait", micros(how.wait).into()),
            ("fault", i64::from(how.fault).into()),
            ("error", error_text(&how.error).into()),
        ];
        self.owned(&self.statements.put_back, ids, &arguments).await
    }

    /// Makes records of the owner unroutable: out of the way of the others until their topic is released.
    /// Counts an attempt.
    pub(crate) async fn park(self, ids: &[RecordId], error: &str) -> DbResult<u64> {
        let error = error_text(error).into();
        self.owned(&self.statements.park, ids, &[("error", error)])
            .await
    }

    /// Marks records of the owner as failed: they can never be sent as they are. Counts an attempt.
    pub(crate) async fn fail(self, ids: &[RecordId], error: &str) -> DbResult<u64> {
        let error = error_text(error).into();
        self.owned(&self.statements.fail, ids, &[("error", error)])
            .await
    }

    /// Makes up to `most` unroutable records of the topic pending and due. Returns how many.
    pub(crate) async fn unpark(self, topic: &str, most: u32) -> DbResult<u64> {
        let arguments = vec![("topic", topic.into()), ("most", most.into())];
        self.change(&self.statements.unpark, arguments).await
    }

    /// Makes failed records pending and due again, attempts and faults at zero: the records of the messages with these
    /// ids, or up to [`RETRY_BATCH`] records. Returns how many.
    pub(crate) async fn retry_failed(self, ids: Option<&[MessageId]>) -> DbResult<u64> {
        match ids {
            Some(ids) => {
                let keys: Vec<_> = ids.iter().copied().map(RecordId::of).collect();
                let mut retried = self
                    .by_ids(&self.statements.retry_failed, &keys, &[])
                    .await?;
                let sent_as = &self.statements.retry_failed_sent_as;
                let longest = sent_as.find.as_ref().unwrap_or(&sent_as.change).longest();
                for ids in sorted(ids.iter().map(|id| id.0)).chunks(longest) {
                    retried += self.change(sent_as, vec![("ids", ids.into())]).await?;
                }
                Ok(retried)
            }
            None => {
                let most = vec![("most", RETRY_BATCH.into())];
                self.change(&self.statements.retry_some_failed, most).await
            }
        }
    }

    /// Deletes up to `most` acked records that are older than `age`, after the first `skip` of them, the
    /// oldest first. Returns how many.
    pub(crate) async fn purge_acked(self, age: Duration, most: u32, skip: u32) -> DbResult<u64> {
        let arguments = vec![
            ("age", micros(age).into()),
            ("most", most.into()),
            ("skip", skip.into()),
        ];
        self.change(&self.statements.purge_acked, arguments).await
    }

    /// Deletes all records, in rounds if it goes by their keys. Returns how many there were.
    pub(crate) async fn purge_all(self) -> DbResult<u64> {
        let purge = &self.statements.purge_all;
        let mut purged = 0;
        loop {
            let some = self
                .change(purge, vec![("most", PURGE_BATCH.into())])
                .await?;
            purged += some;
            if some == 0 || purge.find.is_none() {
                return Ok(purged);
            }
        }
    }

    /// Claims one unroutable record of the topic, as a probe. It becomes pending, leased to the owner, and is
    /// sent to learn whether the topic can be sent to again. `None` if the topic has no such record left. See
    /// [`Probe`] for the way in which each database does it.
    pub(crate) async fn claim_parked(self, topic: &str) -> DbResult<Option<Record>> {
        self.within(async {
            let lease = || {
                let lease = micros(self.lease).into();
                vec![
                    ("topic", topic.into()),
                    ("owner", self.owner.into()),
                    ("lease", lease),
                ]
            };
            let rows = match &self.statements.probe {
                Probe::Returning(lease_one) => self.rows(lease_one, lease()).await?,
                Probe::Checked {
                    any,
                    lease: lease_one,
                } => {
                    let any = self.rows::<bool>(any, vec![("topic", topic.into())]);
                    match any.await?.first() {
                        Some(true) => self.rows(lease_one, lease()).await?,
                        _ => Vec::new(),
                    }
                }
                Probe::Steps {
                    find,
                    lease: lease_one,
                    read,
                } => loop {
                    let found = self.rows::<Uuid>(find, vec![("topic", topic.into())]);
                    let Some(id) = found.await?.first().copied() else {
                        break Vec::new();
                    };
                    let arguments = [
                        ("owner", self.owner.into()),
                        ("lease", micros(self.lease).into()),
                    ];
                    // With 0 another process was first with this record, so the next one is tried.
                    let key = [RecordId(id)];
                    if self.by_ids(lease_one, &key, &arguments).await? == 1 {
                        break self.rows(read, vec![("message_id", id.into())]).await?;
                    }
                },
            };
            let record = rows.into_iter().next();
            Ok(record.map(|row: RecordRow| row.claimed().record))
        })
        .await
    }
}

/// The questions about the table.
impl<DB: OutboxDatabase> Table<'_, DB> {
    /// How long until a pending record is due that no live claim covers, or until a live claim runs out, by the
    /// earlier of the two. Zero if a record is due now. `None` if there is neither.
    ///
    /// An idle relay asks nothing else, so this also notices a server that takes no writes, where what is committed
    /// elsewhere never shows.
    pub(crate) async fn next_due(self) -> DbResult<Option<Duration>> {
        let began = Instant::now();
        let next_due = self.rows(&self.statements.next_due, Vec::new()).await?;
        let (wait, read_only): (Option<i64>, bool) =
            next_due.into_iter().next().unwrap_or_default();
        self.pool.found(began, read_only);
        Ok(wait.map(duration))
    }

    /// How long the first record has been due that no live claim covers. `None` if no such record is due.
    pub(crate) async fn overdue(self) -> DbResult<Option<Duration>> {
        let next_due = self.rows(&self.statements.next_due, Vec::new()).await?;
        let (wait, _): (Option<i64>, bool) = next_due.into_iter().next().unwrap_or_default();
        Ok(wait.filter(|wait| *wait < 0).map(|wait| duration(-wait)))
    }

    /// Up to `most` topics that have unroutable records.
    pub(crate) async fn parked_topics(self, most: u32) -> DbResult<Vec<String>> {
        let most = vec![("most", most.into())];
        self.rows(&self.statements.parked_topics, most).await
    }

    /// Up to `most` failed records, oldest first.
    pub(crate) async fn failed(self, most: u32) -> DbResult<Vec<FailedRecord>> {
        let most = vec![("most", most.into())];
        let rows = self
            .rows::<FailedRow>(&self.statements.failed, most)
            .await?;
        Ok(rows.into_iter().map(FailedRecord::from).collect())
    }

    /// Counts what is in the table.
    pub(crate) async fn backlog(self) -> DbResult<Backlog> {
        let (sql, values) = self.statements.backlog.bind(Vec::new())?;
        let rows: Vec<Backlog> = self.pool.count(sql, values).await?;
        rows.into_iter().next().ok_or(sqlx::Error::RowNotFound)
    }

    /// Whether an owner other than this one has a live lease on a record.
    pub(crate) async fn has_other_leases(self) -> DbResult<bool> {
        let owner = vec![("owner", self.owner.into())];
        let rows = self.rows(&self.statements.has_other_leases, owner).await?;
        Ok(rows.into_iter().next().unwrap_or_default())
    }
}

/// How statements are run.
impl<DB: OutboxDatabase> Table<'_, DB> {
    /// Does something within the time limit. If the database does not answer in time, the whole pool is left,
    /// and the next statement gets a new one.
    pub(super) async fn within<T>(self, work: impl Future<Output = DbResult<T>>) -> DbResult<T> {
        self.pool.within(ANSWER, work).await
    }

    /// Runs a statement and returns how many rows it has changed. The victim of a deadlock is sent again.
    pub(super) async fn run(
        self,
        statement: &Statement,
        arguments: Arguments<'_>,
    ) -> DbResult<u64> {
        let (sql, values) = statement.bind(arguments)?;
        let turn = self.pool.writers().our_turn(&mut ()).await;
        self.within(async {
            let mut conn = self.pool.get().acquire().await?;
            let _writing = turn.begun();
            let mut tries = 1;
            loop {
                match DB::run_sql(&mut conn, &sql, &values).await {
                    Err(error) if tries < TRIES && DB::is_deadlock(&error) => tries += 1,
                    done => return done,
                }
            }
        })
        .await
    }

    /// Runs a statement and reads its rows. The victim of a deadlock is sent again.
    pub(super) async fn rows<T: FromRow>(
        self,
        statement: &Statement,
        arguments: Arguments<'_>,
    ) -> DbResult<Vec<T>> {
        let (sql, values) = statement.bind(arguments)?;
        self.within(async {
            let mut conn = self.pool.get().acquire().await?;
            let mut tries = 1;
            loop {
                match read::<DB, T>(&mut conn, &sql, &values).await {
                    Err(error) if tries < TRIES && DB::is_deadlock(&error) => tries += 1,
                    rows => return rows,
                }
            }
        })
        .await
    }

    /// Runs a statement on the records with these keys, as far as they are the owner's.
    async fn owned(
        self,
        statement: &Statement,
        ids: &[RecordId],
        arguments: &[(&'static str, Value<'_>)],
    ) -> DbResult<u64> {
        let owner = ("owner", self.owner.into());
        let arguments: Vec<_> = arguments.iter().cloned().chain([owner]).collect();
        self.by_ids(statement, ids, &arguments).await
    }

    /// Runs a statement on the records with these keys, in as few parts as its list of keys allows. The keys go
    /// in their order, because statements that lock in one order do not deadlock.
    async fn by_ids(
        self,
        statement: &Statement,
        ids: &[RecordId],
        arguments: &[(&'static str, Value<'_>)],
    ) -> DbResult<u64> {
        let mut rows = 0;
        for ids in sorted(ids.iter().map(|id| id.0)).chunks(statement.longest()) {
            let mut all: Arguments<'_> = vec![("ids", ids.into())];
            all.extend_from_slice(arguments);
            rows += self.run(statement, all).await?;
        }
        Ok(rows)
    }

    /// Runs a change of records that the database chooses, in one step or by keys that are read first.
    async fn change(self, change: &Change, arguments: Arguments<'_>) -> DbResult<u64> {
        let Some(find) = &change.find else {
            return self.run(&change.change, arguments).await;
        };
        let keys: Vec<Uuid> = self.rows(find, arguments).await?;
        let keys: Vec<_> = keys.into_iter().map(RecordId).collect();
        self.by_ids(&change.change, &keys, &[]).await
    }
}
