//! A caller's own `search_path`, `USE` or temporary table takes no message elsewhere.

use std::time::Duration;

use final_tests::unique;

use crate::{database::Database, house::House, transport::Transport};

crate::suite!(
    everywhere: [
        a_name_that_means_another_table_to_the_caller_takes_no_message_there,
    ],
);

async fn a_name_that_means_another_table_to_the_caller_takes_no_message_there<
    D: Database,
    T: Transport,
>(
    house: House<D, T>,
) {
    let (bus, notes) = house.start_noting(house.options(), &["placed"]).await;
    let mut conn = house.pool.acquire().await.expect("a connection");
    let mut tables = Vec::new();
    for table in [&*house.table(), "final_log", "final_log_scheduled"] {
        let look = format!("SELECT 1 FROM {table}");
        if D::run(&mut conn, &look).await.is_ok() {
            tables.push(table.to_owned());
        }
    }
    let elsewhere = unique("elsewhere");
    let (before, within, after) = twins(D::NAME, &elsewhere, &tables);
    for statement in before {
        D::run(&mut conn, &statement).await.expect(&statement);
    }

    let mut txbus = bus.with_tx(bus.begin().await.expect("begin"));
    for statement in within {
        D::run(txbus.conn(), &statement).await.expect(&statement);
    }
    let topic = house.topic("placed");
    txbus.publish(&topic, &1_i64).await.expect("staged");
    let soon = txbus
        .publish(&topic, &2_i64)
        .delay(Duration::from_millis(50));
    soon.await.expect("staged");
    txbus.commit().await.expect("commit");

    notes.reach(2).await;
    bus.shutdown().await.expect("shutdown");
    for statement in after {
        D::run(&mut conn, &statement).await.expect(&statement);
    }
}

/// The statements that create tables of the same names and columns elsewhere, those that direct a transaction
/// to them, and those that remove them.
fn twins(
    database: &str,
    elsewhere: &str,
    tables: &[String],
) -> (Vec<String>, Vec<String>, Vec<String>) {
    let each = |make: &dyn Fn(&str) -> String| -> Vec<String> {
        tables.iter().map(|table| make(table)).collect()
    };
    match database {
        "SQLite" => {
            let twin = |table: &str| {
                format!("CREATE TEMPORARY TABLE {table} AS SELECT * FROM main.{table} WHERE 0")
            };
            (vec![], each(&twin), vec![])
        }
        "MySQL" => {
            let twin = |table: &str| format!("CREATE TABLE {elsewhere}.{table} LIKE {table}");
            let mut before = vec![format!("CREATE DATABASE {elsewhere}")];
            before.extend(each(&twin));
            let after = format!("DROP DATABASE {elsewhere}");
            (before, vec![format!("USE {elsewhere}")], vec![after])
        }
        _ => {
            let twin = |table: &str| {
                format!("CREATE TABLE {elsewhere}.{table} (LIKE {table} INCLUDING ALL)")
            };
            let mut before = vec![format!("CREATE SCHEMA {elsewhere}")];
            before.extend(each(&twin));
            let within = format!("SET LOCAL search_path = {elsewhere}");
            (before, vec![within], vec![])
        }
    }
}
