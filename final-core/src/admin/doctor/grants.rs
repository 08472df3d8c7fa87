//! Rights that the role of a service needs on the tables of the bus.
//!
//! Input: the tables. Output: a finding for each table with a statement that the database refuses.
//!
//! Each statement is explained in place of being run, so it changes nothing and fires no trigger. The role is that of
//! the pool that the examination was given.

use super::{
    finding::{Diagnosis, Finding, Level},
    tables::OurTables,
    ward::Ward,
};
use crate::{
    OutboxDatabase,
    database::{DbResult, Dialect},
};

pub(super) const GRANT_MISSING: Diagnosis = Diagnosis::new(
    Level::Error,
    "grant_missing",
    "A service with this role is refused these statements, so messages stay where they are",
);

pub(super) const SEQUENCE_GRANT_MISSING: Diagnosis = Diagnosis::new(
    Level::Warning,
    "sequence_grant_missing",
    "After a failover or a restore that lost commits, sequence numbers go back. A service that may not raise the \
     sequence then stops reading the log until somebody raises it",
);

pub(super) async fn look<DB: OutboxDatabase>(
    ward: &Ward<DB>,
    tables: &OurTables,
) -> DbResult<Vec<Finding>> {
    // A file has no roles.
    if DB::DIALECT == Dialect::Sqlite {
        return Ok(Vec::new());
    }
    let role = match DB::DIALECT {
        Dialect::MySql => "SELECT CURRENT_USER()",
        Dialect::Postgres | Dialect::Sqlite => "SELECT current_user::text",
    };
    let role = ward.callers_rows::<String>(role).await?.concat();
    let grantee = grantee(DB::DIALECT, &role);
    let mut findings = Vec::new();
    for table in &tables.names {
        let columns = ward.columns(table).await?;
        let refused = refused(ward, table, &columns).await?;
        if !refused.is_empty() {
            let refused = refused.join(", ");
            findings.push(GRANT_MISSING.found(
                format!("the role {role} may not {refused} on the table {table}"),
                format!("Run `GRANT {refused} ON {table} TO {grantee}`"),
            ));
        }
    }
    if DB::DIALECT == Dialect::Postgres && tables.has_log {
        findings.extend(sequences(ward, &role, &grantee).await?);
    }
    Ok(findings)
}

/// The kinds of statements that the database refuses on a table.
async fn refused<DB: OutboxDatabase>(
    ward: &Ward<DB>,
    table: &str,
    columns: &[String],
) -> DbResult<Vec<&'static str>> {
    let columns: Vec<String> = columns
        .iter()
        .map(|name| DB::DIALECT.quoted(name))
        .collect();
    let list = columns.join(", ");
    let same: Vec<String> = columns
        .iter()
        .map(|name| format!("{name} = {name}"))
        .collect();
    let same = same.join(", ");
    let mut refused = Vec::new();
    for (kind, statement) in [
        ("SELECT", format!("SELECT {list} FROM {table} WHERE 1 = 0")),
        (
            "INSERT",
            format!("INSERT INTO {table} ({list}) SELECT {list} FROM {table} WHERE 1 = 0"),
        ),
        ("UPDATE", format!("UPDATE {table} SET {same} WHERE 1 = 0")),
        ("DELETE", format!("DELETE FROM {table} WHERE 1 = 0")),
    ] {
        match ward.explain(&statement).await {
            Err(error) if is_denied(&error) => refused.push(kind),
            explained => explained?,
        }
    }
    Ok(refused)
}

/// Sequences of the log whose numbers the role may not read or raise.
async fn sequences<DB: OutboxDatabase>(
    ward: &Ward<DB>,
    role: &str,
    grantee: &str,
) -> DbResult<Vec<Finding>> {
    let refused = "SELECT s::regclass::text FROM (VALUES (pg_get_serial_sequence('final_log', 'seq')), \
            (pg_get_serial_sequence('final_log_scheduled', 'seq'))) q(s) \
        WHERE s IS NOT NULL AND NOT (has_sequence_privilege(s, 'USAGE') AND has_sequence_privilege(s, 'SELECT') \
            AND has_sequence_privilege(s, 'UPDATE'))";
    let refused: Vec<String> = ward.callers_rows(refused).await?;
    let finding = |sequence: String| {
        SEQUENCE_GRANT_MISSING.found(
            format!("the role {role} may not read and raise the sequence {sequence}"),
            format!("Run `GRANT USAGE, SELECT, UPDATE ON SEQUENCE {sequence} TO {grantee}`"),
        )
    };
    Ok(refused.into_iter().map(finding).collect())
}

fn is_denied(error: &sqlx::Error) -> bool {
    let Some(error) = error.as_database_error() else {
        return false;
    };
    error.code().is_some_and(|code| code == "42501") || error.message().contains("command denied")
}

/// The role as GRANT wants it. MySQL tells it as `user@host`.
fn grantee(dialect: Dialect, role: &str) -> String {
    match (dialect, role.rsplit_once('@')) {
        (Dialect::MySql, Some((user, host))) => {
            let text = |text: &str| format!("'{}'", text.replace('\'', "''"));
            format!("{}@{}", text(user), text(host))
        }
        _ => dialect.quoted(role),
    }
}
