//! The doctor: each thing that weakens a promise is made so, found alone, mended by the words of its own finding, and
//! found no more.

mod log;
mod mariadb;
mod outbox;
mod pooler;
mod postgres;
mod rabbitmq;
mod sick;
mod sqlite;
mod table;

use std::time::Duration;

use final_core::{
    Bus, MemoryBroker, Router, SqlBroker,
    admin::doctor::{Doctor, Finding},
};
use final_tests::SqliteFile;
use sqlx::Pool;

use crate::{
    database::Database,
    house::{Notes, SOON},
};

/// A database with the tables of a service, `shop`, whose outbox leads to a broker in memory.
pub struct Patient<D: Database> {
    pub pool: Pool<D>,
    pub broker: MemoryBroker,
    _file: Option<SqliteFile>,
}

impl<D: Database> Patient<D> {
    async fn new() -> Self {
        let (pool, _file) = D::fresh().await;
        let patient = Self::bare(pool, _file);
        patient.bus().migrate().await.expect("migrate");
        patient
    }

    /// Without tables.
    fn bare(pool: Pool<D>, _file: Option<SqliteFile>) -> Self {
        Self {
            pool,
            broker: MemoryBroker::new(),
            _file,
        }
    }

    fn bus(&self) -> Bus<D> {
        Bus::new("shop", self.pool.clone(), self.broker.clone())
            .with_options(final_core::Options::default().scan_interval(Duration::from_millis(500)))
    }

    fn log(&self) -> SqlBroker<D> {
        SqlBroker::new(self.pool.clone())
    }

    fn log_bus(&self) -> Bus<D> {
        Bus::new("shop", self.pool.clone(), self.log())
    }

    /// Each message may wait for no time.
    fn doctor(&self) -> Doctor<D> {
        Doctor::new(self.pool.clone()).waiting_for(Duration::ZERO)
    }

    /// Examines the database, and asserts that these findings are all there are.
    async fn shows<const N: usize>(&self, names: [&str; N]) -> [Finding; N] {
        shows(self.doctor(), names).await
    }

    /// Runs the statements that the finding gives.
    async fn mend(&self, finding: &Finding) {
        for sql in typed(finding) {
            let mut conn = self.pool.acquire().await.expect("a connection");
            let mended = D::raw(&mut conn, &sql).await;
            mended.unwrap_or_else(|error| panic!("{sql}: {error}"));
        }
    }

    /// There is this finding and no other; what it says to type is typed; there is none.
    async fn is_mended_by_words(&self, name: &str) -> Finding {
        let [finding] = self.shows([name]).await;
        self.mend(&finding).await;
        self.shows([]).await;
        finding
    }

    /// Starts a service that handles a topic until so many messages were handled.
    async fn handles(&self, bus: Bus<D>, topic: &str, count: usize) {
        let notes = Notes::default();
        let noted = notes.clone();
        let router = Router::new().route(topic, move |message: final_core::Message| {
            noted.add(message);
            std::future::ready(())
        });
        bus.start(router).await.expect("start");
        notes.reach(count).await;
        final_tests::eventually("an empty outbox", SOON, async || {
            bus.stats().await.expect("stats").pending == 0
        })
        .await;
        bus.shutdown().await.expect("shutdown");
    }
}

/// Examines, and asserts that these findings are all there are.
async fn shows<D: Database, const N: usize>(doctor: Doctor<D>, names: [&str; N]) -> [Finding; N] {
    let findings = doctor.examine().await.expect("an examination");
    let found: Vec<&str> = findings.iter().map(|finding| finding.name).collect();
    assert_eq!(found, names, "{findings:#?}");
    findings.try_into().expect("as many")
}

/// What a finding says to type.
fn typed(finding: &Finding) -> Vec<String> {
    let parts: Vec<&str> = finding.mend.split('`').collect();
    assert!(parts.len() % 2 == 1, "a backtick is missing: {finding}");
    let typed: Vec<String> = parts
        .iter()
        .skip(1)
        .step_by(2)
        .map(ToString::to_string)
        .collect();
    assert!(!typed.is_empty(), "nothing to type: {finding}");
    typed
}

/// Makes a test of each function, on each database.
#[macro_export]
macro_rules! on_each_database {
    ($($name:ident),+ $(,)?) => {
        $crate::on_each_database!(@on postgres, sqlx::Postgres: $($name,)+);
        $crate::on_each_database!(@on mariadb, sqlx::MySql: $($name,)+);
        $crate::on_each_database!(@on sqlite, sqlx::Sqlite: $($name,)+);
    };
    (@on $module:ident, $database:ty: $($name:ident,)+) => {
        mod $module {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    super::$name($crate::doctor::Patient::<$database>::new().await).await;
                }
            )+
        }
    };
}
