//! The database is away.

use std::time::Duration;

use final_tests::{Proxy, eventually};
use sqlx::Pool;

use super::{AuthError, Node, Operation, Place, Rights, SOON, TestDatabase};
use crate::rights::AppLimits;

const MINUTE: Duration = Duration::from_secs(60);

async fn a_copy_is_good_for_fifteen_minutes<DB: TestDatabase>(at: Place<DB>) {
    let secret = at.app("shop").await;
    let proxy = Proxy::to(&at.url).await.expect("a proxy");
    let pool = Pool::<DB>::connect_lazy(&proxy.url(&at.url)).expect("a URL");
    let rights = Rights::tables(pool).read_every(Duration::from_millis(100));
    let node = Node::start(rights).await;
    let app = node.log_in("shop", &secret).await.expect("logged in");

    proxy.down();
    eventually("the node has noticed", SOON, async || {
        node.rights.is_failing()
    })
    .await;
    node.rights.put_forward(14 * MINUTE);
    node.log_in("shop", &secret)
        .await
        .expect("the last good copy");
    assert!(node.rights.is_ready());
    node.rights.put_forward(2 * MINUTE);
    assert_eq!(
        node.log_in("shop", &secret).await.err(),
        Some(AuthError::Unknown)
    );
    assert!(!node.rights.is_ready());
    assert_eq!(app.may(Operation::Publish, Some("g"), "t"), Ok(()));
    assert!(!app.revoked().is_cancelled(), "who is in stays in");
    at.apps.disable("shop").await.expect("disabled");

    proxy.up().expect("up");
    eventually("the rights are known again", SOON, async || {
        node.rights.is_ready()
    })
    .await;
    assert_eq!(
        node.log_in("shop", &secret).await.err(),
        Some(AuthError::Key)
    );
    assert!(app.revoked().is_cancelled());
    node.stop().await;
}

async fn a_first_start_without_the_database_waits_for_it<DB: TestDatabase>(at: Place<DB>) {
    let secret = at.app("shop").await;
    let proxy = Proxy::to(&at.url).await.expect("a proxy");
    proxy.down();
    let pool = Pool::<DB>::connect_lazy(&proxy.url(&at.url)).expect("a URL");
    let node = Node::begin(Rights::tables(pool));
    eventually("the node has noticed", SOON, async || {
        node.rights.is_failing()
    })
    .await;
    assert!(!node.rights.is_ready());
    assert_eq!(
        node.log_in("shop", &secret).await.err(),
        Some(AuthError::Unknown)
    );
    proxy.up().expect("up");
    eventually("it has read the rights", SOON, async || {
        node.rights.is_ready()
    })
    .await;
    node.log_in("shop", &secret).await.expect("logged in");

    // A server that takes questions and answers none holds no end up.
    proxy.stall();
    node.stop().await;
}

/// As behind a firewall that has forgotten them.
async fn connections_that_carry_nothing_more_are_left_for_new_ones<DB: TestDatabase>(
    at: Place<DB>,
) {
    let secret = at.app("shop").await;
    let proxy = Proxy::to(&at.url).await.expect("a proxy");
    let pool = Pool::<DB>::connect_lazy(&proxy.url(&at.url)).expect("a URL");
    let node = Node::start(Rights::tables(pool).read_every(Duration::from_millis(100))).await;
    let app = node.log_in("shop", &secret).await.expect("logged in");

    proxy.strand();
    at.apps.disable("shop").await.expect("disabled");
    let heard = tokio::time::timeout(SOON, app.revoked().cancelled_owned()).await;
    heard.expect("heard on a new connection");
    node.stop().await;
}

mod postgres {
    use super::Place;

    #[tokio::test]
    async fn a_copy_is_good_for_fifteen_minutes() {
        super::a_copy_is_good_for_fifteen_minutes(Place::<sqlx::Postgres>::fresh().await).await;
    }

    #[tokio::test]
    async fn a_first_start_without_the_database_waits_for_it() {
        let at = Place::<sqlx::Postgres>::fresh().await;
        super::a_first_start_without_the_database_waits_for_it(at).await;
    }

    #[tokio::test]
    async fn connections_that_carry_nothing_more_are_left_for_new_ones() {
        let at = Place::<sqlx::Postgres>::fresh().await;
        super::connections_that_carry_nothing_more_are_left_for_new_ones(at).await;
    }
}

mod mariadb {
    use super::Place;

    #[tokio::test]
    async fn a_copy_is_good_for_fifteen_minutes() {
        super::a_copy_is_good_for_fifteen_minutes(Place::<sqlx::MySql>::fresh().await).await;
    }

    #[tokio::test]
    async fn a_first_start_without_the_database_waits_for_it() {
        let at = Place::<sqlx::MySql>::fresh().await;
        super::a_first_start_without_the_database_waits_for_it(at).await;
    }

    #[tokio::test]
    async fn connections_that_carry_nothing_more_are_left_for_new_ones() {
        let at = Place::<sqlx::MySql>::fresh().await;
        super::connections_that_carry_nothing_more_are_left_for_new_ones(at).await;
    }
}

/// The tables come after the node.
#[tokio::test]
async fn a_node_that_starts_before_the_tables_are_made_reads_them_once_they_are() {
    let file = final_tests::sqlite_file().expect("a file");
    let pool = sqlx::SqlitePool::connect(&file.url())
        .await
        .expect("opened");
    let node = Node::begin(Rights::tables(pool).read_every(Duration::from_millis(100)));
    eventually("the node has noticed", SOON, async || {
        node.rights.is_failing()
    })
    .await;
    node.rights.migrate().await.expect("migrated");
    node.rights.migrate().await.expect("once more");
    eventually("it has read the rights", SOON, async || {
        node.rights.is_ready()
    })
    .await;
    let apps = node.rights.apps().expect("tables");
    let secret = apps
        .create("shop", AppLimits::default())
        .await
        .expect("created");
    node.log_in("shop", &secret).await.expect("at once");
    node.stop().await;
}
