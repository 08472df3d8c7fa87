//! Names and texts that look like SQL, or like the end of a name, are stored as they are.

use std::collections::BTreeSet;

use final_amqp::Amqp;
use final_core::{Bus, Error, MemoryBroker, Message, OutboxDatabase, Router};
use final_tests::{eventually, unique};
use sqlx::{
    ConnectOptions, Connection, Executor, Pool, mysql::MySqlConnectOptions,
    postgres::PgConnectOptions,
};

use crate::{
    database::Database,
    house::{House, Notes, SOON},
    transport::Transport,
};

const NASTY: &[&str] = &[
    "'; DROP TABLE orders; --",
    "\"; DROP TABLE orders; --",
    "`; DROP TABLE orders; --",
    "'' OR 1=1 /*",
    "\\'; DELETE FROM orders; #",
    "\\",
    "\\\\\"",
    "$1 $$ ?1 :name {t} {ids} %s",
    "größe ✓ 𐍈 \u{202e}txet",
    "\u{fffd}\u{feff}",
    "ı İ ß ſ",
    "a\0b",
    "a\r\nb",
    "\x1b[31m",
    "order.*.#",
    " ",
    ".",
];

crate::suite!(
    with an outbox: [
        texts_that_look_like_sql_arrive_as_they_are_or_are_refused,
        random_texts_arrive_as_they_are_or_are_refused,
    ],
);

async fn texts_that_look_like_sql_arrive_as_they_are_or_are_refused<D: Database, T: Transport>(
    house: House<D, T>,
) {
    let long = ["'", "\"", "`", "✓"].map(|one| one.repeat(255 / one.len() - 40));
    let texts = NASTY.iter().map(|&text| text.to_owned()).chain(long);
    arrive_or_are_refused(&house, texts.collect()).await;
}

async fn random_texts_arrive_as_they_are_or_are_refused<D: Database, T: Transport>(
    house: House<D, T>,
) {
    let pieces: Vec<char> = "'\"`;\\-/*#$?%{}()\0\n\r\t aZ_é✓𐍈".chars().collect();
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut text = || -> String {
        let length = random.usize(1..40);
        (0..length).filter_map(|_| random.choice(&pieces)).collect()
    };
    // A short text can come twice, and a topic can have only one handler.
    let texts: BTreeSet<_> = (0..40).map(|_| text()).chain(["a".to_owned()]).collect();
    arrive_or_are_refused(&house, texts.into_iter().collect()).await;
}

/// Publishes each text as topic, key, header's name and value, and payload.
async fn arrive_or_are_refused<D: Database, T: Transport>(house: &House<D, T>, texts: Vec<String>) {
    let bus = house.bus();
    let notes = Notes::default();
    let can_be_subscribed =
        |text: &str| !text.contains(|c: char| c.is_control() || "*#".contains(c));
    let topics: Vec<&str> = texts.iter().map(String::as_str).collect();
    let good: Vec<&str> = topics
        .iter()
        .copied()
        .filter(|text| can_be_subscribed(text))
        .collect();
    bus.start(house.noting(&notes, &good)).await.expect("start");
    let before = tables(&house.pool).await;

    let mut sent = Vec::new();
    for text in &texts {
        let topic = house.topic(if can_be_subscribed(text) {
            text
        } else {
            good[0]
        });
        let publish = || bus.publish_bytes(&topic, text.clone().into_bytes());
        let with_key = publish().key(text).await;
        let with_header = publish().header(text, text).await;
        let with_value = publish().header("h", text).await;
        for attempt in [with_key, with_header, with_value] {
            match attempt {
                Ok(id) => sent.push((id, text, topic.clone())),
                Err(Error::InvalidHeader { .. } | Error::InvalidPolicy { .. }) => {
                    assert!(text.contains(char::is_control), "{text:?} is refused");
                }
                Err(other) => panic!("{text:?}: {other:?}"),
            }
        }
        if !can_be_subscribed(text) && text.contains(char::is_control) {
            let refused = bus.publish(house.topic(text), &1).await;
            assert!(
                matches!(refused, Err(Error::InvalidTopic { .. })),
                "{text:?}: {refused:?}"
            );
        }
    }
    notes.reach(sent.len()).await;
    let all = notes.all();
    for (id, text, topic) in sent {
        let message: &Message = all
            .iter()
            .find(|message| message.id() == id)
            .expect("handled");
        assert_eq!(message.topic(), topic);
        assert_eq!(message.payload(), text.as_bytes());
        let values: Vec<_> = message.headers().iter().map(|(_, value)| value).collect();
        let got = message.key().map_or(values, |key| vec![key]);
        assert_eq!(got, [text]);
    }
    bus.shutdown().await.expect("shutdown");

    assert_eq!(tables(&house.pool).await, before);
    assert_eq!((house.orders().await, house.records().await), (0, 0));
}

async fn tables<D: Database>(pool: &Pool<D>) -> i64 {
    let sql = match D::NAME {
        "SQLite" => "SELECT count(*) FROM sqlite_schema",
        "MySQL" => "SELECT count(*) FROM information_schema.tables WHERE table_schema = DATABASE()",
        _ => "SELECT count(*) FROM pg_class WHERE relnamespace = current_schema()::regnamespace",
    };
    D::number(pool, sql).await
}

/// Asserts that a bus on this pool delivers a message, and that its tables are in the pool's database.
async fn works<DB: OutboxDatabase>(pool: Pool<DB>) {
    let bus = Bus::new("shop", pool, MemoryBroker::new());
    bus.start(Router::new().route("placed", async || {}))
        .await
        .expect("start");
    let tx = bus.begin().await.expect("a transaction");
    let mut txbus = bus.with_tx(tx);
    txbus.publish("placed", &1).await.expect("publish");
    txbus.commit().await.expect("commit");
    eventually("the message is handled", SOON, async || {
        bus.stats().await.expect("stats").handled == 1
    })
    .await;
    bus.failed(1).await.expect("failed");
    bus.retry_failed([]).await.expect("retried");
    bus.shutdown().await.expect("shutdown");
}

/// A name with all kinds of quotes, as long as PostgreSQL allows: 63 bytes.
fn names() -> [String; 3] {
    [
        format!("{}\"; DROP TABLE x; --", unique("a")),
        format!("{}`'é✓;$1?{{t}}", unique("b")),
        format!("{:x<63}", unique("c")),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgresql_database_or_schema_may_have_any_name() {
    let url = final_tests::pg_database().await.expect("PostgreSQL");
    let options: PgConnectOptions = url.parse().expect("a URL");
    let mut root = options.connect().await.expect("connected");
    for name in names() {
        let quoted = format!("\"{}\"", name.replace('"', "\"\""));
        for what in ["SCHEMA", "DATABASE"] {
            let sql = format!("CREATE {what} {quoted}");
            root.execute(sqlx::AssertSqlSafe(sql))
                .await
                .expect("created");
        }
        let in_schema = options.clone().options([("search_path", &quoted)]);
        works(
            sqlx::PgPool::connect_with(in_schema)
                .await
                .expect("connected"),
        )
        .await;
        let found: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_tables WHERE schemaname = $1")
            .bind(&name)
            .fetch_one(&mut root)
            .await
            .expect("counted");
        // The records, the claims on them, the marks of suspects, and the versions.
        assert_eq!(found, 5, "{name}");

        works(
            sqlx::PgPool::connect_with(options.clone().database(&name))
                .await
                .expect("connected"),
        )
        .await;
        let sql = format!("DROP DATABASE {quoted} WITH (FORCE)");
        root.execute(sqlx::AssertSqlSafe(sql))
            .await
            .expect("dropped");
    }
    root.close().await.expect("closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mariadb_database_may_have_any_name() {
    let url = final_tests::mysql_database().await.expect("MariaDB");
    let options: MySqlConnectOptions = url.parse().expect("a URL");
    let mut root = options.connect().await.expect("connected");
    for name in names() {
        let quoted = format!("`{}`", name.replace('`', "``"));
        let sql = format!("CREATE DATABASE {quoted}");
        root.execute(sqlx::AssertSqlSafe(sql))
            .await
            .expect("created");

        works(
            sqlx::MySqlPool::connect_with(options.clone().database(&name))
                .await
                .expect("connected"),
        )
        .await;
        let sql = "SELECT count(*) FROM information_schema.tables WHERE table_schema = ?";
        let found: i64 = sqlx::query_scalar(sql)
            .bind(&name)
            .fetch_one(&mut root)
            .await
            .expect("counted");
        // The records, the claims on them, the marks of suspects, and the versions.
        assert_eq!(found, 5, "{name}");
        let sql = format!("DROP DATABASE {quoted}");
        root.execute(sqlx::AssertSqlSafe(sql))
            .await
            .expect("dropped");
    }
    root.close().await.expect("closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sqlite_file_may_have_any_name() {
    let file = final_tests::sqlite_file().expect("a folder");
    for name in names() {
        let options = sqlx::sqlite::SqliteConnectOptions::new()
            .filename(file.dir().join(&name))
            .create_if_missing(true);
        works(
            sqlx::SqlitePool::connect_with(options)
                .await
                .expect("opened"),
        )
        .await;
        assert!(file.dir().join(&name).exists(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_may_have_any_name_that_rabbitmq_keeps_as_it_is() {
    let vhost = final_tests::amqp_vhost().await.expect("RabbitMQ");
    let url = final_tests::pg_database().await.expect("PostgreSQL");
    let pool = sqlx::PgPool::connect(&url).await.expect("PostgreSQL");
    let bus = |queue: &str| {
        let amqp = Amqp::new(vhost.url()).expect("a good URL").queue(queue);
        Bus::new("shop", pool.clone(), amqp)
    };
    let [one, two, _] = names();
    for name in [&*one, &two, "*.#", " "] {
        let (bus, topic) = (bus(name), unique("t"));
        let router = Router::new().route(&topic, async || Err::<(), _>("on purpose"));
        bus.start(router)
            .await
            .unwrap_or_else(|error| panic!("{name:?}: {error}"));
        bus.publish(&topic, &1).await.expect("publish");
        let dead = format!("{name}_dlx");
        final_tests::take(vhost.url(), &dead, 1, SOON).await;
        bus.shutdown().await.expect("shutdown");
    }
    let long = "q".repeat(243);
    for name in ["", "a\0b", "a\r\nb", "amq.q", &long] {
        let bus = bus(name);
        let router = Router::new().route("t", async || {});
        let error = bus.start(router).await.expect_err("refused").to_string();
        assert!(error.contains("Amqp::queue"), "{name:?}: {error}");
    }
}
