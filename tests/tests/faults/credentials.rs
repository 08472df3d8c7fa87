//! Credentials that change while the bus runs, as tokens of a cloud and rotated passwords do. The service tells its
//! pool of the new ones, and the bus's own connections follow.

use final_tests::{Postgres, WorkDir, eventually, servers::Setup, unique};
use sqlx::{
    AssertSqlSafe, MySqlPool, PgPool,
    mysql::{MySqlConnectOptions, MySqlPoolOptions},
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::{
    pair::Pair,
    shop::{SOON, log},
};

/// Connections of the service's own pool. They stay until the server ends them.
const CALLERS: i64 = 2;

/// The database's side of a rotation, as its administrator sees it.
struct Admin<DB: sqlx::Database> {
    pool: sqlx::Pool<DB>,
    users: [String; 2],
}

/// A password is replaced, is wrong for a while, and the user is replaced by another.
macro_rules! rotation {
    ($name:ident, $admin:expr, $pool:ty, $options:ty) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            log();
            let (admin, url, _server) = $admin.await;
            let options = |user: &str, password: &str| {
                let options: $options = url.parse().expect("a URL");
                options.username(user).password(password)
            };
            let [first, second] = &admin.users;
            admin.set_password(first, "one").await;
            let pool = <$pool>::new()
                .max_connections(CALLERS as u32)
                .connect_with(options(first, "one"))
                .await
                .expect("connected");
            let mut pair = Pair::new(&pool);
            pair.start().await;
            pair.works().await;

            admin.set_password(first, "two").await;
            pool.set_connect_options(options(first, "two"));
            admin.end_sessions(first).await;
            pair.works().await;

            pool.set_connect_options(options(first, "wrong"));
            admin.end_sessions(first).await;
            for bus in [&pair.outbox, &pair.log] {
                eventually("a refusal", SOON, async || bus.stats().await.is_err()).await;
            }
            pool.set_connect_options(options(first, "two"));
            pair.works().await;

            // All of these are healthy.
            assert!(admin.sessions(first).await > CALLERS);
            admin.set_password(second, "three").await;
            pool.set_connect_options(options(second, "three"));
            eventually("only the service's own sessions", SOON, async || {
                let sessions = admin.sessions(first).await;
                (sessions <= CALLERS).then_some(()).ok_or(sessions)
            })
            .await;
            admin.set_password(first, "over").await;
            admin.end_sessions(first).await;
            pair.works().await;

            let limit = std::time::Duration::from_secs(20);
            let shutdown = tokio::time::timeout(limit, pair.shut_down()).await;
            shutdown.expect("nothing is waited for");
        }
    };
}

rotation!(
    a_bus_on_postgresql_follows_the_credentials_of_its_pool,
    postgres(),
    PgPoolOptions,
    PgConnectOptions
);
rotation!(
    a_bus_on_mariadb_follows_the_credentials_of_its_pool,
    mariadb(),
    MySqlPoolOptions,
    MySqlConnectOptions
);

/// A server that asks everybody but its administrator for a password, and the URL of a database on it.
async fn postgres() -> (Admin<sqlx::Postgres>, String, (Postgres, WorkDir)) {
    let dir = WorkDir::new("hba").expect("a folder");
    let rules = "host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n";
    let rules = dir.write("hba.conf", rules).expect("a file");
    let setup = Setup {
        args: vec!["-c".into(), format!("hba_file={}", rules.display())],
        ..Setup::default()
    };
    let server = Postgres::start_with(setup).await.expect("PostgreSQL");
    let pool = PgPool::connect(&server.url()).await.expect("connected");
    let users = ["one", "two"].map(str::to_owned);
    for sql in [
        "CREATE ROLE one LOGIN",
        "CREATE ROLE two LOGIN IN ROLE one",
        "CREATE DATABASE shop OWNER one",
    ] {
        sqlx::query(sql).execute(&pool).await.expect(sql);
    }
    let url = server.url().replace("/postgres", "/shop");
    (Admin { pool, users }, url, (server, dir))
}

impl Admin<sqlx::Postgres> {
    async fn set_password(&self, user: &str, password: &str) {
        let sql = format!("ALTER ROLE {user} PASSWORD '{password}'");
        let set = sqlx::query(AssertSqlSafe(sql)).execute(&self.pool).await;
        set.expect("a password");
    }

    async fn end_sessions(&self, user: &str) {
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1";
        let end = sqlx::query(end).bind(user).execute(&self.pool).await;
        end.expect("ended");
    }

    async fn sessions(&self, user: &str) -> i64 {
        let count = "SELECT count(*) FROM pg_stat_activity WHERE usename = $1";
        let count = sqlx::query_scalar(count).bind(user);
        count.fetch_one(&self.pool).await.expect("a count")
    }
}

/// Two users of a database of the shared server.
async fn mariadb() -> (Admin<sqlx::MySql>, String, ()) {
    let url = final_tests::mysql_database().await.expect("MariaDB");
    let pool = MySqlPool::connect(&url).await.expect("connected");
    let users = [unique("u"), unique("u")];
    for user in &users {
        for sql in [
            format!("CREATE USER {user} IDENTIFIED BY 'none'"),
            format!("GRANT ALL ON `{}`.* TO {user}", database(&url)),
        ] {
            let done = sqlx::query(AssertSqlSafe(sql)).execute(&pool).await;
            done.expect("a user");
        }
    }
    (Admin { pool, users }, url, ())
}

fn database(url: &str) -> &str {
    url.rsplit('/').next().expect("a name")
}

impl Admin<sqlx::MySql> {
    async fn set_password(&self, user: &str, password: &str) {
        let sql = format!("ALTER USER {user} IDENTIFIED BY '{password}'");
        let set = sqlx::query(AssertSqlSafe(sql)).execute(&self.pool).await;
        set.expect("a password");
    }

    async fn end_sessions(&self, user: &str) {
        let sql = format!("KILL USER {user}");
        let end = sqlx::query(AssertSqlSafe(sql)).execute(&self.pool).await;
        end.expect("ended");
    }

    async fn sessions(&self, user: &str) -> i64 {
        let count = "SELECT count(*) FROM information_schema.processlist WHERE user = ?";
        let count = sqlx::query_scalar(count).bind(user);
        count.fetch_one(&self.pool).await.expect("a count")
    }
}
