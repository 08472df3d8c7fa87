//! A database user with a password: MySQL wants the password itself from a user who has not logged in since
//! the server started.

use std::error::Error as _;

use final_core::{Bus, MemoryBroker, MySqlBus, Payload, Router, SqlBroker, broker::Broker};
use final_tests::{MariaDb, eventually};
use sqlx::{MySqlPool, mysql::MySqlConnectOptions};

use crate::{
    database::{Database, is_mariadb},
    house::SOON,
};

/// A new user of a fresh database, who has never logged in.
async fn user() -> (MySqlPool, MySqlConnectOptions) {
    let url = final_tests::mysql_database().await.expect("MariaDB");
    let root = MySqlPool::connect(&url).await.expect("root");
    let user = user_of(&root, &url).await;
    (root, user)
}

async fn user_of(root: &MySqlPool, url: &str) -> MySqlConnectOptions {
    let name = final_tests::unique("u");
    let create = format!("CREATE USER {name}@'%' IDENTIFIED BY 'secret'");
    sqlx::MySql::run_on(root, &create).await;
    let options: MySqlConnectOptions = url.parse().expect("a URL");
    let database = options.get_database().expect("a database").to_owned();
    let grant = format!("GRANT ALL ON {database}.* TO {name}@'%'");
    sqlx::MySql::run_on(root, &grant).await;
    options.username(&name).password("secret")
}

async fn forget(root: &MySqlPool, options: &MySqlConnectOptions) {
    let drop = format!("DROP USER {}@'%'", options.get_username());
    sqlx::MySql::run_on(root, &drop).await;
}

async fn works(pool: MySqlPool, broker: impl Broker) {
    let bus = started(pool.clone(), broker).await;
    bus.publish("placed", &1_i64).await.expect("published");
    handles(&bus, 1).await;
    bus.shutdown().await.expect("shutdown");
    pool.close().await;
}

async fn started(pool: MySqlPool, broker: impl Broker) -> MySqlBus {
    let bus = Bus::new("shop", pool, broker);
    let router = Router::new().route("placed", async |_: Payload<i64>| {});
    bus.start(router).await.expect("start");
    bus
}

async fn handles(bus: &MySqlBus, number: u64) {
    eventually("they are handled", SOON, async || match bus.stats().await {
        Ok(stats) if stats.handled >= number => Ok(()),
        other => Err(other),
    })
    .await;
}

/// Through TLS where the server speaks it, which sqlx prefers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mysql_user_with_a_password_is_enough() {
    let (root, options) = user().await;
    works(
        MySqlPool::connect_lazy_with(options.clone()),
        MemoryBroker::new(),
    )
    .await;
    let pool = MySqlPool::connect_lazy_with(options.clone());
    works(pool.clone(), SqlBroker::new(pool)).await;
    forget(&root, &options).await;
}

/// MariaDB has nothing to forget.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bus_goes_on_when_mysql_has_forgotten_who_was_logged_in() {
    let shared = final_tests::mysql_database().await.expect("MariaDB");
    let shared = MySqlPool::connect(&shared).await.expect("root");
    if is_mariadb(&shared).await {
        return;
    }
    let server = MariaDb::start().await.expect("MySQL");
    let admin = MySqlPool::connect(&server.url()).await.expect("root");
    sqlx::MySql::run_on(&admin, "CREATE DATABASE shop").await;
    let user = user_of(&admin, &server.url().replace("/mysql", "/shop")).await;
    let pool = MySqlPool::connect_lazy_with(user);
    let bus = started(pool.clone(), SqlBroker::new(pool)).await;
    bus.publish("placed", &1_i64).await.expect("published");
    handles(&bus, 1).await;

    server.stop().await.expect("stopped");
    server.start_again().await.expect("started");
    eventually("a message is published", SOON, async || {
        bus.publish("placed", &2_i64).await
    })
    .await;
    handles(&bus, 2).await;
    bus.shutdown().await.expect("shutdown");
}

/// MariaDB never wants the password itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_that_mysql_gets_by_tls_alone_is_told_with_the_features_that_send_it() {
    let (root, user) = user().await;
    let plain = user.clone().ssl_mode(sqlx::mysql::MySqlSslMode::Disabled);
    let pool = MySqlPool::connect_lazy_with(plain);
    if is_mariadb(&root).await {
        works(pool, MemoryBroker::new()).await;
    } else {
        is_refused(pool.clone(), MemoryBroker::new()).await;
        is_refused(pool.clone(), SqlBroker::new(pool)).await;
    }
    forget(&root, &user).await;
}

async fn is_refused(pool: MySqlPool, broker: impl Broker) {
    let bus = Bus::new("shop", pool, broker);
    let error = bus.start(Router::new()).await.expect_err("not without TLS");
    let cause = error.source().expect("a cause").to_string();
    for part in ["caching_sha2_password", "`mysql-rsa`", "TLS feature"] {
        assert!(cause.contains(part), "{error}: {cause}");
    }
    assert!(!cause.contains("secret"), "{cause}");
    let published = bus.publish("placed", &1_i64).await.expect_err("no login");
    let cause = published.source().expect("a cause").to_string();
    assert!(cause.contains("`mysql-rsa`"), "{published}: {cause}");
}
