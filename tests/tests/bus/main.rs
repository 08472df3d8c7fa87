//! The bus, end to end: one suite, run for every database and every broker.

#![allow(clippy::expect_used, reason = "a test says what it expects")]
#![allow(unreachable_pub, reason = "a test binary has no outside")]

mod alone;
mod bad_input;
mod consume;
mod database;
mod delay;
mod face;
mod floor;
mod house;
mod instances;
mod log;
mod names;
mod payload;
mod publish;
mod quirks;
mod redirected;
mod refused;
mod relay;
mod role;
mod transaction;
mod transport;

/// Names the tests of a suite, and runs each on every pair of database and broker.
#[macro_export]
macro_rules! suite {
    ($($name:ident),* $(,)?) => {
        $crate::suite!(@pair postgres_and_rabbitmq, sqlx::Postgres, $crate::transport::Rabbit, $($name),*);
        $crate::suite!(@pair mariadb_and_rabbitmq, sqlx::MySql, $crate::transport::Rabbit, $($name),*);
        $crate::suite!(@pair sqlite_and_memory, sqlx::Sqlite, $crate::transport::Memory, $($name),*);
    };
    // Without a relay there is no outbox to look into and no broker that can be away: only some of
    // the tests are about the log as well.
    (on the log: $($name:ident),* $(,)?) => {
        $crate::suite!(@pair postgres_log, sqlx::Postgres, $crate::transport::Log, $($name),*);
        $crate::suite!(@pair mariadb_log, sqlx::MySql, $crate::transport::Log, $($name),*);
        $crate::suite!(@pair sqlite_log, sqlx::Sqlite, $crate::transport::Log, $($name),*);
    };
    (@pair $pair:ident, $database:ty, $transport:ty, $($name:ident),*) => {
        mod $pair {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    super::$name($crate::house::House::<$database, $transport>::new().await).await;
                }
            )*
        }
    };
}
