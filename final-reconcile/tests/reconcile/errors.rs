//! What cannot be compared is refused by name, before a row is touched.

use std::time::Duration;

use final_reconcile::{Job, Mapped, Mapping};

use crate::place::{Db, Place};

async fn error(
    place: &Place,
    source: (Db, &str),
    target: (Db, &str),
    map: impl FnOnce(Mapping) -> Mapping,
) -> String {
    let job = Job::new("bad")
        .source(place.side(source.0, source.1))
        .target(place.side(target.0, target.1), map)
        .settle(Duration::ZERO);
    job.compare().await.unwrap_err().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_cannot_work_says_what_is_wrong_with_which_column() {
    let place = Place::fresh().await;
    for db in [Db::Postgres, Db::Maria] {
        place
            .run(
                db,
                "CREATE TABLE t (id int PRIMARY KEY, code varchar(20), big text, v int)",
            )
            .await;
        place
            .run(
                db,
                "CREATE TABLE loose (id int, code varchar(20), big text, v int)",
            )
            .await;
        place
            .run(
                db,
                "CREATE TABLE maybe (id int UNIQUE, code varchar(20), big text, v int)",
            )
            .await;
        place
            .run(db, "INSERT INTO maybe (id) VALUES (1), (NULL)")
            .await;
        place.run(db, "CREATE TABLE more (id int PRIMARY KEY, code varchar(20), big text, v int, note text)").await;
    }
    place
        .run(
            Db::Postgres,
            "CREATE TABLE odd (id int PRIMARY KEY, v int4range)",
        )
        .await;
    place
        .run(
            Db::Maria,
            "CREATE TABLE partly (id int, code varchar(20), UNIQUE KEY begins (code(3)))",
        )
        .await;
    let (pg, my) = (Db::Postgres, Db::Maria);
    let same = |map: Mapping| map;
    let cases = [
        (
            error(&place, (pg, "nothing"), (my, "t"), same).await,
            vec!["no table `nothing` in PostgreSQL"],
        ),
        (
            error(&place, (pg, "t"), (my, "nothing"), same).await,
            vec!["no table `nothing` in MySQL"],
        ),
        (
            error(&place, (pg, "t"), (my, "loose"), same).await,
            vec![
                "`loose` in MySQL",
                "(id)",
                "no unique index",
                "create a unique index",
            ],
        ),
        (
            error(&place, (pg, "loose"), (my, "t"), same).await,
            vec!["`loose` in PostgreSQL", "no primary key"],
        ),
        (
            error(&place, (pg, "t"), (my, "t"), |map| map.key("code", "code")).await,
            vec!["(code)", "t_pkey", "(id)"],
        ),
        (
            error(&place, (pg, "t"), (my, "maybe"), same).await,
            vec!["`maybe` in MySQL", "rows without a key"],
        ),
        (
            error(&place, (pg, "maybe"), (my, "t"), |map| map.key("id", "id")).await,
            vec!["`maybe` in PostgreSQL", "rows without a key"],
        ),
        (
            error(&place, (pg, "t"), (my, "more"), same).await,
            vec!["`t` in PostgreSQL", "no column `note`", "except"],
        ),
        (
            error(&place, (pg, "more"), (my, "t"), same).await,
            vec!["`t` in MySQL", "no column `note`"],
        ),
        (
            error(&place, (pg, "t"), (my, "t"), |map| map.same(["V"])).await,
            vec!["no column `V`", "did you mean `v`"],
        ),
        (
            error(&place, (pg, "t"), (my, "t"), |map| map.column("v", "code")).await,
            vec![
                "`v` (integer)",
                "`code` (varchar(20))",
                "no common form",
                "rule",
            ],
        ),
        (
            error(&place, (pg, "odd"), (my, "t"), |map| map.same(["v"])).await,
            vec!["`v` (int4range)", "`v` (int(11))"],
        ),
        (
            error(&place, (pg, "t"), (my, "t"), |map| {
                map.column("code", Mapped::to("code").decimal(2))
            })
            .await,
            vec!["`code`", "numbers"],
        ),
        (
            error(&place, (my, "partly"), (pg, "t"), |map| {
                map.key("code", "code")
            })
            .await,
            vec!["`partly`", "no unique index"],
        ),
    ];
    for (error, parts) in cases {
        for part in parts {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert!(!error.contains("postgres:"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_away_is_an_error_with_its_place() {
    let place = Place::fresh().await;
    place
        .run(Db::Sqlite, "CREATE TABLE t (id INTEGER PRIMARY KEY)")
        .await;
    let away = sqlx::PgPool::connect_lazy("postgres://ops:secret@127.0.0.1:1/shop").unwrap();
    let job = Job::new("away")
        .source(final_reconcile::Side::postgres(away, "t"))
        .target(place.side(Db::Sqlite, "t"), |map| map);

    let error = job.compare().await.unwrap_err();

    let text = format!("{error} {error:?}");
    assert!(text.contains("refused"), "{text}");
    assert!(
        text.contains("describing `t` in PostgreSQL 127.0.0.1:1/shop failed"),
        "{text}"
    );
    assert!(!text.contains("secret"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_is_too_large_for_its_server_is_never_taken_for_an_equal_one() {
    let place = Place::fresh().await;
    let most: i64 = sqlx::query_scalar("SELECT CAST(@@max_allowed_packet AS SIGNED)")
        .fetch_one(&place.mariadb)
        .await
        .unwrap();
    // As hexadecimal digits they have twice the length.
    let length = most / 2 + 1_000;
    for (table, null, letter) in [
        ("a", "NULL", "a"),
        ("b", "NULL", "b"),
        ("c", "NOT NULL", "a"),
        ("d", "NOT NULL", "b"),
    ] {
        for (key, column) in [("", "id int"), ("_text", "id varchar(20)")] {
            let name = format!("{table}{key}");
            place
                .run(
                    Db::Maria,
                    format!("CREATE TABLE {name} ({column} PRIMARY KEY, v longblob {null})"),
                )
                .await;
            place
                .run(
                    Db::Maria,
                    format!("INSERT INTO {name} VALUES (1, 'x'), (2, REPEAT('{letter}', {length})), (3, 'y')"),
                )
                .await;
        }
    }
    // A text of another collation is not compared range by range.
    for table in ["b_text", "d_text"] {
        place
            .run(
                Db::Maria,
                format!("ALTER TABLE {table} MODIFY id varchar(20) COLLATE utf8mb4_bin NOT NULL"),
            )
            .await;
    }
    let my = Db::Maria;
    for (source, target) in [
        ("a", "b"),
        ("c", "d"),
        ("a_text", "b_text"),
        ("c_text", "d_text"),
    ] {
        let error = error(&place, (my, source), (my, target), |map| map).await;
        assert!(
            error.contains("max_allowed_packet"),
            "{source} with {target}: {error}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_words_is_refused_where_its_server_does_not_compare_it_as_it_orders_it() {
    let place = Place::fresh().await;
    let (pg, my) = (Db::Postgres, Db::Maria);
    for (name, words) in [
        ("words", "ENUM('view', 'click')"),
        ("several", "SET('view', 'click')"),
    ] {
        let table =
            format!("CREATE TABLE {name} (day int, kind {words}, v int, PRIMARY KEY (day, kind))");
        place.run(my, table).await;
        let table =
            format!("CREATE TABLE {name} (day int, kind text, v int, PRIMARY KEY (day, kind))");
        place.run(pg, table).await;
        for (source, target) in [(my, pg), (pg, my), (my, my)] {
            let error = error(&place, (source, name), (target, name), |map| map).await;
            assert!(
                error
                    .contains("key (kind): its server orders it by number and compares it as text"),
                "{source:?} with {target:?}: {error}"
            );
        }
    }
}
