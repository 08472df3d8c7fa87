//! `final capture` that does not begin, or that says something as it begins.

use std::time::Duration;

use final_tests::{
    WorkDir, eventually,
    process::Launch,
    servers::{MariaDb, Setup},
};
use sqlx::{Connection, Executor, MySqlConnection};

use crate::program::{program, run};

const LIMIT: Duration = Duration::from_secs(60);

const WHOLE: &str = "name = 'shop'\n[source]\npostgres = 'postgres://capture@127.0.0.1:1/shop'\n[select]\n\
    tables = ['shop.*']\n[target]\nlog = 'sqlite:bus.db'\n";

#[tokio::test]
async fn a_mistake_that_only_the_start_finds_names_the_file_and_ends_with_2() {
    let dir = WorkDir::new("begin").expect("a folder");
    for (from, to, said) in [
        ("name = 'shop'", "name = 'Shop'", "the name \"Shop\""),
        ("'shop.*'", "'holes'", "no point between"),
        ("log = 'sqlite:bus.db'", "", "one of `log` and `rabbitmq`"),
        (
            "[select]",
            "[message]\ntopic = 'all'\n[select]",
            "would share a topic",
        ),
    ] {
        let file = dir
            .write("capture.toml", &WHOLE.replacen(from, to, 1))
            .expect("written");
        let file = file.display().to_string();
        let ran = run(&mut program(), ["capture", "--config", &file]).await;
        let ran = ran.ends_with(2);
        assert!(
            ran.err.contains(&format!("{file}: ")) && ran.err.contains(said),
            "{ran:#?}"
        );
    }
    let file = dir.write("capture.toml", WHOLE).expect("written");
    let file = file.display().to_string();
    let from = ["capture", "--config", &file, "--from", "now"];
    let ran = run(&mut program(), from).await.ends_with(2);
    assert!(ran.err.contains("`now` is no position"), "{ran:#?}");
}

#[tokio::test]
async fn warnings_about_a_mariadb_are_in_the_log() {
    let args = [
        "--log-bin=mysql-bin",
        "--binlog-format=ROW",
        "--binlog-row-metadata=FULL",
        "--server-id=7",
    ];
    let setup = Setup {
        args: args.map(str::to_owned).into(),
        ..Setup::default()
    };
    let server = MariaDb::start_with(setup).await.expect("MariaDB");
    let url = server.url();
    let mut conn = MySqlConnection::connect(&url).await.expect("a connection");
    for sql in ["CREATE DATABASE shop", "CREATE TABLE shop.holes (id INT)"] {
        conn.execute(sql).await.expect(sql);
    }
    let dir = WorkDir::new("begin").expect("a folder");
    let (at, position) = (url.trim_end_matches("mysql"), dir.join("position"));
    let config = format!(
        "name = 'shop'\n[source]\nmysql = '{at}'\n[select]\ntables = ['shop.*']\n[target]\nlog = 'sqlite:{}?mode=rwc'\n",
        position.display()
    );
    let file = dir.write("capture.toml", &config).expect("written");
    let launch = Launch::new(env!("CARGO_BIN_EXE_final"))
        .args(["capture", "--config"])
        .arg(&file);
    let reader = launch
        .spawn("reader", &dir.join("log.txt"))
        .expect("it starts");
    eventually("the warning", LIMIT, async || {
        let log = reader.log();
        let is_told = log.contains("source_table_without_key") && log.contains("changes are read");
        is_told.then_some(()).ok_or(log)
    })
    .await;
}
