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

use super::{RecordCursor, RecordFilter, RecordInfo, RecordState, WholeRecord};
use crate::{
    MessageId, OutboxDatabase,
    admin::{
        Page,
        desk::{Desk, micros_of, table_of, time_of},
        services::ServiceTables,
        walk::{MOST_LOOKED_AT, Walk, WalkEnd, WalkKey, WalkPlace},
    },
    database::{
        DbResult, Dialect, Value, columns,
        limits::{duration, micros, moment, since_1970},
        stored::Stored,
    },
};

/// How many records a page has, unless the filter says something else, and how many at most.
const USUAL: u32 = 100;
const MOST: u32 = 1_000;

/// How many live claims are looked at.
const MOST_CLAIMS: i64 = 1_000;

/// How many claims are looked at whose process is gone.
const ENDED_CLAIMS: i64 = 64;

/// All states, in the order of a list.
const STATES: [RecordState; 5] = [
    RecordState::Failed,
    RecordState::Unroutable,
    RecordState::InHand,
    RecordState::Pending,
    RecordState::Acked,
];

columns! {
    /// A record without its message.
    pub(in crate::admin) struct InfoRow {
        message_id: Uuid,
        topic: Result<String, String>,
        message_key: Result<Option<String>, String>,
        status: i64,
        attempts: i64,
        last_error: Result<Option<String>, String>,
        written_at: i64,
        due_at: i64,
        available_at: i64,
        claimed_by: Option<Uuid>,
        expires_at: Option<i64>,
        sent_at: Option<i64>,
        acked_at: Option<i64>,
        clock: i64,
    }
}

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

columns! {
    /// A live claim.
    pub(in crate::admin) struct LiveClaim {
        pub(in crate::admin) owner: Uuid,
        live_until: i64,
        first_at: i64,
        first_id: Uuid,
        last_at: i64,
        last_id: Uuid,
        clock: i64,
    }
}

impl LiveClaim {
    fn first(&self) -> WalkPlace {
        WalkPlace::of_time(self.first_at, self.first_id)
    }

    pub(in crate::admin) fn last(&self) -> WalkPlace {
        WalkPlace::of_time(self.last_at, self.last_id)
    }

    /// The place right before its first record.
    pub(in crate::admin) fn before_first(&self) -> WalkPlace {
        match self.first_id.as_u128().checked_sub(1) {
            Some(id) => WalkPlace::of_time(self.first_at, Uuid::from_u128(id)),
            None => WalkPlace::of_time(self.first_at - 1, Uuid::max()),
        }
    }

    /// How long its lease lasts, in microseconds.
    pub(in crate::admin) fn left(&self) -> i64 {
        self.live_until - self.clock
    }

    pub(in crate::admin) fn overlaps(&self, other: &Self) -> bool {
        self.first() <= other.last() && other.first() <= self.last()
    }

    fn covers(&self, place: &WalkPlace) -> bool {
        self.first() <= *place && *place <= self.last()
    }
}

impl InfoRow {
    /// The last error.
    pub(in crate::admin) fn error(self) -> Option<String> {
        self.last_error.unwrap_or_else(Some)
    }

    /// The record, with what the claims say about it.
    pub(in crate::admin) fn info(self, claims: &[LiveClaim]) -> RecordInfo {
        let row = self;
        let id = row.message_id;
        let place = WalkPlace::of_time(row.available_at, id);
        let owner = row.claimed_by.filter(|owner| !owner.is_nil());
        let own = owner.filter(|_| row.available_at > row.clock);
        let own = own.map(|owner| (owner, row.available_at - row.clock));
        let claim = || claims.iter().find(|claim| claim.covers(&place));
        let lease = own.or_else(|| claim().map(|claim| (claim.owner, claim.left())));
        let (state, lease) = match row.status {
            0 if lease.is_some() => (RecordState::InHand, lease),
            0 => (RecordState::Pending, None),
            1 => (RecordState::Unroutable, None),
            2 => (RecordState::Acked, None),
            _ => (RecordState::Failed, None),
        };
        let readable = |text: Result<String, String>| {
            text.unwrap_or_else(|why| format!("(cannot be read: {why})"))
        };
        let topic = readable(row.topic);
        RecordInfo {
            cursor: RecordCursor {
                state,
                number: match state {
                    RecordState::Acked => row.acked_at.unwrap_or(row.available_at),
                    _ => row.available_at,
                },
                topic: topic.clone(),
                id,
            },
            id: MessageId(id),
            topic,
            key: row
                .message_key
                .unwrap_or_else(|why| Some(format!("(cannot be read: {why})"))),
            state,
            attempts: u32::try_from(row.attempts).unwrap_or(0),
            error: row
                .last_error
                .unwrap_or_else(|why| Some(format!("(cannot be read: {why})"))),
            written_at: moment(row.written_at),
            age: duration(row.clock - row.written_at),
            due_at: moment(row.due_at),
            available_at: moment(row.available_at),
            available_in: Some(row.available_at - row.clock)
                .filter(|wait| *wait > 0)
                .map(duration),
            expires_at: row.expires_at.map(moment),
            answered_at: row.sent_at.map(moment),
            acked_at: row.acked_at.map(moment),
            owner: lease.map(|(owner, _)| owner),
            lease_left: lease.map(|(_, left)| duration(left)),
        }
    }
}

impl RecordState {
    /// The status of its row.
    pub(in crate::admin) fn status(self) -> i64 {
        match self {
            Self::InHand | Self::Pending => 0,
            Self::Unroutable => 1,
            Self::Acked => 2,
            Self::Failed => 3,
        }
    }

    /// The index that records of this state are walked by.
    pub(in crate::admin) fn key(self, dialect: Dialect) -> WalkKey {
        match (self, dialect) {
            (Self::Unroutable, _) => WalkKey::Topic,
            (Self::Failed, Dialect::Postgres | Dialect::Sqlite) => WalkKey::Id,
            (Self::Acked, Dialect::Postgres | Dialect::Sqlite) => WalkKey::Time("acked_at"),
            // There an acked record has the time of its ack in this column as well.
            _ => WalkKey::Time("available_at"),
        }
    }

    /// A walk along all records of this state, but for claims.
    pub(in crate::admin) fn walk<'a>(self, dialect: Dialect, tables: &ServiceTables) -> Walk<'a> {
        let key = self.key(dialect);
        let index = match key {
            WalkKey::Topic => "parked",
            _ => "due",
        };
        let table = table_of(dialect, &tables.service.table());
        Walk {
            table: match dialect {
                Dialect::MySql => format!("{table} FORCE INDEX ({})", tables.service.short(index)),
                Dialect::Postgres | Dialect::Sqlite => table,
            },
            key,
            fixed: (format!("status = {}", self.status()), Vec::new()),
            filter: (String::new(), Vec::new()),
            after: None,
            up_to: None,
        }
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

impl RecordFilter {
    /// How many records a page has.
    fn page(&self) -> usize {
        self.limit.unwrap_or(USUAL).clamp(1, MOST) as usize
    }

    /// Whether records of this state are meant.
    fn means(&self, state: RecordState) -> bool {
        self.states.is_empty() || self.states.contains(&state)
    }

    /// The condition of everything but the state and the place.
    pub(in crate::admin) fn condition(&self, dialect: Dialect) -> (String, Vec<Value<'_>>) {
        let (mut parts, mut values) = (Vec::new(), Vec::new());
        if let Some(topic) = &self.topic {
            parts.push("topic = ?".to_owned());
            values.push(topic.as_str().into());
        }
        if let Some(key) = &self.key {
            parts.push("message_key = ?".to_owned());
            values.push(key.as_str().into());
        }
        if let Some(reason) = &self.reason {
            parts.push("{position}(last_error, ?) > 0".to_owned());
            values.push(reason.as_str().into());
        }
        if let Some(age) = self.older_than {
            parts.push(format!("created_at <= {}", time_of(dialect, "({now} - ?)")));
            values.push(micros(age).into());
        }
        if let Some(before) = self.before {
            parts.push(format!("created_at <= {}", time_of(dialect, "?")));
            values.push(since_1970(before).into());
        }
        if let Some(ids) = &self.ids {
            if ids.is_empty() {
                parts.push("1 = 0".to_owned());
            } else {
                let list = vec!["?"; ids.len()].join(", ");
                parts.push(format!("message_id IN ({list})"));
                values.extend(ids.iter().map(|id| Value::from(id.0)));
            }
        }
        (parts.join(" AND "), values)
    }
}

/// The columns of an [`InfoRow`].
pub(in crate::admin) fn info_columns(dialect: Dialect) -> String {
    let time = |column: &str| format!("{} AS {column}", micros_of(dialect, column));
    format!(
        "message_id, topic, message_key, CAST(status AS {{int}}) AS status, \
         CAST(attempts AS {{int}}) AS attempts, last_error, {} AS written_at, {}, {}, claimed_by, {}, {}, {}, \
         {{now}} AS clock",
        micros_of(dialect, "created_at"),
        time("due_at"),
        time("available_at"),
        time("expires_at"),
        time("sent_at"),
        time("acked_at"),
    )
}

/// A part of the records of a state, between two places.
struct Segment {
    after: Option<WalkPlace>,
    up_to: Option<WalkPlace>,
    /// A condition for all its records; empty if there is none.
    filter: &'static str,
}

/// What has a lease of its own, in the row. The parameter is the id of zeros, which MySQL has for no owner.
const LEASED: &str = "claimed_by <> ? AND available_at > {clock}";
const NOT_LEASED: &str = "(claimed_by IS NULL OR claimed_by = ? OR available_at <= {clock})";

/// The parts in which records of a state are found.
fn segments(state: RecordState, claims: &[LiveClaim], clock: i64) -> Vec<Segment> {
    let whole = |filter| Segment {
        after: None,
        up_to: None,
        filter,
    };
    let mut all = Vec::new();
    // Claims overlap if the database's clock went back, so each begins where the ones before it have ended.
    let mut end: Option<WalkPlace> = None;
    match state {
        RecordState::InHand => {
            for claim in claims {
                let begin = claim.before_first();
                let after = end.clone().map_or(begin.clone(), |end| end.max(begin));
                if after < claim.last() {
                    end = Some(claim.last());
                    all.push(Segment {
                        after: Some(after),
                        up_to: end.clone(),
                        filter: "",
                    });
                }
            }
            let now = WalkPlace::of_time(clock, Uuid::nil());
            all.push(Segment {
                after: Some(end.map_or(now.clone(), |end| end.max(now))),
                up_to: None,
                filter: LEASED,
            });
        }
        RecordState::Pending => {
            for claim in claims {
                let up_to = claim.before_first();
                if end.as_ref().is_none_or(|end| *end < up_to) {
                    all.push(Segment {
                        after: end.clone(),
                        up_to: Some(up_to),
                        filter: NOT_LEASED,
                    });
                }
                end = end.max(Some(claim.last()));
            }
            all.push(Segment {
                after: end,
                ..whole(NOT_LEASED)
            });
        }
        _ => all.push(whole("")),
    }
    all
}

impl<DB: OutboxDatabase> Desk<DB> {
    /// The live claims on the records of a service, in the order of the records.
    pub(in crate::admin) async fn live_claims(
        &self,
        tables: &ServiceTables,
    ) -> DbResult<Vec<LiveClaim>> {
        self.claims(tables, "live_until > {clock}", MOST_CLAIMS)
            .await
    }

    /// The latest claims whose process did not finish them before their lease was over.
    pub(in crate::admin) async fn ended_claims(
        &self,
        tables: &ServiceTables,
    ) -> DbResult<Vec<LiveClaim>> {
        // A claim that was finished has ended in 1970.
        let ended = format!(
            "live_until <= {{clock}} AND live_until > {}",
            time_of(DB::DIALECT, "31536000000000")
        );
        self.claims(tables, &ended, ENDED_CLAIMS).await
    }

    async fn claims(
        &self,
        tables: &ServiceTables,
        condition: &str,
        most: i64,
    ) -> DbResult<Vec<LiveClaim>> {
        if !tables.has_claims {
            return Ok(Vec::new());
        }
        let claims = format!(
            "SELECT owner, {} AS live_until, {} AS first_at, first_id, {} AS last_at, last_id, {{now}} AS clock \
             FROM {} WHERE {condition} ORDER BY number DESC LIMIT ?",
            micros_of(DB::DIALECT, "live_until"),
            micros_of(DB::DIALECT, "first_at"),
            micros_of(DB::DIALECT, "last_at"),
            table_of(DB::DIALECT, &tables.service.claims_table()),
        );
        let mut claims: Vec<LiveClaim> = self.rows(&claims, &[most.into()]).await?;
        claims.sort_by_key(LiveClaim::first);
        Ok(claims)
    }

    /// A page of records.
    pub(in crate::admin) async fn records(
        &self,
        tables: &ServiceTables,
        filter: &RecordFilter,
    ) -> DbResult<Page<RecordInfo, RecordCursor>> {
        let claims = self.live_claims(tables).await?;
        if filter.ids.is_some() {
            return self.records_by_id(tables, filter, &claims).await;
        }
        let clock = self.now().await?;
        let columns = info_columns(DB::DIALECT);
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
                let (mut text, mut values) = filter.condition(DB::DIALECT);
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

    /// The records with the ids of a filter, which are found by the key.
    async fn records_by_id(
        &self,
        tables: &ServiceTables,
        filter: &RecordFilter,
        claims: &[LiveClaim],
    ) -> DbResult<Page<RecordInfo, RecordCursor>> {
        let (condition, values) = filter.condition(DB::DIALECT);
        let rows = format!(
            "SELECT {} FROM {} WHERE {condition}",
            info_columns(DB::DIALECT),
            table_of(DB::DIALECT, &tables.service.table())
        );
        let rows: Vec<InfoRow> = self.rows(&rows, &values).await?;
        let place = |cursor: &RecordCursor| (cursor.state, cursor.number, cursor.id);
        let is_after = |info: &RecordInfo| {
            let after = filter.after.as_ref();
            after.is_none_or(|after| place(&info.cursor) > place(after))
        };
        let mut items: Vec<RecordInfo> = rows.into_iter().map(|row| row.info(claims)).collect();
        items.retain(|info| filter.means(info.state) && is_after(info));
        items.sort_by_key(|info| place(&info.cursor));
        let more = items.len() > filter.page();
        items.truncate(filter.page());
        let next = items.last().filter(|_| more);
        Ok(Page {
            next: next.map(|last| last.cursor.clone()),
            items,
            stopped: false,
        })
    }

    /// One record, by its key.
    pub(in crate::admin) async fn record_info(
        &self,
        tables: &ServiceTables,
        id: MessageId,
    ) -> DbResult<Option<RecordInfo>> {
        let page = self.records(tables, &RecordFilter::all().id(id)).await?;
        Ok(page.items.into_iter().next())
    }

    /// One record with its message.
    pub(in crate::admin) async fn record(
        &self,
        tables: &ServiceTables,
        id: MessageId,
    ) -> DbResult<Option<WholeRecord>> {
        let Some(info) = self.record_info(tables, id).await? else {
            return Ok(None);
        };
        let message = format!(
            "SELECT topic, message_key, headers, payload, content_type, durable FROM {} WHERE message_id = ?",
            table_of(DB::DIALECT, &tables.service.table())
        );
        let row: Option<MessageRow> = self.first(&message, &[id.0.into()]).await?;
        let message = row.map(|row| {
            let stored = Stored {
                topic: row.topic?,
                key: row.message_key?,
                headers: row.headers?,
                payload: row.payload?,
                content_type: row.content_type?,
                durable: row.durable?,
            };
            stored.into_message(id)
        });
        Ok(message.map(|message| WholeRecord { info, message }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn claim(first: i64, last: i64) -> LiveClaim {
        LiveClaim {
            owner: Uuid::max(),
            live_until: 1_000,
            first_at: first,
            first_id: Uuid::from_u128(5),
            last_at: last,
            last_id: Uuid::from_u128(5),
            clock: 0,
        }
    }

    proptest! {
        /// Claims can lie anywhere, also over one another if the clock went back.
        #[test]
        fn what_is_in_hand_and_what_is_not_are_all_records_and_none_twice(
            stretches in prop::collection::vec((0..40_i64, 0..5_i64), 0..8),
        ) {
            let mut claims: Vec<_> = stretches.iter().map(|(first, more)| claim(*first, first + more)).collect();
            claims.sort_by_key(LiveClaim::first);
            let within = |state, place: &WalkPlace| {
                let all = segments(state, &claims, 100);
                all.iter().filter(|segment| {
                    segment.filter != LEASED
                        && segment.after.as_ref().is_none_or(|after| after < place)
                        && segment.up_to.as_ref().is_none_or(|up_to| place <= up_to)
                }).count()
            };

            for at in 0..50 {
                for id in [4, 5, 6] {
                    let place = WalkPlace::of_time(at, Uuid::from_u128(id));
                    let is_claimed = claims.iter().any(|claim| claim.covers(&place));
                    prop_assert_eq!(within(RecordState::InHand, &place), usize::from(is_claimed));
                    prop_assert_eq!(within(RecordState::Pending, &place), usize::from(!is_claimed));
                }
            }
        }
    }
}
