//! Findings of PostgreSQL alone.

use std::time::Duration;

use final_core::admin::doctor::{Doctor, Finding, Level};
use final_tests::{Postgres, eventually, servers::Setup, unique};
use sqlx::{Connection, Executor, PgConnection, PgPool, postgres::PgConnectOptions};

use super::{Patient, shows};
use crate::{database::Database, house::SOON};

type Pg = sqlx::Postgres;

/// A pool whose sessions belong to a role of its own, with rights on all tables.
async fn as_role(patient: &Patient<Pg>) -> (String, PgPool) {
    let role = unique("role");
    let tables =
        format!("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}");
    let sequences = format!("GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role}");
    for sql in [format!("CREATE ROLE {role} LOGIN"), tables, sequences] {
        Pg::run_on(&patient.pool, &sql).await;
    }
    let options: PgConnectOptions = patient.pool.connect_options().as_ref().clone();
    let pool = PgPool::connect_lazy_with(options.options([("role", role.as_str())]));
    (role, pool)
}

async fn drop_role(patient: &Patient<Pg>, role: &str) {
    for sql in [format!("DROP OWNED BY {role}"), format!("DROP ROLE {role}")] {
        Pg::run_on(&patient.pool, &sql).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unlogged_table_is_told() {
    let patient = Patient::<Pg>::new().await;
    Pg::run_on(&patient.pool, "ALTER TABLE final_shop_outbox SET UNLOGGED").await;

    patient.is_mended_by_words("table_unlogged").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_is_told() {
    let patient = Patient::<Pg>::new().await;
    let rule = "CREATE RULE \"keep out\" AS ON DELETE TO final_shop_outbox DO INSTEAD NOTHING";
    Pg::run_on(&patient.pool, rule).await;

    patient.is_mended_by_words("trigger_on_table").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_level_security_is_told() {
    let patient = Patient::<Pg>::new().await;
    Pg::run_on(
        &patient.pool,
        "ALTER TABLE final_shop_outbox ENABLE ROW LEVEL SECURITY",
    )
    .await;

    patient.is_mended_by_words("row_security").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trigger_that_comes_after_the_change_is_a_note() {
    let patient = Patient::<Pg>::new().await;
    for sql in [
        "CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "CREATE TRIGGER tell AFTER INSERT ON final_shop_outbox EXECUTE FUNCTION tell()",
    ] {
        Pg::run_on(&patient.pool, sql).await;
    }

    let finding = patient.is_mended_by_words("trigger_after").await;

    assert_eq!(finding.level, Level::Note);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rights_that_are_missing_are_told() {
    let patient = Patient::<Pg>::new().await;
    patient.log_bus().migrate().await.expect("migrate");
    let (role, pool) = as_role(&patient).await;
    let doctor = || Doctor::new(pool.clone());
    // The sessions of the owner.
    let [note] = shows(doctor(), ["could_not_check"]).await;
    assert_eq!(note.level, Level::Note);
    patient.mend(&note).await;
    shows(doctor(), []).await;
    for (revoked, refused) in [
        (
            "DELETE ON final_shop_outbox",
            "DELETE on the table final_shop_outbox",
        ),
        (
            "INSERT, UPDATE ON final_shop_claims",
            "INSERT, UPDATE on the table final_shop_claims",
        ),
        (
            "UPDATE ON final_log_lanes",
            "UPDATE on the table final_log_lanes",
        ),
    ] {
        Pg::run_on(&patient.pool, &format!("REVOKE {revoked} FROM {role}")).await;

        let [finding] = shows(doctor(), ["grant_missing"]).await;

        assert!(finding.what.contains(refused), "{finding}");
        assert!(finding.what.contains(&role), "{finding}");
        patient.mend(&finding).await;
        shows(doctor(), []).await;
    }
    let sequence = format!("REVOKE UPDATE ON SEQUENCE final_log_seq_seq FROM {role}");
    Pg::run_on(&patient.pool, &sequence).await;
    let [finding] = shows(doctor(), ["sequence_grant_missing"]).await;
    patient.mend(&finding).await;
    shows(doctor(), []).await;
    pool.close().await;
    drop_role(&patient, &role).await;
}

/// Of a role, of a database, of a role in a database, and in the connect options.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_that_do_not_wait_for_the_disk_are_told_wherever_that_is_set() {
    let patient = Patient::<Pg>::new().await;
    let (role, pool) = as_role(&patient).await;
    pool.close().await;
    let options: PgConnectOptions = patient.pool.connect_options().as_ref().clone();
    let database = options.get_database().expect("a database").to_owned();
    for whose in [
        format!("DATABASE {database}"),
        format!("ROLE {role} IN DATABASE {database}"),
    ] {
        Pg::run_on(
            &patient.pool,
            &format!("ALTER {whose} SET synchronous_commit = off"),
        )
        .await;

        patient.is_mended_by_words("synchronous_commit_off").await;
    }
    drop_role(&patient, &role).await;

    let hasty = PgPool::connect_lazy_with(options.options([("synchronous_commit", "off")]));
    let [finding] = shows(Doctor::new(hasty), ["synchronous_commit_off"]).await;
    assert!(finding.what.contains("connect options"), "{finding}");
    let hooked = sqlx::postgres::PgPoolOptions::new().after_connect(|conn, _| {
        Box::pin(async { conn.execute("SET synchronous_commit = off").await.map(drop) })
    });
    let hooked = hooked.connect_lazy_with(patient.pool.connect_options().as_ref().clone());
    shows(Doctor::new(hooked), ["synchronous_commit_off"]).await;
    patient.shows([]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_is_open_for_long_is_told() {
    let patient = Patient::<Pg>::new().await;
    let doctor = || patient.doctor().open_for(Duration::from_millis(300));
    shows(doctor(), []).await;
    // Without a snapshot and without an id it keeps nothing.
    let mut idle = patient.pool.begin().await.expect("begun");
    idle.execute("SELECT 1").await.expect("done");
    tokio::time::sleep(Duration::from_millis(400)).await;
    shows(doctor(), []).await;
    let mut open = PgConnection::connect_with(&patient.pool.connect_options())
        .await
        .expect("connected");
    open.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM final_shop_outbox")
        .await
        .expect("begun");
    let findings = eventually("it is told", SOON, async || {
        let findings = doctor().examine().await.expect("an examination");
        if findings.is_empty() {
            Err(findings)
        } else {
            Ok(findings)
        }
    })
    .await;

    let names: Vec<_> = findings.iter().map(|finding| finding.name).collect();
    assert_eq!(names, ["transaction_open"], "{findings:#?}");
    assert!(
        findings[0].what.contains("idle in transaction"),
        "{findings:?}"
    );
    patient.mend(&findings[0]).await;
    eventually("none is left", SOON, async || {
        doctor().examine().await.expect("an examination").is_empty()
    })
    .await;
}

/// What belongs to the whole server, one after the other on a server of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_a_server_is_told() {
    let setup = Setup {
        args: ["-c", "max_prepared_transactions=5"]
            .map(str::to_owned)
            .into(),
        ..Setup::default()
    };
    let server = Postgres::start_with(setup).await.expect("PostgreSQL");
    let pool = PgPool::connect(&server.url()).await.expect("connected");
    let patient = Patient::bare(pool, None);
    patient.bus().migrate().await.expect("migrate");
    let doctor = || patient.doctor().open_for(Duration::ZERO);
    shows(doctor(), []).await;

    for (setting, name) in [
        ("synchronous_commit", "synchronous_commit_off"),
        ("fsync", "fsync_off"),
        ("full_page_writes", "full_page_writes_off"),
    ] {
        set(&patient, &format!("ALTER SYSTEM SET {setting} = off")).await;
        let [finding] = settles(doctor, [name]).await;
        assert!(finding.what.contains("on the server"), "{finding}");
        patient.mend(&finding).await;
        settles(doctor, []).await;
    }

    let role = "ALTER ROLE postgres SET synchronous_commit = off";
    Pg::run_on(&patient.pool, role).await;
    patient.is_mended_by_words("synchronous_commit_off").await;

    set(
        &patient,
        "ALTER SYSTEM SET default_transaction_read_only = on",
    )
    .await;
    let [finding] = settles(doctor, ["server_read_only"]).await;
    patient.mend(&finding).await;
    settles(doctor, []).await;

    let prepare = "BEGIN; INSERT INTO final_shop_claims SELECT 9, gen_random_uuid(), 'epoch', 'epoch', \
        gen_random_uuid(), 'epoch', gen_random_uuid(); PREPARE TRANSACTION 'it''s mine'";
    raw(&patient, prepare).await;
    let [finding] = shows(doctor(), ["prepared_transaction_open"]).await;
    patient.mend(&finding).await;
    shows(doctor(), []).await;

    raw(
        &patient,
        "SELECT pg_create_physical_replication_slot('lost_standby', true)",
    )
    .await;
    let [finding] = shows(doctor(), ["replication_slot_unused"]).await;
    patient.mend(&finding).await;
    shows(doctor(), []).await;
}

/// The server reads its configuration again in its own time.
async fn settles<const N: usize>(
    doctor: impl Fn() -> Doctor<Pg>,
    names: [&str; N],
) -> [Finding; N] {
    eventually("the findings change", SOON, async || {
        let findings = doctor().examine().await.expect("an examination");
        let found: Vec<&str> = findings.iter().map(|finding| finding.name).collect();
        if found == names {
            findings.try_into()
        } else {
            Err(findings)
        }
    })
    .await
}

/// Changes a setting of the server.
async fn set(patient: &Patient<Pg>, sql: &str) {
    raw(patient, sql).await;
    raw(patient, "SELECT pg_reload_conf()").await;
}

async fn raw(patient: &Patient<Pg>, sql: &str) {
    let mut conn = patient.pool.acquire().await.expect("a connection");
    Pg::raw(&mut conn, sql)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
}
