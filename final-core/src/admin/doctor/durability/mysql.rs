//! Durability settings of MySQL and MariaDB.
//!
//! Input: global variables, which are the same for all sessions. Output: findings.

use std::collections::HashMap;

use super::super::{
    finding::{Diagnosis, Finding, Level},
    ward::Ward,
};
use crate::{OutboxDatabase, database::DbResult};

pub(in super::super) const FLUSH_LOG_AT_TRX_COMMIT: Diagnosis = Diagnosis::new(
    Level::Error,
    "innodb_flush_log_at_trx_commit",
    "A crash undoes commits of up to a second that the server has answered, so a message and the business row beside \
     it can be lost together",
);

pub(in super::super) const SYNC_BINLOG: Diagnosis = Diagnosis::new(
    Level::Error,
    "sync_binlog",
    "A crash of the machine takes commits out of the binary log that the server has answered, so replicas never get \
     them, and a recovery by the binary log undoes them",
);

pub(in super::super) const DOUBLEWRITE_OFF: Diagnosis = Diagnosis::new(
    Level::Error,
    "innodb_doublewrite_off",
    "A crash of the machine in the midst of a write can damage pages of the tables, beyond repair",
);

const VARIABLES: &str = "SHOW GLOBAL VARIABLES WHERE Variable_name IN \
    ('innodb_flush_log_at_trx_commit', 'log_bin', 'sync_binlog', 'innodb_doublewrite')";

pub(super) async fn look<DB: OutboxDatabase>(ward: &Ward<DB>) -> DbResult<Vec<Finding>> {
    let variables: Vec<(String, String)> = ward.rows(VARIABLES, &[]).await?;
    let variables: HashMap<String, String> = variables.into_iter().collect();
    let value = |name: &str| variables.get(name).map_or("", String::as_str);
    let mut findings = Vec::new();
    let set = |diagnosis: &Diagnosis, name: &str| {
        diagnosis.found(
            format!("{name} is {} on the server", value(name)),
            format!(
                "Run `SET GLOBAL {name} = 1`, and write `{name} = 1` under [mysqld] in its configuration, so that a \
                 restart keeps it"
            ),
        )
    };
    // 3 is MariaDB's, and waits as 1 does.
    if ["0", "2"].contains(&value("innodb_flush_log_at_trx_commit")) {
        findings.push(set(
            &FLUSH_LOG_AT_TRX_COMMIT,
            "innodb_flush_log_at_trx_commit",
        ));
    }
    if value("log_bin") == "ON" && value("sync_binlog") != "1" {
        findings.push(set(&SYNC_BINLOG, "sync_binlog"));
    }
    if ["OFF", "0", "DETECT_ONLY"].contains(&value("innodb_doublewrite")) {
        findings.push(DOUBLEWRITE_OFF.found(
            format!("innodb_doublewrite is {} on the server", value("innodb_doublewrite")),
            "Write `innodb_doublewrite = ON` under [mysqld] in its configuration, and restart the server",
        ));
    }
    Ok(findings)
}
