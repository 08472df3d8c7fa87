//! Tables that an earlier state of the release has made.

use super::*;
use crate::place::ALL;

/// Each is a column that one of those states did not have.
const LACKING: [(&str, &str); 3] = [
    ("final_reconcile_repairs", "passes_at"),
    ("final_reconcile_jobs", "watched_until"),
    ("final_reconcile_alerts", "source"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_of_an_earlier_state_are_refused_with_the_statements_that_remove_them() {
    let place = Place::fresh().await;
    for state in ALL {
        let reconciler = new(&place, state);
        reconciler.migrate().await.unwrap();
        reconciler.migrate().await.unwrap();
        for (table, column) in LACKING {
            let drop = format!("ALTER TABLE {table} DROP COLUMN {column}");
            place.run(state, drop).await;

            let error = reconciler.migrate().await.unwrap_err().to_string();

            assert!(error.contains("an earlier state of 0.1.0"), "{error}");
            let from = error.find("DROP TABLE").unwrap();
            let to = error.rfind(';').unwrap();
            place.run(state, error[from..to].to_owned()).await;
            reconciler.migrate().await.unwrap();
            let rows = format!("SELECT COUNT({column}) AS v FROM {table}");
            assert_eq!(place.numbers(state, rows.as_str()).await, [0]);
        }
    }
}
