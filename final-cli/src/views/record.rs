//! Records of an outbox.

use final_core::admin::{RecordInfo, RecordState, WholeRecord};
use serde::Serialize;

use super::{MessageView, age_text, moment, ms};
use crate::{
    exit::Failure,
    output::{
        Cell, Output, Table,
        time::{millis, utc},
    },
};

/// A record without its message.
#[derive(Debug, Serialize)]
pub(crate) struct RecordView {
    cursor: String,
    service: String,
    message_id: String,
    record_id: String,
    topic: String,
    key: Option<String>,
    status: &'static str,
    attempts: u32,
    reason: Option<String>,
    written_at: String,
    age_ms: u64,
    due_at: String,
    available_at: String,
    expires_at: Option<String>,
    answered_at: Option<String>,
    acked_at: Option<String>,
    owner: Option<String>,
    lease_left_ms: Option<u64>,
}

impl RecordView {
    pub(crate) fn new(service: &str, record: &RecordInfo) -> Self {
        Self {
            cursor: record.cursor.to_string(),
            service: service.to_owned(),
            message_id: record.id.to_string(),
            record_id: record.record_id.to_string(),
            topic: record.topic.clone(),
            key: record.key.clone(),
            status: state_name(record.state),
            attempts: record.attempts,
            reason: record.error.clone(),
            written_at: utc(record.written_at),
            age_ms: millis(record.age),
            due_at: utc(record.due_at),
            available_at: utc(record.available_at),
            expires_at: moment(record.expires_at),
            answered_at: moment(record.answered_at),
            acked_at: moment(record.acked_at),
            owner: record.owner.map(|owner| owner.to_string()),
            lease_left_ms: ms(record.lease_left),
        }
    }

    fn lines(&self, age: String) -> Table {
        let mut table = Table::new(&["", ""]);
        let mut line = |name: &str, value: Option<&str>| {
            if let Some(value) = value {
                table.row([name.into(), value.into()]);
            }
        };
        line("id", Some(&self.message_id));
        line(
            "record",
            (self.record_id != self.message_id).then_some(&self.record_id),
        );
        line("service", Some(&self.service));
        line("topic", Some(&self.topic));
        line("key", self.key.as_deref());
        line("status", Some(self.status));
        line("attempts", Some(&self.attempts.to_string()));
        line("reason", self.reason.as_deref());
        line("written", Some(&format!("{} ({age} ago)", self.written_at)));
        line("due", Some(&self.due_at));
        line(
            "next try",
            (self.status != "acked").then_some(&self.available_at),
        );
        line("expires", self.expires_at.as_deref());
        line("answered", self.answered_at.as_deref());
        line("acked", self.acked_at.as_deref());
        line("owner", self.owner.as_deref());
        table
    }
}

/// A record with its message.
#[derive(Debug, Serialize)]
pub(crate) struct WholeRecordView {
    #[serde(flatten)]
    record: RecordView,
    #[serde(flatten)]
    message: MessageView,
    #[serde(skip)]
    age: String,
}

impl WholeRecordView {
    pub(crate) fn new(service: &str, whole: &WholeRecord) -> Self {
        Self {
            record: RecordView::new(service, &whole.info),
            message: MessageView::new(&whole.message),
            age: age_text(Some(whole.info.age)),
        }
    }

    pub(crate) fn write(&self, out: &mut Output) -> Result<(), Failure> {
        match out.is_json() {
            true => out.json("record", self),
            false => self.message.write(self.record.lines(self.age.clone()), out),
        }
    }
}

/// A list of records.
pub(crate) fn record_table(records: &[RecordInfo]) -> Table {
    let mut table = Table::new(&[
        "!id",
        "status",
        "topic",
        "key",
        ">age",
        ">attempts",
        "reason",
    ]);
    for record in records {
        let is_stuck = matches!(record.state, RecordState::Failed | RecordState::Unroutable);
        table.row([
            record.id.to_string().into(),
            Cell::new(state_name(record.state)).bad(is_stuck),
            record.topic.as_str().into(),
            record.key.as_deref().unwrap_or_default().into(),
            age_text(Some(record.age)).into(),
            record.attempts.to_string().into(),
            record.error.as_deref().unwrap_or_default().into(),
        ]);
    }
    table
}

/// The word for a state, as `--status` takes it.
pub(crate) fn state_name(state: RecordState) -> &'static str {
    match state {
        RecordState::Failed => "failed",
        RecordState::Unroutable => "unroutable",
        RecordState::InHand => "in-hand",
        RecordState::Pending => "pending",
        RecordState::Acked => "acked",
        _ => "unknown",
    }
}
