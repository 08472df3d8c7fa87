//! Dead letters of a service: those of the log, and those collected from its broker, in one list.
//!
//! Input: a [`DeadLetterFilter`](crate::broker::DeadLetterFilter). Output: a page of [`Letter`]s, without payloads;
//! or [`WholeLetter`]s.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use uuid::Uuid;

use super::{
    Count, DeadCount, Page,
    desk::{Desk, table_of},
    services::ServiceTables,
    walk::{MOST_LOOKED_AT, Walk, WalkEnd, WalkKey, WalkPlace},
};
use crate::{
    Message, MessageId, OutboxDatabase,
    broker::{DeadLetterFilter, LetterCursor},
    database::{
        DbResult, Driver, Value, columns,
        limits::{duration, moment},
        stored::Stored,
    },
};

/// How many letters a page has, unless the filter says something else, and how many at most.
const USUAL: u32 = 100;
const MOST: u32 = 1_000;

/// How many letters a page with payloads has at most.
const MOST_WHOLE: u32 = 100;

/// How many bytes the messages of such a page have before its last letter.
const MOST_BYTES: usize = 16 * 1024 * 1024;

/// Where a dead letter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum LetterSource {
    /// In the log's own table.
    Log,
    /// In the table of letters that were collected from the service's broker.
    Collected,
}

/// `log`, or `broker`.
impl fmt::Display for LetterSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Log => "log",
            Self::Collected => "broker",
        })
    }
}

/// A dead letter, without its payload and headers.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Letter {
    /// Its place in the list, to go on after it and to show it.
    pub cursor: LetterCursor,
    /// Where it is.
    pub source: LetterSource,
    /// The service that could not handle it.
    pub service: String,
    /// The message's id.
    pub id: MessageId,
    /// The topic it was published to.
    pub topic: String,
    /// The message's key.
    pub key: Option<String>,
    /// What went wrong.
    pub reason: String,
    /// How often the handler was tried.
    pub attempts: u32,
    /// When it died, by the database's clock.
    pub died_at: SystemTime,
    /// How long it has been dead.
    pub age: Duration,
}

/// A dead letter with its message.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WholeLetter {
    /// Everything but headers and payload.
    pub letter: Letter,
    /// The message, or the reason why what is stored cannot be read as one.
    pub message: Result<Message, String>,
}

columns! {
    /// A letter without its message.
    pub(super) struct ListedRow {
        pub(super) seq: i64,
        message_id: Uuid,
        topic: String,
        message_key: Option<String>,
        reason: String,
        attempts: i64,
        died_at: i64,
        clock: i64,
    }
}

/// The columns of a [`ListedRow`].
pub(super) const LISTED: &str =
    "seq, message_id, topic, message_key, reason, attempts, died_at, {now} AS clock";

columns! {
    /// The message of a letter. What the log has no column for is NULL there.
    struct LetterMessage {
        topic: String,
        message_key: Option<String>,
        headers: Option<String>,
        payload: Vec<u8>,
        content_type: String,
        is_durable: i64,
        content_encoding: Option<String>,
        problem: Option<String>,
    }
}

impl ListedRow {
    pub(super) fn letter(self, source: LetterSource, service: &str) -> Letter {
        Letter {
            cursor: source.cursor(self.seq),
            source,
            service: service.to_owned(),
            id: MessageId(self.message_id),
            topic: self.topic,
            key: self.message_key,
            reason: self.reason,
            attempts: u32::try_from(self.attempts).unwrap_or(0),
            died_at: moment(self.died_at),
            age: duration(self.clock - self.died_at),
        }
    }
}

impl LetterMessage {
    fn message(self, id: MessageId) -> Result<Message, String> {
        if let Some(problem) = self.problem {
            return Err(problem);
        }
        let stored = Stored {
            topic: self.topic,
            key: self.message_key,
            headers: self.headers,
            payload: self.payload,
            content_type: self.content_type,
            durable: self.is_durable != 0,
        };
        let message = stored.into_message(id)?;
        Ok(match self.content_encoding {
            Some(encoding) => message.with_content_encoding(encoding),
            None => message,
        })
    }
}

impl LetterSource {
    pub(super) const ALL: [Self; 2] = [Self::Log, Self::Collected];

    fn of(cursor: &LetterCursor) -> Self {
        match cursor.is_collected {
            true => Self::Collected,
            false => Self::Log,
        }
    }

    pub(super) fn cursor(self, number: i64) -> LetterCursor {
        match self {
            Self::Log => LetterCursor::own(number),
            Self::Collected => LetterCursor::collected(number),
        }
    }

    /// Whether the service has a table of such letters.
    pub(super) fn is_in(self, tables: &ServiceTables) -> bool {
        match self {
            Self::Log => tables.is_group,
            Self::Collected => tables.has_collected,
        }
    }

    /// The table, as a template.
    pub(super) fn table<DB: Driver>(self, tables: &ServiceTables) -> String {
        match self {
            Self::Log => "{dead}".to_owned(),
            Self::Collected => table_of(DB::DIALECT, &tables.service.letters_table()),
        }
    }

    /// The condition that a row of the table is one of the service's letters.
    pub(super) fn owned<'a>(self, service: &'a str) -> (String, Vec<Value<'a>>) {
        match self {
            Self::Log => ("group_name = ?".to_owned(), vec![service.into()]),
            Self::Collected => ("1 = 1".to_owned(), Vec::new()),
        }
    }

    /// A walk along the letters that a filter means.
    pub(super) fn walk<'a, DB: Driver>(
        self,
        tables: &'a ServiceTables,
        filter: &'a DeadLetterFilter,
    ) -> Walk<'a> {
        self.walk_all(self.table::<DB>(tables), tables.service.as_str(), filter)
    }

    /// The same along a table by its name.
    pub(super) fn walk_all<'a>(
        self,
        table: String,
        service: &'a str,
        filter: &'a DeadLetterFilter,
    ) -> Walk<'a> {
        let (filtered, values) = filter.conditions();
        let after = filter.after.filter(|after| Self::of(after) == self);
        Walk {
            table,
            key: WalkKey::Number("seq"),
            fixed: self.owned(service),
            filter: (filtered.trim_start_matches(" AND ").to_owned(), values),
            after: after.map(|after| WalkPlace::of_number(after.number)),
            up_to: None,
        }
    }
}

impl<DB: OutboxDatabase> Desk<DB> {
    /// A page of letters.
    pub(super) async fn letters(
        &self,
        tables: &ServiceTables,
        filter: &DeadLetterFilter,
        most: u32,
    ) -> DbResult<Page<Letter, LetterCursor>> {
        let want = filter.words.limit.unwrap_or(USUAL).clamp(1, most) as usize;
        let mut left = MOST_LOOKED_AT;
        let mut page = Page {
            items: Vec::new(),
            next: None,
            stopped: false,
        };
        let first = filter.after.as_ref().map(LetterSource::of);
        let sources = LetterSource::ALL.into_iter();
        let sources = sources.filter(|source| Some(*source) >= first && source.is_in(tables));
        for source in sources {
            let missing = want - page.items.len();
            let walk = source.walk::<DB>(tables, filter);
            let (rows, end) = walk
                .read::<DB, ListedRow>(self, LISTED, missing, &mut left)
                .await?;
            let service = tables.service.as_str();
            page.items
                .extend(rows.into_iter().map(|row| row.letter(source, service)));
            match end {
                WalkEnd::Over => {}
                WalkEnd::Full => {
                    page.next = page.items.last().map(|last| last.cursor);
                    return Ok(page);
                }
                WalkEnd::Stopped(place) => {
                    page.stopped = true;
                    page.next = Some(source.cursor(place.number));
                    return Ok(page);
                }
            }
        }
        Ok(page)
    }

    /// One letter with its message.
    pub(super) async fn letter(
        &self,
        tables: &ServiceTables,
        cursor: &LetterCursor,
    ) -> DbResult<Option<WholeLetter>> {
        let source = LetterSource::of(cursor);
        if !source.is_in(tables) {
            return Ok(None);
        }
        let service = tables.service.as_str();
        let (owned, mut values) = source.owned(service);
        values.push(cursor.number.into());
        let from = format!(
            "FROM {} WHERE {owned} AND seq = ?",
            source.table::<DB>(tables)
        );
        let listed = format!("SELECT {LISTED} {from}");
        let Some(listed) = self.first::<ListedRow>(&listed, &values).await? else {
            return Ok(None);
        };
        let others = match source {
            LetterSource::Log => "NULL AS content_encoding, NULL AS problem",
            LetterSource::Collected => "content_encoding, problem",
        };
        let message = format!(
            "SELECT topic, message_key, headers, payload, content_type, CAST(durable AS {{int}}) AS is_durable, \
                 {others} {from}"
        );
        let message = self.first::<LetterMessage>(&message, &values).await?;
        let letter = listed.letter(source, service);
        Ok(message.map(|message| WholeLetter {
            message: message.message(letter.id),
            letter,
        }))
    }

    /// A page of letters with their messages.
    pub(super) async fn whole_letters(
        &self,
        tables: &ServiceTables,
        filter: &DeadLetterFilter,
    ) -> DbResult<Page<WholeLetter, LetterCursor>> {
        let page = self.letters(tables, filter, MOST_WHOLE).await?;
        let (mut items, mut bytes) = (Vec::with_capacity(page.items.len()), 0);
        for Letter { cursor, .. } in &page.items {
            // A letter that was taken meanwhile is left out.
            let Some(whole) = self.letter(tables, cursor).await? else {
                continue;
            };
            bytes += whole.message.as_ref().map_or(0, weight);
            items.push(whole);
            if bytes >= MOST_BYTES {
                return Ok(Page {
                    items,
                    next: Some(*cursor),
                    stopped: false,
                });
            }
        }
        Ok(Page {
            items,
            next: page.next,
            stopped: page.stopped,
        })
    }

    /// How many letters there are in each table that has some, and how old the oldest is.
    pub(super) async fn dead_counts(&self, tables: &ServiceTables) -> DbResult<Vec<DeadCount>> {
        let (all, mut counts) = (DeadLetterFilter::all(), Vec::new());
        for source in LetterSource::ALL
            .into_iter()
            .filter(|source| source.is_in(tables))
        {
            let count = source.walk::<DB>(tables, &all).count(self, &mut 0).await?;
            if count.is_zero() {
                continue;
            }
            let (owned, mut values) = source.owned(tables.service.as_str());
            values.push(i64::try_from(Count::MOST).unwrap_or(i64::MAX).into());
            let oldest = format!(
                "SELECT {{now}} - MIN(d.died_at) FROM \
                     (SELECT died_at FROM {} WHERE {owned} ORDER BY seq LIMIT ?) d",
                source.table::<DB>(tables)
            );
            let oldest: Option<Option<i64>> = self.first(&oldest, &values).await?;
            counts.push(DeadCount {
                source,
                count,
                oldest: oldest.flatten().map(duration),
            });
        }
        Ok(counts)
    }
}

/// How many bytes a message has, nearly.
fn weight(message: &Message) -> usize {
    let headers = message.headers().iter();
    let headers = headers.map(|(name, value)| name.len() + value.len());
    message.payload().len() + headers.sum::<usize>()
}

/// How many letters a page has at most.
pub(super) const MOST_LISTED: u32 = MOST;
