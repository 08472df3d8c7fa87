//! The database of all services.

use std::{ops::Deref, time::Duration};

use sqlx::{AssertSqlSafe, MySqlPool, PgPool, Row, SqlitePool};
use tokio::time::sleep;

use crate::{
    Error, MariaDb, Postgres, Result, SqliteFile,
    chaos::{
        plan::{DatabaseKind, Transport},
        work::{Sold, TABLES, dead_letters},
    },
    servers::Server,
};

/// A server of this run, and a connection to it that no fault breaks.
#[derive(Debug)]
pub(in crate::chaos) enum Database {
    Postgres(Postgres, PgPool),
    MariaDb(MariaDb, MySqlPool),
    Sqlite(SqliteFile, SqlitePool),
}

/// The tables that must be empty at the end. Each query also counts the failed records.
const OUTBOXES: [&str; 3] = [
    "SELECT COUNT(*), COUNT(CASE WHEN status = 3 THEN 1 END) FROM final_shop_outbox",
    "SELECT COUNT(*), COUNT(CASE WHEN status = 3 THEN 1 END) FROM final_mail_outbox",
    "SELECT COUNT(*), COUNT(CASE WHEN status = 3 THEN 1 END) FROM final_audit_outbox",
];
/// The tables of the log. Rows without a topic stay for a day; they stand for sequence numbers that were
/// never used.
const LOG: [&str; 2] = [
    "SELECT COUNT(*), COUNT(CASE WHEN 1 = 0 THEN 1 END) FROM final_log WHERE topic <> ''",
    "SELECT COUNT(*), COUNT(CASE WHEN 1 = 0 THEN 1 END) FROM final_log_scheduled",
];

/// Runs the same code with either pool.
macro_rules! with_pool {
    ($self:expr, $pool:ident => $body:expr) => {
        match $self {
            Database::Postgres(_, $pool) => $body,
            Database::MariaDb(_, $pool) => $body,
            Database::Sqlite(_, $pool) => $body,
        }
    };
}

impl Database {
    pub(super) async fn start(kind: DatabaseKind) -> Result<Self> {
        let database = match kind {
            DatabaseKind::Postgres => {
                let server = Postgres::start().await?;
                let pool = PgPool::connect_lazy(&server.url()).map_err(refused)?;
                Self::Postgres(server, pool)
            }
            DatabaseKind::MariaDb => {
                let server = MariaDb::start().await?;
                let pool = MySqlPool::connect_lazy(&server.url()).map_err(refused)?;
                Self::MariaDb(server, pool)
            }
            DatabaseKind::Sqlite => {
                let file = crate::sqlite_file()?;
                let pool = SqlitePool::connect_lazy(&file.url()).map_err(refused)?;
                Self::Sqlite(file, pool)
            }
        };
        for table in TABLES {
            database.run(table).await?;
        }
        Ok(database)
    }

    /// The URL for the workers.
    pub(super) fn url(&self) -> String {
        match self {
            Self::Postgres(server, _) => server.url(),
            Self::MariaDb(server, _) => server.url(),
            Self::Sqlite(file, _) => file.url(),
        }
    }

    /// The server, where there is one.
    pub(super) fn server(&self) -> Result<&Server> {
        match self {
            Self::Postgres(server, _) => Ok(server.deref()),
            Self::MariaDb(server, _) => Ok(server.deref()),
            Self::Sqlite(..) => Err(Error::new(
                "SQLite has no server to break",
                "plan other faults",
            )),
        }
    }

    /// Holds SQLite's lock for a while, as another program does.
    pub(super) async fn lock_file(&self, lasts: Duration) -> Result<()> {
        let Self::Sqlite(_, pool) = self else {
            return Ok(());
        };
        // The workers write all the time. SQLite gives up after 5 s without a free moment.
        let end = tokio::time::Instant::now() + Duration::from_secs(60);
        let tx = loop {
            match pool.begin_with("BEGIN IMMEDIATE").await {
                Ok(tx) => break tx,
                Err(_) if tokio::time::Instant::now() < end => {}
                Err(error) => return Err(refused(error)),
            }
        };
        sleep(lasts).await;
        tx.rollback().await.map_err(refused)
    }

    async fn run(&self, sql: &str) -> Result<()> {
        let sql = AssertSqlSafe(sql.to_owned());
        with_pool!(self, pool => sqlx::query(sql).execute(pool).await.map(drop)).map_err(refused)
    }

    /// Reads pairs of numbers.
    pub(in crate::chaos) async fn pairs(&self, sql: &str) -> Result<Vec<(i64, i64)>> {
        let sql = AssertSqlSafe(sql.to_owned());
        with_pool!(self, pool => {
            let rows = sqlx::query(sql).fetch_all(pool).await.map_err(refused)?;
            let pair = |row: &_| Ok((Row::try_get(row, 0)?, Row::try_get(row, 1)?));
            rows.iter().map(pair).collect::<Result<_, sqlx::Error>>().map_err(refused)
        })
    }

    /// The number of records in all outboxes and of messages in the log, and how many of them have failed.
    pub(super) async fn records(&self, transport: Transport) -> Result<(i64, i64)> {
        let log: &[_] = match transport {
            Transport::RabbitMq => &[],
            Transport::Log => &LOG,
        };
        let mut sum = (0, 0);
        for sql in OUTBOXES.iter().chain(log) {
            for (all, failed) in self.pairs(sql).await? {
                sum = (sum.0 + all, sum.1 + failed);
            }
        }
        Ok(sum)
    }

    /// The number of other open transactions that have written.
    pub(super) async fn writers(&self) -> Result<i64> {
        let count = match self {
            // A second writer is refused.
            Self::Sqlite(_, pool) => {
                return Ok(match pool.begin_with("BEGIN IMMEDIATE").await {
                    Ok(tx) => tx.rollback().await.map(|()| 0).map_err(refused)?,
                    Err(_) => 1,
                });
            }
            Self::Postgres(..) => {
                "SELECT COUNT(*), 0::bigint FROM pg_stat_activity \
                 WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid()"
            }
            Self::MariaDb(..) => {
                "SELECT COUNT(*), 0 FROM information_schema.innodb_trx \
                 WHERE trx_rows_modified > 0 AND trx_mysql_thread_id <> CONNECTION_ID()"
            }
        };
        let counts = self.pairs(count).await?;
        Ok(counts.first().map_or(0, |(writers, _)| *writers))
    }

    /// Takes the dead letters of a service out of the log, with the reason of each.
    pub(in crate::chaos) async fn letters(
        &self,
        service: &str,
    ) -> Result<Vec<(Option<Sold>, String)>> {
        with_pool!(self, pool => dead_letters(pool, service).await)
            .map_err(|cause| Error::new(format!("dead letters: {cause}"), "see the server's log"))
    }

    /// Ends every other session, as an operator does.
    pub(super) async fn disconnect_all(&self) -> Result<()> {
        match self {
            Self::Postgres(..) => {
                let sql = "SELECT COUNT(pg_terminate_backend(pid)), 0::bigint FROM pg_stat_activity \
                           WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
                self.pairs(sql).await.map(drop)
            }
            Self::MariaDb(..) => {
                let sql = "SELECT CAST(id AS SIGNED), 0 FROM information_schema.processlist \
                           WHERE id <> CONNECTION_ID() AND user <> 'system user'";
                for (id, _) in self.pairs(sql).await? {
                    // The session may have ended already.
                    let _ = self.run(&format!("KILL CONNECTION {id}")).await;
                }
                Ok(())
            }
            Self::Sqlite(..) => self.server().map(drop),
        }
    }
}

fn refused(cause: sqlx::Error) -> Error {
    Error::new(
        format!("the database refused a statement of the chaos run: {cause}"),
        "see the server's log",
    )
}
