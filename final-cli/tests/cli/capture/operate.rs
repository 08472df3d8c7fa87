//! `final capture status` and `parked`, beside a reader that is a process of its own.

use std::time::Duration;

use final_tests::{
    WorkDir, eventually,
    process::{Launch, Process, Signal},
    servers::{Postgres, Setup},
    unique,
};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tokio::sync::OnceCell;

use crate::{
    database::{Database, Place},
    everywhere,
    program::{program, run},
    tail::SOON,
};

everywhere!(an_operator_sees_a_capture_and_what_it_has_parked_and_puts_that_back);

/// How long a reader has to end.
const STOP: Duration = Duration::from_secs(60);

/// A source with a table `shop.holes`, and a reader of it.
struct Shop {
    conn: PgConnection,
    url: String,
    name: String,
    log: String,
    dir: WorkDir,
}

impl Shop {
    async fn open(log: &str) -> Self {
        static SERVER: OnceCell<Postgres> = OnceCell::const_new();
        let args = ["-c", "wal_level=logical", "-c", "fsync=off"];
        let setup = Setup {
            args: args.map(str::to_owned).into(),
            ..Setup::default()
        };
        let start = || async { Postgres::start_with(setup).await.expect("PostgreSQL") };
        let server = SERVER.get_or_init(start).await.url();
        let name = unique("shop");
        let mut conn = PgConnection::connect(&server).await.expect("a connection");
        let create = format!("CREATE DATABASE {name}");
        conn.execute(AssertSqlSafe(create)).await.expect("made");
        let url = format!("{}/{name}", server.trim_end_matches("/postgres"));
        let mut shop = Self {
            conn: PgConnection::connect(&url).await.expect("a connection"),
            url,
            name,
            log: log.to_owned(),
            dir: WorkDir::new("capture").expect("a folder"),
        };
        shop.run("CREATE SCHEMA shop").await;
        shop.run("CREATE TABLE shop.holes (id int PRIMARY KEY, text text)")
            .await;
        shop
    }

    async fn run(&mut self, sql: &str) {
        let done = self.conn.execute(AssertSqlSafe(sql.to_owned())).await;
        done.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// Starts a reader whose target takes messages up to that size.
    fn read(&self, most: &str) -> Process {
        let Self { url, name, log, .. } = self;
        let config = format!(
            "name = 'shop'\nlease = '2s'\n\
             [source]\npostgres = '{url}'\nslot = '{name}'\npublication = '{name}'\n\
             [select]\ntables = ['shop.*']\n[target]\nlog = '{log}'\nmax_message = '{most}'\n"
        );
        let file = self.dir.write("capture.toml", &config).expect("written");
        let launch = Launch::new(env!("CARGO_BIN_EXE_final"))
            .args(["capture", "--config"])
            .arg(&file);
        let log = self.dir.join("log.txt");
        launch.spawn("reader", &log).expect("it starts")
    }
}

/// What `status` says, once it says so.
async fn status<DB: Database>(at: &Place<DB>, code: i32, wanted: &[(&str, Value)]) -> Value {
    eventually("the status", SOON, async || {
        let ran = at.run(["capture", "status", "--json"]).await;
        let capture = ran.json().pop().unwrap_or_default();
        let is_so = |(key, value): &(&str, Value)| capture[*key] == *value;
        (ran.code == code && wanted.iter().all(is_so))
            .then_some(capture)
            .ok_or(ran)
    })
    .await
}

/// What is parked, in order.
async fn parked<DB: Database>(at: &Place<DB>) -> Vec<Value> {
    let list = ["capture", "parked", "list", "shop", "--json"];
    at.run(list).await.ends_with(0).json()
}

/// One field of all.
fn each(parked: &[Value], key: &str) -> Vec<Value> {
    parked.iter().map(|parked| parked[key].clone()).collect()
}

/// The command line names no database here.
async fn the_file_names_the_database(shop: &Shop) {
    let file = shop.dir.join("capture.toml").display().to_string();
    let with = async |command: &[&str], file: &str| {
        run(&mut program(), [command, &["--config", file]].concat()).await
    };
    let status = ["capture", "status"];
    let table = with(&status, &file).await.ends_with(0);
    assert!(table.out.contains("streaming"), "{table:?}");
    let list = with(&["capture", "parked", "list", "shop"], &file).await;
    let list = list.ends_with(0);
    assert!(list.out.contains("shop.holes/3"), "{list:?}");
    let both = ["--database-url", "sqlite:other.db", "capture", "status"];
    let both = with(&both, &file).await.ends_with(2);
    assert!(both.err.contains("leave out --database-url"), "{both:?}");

    let config = std::fs::read_to_string(&file).expect("the file");
    let config = format!("{config}[position]\nfile = '/var/lib/shop.position'\n");
    let apart = shop.dir.write("apart.toml", &config).expect("written");
    let apart = with(&status, &apart.display().to_string()).await;
    let why = "apart.toml: the position is in the file /var/lib/shop.position";
    assert!(apart.err.contains(why), "{apart:?}");
    apart.ends_with(2);
}

async fn an_operator_sees_a_capture_and_what_it_has_parked_and_puts_that_back<DB: Database>(
    at: Place<DB>,
) {
    let mut shop = Shop::open(&at.url).await;
    let none = at.run(["capture", "status"]).await.ends_with(4);
    assert!(none.err.contains("no such capture"), "{none:?}");

    let reader = shop.read("2 KiB");
    let streams = [("state", "streaming".into()), ("read", true.into())];
    status(&at, 0, &streams).await;
    let large = "repeat('x', 5000)";
    shop.run(&format!(
        "INSERT INTO shop.holes VALUES (1, 'a'), (2, {large}), (3, {large})"
    ))
    .await;
    shop.run("UPDATE shop.holes SET text = 'b' WHERE id < 3")
        .await;
    let seen = status(&at, 0, &[("parked", 3.into())]).await;
    assert_eq!(
        (&seen["kind"], &seen["capture"]),
        (&"capture".into(), &"shop".into())
    );
    assert!(
        seen["position"]
            .as_str()
            .is_some_and(|at| at.starts_with("lsn:")),
        "{seen}"
    );
    assert!(
        seen["seconds_since_commit"]
            .as_f64()
            .is_some_and(|ago| ago >= 0.0),
        "{seen}"
    );
    let table = at.run(["capture", "status", "shop"]).await.ends_with(0);
    assert!(table.out.contains("streaming"), "{table:?}");
    at.run(["capture", "status", "other"]).await.ends_with(4);
    the_file_names_the_database(&shop).await;

    let waiting = parked(&at).await;
    assert_eq!(
        each(&waiting, "key"),
        ["shop.holes/2", "shop.holes/3", "shop.holes/2"]
    );
    // What waits behind another one has no reason of its own.
    let has_reason: Vec<bool> = each(&waiting, "reason")
        .iter()
        .map(Value::is_string)
        .collect();
    assert_eq!(has_reason, [true, true, false]);
    let reason = waiting[0]["reason"].as_str().expect("a reason");
    assert!(reason.contains("raise `target.max_message`"), "{reason}");
    let list = ["capture", "parked", "list", "shop"];
    let table = at.run(list).await.ends_with(0);
    assert!(table.out.contains("cdc.shop.holes"), "{table:?}");
    let first = at
        .run(list.into_iter().chain(["--limit", "1", "--json"]))
        .await;
    assert_eq!(first.ends_with(0).json().len(), 1);

    // Nothing is mended, so all of it is refused again.
    let all = ["capture", "parked", "retry", "shop", "--all"];
    let retry = at.run(all).await.ends_with(3);
    assert!(
        retry
            .err
            .contains("0 of 3 change(s) went on; 3 stay parked"),
        "{retry:?}"
    );
    reader.end(Signal::TERM, STOP).expect("it ends");
    let table = at.run(["capture", "status"]).await.ends_with(3);
    assert!(table.out.contains("not read"), "{table:?}");

    let number = waiting[0]["number"].to_string();
    let skip = ["capture", "parked", "skip", "shop", &*number];
    at.run(skip).await.ends_with(5);
    let left = at.run(skip.into_iter().chain(["--yes"])).await.ends_with(3);
    assert!(left.err.contains("wait for the reader"), "{left:?}");
    let marks = each(&parked(&at).await, "mark");
    assert_eq!(marks, ["skip".into(), Value::Null, Value::Null]);

    let reader = shop.read("1 MiB");
    status(&at, 0, &[("parked", 1.into())]).await;
    assert_eq!(each(&parked(&at).await, "key"), ["shop.holes/3"]);
    let retry = at.run(all).await.ends_with(0);
    assert!(
        retry
            .err
            .contains("1 of 1 change(s) went on; 0 stay parked"),
        "{retry:?}"
    );
    at.run(list).await.ends_with(4);
    at.run(all).await.ends_with(4);
    at.run(["capture", "parked", "retry", "shop", "1"])
        .await
        .ends_with(4);
    let none = at.run(["capture", "parked", "retry", "shop"]).await;
    assert!(none.err.contains("--all"), "{none:?}");
    none.ends_with(2);
    // All but the one that was skipped.
    assert_eq!(at.number("SELECT count(*) FROM final_log").await, 4);
    reader.end(Signal::TERM, STOP).expect("it ends");

    // What only a person can mend is told with its reason.
    let slot = shop.name.clone();
    shop.run(&format!("SELECT pg_drop_replication_slot('{slot}')"))
        .await;
    let reader = shop.read("1 MiB");
    let gap = status(
        &at,
        3,
        &[("state", "stopped".into()), ("read", false.into())],
    )
    .await;
    assert!(
        gap["reason"]
            .as_str()
            .is_some_and(|why| why.contains(&slot)),
        "{gap}"
    );
    let table = at.run(["capture", "status"]).await.ends_with(3);
    assert!(
        table.out.contains("shop: ") && table.out.contains(&slot),
        "{table:?}"
    );
    assert!(reader.is_alive(), "{}", reader.log());
    reader.end(Signal::TERM, STOP).expect("it ends");
}
