//! The whole table, from time to time.

use final_reconcile::Sweep;

use super::*;
use crate::place::ALL;

const TABLE: &str = "id int PRIMARY KEY, name varchar(20)";
const HOURLY: Duration = Duration::from_secs(3_600);

async fn many(place: &Place, from: Db, to: Db, rows: u32) {
    for first in (1..=rows).step_by(1_000) {
        let last = (first + 999).min(rows);
        let values: Vec<String> = (first..=last).map(|id| format!("({id}, 'x')")).collect();
        both(place, from, to, &values.join(", ")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_finds_what_is_missing_different_and_extra_and_equal_rows_open_nothing() {
    let place = Place::fresh().await;
    for (at, from) in ALL.into_iter().enumerate() {
        let to = ALL[(at + 1) % 3];
        tables(&place, from, to, TABLE).await;
        many(&place, from, to, 3_000).await;
        place
            .run(to, "DELETE FROM b WHERE id = 17; UPDATE b SET name = 'y' WHERE id = 2500; INSERT INTO b VALUES (9000, 'z')")
            .await;
        let receiver = Receiver::start(|_, _| 200).await;
        let job = job(&place, from, to)
            .repair(repair(&receiver))
            .sweep(Sweep::every(HOURLY));
        let reconciler = migrated(&place, from, job).await;
        let running = reconciler.start().unwrap();

        only_called(&receiver, &reconciler, &["17", "2500", "9000"]).await;
        status(&reconciler, "the sweep is over", |job| {
            !job.is_sweeping && job.suspects == 0
        })
        .await;
        let runs = reconciler.runs("people", 10).await.unwrap();
        let [run] = runs.as_slice() else {
            panic!("{runs:?}");
        };
        assert_eq!(
            (run.scan.as_str(), run.found, run.healed),
            ("sweep", 3, 0),
            "{run:?}"
        );
        // Looks at suspects do not count as rows once more.
        assert_eq!(run.rows, 3_000, "{run:?}");
        running.shutdown().await;
        drop_tables(&place, from, to).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_that_was_killed_goes_on_where_it_was() {
    let place = Place::fresh().await;
    for (from, to) in [
        (Db::Maria, Db::Postgres),
        (Db::Postgres, Db::Sqlite),
        (Db::Sqlite, Db::Maria),
    ] {
        tables(&place, from, to, TABLE).await;
        many(&place, from, to, 6_000).await;
        place.run(to, "DELETE FROM b WHERE id IN (50, 5500)").await;
        let receiver = Receiver::start(|_, _| 200).await;
        let wanted = |sweep: Sweep| job(&place, from, to).repair(repair(&receiver)).sweep(sweep);
        let slow = Sweep::every(HOURLY).rows_per_second(500);
        let reconciler = migrated(&place, from, wanted(slow)).await;
        let process = Process::start(&reconciler);
        let is_in_the_middle = |job: &JobStatus| job.is_sweeping && job.sweep_rows >= Some(1_000);
        let before = status(&reconciler, "some chunks were compared", is_in_the_middle).await;
        process.kill();
        assert!(before.sweep_rows < Some(6_000), "{before:?}");

        let fast = new(&place, from).job(wanted(Sweep::every(HOURLY))).unwrap();
        let running = fast.start().unwrap();
        status(&fast, "the sweep is over", |job| !job.is_sweeping).await;
        only_called(&receiver, &fast, &["50", "5500"]).await;
        running.shutdown().await;

        let runs = fast.runs("people", 10).await.unwrap();
        let [run] = runs.as_slice() else {
            panic!("one sweep: {runs:?}");
        };
        // No chunk was compared twice, and none was left out.
        assert_eq!((run.rows, run.found), (6_000, 2), "{run:?}");
        drop_tables(&place, from, to).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_whose_keys_have_no_common_order_are_swept_as_well() {
    let place = Place::fresh().await;
    let (from, to) = (Db::Postgres, Db::Maria);
    place
        .run(from, "CREATE TABLE a (id text COLLATE \"C\" PRIMARY KEY)")
        .await;
    place
        .run(to, "CREATE TABLE b (id varchar(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci PRIMARY KEY)")
        .await;
    both(&place, from, to, "('a'), ('B'), ('c'), ('D')").await;
    place.run(from, "INSERT INTO a VALUES ('e')").await;
    let receiver = Receiver::start(|_, _| 200).await;
    let job = job(&place, from, to)
        .repair(repair(&receiver))
        .sweep(Sweep::every(HOURLY));
    let reconciler = migrated(&place, from, job).await;
    let running = reconciler.start().unwrap();

    only_called(&receiver, &reconciler, &["e"]).await;
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_without_a_repair_only_counts_what_differs() {
    let place = Place::fresh().await;
    let (from, to) = (Db::Sqlite, Db::Postgres);
    tables(&place, from, to, TABLE).await;
    both(&place, from, to, "(1, 'Ann'), (2, 'Bob')").await;
    place
        .run(to, "UPDATE b SET name = 'Eve' WHERE id = 2")
        .await;
    let job = job(&place, from, to)
        .max_repairs(0)
        .sweep(Sweep::every(Duration::from_secs(1)));
    let reconciler = migrated(&place, Db::Maria, job).await;
    let running = reconciler.start().unwrap();

    eventually("two sweeps have found it", SOON, async || {
        let runs = reconciler.runs("people", 10).await.unwrap();
        let found = runs.iter().filter(|run| run.found == 1).count();
        match found {
            0 | 1 => Err(format!("{runs:?}")),
            _ => Ok(()),
        }
    })
    .await;
    assert_eq!(reconciler.repairs("people", 10).await.unwrap().len(), 0);
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_meant_is_refused_at_the_start() {
    let place = Place::fresh().await;
    let wanted = || job(&place, Db::Postgres, Db::Postgres);
    for (job, said) in [
        (wanted().sweep(Sweep::daily_at(24, 0)), "24:00"),
        (wanted().sweep(Sweep::every(Duration::ZERO)), "a second"),
        (
            wanted().target(place.side(Db::Postgres, "b"), |map| map),
            "two of its targets",
        ),
    ] {
        let reconciler = new(&place, Db::Postgres).job(job).unwrap();
        let error = reconciler.start().unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
}
