//! The findings of a MariaDB. That of another server (`source_not_mariadb`) is not made: none is here.

use final_tests::servers::{MariaDb, Setup};
use sqlx::{AssertSqlSafe, Connection, Executor, MySqlConnection};

use super::{Doctor, typed};

const ARGS: [&str; 4] = [
    "--log-bin=mysql-bin",
    "--binlog-format=ROW",
    "--binlog-row-metadata=FULL",
    "--server-id=7",
];

/// A server with a schema `shop`.
struct Shop {
    server: MariaDb,
    conn: MySqlConnection,
}

impl Shop {
    async fn with(args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let setup = Setup {
            args: args.into_iter().map(Into::into).collect(),
            ..Setup::default()
        };
        let server = MariaDb::start_with(setup).await.expect("MariaDB");
        let conn = MySqlConnection::connect(&server.url()).await;
        let mut shop = Self {
            server,
            conn: conn.expect("a connection"),
        };
        shop.run("CREATE DATABASE shop").await;
        shop.run("CREATE TABLE shop.holes (id INT PRIMARY KEY, text TEXT)")
            .await;
        shop
    }

    async fn run(&mut self, sql: &str) {
        let done = self.conn.execute(AssertSqlSafe(sql.to_owned())).await;
        done.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    async fn run_all(&mut self, statements: &[String]) {
        for sql in statements {
            self.run(sql).await;
        }
    }

    fn doctor(&self) -> Doctor {
        self.doctor_of("root", "")
    }

    /// As that user, with more keys of the source.
    fn doctor_of(&self, user: &str, more: &str) -> Doctor {
        let url = self.server.url().replace("root@", &format!("{user}@"));
        let url = url.trim_end_matches("mysql");
        Doctor::new(format!("mysql = '{url}'\n{more}"))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn findings_of_settings_and_rights_are_mended_by_their_words() {
    let mut shop = Shop::with(ARGS).await;
    let doctor = shop.doctor();
    doctor.finds(&[]).await;
    for (setting, name) in [
        ("binlog_format = 'MIXED'", "source_binlog_format"),
        (
            "binlog_row_metadata = 'MINIMAL'",
            "source_binlog_row_metadata",
        ),
        ("binlog_row_image = 'MINIMAL'", "source_binlog_row_image"),
        (
            "binlog_expire_logs_seconds = 600",
            "source_binlog_retention",
        ),
    ] {
        shop.run(&format!("SET GLOBAL {setting}")).await;
        let found = doctor.finds(&[name]).await;
        shop.run(&typed(&found[0])[0]).await;
        doctor.finds(&[]).await;
    }

    for (user, has, names) in [
        (
            "nobody",
            "SELECT ON shop.*",
            &["source_grant_missing", "source_grant_monitor_missing"][..],
        ),
        (
            "half",
            "REPLICATION SLAVE ON *.*",
            &["source_grant_monitor_missing", "source_pattern_empty"],
        ),
    ] {
        shop.run(&format!("CREATE USER {user}@'%'")).await;
        shop.run(&format!("GRANT {has} TO {user}@'%'")).await;
        let doctor = shop.doctor_of(user, "");
        for finding in doctor.finds(names).await {
            let grant = typed(&finding).pop().expect("a statement");
            let grant = grant.replace("TO user", &format!("TO {user}@'%'"));
            shop.run(&grant.replace("ON schema.*", "ON shop.*")).await;
        }
        doctor.finds(&[]).await;
    }

    let own = shop.doctor_of("root", "server_id = 7");
    let found = own.finds(&["source_server_id_taken"]).await;
    let key = &typed(&found[0])[0];
    let other = shop.doctor_of("root", &format!("{key} = 4711"));
    other.finds(&[]).await;

    for step in [
        "XA START 'x'",
        "INSERT INTO shop.holes VALUES (1, 'a')",
        "XA END 'x'",
        "XA PREPARE 'x'",
    ] {
        shop.run(step).await;
    }
    let found = doctor.finds(&["source_xa_prepared"]).await;
    let rollback = &typed(&found[0])[2];
    shop.run(&format!("{rollback} 'x'")).await;
    doctor.finds(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn findings_of_tables_are_mended_by_their_words() {
    let mut shop = Shop::with(ARGS).await;
    let doctor = shop.doctor();

    shop.run("CREATE TABLE shop.keyless (id INT NOT NULL UNIQUE)")
        .await;
    let found = doctor.finds(&["source_table_without_key"]).await;
    shop.run(&typed(&found[0])[0].replace('…', "id")).await;
    doctor.finds(&[]).await;

    shop.run("CREATE TABLE shop.ujis (id INT PRIMARY KEY, v TEXT CHARACTER SET ujis)")
        .await;
    let found = doctor.finds(&["source_charset_unknown"]).await;
    shop.run_all(&typed(&found[0])).await;
    doctor.finds(&[]).await;

    shop.run("SET GLOBAL mysql56_temporal_format = OFF").await;
    shop.run("CREATE TABLE shop.times (id INT PRIMARY KEY, t TIME(3))")
        .await;
    let found = doctor.finds(&["source_time_format_old"]).await;
    shop.run_all(&typed(&found[0])).await;
    doctor.finds(&[]).await;

    shop.run("CREATE TABLE shop.child (id INT PRIMARY KEY, hole INT)")
        .await;
    let key = "ADD CONSTRAINT own FOREIGN KEY (hole) REFERENCES shop.holes (id)";
    shop.run(&format!("ALTER TABLE shop.child {key} ON DELETE CASCADE"))
        .await;
    let found = doctor.finds(&["source_foreign_key_cascade"]).await;
    let kind = &typed(&found[0])[0];
    shop.run("ALTER TABLE shop.child DROP FOREIGN KEY own")
        .await;
    shop.run(&format!("ALTER TABLE shop.child {key} {kind}"))
        .await;
    doctor.finds(&[]).await;

    // A note, for the handler: nothing is to be changed at the server.
    shop.run("CREATE TABLE shop.versioned (id INT PRIMARY KEY) WITH SYSTEM VERSIONING")
        .await;
    let found = doctor.finds(&["source_table_versioned"]).await;
    assert_eq!(typed(&found[0]), ["row_end"]);
    shop.run("DROP TABLE shop.versioned").await;
    doctor.finds(&[]).await;

    let mistyped = shop.doctor().tables(&["shop.*", "shop.hole"]);
    mistyped.finds(&["source_pattern_empty"]).await;
    let mended = shop.doctor().tables(&["shop.*", "shop.holes"]);
    mended.finds(&[]).await;

    let renamed = shop.doctor().masks("content");
    renamed.finds(&["source_selection"]).await;
    shop.doctor().masks("text").finds(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn findings_of_how_a_server_was_started_are_mended_by_their_words() {
    let shop = Shop::with([] as [&str; 0]).await;
    let doctor = shop.doctor();
    let found = doctor
        .finds(&[
            "source_log_bin_off",
            "source_binlog_format",
            "source_binlog_row_metadata",
        ])
        .await;
    let args = typed(&found[0]).remove(0);
    let shop = Shop::with(args.split(' ')).await;
    // A server that is not numbered has the number 1.
    shop.doctor().finds(&[]).await;

    let copies =
        "CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = 1, MASTER_USER = 'copy'";
    let mut shop = Shop::with(ARGS).await;
    shop.run(copies).await;
    let found = shop.doctor().finds(&["source_replica_without_log"]).await;
    let arg = typed(&found[0]).remove(0);
    let mut shop = Shop::with(ARGS.into_iter().chain([&*arg])).await;
    shop.run(copies).await;
    shop.doctor().finds(&[]).await;

    let mut shop = Shop::with(ARGS.into_iter().chain(["--binlog-do-db=kept"])).await;
    shop.run("CREATE DATABASE kept").await;
    shop.run("CREATE TABLE kept.holes (id INT PRIMARY KEY)")
        .await;
    let all = shop.doctor().tables(&["*.*"]);
    let found = all.finds(&["source_binlog_filter"]).await;
    let pattern = typed(&found[0]).pop().expect("a pattern");
    let pattern = pattern.replace("schema", "shop");
    shop.doctor().tables(&["*.*", &pattern]).finds(&[]).await;
}
