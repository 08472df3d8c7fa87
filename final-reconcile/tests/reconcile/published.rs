//! Repairs by messages on a bus: each has the row, and the same id however often it comes.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use final_core::{Bus, Json, Key, MemoryBroker, MessageId, Router, SqlBroker};
use final_reconcile::{Job, Reconciler, Repair};
use final_tests::eventually;
use serde_json::{Value, json};

use crate::{
    place::{Db, Place},
    repair::{SOON, tables},
};

const QUICK: Duration = Duration::from_millis(20);

/// A message as a handler gets it.
type Came = (MessageId, Option<String>, Value);

async fn collected(bus: &Bus<sqlx::Postgres>) -> Arc<Mutex<Vec<Came>>> {
    let came = Arc::new(Mutex::new(Vec::new()));
    let all = Arc::clone(&came);
    let router = Router::new().route(
        "people.repair",
        async move |id: MessageId, Key(key): Key, Json(body): Json<Value>| {
            let key = key.as_deref().map(str::to_owned);
            all.lock().unwrap().push((id, key, body));
        },
    );
    bus.start(router).await.unwrap();
    came
}

async fn reconciler(place: &Place, bus: &Bus<sqlx::Postgres>) -> Reconciler {
    let repair = Repair::publish(bus.clone(), "people.repair").pace(QUICK, QUICK);
    let job = Job::new("people")
        .source(place.side(Db::Postgres, "a"))
        .target(place.side(Db::Maria, "b"), |map| map)
        .settle(Duration::ZERO)
        .repair(repair);
    let reconciler = Reconciler::new(&place.postgres).job(job).unwrap();
    reconciler.migrate().await.unwrap();
    reconciler
}

/// Runs until no repair is open.
async fn all_are_published(reconciler: &Reconciler) {
    let running = reconciler.start().unwrap();
    eventually("every message is committed", SOON, async || {
        let open = reconciler.repairs("people", 10).await.unwrap();
        match open.is_empty() {
            true => Ok(()),
            false => Err(format!("{open:#?}")),
        }
    })
    .await;
    running.shutdown().await;
}

async fn messages_come(bus: Bus<sqlx::Postgres>) {
    let place = Place::fresh().await;
    // The bus of the caller has its own database.
    tables(&place, Db::Postgres, Db::Maria).await;
    let came = collected(&bus).await;
    let reconciler = reconciler(&place, &bus).await;
    reconciler.compare("people").await.unwrap();
    let open = reconciler.repairs("people", 10).await.unwrap();
    place
        .run(
            Db::Postgres,
            "CREATE TABLE kept AS SELECT * FROM final_reconcile_repairs",
        )
        .await;

    all_are_published(&reconciler).await;
    // A process that is killed between the commit of the message and its own record leaves the repair as it was.
    let again = "INSERT INTO final_reconcile_repairs SELECT * FROM kept";
    place.run(Db::Postgres, again).await;
    all_are_published(&reconciler).await;

    let mut came = eventually("both have come twice", SOON, async || {
        let came = came.lock().unwrap().clone();
        match came.len() {
            4 => Ok(came),
            _ => Err(format!("{came:#?}")),
        }
    })
    .await;
    came.sort_by_key(|(_, key, _)| key.clone());
    let bodies = [
        json!({ "job": "people", "kind": "different", "key": { "id": "2" }, "columns": ["name"],
            "row": { "id": "2", "name": null, "amount": "2.50" } }),
        json!({ "job": "people", "kind": "missing", "key": { "id": "3" }, "columns": [],
            "row": { "id": "3", "name": "Eve", "amount": "3.00" } }),
    ];
    for (pair, (key, body)) in came.chunks(2).zip([("2", &bodies[0]), ("3", &bodies[1])]) {
        assert_eq!(pair[0], pair[1], "a repeat is the same message");
        assert_eq!((pair[0].1.as_deref(), &pair[0].2), (Some(key), body));
    }
    // Nothing has repaired the rows, so the next comparison opens new repairs.
    reconciler.compare("people").await.unwrap();
    let reopened = reconciler.repairs("people", 10).await.unwrap();
    assert_eq!(reopened.len(), 2);
    let is_new = |id| open.iter().all(|old| old.id != id);
    assert!(reopened.iter().all(|repair| is_new(repair.id)));
    bus.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repair_is_a_message_in_the_log_and_a_repeat_has_the_same_id() {
    let place = Place::fresh().await;
    let pool = place.postgres.clone();
    messages_come(Bus::new("mender", pool.clone(), SqlBroker::new(pool))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repair_is_a_message_in_the_outbox_and_a_repeat_has_the_same_id() {
    let place = Place::fresh().await;
    let broker = MemoryBroker::new();
    messages_come(Bus::new("mender", place.postgres.clone(), broker)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repair_waits_while_its_message_cannot_be_committed() {
    let place = Place::fresh().await;
    tables(&place, Db::Postgres, Db::Maria).await;
    // Nothing has made the tables of this bus.
    let bus = Bus::new("mender", place.postgres.clone(), MemoryBroker::new());
    let reconciler = reconciler(&place, &bus).await;
    reconciler.compare("people").await.unwrap();

    let running = reconciler.start().unwrap();
    eventually("both have failed and say why", SOON, async || {
        let open = reconciler.repairs("people", 10).await.unwrap();
        let is_failed = |error: &str| error.contains("could not be published");
        let all = open
            .iter()
            .all(|repair| repair.last_error.as_deref().is_some_and(is_failed));
        match open.len() == 2 && all {
            true => Ok(()),
            false => Err(format!("{open:#?}")),
        }
    })
    .await;
    let came = collected(&bus).await;
    eventually("both messages have come", SOON, async || {
        let came = came.lock().unwrap().len();
        match came {
            2 => Ok(()),
            _ => Err(format!("{came} messages")),
        }
    })
    .await;
    running.shutdown().await;
    bus.shutdown().await.unwrap();
}
