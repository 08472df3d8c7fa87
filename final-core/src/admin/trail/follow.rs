//! Following a message.
//!
//! Input: an id, and the services whose outboxes and letters are looked into. Output: the stations of a [`Trail`].
//!
//! The log has no index of ids, because each INSERT would pay for it. Ids are made in the order of time, and so are
//! sequence numbers. So the rows near the time of the id are looked at, and the newest: a message that was delayed, or
//! replayed, has a row of its own there.

use uuid::Uuid;

use super::{GroupPosition, Station, Trail};
use crate::{
    MessageId, OutboxDatabase,
    admin::{
        Answer, LetterSource, RecordFilter,
        desk::{Desk, doing},
        letters::{LISTED, ListedRow},
        services::ServiceTables,
        walk::{MOST_LOOKED_AT, Walk, WalkEnd, WalkKey, WalkPlace},
    },
    broker::DeadLetterFilter,
    database::{
        DbResult, Value, columns,
        limits::{duration, moment},
    },
    log::Spans,
};

/// How many rows of a long log are looked at in each of the two places.
const NEAR: u64 = MOST_LOOKED_AT / 2;

/// How far the clock of the process that made the id may be ahead of the database's, in microseconds.
const SKEW: i64 = 60 * 1_000_000;

/// How many operations are searched for the id, the latest first.
const OPERATIONS: i64 = 1_000;

columns! {
    /// A row of the log.
    struct LoggedRow {
        seq: i64,
        number: i64,
        topic: String,
        recipient: Option<String>,
        created_at: i64,
    }
}

columns! {
    /// A message that is not due yet.
    struct ScheduledRow {
        topic: String,
        recipient: Option<String>,
        due_at: i64,
        clock: i64,
    }
}

columns! {
    /// The lane of a group that gets a row.
    struct ReadingRow {
        group_name: String,
        read_to: i64,
        open_seqs: String,
        member: Option<Uuid>,
        held: i64,
    }
}

impl<DB: OutboxDatabase> Desk<DB> {
    /// The trail of a message, through these services and the log.
    pub(in crate::admin) async fn follow(
        &self,
        services: &[ServiceTables],
        id: MessageId,
    ) -> Answer<Trail> {
        let followed = self.stations(services, id).await;
        followed.map_err(doing("looking for a message"))
    }

    async fn stations(&self, services: &[ServiceTables], id: MessageId) -> DbResult<Trail> {
        let (mut stations, mut is_complete) = (Vec::new(), true);
        for tables in services.iter().filter(|tables| tables.has_outbox()) {
            let page = self.records(tables, &RecordFilter::all().id(id)).await?;
            is_complete &= !page.stopped && page.next.is_none();
            stations.extend(page.items.into_iter().map(|record| Station::Record {
                service: tables.service.as_str().to_owned(),
                record,
            }));
        }
        let groups = self.group_names().await?;
        if self.has_table("final_log").await? {
            let (scheduled, is_all) = self.scheduled(id).await?;
            stations.extend(scheduled);
            is_complete &= is_all;
            let (logged, is_all) = self.logged(id).await?;
            is_complete &= is_all;
            for row in logged {
                let readings = self.readings(&row).await?;
                stations.push(Station::Logged {
                    seq: row.seq,
                    lane: u32::try_from(row.number).unwrap_or(u32::MAX),
                    topic: row.topic,
                    written_at: moment(row.created_at),
                    recipient: row.recipient,
                });
                stations.extend(readings);
            }
        }
        let letters = DeadLetterFilter::all().id(id);
        let of_log = groups
            .iter()
            .map(|group| (LetterSource::Log, group.as_str()));
        let (mut left, mut dead) = (MOST_LOOKED_AT, Vec::new());
        for (source, service) in of_log {
            let walk = source.walk_all("{dead}".to_owned(), service, &letters);
            dead.push((source, service, walk));
        }
        for tables in services.iter().filter(|tables| tables.has_collected) {
            let source = LetterSource::Collected;
            let walk = source.walk::<DB>(tables, &letters);
            dead.push((source, tables.service.as_str(), walk));
        }
        for (source, service, walk) in dead {
            left = left.max(1);
            let (rows, end) = walk
                .read::<DB, ListedRow>(self, LISTED, 100, &mut left)
                .await?;
            let rows = rows.into_iter();
            stations.extend(rows.map(|row| Station::Dead(row.letter(source, service))));
            is_complete &= end == WalkEnd::Over;
        }
        stations.extend(self.operations_naming(id).await?);
        Ok(Trail {
            id,
            stations,
            is_complete,
        })
    }

    /// The message among those that are not due yet, and whether all of them were looked at.
    async fn scheduled(&self, id: MessageId) -> DbResult<(Vec<Station>, bool)> {
        let walk = by_id("{scheduled}", id);
        let columns = "topic, recipient, due_at, {now} AS clock";
        let mut left = MOST_LOOKED_AT;
        let (rows, end) = walk
            .read::<DB, ScheduledRow>(self, columns, 100, &mut left)
            .await?;
        let station = |row: ScheduledRow| Station::Scheduled {
            topic: row.topic,
            due_at: moment(row.due_at),
            due_in: duration(row.due_at - row.clock),
            recipient: row.recipient,
        };
        Ok((
            rows.into_iter().map(station).collect(),
            end == WalkEnd::Over,
        ))
    }

    /// The rows of the log that hold the message, and whether all rows were looked at.
    async fn logged(&self, id: MessageId) -> DbResult<(Vec<LoggedRow>, bool)> {
        let columns = "seq, CAST(lane AS {int}) AS number, topic, recipient, created_at";
        if self.log_edge(i64::MIN).await?.is_none() {
            let walk = by_id("{log}", id);
            let mut left = MOST_LOOKED_AT * 2;
            let (rows, end) = walk.read(self, columns, 100, &mut left).await?;
            return Ok((rows, end == WalkEnd::Over));
        }
        let newest = "SELECT seq FROM {log} ORDER BY seq DESC LIMIT 1 OFFSET ?";
        let offset = i64::try_from(NEAR).unwrap_or(i64::MAX) - 1;
        let newest: Option<i64> = self.first(newest, &[offset.into()]).await?;
        let newest = newest.unwrap_or(i64::MIN);
        let mut all: Vec<LoggedRow> = Vec::new();
        let mut from = vec![newest];
        if let Some(made_at) = made_at(id) {
            from.insert(0, self.seq_at(made_at.saturating_sub(SKEW)).await?);
        }
        for from in from {
            let mut left = NEAR;
            let walk = Walk {
                after: Some(WalkPlace::of_number(from.saturating_sub(1))),
                ..by_id("{log}", id)
            };
            let (rows, _) = walk
                .read::<DB, LoggedRow>(self, columns, 100, &mut left)
                .await?;
            let is_new = |row: &LoggedRow| all.iter().all(|known| known.seq != row.seq);
            let rows: Vec<LoggedRow> = rows.into_iter().filter(is_new).collect();
            all.extend(rows);
        }
        all.sort_by_key(|row| row.seq);
        Ok((all, false))
    }

    /// The sequence number of about the first row that was written at this moment or later. The rows are nearly in
    /// the order of their times, so the range is halved again and again.
    async fn seq_at(&self, micros: i64) -> DbResult<i64> {
        let range = "SELECT MIN(seq), MAX(seq) FROM {log}";
        let range: Option<(Option<i64>, Option<i64>)> = self.first(range, &[]).await?;
        let Some((Some(mut low), Some(mut high))) = range else {
            return Ok(0);
        };
        while low < high {
            let middle = low + (high - low) / 2;
            let row = "SELECT seq, created_at FROM {log} WHERE seq >= ? ORDER BY seq LIMIT 1";
            let row: Option<(i64, i64)> = self.first(row, &[middle.into()]).await?;
            match row {
                Some((seq, written_at)) if written_at < micros => low = seq + 1,
                _ => high = middle,
            }
        }
        Ok(low)
    }

    /// The groups that get a row, and how far each is with it.
    async fn readings(&self, row: &LoggedRow) -> DbResult<Vec<Station>> {
        let mut readings = "SELECT k.group_name AS group_name, k.read_to AS read_to, k.open_seqs AS open_seqs, \
                k.member AS member, \
                (SELECT COUNT(*) FROM {members} m WHERE m.member = k.member AND m.alive_until > {now}) AS held \
            FROM {topics} t JOIN {lanes} k ON k.group_name = t.group_name AND k.stream = t.stream \
            WHERE t.topic = ? AND t.after_seq < ? AND k.lane = ? AND (k.ends_at IS NULL OR k.ends_at >= ?)"
            .to_owned();
        let mut values: Vec<Value<'_>> = vec![
            row.topic.as_str().into(),
            row.seq.into(),
            row.number.into(),
            row.seq.into(),
        ];
        if let Some(recipient) = &row.recipient {
            readings.push_str(" AND k.group_name = ?");
            values.push(recipient.as_str().into());
        }
        readings.push_str(" ORDER BY k.group_name, k.stream");
        let rows: Vec<ReadingRow> = self.rows(&readings, &values).await?;
        let station = |reading: ReadingRow| {
            let open = Spans::parse(&reading.open_seqs).unwrap_or_default();
            let mut open = open.iter();
            let is_open = open.any(|(first, last)| (first..=last).contains(&row.seq));
            let position = if row.seq > reading.read_to {
                GroupPosition::Waiting {
                    read_to: reading.read_to,
                }
            } else if is_open {
                GroupPosition::Open
            } else {
                GroupPosition::Settled
            };
            Station::Group {
                group: reading.group_name,
                seq: row.seq,
                lane: u32::try_from(row.number).unwrap_or(u32::MAX),
                position,
                member: reading.member.filter(|_| reading.held > 0),
            }
        };
        Ok(rows.into_iter().map(station).collect())
    }

    /// The operations whose filter names the message.
    async fn operations_naming(&self, id: MessageId) -> DbResult<Vec<Station>> {
        if !self.has_table("final_operations").await? {
            return Ok(Vec::new());
        }
        let naming = "SELECT o.id FROM (SELECT id, terms FROM {operations} ORDER BY id DESC LIMIT ?) o \
            WHERE {position}(o.terms, ?) > 0 ORDER BY o.id LIMIT 100";
        let values = [OPERATIONS.into(), id.to_string().into()];
        let ids: Vec<i64> = self.rows(naming, &values).await?;
        let mut stations = Vec::with_capacity(ids.len());
        for id in ids {
            if let Ok(operation) = self.operation(id).await {
                stations.push(Station::Operation(operation));
            }
        }
        Ok(stations)
    }
}

/// A walk along a table of the log for the rows of a message.
fn by_id(table: &str, id: MessageId) -> Walk<'static> {
    Walk {
        table: table.to_owned(),
        key: WalkKey::Number("seq"),
        fixed: ("1 = 1".to_owned(), Vec::new()),
        filter: ("message_id = ?".to_owned(), vec![id.0.into()]),
        after: None,
        up_to: None,
    }
}

/// When an id was made, in microseconds since 1970. `None` if it is not one that tells.
fn made_at(id: MessageId) -> Option<i64> {
    let (seconds, nanos) = id.0.get_timestamp()?.to_unix();
    let seconds = i64::try_from(seconds).ok()?;
    seconds
        .checked_mul(1_000_000)?
        .checked_add(i64::from(nanos / 1_000))
}
