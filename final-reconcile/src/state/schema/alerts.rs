//! The table of alerts.
//!
//! | column of `final_reconcile_alerts` | holds |
//! | --- | --- |
//! | `slot` | the hash of unit and kind, so that each trouble has one row |
//! | `id` | the trouble, from its beginning to its end |
//! | `unit` | the `name` of its job, source and target in `final_reconcile_jobs` |
//! | `job`, `source`, `target` | the job's name; both tables and their databases |
//! | `kind` | what is in trouble: `repairs`, `paused` or `scan` |
//! | `first_seen`, `last_error` | since when, and why |
//! | `is_over` | 1 if it is over, and that is still to be told |
//! | `told`, `told_at` | how often it was told, and when last |
//! | `attempts`, `due_at` | how often the call has failed since, and when it is due |
//!
//! A trouble that was told to be over is removed. Which process tells the alerts of a unit is a lease, in a row of its own
//! of `final_reconcile_jobs`.

use final_core::database::Dialect;

pub(super) const ALERTS: &str = "final_reconcile_alerts";

/// The statement that makes the table. It may find its work done.
pub(super) fn statement(dialect: Dialect, schema: &str) -> String {
    let words = dialect.words();
    let (name, text, int) = (words.name_type, words.text_type, words.int_type);
    let (id, options) = (words.id_type, words.table_options);
    format!(
        "CREATE TABLE IF NOT EXISTS {schema}{ALERTS} (\n  \
           slot {name} NOT NULL PRIMARY KEY,\n  \
           id {id} NOT NULL,\n  \
           unit {name} NOT NULL,\n  \
           job {name} NOT NULL,\n  \
           source {text} NOT NULL,\n  \
           target {text} NOT NULL,\n  \
           kind {name} NOT NULL,\n  \
           first_seen {int} NOT NULL,\n  \
           last_error {text} NOT NULL,\n  \
           is_over {int} NOT NULL,\n  \
           told {int} NOT NULL,\n  \
           told_at {int} NOT NULL,\n  \
           attempts {int} NOT NULL,\n  \
           due_at {int} NOT NULL\n){options}"
    )
}
