//! The table of open repairs.
//!
//! | column of `final_reconcile_repairs` | holds |
//! | --- | --- |
//! | `slot` | the hash of unit, `key_form` and key, so that a row has one open repair |
//! | `id` | the repair; the idempotency keys of its calls begin with it |
//! | `unit` | the `name` of its job, source and target in `final_reconcile_jobs` |
//! | `job`, `source`, `target` | the job's name; both tables and their databases |
//! | `key_form`, `row_key` | the columns of the key with their forms; the key in canonical form |
//! | `key_text` | the names of the key's columns with their values, as JSON |
//! | `kind`, `columns_text` | 1 missing, 2 different, 3 extra; the names of the columns that differ, as JSON |
//! | `attempts`, `last_error` | how often it was tried, and why it failed last |
//! | `due_at`, `opened_at` | when |
//! | `failed_at` | since when it fails; NULL if it does not |
//! | `passes_at` | the time of the source's clock that the mirror has to pass before the row is looked at again; NULL if none is waited for |
//! | `found_again` | 1 if the row was found to differ once more while a process had it or the mirror was waited for; 2 if that was before a process took it |
//! | `is_ours` | whether the repair has inserted the row into the target |
//! | `claimed_by`, `claimed_until` | which process tries it, and until when it has it |
//!
//! A repair that is done is removed. Times are in microseconds since 1970, by the database's clock.

use final_core::database::Dialect;

pub(super) const REPAIRS: &str = "final_reconcile_repairs";

/// The statements that make the table and its indexes. Each may find its work done.
pub(super) fn statements(dialect: Dialect, schema: &str) -> Vec<String> {
    let words = dialect.words();
    let (name, text, int) = (words.name_type, words.text_type, words.int_type);
    let (bytes, id, options) = (words.bytes_type, words.id_type, words.table_options);
    // MySQL makes an index that is there already an error, so it is part of the table there.
    let indexes = match dialect {
        Dialect::MySql => {
            ",\n  KEY final_reconcile_repairs_due (unit, due_at),\n  \
               KEY final_reconcile_repairs_job (job, opened_at)"
        }
        _ => "",
    };
    let mut all = vec![format!(
        "CREATE TABLE IF NOT EXISTS {schema}{REPAIRS} (\n  \
           slot {name} NOT NULL PRIMARY KEY,\n  \
           id {id} NOT NULL,\n  \
           unit {name} NOT NULL,\n  \
           job {name} NOT NULL,\n  \
           source {text} NOT NULL,\n  \
           target {text} NOT NULL,\n  \
           key_form {text} NOT NULL,\n  \
           row_key {bytes} NOT NULL,\n  \
           key_text {text} NOT NULL,\n  \
           kind {int} NOT NULL,\n  \
           columns_text {text} NOT NULL,\n  \
           attempts {int} NOT NULL,\n  \
           last_error {text},\n  \
           due_at {int} NOT NULL,\n  \
           opened_at {int} NOT NULL,\n  \
           failed_at {int},\n  \
           passes_at {int},\n  \
           found_again {int} NOT NULL,\n  \
           is_ours {int} NOT NULL,\n  \
           claimed_by {id},\n  \
           claimed_until {int} NOT NULL{indexes}\n){options}"
    )];
    if dialect != Dialect::MySql {
        for (index, columns) in [("due", "unit, due_at"), ("job", "job, opened_at")] {
            all.push(format!(
                "CREATE INDEX IF NOT EXISTS {schema}final_reconcile_repairs_{index} ON {REPAIRS} ({columns})"
            ));
        }
    }
    all
}
