//! More rows change than may wait, while the mirror stands still.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use final_core::{Bus, Router, SqlBroker};
use serde_json::json;

use super::*;

const TOPIC: &str = "cdc.a";

/// Rows that change, and how many of them may wait.
const CHANGED: i64 = 20;
const MOST: u64 = 5;

const HELD_BACK: &str = "final_reconcile_holding_back{job=\"people\"";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_beyond_the_bound_stay_in_the_log_until_the_mirror_goes_on_and_none_is_forgotten() {
    let place = Place::fresh().await;
    let (from, to, state) = (Db::Postgres, Db::Maria, Db::Sqlite);
    filled(&place, from, to).await;
    let mirror = Mirror::new(&place, from, to, Duration::ZERO).await;
    mirror.stands(true);
    let receiver = Receiver::start(|_, _| 200).await;
    let wanted = job(&place, from, to, Some(heartbeat()))
        .settle(Duration::ZERO)
        .watch(TOPIC)
        .max_waiting(MOST as u32)
        .repair(repair(&receiver));
    let reconciler = migrated(&place, state, wanted).await;
    let running = reconciler.start().unwrap();
    let handled = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&handled);
    let count = move || {
        counting.fetch_add(1, Ordering::Relaxed);
        async {}
    };
    let log = |service: &str| {
        let broker = SqlBroker::new(place.postgres.clone());
        Bus::new(service, place.postgres.clone(), broker)
    };
    let (bus, other) = (log("reconcile"), log("other"));
    let watching = reconciler.watching(Router::new());
    bus.start(watching).await.unwrap();
    other
        .start(Router::new().route(TOPIC, count))
        .await
        .unwrap();
    let testing = async {
        for id in 1..=CHANGED {
            let sql = format!("UPDATE {{}} SET v = 7 WHERE id = {id}");
            mirror.write(&sql).await;
        }
        // A row that the mirror will not bring: the last change of all.
        place
            .run(to, format!("UPDATE b SET v = -1 WHERE id = {ROWS}"))
            .await;
        let at = "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') AS v";
        let at = place.texts(from, at).await.remove(0);
        for id in (1..=CHANGED).chain([ROWS]) {
            let change = json!({ "op": "update", "schema": "public", "table": "a", "key": { "id": id }, "at": at,
                "before": null, "after": { "id": id, "v": 7 }, "changed": ["v"] });
            let publish = bus.publish_bytes(TOPIC, change.to_string());
            publish.key(format!("a/{id}")).await.unwrap();
        }
        eventually("all changes are in the log", SOON, async || {
            let count = handled.load(Ordering::Relaxed);
            (count > CHANGED as usize).then_some(()).ok_or(count)
        })
        .await;
        let job = status(&reconciler, "that changes are held back", |job| {
            job.trouble
                .as_ref()
                .is_some_and(|why| why.contains("changes are held back in `cdc.a`"))
        })
        .await;
        assert_eq!(job.suspects, MOST, "{job:?}");
        assert!(running.metrics().contains(HELD_BACK));
        let full = running.metrics();
        let full = full.lines().find(|line| line.starts_with(HELD_BACK));
        assert!(full.unwrap().ends_with(" 1"), "{full:?}");
        assert!(!running.health().is_ready());
        assert_eq!(receiver.came().len(), 0);

        mirror.stands(false);
        only_called(&receiver, &reconciler, &[&ROWS.to_string()]).await;
        let now = status(&reconciler, "no row waits", |job| {
            job.suspects == 0 && job.trouble.is_none()
        });
        now.await;
        let runs = reconciler.runs("people", 10).await.unwrap();
        let rows: u64 = runs.iter().map(|run| run.rows).sum();
        assert_eq!(rows, CHANGED as u64 + 1, "{runs:?}");
        let open = running.metrics();
        let open = open.lines().find(|line| line.starts_with(HELD_BACK));
        assert!(open.unwrap().ends_with(" 0"), "{open:?}");
        assert!(running.health().is_ready());
        mirror.end();
    };
    tokio::join!(testing, mirror.run());
    bus.shutdown().await.unwrap();
    other.shutdown().await.unwrap();
    running.shutdown().await;
}
