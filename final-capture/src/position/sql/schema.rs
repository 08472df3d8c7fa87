//! The tables, and the words that stand for them.

use final_core::database::{Dialect, Driver, Templates};

/// One row for each capture: its position and its reader.
pub(super) const CAPTURES: &str = "final_captures";
/// Messages that the target has refused, and those behind them.
pub(super) const PARKED: &str = "final_capture_parked";

/// The version of the tables.
pub(super) const VERSION: u32 = 1;

/// Ends a transaction of a process that stands still, because it keeps the row from the next reader.
pub(super) fn session<DB: Driver>() -> &'static [&'static str] {
    match DB::DIALECT {
        Dialect::Postgres => &["SET idle_in_transaction_session_timeout = '10s'"],
        Dialect::MySql => {
            &["SET @final_capture = 1 /*M!100300 , SESSION idle_transaction_timeout = 10 */"]
        }
        Dialect::Sqlite => &[],
    }
}

/// The words for the tables in this schema.
pub(super) fn templates<DB: Driver>(schema: &str) -> Templates {
    let table = |name| format!("{schema}{name}");
    let names = [
        ("captures", table(CAPTURES)),
        ("leases", table(CAPTURES)),
        ("parked", table(PARKED)),
    ];
    Templates::new(DB::DIALECT, names)
}

/// The statements that make the tables.
pub(super) fn statements<DB: Driver>() -> [String; 2] {
    let words = DB::DIALECT.words();
    let (name, text, int, id, bytes) = (
        words.name_type,
        words.text_type,
        words.int_type,
        words.id_type,
        words.bytes_type,
    );
    let options = words.table_options;
    let main = match DB::DIALECT {
        Dialect::Sqlite => "main.",
        Dialect::Postgres | Dialect::MySql => "",
    };
    [
        format!(
            "CREATE TABLE IF NOT EXISTS {main}{CAPTURES} (\n  \
               name {name} NOT NULL PRIMARY KEY,\n  \
               owner {id} NOT NULL,\n  \
               epoch {int} NOT NULL,\n  \
               live_until {int} NOT NULL,\n  \
               identity {text},\n  \
               position {text},\n  \
               partial_transaction {text},\n  \
               partial_changes {int},\n  \
               saves {int} NOT NULL DEFAULT 0,\n  \
               source_at {int},\n  \
               updated_at {int},\n  \
               state {name},\n  \
               reason {text}\n){options}"
        ),
        format!(
            "CREATE TABLE IF NOT EXISTS {main}{PARKED} (\n  \
               capture {name} NOT NULL,\n  \
               id {int} NOT NULL,\n  \
               envelope {bytes} NOT NULL,\n  \
               payload {bytes},\n  \
               reason {text},\n  \
               position {text} NOT NULL,\n  \
               parked_at {int} NOT NULL,\n  \
               marked {name},\n  \
               PRIMARY KEY (capture, id)\n){options}"
        ),
    ]
}
