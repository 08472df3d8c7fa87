//! Monitoring after a quiet time over TLS, where a connection that went silent cannot be closed: its client waits for
//! the server's goodbye.

use final_tests::{Authority, MariaDb, Postgres, Proxy};
use sqlx::{Connection, Executor, MySqlConnection, MySqlPool, PgPool};

use super::answers_after_a_quiet_time;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn monitoring_of_postgresql_over_tls_is_right_after_a_quiet_time() {
    let authority = Authority::new().expect("an authority");
    let server = Postgres::start_with_tls(&authority)
        .await
        .expect("PostgreSQL");
    let proxy = Proxy::to(&server.url()).await.expect("a proxy");
    let url = format!("{}?sslmode=require", proxy.url(&server.url()));
    let pool = PgPool::connect(&url).await.expect("connected");
    answers_after_a_quiet_time(pool, &proxy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn monitoring_of_mariadb_over_tls_is_right_after_a_quiet_time() {
    let authority = Authority::new().expect("an authority");
    let server = MariaDb::start_with_tls(&authority).await.expect("MariaDB");
    let mut root = MySqlConnection::connect(&server.url()).await.expect("root");
    let made = root.execute("CREATE DATABASE shop").await;
    made.expect("root may");
    let proxy = Proxy::to(&server.url()).await.expect("a proxy");
    let url = proxy.url(&server.url()).replace("/mysql", "/shop");
    let pool = MySqlPool::connect(&format!("{url}?ssl-mode=REQUIRED")).await;
    answers_after_a_quiet_time(pool.expect("connected"), &proxy).await;
}
