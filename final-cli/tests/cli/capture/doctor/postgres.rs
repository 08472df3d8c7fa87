//! The findings of a PostgreSQL. Those of other releases are not made: `source_version` is of one before 15, and
//! `source_slot_idle_timeout` of 18.

use final_tests::{
    servers::{Postgres, Setup},
    unique,
};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tokio::sync::OnceCell;

use super::{Doctor, typed};

/// The server's log is kept without a limit, which is how it is out of the box.
const KEEP: &str = "source_wal_keep";

async fn start(settings: &[&str]) -> Postgres {
    let args = settings.iter().chain(&["fsync=off"]);
    let setup = Setup {
        args: args
            .flat_map(|setting| ["-c".to_owned(), (*setting).to_owned()])
            .collect(),
        ..Setup::default()
    };
    Postgres::start_with(setup).await.expect("PostgreSQL")
}

/// A database with a schema `shop`.
struct Shop {
    url: String,
}

impl Shop {
    /// On a server where nothing is to be found.
    async fn fresh() -> Self {
        static SERVER: OnceCell<Postgres> = OnceCell::const_new();
        let settings = ["wal_level=logical", "max_slot_wal_keep_size=1GB"];
        let server = SERVER.get_or_init(|| start(&settings)).await;
        Self::at(&server.url(), "UTF8").await
    }

    async fn at(server: &str, encoding: &str) -> Self {
        let name = unique("shop");
        let url = format!("{}/{name}", server.trim_end_matches("/postgres"));
        let create =
            format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'");
        run_at(server, &create).await;
        let shop = Self { url };
        shop.run("CREATE SCHEMA shop").await;
        shop.run("CREATE TABLE shop.holes (id int PRIMARY KEY, text text)")
            .await;
        shop
    }

    async fn run(&self, sql: &str) {
        run_at(&self.url, sql).await;
    }

    fn doctor(&self) -> Doctor {
        // The slot's name is the server's, so each database of a test has its own.
        let name = self.name();
        let url = &self.url;
        Doctor::new(format!(
            "postgres = '{url}'\nslot = '{name}'\npublication = '{name}'"
        ))
    }

    fn name(&self) -> &str {
        self.url.rsplit('/').next().expect("a name")
    }

    /// Runs what the finding says to type.
    async fn mend(&self, finding: &Value) {
        for sql in typed(finding) {
            self.run(&sql.replace('…', "id")).await;
        }
    }
}

/// Each time on a new connection: a server is started again between two of them.
async fn run_at(url: &str, sql: &str) {
    let mut conn = PgConnection::connect(url).await.expect(url);
    let done = conn.execute(AssertSqlSafe(sql.to_owned())).await;
    done.unwrap_or_else(|error| panic!("{sql}: {error}"));
    conn.close().await.expect("closed");
}

async fn start_again(server: &Postgres) {
    server.stop().await.expect("it stops");
    server.start_again().await.expect("it starts");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn findings_of_settings_are_mended_by_their_words() {
    let server = start(&[]).await;
    let shop = Shop::at(&server.url(), "UTF8").await;
    let doctor = shop.doctor();
    let found = doctor.finds(&["source_wal_level", KEEP]).await;
    shop.run(&typed(&found[0])[0]).await;
    start_again(&server).await;
    let found = doctor.finds(&[KEEP]).await;
    shop.run(&typed(&found[0])[0]).await;
    shop.run("SELECT pg_reload_conf()").await;
    doctor.finds(&[]).await;

    shop.run("ALTER SYSTEM SET max_wal_senders = 0").await;
    start_again(&server).await;
    let found = doctor.finds(&["source_senders"]).await;
    shop.run(&typed(&found[0])[0]).await;
    start_again(&server).await;
    doctor.finds(&[]).await;

    shop.run("ALTER SYSTEM SET max_replication_slots = 1").await;
    start_again(&server).await;
    shop.run("SELECT pg_create_logical_replication_slot('other', 'pgoutput')")
        .await;
    let found = doctor.finds(&["source_slots"]).await;
    shop.run(&typed(&found[0])[0]).await;
    start_again(&server).await;
    doctor.finds(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn findings_of_the_slot_are_mended_by_their_words() {
    let server = start(&["wal_level=logical"]).await;
    let shop = Shop::at(&server.url(), "UTF8").await;
    let limit = async || {
        shop.run("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'")
            .await;
        shop.run("SELECT pg_reload_conf()").await;
    };
    limit().await;
    let doctor = shop.doctor();
    let slot = shop.name();
    let make = |plugin| format!("SELECT pg_create_logical_replication_slot('{slot}', '{plugin}')");

    shop.run(&make("test_decoding")).await;
    let found = doctor.finds(&["source_slot_foreign"]).await;
    shop.mend(&found[0]).await;
    doctor.finds(&[]).await;

    shop.run(&make("pgoutput")).await;
    for _ in 0..4 {
        shop.run("INSERT INTO shop.holes SELECT COALESCE(max(id), 0) + 1, 'a' FROM shop.holes")
            .await;
        shop.run("SELECT pg_switch_wal()").await;
    }
    let found = doctor.finds(&["source_slot_unreserved"]).await;
    shop.mend(&found[0]).await;
    doctor.finds(&[KEEP]).await;

    limit().await;
    shop.run("CHECKPOINT").await;
    let found = doctor.finds(&["source_slot_lost"]).await;
    shop.mend(&found[0]).await;
    doctor.finds(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn findings_of_the_role_and_the_database_are_mended_by_their_words() {
    let shop = Shop::fresh().await;
    let role = shop.name();
    shop.run(&format!("CREATE ROLE {role} LOGIN")).await;
    let mut doctor = shop.doctor();
    doctor.source = doctor.source.replace("postgres@", &format!("{role}@"));
    let found = doctor.finds(&["source_role", "source_publication"]).await;
    shop.run(&typed(&found[0])[0]).await;
    shop.mend(&found[1]).await;
    doctor.finds(&[]).await;

    let server = shop.url.replace(shop.name(), "postgres");
    let shop = Shop::at(&server, "SQL_ASCII").await;
    let found = shop.doctor().finds(&["source_encoding"]).await;
    let mend = found[0]["mend"].as_str().expect("words");
    let encoding = mend.rsplit(' ').next().expect("an encoding");
    let shop = Shop::at(&server, encoding).await;
    shop.doctor().finds(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn findings_of_tables_are_mended_by_their_words() {
    let shop = Shop::fresh().await;
    let mistyped = shop.doctor().tables(&["shop.*", "shop.hole"]);
    mistyped.finds(&["source_table_unknown"]).await;
    let mended = shop.doctor().tables(&["shop.*", "shop.holes"]);
    mended.finds(&[]).await;

    let early = shop.doctor().tables(&["shop.*", "shop.tmp_*"]);
    early.finds(&["source_pattern_empty"]).await;
    shop.run("CREATE TABLE shop.tmp_1 (id int PRIMARY KEY)")
        .await;
    early.finds(&[]).await;

    shop.doctor()
        .masks("content")
        .finds(&["source_selection"])
        .await;
    shop.doctor()
        .tables(&["shop.holes"])
        .masks("text")
        .finds(&[])
        .await;

    // By name such a table is an error, and by a pattern it is left out with a warning.
    let tables: [&[&str]; 2] = [&["shop.*", "shop.bad"], &["shop.*"]];
    for tables in tables {
        let doctor = shop.doctor().tables(tables);
        let level = match tables {
            [_, _] => "error",
            _ => "warning",
        };
        shop.run("CREATE UNLOGGED TABLE shop.bad (id int PRIMARY KEY)")
            .await;
        let found = doctor.finds(&["source_table_unlogged"]).await;
        assert_eq!(found[0]["level"], level);
        shop.run(&typed(&found[0])[0]).await;
        doctor.finds(&[]).await;
        shop.run("DROP TABLE shop.bad").await;

        shop.run("CREATE TABLE shop.bad (id int)").await;
        let found = doctor.finds(&["source_table_key"]).await;
        assert_eq!(found[0]["level"], level);
        shop.run(&typed(&found[0])[0].replace('…', "id")).await;
        doctor.finds(&[]).await;
        shop.run("DROP TABLE shop.bad").await;
    }

    // A note, for the consumer: nothing is to be changed at the server.
    shop.run("CREATE TABLE shop.twice (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) STORED)")
        .await;
    shop.doctor().finds(&["source_generated_columns"]).await;
    shop.run("ALTER TABLE shop.twice DROP COLUMN twice").await;
    shop.doctor().finds(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn findings_of_the_publication_are_mended_by_their_words() {
    let shop = Shop::fresh().await;
    shop.run("CREATE TABLE shop.visits (at int PRIMARY KEY) PARTITION BY RANGE (at)")
        .await;
    let doctor = shop.doctor();
    let name = shop.name();
    for (publication, found) in [
        (
            "FOR TABLE shop.holes WITH (publish = 'insert', publish_via_partition_root = true)",
            "source_publication_operations",
        ),
        (
            "FOR TABLE shop.holes WHERE (id > 5) WITH (publish_via_partition_root = true)",
            "source_publication_filter",
        ),
        (
            "FOR TABLE shop.holes (id) WITH (publish_via_partition_root = true)",
            "source_publication_columns",
        ),
        ("FOR TABLE shop.holes", "source_publication_root"),
    ] {
        shop.run(&format!("CREATE PUBLICATION {name} {publication}"))
            .await;
        let found = doctor.finds(&[found]).await;
        shop.mend(&found[0]).await;
        doctor.finds(&[]).await;
        shop.run(&format!("DROP PUBLICATION {name}")).await;
    }

    shop.run(&format!(
        "CREATE PUBLICATION {name} FOR TABLE shop.holes WITH (publish_via_partition_root = true)"
    ))
    .await;
    shop.run(&format!(
        "COMMENT ON PUBLICATION {name} IS 'made by final capture for the slot other, and follows its tables'"
    ))
    .await;
    let found = doctor.finds(&["source_publication_foreign"]).await;
    shop.mend(&found[0]).await;
    doctor.finds(&[]).await;
}
