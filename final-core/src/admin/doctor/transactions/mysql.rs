//! Open transactions and the history list of InnoDB.
//!
//! Input: tables of `information_schema`, which need the right PROCESS. Output: findings.

use std::time::Duration;

use super::super::{finding::Finding, ward::Ward};
use super::{HISTORY_LONG, PREPARED_TRANSACTION_OPEN, TRANSACTION_OPEN, age};
use crate::{
    OutboxDatabase,
    database::{
        DbResult,
        limits::{count, micros},
    },
};

/// InnoDB removes rows for all databases of the server together.
const OPEN: &str = "\
    SELECT CAST(trx_mysql_thread_id AS SIGNED), CAST(TIMESTAMPDIFF(MICROSECOND, trx_started, NOW(6)) AS SIGNED), \
        COALESCE((SELECT CONVERT(CONCAT(p.user, '@', p.host) USING utf8mb4) FROM information_schema.PROCESSLIST p \
            WHERE p.id = trx_mysql_thread_id), '') \
    FROM information_schema.INNODB_TRX \
    WHERE trx_mysql_thread_id <> CONNECTION_ID() \
      AND TIMESTAMPDIFF(MICROSECOND, trx_started, NOW(6)) > ? ORDER BY trx_started LIMIT 5";

const HISTORY: &str = "\
    SELECT CAST(`COUNT` AS SIGNED) FROM information_schema.INNODB_METRICS WHERE NAME = 'trx_rseg_history_len'";

pub(super) async fn look<DB: OutboxDatabase>(
    ward: &Ward<DB>,
    limit: Duration,
    most_history: u64,
) -> DbResult<Vec<Finding>> {
    let open: Vec<(i64, i64, String)> = ward.rows(OPEN, &[micros(limit).into()]).await?;
    let mut findings: Vec<Finding> = open.iter().map(of_transaction).collect();
    let history: Vec<i64> = ward.rows(HISTORY, &[]).await?;
    let history = count(history.first().copied().unwrap_or_default());
    if history > most_history {
        findings.push(HISTORY_LONG.found(
            format!("InnoDB keeps {history} changes that it has not removed yet"),
            "Look for the oldest transaction with `SELECT * FROM information_schema.INNODB_TRX ORDER BY trx_started \
             LIMIT 1` and end it; if there is none, wait, and raise innodb_purge_threads",
        ));
    }
    Ok(findings)
}

fn of_transaction((thread, since, account): &(i64, i64, String)) -> Finding {
    if *thread == 0 {
        return PREPARED_TRANSACTION_OPEN.found(
            format!("a prepared (XA) transaction without a session is {} old", age(*since)),
            "`XA RECOVER` shows its name; if its coordinator does not come back, end it by XA ROLLBACK and the name",
        );
    }
    TRANSACTION_OPEN.found(
        format!(
            "session {thread} ({account}) has had a transaction open for {}",
            age(*since)
        ),
        format!("End it where it was begun, or run `KILL {thread}`"),
    )
}
