//! An endpoint is told once of a trouble, and once that it is over.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU16, Ordering},
    },
    time::Duration,
};

use final_reconcile::{Job, Reconciler, Repair, Sweep};
use final_tests::eventually;
use final_webhook::Caller;
use serde_json::{Value, json};

use crate::{
    place::{ALL, Db, Place},
    receiver::Receiver,
    repair::{SOON, tables},
};

const QUICK: Duration = Duration::from_millis(20);

/// A job whose repairs go to one endpoint and whose alerts go to another. All state is in one database.
async fn reconciler(place: &Place, state: Db, repairs: &Receiver, alerts: &Receiver) -> Reconciler {
    let job = Job::new("people")
        .source(place.side(Db::Postgres, "a"))
        .target(place.side(Db::Maria, "b"), |map| map)
        .settle(Duration::ZERO)
        .repair(Repair::callback(repairs.endpoint()).pace(QUICK, QUICK))
        .alert(alerts.endpoint());
    let reconciler = match state {
        Db::Postgres => Reconciler::new(&place.postgres),
        Db::Maria => Reconciler::new(&place.mariadb),
        Db::Sqlite => Reconciler::new(&place.sqlite),
    };
    let caller = Caller::builder().failures(64).build().unwrap();
    let reconciler = reconciler.caller(caller).job(job).unwrap();
    reconciler.migrate().await.unwrap();
    reconciler
}

async fn alerts_are(receiver: &Receiver, count: usize) -> Vec<Value> {
    let what = format!("{count} alerts have come");
    let came = eventually(&what, SOON, async || {
        let came = receiver.came();
        match came.len() == count {
            true => Ok(came),
            false => Err(format!("{came:#?}")),
        }
    })
    .await;
    came.into_iter().map(|came| came.body).collect()
}

/// Waits until the tables say this many times that there is nothing to do: the task looks each two seconds.
async fn the_task_has_looked(place: &Place, state: Db) {
    let until = "SELECT live_until AS v FROM final_reconcile_jobs";
    let mut seen = place.numbers(state, until).await;
    for _ in 0..3 {
        seen = eventually("the task has looked again", SOON, async || {
            let now = place.numbers(state, until).await;
            match now == seen {
                true => Err(format!("{now:?}")),
                false => Ok(now),
            }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trouble_is_told_once_whatever_restarts_and_once_when_it_is_over() {
    let place = Place::fresh().await;
    tables(&place, Db::Postgres, Db::Maria).await;
    for state in ALL {
        let is_well = Arc::new(AtomicBool::new(false));
        let well = Arc::clone(&is_well);
        let repairs = Receiver::start(move |_, _| match well.load(Ordering::SeqCst) {
            true => 200,
            false => 500,
        })
        .await;
        let alerts = Receiver::start(|_, _| 200).await;
        let first = reconciler(&place, state, &repairs, &alerts).await;
        let second = reconciler(&place, state, &repairs, &alerts).await;
        first.compare("people").await.unwrap();
        let (running, other) = (first.start().unwrap(), second.start().unwrap());

        let told = alerts_are(&alerts, 1).await.remove(0);
        let open = first.repairs("people", 5).await.unwrap();
        let expected = json!({ "job": "people", "source": open[0].source, "target": open[0].target, "kind": "repairs", "over": false, "open": 2,
            "oldest": told["oldest"], "last_error": told["last_error"], "first_seen": told["first_seen"], "paused": false,
            "judged_by": "a settle of 0ns, which must be longer than the copy lags" });
        assert_eq!(told, expected);
        assert!(
            told["last_error"].as_str().unwrap().contains("500"),
            "{told}"
        );
        for time in ["oldest", "first_seen"] {
            let text = told[time].as_str().unwrap();
            assert!(
                text.starts_with("20") && text.contains('T') && text.ends_with('Z'),
                "{text}"
            );
        }
        running.shutdown().await;
        other.shutdown().await;

        // Neither two processes nor a restart tell it again.
        let running = second.start().unwrap();
        the_task_has_looked(&place, state).await;
        assert_eq!(alerts.came().len(), 1, "{state:?}");

        is_well.store(true, Ordering::SeqCst);
        let told = alerts_are(&alerts, 2).await.remove(1);
        assert_eq!(
            (&told["over"], &told["open"], &told["oldest"]),
            (&json!(true), &json!(0), &Value::Null)
        );
        assert_eq!(told["first_seen"], alerts.came()[0].body["first_seen"]);
        the_task_has_looked(&place, state).await;
        running.shutdown().await;
        let came = alerts.came();
        assert_eq!(came.len(), 2, "{state:?}: {came:#?}");
        assert_ne!(came[0].key, came[1].key, "another alert is another call");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trouble_that_lasts_is_told_again_after_an_hour() {
    let place = Place::fresh().await;
    tables(&place, Db::Postgres, Db::Maria).await;
    let repairs = Receiver::start(|_, _| 500).await;
    let alerts = Receiver::start(|_, _| 200).await;
    let reconciler = reconciler(&place, Db::Postgres, &repairs, &alerts).await;
    reconciler.compare("people").await.unwrap();
    let running = reconciler.start().unwrap();
    alerts_are(&alerts, 1).await;
    let waits = "SELECT (due_at - told_at) / 1000000 AS v FROM final_reconcile_alerts";
    assert_eq!(place.numbers(Db::Postgres, waits).await, [3_600]);

    // An hour is over.
    place
        .run(
            Db::Postgres,
            "UPDATE final_reconcile_alerts SET due_at = due_at - 3600000000",
        )
        .await;

    let came = alerts_are(&alerts, 2).await;
    assert_eq!(came[0]["first_seen"], came[1]["first_seen"]);
    assert_ne!(alerts.came()[0].key, alerts.came()[1].key);
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alert_that_cannot_be_delivered_is_kept_and_tried_again() {
    let place = Place::fresh().await;
    tables(&place, Db::Postgres, Db::Maria).await;
    let repairs = Receiver::start(|_, _| 500).await;
    let answer = Arc::new(AtomicU16::new(500));
    let now = Arc::clone(&answer);
    let alerts = Receiver::start(move |_, _| now.load(Ordering::SeqCst)).await;
    let reconciler = reconciler(&place, Db::Postgres, &repairs, &alerts).await;
    reconciler.compare("people").await.unwrap();
    let running = reconciler.start().unwrap();
    alerts_are(&alerts, 1).await;
    let failed = "SELECT attempts AS v FROM final_reconcile_alerts WHERE due_at > told_at";
    eventually("the failure is written down", SOON, async || {
        match place.numbers(Db::Postgres, failed).await.as_slice() {
            [1] => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    running.shutdown().await;
    answer.store(200, Ordering::SeqCst);

    // It is due in ten seconds, for whichever process is there.
    let soon = "UPDATE final_reconcile_alerts SET due_at = 0";
    place.run(Db::Postgres, soon).await;
    let running = reconciler.start().unwrap();

    alerts_are(&alerts, 2).await;
    running.shutdown().await;
    let came = alerts.came();
    assert_eq!(came[0].key, came[1].key, "a repeat has the same key");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_cannot_be_read_is_told_as_well() {
    let place = Place::fresh().await;
    let db = Db::Maria;
    let table = "(id int PRIMARY KEY, name longblob)";
    place
        .run(
            db,
            format!(
                "CREATE TABLE a {table}; CREATE TABLE b {table}; INSERT INTO a VALUES (1, 'x')"
            ),
        )
        .await;
    let repairs = Receiver::start(|_, _| 200).await;
    let alerts = Receiver::start(|_, _| 200).await;
    let job = Job::new("people")
        .source(place.side(db, "a"))
        .target(place.side(db, "b"), |map| map)
        .settle(Duration::ZERO)
        .repair(Repair::callback(repairs.endpoint()).pace(QUICK, QUICK))
        .alert(alerts.endpoint());
    let reconciler = Reconciler::new(&place.mariadb).job(job).unwrap();
    reconciler.migrate().await.unwrap();
    reconciler.compare("people").await.unwrap();
    let larger = "UPDATE a SET name = REPEAT('x', @@max_allowed_packet / 2 + 1000)";
    place.run(db, larger).await;

    let running = reconciler.start().unwrap();

    let told = alerts_are(&alerts, 1).await.remove(0);
    running.shutdown().await;
    let error = told["last_error"].as_str().unwrap();
    assert!(error.contains("max_allowed_packet"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_pauses_and_a_scan_that_cannot_run_are_told_until_they_are_well() {
    let place = Place::fresh().await;
    tables(&place, Db::Postgres, Db::Maria).await;
    let repairs = Receiver::start(|_, _| 200).await;
    let alerts = Receiver::start(|_, _| 200).await;
    let job = Job::new("people")
        .source(place.side(Db::Postgres, "a"))
        .target(place.side(Db::Maria, "b"), |map| map)
        .settle(Duration::ZERO)
        .sweep(Sweep::every(Duration::from_secs(1)))
        .repair(Repair::callback(repairs.endpoint()).pace(QUICK, QUICK))
        .max_repairs(1)
        .alert(alerts.endpoint());
    let reconciler = Reconciler::new(&place.postgres).job(job).unwrap();
    reconciler.migrate().await.unwrap();
    let running = reconciler.start().unwrap();
    let about = |told: &Value| json!([told["kind"], told["over"], told["paused"]]);

    let told = alerts_are(&alerts, 1).await.remove(0);
    assert_eq!(about(&told), json!(["paused", false, true]), "{told}");
    let equal = "DELETE FROM b; INSERT INTO b VALUES (1, 'Ann', 1), (2, NULL, 2.5), (3, 'Eve', 3), (4, 'Joe', 4)";
    place.run(Db::Maria, equal).await;
    assert_eq!(reconciler.resume("people").await.unwrap(), 1);
    let told = alerts_are(&alerts, 2).await.remove(1);
    assert_eq!(about(&told), json!(["paused", true, false]), "{told}");

    place.run(Db::Maria, "RENAME TABLE b TO away").await;
    let told = alerts_are(&alerts, 3).await.remove(2);
    assert_eq!(about(&told), json!(["scan", false, false]), "{told}");
    let error = told["last_error"].as_str().unwrap();
    assert!(error.contains('b'), "{told}");
    place.run(Db::Maria, "RENAME TABLE away TO b").await;
    let told = alerts_are(&alerts, 4).await.remove(3);
    assert_eq!(about(&told), json!(["scan", true, false]), "{told}");
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_the_job_has_no_more_is_not_told() {
    let place = Place::fresh().await;
    let state = Db::Postgres;
    tables(&place, Db::Postgres, Db::Maria).await;
    let receiver = Receiver::start(|_, _| 200).await;
    let reconciler = reconciler(&place, state, &receiver, &receiver).await;
    place
        .run(
            state,
            "INSERT INTO final_reconcile_jobs (name, owner, epoch, live_until, job, target, paused, paused_at, trouble, \
             trouble_at) VALUES ('old', gen_random_uuid(), 0, 0, 'people', '`b` in MySQL old:3306/x', 'too much', 1, 'away', 1)",
        )
        .await;

    let running = reconciler.start().unwrap();

    the_task_has_looked(&place, state).await;
    running.shutdown().await;
    assert_eq!(receiver.came().len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_alerts_of_each_source_of_one_job_and_target_reach_its_own_endpoint() {
    let place = Place::fresh().await;
    let db = Db::Sqlite;
    let table = "(id int PRIMARY KEY NOT NULL)";
    let make = format!(
        "CREATE TABLE a {table}; CREATE TABLE c {table}; CREATE TABLE b {table}; \
         INSERT INTO a VALUES (1), (2); INSERT INTO c VALUES (3)"
    );
    place.run(db, make).await;
    let (well, broken) = (
        Receiver::start(|_, _| 200).await,
        Receiver::start(|_, _| 500).await,
    );
    let (alerts_a, alerts_c) = (
        Receiver::start(|_, _| 200).await,
        Receiver::start(|_, _| 200).await,
    );
    let reconciler = async |source: &str, repairs: &Receiver, alerts: &Receiver| {
        let job = Job::new("people")
            .source(place.side(db, source))
            .target(place.side(db, "b"), |map| map)
            .settle(Duration::ZERO)
            .repair(Repair::callback(repairs.endpoint()).pace(QUICK, QUICK))
            .alert(alerts.endpoint());
        let caller = Caller::builder().failures(64).build().unwrap();
        let reconciler = Reconciler::new(&place.sqlite).caller(caller);
        let reconciler = reconciler.job(job).unwrap();
        reconciler.migrate().await.unwrap();
        reconciler.compare("people").await.unwrap();
        reconciler
    };
    let of_a = reconciler("a", &broken, &alerts_a).await;
    let of_c = reconciler("c", &broken, &alerts_c).await;
    let (runs_a, runs_c) = (of_a.start().unwrap(), of_c.start().unwrap());

    assert_eq!(alerts_are(&alerts_a, 1).await[0]["open"], 2);
    assert_eq!(alerts_are(&alerts_c, 1).await[0]["open"], 1);
    // The end of the one is not the end of the other.
    runs_c.shutdown().await;
    let runs_c = reconciler("c", &well, &alerts_c).await.start().unwrap();
    assert_eq!(alerts_are(&alerts_c, 2).await[1]["over"], true);
    the_task_has_looked(&place, db).await;
    assert_eq!(alerts_a.came().len(), 1);
    runs_a.shutdown().await;
    runs_c.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_files_with_one_source_and_two_targets_have_both_their_alerts_told() {
    let place = Place::fresh().await;
    let db = Db::Sqlite;
    let table = "(id int PRIMARY KEY)";
    let made = ["a", "b", "d"].map(|name| format!("CREATE TABLE {name} {table}"));
    place.run(db, made.join("; ")).await;
    place.run(db, "INSERT INTO a VALUES (1)").await;
    let broken = Receiver::start(|_, _| 500).await;
    let mut running = Vec::new();
    for target in ["b", "d"] {
        let alerts = Receiver::start(|_, _| 200).await;
        let job = Job::new("people")
            .source(place.side(db, "a"))
            .target(place.side(db, target), |map| map)
            .settle(Duration::ZERO)
            .repair(Repair::callback(broken.endpoint()).pace(QUICK, QUICK))
            .alert(alerts.endpoint());
        let reconciler = Reconciler::new(&place.sqlite).job(job).unwrap();
        reconciler.migrate().await.unwrap();
        reconciler.compare("people").await.unwrap();
        running.push((target, alerts, reconciler.start().unwrap()));
    }

    for (target, alerts, _) in &running {
        let told = alerts_are(alerts, 1).await.remove(0);
        let of =
            |side: &str, name: &str| told[side].as_str().unwrap().contains(&format!("`{name}`"));
        assert!(of("source", "a") && of("target", target), "{told}");
    }
    for (_, _, runs) in running {
        runs.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_is_paused_and_rows_that_cannot_be_read_are_told_after_a_minute() {
    let place = Place::fresh().await;
    for state in ALL {
        for is_dead in [true, false] {
            for db in ALL {
                place.run(db, "DROP TABLE IF EXISTS a").await;
                place.run(db, "DROP TABLE IF EXISTS b").await;
            }
            let table = "(id int PRIMARY KEY)";
            let rows = "INSERT INTO a SELECT n FROM generate_series(1, 40) n";
            place
                .run(Db::Postgres, format!("CREATE TABLE a {table}; {rows}"))
                .await;
            place
                .run(Db::Maria, format!("CREATE TABLE b {table}"))
                .await;
            let repairs = Receiver::start(move |_, _| if is_dead { 500 } else { 200 }).await;
            let alerts = Receiver::start(|_, _| 200).await;
            let job = Job::new(format!("people {is_dead}"))
                .source(place.side(Db::Postgres, "a"))
                .target(place.side(Db::Maria, "b"), |map| map)
                .settle(Duration::ZERO)
                .repair(Repair::callback(repairs.endpoint()).pace(QUICK, QUICK))
                .alert(alerts.endpoint());
            let name = format!("people {is_dead}");
            // The caller pauses an endpoint after a few failures, so no repair is tried often.
            let reconciler = match state {
                Db::Postgres => Reconciler::new(&place.postgres),
                Db::Maria => Reconciler::new(&place.mariadb),
                Db::Sqlite => Reconciler::new(&place.sqlite),
            };
            let reconciler = reconciler.job(job).unwrap();
            reconciler.migrate().await.unwrap();
            reconciler.compare(&name).await.unwrap();
            if !is_dead {
                place.run(Db::Maria, "RENAME TABLE b TO away").await;
            }
            let running = reconciler.start().unwrap();
            let failing = format!(
                "SELECT slot AS v FROM final_reconcile_repairs WHERE job = '{name}' AND failed_at IS NOT NULL"
            );
            eventually("all of them fail", SOON, async || {
                match place.texts(state, &failing).await.len() {
                    40 => Ok(()),
                    failing => Err(format!("{failing} fail")),
                }
            })
            .await;
            assert_eq!(alerts.came().len(), 0, "{state:?}");

            // A minute is over.
            let over = "UPDATE final_reconcile_repairs SET failed_at = failed_at - 60000000";
            place.run(state, over).await;

            let told = alerts_are(&alerts, 1).await.remove(0);
            assert_eq!(
                (&told["kind"], &told["open"]),
                (&json!("repairs"), &json!(40)),
                "{told}"
            );
            running.shutdown().await;
            for repair in reconciler.repairs(&name, 100).await.unwrap() {
                reconciler.close(&name, repair.id).await.unwrap();
            }
            if !is_dead {
                place.run(Db::Maria, "DROP TABLE away").await;
            }
        }
    }
}

#[tokio::test]
async fn a_time_limit_that_no_alert_can_have_is_refused_at_the_start() {
    let place = Place::fresh().await;
    let alerts = Receiver::start(|_, _| 200).await;
    let start = |seconds| {
        let job = Job::new("people")
            .source(place.side(Db::Postgres, "a"))
            .target(place.side(Db::Maria, "b"), |map| map)
            .alert(alerts.endpoint().timeout(Duration::from_secs(seconds)));
        let reconciler = Reconciler::new(&place.sqlite).job(job).unwrap();
        reconciler.start()
    };
    let error = start(21).unwrap_err().to_string();
    assert!(
        error.contains("`alert`") && error.contains("20s"),
        "{error}"
    );
    start(20).unwrap().shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_of_alerts_that_answers_410_is_not_called_again_for_the_same_trouble() {
    let place = Place::fresh().await;
    tables(&place, Db::Postgres, Db::Maria).await;
    let repairs = Receiver::start(|_, _| 500).await;
    let alerts = Receiver::start(|_, _| 410).await;
    let reconciler = reconciler(&place, Db::Sqlite, &repairs, &alerts).await;
    reconciler.compare("people").await.unwrap();
    let running = reconciler.start().unwrap();

    alerts_are(&alerts, 1).await;
    the_task_has_looked(&place, Db::Sqlite).await;

    assert_eq!(alerts.came().len(), 1);
    // Another try would be due in ten seconds.
    let waits = "SELECT (due_at - told_at) / 1000000 AS v FROM final_reconcile_alerts";
    assert_eq!(place.numbers(Db::Sqlite, waits).await, [3_600]);
    running.shutdown().await;
}
