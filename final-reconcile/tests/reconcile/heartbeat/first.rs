//! When a row is read for the first time.

use final_core::{Message, Router};
use serde_json::json;

use super::*;

const TIMED: &str = "id int PRIMARY KEY, v bigint NOT NULL, changed timestamp(6) NULL";
const TOPIC: &str = "cdc.a";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_is_new_updated_or_watched_is_read_first_when_the_mirror_has_brought_it() {
    let place = Place::fresh().await;
    let (from, to, state) = (Db::Postgres, Db::Maria, Db::Sqlite);
    tables(&place, from, to, TIMED).await;
    both(&place, from, to, "(1, 0, NULL), (2, 0, NULL)").await;
    let mirror = Mirror::new(&place, from, to, Duration::from_secs(2)).await;
    let wanted = Job::new("people")
        .source(place.side(from, "a"))
        .target(place.side(to, "b"), |map| {
            map.except(["changed"]).heartbeat(heartbeat())
        })
        .settle(Duration::ZERO)
        .fresh_ids(OFTEN)
        .first_id(3)
        .updated("changed", OFTEN, Duration::from_secs(1))
        .watch(TOPIC);
    let reconciler = migrated(&place, state, wanted).await;
    let router: Router = reconciler.watching(Router::new());
    let running = reconciler.start().unwrap();
    let testing = async {
        status(&reconciler, "the scans have begun", |job| {
            job.fresh_id.is_some() && job.updated_until.is_some()
        })
        .await;
        let now = "SELECT (clock_timestamp() AT TIME ZONE 'UTC') AS v";
        let now = place.texts(from, now).await.remove(0);
        mirror
            .write(&format!("INSERT INTO {{}} VALUES (3, 1, '{now}')"))
            .await;
        mirror
            .write(&format!(
                "UPDATE {{}} SET v = 1, changed = '{now}' WHERE id = 1"
            ))
            .await;
        mirror.write("UPDATE {} SET v = 1 WHERE id = 2").await;
        let at = "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') AS v";
        let at = place.texts(from, at).await.remove(0);
        let change = json!({ "op": "update", "schema": "public", "table": "a", "key": { "id": 2 }, "at": at,
            "before": null, "after": { "id": 2, "v": 1 }, "changed": ["v"] });
        let message = Message::new(TOPIC, change.to_string());
        router.dispatch(message).await.unwrap();
        eventually("each scan has read its row", SOON, async || {
            let runs = reconciler.runs("people", 10).await.unwrap();
            let has = |scan| runs.iter().any(|run| run.scan == scan && run.rows > 0);
            let is_all = ["fresh", "updated", "watch"].into_iter().all(has);
            is_all.then_some(()).ok_or(runs)
        })
        .await;
        status(&reconciler, "no row waits", |job| job.suspects == 0).await;
        let runs = reconciler.runs("people", 10).await.unwrap();
        let late: u64 = runs.iter().map(|run| run.found + run.healed).sum();
        assert_eq!(late, 0, "{runs:?}");
        mirror.end();
    };
    tokio::join!(testing, mirror.run());
    running.shutdown().await;
}
