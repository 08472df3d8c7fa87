//! Durability settings of PostgreSQL, and the place where each is set.
//!
//! Input: a new session as the caller's are, and the settings of roles and databases. Output: findings.

use super::super::{
    finding::{Diagnosis, Finding, Level},
    ward::Ward,
};
use crate::{
    OutboxDatabase,
    database::{DbResult, Dialect},
};

pub(in super::super) const SYNCHRONOUS_COMMIT_OFF: Diagnosis = Diagnosis::new(
    Level::Error,
    "synchronous_commit_off",
    "A crash of the server undoes commits that it has answered, so a message and the business row beside it can be \
     lost together",
);

pub(in super::super) const FSYNC_OFF: Diagnosis = Diagnosis::new(
    Level::Error,
    "fsync_off",
    "A crash of the machine can undo commits and damage the whole database",
);

pub(in super::super) const FULL_PAGE_WRITES_OFF: Diagnosis = Diagnosis::new(
    Level::Error,
    "full_page_writes_off",
    "A crash of the machine in the midst of a write can damage pages of the tables, beyond repair",
);

/// What was set for roles and databases.
const CHOSEN: &str = "\
    SELECT COALESCE(d.datname::text, '') AS database, COALESCE(r.rolname::text, '') AS role, c.config::text AS config \
    FROM pg_catalog.pg_db_role_setting s \
    CROSS JOIN LATERAL unnest(s.setconfig) AS c(config) \
    LEFT JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase \
    LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole \
    WHERE (s.setdatabase = 0 OR d.datname = current_database()) AND c.config LIKE 'synchronous_commit=%' \
    ORDER BY 1, 2";

const SETTINGS: &str = "\
    SELECT name::text, setting::text, source::text FROM pg_catalog.pg_settings \
    WHERE name IN ('synchronous_commit', 'fsync', 'full_page_writes') ORDER BY name";

pub(super) async fn look<DB: OutboxDatabase>(ward: &Ward<DB>) -> DbResult<Vec<Finding>> {
    let mut findings = Vec::new();
    let chosen: Vec<(String, String, String)> = ward.rows(CHOSEN, &[]).await?;
    for (database, role, config) in chosen {
        if config == "synchronous_commit=off" {
            findings.push(of_role(&database, &role));
        }
    }
    let settings: Vec<(String, String, String)> = ward.callers_rows(SETTINGS).await?;
    for (name, setting, source) in settings {
        let diagnosis = match &*name {
            "fsync" => FSYNC_OFF,
            "full_page_writes" => FULL_PAGE_WRITES_OFF,
            _ => SYNCHRONOUS_COMMIT_OFF,
        };
        // What a role or a database says is among the chosen ones.
        let is_chosen = ["database", "user", "database user", "global"].contains(&&*source);
        if setting == "off" && !is_chosen {
            findings.push(of_server(&diagnosis, &name, &source));
        }
    }
    Ok(findings)
}

fn of_role(database: &str, role: &str) -> Finding {
    let quoted = |name: &str| Dialect::Postgres.quoted(name);
    let (place, alter) = match (database, role) {
        (_, "") => (
            format!("for the database {database}"),
            format!("ALTER DATABASE {}", quoted(database)),
        ),
        ("", _) => (
            format!("for the role {role}"),
            format!("ALTER ROLE {}", quoted(role)),
        ),
        _ => (
            format!("for the role {role} in the database {database}"),
            format!(
                "ALTER ROLE {} IN DATABASE {}",
                quoted(role),
                quoted(database)
            ),
        ),
    };
    SYNCHRONOUS_COMMIT_OFF.found(
        format!("synchronous_commit is off {place}"),
        format!("Run `{alter} RESET synchronous_commit`; it counts for new connections, so restart the services"),
    )
}

fn of_server(diagnosis: &Diagnosis, name: &str, source: &str) -> Finding {
    let (place, mend) = match source {
        "command line" => (
            "by the command line of the server",
            format!("Start the server without `-c {name}=off`"),
        ),
        "client" | "session" | "environment variable" | "interactive" => (
            "by the connect options or a hook of the pool",
            format!("Leave `{name}` out of the options of the URL and out of the pool's hooks"),
        ),
        _ => (
            "on the server",
            format!("Run `ALTER SYSTEM SET {name} = on` and `SELECT pg_reload_conf()`"),
        ),
    };
    diagnosis.found(format!("{name} is off {place}"), mend)
}
