//! Rows by the time of their last update.

use super::*;
use crate::place::ALL;

fn column(db: Db) -> &'static str {
    match db {
        Db::Postgres => "changed timestamptz NOT NULL DEFAULT now()",
        Db::Maria => "changed datetime NOT NULL DEFAULT CURRENT_TIMESTAMP",
        Db::Sqlite => "changed datetime NOT NULL DEFAULT CURRENT_TIMESTAMP",
    }
}

fn now(db: Db) -> &'static str {
    match db {
        Db::Postgres => "now()",
        Db::Maria | Db::Sqlite => "CURRENT_TIMESTAMP",
    }
}

fn seconds_ago(db: Db, seconds: u32) -> String {
    match db {
        Db::Postgres => format!("now() - interval '{seconds} seconds'"),
        Db::Maria => format!("NOW() - INTERVAL {seconds} SECOND"),
        Db::Sqlite => format!("datetime('now', '-{seconds} seconds')"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn updates_are_found_also_those_committed_late_and_those_of_an_outage() {
    let place = Place::fresh().await;
    for (at, from) in ALL.into_iter().enumerate() {
        let to = ALL[(at + 2) % 3];
        for (db, table) in [(from, "a"), (to, "b")] {
            let changed = column(db);
            place
                .run(
                    db,
                    format!(
                        "CREATE TABLE {table} (id int PRIMARY KEY, name varchar(20), {changed})"
                    ),
                )
                .await;
            place
                .run(db, format!("INSERT INTO {table} (id, name) VALUES (1, 'a'), (2, 'a'), (3, 'a'), (4, 'a'), (5, 'a'), (6, 'a')"))
                .await;
        }
        let receiver = Receiver::start(|_, _| 200).await;
        let wanted = |overlap| {
            Job::new("people")
                .source(place.side(from, "a"))
                .target(place.side(to, "b"), |map| map.same(["name"]))
                .settle(SETTLE)
                .repair(repair(&receiver))
                .updated("changed", OFTEN, overlap)
        };
        let long = Duration::from_secs(60);
        let reconciler = migrated(&place, from, wanted(long)).await;
        let process = Process::start(&reconciler);
        status(&reconciler, "a window has begun", |job| {
            job.updated_until.is_some()
        })
        .await;

        let update = |id: u32, time: &str| {
            format!("UPDATE a SET name = 'b', changed = {time} WHERE id = {id}")
        };
        place.run(from, update(1, now(from))).await;
        only_called(&receiver, &reconciler, &["1"]).await;
        place.run(from, update(2, &seconds_ago(from, 30))).await;
        only_called(&receiver, &reconciler, &["1", "2"]).await;
        process.kill();

        place.run(from, update(3, now(from))).await;
        place.run(to, "UPDATE b SET name = 'b' WHERE id = 4").await;
        place.run(from, update(4, now(from))).await;
        // The outage is longer than windows overlap now.
        tokio::time::sleep(Duration::from_secs(4)).await;
        let again = new(&place, from).job(wanted(OFTEN)).unwrap();
        let running = again.start().unwrap();
        only_called(&receiver, &again, &["1", "2", "3"]).await;
        running.shutdown().await;
        drop_tables(&place, from, to).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_rows_than_a_page_with_one_time_are_all_compared() {
    let place = Place::fresh().await;
    let (from, to) = (Db::Maria, Db::Postgres);
    for (db, table) in [(from, "a"), (to, "b")] {
        let changed = column(db);
        place
            .run(
                db,
                format!("CREATE TABLE {table} (id int PRIMARY KEY, {changed})"),
            )
            .await;
    }
    let receiver = Receiver::start(|_, _| 200).await;
    let job = Job::new("people")
        .source(place.side(from, "a"))
        .target(place.side(to, "b"), |map| map.same(["id"]))
        .settle(SETTLE)
        .repair(repair(&receiver))
        .updated("changed", OFTEN, Duration::from_secs(60));
    let reconciler = migrated(&place, to, job).await;
    let running = reconciler.start().unwrap();
    status(&reconciler, "a window has begun", |job| {
        job.updated_until.is_some()
    })
    .await;

    let ids = |separator: &str| {
        let ids: Vec<String> = (1..=1_300).map(|id| format!("({id})")).collect();
        ids.join(separator)
    };
    place
        .run(
            to,
            format!(
                "INSERT INTO b (id) VALUES {}; DELETE FROM b WHERE id IN (1, 700, 1300)",
                ids(", ")
            ),
        )
        .await;
    place
        .run(from, format!("INSERT INTO a (id) VALUES {}", ids(", ")))
        .await;

    only_called(&receiver, &reconciler, &["1", "700", "1300"]).await;
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_column_without_times_is_refused() {
    let place = Place::fresh().await;
    let (from, to) = (Db::Maria, Db::Maria);
    tables(&place, from, to, "id int PRIMARY KEY, name varchar(20)").await;
    for (column, said) in [
        ("name", "its type is varchar(20)"),
        ("gone", "no column `gone`"),
    ] {
        let job = Job::new(column)
            .source(place.side(from, "a"))
            .target(place.side(to, "b"), |map| map)
            .updated(column, OFTEN, OFTEN);
        let reconciler = migrated(&place, from, job).await;
        let running = reconciler.start().unwrap();
        let status = status(&reconciler, "the trouble is told", |job| {
            job.trouble.is_some()
        })
        .await;
        let trouble = status.trouble.unwrap();
        assert!(trouble.contains(said), "{trouble}");
        running.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_goes_on_behind_a_key_that_is_written_in_capital_letters() {
    let place = Place::fresh().await;
    for (from, key) in [
        (Db::Maria, "varchar(36) COLLATE utf8mb4_bin"),
        (Db::Postgres, "varchar(36) COLLATE \"C\""),
        (Db::Sqlite, "text NOT NULL"),
    ] {
        let to = Db::Postgres;
        for (db, table, key) in [(from, "a", key), (to, "b", "uuid")] {
            let changed = column(db);
            let sql = format!("CREATE TABLE {table} (id {key} PRIMARY KEY, {changed})");
            place.run(db, sql).await;
        }
        let receiver = Receiver::start(|_, _| 200).await;
        let job = Job::new("people")
            .source(place.side(from, "a"))
            .target(place.side(to, "b"), |map| map.same(["id"]))
            .settle(SETTLE)
            .repair(repair(&receiver))
            .updated("changed", OFTEN, Duration::from_secs(60));
        let reconciler = migrated(&place, to, job).await;
        let running = reconciler.start().unwrap();
        status(&reconciler, "a window has begun", |job| {
            job.updated_until.is_some()
        })
        .await;

        // Digits stand before capital letters, and these before small ones. The first page ends among capital letters.
        let ids: Vec<String> = (0..1_100_u128)
            .map(|id| if id < 450 { id } else { (0xa << 124) + id })
            .map(|id| uuid::Uuid::from_u128(id).to_string())
            .collect();
        let is_missing = |at: usize| at.is_multiple_of(100);
        let rows = |ids: Vec<String>| format!("('{}')", ids.join("'), ('"));
        let copied = ids.iter().enumerate().filter(|(at, _)| !is_missing(*at));
        let copied = copied.map(|(_, id)| id.clone()).collect();
        place
            .run(to, format!("INSERT INTO b (id) VALUES {}", rows(copied)))
            .await;
        let written = ids.iter().map(|id| id.to_uppercase());
        let written = rows(written.collect());
        place
            .run(from, format!("INSERT INTO a (id) VALUES {written}"))
            .await;

        let missing = ids.iter().enumerate().filter(|(at, _)| is_missing(*at));
        let missing: Vec<&str> = missing.map(|(_, id)| id.as_str()).collect();
        only_called(&receiver, &reconciler, &missing).await;
        running.shutdown().await;
        drop_tables(&place, from, to).await;
        for table in ["jobs", "suspects", "runs", "repairs"] {
            let sql = format!("DELETE FROM final_reconcile_{table}");
            place.run(to, sql).await;
        }
    }
}
