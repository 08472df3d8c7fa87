//! The sequence numbers of messages on a server whose INSERT gives nothing, as MySQL's.

use sqlx::{
    AssertSqlSafe, Connection, Executor, MySqlConnection, MySqlPool, mysql::MySqlConnectOptions,
};
use uuid::Uuid;

use crate::{
    Message, MessageId,
    database::{Dialect, Driver, Server},
    log::tables::{Log, dialect::Texts, entry::rows, inserts::LogInserts},
};

#[tokio::test]
async fn each_message_gets_the_number_of_its_own_row() {
    let pool = fresh().await;
    Log::new(pool.clone()).migrate().await.unwrap();
    let mut conn = pool.acquire().await.unwrap();
    let server = Server {
        returns: false,
        ..sqlx::MySql::server(&mut conn).await.unwrap()
    };
    let texts = Texts::new(Dialect::MySql, &server);
    let inserts = LogInserts::new(Dialect::MySql, &texts, &server, false);
    let id = MessageId::new();
    let message = |at: u32| match at {
        2 | 5 => Message::identified(id, "topic", at.to_string()),
        _ => Message::new("topic", at.to_string()),
    };
    let messages: Vec<Message> = (0..9).map(message).collect();

    let mut tx = conn.begin().await.unwrap();
    let lot = rows(&messages).next().unwrap();
    let numbers = inserts.append_numbered::<sqlx::MySql>(&mut tx, &lot);
    let numbers = numbers.await.unwrap();
    tx.commit().await.unwrap();

    let stored: Vec<(i64, Vec<u8>, Uuid)> =
        sqlx::query_as("SELECT seq, payload, message_id FROM final_log ORDER BY seq")
            .fetch_all(&pool)
            .await
            .unwrap();
    let expected = numbers.into_iter().zip(&messages);
    let expected = expected.map(|(seq, it)| (seq, it.payload().to_vec(), it.id().0));
    assert_eq!(stored, expected.collect::<Vec<_>>());
}

/// A new database.
pub(super) async fn fresh() -> MySqlPool {
    let url = std::env::var("FINAL_TEST_MYSQL_URL")
        .expect("this test needs a server: run `cargo xtask test`, or set FINAL_TEST_MYSQL_URL");
    let name = format!("log_{}", Uuid::now_v7().simple());
    let mut root = MySqlConnection::connect(&url).await.unwrap();
    let create = AssertSqlSafe(format!("CREATE DATABASE {name}"));
    root.execute(create).await.unwrap();
    let options: MySqlConnectOptions = url.parse().unwrap();
    MySqlPool::connect_lazy_with(options.database(&name))
}
