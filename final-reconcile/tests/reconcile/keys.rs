//! Keys of every kind.

use std::time::Duration;

use final_reconcile::{Job, Mapping};

use crate::place::{ALL, Db, Place};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_column_is_found_whatever_its_case_is_where_the_server_does_so() {
    let place = Place::fresh().await;
    for db in [Db::Maria, Db::Sqlite] {
        place.run(db, "CREATE TABLE a (Id int PRIMARY KEY, Name varchar(9), Note int); INSERT INTO a VALUES (1, 'x', 1)").await;
        place.run(db, "CREATE TABLE b (ID int PRIMARY KEY, NAME varchar(9), note int); INSERT INTO b VALUES (1, 'y', 2)").await;
        let compared = async |map: fn(Mapping) -> Mapping| {
            let job = Job::new("case")
                .source(place.side(db, "a"))
                .target(place.side(db, "b"), map)
                .settle(Duration::ZERO);
            let comparison = job.compare().await.unwrap().remove(0);
            let columns = comparison.examples[0].columns.iter();
            columns
                .map(|column| column.name.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(compared(|map| map).await, ["Name", "Note"], "{db:?}");
        let named = compared(|map| map.key("id", "id").same(["name"])).await;
        assert_eq!(named, ["Name"], "{db:?}");
        let rest = compared(|map| map.column("NOTE", "Note").rest().except(["nAmE"])).await;
        assert_eq!(rest, ["Note"], "{db:?}");
    }
}

/// Makes the same rows on both sides; three are planted in the target. Every pair of databases finds them.
async fn all_are_found(
    types: [&str; 3],
    key: &str,
    rows: impl Fn(Db, u32) -> String,
    expected_walk: Option<&str>,
) {
    let place = Place::fresh().await;
    for (at, db) in ALL.into_iter().enumerate() {
        for table in ["a", "b"] {
            place
                .run(
                    db,
                    format!(
                        "CREATE TABLE {table} ({}, v int NOT NULL, PRIMARY KEY ({key}))",
                        types[at]
                    ),
                )
                .await;
            let planted = |n: u32| table == "b" && n == 700;
            let all: Vec<String> = (1..=1_500)
                .filter(|n| !(table == "b" && *n == 3 || table == "a" && *n == 1_400))
                .map(|n| format!("({}, {})", rows(db, n), if planted(n) { 0 } else { n }))
                .collect();
            place
                .run(db, format!("INSERT INTO {table} VALUES {}", all.join(", ")))
                .await;
        }
    }
    for from in ALL {
        for to in ALL {
            let job = Job::new("keys")
                .source(place.side(from, "a"))
                .target(place.side(to, "b"), |map| map)
                .settle(Duration::ZERO);
            let walk = job.explain().await.unwrap().targets.remove(0).walk;
            if let Some(expected) = expected_walk {
                assert!(walk.starts_with(expected), "{from:?} with {to:?}: {walk}");
            }
            let comparison = job.compare().await.unwrap().remove(0);
            let counts = (comparison.missing, comparison.different, comparison.extra);
            assert_eq!(
                counts,
                (1, 1, 1),
                "{from:?} with {to:?} {walk}: {comparison:?}"
            );
            // Where the order only looks the same, rows are in other ranges, and are looked up.
            let is_exact = expected_walk.is_some() || walk.starts_with("by buckets");
            assert!(
                comparison.healed == 0 || !is_exact,
                "{from:?} with {to:?} {walk}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_several_columns() {
    let types = [
        "shop int, code varchar(20) COLLATE \"C\", n bigint",
        "shop int, code varchar(20) COLLATE utf8mb4_bin, n bigint",
        "shop INT NOT NULL, code TEXT NOT NULL, n BIGINT NOT NULL",
    ];
    let row = |_, n: u32| format!("{}, 'c{}', {n}", n % 3, n % 10);
    all_are_found(types, "shop, code, n", row, Some("range by range")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_text_that_each_side_orders_in_its_own_way() {
    let types = [
        "code text COLLATE \"en-x-icu\"",
        "code varchar(20) COLLATE utf8mb4_general_ci",
        "code TEXT NOT NULL",
    ];
    // Upper and lower case, and signs that collations pass over.
    let row = |_, n: u32| {
        format!(
            "'{}-{:04}{}'",
            if n.is_multiple_of(2) { 'A' } else { 'b' },
            n,
            ["é", "_", ""][n as usize % 3]
        )
    };
    all_are_found(types, "code", row, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_uuids() {
    let types = ["id uuid", "id binary(16)", "id BLOB NOT NULL"];
    let row = |db, n: u32| {
        let id = uuid::Uuid::from_u128(
            u128::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835),
        );
        match db {
            Db::Postgres => format!("'{id}'"),
            _ => format!("X'{}'", id.simple()),
        }
    };
    all_are_found(types, "id", row, Some("range by range")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_uuids_as_texts_is_found_however_it_is_written() {
    let types = ["id uuid", "id char(36)", "id TEXT NOT NULL"];
    let row = |db, n: u32| {
        let id = uuid::Uuid::from_u128(
            u128::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835),
        );
        match (db, n % 2) {
            (Db::Postgres, _) => format!("'{id}'"),
            (_, 0) => format!("'{id}'"),
            (Db::Maria, _) => format!("'{}'", id.to_string().to_uppercase()),
            // Text against text is compared as it is written.
            (Db::Sqlite, _) => format!("'{}'", id.to_string().to_uppercase()),
        }
    };
    all_are_found(types, "id", row, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_bytes() {
    let types = ["id bytea", "id varbinary(20)", "id BLOB NOT NULL"];
    let row = |db, n: u32| {
        let hex = format!("{:02x}{n:08x}", n % 256);
        match db {
            Db::Postgres => format!("'\\x{hex}'"),
            _ => format!("X'{hex}'"),
        }
    };
    all_are_found(types, "id", row, Some("range by range")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unique_index_is_a_key_and_columns_have_other_names() {
    let place = Place::fresh().await;
    place.run(Db::Maria, "CREATE TABLE user (id int PRIMARY KEY, mail varchar(40) COLLATE utf8mb4_bin NOT NULL UNIQUE, name text)").await;
    place
        .run(
            Db::Maria,
            "INSERT INTO user VALUES (1, 'ann@x', 'Ann'), (2, 'bob@x', 'Bob')",
        )
        .await;
    place.run(Db::Postgres, "CREATE SCHEMA web; CREATE TABLE web.\"userCopy\" (address text COLLATE \"C\" NOT NULL UNIQUE, called text)").await;
    place
        .run(
            Db::Postgres,
            "INSERT INTO web.\"userCopy\" VALUES ('ann@x', 'Ann'), ('bob@x', 'Rob')",
        )
        .await;
    let map = |map: Mapping| map.key("mail", "address").column("name", "called");
    let job = Job::new("users")
        .source(place.side(Db::Maria, "user"))
        .target(place.side(Db::Postgres, "web.userCopy"), map)
        .settle(Duration::ZERO);

    let comparison = job.compare().await.unwrap().remove(0);

    assert_eq!(
        comparison.examples[0].to_string(),
        "different: mail bob@x: name"
    );
    assert_eq!(comparison.differences(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_row_is_passed_over_however_uuids_are_written_as_texts() {
    let place = Place::fresh().await;
    const ROWS: u32 = 20_000;
    place
        .run(
            Db::Postgres,
            format!("CREATE TABLE b (id uuid PRIMARY KEY); INSERT INTO b SELECT md5(n::text)::uuid FROM generate_series(1, {ROWS}) n"),
        )
        .await;
    // Capital letters have another place than small ones, and so have digits without dashes.
    let dashed = "CONCAT_WS('-', LEFT(d, 8), SUBSTR(d, 9, 4), SUBSTR(d, 13, 4), SUBSTR(d, 17, 4), SUBSTR(d, 21))";
    let ways = [
        ("char(36) COLLATE utf8mb4_bin", dashed.to_owned(), true),
        (
            "char(36) COLLATE utf8mb4_bin",
            format!("UPPER({dashed})"),
            false,
        ),
        (
            "char(36) COLLATE utf8mb4_general_ci",
            format!("UPPER({dashed})"),
            true,
        ),
        ("char(32) COLLATE utf8mb4_bin", "d".to_owned(), false),
        ("char(32) COLLATE utf8mb4_bin", "UPPER(d)".to_owned(), false),
    ];
    for (column, written, is_in_ranges) in ways {
        place
            .run(
                Db::Maria,
                format!("CREATE OR REPLACE TABLE a (id {column} PRIMARY KEY)"),
            )
            .await;
        place
            .run(
                Db::Maria,
                format!("INSERT INTO a SELECT {written} FROM (SELECT MD5(seq) AS d FROM seq_1_to_{ROWS}) s"),
            )
            .await;
        // The last row in every order.
        place
            .run(
                Db::Postgres,
                "DELETE FROM b WHERE id = (SELECT id FROM b ORDER BY id DESC LIMIT 1)",
            )
            .await;
        let compared = async |from: (Db, &str), to: (Db, &str)| {
            let job = Job::new("keys")
                .source(place.side(from.0, from.1))
                .target(place.side(to.0, to.1), |map| map)
                .settle(Duration::ZERO);
            job.compare().await.unwrap().remove(0)
        };
        let found = compared((Db::Maria, "a"), (Db::Postgres, "b")).await;
        let back = compared((Db::Postgres, "b"), (Db::Maria, "a")).await;
        let shown = format!("{column} {written}: {found:?}, {back:?}");
        assert_eq!(found.missing, found.differences(), "{shown}");
        assert_eq!((back.extra, back.healed), (found.missing, 0), "{shown}");
        assert!(found.missing > 0 && found.healed == 0, "{shown}");
        assert_eq!(found.rows, u64::from(ROWS), "{shown}");
        assert_eq!(found.chunks <= 100, is_in_ranges, "{shown}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_the_other_side_cannot_hold_is_a_row_that_it_lacks() {
    let place = Place::fresh().await;
    let whole = "18446744073709551615";
    let cases = [
        (
            Db::Postgres,
            "bigint",
            "3000000000",
            Db::Postgres,
            "integer",
            "7",
        ),
        (
            Db::Postgres,
            "bigint",
            "-40000",
            Db::Postgres,
            "smallint",
            "7",
        ),
        (
            Db::Maria,
            "bigint unsigned",
            whole,
            Db::Postgres,
            "bigint",
            "7",
        ),
        (
            Db::Maria,
            "bigint unsigned",
            whole,
            Db::Sqlite,
            "INTEGER NOT NULL",
            "7",
        ),
        (
            Db::Postgres,
            "bigint",
            "-1",
            Db::Maria,
            "bigint unsigned",
            "7",
        ),
        (
            Db::Postgres,
            "text",
            "'test'",
            Db::Postgres,
            "uuid",
            "'00112233-4455-6677-8899-aabbccddeeff'",
        ),
        (
            Db::Maria,
            "varchar(36) COLLATE utf8mb4_bin",
            "'test'",
            Db::Postgres,
            "uuid",
            "'00112233-4455-6677-8899-aabbccddeeff'",
        ),
        (
            Db::Maria,
            "date",
            "'9999-12-31'",
            Db::Postgres,
            "date",
            "'2024-02-29'",
        ),
    ];
    for (from, wide, only, to, narrow, both) in cases {
        for (db, table, key, rows) in [
            (from, "a", wide, format!("({both}, 1), ({only}, 2)")),
            (to, "b", narrow, format!("({both}, 3)")),
        ] {
            place.run(db, format!("DROP TABLE IF EXISTS {table}")).await;
            place
                .run(
                    db,
                    format!("CREATE TABLE {table} (id {key} PRIMARY KEY, n int); INSERT INTO {table} VALUES {rows}"),
                )
                .await;
        }
        let counts = async |from: (Db, &str), to: (Db, &str)| {
            let job = Job::new("keys")
                .source(place.side(from.0, from.1))
                .target(place.side(to.0, to.1), |map| map)
                .settle(Duration::ZERO);
            let found = job.compare().await;
            let found = found
                .unwrap_or_else(|error| panic!("{wide} with {narrow}: {error:?}"))
                .remove(0);
            (found.missing, found.different, found.extra)
        };
        let shown = format!("{from:?} {wide} {only} with {to:?} {narrow}");
        assert_eq!(counts((from, "a"), (to, "b")).await, (1, 1, 0), "{shown}");
        assert_eq!(counts((to, "b"), (from, "a")).await, (0, 1, 1), "{shown}");
    }
}
