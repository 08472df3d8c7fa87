//! Repairs by SQL: the target has the source's row afterwards, and nothing else has changed.

use std::time::Duration;

use fastrand::Rng;
use final_reconcile::{Job, Mapped, Mapping, Reconciler, Repair};
use final_tests::eventually;

use crate::{
    pairs::{Column, coarse_columns, columns, fill, json_columns, plant, unlike_columns},
    place::{ALL, Db, Place},
    repair::SOON,
};

const QUICK: Duration = Duration::from_millis(20);
const NEVER: Duration = Duration::from_secs(3_600);

/// A reconciler that writes, with its state in PostgreSQL.
async fn writer(
    place: &Place,
    (from, source): (Db, &str),
    (to, target): (Db, &str),
    map: impl FnOnce(Mapping) -> Mapping,
    repair: Repair,
) -> Reconciler {
    let job = Job::new(format!("{source} in {from:?} to {target} in {to:?}"))
        .source(place.side(from, source))
        .target(place.side(to, target), map)
        .settle(Duration::ZERO)
        .show_values(true)
        .repair(repair);
    let reconciler = Reconciler::new(&place.postgres).job(job).unwrap();
    reconciler.migrate().await.unwrap();
    reconciler
}

fn name(source: (Db, &str), target: (Db, &str)) -> String {
    format!(
        "{} in {:?} to {} in {:?}",
        source.1, source.0, target.1, target.0
    )
}

/// Compares, and repairs until nothing is open. Then the tables are equal.
async fn mended(reconciler: &Reconciler, job: &str) {
    let found = reconciler.compare(job).await.unwrap().remove(0);
    assert_eq!(found.repairs, found.differences(), "{job}: {found:?}");
    let running = reconciler.start().unwrap();
    eventually("every row is written", 2 * SOON, async || {
        let open = reconciler.repairs(job, 5).await.unwrap();
        match open.is_empty() {
            true => Ok(()),
            false => Err(format!("{job}: {open:#?}")),
        }
    })
    .await;
    running.shutdown().await;
    let found = reconciler.compare(job).await.unwrap().remove(0);
    assert!(found.is_equal(), "{job}: {found:#?}");
}

/// Repairs random rows of these columns, on each pair of databases.
async fn rows_are_written(columns: Vec<Column>, dbs: &[Db], count: i64) {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let rng = &mut Rng::with_seed(seed);
    // A few seeds plant nothing of one kind.
    let (source, target, planted) = loop {
        let made = plant(rng, &columns, count);
        if !made.2.missing.is_empty() && !made.2.different.is_empty() {
            break made;
        }
    };
    let place = Place::fresh().await;
    fill(&place, "source", &columns, &source, true).await;
    let has_uuid = columns.iter().any(|column| column.name == "uid");
    for from in dbs {
        let table = format!("target_{from:?}").to_lowercase();
        fill(&place, &table, &columns, &target, false).await;
        for to in dbs {
            let sql = format!("ALTER TABLE {table} ADD COLUMN own varchar(20)");
            place.run(*to, sql).await;
            place
                .run(*to, format!("UPDATE {table} SET own = 'kept'"))
                .await;
            let map = |map: Mapping| match has_uuid {
                true => map
                    .column("uid", Mapped::default().uuid())
                    .rest()
                    .except(["own"]),
                false => map.rest().except(["own"]),
            };
            let repair = Repair::sql().extras(true).pace(QUICK, QUICK);
            let (source, target) = ((*from, "source"), (*to, table.as_str()));
            let reconciler = writer(&place, source, target, map, repair).await;
            mended(&reconciler, &name(source, target)).await;
            let of_missing = format!("SELECT id AS v FROM {table} WHERE own IS NULL");
            let new = place.numbers(*to, &of_missing).await;
            assert!(
                new.iter().eq(&planted.missing),
                "what is not mapped stays as it is"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_of_any_types_is_written_as_the_source_has_it() {
    rows_are_written(columns(), &ALL, 60).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_is_written_whatever_type_the_target_has_for_it() {
    rows_are_written(unlike_columns(), &ALL, 60).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_is_written_as_the_source_has_it() {
    rows_are_written(json_columns(), &ALL, 40).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_is_written_with_all_its_digits_and_the_target_keeps_what_it_can() {
    rows_are_written(coarse_columns(), &[Db::Postgres, Db::Maria], 60).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_is_written_whole_although_a_rule_compares_less_of_it() {
    let place = Place::fresh().await;
    let table =
        "(id int PRIMARY KEY, price numeric(12, 6), ratio double precision, at timestamp(6))";
    let my = "(id int PRIMARY KEY, price decimal(12, 6), ratio double, at datetime(6))";
    place.run(Db::Postgres, format!("CREATE TABLE a {table}; CREATE TABLE b {table}; INSERT INTO a VALUES (1, 1.234567, 0.1234567890123456, '2024-01-02 03:04:05.678901')")).await;
    place
        .run(
            Db::Maria,
            format!("CREATE TABLE a {my}; CREATE TABLE b {my}"),
        )
        .await;
    place
        .run(
            Db::Maria,
            "INSERT INTO a VALUES (1, 1.234567, 0.1234567890123456, '2024-01-02 03:04:05.678901')",
        )
        .await;
    for (from, to) in [(Db::Postgres, Db::Maria), (Db::Maria, Db::Postgres)] {
        let map = |map: Mapping| {
            map.column("price", Mapped::default().decimal(1))
                .column("ratio", Mapped::default().digits(3))
                .column("at", Mapped::default().precision(0))
        };
        let (source, target) = ((from, "a"), (to, "b"));
        let reconciler = writer(
            &place,
            source,
            target,
            map,
            Repair::sql().pace(QUICK, QUICK),
        )
        .await;
        mended(&reconciler, &name(source, target)).await;
        let price = place
            .texts(to, "SELECT concat(price, ' ', ratio, ' ', at) AS v FROM b")
            .await;
        assert_eq!(
            price,
            ["1.234567 0.1234567890123456 2024-01-02 03:04:05.678901"],
            "{to:?}"
        );
    }
}

/// Waits for a repair that fails, and returns why.
async fn refused(reconciler: &Reconciler, job: &str) -> String {
    reconciler.compare(job).await.unwrap();
    let running = reconciler.start().unwrap();
    let error = eventually("the repair has failed", SOON, async || {
        let open = reconciler.repairs(job, 5).await.unwrap();
        match open.as_slice() {
            [one] if one.attempts == 1 => Ok(one.last_error.clone().unwrap()),
            _ => Err(format!("{open:#?}")),
        }
    })
    .await;
    running.shutdown().await;
    error
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_whose_values_another_row_has_is_an_error_that_destroys_nothing() {
    let place = Place::fresh().await;
    for db in ALL {
        let table = "(id int PRIMARY KEY, mail varchar(40) UNIQUE, n int)";
        place
            .run(
                db,
                format!("CREATE TABLE a {table}; CREATE TABLE b {table}"),
            )
            .await;
        place
            .run(
                db,
                "INSERT INTO a VALUES (1, 'ann@shop.example', 1), (2, 'bob@shop.example', 2)",
            )
            .await;
        place
            .run(
                db,
                "INSERT INTO b VALUES (2, 'bob@shop.example', 2), (7, 'ann@shop.example', 7)",
            )
            .await;
    }
    for (from, to) in ALL
        .iter()
        .flat_map(|from| ALL.iter().map(move |to| (*from, *to)))
    {
        for is_there in [false, true] {
            if is_there {
                place.run(to, "INSERT INTO b VALUES (1, NULL, 0)").await;
            }
            let (source, target) = ((from, "a"), (to, "b"));
            let repair = Repair::sql().pace(NEVER, NEVER);
            let reconciler = writer(&place, source, target, |map| map, repair).await;
            let error = refused(&reconciler, &name(source, target)).await;

            let is_told = error.to_lowercase().contains("unique") && error.contains("mail");
            assert!(is_told && !error.contains("ann@"), "{to:?}: {error}");
            let rows = place
                .texts(
                    to,
                    "SELECT concat(id, ' ', mail, ' ', n) AS v FROM b WHERE id > 1",
                )
                .await;
            assert_eq!(
                rows,
                ["2 bob@shop.example 2", "7 ann@shop.example 7"],
                "{from:?} to {to:?}"
            );
            let old = place.numbers(to, "SELECT n AS v FROM b WHERE id = 1").await;
            assert_eq!(old, vec![0; usize::from(is_there)], "{from:?} to {to:?}");
            for repair in reconciler.repairs(&name(source, target), 5).await.unwrap() {
                reconciler
                    .close(&name(source, target), repair.id)
                    .await
                    .unwrap();
            }
        }
        place.run(to, "DELETE FROM b WHERE id = 1").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_the_target_has_no_room_for_is_an_error_that_names_the_column() {
    let place = Place::fresh().await;
    let a = "(id int PRIMARY KEY, note varchar(40), n bigint, raw varchar(40))";
    let b = "(id int PRIMARY KEY, note varchar(5), n smallint, raw varchar(40))";
    for db in [Db::Postgres, Db::Maria] {
        place.run(db, format!("CREATE TABLE a {a}; CREATE TABLE b {b}; INSERT INTO b VALUES (1, 'old', 1, 'old')")).await;
    }
    let cases = [
        ("1, 'far too long', 1, 'old'", "note"),
        ("1, 'old', 1234567, 'old'", "n"),
    ];
    let dbs = [Db::Postgres, Db::Maria];
    for (from, to) in dbs
        .iter()
        .flat_map(|from| dbs.iter().map(move |to| (*from, *to)))
    {
        for (values, column) in cases {
            place
                .run(
                    from,
                    format!("DELETE FROM a; INSERT INTO a VALUES ({values})"),
                )
                .await;
            let (source, target) = ((from, "a"), (to, "b"));
            let repair = Repair::sql().pace(NEVER, NEVER);
            let reconciler = writer(&place, source, target, |map| map, repair).await;
            let error = refused(&reconciler, &name(source, target)).await;

            let is_named =
                error.contains(&format!("`{column}`")) || error.contains(&format!("'{column}'"));
            assert!(is_named, "{column} from {from:?} to {to:?}: {error}");
            assert!(
                !error.contains("far too") && !error.contains("1234567"),
                "{error}"
            );
            let rows = place
                .texts(to, "SELECT concat(note, n, raw) AS v FROM b")
                .await;
            assert_eq!(rows, ["old1old"], "{from:?} to {to:?}");
            for repair in reconciler.repairs(&name(source, target), 5).await.unwrap() {
                reconciler
                    .close(&name(source, target), repair.id)
                    .await
                    .unwrap();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trigger_that_changes_what_is_written_is_an_error_that_names_the_column() {
    let place = Place::fresh().await;
    let table = "(id int PRIMARY KEY, name varchar(20), n int)";
    let (from, to) = (Db::Postgres, Db::Maria);
    place
        .run(
            from,
            format!("CREATE TABLE a {table}; INSERT INTO a VALUES (1, 'new', 1)"),
        )
        .await;
    place
        .run(
            to,
            format!("CREATE TABLE b {table}; INSERT INTO b VALUES (1, 'old', 1)"),
        )
        .await;
    place
        .run(
            to,
            "CREATE TRIGGER shouts BEFORE UPDATE ON b FOR EACH ROW SET NEW.name = UPPER(NEW.name)",
        )
        .await;
    let (source, target) = ((from, "a"), (to, "b"));
    let repair = Repair::sql().pace(NEVER, NEVER);
    let reconciler = writer(&place, source, target, |map| map, repair).await;

    let error = refused(&reconciler, &name(source, target)).await;

    assert!(
        error.contains("`name`") && !error.contains("`n`"),
        "{error}"
    );
    assert_eq!(place.texts(to, "SELECT name AS v FROM b").await, ["old"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_trigger_says_about_a_row_is_told_nowhere() {
    let place = Place::fresh().await;
    let table = "(id int PRIMARY KEY, name varchar(20))";
    let triggers = [
        (
            Db::Postgres,
            "CREATE FUNCTION refuses() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             RAISE EXCEPTION '% is refused', NEW.name USING ERRCODE = '23514'; END $$; \
             CREATE TRIGGER refuses BEFORE UPDATE ON b FOR EACH ROW EXECUTE FUNCTION refuses()",
        ),
        (
            Db::Maria,
            "CREATE TRIGGER refuses BEFORE UPDATE ON b FOR EACH ROW BEGIN \
             DECLARE why varchar(80) DEFAULT CONCAT('Column of ', NEW.name); \
             SIGNAL SQLSTATE '23000' SET MESSAGE_TEXT = why; END",
        ),
        (
            Db::Sqlite,
            "CREATE TRIGGER refuses BEFORE UPDATE ON b BEGIN SELECT RAISE(ABORT, 'secret is refused'); END",
        ),
    ];
    for (to, trigger) in triggers {
        let from = if to == Db::Postgres {
            Db::Maria
        } else {
            Db::Postgres
        };
        let rows = format!("CREATE TABLE a {table}; INSERT INTO a VALUES (1, 'secret')");
        place.run(from, rows).await;
        let rows = format!("CREATE TABLE b {table}; INSERT INTO b VALUES (1, 'old')");
        place.run(to, rows).await;
        place.run(to, trigger).await;
        let (source, target) = ((from, "a"), (to, "b"));
        let repair = Repair::sql().pace(NEVER, NEVER);
        let reconciler = writer(&place, source, target, |map| map, repair).await;

        let error = refused(&reconciler, &name(source, target)).await;

        assert!(error.contains("a trigger"), "{to:?}: {error}");
        assert!(!error.contains("secret"), "{to:?}: {error}");
        place.run(from, "DROP TABLE a").await;
        place.run(to, "DROP TABLE b").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_column_that_the_target_makes_itself_is_refused_at_once() {
    let place = Place::fresh().await;
    for db in ALL {
        place
            .run(db, "CREATE TABLE a (id int PRIMARY KEY, n int, twice int)")
            .await;
        place.run(db, "CREATE TABLE b (id int PRIMARY KEY, n int, twice int GENERATED ALWAYS AS (n * 2) STORED)").await;
    }
    for to in ALL {
        let (source, target) = ((Db::Postgres, "a"), (to, "b"));
        let reconciler = writer(&place, source, target, |map| map, Repair::sql()).await;

        let error = reconciler.compare(&name(source, target)).await.unwrap_err();

        let error = error.to_string();
        assert!(
            error.contains("`b` in") && error.contains("`twice`") && error.contains("except"),
            "{error}"
        );
        let map = |map: Mapping| map.rest().except(["twice"]);
        let reconciler = writer(
            &place,
            source,
            target,
            map,
            Repair::sql().pace(QUICK, QUICK),
        )
        .await;
        mended(&reconciler, &name(source, target)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_column_that_is_to_have_two_of_the_source_is_refused_at_once() {
    let place = Place::fresh().await;
    let columns = "(id int PRIMARY KEY, n int, m int)";
    for (db, table) in [(Db::Postgres, "a"), (Db::Maria, "b"), (Db::Sqlite, "b")] {
        place
            .run(db, &format!("CREATE TABLE {table} {columns}"))
            .await;
    }
    for to in [Db::Maria, Db::Sqlite] {
        let (source, target) = ((Db::Postgres, "a"), (to, "b"));
        let map = |map: Mapping| map.same(["n"]).column("m", "n");
        let reconciler = writer(&place, source, target, map, Repair::sql()).await;

        let error = reconciler.compare(&name(source, target)).await.unwrap_err();

        let error = error.to_string();
        assert!(error.contains("`b` in") && error.contains("`n`"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_cannot_take_a_write_back_is_refused_at_once() {
    let place = Place::fresh().await;
    let table = "(id int PRIMARY KEY, n int)";
    place
        .run(Db::Postgres, format!("CREATE TABLE a {table}"))
        .await;
    place
        .run(Db::Maria, format!("CREATE TABLE b {table} ENGINE = MyISAM"))
        .await;
    let (source, target) = ((Db::Postgres, "a"), (Db::Maria, "b"));
    let reconciler = writer(&place, source, target, |map| map, Repair::sql()).await;

    let error = reconciler.compare(&name(source, target)).await.unwrap_err();

    let error = error.to_string();
    assert!(
        error.contains("MyISAM") && error.contains("InnoDB"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_the_source_has_not_is_deleted_only_where_that_is_asked_for() {
    let place = Place::fresh().await;
    let table = "(id int PRIMARY KEY, n int)";
    for db in ALL {
        place
            .run(
                db,
                format!("CREATE TABLE a {table}; CREATE TABLE b {table}"),
            )
            .await;
        place
            .run(
                db,
                "INSERT INTO b VALUES (1, 1), (2, 2); INSERT INTO a VALUES (1, 1)",
            )
            .await;
        let (source, target) = ((db, "a"), (db, "b"));
        let repair = Repair::sql().pace(QUICK, QUICK);
        let careful = writer(&place, source, target, |map| map, repair.clone()).await;
        let found = careful
            .compare(&name(source, target))
            .await
            .unwrap()
            .remove(0);
        assert_eq!((found.extra, found.repairs), (1, 0));

        let reconciler = writer(&place, source, target, |map| map, repair.extras(true)).await;
        mended(&reconciler, &name(source, target)).await;
        assert_eq!(place.numbers(db, "SELECT id AS v FROM b").await, [1]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_between_the_write_and_its_record_costs_only_a_look() {
    let place = Place::fresh().await;
    let table = "(id int PRIMARY KEY, n int)";
    for db in ALL {
        place
            .run(
                db,
                format!("CREATE TABLE a {table}; CREATE TABLE b {table}"),
            )
            .await;
        place
            .run(
                db,
                "INSERT INTO a VALUES (1, 1), (2, 2); INSERT INTO b VALUES (1, 0), (3, 3)",
            )
            .await;
    }
    for db in ALL {
        let (source, target) = ((Db::Postgres, "a"), (db, "b"));
        let job = name(source, target);
        let repair = Repair::sql().extras(true).pace(QUICK, QUICK);
        let reconciler = writer(&place, source, target, |map| map, repair).await;
        reconciler.compare(&job).await.unwrap();
        let keep = "CREATE TABLE kept AS SELECT * FROM final_reconcile_repairs";
        place.run(Db::Postgres, keep).await;
        mended(&reconciler, &job).await;

        // The repairs are there as they were, and what they are about is done.
        let again = "INSERT INTO final_reconcile_repairs SELECT * FROM kept; DROP TABLE kept";
        place.run(Db::Postgres, again).await;
        assert_eq!(reconciler.repairs(&job, 10).await.unwrap().len(), 3);
        mended(&reconciler, &job).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_with_a_key_of_null_is_refused() {
    let place = Place::fresh().await;
    for db in ALL {
        place
            .run(
                db,
                "CREATE TABLE a (id int UNIQUE, n int); CREATE TABLE b (id int UNIQUE, n int)",
            )
            .await;
        place
            .run(
                db,
                "INSERT INTO a VALUES (1, 1); INSERT INTO b VALUES (NULL, 7)",
            )
            .await;
        let (source, target) = ((Db::Postgres, "a"), (db, "b"));
        let map = |map: Mapping| map.key("id", "id").same(["n"]);
        let reconciler = writer(&place, source, target, map, Repair::sql().extras(true)).await;

        let error = reconciler.compare(&name(source, target)).await.unwrap_err();

        assert!(
            error.to_string().contains("rows without a key (NULL)"),
            "{error}"
        );
        assert_eq!(place.numbers(db, "SELECT n AS v FROM b").await, [7]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_would_be_written_is_explained_and_nothing_is() {
    let place = Place::fresh().await;
    for db in ALL {
        place.run(db, "CREATE TABLE a (id int PRIMARY KEY, n int); INSERT INTO a VALUES (1, 1); CREATE TABLE b (id int PRIMARY KEY, n int)").await;
        let job = Job::new("explained")
            .source(place.side(db, "a"))
            .target(place.side(db, "b"), |map| map)
            .repair(Repair::sql());
        let explained = job.explain().await.unwrap().to_string();
        for part in ["INSERT INTO", "UPDATE", "DELETE FROM"] {
            assert!(explained.contains(part), "{explained}");
        }
        assert!(place.numbers(db, "SELECT n AS v FROM b").await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_several_columns_and_of_texts_and_bytes_find_their_rows() {
    let place = Place::fresh().await;
    let tables = [
        (
            Db::Postgres,
            "(day date, code varchar(20) COLLATE \"C\", tag bytea, uid uuid, n int, PRIMARY KEY (day, code, tag, uid))",
        ),
        (
            Db::Maria,
            "(day date, code varchar(20) COLLATE utf8mb4_bin, tag varbinary(20), uid char(36), n int, PRIMARY KEY (day, code, tag, uid))",
        ),
    ];
    let row = |db, code: &str, n| {
        let tag = if db == Db::Postgres {
            "'\\x00ff'"
        } else {
            "X'00ff'"
        };
        format!("('2024-02-29', '{code}', {tag}, '00112233-4455-6677-8899-aabbccddeeff', {n})")
    };
    for (db, table) in tables {
        place
            .run(
                db,
                format!("CREATE TABLE a {table}; CREATE TABLE b {table}"),
            )
            .await;
        let rows = [row(db, "ann", 1), row(db, "Ann", 2), row(db, "a;1:~", 3)];
        place
            .run(db, format!("INSERT INTO a VALUES {}", rows.join(", ")))
            .await;
        place
            .run(
                db,
                format!(
                    "INSERT INTO b VALUES {}, {}",
                    row(db, "ann", 9),
                    row(db, "old", 9)
                ),
            )
            .await;
    }
    for (from, to) in [(Db::Postgres, Db::Maria), (Db::Maria, Db::Postgres)] {
        let (source, target) = ((from, "a"), (to, "b"));
        let repair = Repair::sql().extras(true).pace(QUICK, QUICK);
        let reconciler = writer(&place, source, target, |map| map, repair).await;
        mended(&reconciler, &name(source, target)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_the_target_counts_as_another_one_changes_no_other_row() {
    let place = Place::fresh().await;
    place.run(Db::Postgres, "CREATE TABLE a (code varchar(20) PRIMARY KEY, n int); INSERT INTO a VALUES ('ann', 1), ('Ann', 2)").await;
    place.run(Db::Maria, "CREATE TABLE b (code varchar(20) COLLATE utf8mb4_general_ci PRIMARY KEY, n int); INSERT INTO b VALUES ('Ann', 2)").await;
    let (source, target) = ((Db::Postgres, "a"), (Db::Maria, "b"));
    let repair = Repair::sql().pace(NEVER, NEVER);
    let reconciler = writer(&place, source, target, |map| map, repair).await;

    let error = refused(&reconciler, &name(source, target)).await;

    assert!(error.contains("unique key"), "{error}");
    let rows = place
        .texts(Db::Maria, "SELECT concat(code, n) AS v FROM b")
        .await;
    assert_eq!(rows, ["Ann2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_changes_all_the_time_is_written_as_it_is_in_the_end() {
    let place = Place::fresh().await;
    let table = "(id int PRIMARY KEY, n bigint)";
    place
        .run(
            Db::Postgres,
            format!(
                "CREATE TABLE a {table}; INSERT INTO a SELECT g, 0 FROM generate_series(1, 40) g"
            ),
        )
        .await;
    place
        .run(Db::Maria, format!("CREATE TABLE b {table}"))
        .await;
    let (source, target) = ((Db::Postgres, "a"), (Db::Maria, "b"));
    let job = name(source, target);
    let repair = Repair::sql().pace(QUICK, QUICK);
    let reconciler = writer(&place, source, target, |map| map, repair).await;
    reconciler.compare(&job).await.unwrap();
    let running = reconciler.start().unwrap();
    let writes = async {
        for round in 1..200 {
            place
                .run(Db::Postgres, format!("UPDATE a SET n = {round}"))
                .await;
        }
    };
    writes.await;
    running.shutdown().await;
    mended(&reconciler, &job).await;
}

/// A UUID in neither small letters nor capitals, in each of these kinds of text.
const ODD: &str = "6F9619FF-8b86-d011-b42d-00cf4fc964ff";
const TEXTS: [(Db, &str); 4] = [
    (Db::Postgres, "text"),
    (Db::Maria, "varchar(40) COLLATE utf8mb4_bin"),
    (Db::Maria, "varchar(40) COLLATE utf8mb4_general_ci"),
    (Db::Sqlite, "TEXT NOT NULL"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_of_the_source_is_found_however_its_uuid_is_written() {
    let place = Place::fresh().await;
    for (db, text) in TEXTS {
        place.run(db, "DROP TABLE IF EXISTS a").await;
        place.run(db, format!("CREATE TABLE a (id {text} PRIMARY KEY, n int); INSERT INTO a VALUES ('{ODD}', 1)")).await;
        place.run(Db::Postgres, format!("DROP TABLE IF EXISTS b; CREATE TABLE b (id uuid PRIMARY KEY, n int); INSERT INTO b VALUES ('{ODD}', 2)")).await;
        let (source, target) = ((db, "a"), (Db::Postgres, "b"));
        let repair = Repair::sql().extras(true).pace(QUICK, QUICK);
        let reconciler = writer(&place, source, target, |map| map, repair).await;

        let found = reconciler.compare(&name(source, target)).await.unwrap();
        let found = &found[0];
        let counts = (found.missing, found.different, found.extra);
        assert_eq!(counts, (0, 1, 0), "{db:?} {text}: {found:?}");
        mended(&reconciler, &name(source, target)).await;

        let left = place.numbers(Db::Postgres, "SELECT n AS v FROM b").await;
        assert_eq!(left, [1], "{db:?} {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_of_the_target_is_not_written_twice_however_its_uuid_is_written() {
    let place = Place::fresh().await;
    for (db, text) in TEXTS {
        if text.ends_with("_ci") {
            continue;
        }
        place.run(db, "DROP TABLE IF EXISTS b").await;
        place.run(db, format!("CREATE TABLE b (id {text} PRIMARY KEY, n int); INSERT INTO b VALUES ('{ODD}', 2)")).await;
        place.run(Db::Postgres, format!("DROP TABLE IF EXISTS a; CREATE TABLE a (id uuid PRIMARY KEY, n int); INSERT INTO a VALUES ('{ODD}', 1)")).await;
        let (source, target) = ((Db::Postgres, "a"), (db, "b"));
        let repair = Repair::sql().pace(NEVER, NEVER);
        let reconciler = writer(&place, source, target, |map| map, repair).await;

        let error = refused(&reconciler, &name(source, target)).await;

        assert!(error.contains("in one way"), "{db:?}: {error}");
        let left = place.numbers(db, "SELECT n AS v FROM b").await;
        assert_eq!(left, [2], "{db:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_with_the_key_zero_is_written_where_keys_are_counted() {
    let place = Place::fresh().await;
    let table = "(id int PRIMARY KEY AUTO_INCREMENT, n int)";
    let a = "CREATE TABLE a (id int PRIMARY KEY, n int); INSERT INTO a VALUES (0, 1), (1, 1)";
    place.run(Db::Postgres, a).await;
    place
        .run(Db::Maria, format!("CREATE TABLE b {table}"))
        .await;
    let (source, target) = ((Db::Postgres, "a"), (Db::Maria, "b"));
    let repair = Repair::sql().pace(QUICK, QUICK);
    let reconciler = writer(&place, source, target, |map| map, repair).await;

    mended(&reconciler, &name(source, target)).await;

    let ids = place.numbers(Db::Maria, "SELECT id AS v FROM b").await;
    assert_eq!(ids, [0, 1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_the_source_deletes_right_before_the_commit_does_not_stay_in_the_target() {
    let place = Place::fresh().await;
    let table = "(id int PRIMARY KEY, n int)";
    let a = format!("CREATE TABLE a {table}; INSERT INTO a VALUES (1, 1)");
    place.run(Db::Postgres, a).await;
    for db in ALL {
        place.run(db, format!("CREATE TABLE b {table}")).await;
        let (source, target) = ((Db::Postgres, "a"), (db, "b"));
        let job = name(source, target);
        let repair = || Repair::sql().pace(QUICK, QUICK);
        let finder = writer(&place, source, target, |map| map, repair()).await;
        finder.compare(&job).await.unwrap();
        // The copy has time to follow.
        let slow = Job::new(&job)
            .source(place.side(source.0, source.1))
            .target(place.side(target.0, target.1), |map| map)
            .settle(Duration::from_secs(5))
            .repair(repair());
        let reconciler = Reconciler::new(&place.postgres).job(slow).unwrap();
        let running = reconciler.start().unwrap();
        let there = "SELECT n AS v FROM b";
        let are = async |rows: &[i64]| {
            eventually(&format!("{rows:?} are there"), SOON, async || {
                let now = place.numbers(db, there).await;
                match now == rows {
                    true => Ok(()),
                    false => Err(format!("{now:?}")),
                }
            })
            .await;
        };
        are(&[1]).await;

        // The copy has deleted it before it was inserted here.
        place.run(Db::Postgres, "DELETE FROM a").await;

        are(&[]).await;
        eventually("nothing is open", SOON, async || {
            let open = reconciler.repairs(&job, 5).await.unwrap();
            match open.is_empty() {
                true => Ok(()),
                false => Err(format!("{open:#?}")),
            }
        })
        .await;
        running.shutdown().await;
        place.run(Db::Postgres, "INSERT INTO a VALUES (1, 1)").await;
        if db == Db::Postgres {
            place.run(db, "DROP TABLE b").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_ends_a_session_that_stands_still_while_it_has_a_row() {
    let place = Place::fresh().await;
    let table = "(id int PRIMARY KEY)";
    let seen = "CREATE TABLE seen (v varchar(20))";
    place
        .run(
            Db::Postgres,
            format!("CREATE TABLE a {table}; INSERT INTO a VALUES (1)"),
        )
        .await;
    for db in [Db::Postgres, Db::Maria] {
        place
            .run(db, format!("CREATE TABLE b {table}; {seen}"))
            .await;
    }
    place.run(Db::Postgres, "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO seen VALUES (current_setting('idle_in_transaction_session_timeout')); RETURN NEW; END $$; CREATE TRIGGER notes AFTER INSERT ON b FOR EACH ROW EXECUTE FUNCTION note()").await;
    place.run(Db::Maria, "CREATE TRIGGER notes AFTER INSERT ON b FOR EACH ROW INSERT INTO seen VALUES (CONCAT(@@wait_timeout, ' ', @@idle_transaction_timeout))").await;
    for (db, limits) in [(Db::Postgres, "2min"), (Db::Maria, "120 120")] {
        let (source, target) = ((Db::Postgres, "a"), (db, "b"));
        let repair = Repair::sql().pace(QUICK, QUICK);
        let reconciler = writer(&place, source, target, |map| map, repair).await;
        mended(&reconciler, &name(source, target)).await;
        assert_eq!(place.texts(db, "SELECT v FROM seen").await, [limits]);
    }
}
