//! The tables of apps and rights, on each of the three databases.
//!
//! Input: changes of an operator. State: a pool of their own. Output: what the tables have, and notices of changes.
//!
//! | part | has |
//! | --- | --- |
//! | [`schema`] | the statements that make the tables |
//! | [`rows`] | their rows |
//! | [`change`] | what an operator changes |
//!
//! Each change counts the version up, so that a reader asks for one number most of the time. On PostgreSQL it is also
//! announced.

pub(super) mod change;
pub(super) mod rows;
mod schema;

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use final_core::database::{DbResult, Driver, Tables, Templates, migrate, read};
use futures::future::BoxFuture;
use sqlx::Pool;
use tokio::{
    sync::{OnceCell, watch},
    time::{sleep, timeout},
};

pub(super) use self::{
    change::{Change, Refused},
    rows::{AppRow, GrantRow, Loaded},
};

/// The channel on which changes are announced.
const CHANNEL: &str = "final_gateway_rights";

/// How long the database may take to answer. Then the connections are given up, because the driver would wait on.
const ANSWER: Duration = match cfg!(test) {
    true => Duration::from_secs(4),
    false => Duration::from_secs(15),
};

/// How long a goodbye to the server may take.
const GOODBYE: Duration = Duration::from_secs(2);

/// How long one connection listens.
const LISTENING: Duration = Duration::from_secs(10 * 60);

/// How often the tables are read again because they have changed meanwhile.
const AGAIN: usize = 5;

/// Connections for reading and for changes.
const CONNECTIONS: u32 = 2;

/// The tables, whatever the database.
pub(super) trait Store: fmt::Debug + Send + Sync {
    /// Makes the tables.
    fn migrate(&self) -> BoxFuture<'_, DbResult<()>>;
    /// The version of what the tables have.
    fn version(&self) -> BoxFuture<'_, DbResult<i64>>;
    /// Everything.
    fn load(&self) -> BoxFuture<'_, DbResult<Loaded>>;
    /// Changes all of it, or nothing.
    fn change(&self, changes: Vec<Change>) -> BoxFuture<'_, DbResult<Result<(), Refused>>>;
    /// Calls `heard` for each announcement, until the connection is lost or ten minutes are over.
    fn listen<'a>(&'a self, heard: &'a (dyn Fn() + Send + Sync)) -> BoxFuture<'a, DbResult<()>>;
    /// Says goodbye to the server. What is asked later connects again.
    fn close(&self) -> BoxFuture<'_, ()>;
    /// Whether the tables are there and of an older version.
    fn is_old(&self) -> BoxFuture<'_, DbResult<bool>>;
    /// Whether the error says that there are no tables.
    fn is_missing(&self, error: &sqlx::Error) -> bool;
}

/// The tables in one database.
pub(super) struct SqlStore<DB: Driver> {
    caller: Pool<DB>,
    own: Mutex<Option<Pool<DB>>>,
    /// How often connections were given up. Then the one that listens is of no more use either.
    left: watch::Sender<u64>,
    templates: OnceCell<Templates>,
}

impl<DB: Driver> SqlStore<DB> {
    pub(super) fn new(caller: Pool<DB>) -> Self {
        Self {
            caller,
            own: Mutex::default(),
            left: watch::Sender::default(),
            templates: OnceCell::new(),
        }
    }

    fn pool(&self) -> Pool<DB> {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let pool = own.get_or_insert_with(|| DB::own_pool(&self.caller, CONNECTIONS, &[]));
        pool.clone()
    }

    /// Gives the connections up: the driver keeps one whose statement was not answered.
    fn leave(&self) {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        *own = None;
        self.left.send_modify(|left| *left += 1);
    }

    async fn in_time<T>(&self, work: impl Future<Output = DbResult<T>>) -> DbResult<T> {
        match timeout(ANSWER, work).await {
            Ok(done) => done,
            Err(_) => {
                self.leave();
                Err(sqlx::Error::PoolTimedOut)
            }
        }
    }

    async fn templates(&self) -> DbResult<&Templates> {
        let ask = async {
            let server = DB::server(&mut *self.pool().acquire().await?).await?;
            Ok(schema::templates(DB::DIALECT, &server.schema))
        };
        self.templates.get_or_try_init(|| ask).await
    }

    async fn read_version(&self, conn: &mut DB::Connection) -> DbResult<i64> {
        let sql = "SELECT CAST(version AS {int}) FROM {version}";
        let sql = self.templates().await?.sql(sql);
        let versions = read::<DB, i64>(conn, &sql, &[]).await?;
        Ok(versions.first().copied().unwrap_or_default())
    }

    /// Reads everything between two readings of one version, so that all of it belongs together.
    async fn read_all(&self) -> DbResult<Loaded> {
        let templates = self.templates().await?;
        let mut conn = self.pool().acquire().await?;
        let mut version = self.read_version(&mut conn).await?;
        let mut again = 0;
        loop {
            let now = read::<DB, i64>(&mut conn, &templates.sql("SELECT {now}"), &[]).await?;
            let apps = read::<DB, AppRow>(&mut conn, &templates.sql(rows::APPS), &[]).await?;
            let grants = read::<DB, GrantRow>(&mut conn, &templates.sql(rows::GRANTS), &[]).await?;
            let then = self.read_version(&mut conn).await?;
            again += 1;
            if then == version || again == AGAIN {
                return Ok(Loaded {
                    // What has changed meanwhile is read with the next version.
                    version,
                    now: now.first().copied().unwrap_or_default(),
                    apps,
                    grants,
                });
            }
            version = then;
        }
    }
}

impl<DB: Driver> Store for SqlStore<DB> {
    fn migrate(&self) -> BoxFuture<'_, DbResult<()>> {
        Box::pin(async {
            let mut statements = schema::statements(DB::DIALECT);
            // Not every database can add a column that may be there. Another node may add this one meanwhile, and has
            // written the version down then, so that nothing is run here.
            if self.is_old().await? {
                statements.push(schema::upgrade(DB::DIALECT));
            }
            let tables = Tables {
                name: schema::APPS,
                version: schema::VERSION,
                statements: &statements,
            };
            migrate(&self.caller, &tables).await
        })
    }

    fn version(&self) -> BoxFuture<'_, DbResult<i64>> {
        let version = async {
            // Before a connection is taken, because it needs one itself.
            self.templates().await?;
            let mut conn = self.pool().acquire().await?;
            self.read_version(&mut conn).await
        };
        Box::pin(self.in_time(version))
    }

    fn load(&self) -> BoxFuture<'_, DbResult<Loaded>> {
        Box::pin(self.in_time(self.read_all()))
    }

    fn change(&self, changes: Vec<Change>) -> BoxFuture<'_, DbResult<Result<(), Refused>>> {
        let work = async move {
            let templates = self.templates().await?;
            let mut tx = DB::begin(&self.pool()).await?;
            // First: it keeps other changes out until the end of this one.
            let count = templates.sql("UPDATE {version} SET version = version + 1");
            DB::run_sql(&mut tx, &count, &[]).await?;
            for change in &changes {
                if let Err(refused) = change.apply::<DB>(&mut tx, templates).await? {
                    tx.rollback().await?;
                    return Ok(Err(refused));
                }
            }
            if DB::DIALECT == final_core::database::Dialect::Postgres {
                let notify = templates.sql("SELECT pg_notify(?, '')");
                DB::run_sql(&mut tx, &notify, &[CHANNEL.into()]).await?;
            }
            tx.commit().await?;
            Ok(Ok(()))
        };
        Box::pin(self.in_time(work))
    }

    fn listen<'a>(&'a self, heard: &'a (dyn Fn() + Send + Sync)) -> BoxFuture<'a, DbResult<()>> {
        Box::pin(async move {
            // A connection of its own, so that it takes none of the others away.
            let pool = DB::own_pool(&self.caller, 1, &[]);
            let mut left = self.left.subscribe();
            tokio::select! {
                ended = DB::listen(&pool, CHANNEL, |_| heard()) => ended,
                _ = left.changed() => Ok(()),
                // A connection on which nothing is ever sent may be gone without a sign.
                () = sleep(LISTENING) => Ok(()),
            }
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let own = self
                .own
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            if let Some(pool) = own
                && !DB::lives_in_pool(&self.caller)
            {
                // A server that stands still closes them by itself.
                let _ = timeout(GOODBYE, pool.close()).await;
            }
        })
    }

    fn is_old(&self) -> BoxFuture<'_, DbResult<bool>> {
        let columns = async {
            let mut conn = self.pool().acquire().await?;
            let columns = DB::columns(&mut conn, schema::APPS).await?;
            Ok(!columns.is_empty() && !columns.iter().any(|name| name == schema::ADDED))
        };
        Box::pin(self.in_time(columns))
    }

    fn is_missing(&self, error: &sqlx::Error) -> bool {
        DB::is_missing_table(error, "final_gateway_")
    }
}

impl<DB: Driver> fmt::Debug for SqlStore<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SqlStore")
            .field(&DB::place(&self.caller))
            .finish()
    }
}
