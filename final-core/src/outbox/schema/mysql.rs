//! The outbox's tables in MySQL and MariaDB.
//!
//! Input: the service. Output: the statements that make its tables, see [`statements`](super::statements).

use crate::{
    database::{Dialect, create_versions},
    names::ServiceName,
    outbox::{letters::create_letters, marks::create_marks},
};

/// See [`statements`](super::statements).
///
/// MySQL has no partial indexes. So beside its key the table has only two indexes, and each begins with the
/// status.
pub(super) fn statements(service: &ServiceName) -> Vec<String> {
    let table = service.table();
    vec![
        create_versions(Dialect::MySql),
        format!(
            "CREATE TABLE IF NOT EXISTS {table} (\n  \
               message_id BINARY(16) NOT NULL PRIMARY KEY,\n  \
               topic VARCHAR(255) NOT NULL,\n  \
               message_key MEDIUMTEXT NULL,\n  \
               headers MEDIUMTEXT NULL,\n  \
               payload LONGBLOB NOT NULL,\n  \
               content_type VARCHAR(255) NOT NULL,\n  \
               durable BOOLEAN NOT NULL,\n  \
               expires_at DATETIME(6) NULL,\n  \
               status SMALLINT NOT NULL,\n  \
               attempts INT NOT NULL DEFAULT 0,\n  \
               faults INT NOT NULL DEFAULT 0,\n  \
               last_error TEXT NULL,\n  \
               due_at DATETIME(6) NOT NULL,\n  \
               available_at DATETIME(6) NOT NULL,\n  \
               claimed_by BINARY(16) NULL,\n  \
               created_at DATETIME(6) NOT NULL,\n  \
               sent_at DATETIME(6) NULL,\n  \
               acked_at DATETIME(6) NULL,\n  \
               sent_as BINARY(16) NULL,\n  \
               CONSTRAINT {status} CHECK (status BETWEEN 0 AND 3),\n  \
               KEY {due} (status, available_at, message_id),\n  \
               KEY {parked} (status, topic, message_id)\n\
             ) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
            status = service.short("status"),
            due = service.short("due"),
            parked = service.short("parked"),
        ),
        format!(
            "CREATE TABLE IF NOT EXISTS {} (\n  \
               number BIGINT NOT NULL PRIMARY KEY,\n  \
               owner BINARY(16) NOT NULL,\n  \
               live_until DATETIME(6) NOT NULL,\n  \
               first_at DATETIME(6) NOT NULL,\n  \
               first_id BINARY(16) NOT NULL,\n  \
               last_at DATETIME(6) NOT NULL,\n  \
               last_id BINARY(16) NOT NULL,\n  \
               KEY {} (live_until)\n\
             ) ENGINE = InnoDB",
            service.claims_table(),
            service.short("live"),
        ),
        create_marks(Dialect::MySql, service),
        create_letters(Dialect::MySql, service),
        super::written_down(&table, service),
    ]
}
