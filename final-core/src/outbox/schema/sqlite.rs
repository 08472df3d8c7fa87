//! The outbox's tables in SQLite.
//!
//! Input: the service. Output: the statements that make its tables, see [`statements`](super::statements).

use super::VERSION;
use crate::{
    database::{Dialect, MIGRATIONS, create_versions},
    names::ServiceName,
    outbox::{letters::create_letters, marks::create_marks},
};

/// See [`statements`](super::statements).
///
/// Times are milliseconds since 1970. The indexes are partial, so records that are parked, failed or kept cost
/// the others nothing.
pub(super) fn statements(service: &ServiceName) -> Vec<String> {
    let (table, claims) = (service.table(), service.claims_table());
    let name = service.as_str();
    vec![
        create_versions(Dialect::Sqlite),
        format!(
            "CREATE TABLE IF NOT EXISTS main.{table} (\n  \
               message_id BLOB NOT NULL PRIMARY KEY,\n  \
               topic TEXT NOT NULL,\n  \
               message_key TEXT,\n  \
               headers TEXT,\n  \
               payload BLOB NOT NULL,\n  \
               content_type TEXT NOT NULL,\n  \
               durable BOOLEAN NOT NULL,\n  \
               expires_at INTEGER,\n  \
               status INTEGER NOT NULL CONSTRAINT {status} CHECK (status BETWEEN 0 AND 3),\n  \
               attempts INTEGER NOT NULL DEFAULT 0,\n  \
               faults INTEGER NOT NULL DEFAULT 0,\n  \
               last_error TEXT,\n  \
               due_at INTEGER NOT NULL,\n  \
               available_at INTEGER NOT NULL,\n  \
               claimed_by BLOB,\n  \
               created_at INTEGER NOT NULL,\n  \
               sent_at INTEGER,\n  \
               acked_at INTEGER,\n  \
               sent_as BLOB\n)",
            status = service.short("status"),
        ),
        format!(
            "CREATE INDEX IF NOT EXISTS main.{} ON {table} (available_at, message_id) WHERE status = 0",
            service.short("due")
        ),
        format!(
            "CREATE INDEX IF NOT EXISTS main.{} ON {table} (topic, message_id) WHERE status = 1",
            service.short("parked")
        ),
        format!(
            "CREATE INDEX IF NOT EXISTS main.{} ON {table} (acked_at) WHERE status = 2",
            service.short("acked")
        ),
        format!(
            "CREATE INDEX IF NOT EXISTS main.{} ON {table} (message_id) WHERE status = 3",
            service.short("failed")
        ),
        format!(
            "CREATE INDEX IF NOT EXISTS main.{} ON {table} (sent_as) WHERE sent_as IS NOT NULL",
            service.short("sent_as")
        ),
        format!(
            "CREATE TABLE IF NOT EXISTS main.{claims} (\n  \
               number INTEGER NOT NULL PRIMARY KEY,\n  \
               owner BLOB NOT NULL,\n  \
               live_until INTEGER NOT NULL,\n  \
               first_at INTEGER NOT NULL,\n  \
               first_id BLOB NOT NULL,\n  \
               last_at INTEGER NOT NULL,\n  \
               last_id BLOB NOT NULL\n)"
        ),
        format!(
            "CREATE INDEX IF NOT EXISTS main.{} ON {claims} (live_until)",
            service.short("live")
        ),
        create_marks(Dialect::Sqlite, service),
        create_letters(Dialect::Sqlite, service),
        format!(
            "INSERT INTO main.{MIGRATIONS} (table_name, service, version) VALUES ('{table}', '{name}', {VERSION}) \
             ON CONFLICT (table_name) DO UPDATE SET version = max(version, excluded.version)"
        ),
    ]
}
