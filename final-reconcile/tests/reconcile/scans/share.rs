//! Several processes, the limit of repairs, and a state that is away.

use final_reconcile::Sweep;

use super::*;
use crate::place::ALL;

const TABLE: &str = "id int PRIMARY KEY, name varchar(20)";

fn runs(running: &RunningReconciler) -> bool {
    let metrics = running.metrics();
    metrics
        .lines()
        .any(|line| line.starts_with("final_reconcile_running{") && line.ends_with(" 1"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_processes_scans_and_the_other_takes_over_when_it_dies() {
    let place = Place::fresh().await;
    for (at, state) in ALL.into_iter().enumerate() {
        let (from, to) = (ALL[(at + 1) % 3], ALL[(at + 2) % 3]);
        tables(&place, from, to, TABLE).await;
        both(&place, from, to, "(1, 'Ann')").await;
        let receiver = Receiver::start(|_, _| 200).await;
        let wanted = || {
            job(&place, from, to)
                .repair(repair(&receiver))
                .fresh_ids(OFTEN)
        };
        let reconciler = migrated(&place, state, wanted()).await;
        let first = Process::start(&reconciler);
        eventually("the first process scans", SOON, async || {
            match runs(first.running()) {
                true => Ok(()),
                false => Err(first.running().metrics()),
            }
        })
        .await;
        let other = new(&place, state).job(wanted()).unwrap();
        let second = other.start().unwrap();
        place.run(from, "INSERT INTO a VALUES (2, 'Bob')").await;
        only_called(&receiver, &other, &["2"]).await;
        assert!(runs(first.running()) && !runs(&second));
        // A repair whose call was answered, but not written down yet, would be called for again.
        status(&other, "the repair is done", |job| job.open_repairs == 0).await;
        first.kill();

        place.run(from, "INSERT INTO a VALUES (3, 'Eve')").await;
        only_called(&receiver, &other, &["2", "3"]).await;
        assert!(runs(&second));
        let keys: Vec<String> = receiver.came().into_iter().map(|came| came.key).collect();
        assert_eq!(keys.len(), 2, "each row was called for once: {keys:?}");
        second.shutdown().await;
        drop_tables(&place, from, to).await;
        for table in ["jobs", "suspects", "runs", "repairs"] {
            place
                .run(state, format!("DELETE FROM final_reconcile_{table}"))
                .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_gives_the_scans_to_the_next_process_at_once() {
    let place = Place::fresh().await;
    let (from, to) = (Db::Postgres, Db::Maria);
    tables(&place, from, to, TABLE).await;
    let wanted = || job(&place, from, to).fresh_ids(OFTEN);
    let hour = Duration::from_secs(3_600);
    let reconciler = migrated(&place, from, wanted()).await.lease(hour);
    let first = reconciler.start().unwrap();
    status(&reconciler, "the first scans", |job| job.is_running).await;
    first.shutdown().await;

    let second = reconciler.start().unwrap();
    eventually("the second scans", SOON, async || match runs(&second) {
        true => Ok(()),
        false => Err(second.metrics()),
    })
    .await;
    second.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_has_lost_its_lease_writes_nothing() {
    let place = Place::fresh().await;
    let (from, to) = (Db::Maria, Db::Postgres);
    for state in ALL {
        tables(&place, from, to, TABLE).await;
        both(&place, from, to, "(1, 'Ann')").await;
        let receiver = Receiver::start(|_, _| 200).await;
        let job = job(&place, from, to)
            .repair(repair(&receiver))
            .fresh_ids(OFTEN);
        // It renews the lease so seldom that it does not find out by that.
        let reconciler = migrated(&place, state, job)
            .await
            .lease(Duration::from_secs(3_600));
        let running = reconciler.start().unwrap();
        status(&reconciler, "the row was compared", |job| {
            job.fresh_id == Some(1)
        })
        .await;

        // As another process does that takes over.
        place
            .run(state, "UPDATE final_reconcile_jobs SET epoch = epoch + 1")
            .await;
        both(&place, from, to, "(2, 'Bob'), (3, 'Eve')").await;
        place.run(to, "DELETE FROM b WHERE id = 3").await;
        eventually("the process finds out", SOON, async || {
            match runs(&running) {
                false => Ok(()),
                true => Err(running.metrics()),
            }
        })
        .await;
        let after = reconciler.jobs().await.unwrap().remove(0);
        assert_eq!((after.fresh_id, after.suspects), (Some(1), 0), "{after:?}");

        place
            .run(state, "UPDATE final_reconcile_jobs SET live_until = 0")
            .await;
        only_called(&receiver, &reconciler, &["3"]).await;
        running.shutdown().await;
        drop_tables(&place, from, to).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_pauses_when_too_many_rows_differ_and_goes_on_when_it_is_resumed() {
    let place = Place::fresh().await;
    for (at, state) in ALL.into_iter().enumerate() {
        let (from, to) = (state, ALL[(at + 1) % 3]);
        tables(&place, from, to, TABLE).await;
        let values: Vec<String> = (1..=5).map(|id| format!("({id}, 'x')")).collect();
        place
            .run(from, format!("INSERT INTO a VALUES {}", values.join(", ")))
            .await;
        let receiver = Receiver::start(|_, _| 200).await;
        let job = job(&place, from, to)
            .repair(repair(&receiver))
            .max_repairs(2)
            .sweep(Sweep::every(Duration::from_secs(3_600)))
            .fresh_ids(OFTEN);
        let reconciler = migrated(&place, state, job).await;
        let running = reconciler.start().unwrap();

        let paused = status(&reconciler, "the job has paused", |job| {
            job.paused.is_some()
        })
        .await;
        let why = paused.paused.unwrap();
        assert!(
            why.contains("more than 2 rows") && why.contains("mapping"),
            "{why}"
        );
        eventually("two rows are called for", SOON, async || {
            match receiver.came().len() {
                2 => Ok(()),
                other => Err(other.to_string()),
            }
        })
        .await;
        eventually("the pause is told", SOON, async || {
            match running.health().is_ready() {
                false => Ok(()),
                true => Err("ready".to_owned()),
            }
        })
        .await;
        // A comparison opens none either.
        let comparison = reconciler.compare("people").await.unwrap().remove(0);
        assert!(
            comparison.held_back && comparison.repairs == 0,
            "{comparison:?}"
        );

        for _ in 0..2 {
            assert_eq!(reconciler.resume("people").await.unwrap(), 1);
            let came = receiver.came().len();
            eventually("more rows are called for", SOON, async || {
                match receiver.came().len() {
                    more if more > came => Ok(()),
                    same => Err(format!("{same}, {:?}", reconciler.jobs().await)),
                }
            })
            .await;
            if called(&receiver).len() < 5 {
                status(&reconciler, "the job has paused again", |job| {
                    job.paused.is_some()
                })
                .await;
            }
        }
        only_called(&receiver, &reconciler, &["1", "2", "3", "4", "5"]).await;
        assert_eq!(reconciler.resume("people").await.unwrap(), 0);
        running.shutdown().await;
        drop_tables(&place, from, to).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scans_go_on_when_their_state_and_the_tables_are_back() {
    let place = Place::fresh().await;
    let (from, to) = (Db::Maria, Db::Postgres);
    tables(&place, from, to, TABLE).await;
    both(&place, from, to, "(1, 'Ann')").await;
    let receiver = Receiver::start(|_, _| 200).await;
    let job = job(&place, from, to)
        .repair(repair(&receiver))
        .fresh_ids(OFTEN);
    let reconciler = migrated(&place, Db::Postgres, job).await;
    let running = reconciler.start().unwrap();
    status(&reconciler, "the row was compared", |job| {
        job.fresh_id == Some(1)
    })
    .await;
    for (db, table) in [(Db::Postgres, "final_reconcile_jobs"), (to, "b")] {
        place
            .run(db, format!("ALTER TABLE {table} RENAME TO away"))
            .await;
        eventually("the trouble is told", SOON, async || {
            match running.health().is_ready() {
                false => Ok(()),
                true => Err("ready".to_owned()),
            }
        })
        .await;
        place
            .run(from, "INSERT INTO a SELECT max(id) + 1, 'Bob' FROM a")
            .await;
        place
            .run(db, format!("ALTER TABLE away RENAME TO {table}"))
            .await;
    }

    only_called(&receiver, &reconciler, &["2", "3"]).await;
    let status = status(&reconciler, "all is well again", |job| {
        job.trouble.is_none()
    })
    .await;
    assert_eq!(status.fresh_id, Some(3));
    assert!(running.health().is_ready(), "{:?}", running.health());
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trouble_that_lasts_is_not_told_as_over_by_the_next_process() {
    let place = Place::fresh().await;
    let (from, to) = (Db::Postgres, Db::Maria);
    tables(&place, from, to, "id varchar(20) PRIMARY KEY").await;
    let wanted = || job(&place, from, to).fresh_ids(OFTEN);
    let reconciler = migrated(&place, from, wanted()).await;
    let process = Process::start(&reconciler);
    status(&reconciler, "the trouble is told", |job| {
        job.trouble.is_some()
    })
    .await;
    process.kill();
    let since = "SELECT trouble_at AS v FROM final_reconcile_jobs WHERE trouble IS NOT NULL";
    let begun = place.numbers(from, since).await;
    assert_eq!(begun.len(), 1);

    let again = new(&place, from).job(wanted()).unwrap();
    let running = again.start().unwrap();
    eventually(
        "the next process knows the trouble",
        SOON,
        async || match running.health().is_ready() {
            true => Err(running.metrics()),
            false => Ok(()),
        },
    )
    .await;

    assert_eq!(place.numbers(from, since).await, begun);
    running.shutdown().await;
}
