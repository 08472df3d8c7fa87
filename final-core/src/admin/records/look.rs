//! Looking at the records of an outbox.
//!
//! Input: a [`RecordFilter`], and the live claims. Output: records, each with its state. Whether a process has a record
//! in hand is known by its own row or by a claim that covers it.
//!
//! | state | is walked by |
//! | --- | --- |
//! | failed | id; on MySQL, which has no index for that, by the time of the last try |
//! | unroutable | topic, id |
//! | in hand | time; within the claims, and then what has a lease of its own |
//! | pending | time; between the claims |
//! | acked | time |

use uuid::Uuid;

use super::{
    InfoRow, RecordCursor, RecordFilter, RecordInfo, RecordState, WholeRecord, claims::LiveClaim,
    claims::segments, info_columns,
};
use crate::{
    MessageId, OutboxDatabase,
    admin::{
        Page,
        desk::{Desk, table_of},
        services::ServiceTables,
        walk::{MOST_LOOKED_AT, Walk, WalkEnd, WalkKey, WalkPlace},
    },
    database::{DbResult, Dialect, columns, stored::Stored},
};

/// How many records of some ids are looked at.
const MOST_OF_ONE_ID: usize = 10_000;

/// All states, in the order of a list.
const STATES: [RecordState; 5] = [
    RecordState::Failed,
    RecordState::Unroutable,
    RecordState::InHand,
    RecordState::Pending,
    RecordState::Acked,
];

columns! {
    /// What a message is made of, beside its record.
    struct MessageRow {
        topic: Result<String, String>,
        message_key: Result<Option<String>, String>,
        headers: Result<Option<String>, String>,
        payload: Result<Vec<u8>, String>,
        content_type: Result<String, String>,
        durable: Result<bool, String>,
    }
}

impl RecordCursor {
    /// Its place in the walk of its state.
    fn place(&self) -> WalkPlace {
        WalkPlace {
            number: self.number,
            topic: self.topic.clone(),
            id: self.id,
        }
    }
}

impl<DB: OutboxDatabase> Desk<DB> {
    /// A page of records.
    pub(in crate::admin) async fn records(
        &self,
        tables: &ServiceTables,
        filter: &RecordFilter,
    ) -> DbResult<Page<RecordInfo, RecordCursor>> {
        let claims = self.live_claims(tables).await?;
        if filter.words.ids.is_some() {
            return self.records_by_id(tables, filter, &claims).await;
        }
        let clock = self.now().await?;
        let columns = info_columns(DB::DIALECT, tables);
        let (want, mut left) = (filter.page(), MOST_LOOKED_AT);
        let mut page = Page {
            items: Vec::new(),
            next: None,
            stopped: false,
        };
        let start = filter.after.as_ref();
        let is_before = |state: RecordState| start.is_some_and(|start| state < start.state);
        let states = STATES.into_iter().filter(|state| filter.means(*state));
        for state in states.filter(|state| !is_before(*state)) {
            let start = start.filter(|start| start.state == state);
            let start = start.map(RecordCursor::place);
            for segment in segments(state, &claims, clock) {
                let after = start.clone().max(segment.after);
                if let (Some(after), Some(up_to)) = (&after, &segment.up_to)
                    && after >= up_to
                {
                    continue;
                }
                let (mut text, mut values) = filter.condition(DB::DIALECT, tables.has_sent_as());
                if !segment.filter.is_empty() {
                    text = match text.is_empty() {
                        true => segment.filter.to_owned(),
                        false => format!("{text} AND {}", segment.filter),
                    };
                    values.push(Uuid::nil().into());
                }
                let walk = Walk {
                    filter: (text, values),
                    after,
                    up_to: segment.up_to,
                    ..state.walk(DB::DIALECT, tables)
                };
                let missing = want - page.items.len();
                let (rows, end) = walk
                    .read::<DB, InfoRow>(self, &columns, missing, &mut left)
                    .await?;
                page.items.extend(rows.into_iter().map(|row| {
                    let mut info = row.info(&claims);
                    // A process may have taken or settled the record between two statements.
                    info.cursor.state = state;
                    info
                }));
                match end {
                    WalkEnd::Over => {}
                    WalkEnd::Full => {
                        page.next = page.items.last().map(|last| last.cursor.clone());
                        return Ok(page);
                    }
                    WalkEnd::Stopped(WalkPlace { number, topic, id }) => {
                        page.stopped = true;
                        page.next = Some(RecordCursor {
                            state,
                            number,
                            topic,
                            id,
                        });
                        return Ok(page);
                    }
                }
            }
        }
        Ok(page)
    }

    /// The records of messages with the ids of a filter. They are found by the key, and by the index of the ids that
    /// publishers chose. MySQL cannot leave rows out of an index, and an index of all rows would cost each INSERT. So a
    /// part of the table is looked at there.
    async fn records_by_id(
        &self,
        tables: &ServiceTables,
        filter: &RecordFilter,
        claims: &[LiveClaim],
    ) -> DbResult<Page<RecordInfo, RecordCursor>> {
        let columns = info_columns(DB::DIALECT, tables);
        let table = table_of(DB::DIALECT, &tables.service.table());
        let by_column = async |column: &str| {
            let (condition, values) = filter.condition_on(DB::DIALECT, column);
            let rows =
                format!("SELECT {columns} FROM {table} WHERE {condition} LIMIT {MOST_OF_ONE_ID}");
            self.rows::<InfoRow>(&rows, &values).await
        };
        let mut rows = by_column("message_id").await?;
        let mut stopped = false;
        match DB::DIALECT {
            _ if !tables.has_sent_as() => {}
            Dialect::Postgres | Dialect::Sqlite => rows.extend(by_column("sent_as").await?),
            Dialect::MySql => {
                let walk = Walk {
                    table: format!("{table} FORCE INDEX (PRIMARY)"),
                    key: WalkKey::Id,
                    fixed: ("1 = 1".to_owned(), Vec::new()),
                    filter: filter.condition_on(DB::DIALECT, "sent_as"),
                    after: None,
                    up_to: None,
                };
                let mut left = MOST_LOOKED_AT * 10;
                let (found, end) = walk
                    .read::<DB, InfoRow>(self, &columns, MOST_OF_ONE_ID, &mut left)
                    .await?;
                rows.extend(found);
                stopped = matches!(end, WalkEnd::Stopped(_));
            }
        }
        let place = |cursor: &RecordCursor| (cursor.state, cursor.number, cursor.id);
        let is_after = |info: &RecordInfo| {
            let after = filter.after.as_ref();
            after.is_none_or(|after| place(&info.cursor) > place(after))
        };
        let mut items: Vec<RecordInfo> = rows.into_iter().map(|row| row.info(claims)).collect();
        items.retain(|info| filter.means(info.state) && is_after(info));
        items.sort_by_key(|info| place(&info.cursor));
        items.dedup_by_key(|info| info.record_id);
        let more = items.len() > filter.page();
        items.truncate(filter.page());
        let next = items.last().filter(|_| more);
        Ok(Page {
            next: next.map(|last| last.cursor.clone()),
            items,
            stopped,
        })
    }

    /// One record with its message. Of several with one id it is the first one that is listed.
    pub(in crate::admin) async fn record(
        &self,
        tables: &ServiceTables,
        id: MessageId,
    ) -> DbResult<Option<WholeRecord>> {
        let page = self.records(tables, &RecordFilter::all().id(id)).await?;
        let Some(info) = page.items.into_iter().next() else {
            return Ok(None);
        };
        let message = format!(
            "SELECT topic, message_key, headers, payload, content_type, durable FROM {} WHERE message_id = ?",
            table_of(DB::DIALECT, &tables.service.table())
        );
        let row: Option<MessageRow> = self.first(&message, &[info.record_id.into()]).await?;
        let message = row.map(|row| {
            let stored = Stored {
                topic: row.topic?,
                key: row.message_key?,
                headers: row.headers?,
                payload: row.payload?,
                content_type: row.content_type?,
                durable: row.durable?,
            };
            stored.into_message(info.id)
        });
        Ok(message.map(|message| WholeRecord { info, message }))
    }
}
