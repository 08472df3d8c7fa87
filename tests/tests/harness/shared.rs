//! Fresh corners of the shared servers.

use final_tests::{amqp_vhost, eventually, mysql_database, pg_database, sqlite_file};
use sqlx::{Connection, MySqlConnection, PgConnection, SqliteConnection};

use crate::{SOON, amqp, store, take};

#[tokio::test]
async fn each_postgres_database_is_fresh() {
    for _ in 0..2 {
        let url = pg_database().await.unwrap();
        let mut connection = PgConnection::connect(&url).await.unwrap();
        sqlx::raw_sql("CREATE TABLE mine ()")
            .execute(&mut connection)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn each_mariadb_database_is_fresh() {
    for _ in 0..2 {
        let url = mysql_database().await.unwrap();
        let mut connection = MySqlConnection::connect(&url).await.unwrap();
        sqlx::raw_sql("CREATE TABLE mine (id INT)")
            .execute(&mut connection)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn each_sqlite_file_is_fresh_and_goes_away() {
    for _ in 0..2 {
        let file = sqlite_file().unwrap();
        let mut connection = SqliteConnection::connect(&file.url()).await.unwrap();
        sqlx::raw_sql("CREATE TABLE mine (id INT)")
            .execute(&mut connection)
            .await
            .unwrap();
        let dir = file.dir().path().to_owned();
        drop(file);
        assert!(!dir.exists());
    }
}

#[tokio::test]
async fn each_vhost_is_fresh() {
    for payload in [b"first", b"other"] {
        let vhost = amqp_vhost().await.unwrap();
        let channel = amqp(vhost.url()).await.create_channel().await.unwrap();
        store(&channel, "queue", payload).await;
        assert_eq!(take(&channel, "queue").await, payload);
    }
}

#[tokio::test]
async fn the_connections_of_one_vhost_can_be_closed() {
    let vhost = amqp_vhost().await.unwrap();
    let other = amqp_vhost().await.unwrap();
    let closed = amqp(vhost.url()).await;
    let open = amqp(other.url()).await;
    eventually("RabbitMQ lists the connection", SOON, async || {
        vhost
            .api()
            .unwrap()
            .close_connections(vhost.name())
            .await
            .unwrap()
            == 1
    })
    .await;
    eventually("the connection is closed", SOON, async || {
        !closed.status().connected()
    })
    .await;
    assert!(open.status().connected());
}

#[tokio::test]
async fn a_user_without_permissions_may_not_declare() {
    let vhost = amqp_vhost().await.unwrap();
    let api = vhost.api().unwrap();
    let user = final_tests::unique("reader");
    api.add_user(&user, "secret").await.unwrap();
    api.set_permissions(&user, vhost.name(), ["^$", "^$", ".*"])
        .await
        .unwrap();
    let url = vhost
        .url()
        .replace("guest:guest", &format!("{user}:secret"));
    let channel = amqp(&url).await.create_channel().await.unwrap();
    let refused = channel.queue_declare("mine".into(), Default::default(), Default::default());
    let refused = refused.await.unwrap_err().to_string();
    assert!(refused.contains("ACCESS_REFUSED"), "{refused}");
    api.delete_user(&user).await.unwrap();
}
