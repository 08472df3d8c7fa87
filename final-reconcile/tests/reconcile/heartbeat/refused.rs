//! A heartbeat that cannot be read is refused by name before a row is compared.

use super::*;

async fn refused(place: &Place, to: Db, heartbeat: Heartbeat) -> String {
    let from = if to == Db::Postgres {
        Db::Maria
    } else {
        Db::Postgres
    };
    let job = job(place, from, to, Some(heartbeat));
    let error = job.explain().await.expect_err("an error");
    let compared = job.compare().await.expect_err("an error");
    assert_eq!(error.to_string(), compared.to_string());
    error.to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_table_a_missing_column_and_a_wrong_type_are_named() {
    let place = Place::fresh().await;
    for db in ALL {
        for table in ["a", "b"] {
            place
                .run(db, format!("CREATE TABLE {table} ({TABLE})"))
                .await;
        }
        let time = if db == Db::Sqlite {
            "text"
        } else {
            "timestamp"
        };
        place
            .run(
                db,
                format!("CREATE TABLE beats (id int PRIMARY KEY, who varchar(20), at {time} NULL, day date, f double precision)"),
            )
            .await;
    }
    for to in ALL {
        let table = Heartbeat::table;
        let cases = [
            (table("nothing"), vec!["no table `nothing` in"]),
            (
                table("beats").limit(Duration::ZERO),
                vec!["`beats` in", "`limit` is zero"],
            ),
            (
                table("beats").column("when"),
                vec!["`beats` in", "no column `when`", "heartbeat"],
            ),
            (
                table("beats").column("day"),
                vec!["`beats` in", "`day` has no times", "date"],
            ),
            (
                table("beats").column("f"),
                vec!["`beats` in", "`f` has no times"],
            ),
            (
                table("beats").row("nobody", "1"),
                vec!["`beats` in", "no column `nobody`"],
            ),
            (
                table("beats").row("who", "x"),
                vec!["`beats` in", "`who`", "no unique index"],
            ),
            (
                table("beats").row("id", "x"),
                vec!["`beats` in", "`id`", "cannot have the value"],
            ),
        ];
        for (heartbeat, parts) in cases {
            let told = format!("{heartbeat:?}");
            let error = refused(&place, to, heartbeat).await;
            for part in parts {
                assert!(
                    error.to_lowercase().contains(part),
                    "{to:?} {told}: {error}"
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_with_several_rows_needs_the_name_of_one_and_one_without_a_row_tells_nothing() {
    let place = Place::fresh().await;
    for (from, to) in [
        (Db::Postgres, Db::Maria),
        (Db::Maria, Db::Sqlite),
        (Db::Sqlite, Db::Postgres),
    ] {
        filled(&place, from, to).await;
        let mirror = Mirror::new(&place, from, to, Duration::ZERO).await;
        place.run(to, "UPDATE b SET v = -1 WHERE id = 5").await;
        let only = Heartbeat::table("mirror_heartbeat").limit(Duration::from_millis(1));
        let by = |heartbeat| job(&place, from, to, Some(heartbeat));
        let explained = by(heartbeat()).explain().await.unwrap().to_string();
        assert!(
            explained.contains("target, heartbeat of the mirror:"),
            "{explained}"
        );
        assert!(
            explained.contains("mirror_heartbeat") && explained.contains("<the row of the mirror>"),
            "{explained}"
        );
        // The source beats once more, so the mirror has passed everything.
        let beating = async {
            let comparison = by(Heartbeat::table("mirror_heartbeat")).compare().await;
            mirror.end();
            comparison.unwrap().remove(0)
        };
        let (comparison, ()) = tokio::join!(beating, mirror.run());
        assert_eq!(comparison.differences(), 1, "{comparison:?}");

        place
            .run(to, "INSERT INTO mirror_heartbeat (id) VALUES (2)")
            .await;
        let explained = by(only.clone()).explain().await.expect_err("several rows");
        let error = by(only.clone()).compare().await.unwrap_err().to_string();
        assert_eq!(explained.to_string(), error);
        assert!(
            error.contains("mirror_heartbeat") && error.contains("several rows"),
            "{error}"
        );
        if to == Db::Sqlite {
            let text = "UPDATE mirror_heartbeat SET at = 'noon' WHERE id = 1";
            place.run(to, text).await;
            let error = by(heartbeat()).explain().await.expect_err("no time");
            let error = error.to_string();
            assert!(error.contains("not written as 2024-"), "{error}");
        }
        place.run(to, "DELETE FROM mirror_heartbeat").await;
        for heartbeat in [only.clone(), heartbeat().limit(Duration::from_millis(1))] {
            let comparison = by(heartbeat).compare().await.unwrap().remove(0);
            assert_eq!((comparison.differences(), comparison.not_passed), (0, 1));
            let why = comparison.mirror.unwrap();
            assert!(why.contains("no row or no time yet"), "{why}");
        }
        drop_tables(&place, from, to).await;
    }
}
