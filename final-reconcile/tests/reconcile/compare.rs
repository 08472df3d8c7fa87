//! What a comparison finds, and what it moves over the wire.

use std::time::Duration;

use final_reconcile::{Comparison, DifferenceKind, Job, Side};
use final_tests::proxy::Proxy;
use sqlx::{MySqlPool, PgPool};

use crate::place::{ALL, Db, Place};

/// A table of so many rows, made by the database itself.
async fn numbers(place: &Place, db: Db, table: &str, rows: u32) {
    let create = format!(
        "CREATE TABLE {table} (id bigint PRIMARY KEY, name varchar(40) NOT NULL, amount int);"
    );
    let series = match db {
        Db::Postgres => format!("SELECT n, 'row ' || n, n % 7 FROM generate_series(1, {rows}) n"),
        Db::Maria => format!("SELECT seq, CONCAT('row ', seq), seq % 7 FROM seq_1_to_{rows}"),
        Db::Sqlite => format!(
            "WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {rows}) \
             SELECT n, 'row ' || n, n % 7 FROM s"
        ),
    };
    place
        .run(db, format!("{create} INSERT INTO {table} {series};"))
        .await;
}

async fn compared(place: &Place, from: Db, to: Db) -> Comparison {
    let job = Job::new("numbers")
        .source(place.side(from, "a"))
        .target(place.side(to, "b"), |map| map)
        .settle(Duration::ZERO);
    job.compare().await.unwrap().remove(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_tables_are_proved_equal_by_digests_alone() {
    let place = Place::fresh().await;
    for db in ALL {
        numbers(&place, db, "a", 5_000).await;
        numbers(&place, db, "b", 5_000).await;
    }
    for from in ALL {
        for to in ALL {
            let comparison = compared(&place, from, to).await;
            assert!(
                comparison.is_equal(),
                "{from:?} with {to:?}: {comparison:?}"
            );
            assert_eq!(comparison.rows, 5_000, "{from:?} with {to:?}");
            assert!(comparison.chunks > 1, "{comparison:?}");
            assert_eq!(comparison.differing_chunks, 0, "{from:?} with {to:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_difference_is_found_and_named_wherever_it_stands() {
    let place = Place::fresh().await;
    for db in ALL {
        numbers(&place, db, "a", 5_000).await;
        numbers(&place, db, "b", 5_000).await;
        let planted = "DELETE FROM b WHERE id IN (1, 2500); UPDATE b SET name = 'ROW 3' WHERE id = 3; \
            UPDATE b SET amount = NULL WHERE id = 5000; INSERT INTO b VALUES (0, 'x', 1), (5001, 'y', 2);";
        place.run(db, planted).await;
    }
    for from in ALL {
        for to in ALL {
            let comparison = compared(&place, from, to).await;
            let counts = (comparison.missing, comparison.different, comparison.extra);
            assert_eq!(counts, (2, 2, 2), "{from:?} with {to:?}: {comparison:?}");
            let of = |kind| {
                let all = comparison
                    .examples
                    .iter()
                    .filter(move |example| example.kind == kind);
                let mut all: Vec<i64> = all
                    .map(|example| example.key[0].1.parse().unwrap())
                    .collect();
                all.sort_unstable();
                all
            };
            assert_eq!(of(DifferenceKind::Missing), [1, 2500]);
            assert_eq!(of(DifferenceKind::Extra), [0, 5001]);
            assert_eq!(of(DifferenceKind::Different), [3, 5000]);
            let lines: Vec<String> = comparison
                .examples
                .iter()
                .map(ToString::to_string)
                .collect();
            assert!(
                lines.contains(&"different: id 3: name".to_owned()),
                "{lines:?}"
            );
            assert!(
                lines.contains(&"different: id 5000: amount".to_owned()),
                "{lines:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_side_is_all_missing_or_all_extra() {
    let place = Place::fresh().await;
    for db in ALL {
        numbers(&place, db, "filled", 7_000).await;
        place
            .run(
                db,
                "CREATE TABLE empty (id bigint PRIMARY KEY, name varchar(40) NOT NULL, amount int)",
            )
            .await;
    }
    for db in ALL {
        for (from, to, counts) in [
            ("filled", "empty", (7_000, 0)),
            ("empty", "filled", (0, 7_000)),
            ("empty", "empty", (0, 0)),
        ] {
            let job = Job::new("empty")
                .source(place.side(db, from))
                .target(place.side(db, to), |map| map)
                .settle(Duration::ZERO);
            let comparison = job.compare().await.unwrap().remove(0);
            assert_eq!(
                (comparison.missing, comparison.extra),
                counts,
                "{db:?} {from} {to}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_are_too_long_for_a_digest_are_compared_all_the_same() {
    let place = Place::fresh().await;
    for table in ["a", "b"] {
        place
            .run(
                Db::Maria,
                format!("CREATE TABLE {table} (id int PRIMARY KEY, body longtext)"),
            )
            .await;
        place
            .run(
                Db::Postgres,
                format!("CREATE TABLE {table} (id int PRIMARY KEY, body text)"),
            )
            .await;
        // Together they are longer than GROUP_CONCAT may be; the difference is at the very end.
        for id in 1..=10 {
            let end = if table == "b" && id == 10 { "y" } else { "x" };
            let row =
                format!("INSERT INTO {table} VALUES ({id}, CONCAT(REPEAT('a', 2000000), '{end}'))");
            place.run(Db::Maria, row.clone()).await;
            place.run(Db::Postgres, row).await;
        }
    }
    for (from, to) in [
        (Db::Maria, Db::Postgres),
        (Db::Postgres, Db::Maria),
        (Db::Maria, Db::Maria),
    ] {
        let comparison = compared(&place, from, to).await;
        assert_eq!(
            comparison.differences(),
            1,
            "{from:?} with {to:?}: {comparison:?}"
        );
        assert_eq!(comparison.examples[0].key[0].1, "10");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn explaining_touches_no_row() {
    let place = Place::fresh().await;
    numbers(&place, Db::Postgres, "a", 10).await;
    numbers(&place, Db::Maria, "b", 10).await;
    let mut holder = place.postgres.begin().await.unwrap();
    sqlx::query("LOCK TABLE a IN ACCESS EXCLUSIVE MODE")
        .execute(&mut *holder)
        .await
        .unwrap();
    let job = Job::new("numbers")
        .source(place.side(Db::Postgres, "a"))
        .target(place.side(Db::Maria, "b"), |map| map);

    // A statement that reads the table would wait for the lock.
    let explanation = job.explain().await.unwrap();

    let text = explanation.to_string();
    assert!(
        text.contains("amount integer = amount int(11): whole number"),
        "{text}"
    );
    assert!(
        text.contains("name character varying(40) = name varchar(40): text"),
        "{text}"
    );
    assert!(
        text.contains("id bigint = id bigint(20): whole number (key)"),
        "{text}"
    );
    assert!(
        text.contains("string_agg") && text.contains("GROUP_CONCAT"),
        "{text}"
    );
    holder.rollback().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_equal_rows_hardly_a_byte_comes_over_the_wire() {
    let place = Place::fresh().await;
    for db in [Db::Postgres, Db::Maria] {
        numbers(&place, db, "few", 10).await;
        numbers(&place, db, "many", 150_000).await;
    }
    let postgres = Proxy::to(&place.postgres_url).await.unwrap();
    let mariadb = Proxy::to(&place.mariadb_url).await.unwrap();
    let from = PgPool::connect_lazy(&postgres.url(&place.postgres_url)).unwrap();
    let to = MySqlPool::connect_lazy(&mariadb.url(&place.mariadb_url)).unwrap();
    // The sides keep their connections, and with them the statements that are prepared.
    let job = |table: &str| {
        Job::new("wire")
            .source(Side::postgres(from.clone(), table))
            .target(Side::mysql(to.clone(), table), |map| map)
    };
    let (few, many) = (job("few"), job("many"));
    let carried = async |job: &Job| {
        let before = [postgres.carried(), mariadb.carried()];
        let comparison = job.compare().await.unwrap().remove(0);
        assert!(
            comparison.is_equal() && comparison.differing_chunks == 0,
            "{comparison:?}"
        );
        let after = [postgres.carried(), mariadb.carried()];
        (
            comparison.chunks,
            [after[0] - before[0], after[1] - before[1]],
        )
    };
    // What a comparison costs once. In the first runs the statements are prepared.
    let mut of_few = [u64::MAX; 2];
    let mut few_chunks = 0;
    for _ in 0..8 {
        let (chunks, bytes) = carried(&few).await;
        few_chunks = chunks;
        of_few = [of_few[0].min(bytes[0]), of_few[1].min(bytes[1])];
    }
    let mut least = [u64::MAX; 2];
    // Each connection prepares a statement once for each size of a chunk. A slow machine may come to another size at any
    // time, so what counts is the run in which none was prepared.
    for _ in 0..40 {
        let (chunks, of_many) = carried(&many).await;
        for ((least, few), many) in least.iter_mut().zip(of_few).zip(of_many) {
            *least = (*least).min(many.saturating_sub(few) / (chunks - few_chunks));
        }
        println!("{least:?} bytes for each of {chunks} chunks");
        if least.iter().all(|bytes| *bytes < 100) {
            return;
        }
    }
    panic!("{least:?} bytes for a chunk of each side");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chunk_that_is_too_large_for_its_server_is_halved_and_not_read_row_by_row() {
    let place = Place::fresh().await;
    let most: i64 = sqlx::query_scalar("SELECT CAST(@@max_allowed_packet AS SIGNED)")
        .fetch_one(&place.mariadb)
        .await
        .unwrap();
    // The first chunk of a thousand rows would be more than twice as large as the server can put together.
    let length = most / 400;
    for table in ["a", "b"] {
        place
            .run(
                Db::Maria,
                format!("CREATE TABLE {table} (id int PRIMARY KEY, v mediumtext)"),
            )
            .await;
        place
            .run(
                Db::Maria,
                format!("INSERT INTO {table} SELECT seq, REPEAT('a', {length}) FROM seq_1_to_1100"),
            )
            .await;
    }
    let job = Job::new("large")
        .source(place.side(Db::Maria, "a"))
        .target(place.side(Db::Maria, "b"), |map| map)
        .settle(Duration::ZERO);
    let comparison = job.compare().await.unwrap().remove(0);
    assert_eq!(
        (comparison.rows, comparison.differing_chunks),
        (1_100, 0),
        "{comparison:?}"
    );
}
