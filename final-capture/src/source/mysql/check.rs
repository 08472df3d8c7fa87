//! What of a source would lose changes, or be in the way: settings and rights.
//!
//! Input: the server's [`Facts`], and a connection. Output: findings, each with the statement that mends it. Nothing
//! is changed. The tables are looked at in [`tables`].

use final_core::admin::doctor::{Diagnosis, Finding, Level};
use mysql_async::{Conn, Error, Row, prelude::Queryable};

use super::{server::Facts, tables};
use crate::select::Selection;

const NOT_MARIADB: Diagnosis = Diagnosis::new(
    Level::Error,
    "source_not_mariadb",
    "Other servers write other events, and these are not read yet",
);
const LOG_OFF: Diagnosis = Diagnosis::new(
    Level::Error,
    "source_log_bin_off",
    "Without a binary log no change is written anywhere",
);
const FORMAT: Diagnosis = Diagnosis::new(
    Level::Error,
    "source_binlog_format",
    "Changes are written as statements, and a statement does not tell which rows it has changed",
);
const METADATA: Diagnosis = Diagnosis::new(
    Level::Error,
    "source_binlog_row_metadata",
    "Rows come without the names, signs and character sets of their columns, so values would come under wrong columns",
);
const IMAGE: Diagnosis = Diagnosis::new(
    Level::Warning,
    "source_binlog_row_image",
    "Rows come with some columns only: what is before a change, and what an INSERT left to its default, is not told",
);
const RETENTION: Diagnosis = Diagnosis::new(
    Level::Warning,
    "source_binlog_retention",
    "The server removes its log by age, also what was not captured. A capture that is down for longer has a gap",
);
const GRANT: Diagnosis = Diagnosis::new(
    Level::Error,
    "source_grant_missing",
    "The server does not let the user read its log",
);
const GRANT_MONITOR: Diagnosis = Diagnosis::new(
    Level::Warning,
    "source_grant_monitor_missing",
    "The server does not tell the user which files there are, so a gap is told without what is left, and a first start \
     by file and offset is not possible. It does not tell either whether a schema is left out of the log",
);
const REPLICA: Diagnosis = Diagnosis::new(
    Level::Error,
    "source_replica_without_log",
    "The server copies another one, and does not write those changes to its own log",
);
const SERVER_ID: Diagnosis = Diagnosis::new(
    Level::Warning,
    "source_server_id_taken",
    "The server ends the stream of the older one of two readers with the same id",
);
const PREPARED: Diagnosis = Diagnosis::new(
    Level::Error,
    "source_xa_prepared",
    "The rows of a distributed transaction are in the log where it was prepared, which is before the start of the \
     capture",
);

const DAY: u64 = 86_400;

/// All findings.
pub(super) async fn findings(
    conn: &mut Conn,
    facts: &Facts,
    server_id: u32,
    wanted: &Selection,
) -> Result<Vec<Finding>, Error> {
    let mut findings = settings(facts, server_id);
    findings.extend(prepared(facts));
    findings.extend(rights(conn).await?);
    findings.extend(tables::left_out(conn, &facts.filter, wanted).await?);
    findings.extend(taken(conn, server_id).await);
    findings.extend(tables::findings(conn, wanted).await?);
    findings.sort_by_key(|finding| finding.level);
    Ok(findings)
}

/// Findings of the settings.
pub(super) fn settings(facts: &Facts, server_id: u32) -> Vec<Finding> {
    if !facts.is_mariadb() {
        return vec![NOT_MARIADB.found(
            format!("the source is version {}", facts.version),
            "Capture from MariaDB 10.11 or later",
        )];
    }
    let mut findings = Vec::new();
    let is = |name: &str, value: &str| facts.setting(name).eq_ignore_ascii_case(value);
    let seen = |name: &str| format!("{name} is {}", facts.setting(name));
    if !is("log_bin", "ON") {
        findings.push(LOG_OFF.found(
            seen("log_bin"),
            "Start the server with `--log-bin --binlog-format=ROW --binlog-row-metadata=FULL`",
        ));
    }
    if !is("binlog_format", "ROW") {
        findings.push(FORMAT.found(
            seen("binlog_format"),
            "Run `SET GLOBAL binlog_format = 'ROW'`, write it to the server's configuration, and let all sessions \
             connect again",
        ));
    }
    if !is("binlog_row_metadata", "FULL") {
        findings.push(METADATA.found(
            seen("binlog_row_metadata"),
            "Run `SET GLOBAL binlog_row_metadata = 'FULL'` and write it to the server's configuration",
        ));
    }
    if !is("binlog_row_image", "FULL") && !is("binlog_row_image", "FULL_NODUP") {
        findings.push(IMAGE.found(
            seen("binlog_row_image"),
            "Run `SET GLOBAL binlog_row_image = 'FULL'` and write it to the server's configuration",
        ));
    }
    let kept: Option<u64> = facts.setting("binlog_expire_logs_seconds").parse().ok();
    if let Some(kept) = kept.filter(|kept| (1..DAY).contains(kept)) {
        findings.push(RETENTION.found(
            format!("the log is kept for {kept} s"),
            format!("Run `SET GLOBAL binlog_expire_logs_seconds = {}`", 7 * DAY),
        ));
    }
    if facts.is_replica && !is("log_slave_updates", "ON") {
        findings.push(REPLICA.found(
            seen("log_slave_updates"),
            "Start the server with `--log-slave-updates`, or capture from the server that it copies. If it copies none any \
             more, `GRANT REPLICA MONITOR ON *.* TO user` lets the check see that",
        ));
    }
    if facts.server_id == server_id {
        findings.push(SERVER_ID.found(
            format!("server_id {server_id} is that of the source itself"),
            "Give this capture a `server_id` that nobody has",
        ));
    }
    findings
}

/// Distributed transactions that were prepared before the first start. Later on they are seen in the stream.
pub(super) fn prepared(facts: &Facts) -> Option<Finding> {
    (facts.prepared > 0).then(|| {
        PREPARED.found(
            format!("{} distributed transactions are prepared", facts.prepared),
            "Look at `XA RECOVER`, and finish each by `XA COMMIT` or `XA ROLLBACK` before the first start",
        )
    })
}

/// Findings of the user's rights.
pub(super) async fn rights(conn: &mut Conn) -> Result<Vec<Finding>, Error> {
    let grants: Vec<String> = conn.query("SHOW GRANTS").await?;
    let has = |right: &str| {
        grants.iter().any(|grant| {
            let (rights, place) = grant.split_once(" ON ").unwrap_or((grant, ""));
            place.starts_with("*.*")
                && (rights.contains(right) || rights.contains("ALL PRIVILEGES"))
        })
    };
    let mut findings = Vec::new();
    if !has("REPLICATION SLAVE") {
        findings.push(GRANT.found(
            "the user has not the right REPLICATION SLAVE",
            "Run `GRANT REPLICATION SLAVE, BINLOG MONITOR ON *.* TO user`",
        ));
    }
    if !has("BINLOG MONITOR") && !has("REPLICATION CLIENT") {
        findings.push(GRANT_MONITOR.found(
            "the user has not the right BINLOG MONITOR",
            "Run `GRANT BINLOG MONITOR ON *.* TO user`",
        ));
    }
    Ok(findings)
}

/// Whether another reader has our id.
async fn taken(conn: &mut Conn, server_id: u32) -> Option<Finding> {
    let readers: Vec<Row> = conn.query("SHOW SLAVE HOSTS").await.ok()?;
    let is_ours = |row: &Row| row.get::<u32, _>(0) == Some(server_id);
    readers.iter().any(is_ours).then(|| {
        SERVER_ID.found(
            format!("a reader with server_id {server_id} is connected to the source"),
            "Give each reader a `server_id` of its own. It may be this capture itself, if it runs",
        )
    })
}
