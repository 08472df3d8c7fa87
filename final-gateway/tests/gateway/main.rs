//! The gateway from outside: real clients, real databases.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test says what it expects"
)]
#![allow(unreachable_pub, dead_code, reason = "a test binary has no outside")]

mod chaos;
mod engine;
mod groups;
mod http;
mod publish;
mod redis;
mod whole;

use final_tests::{everywhere, place};

/// Makes a test of each function of a list, on each engine: the log of each database, and RabbitMQ behind an outbox. A
/// function gets a [`engine::Stand`].
#[macro_export]
macro_rules! on_each_engine {
    ($($name:ident),+ $(,)?) => {
        $crate::on_each_engine!(@on log_on_postgres, sqlx::Postgres, log: $($name),+);
        $crate::on_each_engine!(@on log_on_mariadb, sqlx::MySql, log: $($name),+);
        $crate::on_each_engine!(@on log_on_sqlite, sqlx::Sqlite, log: $($name),+);
        $crate::on_each_engine!(@on over_rabbitmq, sqlx::Postgres, rabbitmq: $($name),+);
    };
    (@on $database:ident, $type:ty, $engine:ident: $($name:ident),+) => {
        mod $database {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    super::$name($crate::engine::Stand::<$type>::$engine().await).await;
                }
            )+
        }
    };
}
