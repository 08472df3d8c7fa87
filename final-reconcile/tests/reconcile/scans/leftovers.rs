//! What the state has of a source or target that a job does not have any more, or that another file has.

use final_core::{Message, Router};

use super::*;

const TABLE: &str = "id int PRIMARY KEY, name varchar(20)";
const HOUR: Duration = Duration::from_secs(3_600);

/// A row that nobody can repair, in a job with this target.
async fn broken(place: &Place, receiver: &Receiver, target: &str) -> Reconciler {
    let job = Job::new("people")
        .source(place.side(Db::Sqlite, "a"))
        .target(place.side(Db::Sqlite, target), |map| map)
        .settle(Duration::ZERO)
        .repair(repair(receiver).pace(OFTEN, OFTEN));
    migrated(place, Db::Sqlite, job).await
}

async fn stage(target: &str) -> (Place, Receiver, Reconciler) {
    let place = Place::fresh().await;
    tables(&place, Db::Sqlite, Db::Sqlite, TABLE).await;
    let other = format!("CREATE TABLE d ({TABLE}); INSERT INTO a VALUES (1, 'Ann')");
    place.run(Db::Sqlite, other).await;
    let receiver = Receiver::start(|_, _| 500).await;
    let reconciler = broken(&place, &receiver, target).await;
    reconciler.compare("people").await.unwrap();
    (place, receiver, reconciler)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_file_has_run_a_short_time_ago_is_not_forgotten() {
    let (place, receiver, other) = stage("b").await;
    let ours = broken(&place, &receiver, "d").await;
    let left = ours.leftovers("people").await.unwrap().remove(0);
    assert!(left.has_run_within(HOUR) && !left.is_running, "{left:?}");

    assert!(!ours.forget(&left, HOUR).await.unwrap());
    assert_eq!(other.repairs("people", 10).await.unwrap().len(), 1);

    let old = "UPDATE final_reconcile_repairs SET due_at = due_at - 3700000000, opened_at = opened_at - 3700000000";
    place.run(Db::Sqlite, old).await;
    // A process that tries a repair has it.
    let claim =
        "UPDATE final_reconcile_repairs SET claimed_until = claimed_until + 4000000000000000";
    place.run(Db::Sqlite, claim).await;
    assert!(!ours.forget(&left, Duration::ZERO).await.unwrap());
    place
        .run(
            Db::Sqlite,
            "UPDATE final_reconcile_repairs SET claimed_until = 0",
        )
        .await;
    // Nor does a configuration forget what is its own.
    assert!(!other.forget(&left, HOUR).await.unwrap());
    assert!(ours.forget(&left, HOUR).await.unwrap());
    assert!(other.repairs("people", 10).await.unwrap().is_empty());
    let jobs = "SELECT COUNT(*) AS v FROM final_reconcile_jobs";
    assert_eq!(place.numbers(Db::Sqlite, jobs).await, [0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_rows_than_one_transaction_removes_are_forgotten() {
    let (place, receiver, _) = stage("b").await;
    let many = "INSERT INTO final_reconcile_repairs (slot, id, unit, job, source, target, key_form, row_key, key_text, kind, \
        columns_text, attempts, due_at, opened_at, found_again, is_ours, claimed_until) \
        WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1200) \
        SELECT 'more ' || i, id, unit, job, source, target, key_form, row_key, key_text, kind, columns_text, attempts, due_at, \
        opened_at, found_again, is_ours, claimed_until FROM final_reconcile_repairs, n";
    place.run(Db::Sqlite, many).await;
    let ours = broken(&place, &receiver, "d").await;
    let left = ours.leftovers("people").await.unwrap().remove(0);
    assert_eq!(left.repairs, 1_201);

    assert!(ours.forget(&left, Duration::ZERO).await.unwrap());

    assert!(ours.leftovers("people").await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn own_repairs_come_first_and_those_of_another_file_are_not_tried_by_all() {
    let (place, receiver, other) = stage("b").await;
    let ours = broken(&place, &receiver, "d").await;
    ours.compare("people").await.unwrap();
    let later = "UPDATE final_reconcile_repairs SET due_at = due_at + 3600000000";
    place.run(Db::Sqlite, later).await;

    let first = ours.repairs("people", 1).await.unwrap().remove(0);
    assert!(first.is_of_job && first.target.contains("`d`"), "{first:?}");
    assert!(first.source.contains("`a`"), "{first:?}");
    let all = ours.repairs("people", 10).await.unwrap();
    assert!(!all[1].is_of_job && !all[1].is_of_another, "{all:?}");
    assert_eq!(ours.retry("people", None).await.unwrap(), 1);
    assert!(other.repairs("people", 1).await.unwrap()[0].due_in_ms > 0);
    assert_eq!(ours.retry("people", Some(all[1].id)).await.unwrap(), 1);
    assert_eq!(other.repairs("people", 1).await.unwrap()[0].due_in_ms, 0);

    // The other file is at work, and says why it fails.
    let scanned = job(&place, Db::Sqlite, Db::Sqlite)
        .repair(repair(&receiver).pace(OFTEN, OFTEN))
        .fresh_ids(OFTEN);
    let other = migrated(&place, Db::Sqlite, scanned).await;
    let runs = other.start().unwrap();
    eventually(
        "the repair of the other file has failed",
        SOON,
        async || {
            let all = ours.repairs("people", 10).await.unwrap();
            match &all[1] {
                repair if repair.is_of_another && repair.last_error.is_some() => Ok(()),
                repair => Err(format!("{repair:?}")),
            }
        },
    )
    .await;
    runs.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_no_file_has_any_more_is_listed_closed_and_forgotten() {
    let (place, _receiver, _) = stage("b").await;
    let none = migrated(
        &place,
        Db::Sqlite,
        Job::new("others").source(place.side(Db::Sqlite, "a")),
    )
    .await;
    assert_eq!(none.known_jobs().await.unwrap(), ["people"]);
    let open = none.repairs("people", 10).await.unwrap();
    assert_eq!(open.len(), 1);
    assert!(none.close("people", open[0].id).await.unwrap());
    let trouble = "INSERT INTO final_reconcile_alerts (slot, id, unit, job, source, target, kind, first_seen, last_error, is_over, \
        told, told_at, attempts, due_at) VALUES ('s', x'00112233445566778899aabbccddeeff', 'u', 'people', 'a', 'b', 'repairs', \
        1, '', 0, 0, 0, 0, 0)";
    place.run(Db::Sqlite, trouble).await;
    let left = none.leftovers("people").await.unwrap();
    assert_eq!((left.len(), left[0].alerts), (1, 1), "{left:?}");
    assert!(none.forget(&left[0], HOUR).await.unwrap());
    assert!(none.known_jobs().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_never_scanned_is_seen_among_the_jobs() {
    let (place, receiver, _) = stage("b").await;
    let ours = broken(&place, &receiver, "d").await;
    let jobs = ours.jobs().await.unwrap();
    let left = ours.leftovers("people").await.unwrap();
    assert_eq!((jobs.len(), left.len()), (1, 1), "{jobs:?}");
    assert!(!jobs[0].is_of_job && jobs[0].target == left[0].target);
    assert_eq!(jobs[0].open_repairs, 1);
}

/// A job of another file, without a repair and with these scans.
async fn of_another(place: &Place, scans: impl FnOnce(Job) -> Job) -> Reconciler {
    let job = Job::new("people")
        .source(place.side(Db::Sqlite, "a"))
        .target(place.side(Db::Sqlite, "b"), |map| map);
    migrated(place, Db::Sqlite, scans(job)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_without_scans_is_not_forgotten_while_a_process_runs_it() {
    let place = Place::fresh().await;
    tables(&place, Db::Sqlite, Db::Sqlite, TABLE).await;
    let other = of_another(&place, |job| job).await;
    let ours = new(&place, Db::Sqlite);
    let running = other.start().unwrap();
    let left = eventually("the job runs", SOON, async || {
        let left = ours.leftovers("people").await.unwrap();
        match left.first() {
            Some(one) if one.is_running => Ok(one.clone()),
            _ => Err(left),
        }
    })
    .await;
    assert!(!ours.forget(&left, Duration::ZERO).await.unwrap());
    // Nobody has asked for a sweep.
    assert!(other.runs("people", 1).await.unwrap().is_empty());

    running.shutdown().await;
    assert!(ours.forget(&left, Duration::ZERO).await.unwrap());
    assert!(ours.leftovers("people").await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_whose_changes_a_process_takes_is_not_forgotten_although_no_process_scans_it() {
    let place = Place::fresh().await;
    tables(&place, Db::Sqlite, Db::Sqlite, TABLE).await;
    let other = of_another(&place, |job| job.watch("cdc.a")).await;
    let router: Router = other.watching(Router::new());
    let change = r#"{"op":"insert","table":"a","key":{"id":1},"after":{"id":1}}"#;
    let message = Message::new("cdc.a", change);
    router.dispatch(message).await.unwrap();
    let ours = new(&place, Db::Sqlite);
    let left = ours.leftovers("people").await.unwrap().remove(0);
    assert!(left.is_running && left.suspects == 1, "{left:?}");
    assert!(!ours.forget(&left, Duration::ZERO).await.unwrap());

    // A minute has gone without a change.
    let gone = "UPDATE final_reconcile_jobs SET watched_until = watched_until - 61000000";
    place.run(Db::Sqlite, gone).await;
    assert!(ours.forget(&left, Duration::ZERO).await.unwrap());
}
