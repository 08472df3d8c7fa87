//! Findings of SQLite alone.

use final_core::admin::doctor::Doctor;
use sqlx::{
    SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

use super::{Patient, shows};

/// A pool on the same file, with other options.
fn with(
    patient: &Patient<sqlx::Sqlite>,
    change: impl FnOnce(SqliteConnectOptions) -> SqliteConnectOptions,
) -> Doctor<sqlx::Sqlite> {
    let options = patient.pool.connect_options().as_ref().clone();
    Doctor::new(SqlitePool::connect_lazy_with(change(options)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_that_do_not_wait_for_the_disk_are_told() {
    let patient = Patient::<sqlx::Sqlite>::new().await;
    for weak in [SqliteSynchronous::Normal, SqliteSynchronous::Off] {
        let weak = with(&patient, |options| options.synchronous(weak));
        let [finding] = shows(weak, ["sqlite_synchronous"]).await;
        assert!(
            finding.mend.contains("`PRAGMA synchronous = FULL`"),
            "{finding}"
        );
    }
    shows(
        with(&patient, |options| {
            options.synchronous(SqliteSynchronous::Full)
        }),
        [],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_that_a_crash_takes_along_is_told() {
    for (mode, name) in [
        (SqliteJournalMode::Memory, "sqlite_journal_in_memory"),
        (SqliteJournalMode::Off, "setting_refused"),
    ] {
        let (pool, file) = <sqlx::Sqlite as crate::database::Database>::fresh().await;
        let patient = Patient::bare(pool, file);
        patient.bus().migrate().await.expect("migrate");
        patient.pool.close().await;
        is_free(&patient).await;
        let found = shows(with(&patient, |options| options.journal_mode(mode)), [name]).await;
        assert!(
            found[0].what.to_lowercase().contains("journal"),
            "{found:?}"
        );
        shows(
            with(&patient, |options| {
                options.journal_mode(SqliteJournalMode::Wal)
            }),
            [],
        )
        .await;
    }
}

/// Waits until the last connection is closed, the bus's own included. It takes the write-ahead log along. Until then no
/// connection can change how the journal is kept.
async fn is_free(patient: &Patient<sqlx::Sqlite>) {
    let options = patient.pool.connect_options();
    let log = format!("{}-wal", options.get_filename().display());
    final_tests::eventually("a closed file", crate::house::SOON, async || {
        !std::path::Path::new(&log).exists()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_in_memory_is_told() {
    let one = sqlx::sqlite::SqlitePoolOptions::new().max_connections(1);
    let pool = one.connect("sqlite::memory:").await.expect("opened");
    let patient = Patient::bare(pool, None);
    patient.bus().migrate().await.expect("migrate");

    patient.shows(["sqlite_in_memory"]).await;

    let file = Patient::<sqlx::Sqlite>::new().await;
    file.shows([]).await;
}
