//! `final reconcile run` as an operator runs it, and what is done about repairs that are open.

use std::time::Duration;

use final_tests::{
    Port, WorkDir, eventually,
    process::{Launch, Process, Signal},
    shared,
};
use serde_json::Value;
use sqlx::{PgPool, SqlitePool};
use tokio::process::Command;

use crate::{
    endpoint::Endpoint,
    program::{Ran, program, run},
};

const SOON: Duration = Duration::from_secs(90);

/// A table in PostgreSQL with a row that its copy in SQLite lacks, and a file that has it repaired.
struct Shop {
    dir: WorkDir,
    file: String,
    endpoint: Endpoint,
    probes: Port,
    copy: SqlitePool,
    _sqlite: shared::SqliteFile,
}

async fn shop() -> Shop {
    let dir = WorkDir::new("run").expect("a folder");
    let sqlite = shared::sqlite_file().expect("a file");
    let postgres = shared::pg_database().await.expect("a database");
    let source = PgPool::connect(&postgres).await.expect("connected");
    let copy = SqlitePool::connect(&sqlite.url()).await.expect("connected");
    let table = "CREATE TABLE users (id bigint PRIMARY KEY, name text)";
    sqlx::raw_sql(table).execute(&source).await.expect(table);
    sqlx::raw_sql(table).execute(&copy).await.expect(table);
    let rows = "INSERT INTO users VALUES (1, 'Ann')";
    sqlx::raw_sql(rows).execute(&source).await.expect(rows);
    let endpoint = Endpoint::start(500).await;
    let probes = Port::free().expect("a port");
    let text = format!(
        "[state]\ndatabase = 'sqlite:{}?mode=rwc'\n\
         [service]\nlisten = '127.0.0.1:{}'\n\
         [jobs.users]\nsettle = '10ms'\nsweep = {{ every = '1s' }}\n\
         source = {{ database = '{postgres}', table = 'users' }}\n\
         targets = [{{ database = '{}', table = 'users' }}]\n\
         [jobs.users.repair]\nquick = '10m'\n\
         callback = {{ url = 'http://{}/test/callback', private = true }}\n",
        dir.join("state.db").display(),
        probes.number(),
        sqlite.url(),
        endpoint.address
    );
    let file = dir.write("reconcile.toml", &text).expect("written");
    Shop {
        file: file.display().to_string(),
        dir,
        endpoint,
        probes,
        copy,
        _sqlite: sqlite,
    }
}

impl Shop {
    fn start(&self) -> Process {
        let launch = Launch::new(env!("CARGO_BIN_EXE_final"));
        launch
            .args(["reconcile", "run", "--config", &self.file])
            .spawn("reconcile", &self.dir.join("log.txt"))
            .expect("started")
    }

    async fn reconcile(&self, words: &[&str]) -> Ran {
        let words = ["reconcile"].iter().chain(words).copied();
        let words = words.chain(["--config", self.file.as_str(), "--json"]);
        run(&mut program(), words).await
    }

    /// The open repair, once it has been tried.
    async fn tried(&self, running: &Process) -> Value {
        eventually("a repair that failed", SOON, async || {
            let listed = self.reconcile(&["repairs", "list"]).await;
            let tried = listed.code == 0 && listed.json()[0]["attempts"] == 1;
            if tried {
                Ok(listed.json().remove(0))
            } else {
                Err((listed.all(), running.log()))
            }
        })
        .await
    }

    /// What a probe hears.
    async fn answer(&self, path: &str) -> String {
        let url = format!("http://127.0.0.1:{}{path}", self.probes.number());
        let output = Command::new("curl").args(["-s", &url]).output().await;
        String::from_utf8(output.expect("curl").stdout).expect("UTF-8")
    }
}

async fn ends(process: Process) {
    tokio::task::spawn_blocking(move || process.end(Signal::TERM, SOON))
        .await
        .expect("joined")
        .expect("a clean end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repair_that_failed_is_listed_and_is_done_when_it_is_tried_again() {
    let shop = shop().await;
    let running = shop.start();
    let repair = shop.tried(&running).await;
    assert_eq!(repair["kind"], "repair", "{repair}");
    assert_eq!(repair["job"], "users");
    assert_eq!(repair["difference"], "missing");
    let error = repair["last_error"].as_str().expect("an error");
    assert!(error.contains("500"), "{error}");
    let list = ["reconcile", "repairs", "list", "--config", &shop.file];
    let table = run(&mut program(), list).await.ends_with(0).out;
    assert!(
        table.contains("missing") && table.contains("500"),
        "{table}"
    );
    let metrics = shop.answer("/metrics").await;
    let open = metrics
        .lines()
        .find(|line| line.starts_with("final_reconcile_open_repairs{job=\"users\""));
    assert!(open.is_some_and(|line| line.ends_with(" 1")), "{metrics}");

    // The endpoint mends the copy from now on.
    let mend = "INSERT INTO users VALUES (1, 'Ann')";
    shop.endpoint.answers(200);
    let id = repair["id"].as_str().expect("an id");
    shop.reconcile(&["repairs", "retry", id]).await.ends_with(0);
    eventually("the second call", SOON, async || {
        let calls = shop.endpoint.calls();
        if calls.len() > 1 {
            Ok(())
        } else {
            Err((calls, running.log()))
        }
    })
    .await;
    sqlx::raw_sql(mend).execute(&shop.copy).await.expect(mend);
    let calls = shop.endpoint.calls();
    assert_eq!(calls[0].key, calls[1].key);
    assert_eq!(calls[0].body["row"]["name"], "Ann");
    let status = shop.reconcile(&["status"]).await.ends_with(0);
    assert_eq!(status.json()[0]["job"], "users");
    ends(running).await;
    let status = shop.reconcile(&["status"]).await.ends_with(3);
    assert_eq!(status.json()[0]["is_running"], false);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repair_is_closed_only_when_that_is_confirmed() {
    let shop = shop().await;
    let running = shop.start();
    shop.tried(&running).await;
    ends(running).await;

    let asked = shop.reconcile(&["repairs", "close", "--all"]).await;
    assert!(asked.ends_with(5).err.contains("--yes"));
    let unknown = "019372d0-5a5e-7c3a-a4bb-0d9c51c0b7a4";
    let close = ["repairs", "close", unknown, "--yes"];
    shop.reconcile(&close).await.ends_with(4);
    shop.reconcile(&["repairs", "list"]).await.ends_with(0);
    let closed = shop
        .reconcile(&["repairs", "close", "--all", "--yes"])
        .await;
    assert!(closed.ends_with(0).err.contains("1 repair(s) closed"));
    shop.reconcile(&["repairs", "list"]).await.ends_with(4);
    shop.reconcile(&["repairs", "retry", "--all"])
        .await
        .ends_with(4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_of_another_source_is_seen_and_forgotten_when_that_is_confirmed() {
    let shop = shop().await;
    let running = shop.start();
    shop.tried(&running).await;
    ends(running).await;
    let forget = ["forget", "users"];
    let nothing = shop.reconcile(&forget).await.ends_with(4);
    assert!(nothing.err.contains("nothing is left over"), "{nothing:?}");
    // Another table of the same database is the source now.
    let text = std::fs::read_to_string(&shop.file).expect("read");
    let text = text.replacen("table = 'users'", "table = 'people'", 1);
    std::fs::write(&shop.file, text).expect("written");

    let status = ["reconcile", "status", "--config", &shop.file];
    let table = run(&mut program(), status).await.ends_with(3).out;
    for wanted in ["left over", "never ran", "final reconcile forget users"] {
        assert!(table.contains(wanted), "{wanted}: {table}");
    }
    let status = shop.reconcile(&["status"]).await.ends_with(3).json();
    let sources: Vec<_> = status
        .iter()
        .map(|row| (&row["is_of_job"], row["source"].as_str().expect("a source")))
        .collect();
    assert!(
        sources[0].0 == false && sources[0].1.contains("`users`"),
        "{sources:?}"
    );
    assert!(
        sources[1].0 == true && sources[1].1.contains("`people`"),
        "{sources:?}"
    );
    let listed = shop
        .reconcile(&["repairs", "list"])
        .await
        .ends_with(0)
        .json();
    assert_eq!(listed[0]["key"], serde_json::json!([["id", "1"]]));
    assert_eq!(listed[0]["is_of_job"], false);
    let list = ["reconcile", "repairs", "list", "--config", &shop.file];
    let table = run(&mut program(), list).await.ends_with(0).out;
    assert!(
        table.contains("id 1") && table.contains("left over: "),
        "{table}"
    );

    // It ran a moment ago, so another file may only be away for a restart.
    let recent = shop.reconcile(&["forget", "users", "--yes"]).await;
    assert!(recent.ends_with(4).err.contains("--even-recent"));
    let forget_it = ["forget", "users", "--even-recent"];
    let other = forget_it.into_iter().chain(["--target", "other", "--yes"]);
    let other: Vec<&str> = other.collect();
    shop.reconcile(&other).await.ends_with(4);
    let asked = shop.reconcile(&forget_it).await.ends_with(5);
    let row = &asked.json()[0];
    assert_eq!(
        (&row["repairs"], &row["is_forgotten"]),
        (&1.into(), &false.into()),
        "{asked:?}"
    );
    shop.reconcile(&["repairs", "list"]).await.ends_with(0);
    // Others are closed by their ids only.
    shop.reconcile(&["repairs", "close", "--all", "--yes"])
        .await
        .ends_with(4);
    let forgotten = shop
        .reconcile(&["forget", "users", "--even-recent", "--yes"])
        .await
        .ends_with(0);
    assert!(
        forgotten.err.contains("1 of 1 forgotten"),
        "{}",
        forgotten.err
    );
    assert_eq!(forgotten.json()[0]["is_forgotten"], true);
    shop.reconcile(&["repairs", "list"]).await.ends_with(4);
    shop.reconcile(&forget).await.ends_with(4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_the_file_has_no_more_is_listed_and_forgotten_by_its_name() {
    let shop = shop().await;
    let running = shop.start();
    shop.tried(&running).await;
    ends(running).await;
    let text = std::fs::read_to_string(&shop.file).expect("read");
    let text = text.replace("jobs.users", "jobs.persons");
    std::fs::write(&shop.file, text).expect("written");

    let list = ["repairs", "list", "--job"];
    let named = |name: &'static str| list.into_iter().chain([name]).collect::<Vec<_>>();
    let unknown = shop.reconcile(&named("nobody")).await.ends_with(2);
    assert!(unknown.err.contains("no job `nobody`"), "{}", unknown.err);
    let open = shop.reconcile(&named("users")).await.ends_with(0).json();
    assert_eq!(open[0]["is_of_job"], false, "{open:?}");
    let id = open[0]["id"].as_str().expect("an id");
    let close = ["repairs", "close", "--job", "users", id, "--yes"];
    shop.reconcile(&close).await.ends_with(0);
    let forget = ["forget", "users", "--even-recent", "--yes"];
    shop.reconcile(&forget).await.ends_with(0);
    shop.reconcile(&forget).await.ends_with(2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_the_first_run_nothing_matches_and_no_file_is_made() {
    let shop = shop().await;
    let state = shop.dir.join("state.db");
    for words in [
        &["status"][..],
        &["resume"],
        &["repairs", "list"],
        &["repairs", "retry", "--all"],
        &["repairs", "close", "--all", "--yes"],
        &["forget", "users", "--yes"],
    ] {
        let ran = shop.reconcile(words).await.ends_with(4);
        assert!(ran.err.contains("has run yet"), "{words:?}: {}", ran.err);
        assert!(!state.exists(), "{words:?}");
    }
    // The same where there is a file without the tables.
    std::fs::write(&state, "").expect("written");
    let ran = shop.reconcile(&["status"]).await.ends_with(4);
    assert!(ran.err.contains("has run yet"), "{}", ran.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_of_an_earlier_release_are_told_with_what_to_do() {
    let shop = shop().await;
    let running = shop.start();
    shop.tried(&running).await;
    ends(running).await;
    let url = format!("sqlite:{}", shop.dir.join("state.db").display());
    let state = SqlitePool::connect(&url).await.expect("connected");
    let old = "DROP INDEX final_reconcile_repairs_due; ALTER TABLE final_reconcile_jobs DROP COLUMN source; \
        ALTER TABLE final_reconcile_repairs DROP COLUMN unit";
    sqlx::raw_sql(old).execute(&state).await.expect(old);
    state.close().await;
    for words in [&["status"][..], &["repairs", "list"], &["forget", "users"]] {
        let ran = shop.reconcile(words).await.ends_with(1);
        assert!(
            ran.err.contains("`final reconcile run`"),
            "{words:?}: {}",
            ran.err
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_has_never_run_is_told_by_the_status() {
    let shop = shop().await;
    let running = shop.start();
    shop.tried(&running).await;
    ends(running).await;
    // Another job, which came to the file after the last start.
    let text = std::fs::read_to_string(&shop.file).expect("read");
    let (_, job) = text.split_once("[jobs.users]").expect("a job");
    let more = format!(
        "{text}[jobs.later]{}",
        job.replace("jobs.users", "jobs.later")
    );
    std::fs::write(&shop.file, more).expect("written");

    let status = shop.reconcile(&["status"]).await.ends_with(3).json();
    let later = status.iter().find(|row| row["job"] == "later");
    let later = later.unwrap_or_else(|| panic!("{status:?}"));
    assert_eq!(later["trouble"], "it has never run");
    let status = ["reconcile", "status", "--config", &shop.file];
    let table = run(&mut program(), status).await.ends_with(3).out;
    assert!(table.contains("never ran"), "{table}");
}

/// The file of a shop with other lines in place of the callback and of the sweep.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_that_stands_still_is_told_by_the_status_and_the_metrics() {
    let shop = shop().await;
    let beats =
        "CREATE TABLE beats (at text); INSERT INTO beats VALUES ('2024-02-29 10:00:00.123')";
    sqlx::raw_sql(beats).execute(&shop.copy).await.expect(beats);
    let text = std::fs::read_to_string(&shop.file).expect("read");
    let text = text.replace(
        "table = 'users' }]",
        "table = 'users', heartbeat = { table = 'beats' } }]",
    );
    std::fs::write(&shop.file, text).expect("written");
    let running = shop.start();
    let job = eventually("a trouble", SOON, async || {
        let status = shop.reconcile(&["status"]).await;
        let told = status.code == 3 && status.json()[0]["trouble"].is_string();
        let job = || status.json().remove(0);
        told.then(job).ok_or_else(|| (status.all(), running.log()))
    })
    .await;
    assert_eq!(job["mirror_at"], "2024-02-29 10:00:00.123", "{job}");
    assert!(job["mirror_lag_ms"].as_u64() > Some(60_000), "{job}");
    let shown = ["reconcile", "status", "--config", &shop.file];
    let shown = run(&mut program(), shown).await.ends_with(3).out;
    for part in [
        "in trouble",
        "the mirror of",
        "the mirror stands at 2024-02-29 10:00:00.123 UTC",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let metrics = shop.answer("/metrics").await;
    assert!(
        metrics.contains("final_reconcile_mirror_lag_seconds{job=\"users\""),
        "{metrics}"
    );
    assert!(shop.answer("/readyz").await.contains("stands at"));
    assert_eq!(shop.endpoint.calls().len(), 0);
    ends(running).await;
}

fn with(shop: &Shop, sweep: &str, repair: &str) -> String {
    let text = std::fs::read_to_string(&shop.file).expect("read");
    let lines = text.lines().map(|line| match line {
        line if line.starts_with("callback") => repair.to_owned(),
        line => line.replace("sweep = { every = '1s' }", sweep),
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repair_by_sql_writes_the_row_into_the_copy() {
    let shop = shop().await;
    let text = with(&shop, "sweep = { every = '1s' }", "sql = true");
    std::fs::write(&shop.file, text).expect("written");
    let running = shop.start();
    eventually("the row in the copy", SOON, async || {
        let name = sqlx::query_scalar::<_, String>("SELECT name FROM users WHERE id = 1");
        match name.fetch_optional(&shop.copy).await.expect("read") {
            Some(name) if name == "Ann" => Ok(()),
            other => Err((other, running.log())),
        }
    })
    .await;
    ends(running).await;
}

/// A change that a capture would publish.
const CHANGE: &str = r#"{"op":"insert","schema":"public","table":"users","key":{"id":1},"before":null,
    "after":{"id":1,"name":"Ann"},"changed":null,"at":"2024-02-29T12:00:00.000000Z","position":"lsn:0/1",
    "tx":{"id":"1","index":0,"last":true}}"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_the_bus_is_looked_at_and_its_repair_is_published_there() {
    let shop = shop().await;
    let log = shared::pg_database().await.expect("a database");
    let text = with(
        &shop,
        "watch = 'cdc.users'",
        "publish = { topic = 'user.repair' }",
    );
    let text = format!("[bus]\nlog = '{log}'\n{text}");
    std::fs::write(&shop.file, text).expect("written");
    let running = shop.start();
    eventually("a service that is ready", SOON, async || {
        match shop.answer("/readyz").await {
            answer if answer.starts_with("ok") => Ok(()),
            answer => Err((answer, running.log())),
        }
    })
    .await;

    let change = shop.dir.write("change.json", CHANGE).expect("written");
    let change = change.display().to_string();
    let publish = [
        "publish",
        "cdc.users",
        "--json",
        &change,
        "--key",
        "1",
        "--via",
        "log",
        "--database-url",
        &log,
    ];
    run(&mut program(), publish).await.ends_with(0);

    let messages = PgPool::connect(&log).await.expect("connected");
    eventually("the repair in the log", SOON, async || {
        let count = "SELECT count(*) FROM final_log WHERE topic = 'user.repair'";
        let count: i64 = sqlx::query_scalar(count)
            .fetch_one(&messages)
            .await
            .expect("counted");
        if count == 1 {
            Ok(())
        } else {
            Err((count, running.log()))
        }
    })
    .await;
    ends(running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probe_hears_that_the_service_is_ready() {
    let shop = shop().await;
    let running = shop.start();
    eventually("a service that is ready", SOON, async || {
        let answer = shop.answer("/readyz").await;
        if answer.starts_with("ok") || answer.contains("ready") {
            Ok(())
        } else {
            Err((answer, running.log()))
        }
    })
    .await;
    ends(running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_cannot_run_is_wrong_usage_and_says_what_to_do() {
    let shop = shop().await;
    let text = std::fs::read_to_string(&shop.file).expect("read");
    let cases = [
        (
            "no state",
            text.replace("[state]\ndatabase", "[service]\nlog")
                .replace("[service]\nlisten", "listen"),
            "[state]",
        ),
        (
            "no scan",
            text.replace("sweep = { every = '1s' }", ""),
            "`fresh_ids`",
        ),
        (
            "no bus",
            text.replace("sweep = { every = '1s' }", "watch = 'cdc.users'"),
            "needs a bus",
        ),
        (
            "two ways",
            text.replace("quick = '10m'", "sql = true"),
            "one of `callback`",
        ),
        (
            "no such column",
            text.replace("table = 'users' }]", "table = 'users', same = ['nmae'] }]"),
            "nmae",
        ),
        (
            "several rules",
            text.replace(
                "table = 'users' }]",
                "table = 'users', columns = { name = { text = true, uuid = true } } }]",
            ),
            "job users: `name` has several rules",
        ),
        ("no broker", format!("[bus]\n{text}"), "`bus` needs one of"),
        (
            "no pause",
            text.replace("every = '1s'", "every = '0s'"),
            "a second after each other",
        ),
        (
            "no URL",
            text.replace(
                "source = { database = 'postgres",
                "source = { database = 'postgres://u@h:port/postgres",
            ),
            "job users: the URL",
        ),
    ];
    for (name, text, wanted) in cases {
        let file = shop.dir.write(name, &text).expect("written");
        let ran = run(
            &mut program(),
            ["reconcile", "run", "--config", &file.display().to_string()],
        )
        .await;
        assert_eq!(ran.code, 2, "{name}: {ran:?}");
        assert!(ran.err.contains(wanted), "{name}: {}", ran.err);
    }
}
