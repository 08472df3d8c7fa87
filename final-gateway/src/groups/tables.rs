//! The tables of groups: epochs of connections, and the key that signs receipts.
//!
//! Input: a pool. State: `final_gateway_epochs`, a row for each group and topic; `final_gateway_keys`, one row. Output:
//! epochs that rise over all nodes, and a key that all of them share.

use std::{fmt, time::Duration};

use final_core::database::{DbResult, Dialect, Driver, Tables, Templates, Value, migrate, read};
use futures::future::BoxFuture;
use sqlx::{Acquire, Pool};
use tokio::{sync::OnceCell, time::timeout};

/// How long the database has for an answer.
const LIMIT: Duration = Duration::from_secs(15);
/// The name of the key's row.
const RECEIPTS: &str = "receipts";

const EPOCHS: &str = "final_gateway_epochs";
const KEYS: &str = "final_gateway_keys";

/// What groups keep in a database, whichever it is.
pub(super) trait GroupTables: Send + Sync + 'static {
    /// Makes the tables.
    fn migrate(&self) -> BoxFuture<'_, DbResult<()>>;

    /// The next epoch of a group and topic: higher than all before.
    fn next_epoch<'a>(&'a self, group: &'a str) -> BoxFuture<'a, DbResult<i64>>;

    /// The key of all nodes, which the first one makes.
    fn key(&self) -> BoxFuture<'_, DbResult<[u8; 32]>>;
}

/// The tables in the database of a pool.
pub(super) struct SqlGroupTables<DB: Driver> {
    pool: Pool<DB>,
    templates: OnceCell<Templates>,
}

impl<DB: Driver> SqlGroupTables<DB> {
    pub(super) fn new(pool: Pool<DB>) -> Self {
        Self {
            pool,
            templates: OnceCell::new(),
        }
    }

    /// Texts with the names of the tables. The schema is asked for once, because a `search_path` or `USE` of the
    /// caller's must not redirect a statement.
    async fn templates(&self) -> DbResult<&Templates> {
        let make = || async {
            let mut conn = self.pool.acquire().await?;
            let server = DB::server(&mut conn).await?;
            let table = |name| (name, format!("{}{name}", server.schema));
            Ok(Templates::new(DB::DIALECT, [table(EPOCHS), table(KEYS)]))
        };
        self.templates.get_or_try_init(make).await
    }

    async fn make_tables(&self) -> DbResult<()> {
        let words = DB::DIALECT.words();
        let (name, int, bytes) = (words.name_type, words.int_type, words.bytes_type);
        let options = words.table_options;
        let main = match DB::DIALECT {
            Dialect::Sqlite => "main.",
            Dialect::Postgres | Dialect::MySql => "",
        };
        let create = |table: &str, columns: String| {
            format!("CREATE TABLE IF NOT EXISTS {main}{table} ({columns}){options}")
        };
        let epochs = format!("group_name {name} NOT NULL PRIMARY KEY, epoch {int} NOT NULL");
        let keys = format!("name {name} NOT NULL PRIMARY KEY, secret {bytes} NOT NULL");
        for (name, columns) in [(EPOCHS, epochs), (KEYS, keys)] {
            let tables = Tables {
                name,
                version: 1,
                statements: &[create(name, columns)],
            };
            migrate(&self.pool, &tables).await?;
        }
        Ok(())
    }

    async fn raise_epoch(&self, group: &str) -> DbResult<i64> {
        let templates = self.templates().await?;
        // A transaction, because the pool may lend a connection that does not commit by itself.
        let mut tx = DB::begin(&self.pool).await?;
        let conn = tx.acquire().await?;
        let values = [Value::from(group)];
        let epochs: Vec<i64> = match DB::DIALECT {
            Dialect::Postgres | Dialect::Sqlite => {
                let raise = templates.sql(
                    "INSERT INTO {final_gateway_epochs} AS e (group_name, epoch) VALUES (?, 1) \
                     ON CONFLICT (group_name) DO UPDATE SET epoch = e.epoch + 1 RETURNING epoch",
                );
                read::<DB, _>(conn, &raise, &values).await?
            }
            Dialect::MySql => {
                let raise = templates.sql(
                    "INSERT INTO {final_gateway_epochs} (group_name, epoch) VALUES (?, LAST_INSERT_ID(1)) \
                     ON DUPLICATE KEY UPDATE epoch = LAST_INSERT_ID(epoch + 1)",
                );
                DB::run_sql(conn, &raise, &values).await?;
                let raised = templates.sql("SELECT CAST(LAST_INSERT_ID() AS SIGNED)");
                read::<DB, _>(conn, &raised, &[]).await?
            }
        };
        tx.commit().await?;
        epochs.first().copied().ok_or(sqlx::Error::RowNotFound)
    }

    async fn shared_key(&self) -> DbResult<[u8; 32]> {
        let templates = self.templates().await?;
        let find = templates.sql("SELECT secret FROM {final_gateway_keys} WHERE name = ?");
        let name = [Value::from(RECEIPTS)];
        let mut tx = DB::begin(&self.pool).await?;
        let conn = tx.acquire().await?;
        let mut found: Vec<Vec<u8>> = read::<DB, _>(conn, &find, &name).await?;
        if found.is_empty() {
            let mut made = [0; 32];
            getrandom::fill(&mut made)
                .map_err(|error| sqlx::Error::Configuration(error.to_string().into()))?;
            let put = templates
                .sql("{insert} INTO {final_gateway_keys} (name, secret) VALUES (?, ?) {nothing}");
            let values = [Value::from(RECEIPTS), Value::from(&made[..])];
            DB::run_sql(conn, &put, &values).await?;
        }
        tx.commit().await?;
        if found.is_empty() {
            // Another node may have been first. A transaction of its own sees what that one has written.
            let mut tx = DB::begin(&self.pool).await?;
            found = read::<DB, _>(tx.acquire().await?, &find, &name).await?;
            tx.commit().await?;
        }
        let found = found.into_iter().next().ok_or(sqlx::Error::RowNotFound)?;
        found.try_into().map_err(|_| {
            let text = format!(
                "the row {RECEIPTS:?} of {KEYS} has no secret of 32 bytes; delete the row, and start the nodes anew"
            );
            sqlx::Error::Configuration(text.into())
        })
    }
}

impl<DB: Driver> GroupTables for SqlGroupTables<DB> {
    fn migrate(&self) -> BoxFuture<'_, DbResult<()>> {
        // Without a limit of ours: another instance may be at it, for a minute at most.
        Box::pin(self.make_tables())
    }

    fn next_epoch<'a>(&'a self, group: &'a str) -> BoxFuture<'a, DbResult<i64>> {
        Box::pin(limited(self.raise_epoch(group)))
    }

    fn key(&self) -> BoxFuture<'_, DbResult<[u8; 32]>> {
        Box::pin(limited(self.shared_key()))
    }
}

impl<DB: Driver> fmt::Debug for SqlGroupTables<DB> {
    /// Without the pool: its options hold the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SqlGroupTables")
    }
}

async fn limited<T>(work: impl Future<Output = DbResult<T>>) -> DbResult<T> {
    timeout(LIMIT, work)
        .await
        .unwrap_or(Err(sqlx::Error::PoolTimedOut))
}
