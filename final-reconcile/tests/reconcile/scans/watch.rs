//! Rows whose change came as a message.

use final_core::{Message, Router};
use serde_json::{Value, json};

use super::*;
use crate::place::ALL;

const TABLE: &str = "id int PRIMARY KEY, name varchar(20)";
const TOPIC: &str = "cdc.a";

fn update(id: i64) -> Value {
    json!({
        "op": "update", "schema": "shop", "table": "a", "key": { "id": id },
        "before": null, "after": { "id": id, "name": "x" }, "changed": ["name"],
    })
}

async fn send(router: &Router, body: Value) {
    let message = Message::new(TOPIC, body.to_string());
    router.dispatch(message).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_looked_at_although_its_process_died_after_the_message() {
    let place = Place::fresh().await;
    for (at, state) in ALL.into_iter().enumerate() {
        let (from, to) = (ALL[(at + 1) % 3], ALL[(at + 2) % 3]);
        tables(&place, from, to, TABLE).await;
        both(&place, from, to, "(1, 'Ann'), (2, 'Bob'), (3, 'Eve')").await;
        place
            .run(
                from,
                "UPDATE a SET name = 'Joe' WHERE id = 2; DELETE FROM a WHERE id = 3",
            )
            .await;
        let receiver = Receiver::start(|_, _| 200).await;
        let wanted = || job(&place, from, to).repair(repair(&receiver)).watch(TOPIC);
        let dead = migrated(&place, state, wanted()).await;
        let router: Router = dead.watching(Router::new());
        send(&router, update(1)).await;
        send(&router, update(2)).await;
        send(&router, update(2)).await;
        send(
            &router,
            json!({ "op": "delete", "table": "a", "key": { "id": 3 }, "before": { "id": 3 } }),
        )
        .await;
        drop((router, dead));

        let reconciler = new(&place, state).job(wanted()).unwrap();
        let running = reconciler.start().unwrap();
        only_called(&receiver, &reconciler, &["2", "3"]).await;
        status(&reconciler, "no row waits", |job| job.suspects == 0).await;
        let runs = reconciler.runs("people", 10).await.unwrap();
        let (rows, found): (u64, u64) = runs
            .iter()
            .fold((0, 0), |sum, run| (sum.0 + run.rows, sum.1 + run.found));
        assert_eq!((rows, found), (3, 2), "{runs:?}");
        running.shutdown().await;
        drop_tables(&place, from, to).await;
        for table in ["jobs", "suspects", "runs", "repairs"] {
            place
                .run(state, format!("DELETE FROM final_reconcile_{table}"))
                .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_found_in_a_change_however_the_mapping_spells_it() {
    let place = Place::fresh().await;
    let (from, to) = (Db::Maria, Db::Postgres);
    place.run(from, "CREATE TABLE a (Id int PRIMARY KEY, name varchar(20)); INSERT INTO a VALUES (1, 'Joe')").await;
    place.run(to, "CREATE TABLE b (id int PRIMARY KEY, name varchar(20)); INSERT INTO b VALUES (1, 'Ann')").await;
    let receiver = Receiver::start(|_, _| 200).await;
    let job = Job::new("people")
        .source(place.side(from, "a"))
        .target(place.side(to, "b"), |map| map.key("id", "id"))
        .settle(Duration::ZERO)
        .repair(repair(&receiver))
        .watch(TOPIC);
    let reconciler = migrated(&place, Db::Sqlite, job).await;
    let router: Router = reconciler.watching(Router::new());
    let running = reconciler.start().unwrap();
    let change = json!({ "op": "update", "table": "a", "key": { "Id": 1 }, "after": { "Id": 1, "name": "Joe" } });
    send(&router, change).await;
    eventually("the row is called for", SOON, async || {
        let came = receiver.came();
        (came.len() == 1).then_some(()).ok_or(came)
    })
    .await;
    running.shutdown().await;
}

/// PostgreSQL's stream has the spaces, and its `char::text` has not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_filled_up_with_spaces_leads_to_its_row() {
    let place = Place::fresh().await;
    for (from, to) in [(Db::Postgres, Db::Maria), (Db::Maria, Db::Postgres)] {
        tables(
            &place,
            from,
            to,
            "id char(10) PRIMARY KEY, name varchar(20)",
        )
        .await;
        both(&place, from, to, "('abc', 'Ann'), ('de', 'Eve')").await;
        place.run(from, "UPDATE a SET name = 'Joe'").await;
        let receiver = Receiver::start(|_, _| 200).await;
        let job = job(&place, from, to).repair(repair(&receiver)).watch(TOPIC);
        let reconciler = migrated(&place, Db::Sqlite, job).await;
        let router: Router = reconciler.watching(Router::new());
        let running = reconciler.start().unwrap();
        for id in ["abc       ", "de"] {
            let change = json!({ "op": "update", "table": "a", "key": { "id": id }, "after": { "id": id, "name": "Joe" } });
            send(&router, change).await;
        }
        only_called(&receiver, &reconciler, &["abc", "de"]).await;
        running.shutdown().await;
        drop_tables(&place, from, to).await;
        for table in ["jobs", "suspects", "runs", "repairs"] {
            let sql = format!("DELETE FROM final_reconcile_{table}");
            place.run(Db::Sqlite, sql).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_follows_within_its_time_is_no_difference() {
    let place = Place::fresh().await;
    let (from, to) = (Db::Postgres, Db::Maria);
    tables(&place, from, to, TABLE).await;
    both(&place, from, to, "(1, 'Ann')").await;
    let receiver = Receiver::start(|_, _| 200).await;
    let job = job(&place, from, to)
        .settle(Duration::from_secs(2))
        .repair(repair(&receiver))
        .watch(TOPIC);
    let reconciler = migrated(&place, from, job).await;
    let router: Router = reconciler.watching(Router::new());
    let running = reconciler.start().unwrap();

    place.run(from, "UPDATE a SET name = 'Joe'").await;
    send(&router, update(1)).await;
    eventually("the row has looked different", SOON, async || {
        let looked = "SELECT looked FROM final_reconcile_suspects";
        let looked: Option<i64> = sqlx::query_scalar(looked)
            .fetch_optional(&place.postgres)
            .await
            .unwrap();
        match looked {
            Some(1) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    place.run(to, "UPDATE b SET name = 'Joe'").await;

    status(&reconciler, "the row was looked at", |job| {
        job.suspects == 0
    })
    .await;
    assert_eq!(called(&receiver).len(), 0);
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_was_emptied_is_swept() {
    let place = Place::fresh().await;
    let (from, to) = (Db::Maria, Db::Sqlite);
    tables(&place, from, to, TABLE).await;
    place
        .run(to, "INSERT INTO b VALUES (1, 'Ann'), (2, 'Bob')")
        .await;
    let receiver = Receiver::start(|_, _| 200).await;
    let job = job(&place, from, to).repair(repair(&receiver)).watch(TOPIC);
    let reconciler = migrated(&place, from, job).await;
    let router: Router = reconciler.watching(Router::new());

    send(&router, json!({ "op": "truncate", "table": "a" })).await;

    let running = reconciler.start().unwrap();
    only_called(&receiver, &reconciler, &["1", "2"]).await;
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_without_the_columns_of_the_key_is_an_error_and_one_of_another_table_is_not() {
    let place = Place::fresh().await;
    let job = Job::new("people")
        .source(place.side(Db::Postgres, "public.a"))
        .target(place.side(Db::Postgres, "b"), |map| map.key("mail", "mail"))
        .watch(TOPIC);
    let reconciler = migrated(&place, Db::Postgres, job).await;
    let router: Router = reconciler.watching(Router::new());
    let change = |schema: &str, after: Value| {
        let body = json!({ "op": "insert", "schema": schema, "table": "a", "key": { "id": 1 }, "after": after });
        router.dispatch(Message::new(TOPIC, body.to_string()))
    };

    let error = change("public", json!({ "id": 1 })).await.unwrap_err();
    assert!(error.to_string().contains("`people`"), "{error}");
    change("public", json!({ "id": 1, "mail": "a@b" }))
        .await
        .unwrap();
    change("other", json!({ "id": 1 })).await.unwrap();

    let waiting: i64 = sqlx::query_scalar("SELECT count(*) FROM final_reconcile_suspects")
        .fetch_one(&place.postgres)
        .await
        .unwrap();
    assert_eq!(waiting, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_cannot_be_read_is_a_trouble_until_it_can_and_the_others_go_on() {
    let place = Place::fresh().await;
    let (from, to, state) = (Db::Maria, Db::Sqlite, Db::Postgres);
    tables(&place, from, to, TABLE).await;
    both(&place, from, to, "(1, 'Ann')").await;
    let receiver = Receiver::start(|_, _| 200).await;
    let job = job(&place, from, to).repair(repair(&receiver)).watch(TOPIC);
    let reconciler = migrated(&place, state, job).await;
    let router: Router = reconciler.watching(Router::new());
    let running = reconciler.start().unwrap();
    let broken =
        json!({ "op": "insert", "table": "a", "key": { "id": "x" }, "after": { "id": "x" } });
    send(&router, broken).await;
    status(&reconciler, "the trouble is told", |job| {
        job.trouble.is_some()
    })
    .await;

    place.run(from, "INSERT INTO a VALUES (2, 'Bob')").await;
    send(&router, update(2)).await;
    only_called(&receiver, &reconciler, &["2"]).await;
    let now = status(&reconciler, "no other row waits", |job| job.suspects == 1).await;
    assert!(now.trouble.is_some(), "{now:?}");

    let mended = r#"UPDATE final_reconcile_suspects SET due_at = 0, row_key = convert_to('{"id":1}', 'UTF8')"#;
    place.run(state, mended).await;
    status(&reconciler, "the trouble is over", |job| {
        job.trouble.is_none() && job.suspects == 0
    })
    .await;
    running.shutdown().await;
}
