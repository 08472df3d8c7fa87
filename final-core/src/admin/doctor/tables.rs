//! Which tables of the bus there are, and whether they have the version of this release.
//!
//! Input: the services of the database, or the one that was named. Output: findings, and the [`Tables`](OurTables) that
//! the other checks look at.

use std::collections::BTreeSet;

use super::{
    finding::{Diagnosis, Finding, Level},
    ward::Ward,
};
use crate::{
    Error, OutboxDatabase,
    database::{DbResult, Dialect, MIGRATIONS},
    log::tables::{Log, dialect::TABLES},
    names::ServiceName,
};

pub(super) const TABLES_MISSING: Diagnosis = Diagnosis::new(
    Level::Error,
    "tables_missing",
    "Nothing can be published, and nothing is sent",
);

pub(super) const TABLES_OLD: Diagnosis = Diagnosis::new(
    Level::Warning,
    "tables_old",
    "A service of this release cannot work with them before they are migrated. Its start does that, if its role may",
);

pub(super) const TABLES_FOREIGN: Diagnosis = Diagnosis::new(
    Level::Error,
    "tables_foreign",
    "The service cannot start and cannot publish",
);

/// The tables of the bus that are there.
#[derive(Debug, Default)]
pub(super) struct OurTables {
    /// The services that have an outbox.
    pub(super) services: Vec<ServiceName>,
    /// Whether there is a log.
    pub(super) has_log: bool,
    /// The names of all tables, without schema.
    pub(super) names: BTreeSet<String>,
}

impl OurTables {
    /// Those that are there; of one service, if it is named.
    pub(super) async fn find<DB: OutboxDatabase>(
        ward: &Ward<DB>,
        only: Option<&ServiceName>,
    ) -> DbResult<(Self, Vec<Finding>)> {
        let mut found = Self::default();
        let mut findings = Vec::new();
        let is_there =
            async |table: &str| -> DbResult<bool> { Ok(!ward.columns(table).await?.is_empty()) };
        let services = match only {
            Some(service) => vec![service.clone()],
            None if is_there(MIGRATIONS).await? => services(ward).await?,
            None => Vec::new(),
        };
        for service in services {
            let outbox = service.table();
            if !is_there(&outbox).await? {
                findings.push(missing(&service, &outbox));
                continue;
            }
            for table in [
                outbox,
                service.claims_table(),
                service.suspects_table(),
                service.letters_table(),
            ] {
                if is_there(&table).await? {
                    found.names.insert(table);
                }
            }
            found.services.push(service);
        }
        let log = TABLES.map(|name| format!("final_log_{name}"));
        for table in ["final_log".to_owned()].into_iter().chain(log) {
            if is_there(&table).await? {
                found.names.insert(table);
            }
        }
        found.has_log = found.names.contains("final_log");
        if found.services.is_empty() && findings.is_empty() && !found.has_log {
            let what = "no table of the bus is in the selected schema of this database";
            let mend = "Check the URL, and the search_path on PostgreSQL; run `final migrate --service NAME`, or start the service";
            findings.push(TABLES_MISSING.found(what, mend));
        }
        Ok((found, findings))
    }

    pub(super) fn has(&self, table: &str) -> bool {
        self.names.contains(table)
    }
}

/// The services that are written down.
async fn services<DB: OutboxDatabase>(ward: &Ward<DB>) -> DbResult<Vec<ServiceName>> {
    let table = match DB::DIALECT {
        Dialect::Sqlite => format!("main.{MIGRATIONS}"),
        Dialect::Postgres | Dialect::MySql => MIGRATIONS.to_owned(),
    };
    let services =
        format!("SELECT DISTINCT service FROM {table} WHERE service <> '' ORDER BY service");
    let services: Vec<String> = ward.rows(&services, &[]).await?;
    let services = services.iter().map(|service| ServiceName::new(service));
    Ok(services.filter_map(Result::ok).collect())
}

fn missing(service: &ServiceName, table: &str) -> Finding {
    let service = service.as_str();
    TABLES_MISSING.found(
        format!(
            "the service {service} has no table {table} in the selected schema of this database"
        ),
        format!(
            "Run `final migrate --service {service}`, or start the service with a role that may create tables"
        ),
    )
}

/// Whether the tables of a service have the version of this release, by the plan that its start would make.
pub(super) fn version(
    service: &ServiceName,
    plan: Result<bool, Error>,
) -> Result<Vec<Finding>, Error> {
    let name = service.as_str();
    match plan {
        Ok(true) => Ok(Vec::new()),
        Ok(false) => Ok(vec![TABLES_OLD.found(
            format!("the tables of the service {name} are older than this release, or incomplete"),
            format!("Run `final migrate --service {name}`"),
        )]),
        Err(Error::ForeignTable { table, reason }) => Ok(vec![TABLES_FOREIGN.found(
            format!("the table {table} is not the outbox of the service {name}"),
            format!("Look at the reason: {reason}"),
        )]),
        Err(error) => Err(error),
    }
}

/// Whether the tables of the log have the version of this release.
pub(super) async fn log_version<DB: OutboxDatabase>(log: &Log<DB>) -> DbResult<Vec<Finding>> {
    if log.is_current().await? {
        return Ok(Vec::new());
    }
    Ok(vec![TABLES_OLD.found(
        "the tables of the log are older than this release, or incomplete",
        "Run `final migrate --log`, or start a service of this release that uses the log",
    )])
}
