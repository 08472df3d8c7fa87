//! The desk: the connections and the SQL of an admin.
//!
//! Input: the caller's pool, and templates of statements. State: a pool of its own, left for a new one where the
//! server does not answer; the names of the tables, once the server has said its schema. Output: rows, and
//! transactions. Each statement has the time limit of all others of the bus.

use sqlx::{Pool, SqlStr, Transaction, pool::PoolConnection};
use tokio::sync::OnceCell;
use uuid::Uuid;

use super::AdminError;
use crate::{
    Error, OutboxDatabase,
    database::{
        DbResult, Dialect, FromRow, MIGRATIONS, Server, Templates, Value, read,
        renewable::{ANSWER, PoolOwner, RenewablePool},
        writers::Writing,
    },
    log::{Log, MESSAGE, TABLES},
    names::ServiceName,
    outbox::statements::{Statements, session},
};

/// Connections of an admin: one for a bulk action, and one for what is asked meanwhile.
const CONNECTIONS: u32 = 2;

/// How often a statement is sent at most if each time it is the victim of a deadlock.
pub(super) const TRIES: u32 = 5;

/// See the [module](self).
pub(super) struct Desk<DB: OutboxDatabase> {
    pool: RenewablePool<DB>,
    ready: OnceCell<Known>,
    /// The log, for what it does itself.
    pub(super) log: Log<DB>,
    /// The owner of the leases under which operations are carried out.
    pub(super) owner: Uuid,
}

/// What is known once the server has answered.
struct Known {
    server: Server,
    templates: Templates,
}

impl<DB: OutboxDatabase> Desk<DB> {
    pub(super) fn new(caller: Pool<DB>) -> Self {
        let own = |caller: &Pool<DB>| DB::own_pool(caller, CONNECTIONS, session(DB::DIALECT));
        Self {
            log: Log::new(caller.clone()),
            pool: RenewablePool::new(caller, PoolOwner::Outbox, own),
            ready: OnceCell::new(),
            owner: Uuid::now_v7(),
        }
    }

    /// The pool as it is now.
    pub(super) fn pool(&self) -> Pool<DB> {
        self.pool.get()
    }

    /// Does something on a connection of the pool, within the time limit.
    pub(super) async fn within<T>(&self, work: impl Future<Output = DbResult<T>>) -> DbResult<T> {
        self.pool.within(ANSWER, work).await
    }

    async fn known(&self) -> DbResult<&Known> {
        let look = || async {
            let asked = async { DB::server(&mut *self.pool().acquire().await?).await };
            let server = self.within(asked).await?;
            Ok(Known {
                templates: Templates::new(DB::DIALECT, names(DB::DIALECT, &server)),
                server,
            })
        };
        self.ready.get_or_try_init(look).await
    }

    /// The text of a template.
    pub(super) async fn sql(&self, template: &str) -> DbResult<SqlStr> {
        Ok(self.known().await?.templates.sql(template))
    }

    /// The statements of a service's outbox.
    pub(super) async fn statements(&self, service: &ServiceName) -> DbResult<Statements> {
        let server = self.known().await?.server.clone();
        let statements = Statements::new(DB::DIALECT, server, service);
        // Without the feature of a database there is no driver either.
        statements.ok_or(sqlx::Error::WorkerCrashed)
    }

    /// Templates of the desk, for a part of the bus that renders its own texts.
    pub(super) async fn templates(&self) -> DbResult<&Templates> {
        Ok(&self.known().await?.templates)
    }

    /// Reads rows.
    pub(super) async fn rows<T: FromRow>(
        &self,
        template: &str,
        values: &[Value<'_>],
    ) -> DbResult<Vec<T>> {
        let sql = self.sql(template).await?;
        self.rows_sql(&sql, values).await
    }

    /// The same by a rendered text. The victim of a deadlock is sent again.
    pub(super) async fn rows_sql<T: FromRow>(
        &self,
        sql: &SqlStr,
        values: &[Value<'_>],
    ) -> DbResult<Vec<T>> {
        let reading = async {
            let mut conn = self.pool().acquire().await?;
            let mut tries = 1;
            loop {
                match read::<DB, T>(&mut conn, sql, values).await {
                    Err(error) if tries < TRIES && DB::is_deadlock(&error) => tries += 1,
                    rows => return rows,
                }
            }
        };
        self.within(reading).await
    }

    /// Reads the first row, if there is one.
    pub(super) async fn first<T: FromRow>(
        &self,
        template: &str,
        values: &[Value<'_>],
    ) -> DbResult<Option<T>> {
        Ok(self.rows(template, values).await?.into_iter().next())
    }

    /// The clock of the database, in microseconds since 1970.
    pub(super) async fn now(&self) -> DbResult<i64> {
        let now = self.first("SELECT {now}", &[]).await?;
        now.ok_or(sqlx::Error::RowNotFound)
    }

    /// Whether there is a table of this name.
    pub(super) async fn has_table(&self, table: &str) -> DbResult<bool> {
        let columns = async { DB::columns(&mut *self.pool().acquire().await?, table).await };
        Ok(!self.within(columns).await?.is_empty())
    }

    /// A connection for statements that are each their own commit, and the turn to write.
    pub(super) async fn writer(&self) -> DbResult<(PoolConnection<DB>, Writing)> {
        let turn = self.pool.writers().our_turn(&mut ()).await;
        let conn = self.within(async { self.pool().acquire().await }).await?;
        Ok((conn, turn.begun()))
    }

    /// Begins a transaction.
    pub(super) async fn begin(&self) -> DbResult<DeskTx<'_, DB>> {
        let known = self.known().await?;
        let turn = self.pool.writers().our_turn(&mut ()).await;
        let begun = self.within(async { DB::begin(&self.pool()).await }).await?;
        Ok(DeskTx {
            tx: begun,
            desk: self,
            known,
            writing: turn.begun(),
        })
    }
}

/// A transaction of an admin. Dropped, it is rolled back.
pub(super) struct DeskTx<'a, DB: OutboxDatabase> {
    tx: Transaction<'static, DB>,
    desk: &'a Desk<DB>,
    known: &'a Known,
    /// After the transaction, so that the next writer is told when the transaction has ended.
    writing: Writing,
}

impl<DB: OutboxDatabase> DeskTx<'_, DB> {
    /// Runs a statement. Returns how many rows it has changed.
    pub(super) async fn run(&mut self, template: &str, values: &[Value<'_>]) -> DbResult<u64> {
        let sql = self.known.templates.sql(template);
        self.run_sql(&sql, values).await
    }

    pub(super) async fn run_sql(&mut self, sql: &SqlStr, values: &[Value<'_>]) -> DbResult<u64> {
        let run = DB::run_sql(&mut self.tx, sql, values);
        self.desk.within(run).await
    }

    pub(super) async fn rows<T: FromRow>(
        &mut self,
        template: &str,
        values: &[Value<'_>],
    ) -> DbResult<Vec<T>> {
        let sql = self.known.templates.sql(template);
        let rows = read::<DB, T>(&mut self.tx, &sql, values);
        self.desk.within(rows).await
    }

    /// The connection, for statements of other parts.
    pub(super) fn conn(&mut self) -> &mut DB::Connection {
        &mut self.tx
    }

    pub(super) async fn commit(self) -> DbResult<()> {
        let _writing = self.writing;
        self.desk.pool.commit(self.tx).await
    }

    pub(super) async fn roll_back(self) -> DbResult<()> {
        let _writing = self.writing;
        self.desk.within(self.tx.rollback()).await
    }
}

/// What the names in braces of the templates stand for: the tables that all services share, and `schema` before the
/// name of any other.
fn names(dialect: Dialect, server: &Server) -> Vec<(&'static str, String)> {
    let schema = &server.schema;
    let mut names: Vec<(&'static str, String)> = TABLES
        .iter()
        .map(|name| (*name, format!("{schema}final_log_{name}")))
        .collect();
    names.extend([
        ("log", format!("{schema}final_log")),
        ("message", MESSAGE.to_owned()),
        ("versions", format!("{schema}{MIGRATIONS}")),
        ("operations", format!("{schema}final_operations")),
        ("leases", format!("{schema}final_operation_leases")),
        ("schema", schema.clone()),
        ("clock", clock(dialect).to_owned()),
    ]);
    names
}

/// The clock of a statement in the unit of the outbox's columns, evaluated once, so that it can bound an index.
fn clock(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Postgres => "(SELECT clock_timestamp())",
        Dialect::MySql => "UTC_TIMESTAMP(6)",
        Dialect::Sqlite => "CAST(unixepoch('subsec') * 1000 AS INTEGER)",
    }
}

/// A time of the outbox as microseconds since 1970.
pub(super) fn micros_of(dialect: Dialect, time: &str) -> String {
    match dialect {
        Dialect::Postgres => format!("(extract(epoch FROM {time}) * 1000000)::bigint"),
        Dialect::MySql => {
            format!("TIMESTAMPDIFF(MICROSECOND, TIMESTAMP'1970-01-01 00:00:00.000000', {time})")
        }
        Dialect::Sqlite => format!("{time} * 1000"),
    }
}

/// Microseconds since 1970 as a time of the outbox.
pub(super) fn time_of(dialect: Dialect, micros: &str) -> String {
    match dialect {
        Dialect::Postgres => {
            format!("(timestamptz 'epoch' + {micros}::bigint * interval '1 microsecond')")
        }
        Dialect::MySql => {
            format!("(TIMESTAMP'1970-01-01 00:00:00.000000' + INTERVAL {micros} MICROSECOND)")
        }
        Dialect::Sqlite => format!("({micros} / 1000)"),
    }
}

/// The name of a table that a service owns, as a template.
pub(super) fn table_of(dialect: Dialect, table: &str) -> String {
    format!("{{schema}}{}", dialect.quoted(table))
}

/// Makes an error of the database one that says what was being done.
pub(super) fn doing(doing: &'static str) -> impl FnOnce(sqlx::Error) -> AdminError {
    move |error| AdminError::Bus(Error::database(doing)(error))
}
