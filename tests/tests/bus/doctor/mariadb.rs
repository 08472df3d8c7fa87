//! Findings of MySQL and MariaDB alone.

use std::time::Duration;

use final_core::admin::doctor::Finding;
use final_tests::{MariaDb, eventually, servers::Setup, unique};
use sqlx::{Connection, Executor, MySqlConnection, MySqlPool, mysql::MySqlConnectOptions};

use super::{Patient, shows};
use crate::{database::Database, house::SOON};

type My = sqlx::MySql;

async fn server(args: &[&str]) -> (MariaDb, Patient<My>) {
    let setup = Setup {
        args: args.iter().map(ToString::to_string).collect(),
        ..Setup::default()
    };
    let server = MariaDb::start_with(setup).await.expect("MariaDB");
    let root = MySqlPool::connect(&server.url()).await.expect("connected");
    My::run_on(&root, "CREATE DATABASE shop").await;
    let options = root.connect_options().as_ref().clone().database("shop");
    let patient = Patient::bare(MySqlPool::connect_lazy_with(options), None);
    patient.bus().migrate().await.expect("migrate");
    (server, patient)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_without_transactions_is_told() {
    let patient = Patient::<My>::new().await;
    My::run_on(
        &patient.pool,
        "ALTER TABLE final_shop_claims ENGINE = MyISAM",
    )
    .await;

    let finding = patient.is_mended_by_words("table_not_innodb").await;

    assert!(finding.what.contains("final_shop_claims"), "{finding}");
}

/// An account that may do little, also not look at everything: what cannot be looked at is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rights_that_are_missing_are_told() {
    let patient = Patient::<My>::new().await;
    let user = unique("u");
    let options: MySqlConnectOptions = patient.pool.connect_options().as_ref().clone();
    let database = options.get_database().expect("a database").to_owned();
    My::run_on(
        &patient.pool,
        &format!("CREATE USER {user}@'%' IDENTIFIED BY 's3cret'"),
    )
    .await;
    let grant = format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {database}.* TO {user}@'%'");
    My::run_on(&patient.pool, &grant).await;
    let pool = MySqlPool::connect_lazy_with(options.username(&user).password("s3cret"));
    let doctor = || final_core::admin::doctor::Doctor::new(pool.clone());
    // Neither PROCESS nor TRIGGER.
    let notes = ["could_not_check"; 2];
    shows(doctor(), notes).await;
    let see = format!("GRANT PROCESS ON *.* TO {user}@'%'");
    My::run_on(&patient.pool, &see).await;
    My::run_on(
        &patient.pool,
        &format!("GRANT TRIGGER ON {database}.* TO {user}@'%'"),
    )
    .await;
    shows(doctor(), []).await;
    let revoke = format!("REVOKE ALL PRIVILEGES ON {database}.* FROM {user}@'%'");
    My::run_on(&patient.pool, &revoke).await;
    for table in [
        "final_shop_outbox",
        "final_shop_claims",
        "final_shop_suspects",
        "final_shop_dead",
    ] {
        let grant = format!("GRANT SELECT, INSERT, UPDATE, TRIGGER ON {table} TO {user}@'%'");
        My::run_on(&patient.pool, &grant).await;
    }
    let rest = format!("GRANT SELECT ON final_migrations TO {user}@'%'");
    My::run_on(&patient.pool, &rest).await;
    for table in [
        "final_shop_claims",
        "final_shop_suspects",
        "final_shop_dead",
    ] {
        My::run_on(
            &patient.pool,
            &format!("GRANT DELETE ON {table} TO {user}@'%'"),
        )
        .await;
    }

    let [finding] = shows(doctor(), ["grant_missing"]).await;

    assert!(
        finding
            .what
            .contains("DELETE on the table final_shop_outbox"),
        "{finding}"
    );
    patient.mend(&finding).await;
    shows(doctor(), []).await;
    pool.close().await;
    My::run_on(&patient.pool, &format!("DROP USER {user}@'%'")).await;
}

/// What belongs to the whole server, one after the other on a server of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_a_server_is_told() {
    let (_server, patient) = server(&[
        "--log-bin",
        "--server-id=1",
        "--binlog-format=ROW",
        "--sync-binlog=1",
    ])
    .await;
    let doctor = || patient.doctor().open_for(Duration::from_millis(500));
    let settles = async |names: &[&str]| -> Vec<Finding> {
        eventually("the findings change", SOON, async || {
            let findings = doctor().examine().await.expect("an examination");
            let found: Vec<&str> = findings.iter().map(|finding| finding.name).collect();
            if found == names {
                Ok(findings)
            } else {
                Err(findings)
            }
        })
        .await
    };
    shows(doctor(), []).await;

    for (sick, name) in [
        (
            "SET GLOBAL innodb_flush_log_at_trx_commit = 2",
            "innodb_flush_log_at_trx_commit",
        ),
        (
            "SET GLOBAL innodb_flush_log_at_trx_commit = 0",
            "innodb_flush_log_at_trx_commit",
        ),
        ("SET GLOBAL sync_binlog = 0", "sync_binlog"),
        ("SET GLOBAL sync_binlog = 100", "sync_binlog"),
    ] {
        My::run_on(&patient.pool, sick).await;
        let [mut finding] = shows(doctor(), [name]).await;
        // The other half is a line of a file.
        let line = format!(", and write `{name} = 1`");
        let (now, _) = finding.mend.split_once(&line).expect("also in the file");
        finding.mend = now.to_owned();
        patient.mend(&finding).await;
        shows(doctor(), []).await;
    }

    My::run_on(&patient.pool, "SET GLOBAL read_only = 1").await;
    let [finding] = shows(doctor(), ["server_read_only"]).await;
    patient.mend(&finding).await;
    shows(doctor(), []).await;

    My::run_on(&patient.pool, "SET GLOBAL binlog_format = 'STATEMENT'").await;
    let [finding] = shows(doctor(), ["setting_refused"]).await;
    assert!(
        finding.what.starts_with("binlog_format is STATEMENT"),
        "{finding}"
    );
    assert!(
        finding
            .mend
            .starts_with("Set binlog_format to MIXED or ROW"),
        "{finding}"
    );
    My::run_on(&patient.pool, "SET GLOBAL binlog_format = 'MIXED'").await;
    shows(doctor(), []).await;

    let mut open = MySqlConnection::connect_with(&patient.pool.connect_options())
        .await
        .expect("connected");
    open.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT")
        .await
        .expect("begun");
    let findings = settles(&["transaction_open"]).await;
    // While it is open, changes are kept.
    My::run_on(&patient.pool, "CREATE TABLE ticks (n INT NOT NULL)").await;
    My::run_on(&patient.pool, "INSERT INTO ticks VALUES (0)").await;
    for _ in 0..150 {
        My::run_on(&patient.pool, "UPDATE ticks SET n = n + 1").await;
    }
    let doctor_of_history = || patient.doctor().most_history(100);
    let [history] = shows(doctor_of_history(), ["innodb_history_long"]).await;
    assert!(
        history
            .mend
            .contains("`SELECT * FROM information_schema.INNODB_TRX"),
        "{history}"
    );
    patient.mend(&findings[0]).await;
    settles(&[]).await;
    eventually("the changes are removed", SOON, async || {
        doctor_of_history()
            .examine()
            .await
            .expect("an examination")
            .is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_writes_pages_once_is_told() {
    let (_server, patient) = server(&["--skip-innodb-doublewrite"]).await;

    let [finding] = patient.shows(["innodb_doublewrite_off"]).await;

    // Servers with it show nothing.
    assert!(
        finding.mend.contains("`innodb_doublewrite = ON`"),
        "{finding}"
    );
}
