//! `final reconcile` as an operator runs it.

use std::fs;

use final_tests::{WorkDir, shared};
use sqlx::{PgPool, SqlitePool};

use crate::program::{program, run};

/// A table in PostgreSQL, its copy in SQLite, and the file that names both.
struct Shop {
    dir: WorkDir,
    file: String,
    copy: SqlitePool,
    _sqlite: shared::SqliteFile,
}

async fn shop() -> Shop {
    let dir = WorkDir::new("reconcile").expect("a folder");
    let sqlite = shared::sqlite_file().expect("a file");
    let postgres = shared::pg_database().await.expect("a database");
    let source = PgPool::connect(&postgres).await.expect("connected");
    let copy = SqlitePool::connect(&sqlite.url()).await.expect("connected");
    let table = "CREATE TABLE users (id bigint PRIMARY KEY, name text, amount numeric(10, 2))";
    let rows = "INSERT INTO users VALUES (1, 'Ann', 1.50), (2, 'Bob', 2), (3, NULL, 3)";
    for sql in [table, rows] {
        sqlx::raw_sql(sql).execute(&source).await.expect(sql);
        sqlx::raw_sql(sql).execute(&copy).await.expect(sql);
    }
    let file = dir.join("reconcile.toml").display().to_string();
    let text = format!(
        "[jobs.users]\nsettle = '0ms'\nsource = {{ database = '{postgres}', table = 'users' }}\n\
         [[jobs.users.targets]]\ndatabase = '{}'\ntable = 'users'\n",
        sqlite.url()
    );
    fs::write(&file, text).expect("written");
    Shop {
        dir,
        file,
        copy,
        _sqlite: sqlite,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_exit_code_says_whether_the_tables_are_equal() {
    let shop = shop().await;
    let compare = ["reconcile", "compare", "--config", &shop.file];

    let equal = run(&mut program(), compare).await.ends_with(0);
    assert!(equal.out.contains("3 rows, equal"), "{}", equal.out);

    let changes = "UPDATE users SET name = 'Rob' WHERE id = 2; DELETE FROM users WHERE id = 3; \
        INSERT INTO users VALUES (4, 'Eve', 0)";
    sqlx::raw_sql(changes)
        .execute(&shop.copy)
        .await
        .expect("changed");
    let different = run(&mut program(), compare).await.ends_with(3);
    for line in [
        "1 missing, 1 different, 1 extra",
        "  missing: id 3\n",
        "  different: id 2: name\n",
        "  extra: id 4\n",
    ] {
        assert!(different.out.contains(line), "{line}: {}", different.out);
    }
    assert!(!different.all().contains("Rob"), "{}", different.all());

    let values = run(&mut program(), compare.into_iter().chain(["--values"]))
        .await
        .ends_with(3);
    assert!(
        values.out.contains("    name: Bob | Rob\n"),
        "{}",
        values.out
    );

    let json = run(
        &mut program(),
        compare.into_iter().chain(["--json", "--examples", "1"]),
    )
    .await;
    let json = &json.ends_with(3).json()[0];
    assert_eq!(json["kind"], "comparison");
    assert_eq!(json["job"], "users");
    assert_eq!(json["equal"], false);
    assert_eq!(
        (&json["missing"], &json["different"], &json["extra"]),
        (&1.into(), &1.into(), &1.into())
    );
    assert_eq!(json["examples"].as_array().expect("examples").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_would_be_compared_is_shown_with_its_statements() {
    let shop = shop().await;
    let explain = ["reconcile", "explain", "--config", &shop.file];

    let text = run(&mut program(), explain).await.ends_with(0).out;

    assert!(
        text.contains("amount numeric(10,2) = amount numeric(10, 2): exact number"),
        "{text}"
    );
    assert!(text.contains("string_agg"), "{text}");
    let json = run(&mut program(), explain.into_iter().chain(["--json"]))
        .await
        .ends_with(0);
    assert_eq!(
        json.json()[0]["targets"][0]["walk"],
        "range by range of the key"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_cannot_be_meant_is_wrong_usage_and_says_what_to_do() {
    let shop = shop().await;
    let text = fs::read_to_string(&shop.file).expect("read");
    let write = |name: &str, text: String| {
        let file = shop.dir.join(name).display().to_string();
        fs::write(&file, text).expect("written");
        file
    };
    let unknown = write("unknown.toml", text.replace("settle", "setle"));
    let column = write("column.toml", text.clone() + "same = ['nmae']\n");
    let rules = write(
        "rules.toml",
        text.clone() + "columns = { amount = { decimal = 1, text = true } }\n",
    );
    let cases = [
        (vec!["--config", &unknown], "did you mean `settle`"),
        (vec!["--config", &column], "no column `nmae`"),
        (vec!["--config", &rules], "`amount` has several rules"),
        (
            vec!["--config", &shop.file, "--job", "orders"],
            "no job `orders`; it has users",
        ),
        (
            vec!["--config", &shop.file, "--database-url", "sqlite:x.db"],
            "leave out --database-url",
        ),
        (vec!["--config", "/nothing.toml"], "cannot be read"),
    ];
    for (args, wanted) in cases {
        let ran = run(
            &mut program(),
            ["reconcile", "compare"].into_iter().chain(args),
        )
        .await
        .ends_with(2);
        assert!(ran.err.contains(wanted), "{wanted}: {}", ran.err);
    }
    let away = text.lines().map(|line| match line.starts_with("source") {
        true => {
            "source = { database = 'postgres://ops:hunter2@127.0.0.1:1/shop', table = 'users' }"
        }
        false => line,
    });
    let away = write("away.toml", away.collect::<Vec<_>>().join("\n"));
    let ran = run(&mut program(), ["reconcile", "compare", "--config", &away])
        .await
        .ends_with(1);
    assert!(ran.err.contains("127.0.0.1:1/shop"), "{}", ran.err);
    assert!(ran.err.contains("refused"), "{}", ran.err);
    assert!(!ran.all().contains("hunter2"), "{}", ran.all());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_mirror_has_not_passed_in_its_limit_is_not_judged() {
    let shop = shop().await;
    let changes = "UPDATE users SET name = 'Rob' WHERE id = 2; \
        CREATE TABLE beats (mirror text UNIQUE, at text); INSERT INTO beats VALUES ('search', '2024-02-29 10:00:00')";
    sqlx::raw_sql(changes)
        .execute(&shop.copy)
        .await
        .expect("changed");
    let text = fs::read_to_string(&shop.file).expect("read");
    let heartbeat = "[jobs.users.targets.heartbeat]\ntable = 'beats'\nrow = { mirror = 'search' }\nlimit = '1s'\n";
    fs::write(&shop.file, format!("{text}{heartbeat}")).expect("written");
    let compare = ["reconcile", "compare", "--config", &shop.file];

    let late = run(&mut program(), compare).await.ends_with(3);
    for part in [
        "0 missing, 0 different, 0 extra, 1 not judged; the mirror of `users` in SQLite",
        "stands at 2024-02-29 10:00:00 UTC",
    ] {
        assert!(late.out.contains(part), "{part}: {}", late.out);
    }
    let json = run(&mut program(), compare.into_iter().chain(["--json"])).await;
    let json = &json.ends_with(3).json()[0];
    assert_eq!(
        (&json["unsettled"], &json["not_passed"]),
        (&1.into(), &1.into())
    );
    let basis = json["judged_by"].as_str().expect("a text");
    assert!(basis.starts_with("the heartbeat in `beats`"), "{basis}");

    let other = format!("{text}{}", heartbeat.replace("'beats'", "'beat'"));
    fs::write(&shop.file, other).expect("written");
    let wrong = run(&mut program(), compare).await.ends_with(2);
    assert!(
        wrong.err.contains("there is no table `beat` in"),
        "{}",
        wrong.err
    );
}
