//! New rows, by their ids.

use super::*;
use crate::place::ALL;

const TABLE: &str = "id bigint PRIMARY KEY, name varchar(20)";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_row_that_the_copy_lacks_is_found_and_one_whose_id_becomes_visible_late() {
    let place = Place::fresh().await;
    for (at, from) in ALL.into_iter().enumerate() {
        let to = ALL[(at + 1) % 3];
        tables(&place, from, to, TABLE).await;
        both(&place, from, to, "(1, 'Ann'), (2, 'Bob'), (5, 'Eve')").await;
        let receiver = Receiver::start(|_, _| 200).await;
        let job = job(&place, from, to)
            .repair(repair(&receiver))
            .fresh_ids(OFTEN);
        let reconciler = migrated(&place, to, job).await;
        let running = reconciler.start().unwrap();
        status(&reconciler, "the rows were compared", |job| {
            job.fresh_id == Some(5)
        })
        .await;

        place.run(from, "INSERT INTO a VALUES (7, 'Joe')").await;
        status(&reconciler, "the new row was compared", |job| {
            job.fresh_id == Some(7)
        })
        .await;
        both(&place, from, to, "(3, 'Kim')").await;
        place.run(from, "INSERT INTO a VALUES (4, 'Lee')").await;

        only_called(&receiver, &reconciler, &["4", "7"]).await;
        running.shutdown().await;
        drop_tables(&place, from, to).await;
        place.run(to, "DROP TABLE final_reconcile_jobs; DROP TABLE final_reconcile_suspects; DROP TABLE final_reconcile_runs; DROP TABLE final_reconcile_repairs; DROP TABLE final_migrations").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_came_while_no_process_ran_are_found_and_no_gap_is_forgotten() {
    let place = Place::fresh().await;
    let (from, to) = (Db::Maria, Db::Postgres);
    tables(&place, from, to, TABLE).await;
    both(&place, from, to, "(1, 'Ann'), (4, 'Bob')").await;
    let receiver = Receiver::start(|_, _| 200).await;
    let wanted = || {
        job(&place, from, to)
            .repair(repair(&receiver))
            .fresh_ids(OFTEN)
    };
    let reconciler = migrated(&place, from, wanted()).await;
    let process = Process::start(&reconciler);
    status(&reconciler, "the rows were compared", |job| {
        job.fresh_id == Some(4)
    })
    .await;
    process.kill();

    let many: Vec<String> = (5..=1_600).map(|id| format!("({id}, 'x')")).collect();
    both(&place, from, to, &many.join(", ")).await;
    place.run(to, "DELETE FROM b WHERE id IN (100, 1600)").await;
    place.run(from, "INSERT INTO a VALUES (2, 'Late')").await;
    let again = new(&place, from).job(wanted()).unwrap();
    let running = again.start().unwrap();

    only_called(&receiver, &again, &["100", "1600", "2"]).await;
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_came_late_while_no_process_ran_is_found_after_an_outage_longer_than_the_look_back()
 {
    let look_back = Duration::from_secs(5);
    let place = Place::fresh().await;
    let (from, to) = (Db::Postgres, Db::Maria);
    tables(&place, from, to, TABLE).await;
    both(&place, from, to, "(1, 'Ann'), (4, 'Bob')").await;
    let receiver = Receiver::start(|_, _| 200).await;
    let wanted = || {
        job(&place, from, to)
            .repair(repair(&receiver))
            .fresh_ids(OFTEN)
            .look_back(look_back)
    };
    let reconciler = migrated(&place, from, wanted()).await;
    let process = Process::start(&reconciler);
    status(&reconciler, "the rows were compared", |job| {
        job.fresh_id == Some(4)
    })
    .await;
    process.kill();

    place.run(from, "INSERT INTO a VALUES (2, 'Late')").await;
    // A gap is forgotten a sixteenth later than the look back says.
    tokio::time::sleep(look_back + look_back / 8).await;
    let again = new(&place, from).job(wanted()).unwrap();
    let running = again.start().unwrap();

    only_called(&receiver, &again, &["2"]).await;
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_of_another_column_lead_to_the_rows_by_their_key() {
    let place = Place::fresh().await;
    let (from, to) = (Db::Maria, Db::Sqlite);
    let table = "id varchar(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PRIMARY KEY, seq int NOT NULL, KEY (seq)";
    place.run(from, format!("CREATE TABLE a ({table})")).await;
    place
        .run(to, "CREATE TABLE b (id text PRIMARY KEY NOT NULL, seq int)")
        .await;
    both(&place, from, to, "('x', 10), ('a', 20)").await;
    place
        .run(from, "INSERT INTO a VALUES ('m', 15), ('k', 15), ('b', 30)")
        .await;
    let receiver = Receiver::start(|_, _| 200).await;
    let job = job(&place, from, to)
        .repair(repair(&receiver))
        .fresh_ids_by("seq", OFTEN)
        .first_id(11);
    let reconciler = migrated(&place, Db::Postgres, job).await;
    let running = reconciler.start().unwrap();

    only_called(&receiver, &reconciler, &["b", "k", "m"]).await;
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fresh_ids_of_a_key_that_is_no_number_are_refused_and_the_other_scans_go_on() {
    let place = Place::fresh().await;
    let (from, to) = (Db::Postgres, Db::Postgres);
    tables(&place, from, to, "id text PRIMARY KEY, name text").await;
    place.run(from, "INSERT INTO a VALUES ('x', 'y')").await;
    let receiver = Receiver::start(|_, _| 200).await;
    let job = job(&place, from, to)
        .repair(repair(&receiver))
        .fresh_ids(OFTEN)
        .sweep(final_reconcile::Sweep::every(Duration::from_secs(3_600)));
    let refused = job.explain().await.unwrap_err().to_string();
    assert!(refused.contains("fresh_ids_by"), "{refused}");
    let reconciler = migrated(&place, from, job).await;
    let running = reconciler.start().unwrap();

    only_called(&receiver, &reconciler, &["x"]).await;
    let status = status(&reconciler, "the trouble is told", |job| {
        job.trouble.is_some()
    })
    .await;
    let trouble = status.trouble.unwrap();
    assert!(
        trouble.contains("fresh_ids_by") && trouble.contains("`a`"),
        "{trouble}"
    );
    assert!(!running.health().is_ready());
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_rows_are_new_that_a_table_gets_which_was_empty_at_the_beginning() {
    let place = Place::fresh().await;
    for (from, to) in [(Db::Postgres, Db::Maria), (Db::Maria, Db::Sqlite)] {
        tables(&place, from, to, "id int PRIMARY KEY, name varchar(20)").await;
        let receiver = Receiver::start(|_, _| 200).await;
        let job = job(&place, from, to)
            .repair(repair(&receiver))
            .fresh_ids(OFTEN);
        let reconciler = migrated(&place, to, job).await;
        let running = reconciler.start().unwrap();
        let begun = "SELECT fresh AS v FROM final_reconcile_jobs WHERE fresh IS NOT NULL";
        eventually("the scan has begun", SOON, async || {
            match place.texts(to, begun).await.len() {
                0 => Err(format!("{:?}", reconciler.jobs().await)),
                _ => Ok(()),
            }
        })
        .await;

        place
            .run(
                from,
                "INSERT INTO a VALUES (-7, 'Ann'), (1, 'Bob'), (50000, 'Eve')",
            )
            .await;

        only_called(&receiver, &reconciler, &["-7", "1", "50000"]).await;
        running.shutdown().await;
        drop_tables(&place, from, to).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_without_a_sign_are_compared_from_the_first_one_on() {
    let place = Place::fresh().await;
    let (from, to) = (Db::Maria, Db::Postgres);
    place
        .run(from, "CREATE TABLE a (id int unsigned PRIMARY KEY)")
        .await;
    place
        .run(to, "CREATE TABLE b (id bigint PRIMARY KEY)")
        .await;
    place.run(from, "INSERT INTO a VALUES (1), (2), (5)").await;
    place.run(to, "INSERT INTO b VALUES (2)").await;
    let receiver = Receiver::start(|_, _| 200).await;
    let job = job(&place, from, to)
        .repair(repair(&receiver))
        .fresh_ids(OFTEN);
    let reconciler = migrated(&place, to, job).await;
    let running = reconciler.start().unwrap();
    only_called(&receiver, &reconciler, &["1", "5"]).await;

    place.run(from, "INSERT INTO a VALUES (4)").await;

    only_called(&receiver, &reconciler, &["1", "4", "5"]).await;
    running.shutdown().await;
}
