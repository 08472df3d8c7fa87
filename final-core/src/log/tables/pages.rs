//! Reading the log, and filling its gaps.
//!
//! Input: a range or a list of sequence numbers, and a filter. Output: the visible rows in order, with headers and
//! payloads only for rows that the filter names; or empty rows in place of missing ones.

use uuid::Uuid;

use super::dialect::words;
use super::{
    Log,
    lists::{list, padded},
    session::Session,
};
use crate::log::progress::rows::{INLINE, LogRow, RowDetails, RowFilter};
use crate::{
    MessageId, OutboxDatabase,
    database::{DbResult, Value, columns},
};

columns! {
    /// A row of the log as it is read. Outside the filter it has neither headers nor payload.
    struct LogColumns {
        seq: i64,
        lane_number: i64,
        topic: String,
        recipient: Option<String>,
        weight: i64,
        written_at: i64,
        expires_in: Option<i64>,
        our_payload: Option<Vec<u8>>,
        message_id: Uuid,
        message_key: Option<String>,
        our_headers: Option<String>,
        content_type: String,
        is_durable: i64,
    }
}

impl<DB: OutboxDatabase> Session<DB> {
    /// The last visible sequence number. 0 if the log is empty.
    pub(crate) async fn last(&mut self) -> DbResult<i64> {
        let last = "SELECT COALESCE(MAX(seq), 0) FROM {log}";
        let last: Option<i64> = self.first(last, Vec::new()).await?;
        Ok(last.unwrap_or_default())
    }

    /// Rows after one sequence number and up to another, in order, `most` at most.
    pub(crate) async fn page(
        &mut self,
        after: i64,
        up_to: i64,
        most: usize,
        filter: &RowFilter<'_>,
    ) -> DbResult<Vec<LogRow>> {
        let (mut template, mut values) = select(filter);
        template.push_str(" WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?");
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        values.extend([after.into(), up_to.into(), most.into()]);
        read(self.rows(&template, values).await?)
    }

    /// The visible rows with these sequence numbers, in order.
    pub(crate) async fn pick(
        &mut self,
        seqs: &[i64],
        filter: &RowFilter<'_>,
    ) -> DbResult<Vec<LogRow>> {
        if seqs.is_empty() {
            return Ok(Vec::new());
        }
        let some = padded(seqs);
        let (mut template, mut values) = select(filter);
        template.push_str(&format!(
            " WHERE seq IN ({}) ORDER BY seq",
            list(some.len())
        ));
        values.extend(some.into_iter().map(Value::from));
        read(self.rows(&template, values).await?)
    }

    /// The payload of a row. `None` if the row was removed meanwhile, also if another message has its sequence number
    /// since.
    pub(crate) async fn payload(&mut self, seq: i64, id: Uuid) -> DbResult<Option<Vec<u8>>> {
        let payload = "SELECT payload FROM {log} WHERE seq = ? AND message_id = ?";
        let values = vec![seq.into(), id.into()];
        let payload: Option<Option<Vec<u8>>> = self.first(payload, values).await?;
        Ok(payload.flatten())
    }
}

impl<DB: OutboxDatabase> Log<DB> {
    /// Fills gaps with empty rows, as far as no transaction has them.
    ///
    /// The table's primary key decides. If an open transaction has inserted one of these rows, this fails, at once or
    /// soon.
    pub(crate) async fn fill(&self, seqs: &[i64]) -> DbResult<()> {
        if seqs.is_empty() {
            return Ok(());
        }
        let row = "(?, ?, '', ?, '', 0, 0, 0, {now})";
        let rows = vec![row; seqs.len()].join(", ");
        let fill = format!(
            "{{insert}} INTO {{log}} (seq, message_id, topic, payload, content_type, durable, lane, \
                 weight, created_at) VALUES {rows} {{nothing}}"
        );
        let mut values = Vec::with_capacity(seqs.len() * 3);
        for seq in seqs {
            values.extend([Value::from(*seq), Uuid::nil().into(), Vec::new().into()]);
        }
        let mut tx = self.begin().await?;
        if let Some(impatient) = words::<DB>().impatient {
            tx.run(impatient, Vec::new()).await?;
        }
        if let Some(no_wait) = words::<DB>().no_wait {
            let list = list(seqs.len());
            let taken = format!("SELECT seq FROM {{log}} WHERE seq IN ({list}) {no_wait}");
            let values = seqs.iter().map(|seq| Value::from(*seq)).collect();
            tx.rows::<i64>(&taken, values).await?;
        }
        tx.run(&fill, values).await?;
        tx.commit().await
    }
}

/// The SELECT up to its condition, and its values. Outside the filter, headers and payloads are NULL, so they
/// do not travel.
fn select<'a>(filter: &'a RowFilter<'_>) -> (String, Vec<Value<'a>>) {
    let topics = padded(&(0..filter.topics.len()).collect::<Vec<_>>());
    let is_ours = if topics.is_empty() {
        "1 = 0".to_owned()
    } else {
        format!(
            "topic IN ({}) AND ((CAST(? AS {{int}}) >> lane) & 1) = 1",
            list(topics.len())
        )
    };
    let mut values = Vec::new();
    let mut only = |column: &str, also: &str| {
        for at in &topics {
            values.push(Value::from(&*filter.topics[*at]));
        }
        if !topics.is_empty() {
            values.push(filter.lanes.into());
        }
        format!("CASE WHEN {is_ours}{also} THEN {column} END")
    };
    let payload = only("payload", &format!(" AND weight <= {INLINE}"));
    let headers = only("headers", "");
    let template = format!(
        "SELECT seq, CAST(lane AS {{int}}) AS lane_number, topic, recipient, weight, \
             created_at AS written_at, expires_at - {{now}} AS expires_in, {payload} AS our_payload, \
             message_id, message_key, {headers} AS our_headers, content_type, \
             CAST(durable AS {{int}}) AS is_durable \
         FROM {{log}}"
    );
    (template, values)
}

/// The rows as the state machines take them.
fn read(rows: Vec<LogColumns>) -> DbResult<Vec<LogRow>> {
    let row = |row: LogColumns| LogRow {
        seq: row.seq,
        lane: usize::try_from(row.lane_number).unwrap_or(usize::MAX),
        topic: row.topic.into(),
        recipient: row.recipient,
        weight: row.weight,
        written_at: row.written_at,
        expires_in: row.expires_in,
        payload: row.our_payload,
        rest: RowDetails {
            id: MessageId(row.message_id),
            key: row.message_key,
            headers: row.our_headers,
            content_type: row.content_type,
            durable: row.is_durable != 0,
        },
    };
    Ok(rows.into_iter().map(row).collect())
}
