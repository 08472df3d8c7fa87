//! Looks on at what is written to the log, without being a group.
//!
//! Input: topics. State: how far the log was read, and the sequence numbers below that were not visible yet. Output:
//! messages in the order in which they become visible. Nothing is written, and no lane is taken.
//!
//! ```text
//!   end of the log ─▶ page ─▶ rows above ──────────────▶ entries
//!                       └──▶ numbers that are missing ─ looked for, for a minute ─▶ entries
//! ```

use std::{
    collections::VecDeque,
    fmt,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use sqlx::Pool;

use super::{AdminError, Answer};
use crate::{
    Error, Message, MessageId, OutboxDatabase,
    database::DbResult,
    log::{
        progress::rows::{ALL_LANES, LogRow, RowFilter},
        tables::{Log, session::Session},
    },
};

/// Rows of one page.
const PAGE: usize = 200;

/// How many bytes the messages of one call have before its last one.
const MOST_BYTES: i64 = 16 * 1024 * 1024;

/// How long a missing sequence number is looked for: a transaction that is open for longer is not shown.
const PATIENCE: Duration = Duration::from_secs(60);

/// Missing sequence numbers that are looked for at most. The oldest are given up first.
const MOST_MISSING: usize = 500;

/// What is written to the log for some topics, from the moment on at which it was [opened](LogTail::open).
pub struct LogTail<DB: OutboxDatabase> {
    session: Session<DB>,
    topics: Vec<Arc<str>>,
    read_to: i64,
    /// Below `read_to`, in order, each with the time at which it is given up.
    missing: VecDeque<(i64, Instant)>,
}

/// A message of the log.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LogEntry {
    /// Its sequence number.
    pub seq: i64,
    /// Its id.
    pub id: MessageId,
    /// Its topic.
    pub topic: String,
    /// When it was written, by the database's clock.
    pub written_at: SystemTime,
    /// The only group that gets it; `None` if every group does.
    pub recipient: Option<String>,
    /// The message, or the reason why the row cannot be read as one.
    pub message: Result<Message, String>,
}

impl<DB: OutboxDatabase> LogTail<DB> {
    /// Looks on at what is written to the log of this database from now on, for these topics. It reads on a connection
    /// of its own, made with the connect options of the pool.
    ///
    /// # Errors
    ///
    /// Fails if the database does, or if it has no log.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing behind.
    pub async fn open<T: AsRef<str>>(
        pool: Pool<DB>,
        topics: impl IntoIterator<Item = T>,
    ) -> Answer<Self> {
        let topics = topics
            .into_iter()
            .map(|topic| topic.as_ref().into())
            .collect();
        let mut session = Session::new(Arc::new(Log::new(pool)));
        let end = async {
            session.open().await?;
            let end = "SELECT seq FROM {log} ORDER BY seq DESC LIMIT 1";
            session.first::<i64>(end, Vec::new()).await
        };
        let read_to = end
            .await
            .map_err(|error| failed::<DB>(error))?
            .unwrap_or_default();
        Ok(Self {
            session,
            topics,
            read_to,
            missing: VecDeque::new(),
        })
    }

    /// What has become visible since the last call: 700 messages at most, and as many as have 16 MiB together; none if
    /// there is nothing new. Ask again a moment later.
    ///
    /// # Errors
    ///
    /// Fails if the database does. The next call goes on.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no message.
    pub async fn next(&mut self) -> Answer<Vec<LogEntry>> {
        self.read().await.map_err(|error| failed::<DB>(error))
    }

    async fn read(&mut self) -> DbResult<Vec<LogEntry>> {
        if !self.session.is_open() {
            self.session.open().await?;
        }
        let filter = RowFilter {
            topics: &self.topics,
            lanes: ALL_LANES,
        };
        let missing: Vec<i64> = self
            .missing
            .iter()
            .take(MOST_MISSING)
            .map(|(seq, _)| *seq)
            .collect();
        let mut late = self.session.pick(&missing, &filter).await?;
        let mut page = self
            .session
            .page(self.read_to, i64::MAX, PAGE, &filter)
            .await?;
        let mut payloads = Vec::with_capacity(late.len() + page.len());
        let mut bytes = 0_i64;
        for row in late.iter().chain(&page) {
            if bytes >= MOST_BYTES {
                break;
            }
            let is_ours = self.topics.contains(&row.topic);
            if is_ours {
                bytes = bytes.saturating_add(row.weight);
            }
            payloads.push(match is_ours && row.is_heavy() {
                true => self.session.payload(row.seq, row.id()).await?,
                false => None,
            });
        }
        let rest = late.split_off(payloads.len().min(late.len()));
        page.truncate(payloads.len() - late.len());
        // From here on nothing fails and nothing waits, so that a dropped future has changed nothing.
        self.note(&late, &rest, &page);
        let rows = late.into_iter().chain(page).zip(payloads);
        let ours = rows.filter(|(row, _)| self.topics.contains(&row.topic));
        Ok(ours.map(entry).collect())
    }

    /// Notes which sequence numbers were found late, which of those are left for the next call, and which are missing
    /// in the page.
    fn note(&mut self, late: &[LogRow], rest: &[LogRow], page: &[LogRow]) {
        let now = Instant::now();
        let is_in = |rows: &[LogRow], seq: i64| {
            let found = rows.binary_search_by_key(&seq, |row| row.seq);
            found.is_ok()
        };
        self.missing
            .retain(|(seq, until)| !is_in(late, *seq) && (*until > now || is_in(rest, *seq)));
        for row in page {
            // Of a large hole the newest numbers are the ones that an open transaction may still have.
            let first = (self.read_to + 1).max(row.seq.saturating_sub(MOST_MISSING as i64));
            self.missing
                .extend((first..row.seq).map(|seq| (seq, now + PATIENCE)));
            self.read_to = row.seq;
        }
        let surplus = self.missing.len().saturating_sub(MOST_MISSING);
        self.missing.drain(..surplus);
    }
}

impl<DB: OutboxDatabase> fmt::Debug for LogTail<DB> {
    /// Without the session: its pool's options hold the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogTail")
            .field("topics", &self.topics)
            .field("read_to", &self.read_to)
            .finish_non_exhaustive()
    }
}

fn entry((mut row, payload): (LogRow, Option<Vec<u8>>)) -> LogEntry {
    if let Some(payload) = payload {
        row.payload = Some(payload);
    }
    let since = Duration::from_micros(row.written_at.unsigned_abs());
    let was_removed = row.is_heavy();
    LogEntry {
        seq: row.seq,
        id: row.rest.id,
        topic: row.topic.as_ref().to_owned(),
        written_at: SystemTime::UNIX_EPOCH + since,
        recipient: row.recipient.clone(),
        message: match was_removed {
            true => Err("it was removed before its payload could be read".to_owned()),
            false => row.into_message(),
        },
    }
}

fn failed<DB: OutboxDatabase>(error: sqlx::Error) -> AdminError {
    AdminError::Bus(match DB::is_missing_table(&error, "final_log") {
        true => Error::MissingTable {
            table: "final_log".to_owned(),
        },
        false => Error::database("reading the log")(error),
    })
}
