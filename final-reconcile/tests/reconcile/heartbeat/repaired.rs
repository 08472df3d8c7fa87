//! A row that was repaired, whose repair comes through the mirror.

use std::sync::Arc;

use final_reconcile::{Reconciler, Repair};
use tokio::sync::Semaphore;

use super::*;
use crate::receiver::Reply;

const LAG: Duration = Duration::from_secs(2);

/// An endpoint that answers a call once the test lets it.
async fn slow(answers: &Arc<Semaphore>) -> Receiver {
    let answers = Arc::clone(answers);
    Receiver::replying(move |_| {
        let answers = Arc::clone(&answers);
        async move {
            answers.acquire().await.unwrap().forget();
            Reply::Status(200)
        }
    })
    .await
}

/// A job whose scans find row 5 again and again, while the call for it is under way.
async fn stage(place: &Place, from: Db, to: Db, state: Db, receiver: &Receiver) -> Reconciler {
    filled(place, from, to).await;
    place.run(to, "UPDATE b SET v = -1 WHERE id = 5").await;
    let endpoint = receiver.endpoint().timeout(Duration::from_secs(25));
    let wanted = job(place, from, to, Some(heartbeat()))
        .sweep(Sweep::every(Duration::from_secs(1)))
        .repair(Repair::callback(endpoint));
    migrated(place, state, wanted).await
}

/// Waits until scans have found the row again, whose call is under way.
async fn found_again(place: &Place, state: Db, receiver: &Receiver) {
    eventually("the row is found once more", SOON, async || {
        let found = "SELECT found_again AS v FROM final_reconcile_repairs";
        let found = place.numbers(state, found).await;
        (found == [1]).then_some(()).ok_or(found)
    })
    .await;
    assert_eq!(receiver.came().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_whose_repair_is_on_its_way_is_not_called_for_once_more() {
    let place = Place::fresh().await;
    for (at, from) in ALL.into_iter().enumerate() {
        let (to, state) = (ALL[(at + 1) % 3], ALL[(at + 2) % 3]);
        let answers = Arc::new(Semaphore::new(0));
        let receiver = slow(&answers).await;
        let reconciler = stage(&place, from, to, state, &receiver).await;
        let mirror = Mirror::new(&place, from, to, LAG).await;
        let running = reconciler.start().unwrap();
        let testing = async {
            found_again(&place, state, &receiver).await;
            // The endpoint writes the row once more, and the mirror brings it.
            mirror.write("UPDATE {} SET v = 0 WHERE id = 5").await;
            answers.add_permits(10);
            eventually("the repair is over", SOON, async || {
                let open = reconciler.repairs("people", 10).await.unwrap();
                open.is_empty().then_some(()).ok_or(open)
            })
            .await;
            status(&reconciler, "no row waits", |job| job.suspects == 0).await;
            let same = "SELECT v FROM b WHERE id = 5";
            assert_eq!(place.numbers(to, same).await, [0]);
            assert_eq!(receiver.came().len(), 1);
            mirror.end();
        };
        tokio::join!(testing, mirror.run());
        running.shutdown().await;
        drop_tables(&place, from, to).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repair_that_did_not_help_is_tried_anew_once_the_mirror_has_passed_it_and_not_before() {
    let place = Place::fresh().await;
    let (from, to, state) = (Db::Maria, Db::Postgres, Db::Sqlite);
    let answers = Arc::new(Semaphore::new(0));
    let receiver = slow(&answers).await;
    let reconciler = stage(&place, from, to, state, &receiver).await;
    let mirror = Mirror::new(&place, from, to, Duration::ZERO).await;
    let running = reconciler.start().unwrap();
    let testing = async {
        found_again(&place, state, &receiver).await;
        mirror.stands(true);
        answers.add_permits(10);
        let waits = async || {
            let open = reconciler.repairs("people", 10).await.unwrap();
            let waits = open.iter().any(|repair| repair.waits_for_mirror);
            waits.then(|| open[0].id).ok_or(open)
        };
        let id = eventually("the repair waits for the mirror", SOON, waits).await;
        // It is looked at whether the mirror has passed it.
        let begun = "SELECT due_at AS v FROM final_reconcile_repairs";
        let before = place.numbers(state, begun).await;
        eventually("the mirror was looked at twice", SOON, async || {
            let due = place.numbers(state, begun).await;
            let is_later = due[0] > before[0] + 2_000_000;
            is_later.then_some(()).ok_or((due, before.clone()))
        })
        .await;
        assert_eq!(eventually("it still waits", SOON, waits).await, id);
        assert_eq!(receiver.came().len(), 1);

        mirror.stands(false);
        let came = eventually("another call", SOON, async || {
            let came = receiver.came();
            (came.len() > 1).then_some(came.clone()).ok_or(came)
        })
        .await;
        assert!(came[0].key.starts_with(&id.to_string()));
        assert!(!came[1].key.starts_with(&id.to_string()), "{came:?}");
        mirror.end();
    };
    tokio::join!(testing, mirror.run());
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repair_that_is_done_is_no_trouble_any_more_while_it_waits_for_the_mirror() {
    let place = Place::fresh().await;
    let (from, to, state) = (Db::Postgres, Db::Maria, Db::Postgres);
    filled(&place, from, to).await;
    place.run(to, "UPDATE b SET v = -1 WHERE id = 5").await;
    let calls = Receiver::start(|_, before| if before < 5 { 500 } else { 200 }).await;
    let alerts = Receiver::start(|_, _| 200).await;
    let quick = Duration::from_millis(20);
    let wanted = job(&place, from, to, Some(heartbeat()))
        .sweep(Sweep::every(Duration::from_secs(3_600)))
        .repair(Repair::callback(calls.endpoint()).pace(quick, Duration::from_secs(2)))
        .alert(alerts.endpoint());
    let reconciler = migrated(&place, state, wanted).await;
    let mirror = Mirror::new(&place, from, to, Duration::ZERO).await;
    let running = reconciler.start().unwrap();
    let testing = async {
        eventually("the alert", SOON, async || {
            alerts.came().pop().map(drop).ok_or(calls.came().len())
        })
        .await;
        mirror.stands(true);
        let told = eventually("the trouble is over", SOON, async || {
            let told = alerts.came();
            let is_over = told.last().is_some_and(|last| last.body["over"] == true);
            is_over.then_some(told.clone()).ok_or(told)
        })
        .await;
        assert!(told[0].body["last_error"].as_str().unwrap().contains("500"));
        let open = reconciler.repairs("people", 10).await.unwrap();
        assert!(open[0].waits_for_mirror, "{open:?}");
        mirror.end();
    };
    tokio::join!(testing, mirror.run());
    running.shutdown().await;
}
