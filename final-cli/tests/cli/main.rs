//! The program `final`, run as an operator runs it: as a process, with its exit code and its output.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test says what it expects"
)]
#![allow(unreachable_pub, reason = "a test binary has no outside")]

#[cfg(feature = "capture")]
mod capture;
mod contexts;
mod database;
mod dead;
mod doctor;
#[cfg(feature = "reconcile")]
mod endpoint;
mod errors;
#[cfg(feature = "gateway")]
mod gateway_apps;
#[cfg(feature = "gateway")]
mod gateway_serve;
mod held;
mod help;
mod import_hookq;
mod migrate;
mod outbox;
mod program;
mod publish;
#[cfg(feature = "reconcile")]
mod reconcile;
#[cfg(feature = "reconcile")]
mod reconcile_cupid;
#[cfg(feature = "reconcile")]
mod reconcile_run;
mod screen;
mod secrets;
mod service;
mod tail;
mod terminal;
mod tls;
mod walk;
mod watch;

/// Makes a test of each function of a list, on each database.
#[macro_export]
macro_rules! everywhere {
    ($($name:ident),+ $(,)?) => {
        $crate::everywhere!(@on postgres, sqlx::Postgres: $($name),+);
        $crate::everywhere!(@on mariadb, sqlx::MySql: $($name),+);
        $crate::everywhere!(@on sqlite, sqlx::Sqlite: $($name),+);
    };
    (@on $database:ident, $type:ty: $($name:ident),+) => {
        mod $database {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    super::$name($crate::database::Place::<$type>::fresh().await).await;
                }
            )+
        }
    };
}
