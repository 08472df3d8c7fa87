//! Rights on real databases.

mod away;
mod databus;
mod limits;
mod logins;
mod reach;
mod redis;
mod secrets;

use final_core::database::Driver;
use final_tests::SqliteFile;
use sqlx::{AssertSqlSafe, Pool};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{
    App, AppLimits, AppSecret, Apps, AppsError, AuthError, Denied, Grant, Operation, Operations,
    Rights,
};

/// A database under test.
pub(super) trait TestDatabase: Driver {
    async fn url() -> (String, Option<SqliteFile>);

    async fn sql(pool: &Pool<Self>, sql: &str) -> u64;
}

macro_rules! database {
    ($database:ty, $url:expr) => {
        impl TestDatabase for $database {
            async fn url() -> (String, Option<SqliteFile>) {
                $url.await
            }

            async fn sql(pool: &Pool<Self>, sql: &str) -> u64 {
                let query = sqlx::query(AssertSqlSafe(sql.to_owned()));
                query.execute(pool).await.expect(sql).rows_affected()
            }
        }
    };
}

database!(sqlx::Postgres, async {
    (final_tests::pg_database().await.expect("PostgreSQL"), None)
});
database!(sqlx::MySql, async {
    (final_tests::mysql_database().await.expect("MariaDB"), None)
});
database!(sqlx::Sqlite, async {
    let file = final_tests::sqlite_file().expect("a file");
    (file.url(), Some(file))
});

/// A new database with the tables of rights.
pub(super) struct Place<DB: Driver> {
    url: String,
    pool: Pool<DB>,
    apps: Apps,
    _file: Option<SqliteFile>,
}

impl<DB: TestDatabase> Place<DB> {
    async fn fresh() -> Self {
        let (url, _file) = DB::url().await;
        let pool = Pool::<DB>::connect(&url).await.expect("connected");
        let apps = Apps::new(pool.clone());
        apps.migrate().await.expect("migrated");
        Self {
            url,
            pool,
            apps,
            _file,
        }
    }

    /// Another process, which has read the tables.
    async fn node(&self) -> Node {
        Node::start(Rights::tables(self.pool.clone())).await
    }

    /// An app that may do everything.
    async fn app(&self, key: &str) -> AppSecret {
        let secret = self.apps.create(key, AppLimits::default()).await;
        self.apps
            .allow(key, grant("*", "*", Operations::BOTH))
            .await
            .expect("allowed");
        secret.expect("created")
    }

    async fn sql(&self, sql: &str) -> u64 {
        DB::sql(&self.pool, sql).await
    }
}

/// Rights that a task keeps current.
pub(super) struct Node {
    rights: Rights,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Node {
    async fn start(rights: Rights) -> Self {
        let node = Self::begin(rights);
        final_tests::eventually("the rights are read", SOON, async || node.rights.is_ready()).await;
        node
    }

    fn begin(rights: Rights) -> Self {
        let stop = CancellationToken::new();
        let (keeping, until) = (rights.clone(), stop.clone());
        let task = tokio::spawn(async move { keeping.keep_current(until).await });
        Self { rights, stop, task }
    }

    async fn log_in(&self, key: &str, secret: &AppSecret) -> Result<App, AuthError> {
        self.log_in_with(key, secret.reveal()).await
    }

    async fn log_in_with(&self, key: &str, secret: &str) -> Result<App, AuthError> {
        self.rights.authenticate(None, key, secret.as_bytes()).await
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.expect("no panic");
    }
}

const SOON: std::time::Duration = std::time::Duration::from_secs(60);

fn grant(group: &str, topic: &str, operations: Operations) -> Grant {
    Grant::new(group, topic, operations).expect("a right")
}

/// Makes a test of each function of a list, on each database.
macro_rules! everywhere {
    ($($name:ident),+ $(,)?) => {
        $crate::rights::tests::everywhere!(@on postgres, sqlx::Postgres: $($name),+);
        $crate::rights::tests::everywhere!(@on mariadb, sqlx::MySql: $($name),+);
        $crate::rights::tests::everywhere!(@on sqlite, sqlx::Sqlite: $($name),+);
    };
    (@on $database:ident, $type:ty: $($name:ident),+) => {
        mod $database {
            $(
                #[tokio::test]
                async fn $name() {
                    super::$name($crate::rights::tests::Place::<$type>::fresh().await).await;
                }
            )+
        }
    };
}
use everywhere;
