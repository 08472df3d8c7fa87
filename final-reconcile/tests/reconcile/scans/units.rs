//! What the state has belongs to a job, its source and its target.

use std::sync::{
    Arc,
    atomic::{AtomicU16, Ordering},
};

use final_reconcile::Sweep;

use super::*;
use crate::place::ALL;

const TABLE: &str = "id int PRIMARY KEY, name varchar(20)";
const SELDOM: Duration = Duration::from_secs(3_600);
const QUICK: Duration = Duration::from_millis(20);

/// A job of the same name and target as each other, with this source.
fn from(place: &Place, db: Db, source: &str, to: Db) -> Job {
    Job::new("people")
        .source(place.side(db, source))
        .target(place.side(to, "b"), |map| map)
        .settle(SETTLE)
}

/// Two sources and one target.
async fn sources(place: &Place, db: Db, to: Db) {
    tables(place, db, to, TABLE).await;
    place.run(db, format!("CREATE TABLE c ({TABLE})")).await;
    place
        .run(
            db,
            "INSERT INTO a VALUES (1, 'Ann'), (2, 'Bob'); INSERT INTO c VALUES (11, 'Eve'), (12, 'Joe'), (13, 'Kim')",
        )
        .await;
}

fn quick(receiver: &Receiver) -> Repair {
    Repair::callback(receiver.endpoint())
        .pace(QUICK, QUICK)
        .lease(Duration::from_secs(4))
}

async fn ours(reconciler: &Reconciler) -> JobStatus {
    status(reconciler, "the unit of the job", |job| job.is_of_job).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_sources_of_one_job_and_target_share_a_state_and_nothing_in_it() {
    let place = Place::fresh().await;
    for (at, state) in ALL.into_iter().enumerate() {
        let (db, to) = (state, ALL[(at + 1) % 3]);
        sources(&place, db, to).await;
        let (first_calls, second_calls) = (
            Receiver::start(|_, _| 200).await,
            Receiver::start(|_, _| 200).await,
        );
        let scanned = |source, receiver: &Receiver| {
            from(&place, db, source, to)
                .repair(quick(receiver))
                .fresh_ids(OFTEN)
        };
        let first = migrated(&place, state, scanned("a", &first_calls)).await;
        let second = migrated(&place, state, scanned("c", &second_calls)).await;
        let (first_runs, second_runs) = (first.start().unwrap(), second.start().unwrap());

        only_called(&first_calls, &first, &["1", "2"]).await;
        only_called(&second_calls, &second, &["11", "12", "13"]).await;
        // The position of the one is far behind this row.
        place.run(db, "INSERT INTO a VALUES (3, 'Lee')").await;
        only_called(&first_calls, &first, &["1", "2", "3"]).await;
        assert_eq!(ours(&first).await.fresh_id, Some(3));
        assert_eq!(ours(&second).await.fresh_id, Some(13));
        assert_eq!(called(&second_calls).len(), 3);

        // Neither can forget what the other runs.
        let left = second.leftovers("people").await.unwrap();
        assert_eq!(left.len(), 1, "{left:?}");
        assert!(left[0].is_running && left[0].source.contains("`a`"));
        assert!(!second.forget(&left[0], Duration::ZERO).await.unwrap());
        assert_eq!(ours(&first).await.fresh_id, Some(3));
        first_runs.shutdown().await;
        second_runs.shutdown().await;
        drop_tables(&place, db, to).await;
        place.run(db, "DROP TABLE c").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_is_that_of_one_source_and_ends_for_this_one_alone() {
    let place = Place::fresh().await;
    let db = Db::Sqlite;
    sources(&place, db, db).await;
    place
        .run(db, "INSERT INTO b SELECT * FROM c WHERE id > 11")
        .await;
    let calls = Receiver::start(|_, _| 200).await;
    let swept = |source| {
        from(&place, db, source, db)
            .repair(quick(&calls))
            .max_repairs(1)
            .sweep(Sweep::every(SELDOM))
    };
    let first = migrated(&place, db, swept("a")).await;
    let second = migrated(&place, db, swept("c")).await;
    let (first_runs, second_runs) = (first.start().unwrap(), second.start().unwrap());

    status(&first, "too many rows differ", |job| {
        job.is_of_job && job.paused.is_some()
    })
    .await;
    eventually(
        "the only row of the other source is called for",
        SOON,
        async || match called(&calls).contains("11") {
            true => Ok(()),
            false => Err(format!("{:?}", second.jobs().await)),
        },
    )
    .await;
    assert_eq!(ours(&second).await.paused, None);
    assert_eq!(second.resume("people").await.unwrap(), 0);
    assert!(ours(&first).await.paused.is_some());
    assert_eq!(first.resume("people").await.unwrap(), 1);
    first_runs.shutdown().await;
    second_runs.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_with_another_source_begins_anew_and_what_is_left_is_seen_and_forgotten() {
    let place = Place::fresh().await;
    for (at, state) in ALL.into_iter().enumerate() {
        let (db, to) = (state, ALL[(at + 1) % 3]);
        sources(&place, db, to).await;
        place.run(db, "INSERT INTO a VALUES (900, 'Max')").await;
        let broken = Receiver::start(|_, _| 500).await;
        let scanned = |source, receiver: &Receiver| {
            from(&place, db, source, to)
                .repair(quick(receiver))
                .fresh_ids(OFTEN)
        };
        let before = migrated(&place, state, scanned("a", &broken)).await;
        let runs = before.start().unwrap();
        only_called(&broken, &before, &["1", "2", "900"]).await;
        runs.shutdown().await;
        let calls = broken.came().len();

        let receiver = Receiver::start(|_, _| 200).await;
        let now = migrated(&place, state, scanned("c", &receiver)).await;
        let runs = now.start().unwrap();
        only_called(&receiver, &now, &["11", "12", "13"]).await;
        status(&now, "the new repairs are done", |job| {
            job.is_of_job && job.open_repairs == 0
        })
        .await;
        runs.shutdown().await;

        assert_eq!(ours(&now).await.fresh_id, Some(13));
        assert_eq!(broken.came().len(), calls, "nobody tries the old repairs");
        let old = now.jobs().await.unwrap();
        let old = old.iter().find(|job| !job.is_of_job).unwrap();
        assert!(old.source.contains("`a`"), "{old:?}");
        assert_eq!((old.fresh_id, old.open_repairs), (Some(900), 3));
        let open = now.repairs("people", 10).await.unwrap();
        let keys: BTreeSet<_> = open.iter().flat_map(|repair| repair.key.clone()).collect();
        let id = |id: &str| ("id".to_owned(), id.to_owned());
        assert_eq!(keys, BTreeSet::from([id("1"), id("2"), id("900")]));
        assert!(open.iter().all(|repair| !repair.is_of_job));

        let left = now.leftovers("people").await.unwrap();
        assert_eq!(left.len(), 1, "{left:?}");
        let counts = (left[0].positions, left[0].repairs, left[0].is_running);
        assert_eq!(counts, (1, 3, false));
        assert!(now.forget(&left[0], Duration::ZERO).await.unwrap());
        assert!(now.leftovers("people").await.unwrap().is_empty());
        assert!(now.repairs("people", 10).await.unwrap().is_empty());
        let all = now.jobs().await.unwrap();
        assert_eq!((all.len(), all[0].fresh_id), (1, Some(13)));
        drop_tables(&place, db, to).await;
        place.run(db, "DROP TABLE c").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_of_fresh_ids_is_not_taken_for_that_of_another_column() {
    let place = Place::fresh().await;
    let db = Db::Sqlite;
    tables(&place, db, db, "id int PRIMARY KEY NOT NULL, seq int").await;
    both(&place, db, db, "(1, 70000), (2, 80000)").await;
    let receiver = Receiver::start(|_, _| 200).await;
    let wanted = || job(&place, db, db).repair(repair(&receiver));
    let by_seq = migrated(&place, db, wanted().fresh_ids_by("SEQ", OFTEN)).await;
    let runs = by_seq.start().unwrap();
    status(&by_seq, "the rows were compared", |job| {
        job.fresh_id == Some(80_000)
    })
    .await;
    runs.shutdown().await;

    let by_key = migrated(&place, db, wanted().fresh_ids(OFTEN)).await;
    let runs = by_key.start().unwrap();
    place.run(db, "INSERT INTO a VALUES (3, 90000)").await;

    only_called(&receiver, &by_key, &["3"]).await;
    status(&by_key, "the position is that of the key", |job| {
        job.fresh_id == Some(3)
    })
    .await;
    runs.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_of_updates_is_not_taken_for_that_of_another_column() {
    let place = Place::fresh().await;
    let db = Db::Sqlite;
    tables(
        &place,
        db,
        db,
        "id int PRIMARY KEY NOT NULL, made datetime, changed datetime",
    )
    .await;
    let wanted = |column: &str| job(&place, db, db).updated(column, OFTEN, OFTEN);
    let by_made = migrated(&place, db, wanted("made")).await;
    let runs = by_made.start().unwrap();
    status(&by_made, "a window has begun", |job| {
        job.updated_until.is_some()
    })
    .await;
    runs.shutdown().await;
    let old = "2001-01-01 00:00:00";
    let position = format!(r#"{{"column":"made","seen":"{old}","at":"{old}","is_quiet":false}}"#);
    let set = format!("UPDATE final_reconcile_jobs SET updated = '{position}'");
    place.run(db, set).await;

    let by_changed = migrated(&place, db, wanted("changed")).await;
    let runs = by_changed.start().unwrap();
    let with = "SELECT updated AS v FROM final_reconcile_jobs";
    eventually(
        "the position has the new column",
        SOON,
        async || match place.texts(db, with).await.remove(0) {
            text if text.contains(r#""column":"changed""#) => Ok(()),
            text => Err(text),
        },
    )
    .await;
    let until = ours(&by_changed).await.updated_until.unwrap();
    assert!(until.as_str() > "2020", "{until}");
    // What lies between both is found by a sweep.
    status(&by_changed, "a sweep is over", |job| {
        !job.is_sweeping && job.sweep_rows.is_some()
    })
    .await;
    runs.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_under_way_begins_anew_with_another_key_and_goes_on_with_the_same() {
    let place = Place::fresh().await;
    let db = Db::Sqlite;
    tables(&place, db, db, TABLE).await;
    both(&place, db, db, "(1, 'Ann'), (2, 'Bob'), (3, 'Eve')").await;
    let counted = || job(&place, db, db).sweep(Sweep::every(SELDOM));
    let reconciler = migrated(&place, db, counted()).await;
    let sweep = async |key: &str| {
        let runs = reconciler.start().unwrap();
        let swept = status(&reconciler, "a sweep is over", |job| {
            !job.is_sweeping && job.sweep_rows.is_some()
        })
        .await;
        runs.shutdown().await;
        // Behind the second row.
        let position = format!(r#"{{"begun":5,{key}"after":"323b","rows":2,"is_over":false}}"#);
        let set = format!("UPDATE final_reconcile_jobs SET sweep = '{position}'");
        place.run(db, set).await;
        swept.sweep_rows.unwrap()
    };
    assert_eq!(sweep(r#""key":"other","#).await, 3);
    assert_eq!(sweep("").await, 3, "from the beginning");
    assert_eq!(sweep("").await, 3, "two rows before, and one now");
    let runs = "SELECT row_count AS v FROM final_reconcile_runs WHERE begun_at = 5";
    assert_eq!(place.numbers(db, runs).await, [4]);
}

/// An endpoint that answers 500 until another number is set.
async fn refusing() -> (Arc<AtomicU16>, Receiver) {
    let answer = Arc::new(AtomicU16::new(500));
    let now = Arc::clone(&answer);
    let receiver = Receiver::start(move |_, _| now.load(Ordering::SeqCst)).await;
    (answer, receiver)
}

/// A job that compares the tables by that column, and has its repairs called for.
fn by_key(place: &Place, key: &'static str, receiver: &Receiver) -> Job {
    Job::new("people")
        .source(place.side(Db::Sqlite, "a"))
        .target(place.side(Db::Sqlite, "b"), |map| map.key(key, key).rest())
        .settle(Duration::ZERO)
        .repair(quick(receiver))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repair_is_not_done_by_another_key_than_its_own() {
    let place = Place::fresh().await;
    let db = Db::Sqlite;
    let table = "id int PRIMARY KEY NOT NULL, code int NOT NULL UNIQUE";
    tables(&place, db, db, table).await;
    place.run(db, "INSERT INTO a VALUES (1, 10)").await;
    let (answer, receiver) = refusing().await;
    let wanted = |key| by_key(&place, key, &receiver);
    let by_id = migrated(&place, db, wanted("id")).await;
    by_id.compare("people").await.unwrap();
    let by_code = migrated(&place, db, wanted("code")).await;
    let runs = by_code.start().unwrap();

    eventually("the repair says why it is not done", SOON, async || {
        let open = by_code.repairs("people", 10).await.unwrap();
        let error = open.first().and_then(|repair| repair.last_error.clone());
        match error {
            Some(error) if error.contains("another key") => Ok(()),
            _ => Err(format!("{open:?}")),
        }
    })
    .await;
    assert_eq!(receiver.came().len(), 0);
    // A comparison opens one that can be done.
    answer.store(200, Ordering::SeqCst);
    by_code.compare("people").await.unwrap();
    let body = eventually(
        "the row is called for by its new key",
        SOON,
        async || match receiver.came().into_iter().next() {
            Some(came) => Ok(came.body),
            None => Err(format!("{:?}", by_code.repairs("people", 10).await)),
        },
    )
    .await;
    assert_eq!(body["key"]["code"], "10");
    runs.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_has_a_repair_although_one_with_the_same_value_of_another_key_is_open() {
    let place = Place::fresh().await;
    let db = Db::Sqlite;
    let table = "id int PRIMARY KEY NOT NULL, code int NOT NULL UNIQUE";
    tables(&place, db, db, table).await;
    place.run(db, "INSERT INTO a VALUES (1, 7), (2, 1)").await;
    place.run(db, "INSERT INTO b VALUES (2, 1)").await;
    let (answer, receiver) = refusing().await;
    let wanted = |key| by_key(&place, key, &receiver);
    let by_id = migrated(&place, db, wanted("id")).await;
    by_id.compare("people").await.unwrap();
    place.run(db, "DELETE FROM b").await;
    // Now id 1 has an open repair, and code 1 is missing.
    let by_code = migrated(&place, db, wanted("code")).await;
    by_code.compare("people").await.unwrap();
    answer.store(200, Ordering::SeqCst);
    let runs = by_code.start().unwrap();

    let wanted = BTreeSet::from(["1".to_owned(), "7".to_owned()]);
    eventually(
        "both rows are called for by their codes",
        SOON,
        async || {
            let came = receiver.came().into_iter();
            let codes = came.filter_map(|came| Some(came.body["key"]["code"].as_str()?.to_owned()));
            match codes.collect::<BTreeSet<_>>() {
                codes if codes == wanted => Ok(()),
                codes => Err(format!("{codes:?}")),
            }
        },
    )
    .await;
    runs.shutdown().await;
}
