//! Tables of the versions before.

use super::*;
use crate::place::ALL;

const TABLE: &str = "id int PRIMARY KEY, name varchar(20)";

/// What version 2 has called a job and target.
fn name(target: &str) -> String {
    use sha2::Digest as _;
    let text = format!("6:people{}:{target}", target.len());
    let digest = sha2::Sha256::digest(text.as_bytes());
    let digits = digest.iter().map(|byte| format!("{byte:02x}"));
    digits.collect::<String>()[..40].to_owned()
}

/// Makes version 2 of the tables, with what they have.
async fn downgrade(place: &Place, state: Db, target: &str) {
    let name = name(target);
    let own = format!(
        "DELETE FROM final_reconcile_jobs WHERE job IS NULL; UPDATE final_reconcile_jobs SET name = '{name}'"
    );
    place.run(state, own).await;
    for table in ["suspects", "runs"] {
        let named = format!("UPDATE final_reconcile_{table} SET unit = '{name}'");
        place.run(state, named).await;
    }
    match state {
        Db::Maria => {
            let index = "ALTER TABLE final_reconcile_repairs DROP KEY final_reconcile_repairs_unit, \
                ADD KEY final_reconcile_repairs_due (job, due_at)";
            place.run(state, index).await;
        }
        _ => {
            let index = "DROP INDEX final_reconcile_repairs_unit; \
                CREATE INDEX final_reconcile_repairs_due ON final_reconcile_repairs (job, due_at)";
            place.run(state, index).await;
        }
    }
    let repairs = "UPDATE final_reconcile_repairs SET slot = 'of version 2'";
    place.run(state, repairs).await;
    for (table, column) in [
        ("repairs", "unit"),
        ("repairs", "key_text"),
        ("alerts", "unit"),
        ("jobs", "source"),
        ("jobs", "key_text"),
    ] {
        let drop = format!("ALTER TABLE final_reconcile_{table} DROP COLUMN {column}");
        place.run(state, drop).await;
    }
    place
        .run(
            state,
            "UPDATE final_migrations SET version = 2 WHERE table_name = 'final_reconcile_repairs'",
        )
        .await;
}

async fn told(alerts: &Receiver, count: usize) -> Vec<serde_json::Value> {
    eventually("alerts have come", SOON, async || {
        let came: Vec<_> = alerts.came().into_iter().map(|came| came.body).collect();
        match came.len() == count {
            true => Ok(came),
            false => Err(format!("{came:?}")),
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_of_version_2_come_along_and_their_rows_belong_to_the_job_that_has_them() {
    let place = Place::fresh().await;
    for (at, state) in ALL.into_iter().enumerate() {
        let (from, to) = (state, ALL[(at + 1) % 3]);
        tables(&place, from, to, TABLE).await;
        both(&place, from, to, "(20000, 'Ann')").await;
        let broken = Receiver::start(|_, _| 500).await;
        let alerts = Receiver::start(|_, _| 200).await;
        let scanned = |receiver: &Receiver| {
            job(&place, from, to)
                .repair(repair(receiver).pace(OFTEN, OFTEN))
                .alert(alerts.endpoint())
                .fresh_ids(OFTEN)
        };
        let before = migrated(&place, state, scanned(&broken)).await;
        let runs = before.start().unwrap();
        place.run(from, "INSERT INTO a VALUES (20001, 'Bob')").await;
        only_called(&broken, &before, &["20001"]).await;
        told(&alerts, 1).await;
        runs.shutdown().await;
        let target = before.targets().remove(0).2;
        let count = before.runs("people", 10).await.unwrap().len();
        downgrade(&place, state, &target).await;
        let other = "INSERT INTO final_reconcile_repairs (slot, id, job, target, row_key, kind, columns_text, attempts, due_at, \
            opened_at, found_again, is_ours, claimed_until) SELECT 'other', id, job, 'gone', row_key, 1, '[]', 0, 0, 0, 0, 0, 0 \
            FROM final_reconcile_repairs";
        place.run(state, other).await;

        let receiver = Receiver::start(|_, _| 200).await;
        let now = migrated(&place, state, scanned(&receiver)).await;

        let all = now.jobs().await.unwrap();
        assert_eq!(all.len(), 1, "{state:?}: {all:?}");
        assert!(all[0].is_of_job && all[0].source.as_ref().unwrap().contains("`a`"));
        assert_eq!((all[0].fresh_id, all[0].open_repairs), (Some(20_001), 1));
        assert_eq!(now.runs("people", 10).await.unwrap().len(), count);
        let open = now.repairs("people", 10).await.unwrap();
        let targets: Vec<_> = open
            .iter()
            .map(|repair| (repair.target == "gone", repair.is_of_job))
            .collect();
        assert_eq!(targets, [(true, false), (false, true)], "{open:?}");
        // The row has its repair, so a comparison opens none.
        now.compare("people").await.unwrap();
        assert_eq!(now.repairs("people", 10).await.unwrap().len(), 2);
        now.migrate().await.unwrap();

        let runs = now.start().unwrap();
        only_called(&receiver, &now, &["20001"]).await;
        status(&now, "the repair is done", |job| job.open_repairs == 0).await;
        // The trouble is the one that was told before.
        let told = told(&alerts, 2).await;
        assert_eq!(told[1]["over"], true);
        assert_eq!(told[1]["first_seen"], told[0]["first_seen"]);
        runs.shutdown().await;
        let left = now.leftovers("people").await.unwrap();
        assert_eq!((left.len(), left[0].repairs), (1, 1), "{left:?}");
        assert!(now.forget(&left[0]).await.unwrap());
        assert!(now.repairs("people", 10).await.unwrap().is_empty());
        drop_tables(&place, from, to).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_that_version_1_did_not_have_are_made() {
    let place = Place::fresh().await;
    for state in ALL {
        let reconciler = new(&place, state);
        reconciler.migrate().await.unwrap();
        for table in ["jobs", "suspects", "runs"] {
            place
                .run(state, format!("DROP TABLE final_reconcile_{table}"))
                .await;
        }
        place
            .run(state, "UPDATE final_migrations SET version = 1 WHERE table_name = 'final_reconcile_repairs'")
            .await;

        reconciler.migrate().await.unwrap();

        for table in ["jobs", "suspects", "runs"] {
            place
                .run(state, format!("DELETE FROM final_reconcile_{table}"))
                .await;
        }
    }
}
