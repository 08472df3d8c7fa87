//! The outbox's tables: whose they are, and what a migration has to do. The same for all databases.
//!
//! Input: the columns of the tables and the owner that is written down for them. State: a [`Migration`], which
//! holds the lock of the schema. Output: a [`MigrationPlan`]; the statements of all versions; an error that says why a
//! table is not ours.
//!
//! Migrations only ever expand. A column or an index may be added; none is renamed, removed or given another
//! meaning. During a deployment the previous release still writes to the table.

#[cfg(feature = "mysql")]
mod mysql;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

use crate::{
    Error,
    database::{
        DbResult, Dialect, Driver, LOCK_SECONDS, MIGRATIONS, MigrationLock, Templates,
        are_transactional, name_setting, read,
        renewable::{ANSWER, MIGRATION, RenewablePool},
    },
    names::ServiceName,
};

/// How long a change of the table waits for its lock at a time, and how long others come first then.
const BRIEFLY: Duration = Duration::from_millis(200);
const BETWEEN: Duration = Duration::from_millis(300);

/// The version this release brings the table to.
pub(crate) const VERSION: i32 = 5;

/// How many of the [`statements`] come before an index of the outbox can: its table is there then.
const AFTER_OUTBOX: usize = 2;

/// All statements of all versions, in order. Each one may find its work done. The last one writes down whose
/// the table is and which version it has.
///
/// The columns of `final_<service>_outbox`:
///
/// | column | holds |
/// | --- | --- |
/// | `message_id` | the key of the record; also the id of the message, unless `sent_as` has another one |
/// | `sent_as` | the id of the message where its publisher chose it; otherwise NULL. Several records can have the same |
/// | `topic`, `message_key`, `headers`, `payload`, `content_type`, `durable` | the rest of the message |
/// | `status` | 0 pending, 1 unroutable, 2 acked, 3 failed: see `record::Status` |
/// | `due_at` | when it is due by its publisher's wish: the time of the INSERT and the delay |
/// | `available_at` | when it can be claimed next: `due_at`, a later try, or the end of its own lease |
/// | `claimed_by` | the owner of its own lease; without one NULL, or on MySQL an id of zeros |
/// | `expires_at` | when its time to live is over; NULL if it has none |
/// | `attempts`, `faults`, `last_error` | how often it was not stored; how often by its own fault; the last reason |
/// | `created_at`, `sent_at`, `acked_at` | when it was inserted, last answered, and acked |
///
/// The columns of `final_<service>_claims`:
///
/// | column | holds |
/// | --- | --- |
/// | `number` | the key; a new claim has the highest number plus one |
/// | `owner`, `live_until` | whose claim it is, and the end of its lease; 1970 once it is finished |
/// | `first_at`, `first_id`, `last_at`, `last_id` | `available_at` and `message_id` of its first and last record |
///
/// The columns of `final_<service>_suspects` stand in `marks`, and those of `final_<service>_dead` in `letters`.
#[allow(unreachable_patterns, reason = "a build may have fewer databases")]
pub(super) fn statements(dialect: Dialect, service: &ServiceName) -> Vec<String> {
    match dialect {
        #[cfg(feature = "postgres")]
        Dialect::Postgres => postgres::statements(service),
        #[cfg(feature = "mysql")]
        Dialect::MySql => mysql::statements(service),
        #[cfg(feature = "sqlite")]
        Dialect::Sqlite => sqlite::statements(service),
        _ => {
            let _ = service;
            Vec::new()
        }
    }
}

/// A column that a version after the first one has added to the outbox.
pub(super) struct AddedColumn {
    pub(super) name: &'static str,
    /// Adds it to a table that lacks it.
    pub(super) add: String,
    /// The same for a person, whose table may have it already.
    by_hand: String,
}

/// The columns that versions after the first one have added to the outbox. [`statements`] makes new tables with them.
pub(super) fn added_columns(dialect: Dialect, service: &ServiceName) -> Vec<AddedColumn> {
    let (table, name) = (service.table(), "sent_as");
    let id = dialect.words().id_type;
    let (add, by_hand) = match dialect {
        Dialect::Postgres => (
            format!("ALTER TABLE {table} ADD COLUMN {name} {id}"),
            format!("ALTER TABLE IF EXISTS {table} ADD COLUMN IF NOT EXISTS {name} {id}"),
        ),
        Dialect::MySql => {
            let add = format!("ALTER TABLE {table} ADD COLUMN {name} {id} NULL");
            let count =
                "SELECT COUNT(*) FROM information_schema.columns WHERE table_schema = DATABASE()";
            let by_hand = format!(
                "SET @add_column = IF(\
                   ({count} AND table_name = '{table}') > 0 AND \
                   ({count} AND table_name = '{table}' AND column_name = '{name}') = 0, \
                   '{add}', 'DO 0');\n\
                 PREPARE add_column FROM @add_column;\n\
                 EXECUTE add_column;\n\
                 DEALLOCATE PREPARE add_column"
            );
            (add, by_hand)
        }
        Dialect::Sqlite => {
            let add = format!("ALTER TABLE main.{table} ADD COLUMN {name} {id}");
            let by_hand = format!(
                "-- SQLite cannot leave out what is done. If the table is there and has no column {name}, run:\n\
                 -- {add};\n\
                 SELECT 1"
            );
            (add, by_hand)
        }
    };
    vec![AddedColumn { name, add, by_hand }]
}

/// Writes down on MySQL whose the table is and what version it has.
#[cfg(feature = "mysql")]
pub(super) fn written_down(table: &str, service: &ServiceName) -> String {
    let name = service.as_str();
    format!(
        "INSERT INTO {MIGRATIONS} (table_name, service, version, applied_at) \
         VALUES ('{table}', '{name}', {VERSION}, UTC_TIMESTAMP(6)) \
         ON DUPLICATE KEY UPDATE version = GREATEST(version, {VERSION})"
    )
}

/// A migration under way. It has the lock, so no other instance of any service in the schema migrates
/// meanwhile.
pub(super) struct Migration<'a, DB: Driver> {
    pool: &'a RenewablePool<DB>,
    lock: MigrationLock<DB>,
    pub(super) service: &'a ServiceName,
}

impl<'a, DB: Driver> Migration<'a, DB> {
    /// Takes the lock. Another instance's migration is waited for with a long limit. The server is asked
    /// something first, with the usual limit, so a silent server is noticed sooner.
    pub(super) async fn begin(
        pool: &'a RenewablePool<DB>,
        service: &'a ServiceName,
    ) -> DbResult<Self> {
        let answers = pool.within(ANSWER, async {
            DB::server(&mut *pool.get().acquire().await?).await
        });
        answers.await?;
        let lock = pool.within(MIGRATION, async { DB::lock_migrations(&pool.get()).await });
        Ok(Self {
            lock: lock.await?,
            pool,
            service,
        })
    }

    /// Commits, and ends the lock.
    pub(super) async fn finish(self) -> DbResult<()> {
        self.pool.within(ANSWER, self.lock.finish()).await
    }

    /// Decides what is to be done, by what the schema holds. Fails if the table is not this service's outbox.
    pub(super) async fn plan(&mut self) -> Result<MigrationPlan, Error> {
        let found = self.find().await.map_err(failed)?;
        found.plan(self.service)
    }

    /// Reads the columns of the tables, and the owner and version that are written down.
    async fn find(&mut self) -> DbResult<Found> {
        let service = self.service;
        let (table, claims) = (service.table(), service.claims_table());
        let (suspects, letters) = (service.suspects_table(), service.letters_table());
        let tables = [&table, &claims, &suspects, &letters].map(String::as_str);
        let are_transactional = async { are_transactional::<DB>(self.lock.conn(), &tables).await };
        self.pool.within(ANSWER, are_transactional).await?;
        let columns = self.columns(&table).await?;
        let claims = self.columns(&claims).await?;
        let suspects = self.columns(&suspects).await?;
        let letters = self.columns(&letters).await?;
        let written = self.columns(MIGRATIONS).await?;
        let owner = match written.is_empty() {
            true => None,
            false => {
                let owner =
                    "SELECT service, CAST(version AS {int}) FROM {migrations} WHERE table_name = ?";
                let owner = self.template(owner);
                let values = [self.service.table().into()];
                let rows = self.pool.within(ANSWER, async {
                    read::<DB, (String, i64)>(self.lock.conn(), &owner, &values).await
                });
                rows.await?.into_iter().next()
            }
        };
        Ok(Found {
            owner,
            columns,
            others: !claims.is_empty() && !suspects.is_empty() && !letters.is_empty(),
        })
    }

    /// Runs a statement that changes tables.
    pub(super) async fn run(&mut self, statement: String) -> DbResult<()> {
        let run = async { DB::run_sql(self.lock.conn(), &sql(statement), &[]).await };
        let run = self.pool.within(MIGRATION, run).await;
        run.map(drop).map_err(name_setting)
    }

    /// Runs a statement that locks the whole table for a moment. Publishers' transactions go on before it and after it.
    ///
    /// A statement that waits for such a lock holds up every later INSERT. So it waits for a moment only, lets the
    /// INSERTs go on, and tries again.
    pub(super) async fn alter(&mut self, statement: &str) -> DbResult<()> {
        let (briefly, patiently) = match DB::DIALECT {
            Dialect::Postgres => (
                format!("SET LOCAL lock_timeout = '{}ms'", BRIEFLY.as_millis()),
                format!("SET LOCAL lock_timeout = '{LOCK_SECONDS}s'"),
            ),
            // Its shortest time.
            Dialect::MySql => (
                "SET SESSION lock_wait_timeout = 1".to_owned(),
                format!("SET SESSION lock_wait_timeout = {LOCK_SECONDS}"),
            ),
            Dialect::Sqlite => return self.run(statement.to_owned()).await,
        };
        let until = Instant::now() + Duration::from_secs(LOCK_SECONDS.into());
        loop {
            self.savepoint("SAVEPOINT final_alter").await?;
            self.run(briefly.clone()).await?;
            match self.run(statement.to_owned()).await {
                Err(error) if DB::is_lock_timeout(&error) && Instant::now() < until => {
                    self.savepoint("ROLLBACK TO SAVEPOINT final_alter").await?;
                    tokio::time::sleep(BETWEEN).await;
                }
                Err(error) => return Err(error),
                Ok(()) => return self.run(patiently).await,
            }
        }
    }

    /// Only on PostgreSQL are all statements one transaction, which an error would end.
    async fn savepoint(&mut self, statement: &str) -> DbResult<()> {
        match DB::DIALECT {
            Dialect::Postgres => self.run(statement.to_owned()).await,
            Dialect::MySql | Dialect::Sqlite => Ok(()),
        }
    }

    /// The columns of a table, none if it is not there.
    pub(super) async fn columns(&mut self, table: &str) -> DbResult<Vec<String>> {
        let columns = async { DB::columns(self.lock.conn(), table).await };
        self.pool.within(ANSWER, columns).await
    }

    /// The connection that the migration runs on.
    #[cfg(feature = "mysql")]
    pub(super) fn conn(&mut self) -> &mut DB::Connection {
        self.lock.conn()
    }

    /// A template with the table of versions filled in. On SQLite that is the one of the file, not a temporary
    /// one.
    fn template(&self, template: &str) -> SqlStr {
        let migrations = match DB::DIALECT {
            Dialect::Sqlite => format!("main.{MIGRATIONS}"),
            Dialect::Postgres | Dialect::MySql => MIGRATIONS.to_owned(),
        };
        Templates::new(DB::DIALECT, [("migrations", migrations)]).sql(template)
    }
}

/// A text as a statement. It holds no values. The only part that is not of this crate is the service's name,
/// which was checked.
pub(super) fn sql(text: String) -> SqlStr {
    AssertSqlSafe(Arc::<str>::from(text)).into_sql_str()
}

/// What the schema holds before the migration.
#[derive(Debug, Default)]
struct Found {
    /// The service the table was made for and its version, if that is written down.
    owner: Option<(String, i64)>,
    /// The table's columns; none if there is no table.
    columns: Vec<String>,
    /// Whether the tables of claims, of suspects and of collected dead letters are there.
    others: bool,
}

/// What a migration does.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum MigrationPlan {
    /// Nothing: it has this version, or that of a later release.
    Keep,
    /// Run all statements: each does what is missing.
    Apply,
    /// The Go predecessor's table stands in the way.
    Replace,
}

impl Found {
    /// Decides by the first row of this table that fits:
    ///
    /// | found | plan |
    /// | --- | --- |
    /// | it is written down for another service | error |
    /// | no table | apply |
    /// | our columns, this version or a later one, and the tables beside it | keep |
    /// | our columns, but an older version, none, or a table beside it is missing | apply |
    /// | a column `message` and no `message_id` | replace |
    /// | any other columns | error |
    fn plan(&self, service: &ServiceName) -> Result<MigrationPlan, Error> {
        let has = |name: &str| self.columns.iter().any(|column| column == name);
        if let Some((owner, _)) = &self.owner
            && owner != service.as_str()
        {
            let reason = format!(
                "it belongs to service {owner:?}, and {:?} maps to the same name (`-` is written as `_`); \
                 rename one of the two",
                service.as_str()
            );
            return Err(foreign(service, reason));
        }
        if self.columns.is_empty() {
            return Ok(MigrationPlan::Apply);
        }
        if has("message_id") && has("available_at") && has("claimed_by") {
            let current = matches!(self.owner, Some((_, version)) if version >= i64::from(VERSION));
            return Ok(if current && self.others {
                MigrationPlan::Keep
            } else {
                MigrationPlan::Apply
            });
        }
        if has("message") && !has("message_id") {
            return Ok(MigrationPlan::Replace);
        }
        let reason = "it exists and has other columns than an outbox; rename or drop it".to_owned();
        Err(foreign(service, reason))
    }
}

/// The name that the Go predecessor's table has once it is out of the way.
pub(super) fn predecessor(service: &ServiceName) -> String {
    format!("{}_go", service.table())
}

/// The error on a database where the predecessor's table is not taken over. It says what to do.
pub(super) fn predecessor_in_the_way(service: &ServiceName) -> Error {
    let reason = format!(
        "it is the table of the Go predecessor; let that send what is in it, then \
         `ALTER TABLE {} RENAME TO {}` and start again",
        service.table(),
        predecessor(service)
    );
    foreign(service, reason)
}

/// The error for a table that is not this service's outbox.
pub(super) fn foreign(service: &ServiceName, reason: String) -> Error {
    Error::ForeignTable {
        table: service.table(),
        reason,
    }
}

/// The error for a migration that the database has refused or not answered.
pub(super) fn failed(error: sqlx::Error) -> Error {
    Error::database("migrating the outbox")(error)
}

/// The statements as a text that a person can run. It takes over no rows of the Go predecessor.
pub(super) fn script(dialect: Dialect, service: &ServiceName) -> String {
    let mut text = format!(
        "-- The outbox of service {}, version {VERSION}. Running it again changes nothing.\n",
        service.as_str()
    );
    let mut all = statements(dialect, service);
    let indexes = all.split_off(AFTER_OUTBOX.min(all.len()));
    let added = added_columns(dialect, service).into_iter();
    all.extend(added.map(|column| column.by_hand));
    for statement in all.into_iter().chain(indexes) {
        text.push_str(&statement);
        text.push_str(";\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shop() -> ServiceName {
        ServiceName::new("my-shop").unwrap()
    }

    fn found(owner: Option<(&str, i32)>, columns: &[&str]) -> Found {
        Found {
            owner: owner.map(|(service, version)| (service.to_owned(), version.into())),
            columns: columns.iter().map(|&column| column.to_owned()).collect(),
            others: true,
        }
    }

    const OURS: &[&str] = &["message_id", "topic", "available_at", "claimed_by"];
    const GO: &[&str] = &["id", "message", "status", "create_at", "last_send_at"];

    #[test]
    fn nothing_there_is_created() {
        assert_eq!(
            found(None, &[]).plan(&shop()).unwrap(),
            MigrationPlan::Apply
        );
    }

    #[test]
    fn a_table_that_was_dropped_by_hand_is_created_again() {
        let dropped = found(Some(("my-shop", VERSION)), &[]);

        assert_eq!(dropped.plan(&shop()).unwrap(), MigrationPlan::Apply);
    }

    #[test]
    fn a_table_without_those_beside_it_gets_them() {
        let there = Found {
            others: false,
            ..found(Some(("my-shop", VERSION)), OURS)
        };

        assert_eq!(there.plan(&shop()).unwrap(), MigrationPlan::Apply);
    }

    #[test]
    fn a_table_of_this_or_a_later_version_is_kept() {
        for version in [VERSION, VERSION + 1] {
            let there = found(Some(("my-shop", version)), OURS);

            assert_eq!(there.plan(&shop()).unwrap(), MigrationPlan::Keep);
        }
    }

    #[test]
    fn a_table_nobody_wrote_down_is_adopted() {
        assert_eq!(
            found(None, OURS).plan(&shop()).unwrap(),
            MigrationPlan::Apply
        );
    }

    #[test]
    fn another_services_table_is_refused_with_both_names() {
        let error = found(Some(("my_shop", VERSION)), OURS).plan(&shop());

        let text = error.unwrap_err().to_string();
        assert!(text.contains("\"my_shop\"") && text.contains("\"my-shop\""));
    }

    #[test]
    fn the_predecessors_table_is_recognised_even_if_a_script_wrote_it_down() {
        for owner in [None, Some(("my-shop", VERSION))] {
            assert_eq!(
                found(owner, GO).plan(&shop()).unwrap(),
                MigrationPlan::Replace
            );
        }
    }

    #[test]
    fn any_other_table_is_refused() {
        let error = found(None, &["id", "name"]).plan(&shop()).unwrap_err();

        assert!(error.to_string().contains("other columns"));
    }
}
