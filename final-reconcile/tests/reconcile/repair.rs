//! Differences become calls to an endpoint, which are repeated until they are done.

use std::{
    collections::BTreeMap,
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use final_reconcile::{CallbackBody, Job, Reconciler, Repair, RunningReconciler};
use final_tests::eventually;
use final_webhook::Caller;
use serde_json::{Value, json};

use crate::{
    place::{ALL, Db, Place},
    receiver::Receiver,
};

pub const SOON: Duration = Duration::from_secs(30);

pub async fn tables(place: &Place, from: Db, to: Db) {
    let table = "(id int PRIMARY KEY, name varchar(20), amount decimal(8, 2))";
    place.run(from, format!("CREATE TABLE a {table}; INSERT INTO a VALUES (1, 'Ann', 1), (2, NULL, 2.5), (3, 'Eve', 3), (4, 'Joe', 4)")).await;
    place.run(to, format!("CREATE TABLE b {table}; INSERT INTO b VALUES (1, 'Ann', 1), (2, 'Bob', 2.5), (4, 'Joe', 4), (9, 'Old', 9)")).await;
}

/// A reconciler whose state is in the database of the source.
async fn reconciler(
    place: &Place,
    state: Db,
    from: Db,
    to: Db,
    repair: Repair,
    most: u64,
) -> Reconciler {
    let job = Job::new("people")
        .source(place.side(from, "a"))
        .target(place.side(to, "b"), |map| map)
        .settle(Duration::ZERO)
        .repair(repair.pace(Duration::from_millis(20), Duration::from_millis(100)))
        .max_repairs(most);
    let reconciler = match state {
        Db::Postgres => Reconciler::new(&place.postgres),
        Db::Maria => Reconciler::new(&place.mariadb),
        Db::Sqlite => Reconciler::new(&place.sqlite),
    };
    // One failing message must not pause the endpoint for the others here.
    let caller = Caller::builder().failures(1_000).build().unwrap();
    let reconciler = reconciler.caller(caller).job(job).unwrap();
    reconciler.migrate().await.unwrap();
    reconciler
}

pub async fn all_are_done(reconciler: &Reconciler, running: RunningReconciler) {
    eventually("every repair is done", SOON, async || {
        let open = reconciler.repairs("people", 100).await.unwrap();
        if open.is_empty() {
            Ok(())
        } else {
            Err(format!("{open:?}"))
        }
    })
    .await;
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_row_that_differs_is_called_for_until_the_endpoint_has_done_it() {
    let place = Place::fresh().await;
    for (at, state) in ALL.into_iter().enumerate() {
        let to = ALL[(at + 1) % 3];
        tables(&place, state, to).await;
        let receiver = Receiver::start(|_, before| [500, 503, 302, 200][before.min(3)]).await;
        let repair = Repair::callback(receiver.endpoint());
        let reconciler = reconciler(&place, state, state, to, repair, 1_000).await;

        let comparison = reconciler.compare("people").await.unwrap().remove(0);
        assert_eq!(
            (comparison.differences(), comparison.repairs),
            (3, 2),
            "{comparison:?}"
        );
        // A second comparison opens none for a row that has one.
        reconciler.compare("people").await.unwrap();
        let open = reconciler.repairs("people", 100).await.unwrap();
        assert_eq!(open.len(), 2, "{open:?}");

        let running = reconciler.start().unwrap();
        all_are_done(&reconciler, running).await;

        let mut calls: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for came in receiver.came() {
            calls.entry(came.key).or_default().push(came.body);
        }
        assert_eq!(calls.len(), 2, "one idempotency key for each repair");
        let mut bodies: Vec<Value> = calls
            .into_values()
            .map(|calls| {
                assert_eq!(calls.len(), 4, "until it is answered with 200");
                assert!(calls.iter().all(|body| *body == calls[0]));
                calls[0].clone()
            })
            .collect();
        bodies.sort_by_key(|body| body["key"]["id"].to_string());
        let expected = [
            json!({ "job": "people", "kind": "different", "key": { "id": "2" }, "columns": ["name"],
                "row": { "id": "2", "name": null, "amount": "2.50" } }),
            json!({ "job": "people", "kind": "missing", "key": { "id": "3" }, "columns": [],
                "row": { "id": "3", "name": "Eve", "amount": "3.00" } }),
        ];
        let of_sqlite = |text: &str| text.replace("2.50", "2.5").replace("3.00", "3");
        let is_like =
            |a: &Value, b: &Value| a == b || of_sqlite(&a.to_string()) == of_sqlite(&b.to_string());
        assert!(
            bodies.iter().zip(&expected).all(|(a, b)| is_like(a, b)),
            "{state:?}: {bodies:#?}"
        );
        for (db, table) in [(state, "a"), (to, "b")] {
            place.run(db, format!("DROP TABLE {table}")).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_wants_no_calls_any_more_has_mended_nothing() {
    let place = Place::fresh().await;
    let (from, to) = (Db::Maria, Db::Postgres);
    tables(&place, from, to).await;
    let receiver = Receiver::start(|_, before| if before == 0 { 410 } else { 200 }).await;
    let repair = Repair::callback(receiver.endpoint());
    let reconciler = reconciler(&place, from, from, to, repair, 1_000).await;
    reconciler.compare("people").await.unwrap();
    let running = reconciler.start().unwrap();

    all_are_done(&reconciler, running).await;

    assert_eq!(receiver.came().len(), 4, "each of two was called for again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_differs_in_a_column_that_came_since_is_called_for() {
    let place = Place::fresh().await;
    let (from, to) = (Db::Postgres, Db::Maria);
    tables(&place, from, to).await;
    let receiver = Receiver::start(|_, _| 200).await;
    let repair = Repair::callback(receiver.endpoint());
    let reconciler = reconciler(&place, from, from, to, repair, 1_000).await;
    let running = reconciler.start().unwrap();
    reconciler.compare("people").await.unwrap();
    // The worker has the tables as they were.
    eventually("a call", SOON, async || {
        receiver.came().pop().map(drop).ok_or("none")
    })
    .await;
    place
        .run(
            from,
            "ALTER TABLE a ADD COLUMN town varchar(20); UPDATE a SET town = 'Ulm' WHERE id = 1",
        )
        .await;
    place
        .run(to, "ALTER TABLE b ADD COLUMN town varchar(20)")
        .await;
    reconciler.compare("people").await.unwrap();
    eventually("the call", SOON, async || {
        let came = receiver.came();
        let is_it = |body: &Value| body["columns"] == json!(["town"]);
        (came.iter().any(|came| is_it(&came.body)))
            .then_some(())
            .ok_or(came.len())
    })
    .await;
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_is_read_again_before_it_is_called_for() {
    let place = Place::fresh().await;
    tables(&place, Db::Postgres, Db::Maria).await;
    let receiver = Receiver::start(|_, _| 200).await;
    let repair = Repair::callback(receiver.endpoint()).body(CallbackBody::Cupid);
    let reconciler = reconciler(&place, Db::Postgres, Db::Postgres, Db::Maria, repair, 1_000).await;
    reconciler.compare("people").await.unwrap();

    // One heals, and the other changes once more.
    place
        .run(Db::Maria, "UPDATE b SET name = NULL WHERE id = 2")
        .await;
    place
        .run(Db::Postgres, "UPDATE a SET name = 'Eva' WHERE id = 3")
        .await;
    let running = reconciler.start().unwrap();
    all_are_done(&reconciler, running).await;

    let bodies: Vec<Value> = receiver.came().into_iter().map(|came| came.body).collect();
    assert_eq!(
        bodies,
        [json!({ "type": 1, "srcColumn": { "id": "3", "name": "Eva", "amount": "3.00" } })]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_had_to_wait_for_others_has_the_row_as_it_is_by_then() {
    let place = Place::fresh().await;
    let table = "(id int PRIMARY KEY, name varchar(20))";
    place.run(Db::Postgres, format!("CREATE TABLE a {table}; INSERT INTO a SELECT n, 'old' FROM generate_series(1, 20) n")).await;
    place
        .run(Db::Postgres, format!("CREATE TABLE b {table}"))
        .await;
    // The calls of this many repairs are under way at once.
    const AT_ONCE: usize = 8;
    let gate = Arc::new((Mutex::new((0, false)), Condvar::new()));
    let shut = Arc::clone(&gate);
    let receiver = Receiver::start(move |_, _| {
        let wait = || {
            let mut state = shut.0.lock().unwrap();
            state.0 += 1;
            while !state.1 {
                state = shut.1.wait(state).unwrap();
            }
        };
        tokio::task::block_in_place(wait);
        200
    })
    .await;
    let repair = Repair::callback(receiver.endpoint());
    let db = Db::Postgres;
    let reconciler = reconciler(&place, db, db, db, repair, 1_000).await;
    reconciler.compare("people").await.unwrap();
    let running = reconciler.start().unwrap();
    eventually("the first calls are under way", SOON, async || {
        match gate.0.lock().unwrap().0 {
            AT_ONCE => Ok(()),
            calls => Err(format!("{calls} calls")),
        }
    })
    .await;

    place.run(db, "UPDATE a SET name = 'new'").await;
    // One has healed meanwhile.
    let begun: Vec<Value> = receiver.came().into_iter().map(|came| came.body).collect();
    let healed = (1..=20)
        .rev()
        .map(|id| id.to_string())
        .find(|id| {
            let is_other = |body: &Value| body["key"]["id"].as_str() != Some(id.as_str());
            begun.iter().all(is_other)
        })
        .unwrap();
    place
        .run(db, format!("INSERT INTO b VALUES ({healed}, 'new')"))
        .await;
    gate.0.lock().unwrap().1 = true;
    gate.1.notify_all();
    all_are_done(&reconciler, running).await;

    let came = receiver.came();
    let (first, others) = came.split_at(AT_ONCE);
    assert!(first.iter().all(|came| came.body["row"]["name"] == "old"));
    assert!(
        others.iter().all(|came| came.body["row"]["name"] == "new"),
        "{others:#?}"
    );
    assert_eq!(came.len(), 19, "no call for the row that has healed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_cannot_be_read_holds_up_no_other_repair() {
    let place = Place::fresh().await;
    let table = "(id int PRIMARY KEY, name longblob)";
    let db = Db::Maria;
    place.run(db, format!("CREATE TABLE a {table}; INSERT INTO a VALUES (1, 'x'), (2, 'x'), (3, 'x'); CREATE TABLE b {table}")).await;
    let receiver = Receiver::start(|_, _| 200).await;
    let repair = || Repair::callback(receiver.endpoint());
    let first = reconciler(&place, db, db, db, repair(), 1_000).await;
    first.compare("people").await.unwrap();
    // What is put off is not tried again here.
    let slow = Duration::from_secs(3_600);
    let job = Job::new("people")
        .source(place.side(db, "a"))
        .target(place.side(db, "b"), |map| map)
        .repair(repair().pace(slow, slow));
    let reconciler = Reconciler::new(&place.mariadb).job(job).unwrap();
    // It has become larger than the server can put together.
    place
        .run(
            db,
            "UPDATE a SET name = REPEAT('x', @@max_allowed_packet / 2 + 1000) WHERE id = 2",
        )
        .await;

    let running = reconciler.start().unwrap();
    eventually("the others are done", SOON, async || {
        let open = reconciler.repairs("people", 100).await.unwrap();
        let why = |open: &str| open.contains("max_allowed_packet");
        match open.as_slice() {
            [one] if one.last_error.as_deref().is_some_and(why) => Ok(()),
            _ => Err(format!("{open:?}")),
        }
    })
    .await;
    running.shutdown().await;
    assert_eq!(receiver.came().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_looks_like_a_wrong_mapping_repairs_nothing() {
    let place = Place::fresh().await;
    tables(&place, Db::Postgres, Db::Maria).await;
    let receiver = Receiver::start(|_, _| 200).await;
    let repair = Repair::callback(receiver.endpoint()).extras(true);
    let reconciler = reconciler(&place, Db::Maria, Db::Postgres, Db::Maria, repair, 2).await;

    let comparison = reconciler.compare("people").await.unwrap().remove(0);

    assert!(comparison.held_back, "{comparison:?}");
    assert_eq!((comparison.differences(), comparison.repairs), (3, 0));
    assert_eq!(reconciler.repairs("people", 10).await.unwrap().len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_extra_row_is_called_for_only_where_that_is_asked_for() {
    let place = Place::fresh().await;
    tables(&place, Db::Postgres, Db::Maria).await;
    let receiver = Receiver::start(|_, _| 200).await;
    let repair = Repair::callback(receiver.endpoint()).extras(true);
    let reconciler = reconciler(&place, Db::Sqlite, Db::Postgres, Db::Maria, repair, 3).await;

    reconciler.compare("people").await.unwrap();
    let running = reconciler.start().unwrap();
    all_are_done(&reconciler, running).await;

    let extra: Vec<Value> = receiver
        .came()
        .into_iter()
        .map(|came| came.body)
        .filter(|body| body["kind"] == "extra")
        .collect();
    assert_eq!(
        extra,
        [
            json!({ "job": "people", "kind": "extra", "key": { "id": "9" }, "columns": [], "row": null })
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_reconcilers_share_repairs_and_an_operator_sees_retries_and_closes_them() {
    let place = Place::fresh().await;
    tables(&place, Db::Postgres, Db::Maria).await;
    let receiver = Receiver::start(|came, _| {
        if came.body["key"]["id"] == "2" {
            500
        } else {
            200
        }
    })
    .await;
    let slow = Duration::from_secs(3_600);
    let repair = || Repair::callback(receiver.endpoint());
    let first = reconciler(&place, Db::Postgres, Db::Postgres, Db::Maria, repair(), 10).await;
    let job = Job::new("people")
        .source(place.side(Db::Postgres, "a"))
        .target(place.side(Db::Maria, "b"), |map| map)
        .repair(repair().pace(slow, slow));
    let second = Reconciler::new(&place.postgres).job(job).unwrap();
    first.compare("people").await.unwrap();

    let running = second.start().unwrap();
    let stuck = eventually("one repair has failed", SOON, async || {
        let open = second.repairs("people", 10).await.unwrap();
        match open.as_slice() {
            [stuck] if stuck.attempts == 1 => Ok(stuck.clone()),
            _ => Err(format!("{open:?}")),
        }
    })
    .await;
    assert!(
        stuck
            .last_error
            .as_ref()
            .is_some_and(|error| error.contains("500")),
        "{stuck:?}"
    );
    assert!(stuck.due_in_ms > 3_000_000, "{stuck:?}");

    assert_eq!(second.retry("people", Some(stuck.id)).await.unwrap(), 1);
    eventually("it is tried once more", SOON, async || {
        let open = second.repairs("people", 10).await.unwrap();
        if open[0].attempts == 2 {
            Ok(())
        } else {
            Err(format!("{open:?}"))
        }
    })
    .await;
    assert!(second.close("people", stuck.id).await.unwrap());
    assert!(!second.close("people", stuck.id).await.unwrap());
    assert_eq!(second.repairs("people", 10).await.unwrap().len(), 0);
    running.shutdown().await;
    let calls = receiver
        .came()
        .iter()
        .filter(|came| came.body["key"]["id"] == "2")
        .count();
    assert_eq!(calls, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_is_found_again_while_its_call_is_under_way_is_called_for_once_more() {
    let place = Place::fresh().await;
    for state in ALL {
        let table = "(id int PRIMARY KEY, name varchar(20))";
        let db = Db::Postgres;
        place.run(db, format!("CREATE TABLE a {table}; INSERT INTO a VALUES (1, 'old'); CREATE TABLE b {table}")).await;
        let gate = Arc::new((Mutex::new(false), Condvar::new()));
        let shut = Arc::clone(&gate);
        let receiver = Receiver::start(move |_, _| {
            let wait = || {
                let mut is_open = shut.0.lock().unwrap();
                while !*is_open {
                    is_open = shut.1.wait(is_open).unwrap();
                }
            };
            tokio::task::block_in_place(wait);
            200
        })
        .await;
        let repair = Repair::callback(receiver.endpoint());
        let reconciler = reconciler(&place, state, db, db, repair, 10).await;
        reconciler.compare("people").await.unwrap();
        let running = reconciler.start().unwrap();
        eventually("the call is under way", SOON, async || {
            match receiver.came().len() {
                1 => Ok(()),
                calls => Err(format!("{calls} calls")),
            }
        })
        .await;

        place.run(db, "UPDATE a SET name = 'new'").await;
        reconciler.compare("people").await.unwrap();
        *gate.0.lock().unwrap() = true;
        gate.1.notify_all();
        all_are_done(&reconciler, running).await;

        let came = receiver.came();
        let names: Vec<&Value> = came.iter().map(|came| &came.body["row"]["name"]).collect();
        assert_eq!(names, ["old", "new"], "{state:?}");
        assert_ne!(came[0].key, came[1].key, "another row is another call");
        place.run(db, "DROP TABLE a; DROP TABLE b").await;
    }
}
