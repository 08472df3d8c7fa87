//! The tables themselves.
//!
//! | column of `final_gateway_apps` | holds |
//! | --- | --- |
//! | `app_key` | the key, by which the app logs in; upper and lower case differ |
//! | `secret_kind`, `secret_hash` | `sha256` or `argon2id`, and the hash of the secret |
//! | `old_kind`, `old_hash`, `old_until` | the secret before it, and until when that is valid |
//! | `disabled_at`, `created_at` | when; NULL while it is enabled |
//! | `connections`, `publishes_per_second`, `deliveries_per_second` | limits on each node; NULL is none |
//! | `open_pairs` | the limit of groups and topics in use on each node; NULL is the gateway's own; since version 2 |
//!
//! | column of `final_gateway_rights` | holds |
//! | --- | --- |
//! | `app_key` | the app |
//! | `group_name` | the group; `*` is all groups |
//! | `topic` | the topic; `order.*` is all that begin with `order.`, `*` is all |
//! | `operations` | 1 subscribe, 2 publish, 3 both |
//! | `batch`, `publishes_per_second`, `deliveries_per_second` | limits on each node; NULL is none |
//! | `created_at` | when |
//!
//! `final_gateway_rights_version` has one row, whose number counts the changes. Times are in microseconds since 1970, by
//! the database's clock.

use final_core::database::{Dialect, Templates};

/// The version of the tables.
pub(super) const VERSION: u32 = 2;

/// The column that version 2 has added to the table of apps.
pub(super) const ADDED: &str = "open_pairs";

/// The table of apps, under which the version is written down.
pub(super) const APPS: &str = "final_gateway_apps";
const RIGHTS: &str = "final_gateway_rights";
const CHANGES: &str = "final_gateway_rights_version";

/// Templates with the names of the tables.
pub(super) fn templates(dialect: Dialect, schema: &str) -> Templates {
    let name = |table: &str| format!("{schema}{table}");
    Templates::new(
        dialect,
        [
            ("apps", name(APPS)),
            ("rights", name(RIGHTS)),
            ("version", name(CHANGES)),
        ],
    )
}

/// The statement that brings a table of apps of version 1 to version 2.
pub(super) fn upgrade(dialect: Dialect) -> String {
    let schema = match dialect {
        Dialect::Sqlite => "main.",
        Dialect::Postgres | Dialect::MySql => "",
    };
    let int = dialect.words().int_type;
    format!("ALTER TABLE {schema}{APPS} ADD COLUMN {ADDED} {int}")
}

/// The statements that make the tables. Each may find its work done.
pub(super) fn statements(dialect: Dialect) -> Vec<String> {
    let schema = match dialect {
        Dialect::Sqlite => "main.",
        Dialect::Postgres | Dialect::MySql => "",
    };
    let words = dialect.words();
    let (name, text, int) = (words.name_type, words.text_type, words.int_type);
    let options = words.table_options;
    vec![
        format!(
            "CREATE TABLE IF NOT EXISTS {schema}{APPS} (\n  \
               app_key {name} NOT NULL PRIMARY KEY,\n  \
               secret_kind {name} NOT NULL,\n  \
               secret_hash {text} NOT NULL,\n  \
               old_kind {name},\n  \
               old_hash {text},\n  \
               old_until {int},\n  \
               disabled_at {int},\n  \
               created_at {int} NOT NULL,\n  \
               connections {int},\n  \
               publishes_per_second {int},\n  \
               deliveries_per_second {int},\n  \
               {ADDED} {int}\n){options}"
        ),
        format!(
            "CREATE TABLE IF NOT EXISTS {schema}{RIGHTS} (\n  \
               app_key {name} NOT NULL,\n  \
               group_name {name} NOT NULL,\n  \
               topic {name} NOT NULL,\n  \
               operations {int} NOT NULL,\n  \
               batch {int},\n  \
               publishes_per_second {int},\n  \
               deliveries_per_second {int},\n  \
               created_at {int} NOT NULL,\n  \
               PRIMARY KEY (app_key, group_name, topic)\n){options}"
        ),
        format!(
            "CREATE TABLE IF NOT EXISTS {schema}{CHANGES} (\n  \
               id {int} NOT NULL PRIMARY KEY,\n  \
               version {int} NOT NULL\n){options}"
        ),
        format!(
            "{} INTO {schema}{CHANGES} (id, version) VALUES (1, 0) {}",
            words.insert, words.nothing
        ),
    ]
}
