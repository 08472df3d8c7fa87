//! Reading the log: a page of rows, or the rows of gaps.

use std::sync::Arc;

use uuid::Uuid;

use super::{
    Log,
    database::{Kind, Row, Value},
    session::Session,
    texts::{list, padded},
};
use crate::{
    Message, MessageId, OutboxDatabase,
    database::{DbResult, stored::Stored},
};

/// Up to this weight a payload is read together with its row; a heavier one when it is its turn.
const INLINE: i64 = 16 * 1024;

/// A row of the log.
#[derive(Debug)]
pub(crate) struct LogRow {
    pub(crate) seq: i64,
    pub(crate) lane: usize,
    pub(crate) topic: Arc<str>,
    /// The only group it is for, if it is not for all.
    pub(crate) recipient: Option<String>,
    pub(crate) weight: i64,
    /// By the database's clock, in microseconds since 1970.
    pub(crate) written_at: i64,
    /// Microseconds; negative if it is over.
    pub(crate) expires_in: Option<i64>,
    /// `None` for a payload that is still to be read, and for what is not ours.
    pub(crate) payload: Option<Vec<u8>>,
    rest: Rest,
}

#[derive(Debug)]
struct Rest {
    id: MessageId,
    key: Option<String>,
    headers: Option<String>,
    content_type: String,
    durable: bool,
}

/// Whose rows are wanted with all they have: of the others the number is enough.
#[derive(Debug, Default)]
pub(crate) struct Ours<'a> {
    pub(crate) topics: &'a [Arc<str>],
    /// A bit for each lane.
    pub(crate) lanes: i64,
}

const KINDS: &[Kind] = &[
    Kind::Int,
    Kind::Int,
    Kind::Text,
    Kind::Text,
    Kind::Int,
    Kind::Int,
    Kind::Int,
    Kind::Bytes,
    Kind::Id,
    Kind::Text,
    Kind::Text,
    Kind::Text,
    Kind::Int,
];

impl<DB: OutboxDatabase> Session<DB> {
    /// Rows after one number and up to another, in order, `most` at most.
    pub(crate) async fn page(
        &mut self,
        after: i64,
        up_to: i64,
        most: usize,
        ours: &Ours<'_>,
    ) -> DbResult<Vec<LogRow>> {
        let (mut template, mut values) = select(ours);
        template.push_str(" WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?");
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        values.extend([after.into(), up_to.into(), most.into()]);
        read(self.rows(&template, values, KINDS).await?)
    }

    /// The rows with these numbers that show, in order.
    pub(crate) async fn pick(&mut self, seqs: &[i64], ours: &Ours<'_>) -> DbResult<Vec<LogRow>> {
        if seqs.is_empty() {
            return Ok(Vec::new());
        }
        let some = padded(seqs);
        let (mut template, mut values) = select(ours);
        template.push_str(&format!(
            " WHERE seq IN ({}) ORDER BY seq",
            list(some.len())
        ));
        values.extend(some.into_iter().map(Value::from));
        read(self.rows(&template, values, KINDS).await?)
    }

    /// The payload of a row; `None` if the row was removed meanwhile, also where its number was given
    /// to another message since.
    pub(crate) async fn payload(&mut self, seq: i64, id: Uuid) -> DbResult<Option<Vec<u8>>> {
        let payload = "SELECT payload FROM {log} WHERE seq = ? AND message_id = ?";
        let values = vec![seq.into(), id.into()];
        let mut rows = self.rows(payload, values, &[Kind::Bytes]).await?;
        rows.first_mut().map_or(Ok(None), Row::maybe_bytes)
    }
}

impl<DB: OutboxDatabase> Log<DB> {
    /// Puts empty rows where numbers are missing for good, as far as no transaction has them.
    ///
    /// The table's key decides. Where a transaction has inserted one of these rows and not committed,
    /// this fails, at once or soon.
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
            values.extend([
                Value::from(*seq),
                Uuid::nil().into(),
                Value::Bytes(Vec::new()),
            ]);
        }
        let mut tx = self.begin().await?;
        if let Some(impatient) = DB::LOG_WORDS.impatient {
            tx.run(impatient, Vec::new()).await?;
        }
        if let Some(no_wait) = DB::LOG_WORDS.no_wait {
            let list = list(seqs.len());
            let taken = format!("SELECT seq FROM {{log}} WHERE seq IN ({list}) {no_wait}");
            let values = seqs.iter().map(|seq| Value::from(*seq)).collect();
            tx.rows(&taken, values, &[Kind::Int]).await?;
        }
        tx.run(&fill, values).await?;
        tx.commit().await
    }
}

/// Texts and payloads of others need not travel.
fn select(ours: &Ours<'_>) -> (String, Vec<Value>) {
    let topics = padded(&(0..ours.topics.len()).collect::<Vec<_>>());
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
            values.push(Value::from(&*ours.topics[*at]));
        }
        if !topics.is_empty() {
            values.push(ours.lanes.into());
        }
        format!("CASE WHEN {is_ours}{also} THEN {column} END")
    };
    let payload = only("payload", &format!(" AND weight <= {INLINE}"));
    let headers = only("headers", "");
    let template = format!(
        "SELECT seq, CAST(lane AS {{int}}), topic, recipient, weight, created_at, expires_at - {{now}}, \
             {payload}, message_id, message_key, {headers}, content_type, CAST(durable AS {{int}}) \
         FROM {{log}}"
    );
    (template, values)
}

fn read(rows: Vec<Row>) -> DbResult<Vec<LogRow>> {
    let row = |mut row: Row| {
        Ok(LogRow {
            seq: row.int()?,
            lane: usize::try_from(row.int()?).unwrap_or(usize::MAX),
            topic: row.text()?.into(),
            recipient: row.maybe_text()?,
            weight: row.int()?,
            written_at: row.int()?,
            expires_in: row.maybe_int()?,
            payload: row.maybe_bytes()?,
            rest: Rest {
                id: MessageId(row.maybe_id()?.unwrap_or_default()),
                key: row.maybe_text()?,
                headers: row.maybe_text()?,
                content_type: row.text()?,
                durable: row.int()? != 0,
            },
        })
    };
    rows.into_iter().map(row).collect()
}

impl LogRow {
    /// Whether the payload was left out for its weight.
    pub(crate) fn is_heavy(&self) -> bool {
        self.payload.is_none() && self.weight > INLINE
    }

    pub(crate) fn id(&self) -> Uuid {
        self.rest.id.0
    }

    pub(crate) fn key(&self) -> Option<&str> {
        self.rest.key.as_deref()
    }

    #[cfg(test)]
    pub(crate) fn plain(seq: i64, lane: usize, topic: Arc<str>, key: Option<&str>) -> Self {
        let rest = Rest {
            id: MessageId(Uuid::nil()),
            key: key.map(str::to_owned),
            headers: None,
            content_type: String::new(),
            durable: true,
        };
        Self {
            seq,
            lane,
            topic,
            recipient: None,
            weight: 0,
            written_at: 0,
            expires_in: None,
            payload: Some(Vec::new()),
            rest,
        }
    }

    /// The message, or why the row is none.
    pub(crate) fn into_message(self) -> Result<Message, String> {
        let stored = Stored {
            topic: self.topic.as_ref().to_owned(),
            key: self.rest.key,
            headers: self.rest.headers,
            payload: self.payload.unwrap_or_default(),
            content_type: self.rest.content_type,
            durable: self.rest.durable,
        };
        stored.into_message(self.rest.id)
    }
}
