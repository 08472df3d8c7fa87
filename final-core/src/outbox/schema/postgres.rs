//! The outbox's tables in PostgreSQL.
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
/// The indexes are partial, so records that are parked, failed or kept cost the others nothing.
///
/// Few records are ever updated. An update cannot stay on its page as a heap-only tuple, because it changes an
/// indexed column. So the pages are filled to the brim.
///
/// Vacuum begins after a number of changed rows and not after a share of the table. The table is empty at one
/// time and has a million rows at another: a share of the one is nothing, and a share of the other comes too
/// late.
pub(super) fn statements(service: &ServiceName) -> Vec<String> {
    let (table, claims) = (service.table(), service.claims_table());
    let name = service.as_str();
    vec![
        create_versions(Dialect::Postgres),
        format!(
            "CREATE TABLE IF NOT EXISTS {table} (\n  \
               message_id uuid PRIMARY KEY,\n  \
               topic text NOT NULL,\n  \
               message_key text,\n  \
               headers text,\n  \
               payload bytea NOT NULL,\n  \
               content_type text NOT NULL,\n  \
               durable boolean NOT NULL,\n  \
               expires_at timestamptz,\n  \
               status smallint NOT NULL CONSTRAINT {status} CHECK (status BETWEEN 0 AND 3),\n  \
               attempts integer NOT NULL DEFAULT 0,\n  \
               faults integer NOT NULL DEFAULT 0,\n  \
               last_error text,\n  \
               due_at timestamptz NOT NULL,\n  \
               available_at timestamptz NOT NULL,\n  \
               claimed_by uuid,\n  \
               created_at timestamptz NOT NULL,\n  \
               sent_at timestamptz,\n  \
               acked_at timestamptz,\n  \
               sent_as uuid\n\
             ) WITH (\n  \
               autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,\n  \
               autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 10000,\n  \
               autovacuum_vacuum_cost_delay = 0\n)",
            status = service.short("status"),
        ),
        format!(
            "CREATE INDEX IF NOT EXISTS {} ON {table} (available_at, message_id) WHERE status = 0",
            service.short("due")
        ),
        format!(
            "CREATE INDEX IF NOT EXISTS {} ON {table} (topic, message_id) WHERE status = 1",
            service.short("parked")
        ),
        format!(
            "CREATE INDEX IF NOT EXISTS {} ON {table} (acked_at) WHERE status = 2",
            service.short("acked")
        ),
        format!(
            "CREATE INDEX IF NOT EXISTS {} ON {table} (message_id) WHERE status = 3",
            service.short("failed")
        ),
        format!(
            "CREATE INDEX IF NOT EXISTS {} ON {table} (sent_as) WHERE sent_as IS NOT NULL",
            service.short("sent_as")
        ),
        format!(
            "CREATE TABLE IF NOT EXISTS {claims} (\n  \
               number bigint PRIMARY KEY,\n  \
               owner uuid NOT NULL,\n  \
               live_until timestamptz NOT NULL,\n  \
               first_at timestamptz NOT NULL,\n  \
               first_id uuid NOT NULL,\n  \
               last_at timestamptz NOT NULL,\n  \
               last_id uuid NOT NULL\n\
             ) WITH (\n  \
               autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,\n  \
               autovacuum_vacuum_cost_delay = 0\n)"
        ),
        format!(
            "CREATE INDEX IF NOT EXISTS {} ON {claims} (live_until)",
            service.short("live")
        ),
        create_marks(Dialect::Postgres, service),
        create_letters(Dialect::Postgres, service),
        format!(
            "INSERT INTO {MIGRATIONS} (table_name, service, version) VALUES ('{table}', '{name}', {VERSION}) \
             ON CONFLICT (table_name) DO UPDATE SET version = \
             GREATEST({MIGRATIONS}.version, EXCLUDED.version)"
        ),
    ]
}
