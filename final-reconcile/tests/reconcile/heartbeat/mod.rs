//! A difference counts once the mirror has passed it.

mod first;
mod full;
mod mirror;
mod refused;
mod repaired;
mod stands;

use std::time::{Duration, Instant};

use final_reconcile::{Heartbeat, Job, Sweep};
use final_tests::eventually;

use self::mirror::Mirror;
use crate::{
    place::{ALL, Db, Place},
    receiver::Receiver,
    scans::{OFTEN, SOON, both, drop_tables, migrated, only_called, repair, status, tables},
};

const TABLE: &str = "id int PRIMARY KEY, v bigint NOT NULL";

/// Rows of the tables.
const ROWS: i64 = 200;

/// Where the statements of these tests are told.
const DOCS: &str = include_str!("../../../../docs/reconcile.md");

#[test]
fn the_statements_of_the_docs_are_those_of_these_tests() {
    let statements = ALL
        .iter()
        .flat_map(|db| [mirror::table(*db), mirror::beat(*db)]);
    for statement in statements {
        assert!(DOCS.contains(&format!("{statement};")), "{statement}");
    }
}

async fn filled(place: &Place, from: Db, to: Db) {
    tables(place, from, to, TABLE).await;
    let rows: Vec<String> = (1..=ROWS).map(|id| format!("({id}, 0)")).collect();
    both(place, from, to, &rows.join(", ")).await;
}

fn heartbeat() -> Heartbeat {
    Heartbeat::table("mirror_heartbeat").row("id", "1")
}

fn job(place: &Place, from: Db, to: Db, heartbeat: Option<Heartbeat>) -> Job {
    Job::new("people")
        .source(place.side(from, "a"))
        .target(place.side(to, "b"), |map| match heartbeat {
            Some(heartbeat) => map.heartbeat(heartbeat),
            None => map,
        })
        .settle(Duration::from_millis(100))
}

/// Each row is written to every two seconds at most, so that some rest for as long as the mirror lags. The last row, which
/// a hand has damaged, is not.
async fn write(mirror: &Mirror<'_>, until: impl Fn() -> bool) {
    let mut v = 0;
    while !until() {
        for id in 1..ROWS {
            v += 1;
            if until() {
                return;
            }
            mirror
                .write(&format!("UPDATE {{}} SET v = {v} WHERE id = {id}"))
                .await;
            tokio::time::sleep(Duration::from_millis(120)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_mirror_that_lags_is_no_false_alarm_and_a_difference_is_told_soon_after_it_has_passed() {
    let place = Place::fresh().await;
    let (from, to) = (Db::Postgres, Db::Maria);
    filled(&place, from, to).await;
    let damage = format!("UPDATE b SET v = -1 WHERE id = {ROWS}");
    place.run(to, damage).await;
    let lag = Duration::from_secs(5);
    let mirror = Mirror::new(&place, from, to, lag).await;
    let over = std::sync::atomic::AtomicBool::new(false);
    let is_over = || over.load(std::sync::atomic::Ordering::Relaxed);
    let comparing = async {
        // Until as much is on its way as there will be.
        tokio::time::sleep(lag).await;
        let without = job(&place, from, to, None).compare().await.unwrap();
        let begun = Instant::now();
        let with = job(&place, from, to, Some(heartbeat()))
            .compare()
            .await
            .unwrap();
        let took = begun.elapsed();
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        mirror.end();
        (without, with, took)
    };
    let ((without, with, took), (), ()) =
        tokio::join!(comparing, mirror.run(), write(&mirror, is_over));
    // 100 ms are shorter than the mirror lags.
    assert!(without[0].differences() > 1, "{without:?}");
    assert!(without[0].judged_by.contains("settle of 100ms"));

    assert_eq!(with[0].differences(), 1, "{with:?}");
    assert_eq!(with[0].examples[0].key[0].1, ROWS.to_string());
    assert_eq!((with[0].unsettled, &with[0].mirror), (0, &None), "{with:?}");
    assert!(with[0].healed > 0, "{with:?}");
    let basis = &with[0].judged_by;
    assert!(
        basis.contains("heartbeat in `mirror_heartbeat`") && basis.contains(" s behind"),
        "{basis}"
    );
    assert!(took > lag && took < lag * 8, "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn scans_repair_what_differs_and_nothing_that_the_mirror_has_not_brought_yet() {
    let place = Place::fresh().await;
    for (at, from) in ALL.into_iter().enumerate() {
        let (to, state) = (ALL[(at + 1) % 3], ALL[(at + 2) % 3]);
        filled(&place, from, to).await;
        let mirror = Mirror::new(&place, from, to, Duration::from_secs(2)).await;
        let receiver = Receiver::start(|_, _| 200).await;
        let wanted = job(&place, from, to, Some(heartbeat()))
            .settle(Duration::ZERO)
            .fresh_ids(OFTEN)
            .first_id(1)
            .sweep(Sweep::every(Duration::from_secs(1)))
            .repair(repair(&receiver));
        let reconciler = migrated(&place, state, wanted).await;
        let running = reconciler.start().unwrap();
        let testing = async {
            mirror.write("INSERT INTO {} VALUES (300, 1)").await;
            mirror.write("UPDATE {} SET v = 7 WHERE id = 9").await;
            mirror.write("DELETE FROM {} WHERE id = 10").await;
            // More come until some were found while they were on their way.
            let mut v = 0;
            let come = async || {
                v += 1;
                mirror
                    .write(&format!(
                        "UPDATE {{}} SET v = {v} WHERE id = {}",
                        20 + v % 100
                    ))
                    .await;
                let runs = reconciler.runs("people", 10).await.unwrap();
                let healed: u64 = runs.iter().map(|run| run.healed).sum();
                (healed >= 3).then_some(()).ok_or(format!("{runs:?}"))
            };
            eventually("late rows are only late", SOON, come).await;
            assert_eq!(receiver.came().len(), 0);
            place.run(to, "UPDATE b SET v = -1 WHERE id = 5").await;
            only_called(&receiver, &reconciler, &["5"]).await;
            let job = status(&reconciler, "the lag is told", |job| {
                job.mirror_lag_ms.is_some_and(|lag| lag >= 2_000)
            });
            assert_eq!(job.await.trouble, None);
            let metrics = running.metrics();
            assert!(
                metrics.contains("final_reconcile_mirror_lag_seconds{job=\"people\""),
                "{metrics}"
            );
            mirror.end();
        };
        tokio::join!(testing, mirror.run());
        running.shutdown().await;
        drop_tables(&place, from, to).await;
    }
}
