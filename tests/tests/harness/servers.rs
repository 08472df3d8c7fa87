//! Servers of one's own.

use final_tests::{
    always,
    servers::{Authority, MariaDb, Postgres, RabbitMq, Server},
};
use lapin::{
    ConnectionProperties,
    tcp::{OwnedIdentity, OwnedTLSConfig},
};
use sqlx::{Connection, MySqlConnection, PgConnection};
use tokio::time::timeout;

use crate::{A_WHILE, SOON, amqp, store, take};

/// Commits a row, kills the server, and looks for the row.
macro_rules! keeps {
    ($name:ident, $server:ty, $connection:ty) => {
        #[tokio::test]
        async fn $name() {
            let server = <$server>::start().await.unwrap();
            let mut connection = <$connection>::connect(&server.url()).await.unwrap();
            for sql in ["CREATE TABLE kept (id INT)", "INSERT INTO kept VALUES (42)"] {
                sqlx::query(sql).execute(&mut connection).await.unwrap();
            }
            server.kill9();
            assert!(<$connection>::connect(&server.url()).await.is_err());
            server.start_again().await.unwrap();
            let mut connection = <$connection>::connect(&server.url()).await.unwrap();
            let kept: i32 = sqlx::query_scalar("SELECT id FROM kept")
                .fetch_one(&mut connection)
                .await
                .unwrap();
            assert_eq!(kept, 42);
        }
    };
}

keeps!(
    postgres_keeps_what_was_committed_before_a_kill9,
    Postgres,
    PgConnection
);
keeps!(
    mariadb_keeps_what_was_committed_before_a_kill9,
    MariaDb,
    MySqlConnection
);

#[tokio::test]
async fn a_mariadb_has_its_temporary_tables_when_another_has_started() {
    let server = MariaDb::start().await.unwrap();
    let mut connection = MySqlConnection::connect(&server.url()).await.unwrap();
    let mut run = async |sql: &'static str| {
        let done = sqlx::query(sql).execute(&mut connection).await;
        done.expect(sql);
    };
    run("CREATE TEMPORARY TABLE kept (id INT) ENGINE = Aria").await;
    let _another = MariaDb::start().await.unwrap();
    run("DROP TEMPORARY TABLE kept").await;
}

#[tokio::test]
async fn rabbitmq_keeps_what_it_confirmed_before_a_kill9() {
    let server = RabbitMq::start().await.unwrap();
    let channel = amqp(&server.url()).await.create_channel().await.unwrap();
    store(&channel, "kept", b"42").await;
    // RabbitMQ confirms a message when it is on disk, but a new queue before it is on disk.
    server.declarations_on_disk().await.unwrap();
    server.kill9();
    server.start_again().await.unwrap();
    let channel = amqp(&server.url()).await.create_channel().await.unwrap();
    assert_eq!(take(&channel, "kept").await, b"42");
}

#[tokio::test]
async fn a_server_that_was_stopped_starts_again() {
    let server = Postgres::start().await.unwrap();
    server.stop().await.unwrap();
    assert!(PgConnection::connect(&server.url()).await.is_err());
    server.start_again().await.unwrap();
    PgConnection::connect(&server.url()).await.unwrap();
}

#[tokio::test]
async fn a_paused_postgres_answers_when_resumed() {
    let server = Postgres::start().await.unwrap();
    let mut connection = PgConnection::connect(&server.url()).await.unwrap();
    answers_when_resumed(&server, connection.ping()).await;
}

#[tokio::test]
async fn a_paused_mariadb_answers_when_resumed() {
    let server = MariaDb::start().await.unwrap();
    let mut connection = MySqlConnection::connect(&server.url()).await.unwrap();
    answers_when_resumed(&server, connection.ping()).await;
}

#[tokio::test]
async fn a_paused_rabbitmq_answers_when_resumed() {
    let server = RabbitMq::start().await.unwrap();
    let connection = amqp(&server.url()).await;
    answers_when_resumed(&server, connection.create_channel()).await;
}

#[tokio::test]
async fn a_memory_alarm_holds_confirms_back_until_it_is_cleared() {
    let server = RabbitMq::start().await.unwrap();
    let channel = amqp(&server.url()).await.create_channel().await.unwrap();
    store(&channel, "queue", b"before").await;
    server.memory_alarm(true).await.unwrap();
    let held_back = tokio::spawn(async move { store(&channel, "queue", b"during").await });
    always("nothing is confirmed", A_WHILE, async || {
        !held_back.is_finished()
    })
    .await;
    server.memory_alarm(false).await.unwrap();
    timeout(SOON, held_back).await.unwrap().unwrap();
}

#[tokio::test]
async fn tls_needs_an_authority_that_both_sides_trust() {
    let authority = Authority::new().unwrap();
    let stranger = Authority::new().unwrap();
    let server = RabbitMq::start_with_tls(&authority).await.unwrap();
    let trusted = authority.certificate();

    let anonymous = tls(&server, &trusted, None).await.unwrap();
    anonymous.create_channel().await.unwrap();
    let known = authority.for_client("shop").unwrap();
    tls(&server, &trusted, Some(known))
        .await
        .unwrap()
        .create_channel()
        .await
        .unwrap();

    let wrong_server = tls(&server, &stranger.certificate(), None)
        .await
        .unwrap_err()
        .to_string();
    assert!(wrong_server.contains("UnknownIssuer"), "{wrong_server}");
    let unknown = stranger.for_client("shop").unwrap();
    tls(&server, &trusted, Some(unknown)).await.unwrap_err();
}

/// Connects with TLS, trusting `authority`, as a client with a certificate and key if given.
async fn tls(
    server: &RabbitMq,
    authority: &str,
    client: Option<(String, String)>,
) -> lapin::Result<lapin::Connection> {
    let identity = client.map(|(pem, key)| OwnedIdentity::PKCS8 {
        pem: pem.into_bytes(),
        key: key.into_bytes(),
    });
    lapin::Connection::connect_with_config(
        &server.tls_url().unwrap(),
        ConnectionProperties::default(),
        OwnedTLSConfig {
            identity,
            cert_chain: Some(authority.into()),
        },
        lapin::runtime::default_runtime()?,
    )
    .await
}

/// Freezes the server before `request` is made, and lets it go on.
async fn answers_when_resumed<T, E: std::fmt::Debug>(
    server: &Server,
    request: impl Future<Output = Result<T, E>>,
) {
    server.pause();
    let mut request = std::pin::pin!(request);
    assert!(
        timeout(A_WHILE, &mut request).await.is_err(),
        "a frozen server answered"
    );
    server.resume();
    timeout(SOON, request).await.unwrap().unwrap();
}
