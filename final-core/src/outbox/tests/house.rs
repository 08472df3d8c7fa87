//! A fresh database for every test, and an outbox in it.

use std::time::Duration;

use sqlx::database::HasStatementCache;
use sqlx::{
    AssertSqlSafe, Connection, Executor, MySql, MySqlConnection, PgConnection, Pool, Postgres, Row,
    Sqlite, SqliteConnection, Transaction, mysql::MySqlConnectOptions, pool::PoolOptions,
    postgres::PgConnectOptions, sqlite::SqliteConnectOptions,
};
use uuid::Uuid;

use super::calls::Calls;
use crate::{
    Message,
    names::ServiceName,
    outbox::{Claimed, NewRecord, Position, claims::Claim, statements::Statements},
    runtime::counter::Counter,
    scratch,
};

/// A database server to test on.
pub(super) trait House: Calls + HasStatementCache {
    /// A pool on a database of its own.
    fn fresh() -> impl Future<Output = Pool<Self>> + Send;
    /// Runs a statement and returns the number of rows.
    fn execute(conn: &mut Self::Connection, sql: &str) -> impl Future<Output = u64> + Send;
    /// Runs a text of several statements.
    fn script(conn: &mut Self::Connection, sql: &str) -> impl Future<Output = ()> + Send;
    /// The one number a query returns.
    fn number(conn: &mut Self::Connection, sql: &str) -> impl Future<Output = i64> + Send;
}

macro_rules! house {
    ($database:ty, $connection:ty, $fresh:path) => {
        impl House for $database {
            async fn fresh() -> Pool<Self> {
                $fresh().await
            }

            async fn execute(conn: &mut $connection, sql: &str) -> u64 {
                let query = sqlx::query(AssertSqlSafe(sql)).persistent(false);
                query.execute(conn).await.unwrap().rows_affected()
            }

            async fn script(conn: &mut $connection, sql: &str) {
                conn.execute(sqlx::raw_sql(AssertSqlSafe(sql)))
                    .await
                    .unwrap();
            }

            async fn number(conn: &mut $connection, sql: &str) -> i64 {
                let query = sqlx::query(AssertSqlSafe(sql)).persistent(false);
                query.fetch_one(conn).await.unwrap().get(0)
            }
        }
    };
}

house!(Postgres, PgConnection, fresh_postgres);
house!(MySql, MySqlConnection, fresh_mysql);
house!(Sqlite, SqliteConnection, fresh_sqlite);

fn url(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!("this test needs a server: run `cargo xtask test`, or set {variable}")
    })
}

fn fresh_name() -> String {
    format!("outbox_{}", Uuid::now_v7().simple())
}

async fn fresh_postgres() -> Pool<Postgres> {
    let url = url("FINAL_TEST_POSTGRES_URL");
    let name = fresh_name();
    let mut root = PgConnection::connect(&url).await.unwrap();
    Postgres::execute(
        &mut root,
        &format!("CREATE DATABASE {name} TEMPLATE template0"),
    )
    .await;
    let options: PgConnectOptions = url.parse().unwrap();
    PoolOptions::new()
        .max_connections(5)
        .connect_lazy_with(options.database(&name))
}

async fn fresh_mysql() -> Pool<MySql> {
    let url = url("FINAL_TEST_MYSQL_URL");
    let name = fresh_name();
    let mut root = MySqlConnection::connect(&url).await.unwrap();
    MySql::execute(&mut root, &format!("CREATE DATABASE {name}")).await;
    let options: MySqlConnectOptions = url.parse().unwrap();
    PoolOptions::new()
        .max_connections(5)
        .connect_lazy_with(options.database(&name))
}

async fn fresh_sqlite() -> Pool<Sqlite> {
    let options = SqliteConnectOptions::new()
        .filename(scratch::database())
        .create_if_missing(true);
    PoolOptions::new()
        .max_connections(5)
        .connect_lazy_with(options)
}

/// The outbox of the service `my-shop`, migrated.
pub(super) struct Outbox<DB: House> {
    pub(super) pool: Pool<DB>,
    pub(super) relay: Pool<DB>,
    pub(super) s: Statements,
    pub(super) me: Uuid,
}

pub(super) const LEASE: Duration = Duration::from_secs(30);

pub(super) fn shop() -> ServiceName {
    ServiceName::new("my-shop").unwrap()
}

pub(super) fn message(topic: &str) -> Message {
    Message::new(topic, "payload")
}

pub(super) fn ids(claimed: &[Claimed]) -> Vec<Uuid> {
    claimed.iter().map(|claimed| claimed.record.id.0).collect()
}

impl<DB: House> Outbox<DB> {
    pub(super) async fn new() -> Self {
        let pool = DB::fresh().await;
        let relay = DB::relay_pool(&pool);
        DB::migrate(&relay, &shop()).await.unwrap();
        let s = DB::locate(&relay, &shop()).await.unwrap();
        Self {
            pool,
            relay,
            s,
            me: Uuid::now_v7(),
        }
    }

    pub(super) async fn begin(&self) -> Transaction<'static, DB> {
        DB::begin(&self.pool).await.unwrap()
    }

    pub(super) async fn insert(&self, records: &[NewRecord<'_>]) {
        let mut tx = self.begin().await;
        DB::insert(&mut tx, &self.s, records, true).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// Inserts as many plain records and returns their ids.
    pub(super) async fn fill(&self, topic: &str, count: usize) -> Vec<Uuid> {
        let messages: Vec<_> = (0..count).map(|_| message(topic)).collect();
        let records: Vec<_> = messages.iter().map(NewRecord::plain).collect();
        self.insert(&records).await;
        messages.iter().map(|message| message.id().0).collect()
    }

    pub(super) async fn claim(&self, limit: u32) -> Vec<Claimed> {
        self.claim_after(None, limit).await
    }

    pub(super) async fn claim_after(&self, after: Option<Position>, limit: u32) -> Vec<Claimed> {
        let claim = self.claim_for(self.me, after, limit, LEASE).await;
        self.read(claim).await
    }

    /// A claim, and a moment: by SQLite's clock of milliseconds, what is released at once would otherwise
    /// stand in the midst of it.
    pub(super) async fn claim_for(
        &self,
        owner: Uuid,
        after: Option<Position>,
        limit: u32,
        lease: Duration,
    ) -> Option<Claim> {
        let claim = DB::claim(
            &self.relay,
            &self.s,
            after,
            limit,
            owner,
            lease,
            &Counter::default(),
        )
        .await;
        tokio::time::sleep(Duration::from_millis(2)).await;
        claim.unwrap()
    }

    /// The records of a claim, none of no claim.
    pub(super) async fn read(&self, claim: impl Into<Option<Claim>>) -> Vec<Claimed> {
        match claim.into() {
            Some(claim) => DB::read(&self.relay, &self.s, &claim).await.unwrap(),
            None => Vec::new(),
        }
    }

    pub(super) async fn claim_as(&self, owner: Uuid, limit: u32) -> Vec<Claimed> {
        let claim = self.claim_for(owner, None, limit, LEASE).await;
        self.read(claim).await
    }

    /// Runs a statement in which `{t}` is the table and `{c}` that of the claims.
    pub(super) async fn run(&self, sql: &str) -> u64 {
        let sql = self.named(sql);
        DB::execute(&mut *self.pool.acquire().await.unwrap(), &sql).await
    }

    fn named(&self, sql: &str) -> String {
        let table = DB::table(&self.s);
        let claims = table.replace("_outbox", "_claims");
        sql.replace("{t}", table).replace("{c}", &claims)
    }

    pub(super) async fn number(&self, sql: &str) -> i64 {
        let sql = self.named(sql);
        DB::number(&mut *self.pool.acquire().await.unwrap(), &sql).await
    }
}
