//! Sequence numbers of the log that went back.
//!
//! Input: the check that every reader of the log makes, see `log/tables/sequence.rs`. Output: findings.

use super::finding::{Diagnosis, Finding, Level};
use crate::{
    OutboxDatabase,
    database::{DbResult, Dialect},
    log::tables::Log,
};

pub(super) const SEQUENCE_BEHIND: Diagnosis = Diagnosis::new(
    Level::Error,
    "sequence_behind",
    "The next messages get sequence numbers that the groups take for done. A running service raises the sequence by \
     itself; until one does, nothing may be published",
);

pub(super) const NUMBERS_USED_TWICE: Diagnosis = Diagnosis::new(
    Level::Error,
    "numbers_used_twice",
    "The groups take these messages for done. A running service gives them new numbers by itself; until one does, they \
     are not delivered",
);

pub(super) async fn look<DB: OutboxDatabase>(log: &Log<DB>) -> DbResult<Vec<Finding>> {
    let row = log.sequence_row().await?;
    let check = row.check(&[]);
    let mut findings = Vec::new();
    if let Some(last) = check.last.filter(|last| *last < check.highest) {
        findings.push(behind(DB::DIALECT, "final_log", last, check.highest));
    }
    if let (Some(last), Some(highest)) = (row.last_scheduled, row.highest_scheduled)
        && check.scheduled_is_back
    {
        findings.push(behind(DB::DIALECT, "final_log_scheduled", last, highest));
    }
    if check.has_second {
        findings.push(NUMBERS_USED_TWICE.found(
            "messages of the log have sequence numbers that were used before",
            "Start an instance of a service that reads the log",
        ));
    }
    Ok(findings)
}

fn behind(dialect: Dialect, table: &str, last: i64, highest: i64) -> Finding {
    let raise = match dialect {
        Dialect::Postgres => {
            format!("`SELECT setval(pg_get_serial_sequence('{table}', 'seq'), {highest})`")
        }
        Dialect::MySql => format!(
            "`ALTER TABLE {table} AUTO_INCREMENT = {}`",
            highest.saturating_add(1)
        ),
        Dialect::Sqlite => format!(
            "`DELETE FROM sqlite_sequence WHERE name = '{table}'` and \
             `INSERT INTO sqlite_sequence (name, seq) VALUES ('{table}', {highest})`"
        ),
    };
    SEQUENCE_BEHIND.found(
        format!(
            "the next sequence number of {table} is {}, and numbers up to {highest} were used",
            last.saturating_add(1)
        ),
        format!("Start an instance of a service that reads the log, or run {raise}"),
    )
}
