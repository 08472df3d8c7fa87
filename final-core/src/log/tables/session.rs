//! The connection on which a bus reads the log, and what it has read there.
//!
//! Input: statements of the engine, and the rows it has read. State: the connection, the last commit that proves
//! what the server has, and the rows that were read since. Output: the answers, and on a new connection whether
//! its server still has all of these rows.
//!
//! A server that comes back from a crash without its last commits, or a replica that takes over from it, allocates
//! their sequence numbers again. No connection outlives that. So what a bus knows of the log is true as long as its
//! connection lives, and is compared with the table on the next one.
//!
//! ```text
//!   closed ─ open ─▶ open ─ an error without an answer, a server that takes no writes, other connect options,
//!                     │      or the log's other connections were left ─▶ closed
//!                     │ rows are read: seen
//!                     └ a lane is taken further: proven, nothing seen
//! ```
//!
//! An SQLite file cannot lose commits while its readers live, so there any connection will do.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::{Connection, pool::PoolConnection};
use tokio::sync::watch;
use uuid::Uuid;

use super::dialect::words;
use super::{
    Log, Tx,
    lists::{list, padded},
};
use crate::log::progress::rows::{LaneId, LaneRow};
use crate::{
    OutboxDatabase,
    database::{
        DbResult, FromRow, Value, read,
        renewable::{ANSWER, RenewablePool, is_silence},
        writers::Writing,
    },
};

/// Rows that are remembered until a commit proves them. If there are more, the server counts as having forgotten
/// some.
const MOST_SEEN: usize = 20_000;
/// Rows compared by one statement.
const COMPARED: usize = 512;
/// How long closing the connection may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// One connection at a time, and what is true on it.
pub(crate) struct Session<DB: OutboxDatabase> {
    pub(crate) log: Arc<Log<DB>>,
    pool: RenewablePool<DB>,
    conn: Option<PoolConnection<DB>>,
    /// Whether this pool, or that of the log, was left since the connection was taken.
    left: [watch::Receiver<u64>; 2],
    proof: Option<Proof>,
    /// The messages that were read since that proof, by their sequence numbers.
    seen: HashMap<i64, Uuid>,
}

/// The last commit of this member that took a lane further. A server that still has it has everything that was
/// visible before it, because no server forgets an earlier commit and keeps a later one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Proof {
    pub(crate) lane: LaneId,
    pub(crate) epoch: i64,
    pub(crate) read_to: i64,
}

impl Proof {
    /// Whether these rows show that the commit is still there. A lane that another member has taken further proves
    /// nothing.
    fn is_in(self, rows: &[LaneRow], member: Uuid) -> bool {
        let proves = |row: &LaneRow| {
            let is_ours = row.epoch == self.epoch && row.member == Some(member);
            row.id == self.lane && is_ours && row.read_to >= self.read_to
        };
        rows.iter().any(proves)
    }
}

impl<DB: OutboxDatabase> Session<DB> {
    pub(crate) fn new(log: Arc<Log<DB>>) -> Self {
        let pool = log.single();
        Self {
            left: [pool.times_left(), log.times_left()],
            pool,
            log,
            conn: None,
            proof: None,
            seen: HashMap::new(),
        }
    }

    /// Whether there is a connection to read on. One that is of no more use is given up.
    pub(crate) fn is_open(&mut self) -> bool {
        if words::<DB>().gapless {
            return true;
        }
        // Leaves the pool if the caller's has other connect options.
        self.pool.get();
        let is_left = |left: &watch::Receiver<u64>| left.has_changed().unwrap_or(true);
        if self.left.iter().any(is_left) {
            self.give_up();
        }
        self.conn.is_some()
    }

    /// Takes a connection. Its server may have forgotten rows that the server before it has shown.
    pub(crate) async fn open(&mut self) -> DbResult<()> {
        let pool = self.pool.get();
        for left in &mut self.left {
            left.mark_unchanged();
        }
        self.conn = Some(self.pool.within(ANSWER, pool.acquire()).await?);
        Ok(())
    }

    /// Gives the connection up, so that it is not taken again.
    fn give_up(&mut self) {
        if let Some(mut conn) = self.conn.take() {
            conn.close_on_drop();
        }
    }

    /// Remembers rows that were read and are about to be offered to their lanes.
    pub(crate) fn see(&mut self, rows: impl Iterator<Item = (i64, Uuid)>) {
        if !words::<DB>().gapless && self.seen.len() <= MOST_SEEN {
            self.seen.extend(rows);
        }
    }

    /// A commit has taken a lane further: it proves everything that was read before.
    pub(crate) fn committed(&mut self, proof: Proof) {
        self.proof = Some(proof);
        self.seen.clear();
    }

    /// Forgets the proof and the rows.
    pub(crate) fn forget(&mut self) {
        self.proof = None;
        self.seen.clear();
    }

    /// Whether the server still has everything that was read.
    pub(crate) async fn remembers(&mut self, lanes: &[LaneRow], member: Uuid) -> DbResult<bool> {
        let is_proven = self.proof.is_none_or(|proof| proof.is_in(lanes, member));
        if !is_proven || self.seen.len() > MOST_SEEN {
            return Ok(false);
        }
        let trimmed = self.trimmed().await?;
        let seqs: Vec<i64> = self.seen.keys().copied().collect();
        for seqs in seqs.chunks(COMPARED) {
            let some = padded(seqs);
            let ids = format!(
                "SELECT seq, message_id FROM {{log}} WHERE seq IN ({})",
                list(some.len())
            );
            let values = some.iter().map(|seq| Value::from(*seq)).collect();
            let mut visible = HashMap::new();
            visible.extend(self.rows::<(i64, Uuid)>(&ids, values).await?);
            let is_there = |seq: &i64| *seq <= trimmed || visible.get(seq) == self.seen.get(seq);
            if !seqs.iter().all(is_there) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The sequence number up to which nothing is missing that was not removed.
    pub(crate) async fn trimmed(&mut self) -> DbResult<i64> {
        let trimmed = "SELECT trimmed FROM {state} WHERE id = 1";
        Ok(self.first(trimmed, Vec::new()).await?.unwrap_or_default())
    }

    /// Waits until every visible row is on the disk.
    ///
    /// A server that makes a commit visible before it is on the disk can forget it in a crash, and then allocates its
    /// sequence numbers again. A commit made now comes after all visible ones, and waits for the disk.
    pub(crate) async fn be_sure(&mut self, member: Uuid) -> DbResult<()> {
        if !self.log.ready().await?.shows_early {
            return Ok(());
        }
        let commit = "UPDATE {members} SET alive_until = alive_until + 1 WHERE member = ?";
        match self.run(commit, vec![member.into()]).await? {
            0 => Err(sqlx::Error::Protocol(
                "the bus is not in final_log_members; it joins again with its next lease".into(),
            )),
            _ => Ok(()),
        }
    }

    /// Runs one statement. Returns how many rows it has found.
    pub(crate) async fn run(&mut self, template: &str, values: Vec<Value<'_>>) -> DbResult<u64> {
        if words::<DB>().gapless {
            return self.log.run(template, values).await;
        }
        let ready = self.log.ready().await?;
        let conn = self.conn.as_mut().ok_or_else(closed)?;
        let sql = ready.texts.sql(template);
        let run = DB::run_sql(conn, &sql, &values);
        let done = self.pool.within(ANSWER, run).await;
        self.check(done)
    }

    /// Reads rows.
    pub(crate) async fn rows<T: FromRow>(
        &mut self,
        template: &str,
        values: Vec<Value<'_>>,
    ) -> DbResult<Vec<T>> {
        if words::<DB>().gapless {
            return self.log.rows(template, values).await;
        }
        let ready = self.log.ready().await?;
        let conn = self.conn.as_mut().ok_or_else(closed)?;
        let sql = ready.texts.sql(template);
        let rows = read::<DB, T>(conn, &sql, &values);
        let rows = self.pool.within(ANSWER, rows).await;
        self.check(rows)
    }

    /// Reads the first row, if there is one.
    pub(crate) async fn first<T: FromRow>(
        &mut self,
        template: &str,
        values: Vec<Value<'_>>,
    ) -> DbResult<Option<T>> {
        Ok(self.rows(template, values).await?.into_iter().next())
    }

    /// Begins a transaction. Its errors are to be [checked](Self::check).
    pub(crate) async fn begin(&mut self) -> DbResult<Tx<'_, DB>> {
        if words::<DB>().gapless {
            return self.log.begin().await;
        }
        let ready = self.log.ready().await?;
        let conn = self.conn.as_mut().ok_or_else(closed)?;
        Ok(Tx {
            tx: self
                .pool
                .within(ANSWER, Connection::begin(&mut **conn))
                .await?,
            texts: &ready.texts,
            pool: &self.pool,
            writing: Writing::default(),
        })
    }

    /// Gives the connection up after an error that does not come from the server, because the next answer may come
    /// from another server, and after one that says that this server is of no more use: after a switchover the next
    /// connection goes to the new primary.
    pub(crate) fn check<T>(&mut self, done: DbResult<T>) -> DbResult<T> {
        match &done {
            // The server may still be at it. The pool waits for its answer, and counts the connection until then.
            Err(error) if is_silence(error) => self.conn = None,
            Err(error) if error.as_database_error().is_none() || DB::must_reconnect(error) => {
                self.give_up();
            }
            _ => {}
        }
        done
    }

    /// The server has said whether it takes no writes. If so, this connection and those of the log are left.
    pub(super) fn found(&self, asked: Instant, read_only: bool) {
        self.pool.found(asked, read_only);
        self.log.found(asked, read_only);
    }

    /// Closes the connection.
    pub(crate) async fn close(&mut self) {
        if let Some(conn) = self.conn.take() {
            // If it takes too long, the server finds out by itself.
            let _ = tokio::time::timeout(GOODBYE, conn.close()).await;
        }
    }
}

fn closed() -> sqlx::Error {
    sqlx::Error::Protocol("the connection the log is read on was lost".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_that_another_has_taken_further_proves_nothing() {
        let (us, another) = (Uuid::now_v7(), Uuid::now_v7());
        let lane = LaneId { stream: 0, lane: 3 };
        let row = |member, epoch, read_to| LaneRow {
            id: lane,
            member: Some(member),
            is_held: true,
            epoch,
            read_to,
            settled_to: 0,
            open: None,
            ends_at: None,
        };
        let (epoch, read_to) = (7, 100);
        let proof = Proof {
            lane,
            epoch,
            read_to,
        };

        assert!(proof.is_in(&[row(us, 7, 100)], us));
        assert!(!proof.is_in(&[row(us, 7, 99)], us), "forgotten");
        assert!(!proof.is_in(&[row(another, 8, 150)], us));
        assert!(!proof.is_in(&[row(us, 9, 150)], us), "ours again since");
    }
}
