//! Endpoints, databases and processes fail, and no repair is forgotten or done without need.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use final_reconcile::{Job, Reconciler, Repair};
use final_tests::{
    Proxy, WorkDir, eventually,
    process::{Process, Signal},
};
use final_webhook::Caller;
use sqlx::PgPool;
use tokio::time::sleep;
use uuid::Uuid;

use crate::{
    chaos::node::{Urls, launch},
    place::{Db, Place},
    receiver::{Receiver, Reply},
};

const SOON: Duration = Duration::from_secs(60);

/// So many rows of `a` in PostgreSQL, which `b` in MariaDB lacks.
async fn missing(place: &Place, rows: u32) {
    let table = "(id int PRIMARY KEY, name varchar(20))";
    let rows = format!("INSERT INTO a SELECT n, 'row' FROM generate_series(1, {rows}) n");
    place
        .run(Db::Postgres, format!("CREATE TABLE a {table}; {rows}"))
        .await;
    place
        .run(Db::Maria, format!("CREATE TABLE b {table}"))
        .await;
}

fn reconciler(place: &Place, state: &PgPool, repair: Repair) -> Reconciler {
    let job = Job::new("people")
        .source(place.side(Db::Postgres, "a"))
        .target(place.side(Db::Maria, "b"), |map| map)
        .settle(Duration::ZERO)
        .repair(repair.pace(Duration::from_millis(20), Duration::from_millis(100)));
    // One failing message must not pause the endpoint here.
    let caller = Caller::builder()
        .failures(64)
        .pauses(Duration::from_millis(20), Duration::from_millis(20));
    let caller = caller.build().unwrap();
    Reconciler::new(state).caller(caller).job(job).unwrap()
}

/// Compares once. The ids of the repairs that are open then.
async fn opened(reconciler: &Reconciler) -> Vec<Uuid> {
    reconciler.migrate().await.unwrap();
    reconciler.compare("people").await.unwrap();
    let open = reconciler.repairs("people", 1_000).await.unwrap();
    open.into_iter().map(|repair| repair.id).collect()
}

async fn all_are_done(reconciler: &Reconciler) {
    eventually("every repair is done", SOON, async || {
        match reconciler.repairs("people", 1_000).await {
            Ok(open) if open.is_empty() => Ok(()),
            other => Err(other),
        }
    })
    .await;
}

/// The calls for each repair.
fn calls(receiver: &Receiver) -> BTreeMap<String, usize> {
    let mut calls = BTreeMap::new();
    for came in receiver.came() {
        // The key begins with the id of its repair.
        let repair = came.key.get(..36).expect("an id").to_owned();
        *calls.entry(repair).or_default() += 1;
    }
    calls
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repair_stays_until_it_is_answered_whatever_its_endpoint_does() {
    let place = Place::fresh().await;
    missing(&place, 1).await;
    let limit = Duration::from_millis(300);
    let count = AtomicUsize::new(0);
    let receiver = Receiver::replying(move |_| {
        let number = count.fetch_add(1, Ordering::Relaxed);
        async move {
            match number {
                0 => Reply::Silence,
                1 => Reply::Close,
                2 => Reply::CloseInAnswer,
                3 => Reply::Status(500),
                4 => Reply::With(302, "Location: http://127.0.0.1:1/".into()),
                5 => Reply::With(429, "Retry-After: 1".into()),
                6 => {
                    sleep(limit * 2).await;
                    Reply::Status(200)
                }
                _ => Reply::Status(204),
            }
        }
    })
    .await;
    let repair = Repair::callback(receiver.endpoint().timeout(limit));
    let reconciler = reconciler(&place, &place.postgres, repair);
    let ids = opened(&reconciler).await;

    let running = reconciler.start().unwrap();
    all_are_done(&reconciler).await;
    running.shutdown().await;

    let expected = BTreeMap::from([(ids[0].to_string(), 8)]);
    assert_eq!(calls(&receiver), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_was_down_gets_each_repair_once_when_it_is_back() {
    let place = Place::fresh().await;
    missing(&place, 30).await;
    let receiver = Receiver::replying(async |_| Reply::Status(200)).await;
    let wire = Proxy::to(&receiver.url).await.unwrap();
    wire.down();
    let endpoint = final_webhook::Endpoint::new(&wire.url(&receiver.url)).unwrap();
    let repair = Repair::callback(endpoint.allow_private(true));
    let reconciler = reconciler(&place, &place.postgres, repair);
    let ids = opened(&reconciler).await;
    let running = reconciler.start().unwrap();
    eventually("a repair was tried in vain", SOON, async || {
        let open = reconciler.repairs("people", 1_000).await.unwrap();
        let has_failed = open.iter().any(|repair| repair.last_error.is_some());
        has_failed.then_some(()).ok_or(open)
    })
    .await;
    assert_eq!(reconciler.repairs("people", 1_000).await.unwrap().len(), 30);

    wire.up().unwrap();
    all_are_done(&reconciler).await;
    running.shutdown().await;

    let expected = ids.iter().map(|id| (id.to_string(), 1)).collect();
    assert_eq!(calls(&receiver), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_reconcilers_at_once_call_once_for_each_row() {
    let place = Place::fresh().await;
    missing(&place, 60).await;
    let receiver = Receiver::replying(async |_| {
        // So long that the other one comes meanwhile.
        sleep(Duration::from_millis(100)).await;
        Reply::Status(200)
    })
    .await;
    let make = || {
        reconciler(
            &place,
            &place.postgres,
            Repair::callback(receiver.endpoint()),
        )
    };
    let both = [make(), make()];
    let ids = opened(&both[0]).await;

    let running = both
        .each_ref()
        .map(|reconciler| reconciler.start().unwrap());
    all_are_done(&both[0]).await;
    for running in running {
        running.shutdown().await;
    }

    let expected = ids.iter().map(|id| (id.to_string(), 1)).collect();
    assert_eq!(calls(&receiver), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_the_source_deletes_before_its_call_is_not_called_for() {
    let place = Place::fresh().await;
    missing(&place, 3).await;
    place
        .run(Db::Maria, "INSERT INTO b VALUES (2, 'other')")
        .await;
    let receiver = Receiver::replying(async |_| Reply::Status(200)).await;
    let reconciler = reconciler(
        &place,
        &place.postgres,
        Repair::callback(receiver.endpoint()),
    );
    assert_eq!(opened(&reconciler).await.len(), 3);

    // One that is missing in the copy, and one that is different there.
    place
        .run(Db::Postgres, "DELETE FROM a WHERE id IN (1, 2)")
        .await;
    let running = reconciler.start().unwrap();
    all_are_done(&reconciler).await;
    running.shutdown().await;

    let keys: Vec<String> = receiver
        .came()
        .iter()
        .map(|came| came.body["key"].to_string())
        .collect();
    assert_eq!(keys, [r#"{"id":"3"}"#]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_database_of_repairs_is_away_nothing_is_forgotten() {
    let place = Place::fresh().await;
    missing(&place, 5).await;
    let wire = Arc::new(Proxy::to(&place.postgres_url).await.unwrap());
    let state = PgPool::connect_lazy(&wire.url(&place.postgres_url)).unwrap();
    let (cut, count) = (Arc::clone(&wire), AtomicUsize::new(0));
    let receiver = Receiver::replying(move |_| {
        // The answer of the first call cannot be written down.
        if count.fetch_add(1, Ordering::Relaxed) == 0 {
            cut.down();
        }
        async { Reply::Status(200) }
    })
    .await;
    let repair = Repair::callback(receiver.endpoint()).lease(Duration::from_secs(4));
    let reconciler = reconciler(&place, &state, repair);
    let ids = opened(&reconciler).await;
    let running = reconciler.start().unwrap();
    eventually("a call came", SOON, async || !receiver.came().is_empty()).await;

    let error = reconciler.compare("people").await.unwrap_err().to_string();
    let place = format!("127.0.0.1:{}/", wire.port());
    let names_it = error.contains(&place) && !error.contains("SqlRepairs");
    assert!(names_it, "{error}");

    wire.up().unwrap();
    all_are_done(&reconciler).await;
    running.shutdown().await;

    let called: BTreeSet<String> = calls(&receiver).into_keys().collect();
    assert_eq!(called, ids.iter().map(Uuid::to_string).collect());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repair_whose_process_dies_in_its_call_comes_again_with_the_same_key() {
    let place = Place::fresh().await;
    for db in [Db::Postgres, Db::Maria] {
        place
            .run(
                db,
                "CREATE TABLE goods (id int PRIMARY KEY, name varchar(20))",
            )
            .await;
    }
    place
        .run(Db::Postgres, "INSERT INTO goods VALUES (1, 'row')")
        .await;
    let (count, copy) = (AtomicUsize::new(0), place.mariadb.clone());
    let receiver = Receiver::replying(move |_| {
        let (number, copy) = (count.fetch_add(1, Ordering::Relaxed), copy.clone());
        async move {
            if number == 0 {
                return Reply::Silence;
            }
            let insert = sqlx::query("INSERT INTO goods VALUES (1, 'row')");
            insert.execute(&copy).await.unwrap();
            Reply::Status(200)
        }
    })
    .await;
    let urls = Urls {
        source: place.postgres_url.clone(),
        target: place.mariadb_url.clone(),
        state: place.postgres_url.clone(),
        endpoint: receiver.url.clone(),
    };
    let dir = WorkDir::new("reconcile").unwrap();
    let start = || -> Process {
        let launch = launch(&urls, Duration::ZERO);
        launch.spawn("reconciler", &dir.join("log.txt")).unwrap()
    };
    let first = start();
    eventually("a call is under way", SOON, async || {
        !receiver.came().is_empty()
    })
    .await;
    first.kill9();

    let second = start();
    let open = "SELECT count(*) FROM final_reconcile_repairs";
    eventually("the repair is done", SOON, async || {
        let open: i64 = sqlx::query_scalar(open)
            .fetch_one(&place.postgres)
            .await
            .unwrap();
        let calls = receiver.came().len();
        (open == 0 && calls > 1).then_some(()).ok_or((open, calls))
    })
    .await;
    tokio::task::spawn_blocking(move || second.end(Signal::TERM, SOON))
        .await
        .unwrap()
        .unwrap();

    let keys: Vec<usize> = calls(&receiver).into_values().collect();
    assert_eq!(keys, [2], "one repair, called for twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn rows_at_the_ends_of_ranges_may_vanish_while_these_are_compared() {
    const ROWS: u64 = 40_000;
    let place = Place::fresh().await;
    for (db, table, numbers) in [
        (
            Db::Postgres,
            "a",
            format!("SELECT n FROM generate_series(1, {ROWS}) n"),
        ),
        (Db::Maria, "b", format!("SELECT seq FROM seq_1_to_{ROWS}")),
    ] {
        let sql =
            format!("CREATE TABLE {table} (id bigint PRIMARY KEY); INSERT INTO {table} {numbers}");
        place.run(db, sql).await;
    }
    for (from, to) in [
        ((Db::Postgres, "a"), (Db::Maria, "b")),
        ((Db::Maria, "b"), (Db::Postgres, "a")),
    ] {
        place
            .run(
                to.0,
                format!("DELETE FROM {} WHERE id IN (20000, 40000)", to.1),
            )
            .await;
        let job = Job::new("ends")
            .source(place.side(from.0, from.1))
            .target(place.side(to.0, to.1), |map| map)
            .settle(Duration::from_millis(100));
        let mut told = 0;
        let vanish = |walked: &final_reconcile::Walked| {
            told += 1;
            // Whatever ends were taken for the next ranges, they are gone.
            let rows = walked.rows;
            let delete = |table| {
                format!(
                    "DELETE FROM {table} WHERE id > {rows} AND id <= {ROWS} AND id % 100 > 0 AND id % 7 = {}",
                    told % 7
                )
            };
            let both = async {
                place.run(from.0, delete(from.1)).await;
                place.run(to.0, delete(to.1)).await;
            };
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(both));
        };
        let comparison = job.compare_with(vanish).await.unwrap().remove(0);
        assert!(told > 3, "{comparison:?}");
        let counts = (comparison.missing, comparison.different, comparison.extra);
        assert_eq!(counts, (2, 0, 0), "{from:?} with {to:?}: {comparison:?}");
        place
            .run(
                to.0,
                format!("INSERT INTO {} VALUES (20000), (40000)", to.1),
            )
            .await;
    }
}
