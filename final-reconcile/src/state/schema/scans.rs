//! The tables of scans.
//!
//! | column of `final_reconcile_jobs` | holds |
//! | --- | --- |
//! | `name` | the unit: the hash of job, source and target |
//! | `owner`, `epoch`, `live_until` | which process runs its scans, or the job if it has none; the epoch counts up with each other one |
//! | `job`, `source`, `target` | the job's name; both tables and their databases; NULL of the lease of a unit's alerts |
//! | `ran_at` | when a process last had the lease |
//! | `watched_until` | until when a process counts as one that takes changes |
//! | `key_text` | the columns of the key that suspects have, and their forms |
//! | `fresh`, `updated`, `sweep` | how far each scan is, as JSON |
//! | `mirror` | where the mirror stands, and how far it is behind, as JSON |
//! | `asked_at` | when a sweep was asked for, because a table was emptied |
//! | `paused`, `paused_at` | why nothing is scanned until somebody resumes the job |
//! | `trouble`, `trouble_at` | why a scan cannot run |
//! | `span_at`, `span_found` | the hour in which repairs are counted, and how many were opened in it |
//!
//! | column of `final_reconcile_suspects` | holds |
//! | --- | --- |
//! | `slot` | the hash of unit and key, so that a row waits once |
//! | `unit` | the `name` of its job, source and target |
//! | `scan` | which scan has found it |
//! | `row_key`, `is_json` | the key in canonical form, or as JSON of a change |
//! | `looked`, `source_hash`, `target_hash` | whether it was looked at: 1 by the clock, 2 with a heartbeat; and what both sides had then |
//! | `looks`, `changes` | how often both were the same as before, and how often not |
//! | `due_at`, `stamp` | when it is looked at, with a heartbeat by the source's clock; another id whenever the row has changed or was found once more |
//! | `problem` | why it cannot be looked at |
//!
//! `final_reconcile_runs` has what was compared: a row for each sweep, and one for each hour of the other scans.
//! Times are in microseconds since 1970, by the database's clock.

use final_core::database::Dialect;

pub(super) const JOBS: &str = "final_reconcile_jobs";
pub(super) const SUSPECTS: &str = "final_reconcile_suspects";
pub(super) const RUNS: &str = "final_reconcile_runs";

/// The statements that make the tables. Each may find its work done.
pub(super) fn statements(dialect: Dialect, schema: &str) -> Vec<String> {
    let words = dialect.words();
    let (name, text, int) = (words.name_type, words.text_type, words.int_type);
    let (bytes, id, options) = (words.bytes_type, words.id_type, words.table_options);
    // MySQL makes an index that is there already an error, so it is part of the table there.
    let (due, begun) = match dialect {
        Dialect::MySql => (
            ",\n  KEY final_reconcile_suspects_due (unit, due_at)",
            ",\n  KEY final_reconcile_runs_begun (unit, begun_at)",
        ),
        _ => ("", ""),
    };
    let mut all = vec![
        format!(
            "CREATE TABLE IF NOT EXISTS {schema}{JOBS} (\n  \
               name {name} NOT NULL PRIMARY KEY,\n  \
               owner {id} NOT NULL,\n  \
               epoch {int} NOT NULL,\n  \
               live_until {int} NOT NULL,\n  \
               job {name},\n  \
               source {text},\n  \
               target {text},\n  \
               ran_at {int},\n  \
               watched_until {int},\n  \
               key_text {text},\n  \
               fresh {text},\n  \
               updated {text},\n  \
               sweep {text},\n  \
               mirror {text},\n  \
               asked_at {int},\n  \
               paused {text},\n  \
               paused_at {int},\n  \
               trouble {text},\n  \
               trouble_at {int},\n  \
               span_at {int},\n  \
               span_found {int}\n){options}"
        ),
        format!(
            "CREATE TABLE IF NOT EXISTS {schema}{SUSPECTS} (\n  \
               slot {name} NOT NULL PRIMARY KEY,\n  \
               unit {name} NOT NULL,\n  \
               scan {name} NOT NULL,\n  \
               row_key {bytes} NOT NULL,\n  \
               is_json {int} NOT NULL,\n  \
               looked {int} NOT NULL,\n  \
               source_hash {bytes},\n  \
               target_hash {bytes},\n  \
               looks {int} NOT NULL,\n  \
               changes {int} NOT NULL,\n  \
               due_at {int} NOT NULL,\n  \
               problem {text},\n  \
               stamp {id} NOT NULL{due}\n){options}"
        ),
        format!(
            "CREATE TABLE IF NOT EXISTS {schema}{RUNS} (\n  \
               id {name} NOT NULL PRIMARY KEY,\n  \
               unit {name} NOT NULL,\n  \
               job {name} NOT NULL,\n  \
               target {text} NOT NULL,\n  \
               scan {name} NOT NULL,\n  \
               begun_at {int} NOT NULL,\n  \
               last_at {int} NOT NULL,\n  \
               row_count {int} NOT NULL,\n  \
               found {int} NOT NULL,\n  \
               healed {int} NOT NULL,\n  \
               unsettled {int} NOT NULL{begun}\n){options}"
        ),
    ];
    if dialect != Dialect::MySql {
        all.push(format!(
            "CREATE INDEX IF NOT EXISTS {schema}final_reconcile_suspects_due ON {SUSPECTS} (unit, due_at)"
        ));
        all.push(format!(
            "CREATE INDEX IF NOT EXISTS {schema}final_reconcile_runs_begun ON {RUNS} (unit, begun_at)"
        ));
    }
    all
}
