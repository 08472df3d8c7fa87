//! A copy that follows later is no difference, and one that does not follow is.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use final_reconcile::Job;
use sqlx::AssertSqlSafe;

use crate::place::{Db, Place};

const ROWS: u32 = 2_000;

async fn tables(place: &Place) {
    for db in [Db::Postgres, Db::Maria] {
        place
            .run(db, "CREATE TABLE t (id int PRIMARY KEY, v bigint NOT NULL)")
            .await;
        let rows: Vec<String> = (1..=ROWS).map(|id| format!("({id}, 0)")).collect();
        place
            .run(db, format!("INSERT INTO t VALUES {}", rows.join(", ")))
            .await;
    }
}

fn job(place: &Place, settle: u64) -> Job {
    Job::new("lag")
        .source(place.side(Db::Postgres, "t"))
        .target(place.side(Db::Maria, "t"), |map| map)
        .settle(Duration::from_millis(settle))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn no_row_that_is_only_late_counts_while_the_source_is_written_to() {
    let place = Place::fresh().await;
    tables(&place).await;
    // A planted difference is found among them.
    place
        .run(Db::Maria, "UPDATE t SET v = -1 WHERE id = 1999")
        .await;
    let (writes, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let (later, mut late) = tokio::sync::mpsc::unbounded_channel();
    let source = async {
        while !over.load(Ordering::Relaxed) {
            let (id, v) = (fastrand::u32(1..=ROWS - 2), fastrand::i64(0..4));
            let sql = format!("UPDATE t SET v = {v} WHERE id = {id}");
            sqlx::query(AssertSqlSafe(sql.clone()))
                .execute(&place.postgres)
                .await
                .unwrap();
            writes.fetch_add(1, Ordering::Relaxed);
            later
                .send((
                    tokio::time::Instant::now() + Duration::from_millis(300),
                    sql,
                ))
                .unwrap();
        }
        drop(later);
    };
    // All that is due in one transaction, so that the lag stays what it is.
    let copy = async {
        while let Some((due, sql)) = late.recv().await {
            tokio::time::sleep_until(due).await;
            let mut all = sql;
            while let Ok((_, sql)) = late.try_recv() {
                all.push_str("; ");
                all.push_str(&sql);
            }
            place.run(Db::Maria, format!("BEGIN; {all}; COMMIT")).await;
        }
    };
    let comparing = async {
        let (mut healed, mut rounds) = (0, 0);
        while rounds < 2 || healed == 0 {
            let comparison = job(&place, 2_000).compare().await.unwrap().remove(0);
            assert_eq!(comparison.differences(), 1, "{comparison:?}");
            assert_eq!(comparison.examples[0].key[0].1, "1999");
            healed += comparison.healed;
            rounds += 1;
        }
        over.store(true, Ordering::Relaxed);
        healed
    };
    let (healed, (), ()) = tokio::join!(comparing, source, copy);
    let writes = writes.load(Ordering::Relaxed);
    println!("{writes} writes, {healed} rows were late");
    assert!(healed > 0 && writes > 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_never_rests_is_neither_equal_nor_different() {
    let place = Place::fresh().await;
    tables(&place).await;
    let over = AtomicBool::new(false);
    let writing = async {
        let mut v = 1;
        while !over.load(Ordering::Relaxed) {
            place
                .run(Db::Postgres, format!("UPDATE t SET v = {v} WHERE id = 7"))
                .await;
            v += 1;
        }
    };
    let comparing = async {
        let comparison = job(&place, 100).compare().await.unwrap().remove(0);
        over.store(true, Ordering::Relaxed);
        comparison
    };
    let ((), comparison) = tokio::join!(writing, comparing);
    assert_eq!(
        (comparison.differences(), comparison.unsettled),
        (0, 1),
        "{comparison:?}"
    );
    assert!(!comparison.is_equal());
}
