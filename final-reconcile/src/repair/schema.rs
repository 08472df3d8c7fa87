//! The table of open repairs, and the version of all tables.
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
//! | `found_again` | whether the row was found to differ once more while a process had it |
//! | `is_ours` | whether the repair has inserted the row into the target |
//! | `claimed_by`, `claimed_until` | which process tries it, and until when it has it |
//!
//! A repair that is done is removed. Times are in microseconds since 1970, by the database's clock.

use final_core::database::{Dialect, Templates};

use crate::{alert::schema as alerts, scan::schema as scans};

/// The version of the tables.
pub(super) const VERSION: u32 = 3;

/// The table, under which the version is written down.
pub(super) const REPAIRS: &str = "final_reconcile_repairs";

/// Ends a transaction of a process that stands still, because it keeps rows from the next one.
pub(super) fn session(dialect: Dialect) -> &'static [&'static str] {
    match dialect {
        Dialect::Postgres => &["SET idle_in_transaction_session_timeout = '10s'"],
        // MySQL knows only a time for sessions, whether they have a transaction or not.
        Dialect::MySql => &[
            "SET SESSION wait_timeout = 60",
            "SET @final_reconcile = 1 /*M!100300 , SESSION idle_transaction_timeout = 10 */",
        ],
        Dialect::Sqlite => &[],
    }
}

/// Templates with the names of the tables.
pub(super) fn templates(dialect: Dialect, schema: &str) -> Templates {
    let table = |name: &str| format!("{schema}{name}");
    let names = [
        ("repairs", table(REPAIRS)),
        ("jobs", table(scans::JOBS)),
        ("leases", table(scans::JOBS)),
        ("suspects", table(scans::SUSPECTS)),
        ("runs", table(scans::RUNS)),
        ("alerts", table(alerts::ALERTS)),
    ];
    Templates::new(dialect, names)
}

/// A column of each table that those of an earlier state of the release lack.
pub(super) const NEWEST: [(&str, &str); 3] = [
    (REPAIRS, "key_form"),
    (scans::JOBS, "ran_at"),
    (alerts::ALERTS, "source"),
];

/// The statements that remove all tables, and what is written down of their version.
pub(super) fn removal() -> String {
    let tables = [
        REPAIRS,
        scans::JOBS,
        scans::SUSPECTS,
        scans::RUNS,
        alerts::ALERTS,
    ];
    let drops = tables.map(|table| format!("DROP TABLE IF EXISTS {table};"));
    format!(
        "{} DELETE FROM final_migrations WHERE table_name = '{REPAIRS}';",
        drops.join(" ")
    )
}

/// The statements that make the tables. Each may find its work done.
pub(super) fn statements(dialect: Dialect) -> Vec<String> {
    let schema = match dialect {
        Dialect::Sqlite => "main.",
        Dialect::Postgres | Dialect::MySql => "",
    };
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
    all.extend(scans::statements(dialect, schema));
    all.push(alerts::statement(dialect, schema));
    all
}
