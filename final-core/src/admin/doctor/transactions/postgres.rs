//! Open transactions, prepared ones and replication slots of PostgreSQL.
//!
//! Input: its catalogs. Output: findings. Only what holds back vacuum in this database is told.

use std::time::Duration;

use super::super::{
    finding::{COULD_NOT_CHECK, Finding},
    ward::Ward,
};
use super::{PREPARED_TRANSACTION_OPEN, REPLICATION_SLOT_UNUSED, TRANSACTION_OPEN, age};
use crate::{
    OutboxDatabase,
    database::{DbResult, columns, limits::micros},
};

columns! {
    struct OpenTransaction {
        pid: i64,
        role: String,
        program: String,
        state: String,
        age: i64,
    }
}

/// A session without a snapshot and without an id holds nothing back.
const OPEN: &str = "\
    SELECT pid::bigint AS pid, COALESCE(usename::text, '') AS role, COALESCE(application_name, '') AS program, \
        COALESCE(state, '') AS state, (extract(epoch FROM clock_timestamp() - xact_start) * 1000000)::bigint AS age \
    FROM pg_catalog.pg_stat_activity \
    WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid() \
      AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL) \
      AND xact_start < clock_timestamp() - ?::bigint * interval '1 microsecond' ORDER BY xact_start LIMIT 5";

/// What a role without the right sees of another one's session.
const HIDDEN: &str = "\
    SELECT count(*), current_user::text FROM pg_catalog.pg_stat_activity \
    WHERE datname = current_database() AND query = '<insufficient privilege>'";

const DEAD_ROWS: &str = "\
    SELECT COALESCE(sum(n_dead_tup), 0)::bigint FROM pg_catalog.pg_stat_user_tables \
    WHERE schemaname = current_schema() AND relname LIKE 'final\\_%'";

const PREPARED: &str = "\
    SELECT gid::text, owner::text, (extract(epoch FROM clock_timestamp() - prepared) * 1000000)::bigint \
    FROM pg_catalog.pg_prepared_xacts WHERE database = current_database() \
      AND prepared < clock_timestamp() - ?::bigint * interval '1 microsecond' ORDER BY prepared LIMIT 5";

/// A slot that is used by nobody. Without a place in the write-ahead log it holds nothing.
const SLOTS: &str = "\
    SELECT slot_name::text, COALESCE(pg_size_pretty(pg_wal_lsn_diff( \
            CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END, \
            restart_lsn)), '') \
    FROM pg_catalog.pg_replication_slots WHERE NOT active AND restart_lsn IS NOT NULL ORDER BY slot_name";

pub(super) async fn look<DB: OutboxDatabase>(
    ward: &Ward<DB>,
    limit: Duration,
) -> DbResult<Vec<Finding>> {
    let limit = [micros(limit).into()];
    let mut findings = Vec::new();
    let open: Vec<OpenTransaction> = ward.rows(OPEN, &limit).await?;
    let dead: i64 = ward.first(DEAD_ROWS, &[]).await?;
    findings.extend(open.iter().map(|open| of_transaction(open, dead)));
    let (hidden, role): (i64, String) = ward.first(HIDDEN, &[]).await?;
    if hidden > 0 {
        let role = DB::DIALECT.quoted(&role);
        findings.push(COULD_NOT_CHECK.found(
            format!("how long the transactions of {hidden} session(s) of other roles are open cannot be told"),
            format!("Let the role of this program see them: `GRANT pg_read_all_stats TO {role}`"),
        ));
    }
    let prepared: Vec<(String, String, i64)> = ward.rows(PREPARED, &limit).await?;
    findings.extend(prepared.iter().map(of_prepared));
    let slots: Vec<(String, String)> = ward.rows(SLOTS, &[]).await?;
    findings.extend(slots.iter().map(of_slot));
    Ok(findings)
}

fn of_transaction(open: &OpenTransaction, dead: i64) -> Finding {
    let OpenTransaction {
        pid,
        role,
        program,
        state,
        age: since,
    } = open;
    TRANSACTION_OPEN.found(
        format!(
            "session {pid} (role {role}, program {program:?}, {state}) has had a transaction open for {}; the tables of \
             the bus have {dead} dead rows",
            age(*since)
        ),
        format!("End it where it was begun, or run `SELECT pg_terminate_backend({pid})`"),
    )
}

fn of_prepared((gid, owner, since): &(String, String, i64)) -> Finding {
    let quoted = gid.replace('\'', "''");
    PREPARED_TRANSACTION_OPEN.found(
        format!(
            "the prepared transaction {gid:?} of the role {owner} is {} old",
            age(*since)
        ),
        format!("If its coordinator does not come back, run `ROLLBACK PREPARED '{quoted}'`"),
    )
}

fn of_slot((slot, kept): &(String, String)) -> Finding {
    let quoted = slot.replace('\'', "''");
    REPLICATION_SLOT_UNUSED.found(
        format!("nobody reads the replication slot {slot}, for which the server keeps {kept} of its write-ahead log"),
        format!("Start its reader, or run `SELECT pg_drop_replication_slot('{quoted}')`"),
    )
}
