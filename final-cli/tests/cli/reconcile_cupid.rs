//! `final reconcile` with cupid's own file: its README's configuration runs as it stands, and its endpoint gets what cupid
//! sends.

use std::time::Duration;

use final_tests::{
    WorkDir, eventually,
    process::{Launch, Process, Signal},
    shared,
};
use serde_json::{Value, json};
use sqlx::MySqlPool;

use crate::{
    endpoint::Endpoint,
    program::{program, run, run_with_input},
};

/// The README of cupid.
const README: &str = include_str!("../../src/cupid/readme.json");

const SOON: Duration = Duration::from_secs(90);

/// Waits for a call with this body, and checks how it came.
async fn gets(endpoint: &Endpoint, wanted: &Value, cupid: &Process) {
    eventually("the call", SOON, async || {
        let calls = endpoint.calls();
        match calls.iter().find(|call| call.body == *wanted) {
            Some(call) => {
                assert_eq!(call.content_type, "application/json;charset=UTF-8");
                Ok(())
            }
            None => Err((calls, cupid.log())),
        }
    })
    .await;
}

/// Two databases of MariaDB with the tables of the README.
struct Shop {
    dir: WorkDir,
    source: MySqlPool,
    copy: MySqlPool,
    endpoint: Endpoint,
    /// cupid's file: the README with other hosts and another folder.
    file: String,
    text: String,
}

/// A URL as a DSN of Go's.
fn dsn(url: &str) -> String {
    let rest = url.strip_prefix("mysql://").expect("a URL of MySQL");
    let (login, rest) = rest.rsplit_once('@').expect("a login");
    let (host, database) = rest.split_once('/').expect("a database");
    let database = database.split('?').next().unwrap_or_default();
    format!("{login}@tcp({host})/{database}?charset=utf8")
}

async fn shop() -> Shop {
    let dir = WorkDir::new("cupid").expect("a folder");
    let (source, copy) = tokio::join!(shared::mysql_database(), shared::mysql_database());
    let (source, copy) = (source.expect("a database"), copy.expect("a database"));
    let endpoint = Endpoint::start(200).await;
    let folder = dir.path().display().to_string();
    let text = README
        .replace(
            "user:password@tcp(127.0.0.1:3306)/db2?charset=utf8",
            &dsn(&copy),
        )
        .replace(
            "user:password@tcp(127.0.0.1:3306)/db?charset=utf8",
            &dsn(&source),
        )
        .replace("127.0.0.1:20000", &endpoint.address)
        .replace("\"/tmp\"", &format!("\"{folder}\""));
    let file = dir.write("myConfig.json", &text).expect("written");
    let shop = Shop {
        source: MySqlPool::connect(&source).await.expect("connected"),
        copy: MySqlPool::connect(&copy).await.expect("connected"),
        file: file.display().to_string(),
        dir,
        endpoint,
        text,
    };
    shop.run(
        &shop.source,
        "CREATE TABLE user (id int AUTO_INCREMENT PRIMARY KEY, number varchar(20) NOT NULL UNIQUE, name varchar(20), \
         avatar text, price decimal(8, 2), is_new bit(1), at timestamp(3) NULL, picture blob, hidden int INVISIBLE DEFAULT 7, \
         update_time datetime NOT NULL DEFAULT '2024-01-02 03:04:05', KEY (update_time));
         INSERT INTO user (number, name, avatar, price, is_new, at, picture) VALUES
            ('a', 'Ann', 'a.png', 1.5, b'0', '2024-02-29 12:00:00.5', 'p'),
            ('b', 'Böb \"<&>\"', NULL, 2, b'1', NULL, x'ff41'),
            ('c', 'Cid', 'c.png', NULL, NULL, NULL, NULL)",
    )
    .await;
    shop.run(
        &shop.copy,
        "CREATE TABLE user (number varchar(20) PRIMARY KEY, name varchar(20), avatar text);
         INSERT INTO user VALUES ('a', 'Ann', 'a.png'), ('c', 'Sid', 'c.png'), ('x', 'extra', NULL)",
    )
    .await;
    shop
}

impl Shop {
    async fn run(&self, pool: &MySqlPool, sql: &'static str) {
        sqlx::raw_sql(sql).execute(pool).await.expect(sql);
    }

    fn start(&self, args: &[&str]) -> Process {
        let launch = Launch::new(env!("CARGO_BIN_EXE_final")).arg("reconcile");
        launch
            .args(args)
            .spawn("cupid", &self.dir.join("log.txt"))
            .expect("started")
    }
}

async fn ends(process: Process) {
    tokio::task::spawn_blocking(move || process.end(Signal::TERM, SOON))
        .await
        .expect("joined")
        .expect("a clean end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_configuration_of_cupids_readme_runs_and_its_endpoint_gets_what_cupid_sends() {
    let shop = shop().await;
    let missing = json!({
        "id": "2", "number": "b", "name": "Böb \"<&>\"", "avatar": null, "price": "2.00", "is_new": "\u{1}", "at": null,
        "picture": "\u{fffd}A", "update_time": "2024-01-02 03:04:05",
    });
    let different = json!({
        "id": "3", "number": "c", "name": "Cid", "avatar": "c.png", "price": null, "is_new": null, "at": null,
        "picture": null, "update_time": "2024-01-02 03:04:05",
    });

    let cupid = shop.start(&["--cupid", &shop.file, "-s", "1"]);
    gets(&shop.endpoint, &missing, &cupid).await;
    gets(&shop.endpoint, &different, &cupid).await;

    // Rows that change, and rows that come, while it runs.
    shop.run(
        &shop.source,
        "UPDATE user SET name = 'Anna', update_time = CONVERT_TZ(NOW(), '+00:00', @@global.time_zone) WHERE number = 'a'",
    )
    .await;
    shop.run(
        &shop.source,
        "INSERT INTO user (number, update_time) VALUES ('d', '2024-05-06 07:08:09')",
    )
    .await;
    let fresh = json!({
        "id": "4", "number": "d", "name": null, "avatar": null, "price": null, "is_new": null, "at": null, "picture": null,
        "update_time": "2024-05-06 07:08:09",
    });
    gets(&shop.endpoint, &fresh, &cupid).await;
    // The session of this pool has UTC, and that of cupid the zone of the server.
    let (at, update_time): (String, String) = sqlx::query_as(
        "SELECT CAST(CONVERT_TZ(at, @@session.time_zone, @@global.time_zone) AS CHAR), CAST(update_time AS CHAR) \
         FROM user WHERE number = 'a'",
    )
    .fetch_one(&shop.source)
    .await
    .expect("a row");
    let changed = json!({
        "id": "1", "number": "a", "name": "Anna", "avatar": "a.png", "price": "1.50", "is_new": "\u{0}", "at": at,
        "picture": "p", "update_time": update_time,
    });
    gets(&shop.endpoint, &changed, &cupid).await;
    for told in ["pushbear", "the service is ready"] {
        assert!(cupid.log().contains(told), "{told}: {}", cupid.log());
    }
    ends(cupid).await;

    let calls = shop.endpoint.calls();
    let numbers: Vec<&Value> = calls.iter().map(|call| &call.body["number"]).collect();
    assert!(!numbers.contains(&&json!("x")), "{calls:?}");
    let names = std::fs::read_dir(shop.dir.path()).expect("a folder");
    let names: Vec<String> = names
        .map(|entry| entry.expect("a name").file_name().display().to_string())
        .collect();
    let is_state = |name: &String| name.starts_with("myConfig-") && name.ends_with(".final.db");
    assert!(names.iter().any(is_state), "{names:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_to_start_with_leaves_out_the_rows_before_it() {
    let shop = shop().await;
    let cupid = shop.start(&["-c", &shop.file, "--startId", "3"]);
    eventually("the call for the third row", SOON, async || {
        let calls = shop.endpoint.calls();
        let is_there = calls.iter().any(|call| call.body["number"] == "c");
        if is_there {
            Ok(())
        } else {
            Err((calls, cupid.log()))
        }
    })
    .await;
    ends(cupid).await;
    let calls = shop.endpoint.calls();
    assert!(
        calls.iter().all(|call| call.body["number"] == "c"),
        "{calls:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_printed_of_cupids_file_is_a_configuration_without_a_password() {
    let shop = shop().await;
    let made = run(&mut program(), ["reconcile", "import-cupid", &shop.file])
        .await
        .ends_with(0);
    let password = dsn_password(&shop.text);
    if !password.is_empty() {
        assert!(
            !made.all().contains(&format!(":{password}@")),
            "{}",
            made.all()
        );
    }
    let ours = shop
        .dir
        .write("reconcile.toml", &made.out)
        .expect("written");
    let ours = ours.display().to_string();
    let mut compare = program();
    for name in ["CUPID_SRC_PASSWORD", "CUPID_DES_PASSWORD"] {
        compare.env(name, &password);
    }
    let compared = run(&mut compare, ["reconcile", "compare", "--config", &ours]).await;
    let compared = compared.ends_with(3);
    assert!(
        compared.out.contains("1 missing, 1 different, 1 extra"),
        "{}",
        compared.out
    );
    // The same from cupid's file itself.
    let compared = run(&mut program(), ["reconcile", "compare", "-c", &shop.file]).await;
    assert!(compared.ends_with(3).out.contains("1 missing"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn columns_without_a_common_form_are_told_with_the_way_to_a_rule() {
    let shop = shop().await;
    let change = "ALTER TABLE user DROP COLUMN name, ADD COLUMN name int";
    shop.run(&shop.copy, change).await;
    for command in ["compare", "explain", "run"] {
        let ran = run(&mut program(), ["reconcile", command, "-c", &shop.file]).await;
        let ran = ran.ends_with(2);
        assert!(ran.err.contains("import-cupid"), "{command}: {}", ran.err);
    }
}

fn dsn_password(text: &str) -> String {
    let dsn = text.split("\"dsn\": \"").nth(1).expect("a DSN");
    let login = dsn.split("@tcp").next().unwrap_or_default();
    let (_, password) = login.split_once(':').unwrap_or_default();
    password.to_owned()
}

#[tokio::test]
async fn what_is_no_file_of_cupids_is_a_mistake_of_the_command_line() {
    for (text, wanted) in [
        ("", "no JSON"),
        ("{\"src\": 5}", "`src` is no object"),
        ("[1]", "no object"),
    ] {
        let ran = run_with_input(&mut program(), ["reconcile", "import-cupid", "-"], text).await;
        let ran = ran.ends_with(2);
        assert!(ran.out.is_empty() && ran.err.contains(wanted), "{ran:?}");
    }
    for args in [
        &["reconcile", "--cupid", "/nowhere/myConfig.json"][..],
        &["reconcile", "run", "--cupid", "/nowhere/myConfig.json"],
        &[
            "reconcile",
            "repairs",
            "list",
            "-c",
            "/nowhere/myConfig.json",
        ],
    ] {
        let ran = run(&mut program(), args).await.ends_with(2);
        assert!(ran.err.contains("/nowhere/myConfig.json"), "{}", ran.err);
    }
}
