//! The tables of the log, shared by all services of a database.
//!
//! Input: the column types of a database. Output: the statements that create what is missing. They change nothing
//! that is there, so running them again does no harm.

use super::dialect::{Types, words};
use crate::database::{Driver, Words};

/// The version of the tables that this release creates.
pub(crate) const VERSION: i32 = 3;

/// The row with the version of the tables.
pub(crate) fn state(words: &Words) -> String {
    format!(
        "{} INTO final_log_state (id, version, trimmed) VALUES (1, {VERSION}, 0) {}",
        words.insert, words.nothing
    )
}

/// Tables of an earlier release need no change: every table that is missing is created.
pub(crate) fn raise_version() -> String {
    format!("UPDATE final_log_state SET version = {VERSION} WHERE id = 1 AND version < {VERSION}")
}

/// The statements that create all tables. Each table may be there already.
///
/// | table | a row is |
/// | --- | --- |
/// | `final_log` | a message; `seq` is its sequence number |
/// | `final_log_scheduled` | a message that is not due yet |
/// | `final_log_groups` | a service that subscribes; `version` grows with every change of its subscriptions |
/// | `final_log_topics` | a topic of a group; messages after `after_seq` are for it |
/// | `final_log_lanes` | a lane of a group: its owner, and its progress |
/// | `final_log_members` | a running bus |
/// | `final_log_dead` | a dead letter |
/// | `final_log_held` | a message that is held, with what an operator wishes for it |
/// | `final_log_watermarks` | when sequence numbers had been allocated, see [`sequence`](mod@super::sequence) |
/// | `final_log_state` | one row: the version of the tables, and up to where the log has been trimmed |
pub(crate) fn tables<DB: Driver>() -> Vec<String> {
    let Types {
        serial,
        small,
        moving,
        still,
        busy,
        inline_index,
        schema,
    } = &words::<DB>().types;
    let Words {
        id_type: id,
        name_type: name,
        text_type: text,
        bytes_type: bytes,
        int_type: big,
        ..
    } = DB::DIALECT.words();
    let last = crate::log::progress::rows::LANES - 1;
    let message = format!(
        "message_id {id} NOT NULL,\n  topic {name} NOT NULL,\n  message_key {text},\n  \
         headers {text},\n  payload {bytes} NOT NULL,\n  content_type {name} NOT NULL,\n  \
         durable {small} NOT NULL,\n  lane {small} NOT NULL,\n  weight {big} NOT NULL"
    );
    let create = |name: &str, columns: String, options: &str| {
        format!("CREATE TABLE IF NOT EXISTS {schema}final_log{name} (\n  {columns}\n){options}")
    };
    let due = "final_log_due";
    let (inline, index) = match inline_index {
        true => (format!(",\n  INDEX {due} (due_at, seq)"), None),
        false => {
            let on = "ON final_log_scheduled (due_at, seq)";
            let index = format!("CREATE INDEX IF NOT EXISTS {schema}{due} {on}");
            (String::new(), Some(index))
        }
    };
    let mut all = vec![
        create(
            "",
            format!(
                "seq {serial},\n  {message},\n  recipient {name},\n  expires_at {big},\n  \
                 created_at {big} NOT NULL,\n  CONSTRAINT final_log_lane CHECK (lane BETWEEN 0 AND {last})"
            ),
            moving,
        ),
        create(
            "_scheduled",
            format!(
                "seq {serial},\n  {message},\n  recipient {name},\n  expires_at {big},\n  \
                 created_at {big} NOT NULL,\n  due_at {big} NOT NULL,\n  \
                 CONSTRAINT final_log_scheduled_lane CHECK (lane BETWEEN 0 AND {last}){inline}"
            ),
            moving,
        ),
        create(
            "_groups",
            format!("name {name} NOT NULL PRIMARY KEY,\n  version {big} NOT NULL"),
            still,
        ),
        create(
            "_topics",
            format!(
                "group_name {name} NOT NULL,\n  stream {big} NOT NULL,\n  topic {name} NOT NULL,\n  \
                 after_seq {big} NOT NULL,\n  PRIMARY KEY (group_name, stream, topic)"
            ),
            still,
        ),
        create(
            "_lanes",
            format!(
                "group_name {name} NOT NULL,\n  stream {big} NOT NULL,\n  lane {small} NOT NULL,\n  \
                 member {id},\n  epoch {big} NOT NULL,\n  read_to {big} NOT NULL,\n  \
                 open_seqs {text},\n  settled_to {big} NOT NULL,\n  ends_at {big},\n  \
                 PRIMARY KEY (group_name, stream, lane)"
            ),
            busy,
        ),
        create(
            "_members",
            format!(
                "member {id} NOT NULL PRIMARY KEY,\n  group_name {name} NOT NULL,\n  \
                 process {id} NOT NULL,\n  alive_until {big} NOT NULL"
            ),
            busy,
        ),
        create(
            "_dead",
            format!(
                "group_name {name} NOT NULL,\n  seq {big} NOT NULL,\n  {message},\n  \
                 reason {text} NOT NULL,\n  attempts {big} NOT NULL,\n  died_at {big} NOT NULL,\n  \
                 PRIMARY KEY (group_name, seq)"
            ),
            still,
        ),
        create(
            "_held",
            format!(
                "group_name {name} NOT NULL,\n  seq {big} NOT NULL,\n  message_id {id} NOT NULL,\n  \
                 topic {name} NOT NULL,\n  message_key {text},\n  stream {big} NOT NULL,\n  \
                 lane {small} NOT NULL,\n  scope {small} NOT NULL,\n  reason {text} NOT NULL,\n  \
                 attempts {big} NOT NULL,\n  times {big} NOT NULL,\n  held_since {big} NOT NULL,\n  \
                 retries {small} NOT NULL,\n  retry_at {big} NOT NULL,\n  wish {small} NOT NULL,\n  \
                 wish_reason {text},\n  PRIMARY KEY (group_name, seq)"
            ),
            still,
        ),
        create(
            "_watermarks",
            format!(
                "id {big} NOT NULL PRIMARY KEY,\n  seq {big} NOT NULL,\n  written_at {big} NOT NULL"
            ),
            busy,
        ),
        create(
            "_state",
            format!(
                "id {small} NOT NULL PRIMARY KEY,\n  version {small} NOT NULL,\n  \
                 trimmed {big} NOT NULL"
            ),
            busy,
        ),
    ];
    all.extend(index);
    all
}
