//! A record as a row, without its message.
//!
//! Input: the columns of a row, and the live claims. Output: a [`RecordInfo`]; and the walk along all records of a
//! state.

use uuid::Uuid;

use super::{RecordCursor, RecordInfo, RecordState, claims::LiveClaim};
use crate::{
    MessageId,
    admin::{
        desk::{micros_of, table_of},
        services::ServiceTables,
        walk::{Walk, WalkKey, WalkPlace},
    },
    database::{
        Dialect, columns,
        limits::{duration, moment},
    },
};

columns! {
    /// A record without its message.
    pub(in crate::admin) struct InfoRow {
        message_id: Uuid,
        sent_as: Option<Uuid>,
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

/// The columns of an [`InfoRow`].
pub(in crate::admin) fn info_columns(dialect: Dialect, tables: &ServiceTables) -> String {
    // NULL of the type of an id.
    let sent_as = match tables.has_sent_as() {
        true => "sent_as",
        false => "NULLIF(message_id, message_id) AS sent_as",
    };
    let time = |column: &str| format!("{} AS {column}", micros_of(dialect, column));
    format!(
        "message_id, {sent_as}, topic, message_key, CAST(status AS {{int}}) AS status, \
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
            id: MessageId(row.sent_as.unwrap_or(id)),
            record_id: id,
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
