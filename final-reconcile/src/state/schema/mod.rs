//! The tables of the state, and their version.

mod alerts;
mod repairs;
mod scans;

use final_core::database::{Dialect, Templates};

use self::repairs::REPAIRS;

/// The version of the tables.
pub(super) const VERSION: u32 = 3;

/// The table, under which the version is written down.
pub(super) const NAME: &str = REPAIRS;

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
    (REPAIRS, "passes_at"),
    (scans::JOBS, "watched_until"),
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
    let mut all = repairs::statements(dialect, schema);
    all.extend(scans::statements(dialect, schema));
    all.push(alerts::statement(dialect, schema));
    all
}
