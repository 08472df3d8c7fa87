//! A mirror that is fed by a capture writes the time of each change, and that is its heartbeat.

use final_capture::change::{Change, ChangeInfo};
use final_core::{Message, Router, State};
use serde::Deserialize;
use serde_json::json;
use sqlx::{AssertSqlSafe, MySqlPool};

use super::*;

const TOPIC: &str = "cdc.a";

/// The statement of docs/reconcile.md.
pub const BEAT: &str = "UPDATE mirror_heartbeat SET at = CAST(? AS datetime(6)) WHERE id = 1";

#[derive(Deserialize)]
struct Row {
    id: i64,
    v: i64,
}

/// Writes the row and the time of its change in one transaction.
async fn mirror_change(
    change: Change<Row>,
    info: ChangeInfo,
    State(pool): State<MySqlPool>,
) -> Result<(), sqlx::Error> {
    let mut tx = pool.begin().await?;
    if let Change::Update { after, .. } = &change {
        let put = "UPDATE b SET v = ? WHERE id = ?";
        sqlx::query(put)
            .bind(after.v)
            .bind(after.id)
            .execute(&mut *tx)
            .await?;
    }
    let is_of_the_stream = !matches!(change, Change::Read { .. });
    if let (true, Some(at)) = (is_of_the_stream, info.at) {
        let at = at.trim_end_matches('Z').replace('T', " ");
        sqlx::query(BEAT).bind(at).execute(&mut *tx).await?;
    }
    tx.commit().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_difference_counts_once_a_later_change_has_come() {
    let place = Place::fresh().await;
    let (from, to) = (Db::Postgres, Db::Maria);
    filled(&place, from, to).await;
    place.run(to, mirror::table(to)).await;
    place
        .run(to, "INSERT INTO mirror_heartbeat (id) VALUES (1)")
        .await;
    let router: Router = Router::new()
        .route(TOPIC, mirror_change)
        .with_state(place.mariadb.clone());
    let change = async |id: i64, v: i64| {
        let sql = format!(
            "UPDATE a SET v = {v} WHERE id = {id} RETURNING to_char(clock_timestamp() AT TIME ZONE 'UTC', \
             'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"
        );
        let at: String = sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_one(&place.postgres)
            .await
            .unwrap();
        let body = json!({ "op": "update", "schema": "public", "table": "a", "key": { "id": id }, "at": at,
            "before": null, "after": { "id": id, "v": v }, "changed": ["v"] });
        Message::new(TOPIC, body.to_string())
    };
    place.run(to, "UPDATE b SET v = -1 WHERE id = 5").await;
    let late = change(9, 7).await;
    let comparing = job(&place, from, to, Some(heartbeat()));
    let comparing = tokio::spawn(async move { comparing.compare().await });
    // The change of row 9 comes late, and others behind it, until both rows are judged.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    router.dispatch(late).await.unwrap();
    let mut v = 0;
    while !comparing.is_finished() {
        v += 1;
        let next = change(1, v).await;
        router.dispatch(next).await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let comparison = comparing.await.unwrap().unwrap().remove(0);
    assert_eq!(comparison.differences(), 1, "{comparison:?}");
    assert_eq!(comparison.examples[0].key[0].1, "5");
    assert!(comparison.healed >= 1, "{comparison:?}");
}
