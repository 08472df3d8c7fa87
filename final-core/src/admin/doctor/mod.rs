//! Finds what silently weakens a promise, and says how to mend it.
//!
//! Input: a pool, and which service to look at. Output: [`Finding`]s, the worst first. Nothing is changed: every
//! statement reads. `docs/doctor.md` has a row for each [`Diagnosis`], with its cause and its cure.
//!
//! ```text
//!   a transaction pooler in front ─▶ that is all that can be said
//!   settings, clock, transactions ─▶ tables ─▶ rights, triggers, kinds ─▶ records ─▶ log: groups, numbers
//! ```
//!
//! Each check is a file of its own. One that fails is told as a note, and the others go on.

mod clock;
mod durability;
mod finding;
mod grants;
mod groups;
mod kinds;
mod numbers;
mod pooler;
mod records;
mod server;
mod tables;
mod transactions;
mod triggers;
mod ward;

use std::time::Duration;

use sqlx::Pool;

pub use self::finding::{COULD_NOT_CHECK, Diagnosis, Finding, Level};
use self::{tables::OurTables, ward::Ward};
use crate::{Error, OutboxDatabase, log::tables::Log, names::ServiceName, outbox::Outbox};

/// Everything that an examination of a database can find. A broker's crate has diagnoses of its own.
pub const DIAGNOSES: &[Diagnosis] = &[
    COULD_NOT_CHECK,
    pooler::TRANSACTION_POOLER,
    server::SETTING_REFUSED,
    server::SERVER_READ_ONLY,
    durability::postgres::SYNCHRONOUS_COMMIT_OFF,
    durability::postgres::FSYNC_OFF,
    durability::postgres::FULL_PAGE_WRITES_OFF,
    durability::mysql::FLUSH_LOG_AT_TRX_COMMIT,
    durability::mysql::SYNC_BINLOG,
    durability::mysql::DOUBLEWRITE_OFF,
    durability::sqlite::SYNCHRONOUS,
    durability::sqlite::JOURNAL_IN_MEMORY,
    durability::sqlite::IN_MEMORY,
    durability::sqlite::NETWORK_FILE_SYSTEM,
    clock::CLOCK_SKEW,
    transactions::TRANSACTION_OPEN,
    transactions::PREPARED_TRANSACTION_OPEN,
    transactions::REPLICATION_SLOT_UNUSED,
    transactions::HISTORY_LONG,
    tables::TABLES_MISSING,
    tables::TABLES_OLD,
    tables::TABLES_FOREIGN,
    kinds::TABLE_UNLOGGED,
    kinds::TABLE_NOT_INNODB,
    grants::GRANT_MISSING,
    grants::SEQUENCE_GRANT_MISSING,
    triggers::TRIGGER_ON_TABLE,
    triggers::TRIGGER_AFTER,
    triggers::ROW_SECURITY,
    records::RECORDS_WITHOUT_OWNER,
    records::CLAIMS_WITHOUT_OWNER,
    records::TOPIC_WITHOUT_QUEUE,
    groups::GROUP_WITHOUT_MEMBER,
    groups::GROUP_NEVER_READ,
    groups::LANES_WITHOUT_MEMBER,
    numbers::SEQUENCE_BEHIND,
    numbers::NUMBERS_USED_TWICE,
];

/// How long a transaction may be open, and how long a message may wait for a process that takes it.
const LONG: Duration = Duration::from_secs(300);

/// An examination of a database: what is to be looked at.
///
/// ```
/// use final_core::admin::doctor::{Doctor, Level};
///
/// # async fn example(pool: sqlx::SqlitePool) -> Result<(), final_core::Error> {
/// for finding in Doctor::new(pool).service("shop").examine().await? {
///     if finding.level < Level::Note {
///         eprintln!("{finding}");
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Doctor<DB: OutboxDatabase> {
    pool: Pool<DB>,
    service: Option<String>,
    open: Duration,
    waiting: Duration,
    most_history: u64,
}

impl<DB: OutboxDatabase> Doctor<DB> {
    /// Examines the database of this pool, with all its services. The findings are those for the role and the connect
    /// options of the pool, so give it a pool like those of the services.
    #[must_use]
    pub fn new(pool: Pool<DB>) -> Self {
        Self {
            pool,
            service: None,
            open: LONG,
            waiting: LONG,
            most_history: transactions::MOST_HISTORY,
        }
    }

    /// Looks at one service only. The settings of the server are looked at in any case.
    #[must_use]
    pub fn service(mut self, name: impl Into<String>) -> Self {
        self.service = Some(name.into());
        self
    }

    /// How long a transaction may be open before it is told. Five minutes by default.
    #[must_use]
    pub fn open_for(mut self, long: Duration) -> Self {
        self.open = long;
        self
    }

    /// How long a message may wait for a process that takes it before that is told. Five minutes by default.
    #[must_use]
    pub fn waiting_for(mut self, long: Duration) -> Self {
        self.waiting = long;
        self
    }

    /// How many removed rows InnoDB may still keep before it is told. A million by default. Other databases have no
    /// such number.
    #[must_use]
    pub fn most_history(mut self, changes: u64) -> Self {
        self.most_history = changes;
        self
    }

    /// Looks at everything. The worst findings come first.
    ///
    /// It opens a few connections of its own and closes them again. It changes nothing, and it may be dropped at any
    /// time.
    ///
    /// # Errors
    ///
    /// Fails if the service's name is not usable, and if the database cannot be reached. A check that fails is a
    /// finding ([`COULD_NOT_CHECK`]) and no error.
    pub async fn examine(self) -> Result<Vec<Finding>, Error> {
        let service = self.service.as_deref().map(ServiceName::new).transpose()?;
        let ward = Ward::new(&self.pool);
        let connected = async { ward.callers().await.map(drop) };
        let mut findings = Findings::default();
        let examined = match connected.await {
            Ok(()) => {
                self.look(&ward, service.as_ref(), &mut findings).await;
                Ok(())
            }
            Err(error) => Err(error),
        };
        ward.close().await;
        examined.map_err(Error::database("connecting to examine the database"))?;
        findings.0.sort_by_key(|finding| finding.level);
        Ok(findings.0)
    }

    async fn look(&self, ward: &Ward<DB>, service: Option<&ServiceName>, findings: &mut Findings) {
        findings.add("a transaction pooler", pooler::look(ward).await);
        let is_pooled = |finding: &Finding| finding.name == pooler::TRANSACTION_POOLER.name;
        if findings.0.iter().any(is_pooled) {
            return;
        }
        findings.add("settings of durability", durability::look(ward).await);
        let clocks = clock::look(ward).await;
        findings.add("the clocks", clocks);
        let transactions = transactions::look(ward, self.open, self.most_history).await;
        findings.add("open transactions", transactions);
        let usable = server::look(ward).await;
        // Where the server is none that the bus can use, its tables tell nothing. Where it could not be asked, they do.
        let is_useless = usable.as_ref().is_ok_and(|found| !found.is_empty());
        findings.add("the server", usable);
        if is_useless {
            return;
        }
        match OurTables::find(ward, service).await {
            Ok((tables, missing)) => {
                findings.0.extend(missing);
                self.look_at_tables(ward, &tables, service, findings).await;
            }
            Err(error) => findings.failed("the tables", &error),
        }
    }

    async fn look_at_tables(
        &self,
        ward: &Ward<DB>,
        tables: &OurTables,
        only: Option<&ServiceName>,
        findings: &mut Findings,
    ) {
        findings.add("rights on the tables", grants::look(ward, tables).await);
        findings.add("triggers on the tables", triggers::look(ward, tables).await);
        // A migration refuses tables of another kind, so nothing more can be said of their version.
        let are_sound = findings.add("the kinds of the tables", kinds::look(ward, tables).await);
        for service in &tables.services {
            let outbox = Outbox::new(service.as_str().to_owned(), self.pool.clone(), LONG);
            if are_sound {
                let version = outbox.is_current().await;
                findings.add(
                    "the version of the tables",
                    tables::version(service, version),
                );
            }
            match outbox.located().await {
                Ok(table) => {
                    let records = records::look(ward, service, table, self.waiting).await;
                    findings.add("the records", records);
                }
                Err(error) => findings.failed("the records", &error),
            }
            outbox.close().await;
        }
        if tables.has_log {
            let log = Log::new(self.pool.clone());
            if are_sound {
                findings.add(
                    "the version of the log's tables",
                    tables::log_version(&log).await,
                );
            }
            let only = only.map(ServiceName::as_str);
            findings.add(
                "the groups of the log",
                groups::look(&log, only, self.waiting).await,
            );
            findings.add("the sequence of the log", numbers::look(&log).await);
            log.close().await;
        }
    }
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    /// Adds what a check has found. True if it could look, and has found nothing.
    fn add<E: std::error::Error>(&mut self, what: &str, found: Result<Vec<Finding>, E>) -> bool {
        match found {
            Ok(found) => {
                let is_sound = found.is_empty();
                self.0.extend(found);
                is_sound
            }
            Err(error) => {
                self.failed(what, &error);
                false
            }
        }
    }

    /// A check that could not look.
    fn failed(&mut self, what: &str, error: &dyn std::error::Error) {
        let mut causes = Vec::new();
        let mut cause = Some(error);
        while let Some(error) = cause {
            causes.push(error.to_string());
            cause = error.source();
        }
        // Most errors repeat their cause in their text.
        causes.dedup_by(|cause, error| error.contains(cause.as_str()));
        let error = causes.join(": ").replace('\n', " ");
        self.0.push(COULD_NOT_CHECK.found(
            format!("{what} could not be looked at: {error}"),
            "Look again with a role that may read this, or later",
        ));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_diagnosis_has_a_name_of_its_own() {
        let names: HashSet<_> = DIAGNOSES.iter().map(|diagnosis| diagnosis.name).collect();

        assert_eq!(names.len(), DIAGNOSES.len());
        for diagnosis in DIAGNOSES {
            let is_of_name = |letter: char| letter.is_ascii_lowercase() || letter == '_';
            assert!(diagnosis.name.chars().all(is_of_name), "{diagnosis:?}");
            assert!(!diagnosis.why.ends_with('.'), "{diagnosis:?}");
        }
    }
}
