//! Changes are captured from real servers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test says what it expects"
)]
#![allow(unreachable_pub, dead_code, reason = "a test binary has no outside")]

mod chaos;
mod engine;
mod mysql;
mod place;
mod postgres;
mod script;

/// Makes a test of each function of a list, on each database. A function gets a [`place::Place`].
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
                    super::$name($crate::place::Place::<$type>::fresh().await).await;
                }
            )+
        }
    };
}
